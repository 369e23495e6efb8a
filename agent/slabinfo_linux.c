/* Source slabinfo: the slab caches. Bytes are the pages that a cache holds,
 * outstanding its objects in use; the kernel counts no allocs and frees.
 *
 * Allocations above two pages go past the caches and appear in no row, only
 * in the kernel's totals: what the totals have beyond the rows is the tag
 * "kmalloc-large".
 *
 * Fails where slabinfo cannot be read (mode 0400); which caches are
 * reclaimable is asked of /sys/kernel/slab once for each new name. */
#include "agent/slabinfo_linux.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/host_memory_linux.h"
#include "agent/procfile_linux.h"
#include "agent/sources_linux.h"
#include "common/map.h"

enum {
    NAMES_MAX = 8192,
    NAMES_MAX_BYTES = 512 * 1024,
};

bool slabinfo_parse(struct text line, struct slab_row *row)
{
    struct text head;
    if (!text_until(&line, " : tunables", &head)) {
        return false;
    }
    /* Five numbers end the head; the name is all before them. */
    const char *at = head.end;
    for (int fields = 0; fields < 5; fields++) {
        while (at > head.at && at[-1] == ' ') {
            at--;
        }
        const char *end = at;
        while (at > head.at && at[-1] >= '0' && at[-1] <= '9') {
            at--;
        }
        if (at == end || at == head.at || at[-1] != ' ') {
            return false;
        }
    }
    struct text numbers = {at, head.end};
    row->name.at = head.at;
    row->name.end = at;
    while (row->name.end > row->name.at && row->name.end[-1] == ' ') {
        row->name.end--;
    }
    struct text tunables;
    return row->name.at < row->name.end && *row->name.at != '#' &&
           text_u64(&numbers, &row->active_objs) &&
           text_u64(&numbers, &row->num_objs) &&
           text_u64(&numbers, &row->obj_size) &&
           text_u64(&numbers, &row->objs_per_slab) &&
           text_u64(&numbers, &row->pages_per_slab) &&
           text_until(&line, ": slabdata", &tunables) &&
           text_u64(&line, &row->active_slabs) &&
           text_u64(&line, &row->num_slabs);
}

struct slabinfo {
    struct proc_file file;
    struct host_memory *memory; /* NULL: no totals */
    struct psc_map names;       /* folded names whose flags are known */
    uint8_t *flags;             /* by index in names */
    uint32_t cap;               /* of flags */
    uint64_t page_bytes;
    int64_t total_bytes;           /* of this collection's rows */
    char sys[PROC_PATH_MAX_BYTES]; /* "<root>/sys/kernel/slab" */
    bool has_sys;
    struct sample *out; /* during a collection */
};

static uint8_t ask_flags(const struct slabinfo *s, struct text raw,
                         struct text folded)
{
    const uint8_t common = TAG_OUTSTANDING | TAG_BYTES;
    bool reclaimable = slab_name_reclaimable(folded);
    char path[PROC_PATH_MAX_BYTES];
    size_t base = strlen(s->sys);
    int n = snprintf(path, sizeof(path), "%s/%.*s/reclaim_account", s->sys,
                     (int)text_left(&raw), raw.at);
    char value[8];
    if (s->has_sys && n > 0 && (size_t)n < sizeof(path)) {
        for (size_t i = 0; i < text_left(&raw); i++) {
            char *c = path + base + 1 + i;
            if (*c == '/') {
                *c = '!'; /* as sysfs names it */
            }
        }
        if (proc_read_value("", path, value, sizeof(value))) {
            reclaimable = value[0] == '1';
        }
    }
    return reclaimable ? common | ENTRY_RECLAIMABLE : common;
}

static int flags_of(struct slabinfo *s, struct text raw, struct text folded,
                    uint8_t *flags)
{
    uint32_t known = s->names.count;
    uint32_t i;
    int rc = psc_map_add(&s->names, folded.at, text_left(&folded), &i);
    if (rc != 0) {
        return rc;
    }
    if (i >= s->cap) {
        uint32_t cap = s->cap == 0 ? 512 : s->cap * 2;
        uint8_t *grown = realloc(s->flags, cap);
        if (grown == NULL) {
            return PSC_NOMEM;
        }
        memset(grown + s->cap, 0, cap - s->cap);
        s->flags = grown;
        s->cap = cap;
    }
    if (i >= known || s->flags[i] == 0) {
        s->flags[i] = ask_flags(s, raw, folded);
    }
    *flags = s->flags[i];
    return 0;
}

static int on_row(void *ctx, struct text line)
{
    struct slabinfo *s = ctx;
    struct slab_row row;
    if (!slabinfo_parse(line, &row)) {
        return 0;
    }
    char text[SAMPLE_TAG_MAX_BYTES];
    struct text_out name = {text, 0, sizeof(text)};
    slab_name_fold(row.name, &name);
    uint64_t pages = (uint64_t)text_product(row.num_slabs, row.pages_per_slab);
    struct tag_values v = {
        .outstanding = text_clamp(row.active_objs),
        .bytes = text_product(pages, s->page_bytes),
    };
    if (s->total_bytes <= INT64_MAX - v.bytes) {
        s->total_bytes += v.bytes;
    }
    /* One tag that does not fit costs that tag only. */
    if (flags_of(s, row.name, text_of(text, name.len), &v.flags) == 0) {
        (void)!sample_tag(s->out, POOL_SLAB, text, name.len, &v);
    }
    return 0;
}

static void put_large(struct slabinfo *s, struct sample *out)
{
    if (s->memory == NULL || s->total_bytes == 0 ||
        host_memory_read(s->memory, out, NULL) != 0) {
        return;
    }
    const int64_t *m = s->memory->info.value;
    int64_t slab = m[MEM_SRECLAIMABLE] + m[MEM_SUNRECLAIM];
    struct tag_values v = {
        .flags = TAG_BYTES,
        .bytes = slab > s->total_bytes ? slab - s->total_bytes : 0,
    };
    static const char TEXT[] = "kmalloc-large";
    (void)!sample_tag(out, POOL_SLAB, TEXT, sizeof(TEXT) - 1, &v);
}

static int slabinfo_collect(void *state, struct sample *out,
                            struct psc_error *err)
{
    struct slabinfo *s = state;
    s->out = out;
    s->total_bytes = 0;
    int rc = proc_file_lines(&s->file, on_row, s, err);
    if (rc == 0) {
        put_large(s, out);
    }
    return rc;
}

static void slabinfo_close(void *state)
{
    struct slabinfo *s = state;
    proc_file_close(&s->file);
    host_memory_put(s->memory);
    psc_map_fini(&s->names);
    free(s->flags);
    free(s);
}

static int slabinfo_open(const struct source_env *env, void **state,
                         struct psc_error *err)
{
    struct slabinfo *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    psc_map_init(&s->names, NAMES_MAX, NAMES_MAX_BYTES);
    s->page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    int rc = proc_file_open(&s->file, env->root, "/proc/slabinfo",
                            "root or CAP_DAC_READ_SEARCH", err);
    if (rc != 0) {
        slabinfo_close(s);
        return rc;
    }
    (void)!host_memory_get(env, &s->memory, NULL);
    int n = snprintf(s->sys, sizeof(s->sys), "%s/sys/kernel/slab", env->root);
    s->has_sys =
        n > 0 && (size_t)n < sizeof(s->sys) && access(s->sys, X_OK) == 0;
    *state = s;
    return 0;
}

const struct source source_slabinfo = {
    .name = "slabinfo",
    .help = "slab caches from /proc/slabinfo (root or CAP_DAC_READ_SEARCH)",
    .group = SOURCE_TAGS,
    .open = slabinfo_open,
    .collect = slabinfo_collect,
    .close = slabinfo_close,
};
