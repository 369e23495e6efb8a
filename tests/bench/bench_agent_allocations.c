/* How many allocations a steady sample takes: the agent's sources on this host,
 * its batches and its spool, without the uplink. Every allocation of the
 * process counts, those of libraries too.
 *
 *   bench-agent-allocations DIR [SAMPLES]
 *
 * Keeps its spool in DIR, which it makes. Prints the mean over the steady
 * samples as a whole number rounded up. Not steady are the first ones, in which
 * buffers grow to their size, keyframes, and those with a new name (a process
 * that was not there before), with which the dictionary grows. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "agent/batch.h"
#include "agent/collect.h"
#include "agent/source.h"
#include "agent/spool.h"
#include "agent/spool_io.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"

enum {
    SAMPLES = 120,
    WARM_SAMPLES = 36, /* two windows of the processes' growth */
    PAUSE_MS = 50,
    DUE = 1 << SOURCE_TAGS | 1 << SOURCE_COUNTERS,
};

static unsigned long n_allocations;

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t size);

void *malloc(size_t size)
{
    n_allocations++;
    return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    n_allocations++;
    return __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
    n_allocations++;
    return __libc_realloc(old, size);
}

struct run {
    struct collect collect;
    struct spool spool;
    struct batcher batcher;
};

static int start(struct run *r, const char *dir, struct psc_error *err)
{
    static const uint8_t boot_id[16];
    struct source_env env = {.root = "", .top_processes = 10};
    struct spool_options o = {
        .dir = dir,
        .max_bytes = 1 << 20,
        .segment_bytes = SPOOL_SEGMENT_BYTES,
        .memory_bytes = SPOOL_MEMORY_BYTES,
        .fs = &spool_fs_uv,
    };
    int rc = psc_dir_make(dir, 0700, err);
    if (rc == PSC_OK) {
        rc = spool_open(&r->spool, &o, err);
    }
    if (rc != PSC_OK) {
        return rc;
    }
    batcher_init(&r->batcher, &r->spool, boot_id);
    return collect_init(&r->collect, agent_sources, &env, err);
}

/* One sample. Whether it was a steady one, and if so what it allocated. */
static bool sample(struct run *r, unsigned number, unsigned long *allocations)
{
    struct batch_time time = {
        .wall_us = psc_clock_wall_us(),
        .boot_us = psc_clock_boot_us(),
        .mono_us = psc_clock_mono_us(),
    };
    const struct sample *s = &r->collect.sample;
    uint32_t names = s->tags.names.count + s->counters.names.count;
    bool keyframe = batcher_wants_keyframe(&r->batcher, time.wall_us);
    unsigned long before = n_allocations;
    collect_run(&r->collect, number == 0 ? ~0u : DUE);
    int rc = batcher_take(&r->batcher, &r->collect, number == 0 ? ~0u : DUE, 0,
                          &time);
    *allocations = n_allocations - before;
    return rc == PSC_OK && !keyframe && number >= WARM_SAMPLES &&
           names == s->tags.names.count + s->counters.names.count;
}

int main(int argc, char **argv)
{
    static struct run run;
    struct psc_error err;
    const struct timespec pause = {0, PAUSE_MS * 1000000L};
    unsigned samples =
        argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : SAMPLES;
    if (argc < 2) {
        fprintf(stderr, "usage: %s DIR [SAMPLES]\n", argv[0]);
        return 2;
    }
    psc_log_init("bench-agent-allocations", PSC_LOG_WARN);
    if (start(&run, argv[1], &err) != PSC_OK) {
        fprintf(stderr, "%s: %s\n", argv[0], err.msg);
        return 1;
    }
    unsigned long sum = 0;
    unsigned long n = 0;
    for (unsigned i = 0; i < samples; i++) {
        unsigned long allocations = 0;
        (void)nanosleep(&pause, NULL);
        if (sample(&run, i, &allocations)) {
            sum += allocations;
            n++;
        }
    }
    if (n == 0) {
        fprintf(stderr, "%s: no steady sample\n", argv[0]);
        return 1;
    }
    printf("%lu\n", (sum + n - 1) / n);
    collect_fini(&run.collect);
    batcher_fini(&run.batcher);
    spool_close(&run.spool);
    return 0;
}
