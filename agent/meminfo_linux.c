/* meminfo, vmstat, zoneinfo and the residual: see meminfo_linux.h. */
#include "agent/meminfo_linux.h"

#include <string.h>

static const char *const FIELD_NAMES[MEM_FIELD_COUNT] = {
#define MEM_FIELD_NAME(field, name) name,
    MEM_FIELDS(MEM_FIELD_NAME)
#undef MEM_FIELD_NAME
};

bool meminfo_parse(struct text line, struct text *name, int64_t *value,
                   bool *in_bytes)
{
    uint64_t v;
    if (!text_until(&line, ":", name) || text_left(name) == 0 ||
        !text_u64(&line, &v)) {
        return false;
    }
    text_skip_blanks(&line);
    *in_bytes = text_equal(&line, "kB");
    *value = *in_bytes ? text_product(v, 1024) : text_clamp(v);
    return *in_bytes || text_left(&line) == 0;
}

void meminfo_line(struct meminfo *m, struct text line)
{
    struct text name;
    int64_t value;
    bool in_bytes;
    if (!meminfo_parse(line, &name, &value, &in_bytes)) {
        return;
    }
    for (size_t i = 0; i < MEM_FIELD_COUNT; i++) {
        if (text_equal(&name, FIELD_NAMES[i])) {
            m->value[i] = value;
            m->present |= 1u << i;
            return;
        }
    }
}

static int on_meminfo(void *ctx, struct text line)
{
    meminfo_line(ctx, line);
    return 0;
}

int meminfo_read(struct meminfo *m, const struct proc_file *f,
                 struct psc_error *err)
{
    memset(m, 0, sizeof(*m));
    int rc = proc_file_lines(f, on_meminfo, m, err);
    if (rc == 0 && (m->present & (1u << MEM_TOTAL)) == 0) {
        rc = psc_error_set(err, PSC_FORMAT, "%s has no MemTotal", f->path);
    }
    return rc;
}

bool vmstat_parse(struct text line, struct text *name, uint64_t *value)
{
    return text_word(&line, name) && text_u64(&line, value) &&
           text_left(&line) == 0;
}

void vmstat_line(struct page_counts *p, struct text line)
{
    struct text name;
    uint64_t v;
    if (!vmstat_parse(line, &name, &v) || v > UINT32_MAX * (uint64_t)4096) {
        return;
    }
    if (text_equal(&name, "nr_isolated_anon") ||
        text_equal(&name, "nr_isolated_file")) {
        p->isolated += v;
    } else if (text_equal(&name, "nr_zspages")) {
        p->zspages = v;
    } else if (text_equal(&name, "nr_memmap_pages")) {
        p->memmap = v;
    }
}

/* Each zone has a part "pagesets", where each CPU has a line "count:". */
void zoneinfo_line(struct page_counts *p, struct text line)
{
    text_skip_blanks(&line);
    uint64_t v;
    if (text_take(&line, "Node ")) {
        p->in_pagesets = false;
    } else if (text_take(&line, "pagesets")) {
        p->in_pagesets = true;
    } else if (p->in_pagesets && text_take(&line, "count:") &&
               text_u64(&line, &v) && v <= UINT32_MAX) {
        p->cpu_free += v;
    }
}

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Sums that hostile numbers cannot overflow: a double carries 2^53 pages. */
static double pages_of_users(const struct meminfo *m, double isolated)
{
    double lru = (double)m->value[MEM_ACTIVE] + (double)m->value[MEM_INACTIVE] +
                 (double)m->value[MEM_UNEVICTABLE] + isolated;
    double mapped = (double)m->value[MEM_BUFFERS] +
                    (double)m->value[MEM_CACHED] + (double)m->value[MEM_ANON];
    return lru > mapped ? lru : mapped;
}

static double kernel_bytes(const struct meminfo *m)
{
    const int64_t *v = m->value;
    bool has_vmalloc = (m->present & (1u << MEM_PERCPU)) != 0;
    double misc = (double)max64(v[MEM_KRECLAIMABLE] - v[MEM_SRECLAIMABLE], 0);
    return (double)v[MEM_SRECLAIMABLE] + (double)v[MEM_SUNRECLAIM] + misc +
           (double)max64(has_vmalloc ? v[MEM_VMALLOC] : 0, v[MEM_STACK]) +
           (double)v[MEM_PAGE_TABLES] + (double)v[MEM_SEC_PAGE_TABLES] +
           (double)v[MEM_PERCPU] + (double)v[MEM_BOUNCE] +
           (double)v[MEM_WRITEBACK_TMP];
}

static double other_bytes(const struct meminfo *m, double zspages_bytes,
                          int64_t highest_total_bytes)
{
    const int64_t *v = m->value;
    double huge = (m->present & (1u << MEM_HUGETLB)) != 0
                      ? (double)v[MEM_HUGETLB]
                      : (double)v[MEM_HUGE_TOTAL] * (double)v[MEM_HUGE_SIZE];
    double zswap = (double)v[MEM_ZSWAP];
    int64_t shrunk = max64(highest_total_bytes - v[MEM_TOTAL], 0);
    return huge + (zswap > zspages_bytes ? zswap : zspages_bytes) +
           (double)v[MEM_CORRUPTED] + (double)max64(v[MEM_BALLOON] - shrunk, 0);
}

int64_t unaccounted_bytes(const struct meminfo *m, const struct page_counts *p,
                          uint64_t page_bytes, int64_t highest_total_bytes)
{
    double page = (double)page_bytes;
    double known =
        (double)m->value[MEM_FREE] + (double)p->cpu_free * page +
        (double)p->memmap * page +
        pages_of_users(m, (double)p->isolated * page) + kernel_bytes(m) +
        other_bytes(m, (double)p->zspages * page, highest_total_bytes);
    double left = (double)m->value[MEM_TOTAL] - known;
    return left > 0 && left < 9e18 ? (int64_t)left : 0;
}
