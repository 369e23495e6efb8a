/* Source pages: the tag "unaccounted" of pool pages, memory that no counter of
 * the kernel explains (meminfo_linux.h says what is subtracted). Needs nothing
 * but /proc/meminfo; without vmstat and zoneinfo it is less steady.
 *
 * The files are read one after the other, and on a busy host pages move from
 * one to the other meanwhile (a CPU's own list holds hundreds of megabytes at
 * times). So meminfo is read before and after the others, and all again where
 * it has changed too much, a few times at most. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/meminfo_linux.h"
#include "agent/sources_linux.h"

enum {
    TRIES = 4,
    CHANGE_MAX_BYTES = 1024 * 1024, /* of free or LRU memory meanwhile */
};

struct pages {
    struct proc_file meminfo, vmstat, zoneinfo; /* the last two fd -1: none */
    uint64_t page_bytes;
    int64_t highest_total_bytes;
};

static int on_vmstat(void *ctx, struct text line)
{
    vmstat_line(ctx, line);
    return 0;
}

static int on_zoneinfo(void *ctx, struct text line)
{
    zoneinfo_line(ctx, line);
    return 0;
}

static int read_counts(const struct pages *s, struct page_counts *p,
                       struct psc_error *err)
{
    int rc = 0;
    memset(p, 0, sizeof(*p));
    if (s->zoneinfo.fd >= 0) {
        rc = proc_file_lines(&s->zoneinfo, on_zoneinfo, p, err);
    }
    if (rc == 0 && s->vmstat.fd >= 0) {
        rc = proc_file_lines(&s->vmstat, on_vmstat, p, err);
    }
    return rc;
}

/* How far two readings are apart. */
static int64_t change(const struct meminfo *a, const struct meminfo *b)
{
    static const enum mem_field FIELDS[] = {MEM_FREE, MEM_ACTIVE, MEM_INACTIVE};
    int64_t most = 0;
    for (size_t i = 0; i < sizeof(FIELDS) / sizeof(FIELDS[0]); i++) {
        int64_t d = a->value[FIELDS[i]] - b->value[FIELDS[i]];
        d = d < 0 ? -d : d;
        most = d > most ? d : most;
    }
    return most;
}

static int read_all(const struct pages *s, struct meminfo *m,
                    struct page_counts *p, struct psc_error *err)
{
    int rc = meminfo_read(m, &s->meminfo, err);
    for (int i = 0; rc == 0 && i < TRIES; i++) {
        struct meminfo before = *m;
        rc = read_counts(s, p, err);
        if (rc == 0) {
            rc = meminfo_read(m, &s->meminfo, err);
        }
        if (rc == 0 && change(&before, m) <= CHANGE_MAX_BYTES) {
            break;
        }
    }
    return rc;
}

static int pages_collect(void *state, struct sample *out, struct psc_error *err)
{
    struct pages *s = state;
    struct meminfo m;
    struct page_counts p;
    int rc = read_all(s, &m, &p, err);
    if (rc != 0) {
        return rc;
    }
    if (m.value[MEM_TOTAL] > s->highest_total_bytes) {
        s->highest_total_bytes = m.value[MEM_TOTAL];
    }
    struct tag_values v = {
        .flags = TAG_BYTES,
        .bytes =
            unaccounted_bytes(&m, &p, s->page_bytes, s->highest_total_bytes),
    };
    static const char TEXT[] = "unaccounted";
    return sample_tag(out, POOL_PAGES, TEXT, sizeof(TEXT) - 1, &v);
}

static void pages_close(void *state)
{
    struct pages *s = state;
    proc_file_close(&s->meminfo);
    proc_file_close(&s->vmstat);
    proc_file_close(&s->zoneinfo);
    free(s);
}

static int pages_open(const struct source_env *env, void **state,
                      struct psc_error *err)
{
    struct pages *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    s->vmstat.fd = -1;
    s->zoneinfo.fd = -1;
    s->page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    int rc = proc_file_open(&s->meminfo, env->root, "/proc/meminfo",
                            "permission to read it", err);
    if (rc != 0) {
        pages_close(s);
        return rc;
    }
    (void)!proc_file_open(&s->vmstat, env->root, "/proc/vmstat", "", NULL);
    (void)!proc_file_open(&s->zoneinfo, env->root, "/proc/zoneinfo", "", NULL);
    *state = s;
    return 0;
}

const struct source source_pages = {
    .name = "pages",
    .help = "memory that nothing accounts for, from /proc/meminfo",
    .group = SOURCE_TAGS,
    .open = pages_open,
    .collect = pages_collect,
    .close = pages_close,
};
