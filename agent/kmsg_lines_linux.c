/* Putting recognised lines into their dump, and a dump as JSON: see
 * kmsg_lines_linux.h and kmsg_linux.h. */
#include "agent/kmsg_lines_linux.h"

#include <inttypes.h>
#include <string.h>

void kernel_text_copy(char *out, size_t cap, struct text in)
{
    size_t n = text_left(&in);
    if (n > cap - 1) {
        n = cap - 1;
    }
    if (n > 0) {
        memcpy(out, in.at, n);
    }
    out[n] = '\0';
}

static bool has_memory_dump(const struct kernel_dump *dump)
{
    return dump->kind == KERNEL_PAGE_FAILURE || dump->kind == KERNEL_OOM;
}

static bool same_comm(const struct kernel_dump *dump, struct text name)
{
    size_t len = strlen(dump->comm);
    return len == 0 ||
           (text_left(&name) == len && memcmp(name.at, dump->comm, len) == 0);
}

bool kernel_line_fits(const struct kernel_line *line,
                      const struct kernel_dump *dump)
{
    switch (line->kind) {
    case LINE_CACHE:
        return dump->kind == KERNEL_SLAB_FAILURE && dump->cache[0] == '\0';
    case LINE_CPU:
        return has_memory_dump(dump) && dump->cpu < 0 &&
               same_comm(dump, line->name);
    case LINE_FRAME: /* the trace comes before */
    case LINE_MEM_SLAB:
        return has_memory_dump(dump) && dump->slab_unreclaimable_pages < 0;
    case LINE_MEM_FREE: return has_memory_dump(dump) && dump->free_pages < 0;
    case LINE_SLAB_TABLE: return has_memory_dump(dump) && !dump->had_slabs;
    case LINE_SLAB_ROW: return dump->in_slabs;
    case LINE_SITE_TABLE: return has_memory_dump(dump) && !dump->had_sites;
    case LINE_SITE_ROW: return dump->in_sites;
    case LINE_KILLED:
        return dump->kind == KERNEL_OOM && dump->killed[0] == '\0';
    case LINE_HEAD:
    default: return false;
    }
}

static void take_killed(struct kernel_dump *dump,
                        const struct kernel_line *line)
{
    kernel_text_copy(dump->killed, sizeof(dump->killed), line->name);
    dump->killed_pid = line->a;
    dump->killed_total_bytes = line->b;
    dump->killed_anon_bytes = line->c;
    dump->in_cgroup = line->in_cgroup;
    dump->complete = true;
}

void kernel_dump_head(struct kernel_dump *dump, const struct kernel_line *line)
{
    dump->order = dump->node = dump->cpu = -1;
    dump->object_bytes = dump->size_bytes = dump->n_allocated_bytes = -1;
    dump->slab_reclaimable_pages = dump->slab_unreclaimable_pages = -1;
    dump->free_pages = dump->killed_pid = -1;
    dump->killed_total_bytes = dump->killed_anon_bytes = -1;
    dump->n_records = -1;
    if (line->kind == LINE_KILLED) {
        take_killed(dump, line);
        return;
    }
    switch (dump->kind) {
    case KERNEL_SLAB_FAILURE:
        dump->node = line->a;
        dump->cpu = line->b;
        break;
    case KERNEL_PAGE_FAILURE:
    case KERNEL_OOM:
        dump->order = line->a;
        kernel_text_copy(dump->comm, sizeof(dump->comm), line->name);
        break;
    case KERNEL_VMAP_FAILURE:
        dump->size_bytes = line->a;
        dump->complete = true;
        return;
    case KERNEL_UNLOAD_LEAK: {
        struct text_out site = {dump->site, 0, sizeof(dump->site) - 1};
        text_put(&site, line->name);
        text_puts(&site, " func:");
        text_put(&site, line->gfp);
        kernel_text_copy(dump->module, sizeof(dump->module), line->module);
        dump->n_allocated_bytes = line->a;
        dump->complete = true;
        return;
    }
    case KERNEL_LOST:
    case KERNEL_NONE:
    default: return;
    }
    kernel_text_copy(dump->gfp, sizeof(dump->gfp), line->gfp);
}

static void take_frame(struct kernel_dump *dump, struct text module)
{
    for (size_t i = 0; i < KERNEL_DUMP_MODULES; i++) {
        char *name = dump->modules[i];
        if (name[0] == '\0') {
            kernel_text_copy(name, sizeof(dump->modules[i]), module);
            return;
        }
        if (text_equal(&module, name)) {
            return;
        }
    }
}

/* Keep the largest rows, in order of total. */
static void take_slab_row(struct kernel_dump *dump,
                          const struct kernel_line *line)
{
    uint32_t at = dump->n_slabs;
    if (at == KERNEL_DUMP_ROWS) {
        if (line->b <= dump->slabs[at - 1].total_bytes) {
            return;
        }
        at--;
    } else {
        dump->n_slabs++;
    }
    for (; at > 0 && dump->slabs[at - 1].total_bytes < line->b; at--) {
        dump->slabs[at] = dump->slabs[at - 1];
    }
    struct kernel_slab_row *row = &dump->slabs[at];
    kernel_text_copy(row->name, sizeof(row->name), line->name);
    row->used_bytes = line->a;
    row->total_bytes = line->b;
}

static void take_site_row(struct kernel_dump *dump,
                          const struct kernel_line *line)
{
    if (dump->n_sites == KERNEL_DUMP_ROWS) {
        return; /* the kernel prints the largest first */
    }
    struct kernel_site_row *row = &dump->sites[dump->n_sites++];
    kernel_text_copy(row->site, sizeof(row->site), line->name);
    row->bytes = line->a;
    row->calls = line->b;
}

void kernel_dump_take(struct kernel_dump *dump, const struct kernel_line *line)
{
    switch (line->kind) {
    case LINE_CACHE:
        kernel_text_copy(dump->cache, sizeof(dump->cache), line->name);
        dump->object_bytes = line->a;
        dump->order = line->b;
        dump->complete = true;
        break;
    case LINE_CPU: dump->cpu = line->a; break;
    case LINE_FRAME: take_frame(dump, line->name); break;
    case LINE_MEM_SLAB:
        dump->slab_reclaimable_pages = line->a;
        dump->slab_unreclaimable_pages = line->b;
        break;
    case LINE_MEM_FREE: dump->free_pages = line->a; break;
    case LINE_SLAB_TABLE: dump->in_slabs = dump->had_slabs = true; break;
    case LINE_SLAB_ROW: take_slab_row(dump, line); break;
    case LINE_SITE_TABLE: dump->in_sites = dump->had_sites = true; break;
    case LINE_SITE_ROW: take_site_row(dump, line); break;
    case LINE_KILLED: take_killed(dump, line); break;
    case LINE_HEAD:
    default: break;
    }
}

static void json_key(struct psc_buf *out, const char *key)
{
    if (out->len > 0 && out->data[out->len - 1] != '{') {
        psc_buf_u8(out, ',');
    }
    psc_buf_printf(out, "\"%s\":", key);
}

static void json_text(struct psc_buf *out, const char *key, const char *value)
{
    if (value[0] != '\0') {
        json_key(out, key);
        text_put_json(out, text_of(value, strlen(value)));
    }
}

static void json_number(struct psc_buf *out, const char *key, int64_t value)
{
    if (value >= 0) {
        json_key(out, key);
        psc_buf_printf(out, "%" PRId64, value);
    }
}

static void json_modules(struct psc_buf *out, const struct kernel_dump *dump)
{
    if (dump->modules[0][0] == '\0') {
        return;
    }
    json_key(out, "trace_modules");
    for (size_t i = 0; i < KERNEL_DUMP_MODULES; i++) {
        const char *name = dump->modules[i];
        if (name[0] != '\0') {
            psc_buf_u8(out, i == 0 ? '[' : ',');
            text_put_json(out, text_of(name, strlen(name)));
        }
    }
    psc_buf_u8(out, ']');
}

static void json_tables(struct psc_buf *out, const struct kernel_dump *dump)
{
    if (dump->n_slabs > 0) {
        json_key(out, "unreclaimable_slabs");
    }
    for (uint32_t i = 0; i < dump->n_slabs; i++) {
        const struct kernel_slab_row *row = &dump->slabs[i];
        psc_buf_append(out, i == 0 ? "[{" : ",{", 2);
        json_text(out, "cache", row->name);
        json_number(out, "used_bytes", row->used_bytes);
        json_number(out, "total_bytes", row->total_bytes);
        psc_buf_append(out, "}]", i + 1 == dump->n_slabs ? 2 : 1);
    }
    if (dump->n_sites > 0) {
        json_key(out, "allocations");
    }
    for (uint32_t i = 0; i < dump->n_sites; i++) {
        const struct kernel_site_row *row = &dump->sites[i];
        psc_buf_append(out, i == 0 ? "[{" : ",{", 2);
        json_text(out, "site", row->site);
        json_number(out, "bytes", row->bytes);
        json_number(out, "calls", row->calls);
        psc_buf_append(out, "}]", i + 1 == dump->n_sites ? 2 : 1);
    }
}

void kernel_dump_json(const struct kernel_dump *dump, struct psc_buf *out)
{
    psc_buf_u8(out, '{');
    json_text(out, "comm", dump->comm);
    json_text(out, "caller", dump->caller);
    json_text(out, "gfp", dump->gfp);
    json_number(out, "order", dump->order);
    json_number(out, "node", dump->node);
    json_number(out, "cpu", dump->cpu);
    json_text(out, "cache", dump->cache);
    json_number(out, "object_bytes", dump->object_bytes);
    json_number(out, "size_bytes", dump->size_bytes);
    json_text(out, "module", dump->module);
    json_text(out, "site", dump->site);
    json_number(out, "allocated_bytes", dump->n_allocated_bytes);
    json_number(out, "records", dump->n_records);
    json_modules(out, dump);
    json_number(out, "slab_reclaimable_pages", dump->slab_reclaimable_pages);
    json_number(out, "slab_unreclaimable_pages",
                dump->slab_unreclaimable_pages);
    json_number(out, "free_pages", dump->free_pages);
    json_text(out, "killed", dump->killed);
    json_number(out, "killed_pid", dump->killed_pid);
    json_number(out, "killed_total_vm_bytes", dump->killed_total_bytes);
    json_number(out, "killed_anon_rss_bytes", dump->killed_anon_bytes);
    if (dump->in_cgroup) {
        json_key(out, "cgroup");
        psc_buf_append(out, "true", 4);
    }
    json_tables(out, dump);
    psc_buf_u8(out, '}');
}
