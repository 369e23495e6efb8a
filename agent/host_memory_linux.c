/* One reading of the host's memory a tick: see host_memory_linux.h.
 *
 * The files are read one after the other, and on a busy host pages move from
 * one to the other meanwhile (a CPU's own list holds hundreds of megabytes at
 * times). So meminfo is read before and after the others, and all again where
 * it has changed too much, a few times at most. */
#include "agent/host_memory_linux.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    TRIES = 4,
    CHANGE_MAX_BYTES = 1024 * 1024, /* of free or LRU memory meanwhile */
    TEXT_MAX_BYTES = 256 * 1024,
};

struct source_shared {
    struct host_memory memory;
};

/* --- lifetime --- */

static void init(struct host_memory *h)
{
    memset(h, 0, sizeof(*h));
    h->meminfo.fd = h->vmstat.fd = h->zoneinfo.fd = -1;
    h->page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    psc_buf_init(&h->meminfo_text, TEXT_MAX_BYTES);
    psc_buf_init(&h->vmstat_text, TEXT_MAX_BYTES);
}

static void fini(struct host_memory *h)
{
    proc_file_close(&h->meminfo);
    proc_file_close(&h->vmstat);
    proc_file_close(&h->zoneinfo);
    psc_buf_fini(&h->meminfo_text);
    psc_buf_fini(&h->vmstat_text);
}

int source_shared_new(struct source_shared **out)
{
    *out = malloc(sizeof(**out));
    if (*out == NULL) {
        return PSC_NOMEM;
    }
    init(&(*out)->memory);
    (*out)->memory.shared = true;
    return PSC_OK;
}

void source_shared_free(struct source_shared *shared)
{
    if (shared != NULL) {
        fini(&shared->memory);
        free(shared);
    }
}

int host_memory_get(const struct source_env *env, struct host_memory **out,
                    struct psc_error *err)
{
    *out = NULL;
    struct host_memory *h = NULL;
    if (env->shared != NULL) {
        h = &env->shared->memory;
    } else if ((h = malloc(sizeof(*h))) != NULL) {
        init(h);
    } else {
        return psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    if (h->meminfo.fd < 0) {
        int rc = proc_file_open(&h->meminfo, env->root, "/proc/meminfo",
                                "permission to read it", err);
        if (rc != 0) {
            host_memory_put(h);
            return rc;
        }
        (void)!proc_file_open(&h->vmstat, env->root, "/proc/vmstat", "", NULL);
        (void)!proc_file_open(&h->zoneinfo, env->root, "/proc/zoneinfo", "",
                              NULL);
    }
    *out = h;
    return PSC_OK;
}

void host_memory_put(struct host_memory *h)
{
    if (h != NULL && !h->shared) {
        fini(h);
        free(h);
    }
}

/* --- reading --- */

static int on_meminfo(void *ctx, struct text line)
{
    meminfo_line(ctx, line);
    return 0;
}

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

static int read_meminfo(struct host_memory *h, struct psc_error *err)
{
    int rc = proc_file_text(&h->meminfo, &h->meminfo_text, err);
    if (rc != 0) {
        return rc;
    }
    memset(&h->info, 0, sizeof(h->info));
    (void)text_lines(text_of_buf(&h->meminfo_text), on_meminfo, &h->info);
    if (h->info.value[MEM_TOTAL] == 0) {
        return psc_error_set(err, PSC_FORMAT, "%s has no MemTotal",
                             h->meminfo.path);
    }
    return 0;
}

static int read_counts(struct host_memory *h, struct psc_error *err)
{
    int rc = 0;
    memset(&h->pages, 0, sizeof(h->pages));
    psc_buf_reset(&h->vmstat_text);
    if (h->zoneinfo.fd >= 0) {
        rc = proc_file_lines(&h->zoneinfo, on_zoneinfo, &h->pages, err);
    }
    if (rc == 0 && h->vmstat.fd >= 0) {
        rc = proc_file_text(&h->vmstat, &h->vmstat_text, err);
        (void)text_lines(text_of_buf(&h->vmstat_text), on_vmstat, &h->pages);
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

static int read_all(struct host_memory *h, struct psc_error *err)
{
    int rc = read_meminfo(h, err);
    for (int i = 0; rc == 0 && i < TRIES; i++) {
        struct meminfo before = h->info;
        rc = read_counts(h, err);
        if (rc == 0) {
            rc = read_meminfo(h, err);
        }
        if (rc == 0 && change(&before, &h->info) <= CHANGE_MAX_BYTES) {
            break;
        }
    }
    return rc;
}

int host_memory_read(struct host_memory *h, const struct sample *for_sample,
                     struct psc_error *err)
{
    uint32_t tick = for_sample->tags.generation;
    if (h->read && h->tick == tick) {
        return PSC_OK;
    }
    h->read = false;
    int rc = read_all(h, err);
    if (rc != 0) {
        return rc;
    }
    int64_t total = h->info.value[MEM_TOTAL];
    if (total > h->highest_total_bytes) {
        h->highest_total_bytes = total;
    }
    h->unaccounted_bytes = unaccounted_bytes(&h->info, &h->pages, h->page_bytes,
                                             h->highest_total_bytes);
    h->read = true;
    h->tick = tick;
    return PSC_OK;
}
