/* Events of the kernel log while memory fails: each allocation in turn, in the
 * source, the sample, the batch and the spool. Every event arrives once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "agent/batch.h"
#include "agent/collect.h"
#include "agent/sources_linux.h"
#include "proto/wire.h"
#include "tests/lib/fault.h"
#include "tests/lib/temp.h"

enum { DUE = 1 << SOURCE_TAGS | 1 << SOURCE_COUNTERS, EVENTS = 4, TICKS = 8 };

static const struct source *const sources[] = {&source_slabinfo,
                                               &source_kernel_log, NULL};

struct bench {
    struct collect collect;
    struct spool spool;
    struct batcher batcher;
    unsigned long n_failed; /* batches */
};

/* Open all; false if that failed, as it may. */
static bool open_bench(struct bench *b, const char *dir)
{
    static const uint8_t boot_id[16] = {1};
    struct source_env env = {.root = PSC_TEST_DATA "/proc-linux-6.12"};
    struct psc_error err;
    struct spool_options o = {.dir = dir,
                              .max_bytes = 1 << 20,
                              .segment_bytes = 1 << 16,
                              .memory_bytes = 1 << 18,
                              .fs = &spool_fs_uv};
    memset(b, 0, sizeof(*b));
    if (spool_open(&b->spool, &o, &err) != PSC_OK) {
        return false;
    }
    if (collect_init(&b->collect, sources, &env, &err) != PSC_OK) {
        spool_close(&b->spool);
        return false;
    }
    batcher_init(&b->batcher, &b->spool, boot_id);
    return true;
}

static void run_ticks(struct bench *b)
{
    for (int i = 0; i < TICKS; i++) {
        struct batch_time time = {i, i, i};
        /* The last ones as at the drivers' interval: what failed to open is
         * tried again. */
        unsigned due = i < TICKS / 2 ? DUE : DUE | 1u << SOURCE_DRIVERS;
        collect_run(&b->collect, due);
        b->n_failed +=
            batcher_take(&b->batcher, &b->collect, due, 0, &time) != PSC_OK;
    }
}

/* The events in the spool, by position; each must be there once. */
static void check_events(struct bench *b)
{
    struct spool_reader r;
    struct spool_record record;
    struct wire_decoder decoder;
    struct wire_message m;
    struct psc_error err;
    unsigned n = 0;
    uint64_t last = 0;
    spool_reader_init(&r);
    spool_reader_seek(&r, &b->spool, b->spool.stream, 1);
    wire_decoder_init(&decoder);
    while (spool_read(&b->spool, &r, &record) == PSC_OK) {
        assert_int_equal(wire_decode(&decoder, record.payload, &m, &err), 0);
        struct record_reader in;
        struct event_record e;
        record_reader_init(&in, m.batch.events);
        while (m.batch.events.len > 0 && record_next_event(&in, &e)) {
            assert_true(e.position > last);
            assert_true(e.details.len > 0);
            last = e.position;
            n++;
        }
    }
    assert_int_equal(n, EVENTS);
    wire_decoder_fini(&decoder);
    spool_reader_fini(&r, &b->spool);
}

static void events_survive_every_failed_allocation(void **state)
{
    (void)state;
    unsigned long n_failed = 0;
    bool failed = true;
    for (unsigned long n = 1; failed; n++) {
        struct bench b;
        const char *dir = temp_dir();
        fault_fail_at(n);
        bool opened = open_bench(&b, dir);
        if (opened) {
            run_ticks(&b);
        }
        failed = fault_allocations() >= n;
        fault_fail_at(0);
        if (opened) {
            check_events(&b);
            n_failed += b.n_failed;
            batcher_fini(&b.batcher);
            collect_fini(&b.collect);
            spool_close(&b.spool);
        }
        assert_true(n < 2000);
    }
    assert_true(n_failed > 0); /* or this would show nothing */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_survive_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
