/* From samples to batches: what a collector would decode is what was sampled;
 * keyframes, parts, inventories; sources that are slow or broken; and a steady
 * tick that allocates nothing. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/batch.h"
#include "agent/collect.h"
#include "agent/spool.h"
#include "proto/wire.h"
#include "tests/lib/decoded.h"
#include "tests/lib/temp.h"

#define HOUR_US (3600 * 1000000LL)

enum {
    TAGS = 1 << SOURCE_TAGS,
    COUNTERS = 1 << SOURCE_COUNTERS,
    DRIVERS = 1 << SOURCE_DRIVERS,
    ALL = TAGS | COUNTERS | DRIVERS,
};

/* --- counting every allocation of the process, libraries included --- */

static unsigned long n_allocations;

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

#ifdef SANITIZED
int __sanitizer_install_malloc_and_free_hooks(
    void (*on_malloc)(const volatile void *, size_t),
    void (*on_free)(const volatile void *));

static void on_malloc(const volatile void *p, size_t size)
{
    (void)p;
    (void)size;
    n_allocations++;
}

static void on_free(const volatile void *p)
{
    (void)p;
}

static void count_allocations(void)
{
    (void)__sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
}
#else
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

static void count_allocations(void)
{
}
#endif

/* --- sources under the tests' control --- */

static struct {
    uint32_t random;
    unsigned n_tags;
    bool tags_real_time; /* values change at every sample */
    const char *driver;
    const char *event;
    int fail_open, fail_collect;
    unsigned n_collects, n_commits;
    int64_t cpu_us, cost_us;
} fake;

static uint32_t next_random(void)
{
    fake.random = fake.random * 1664525u + 1013904223u;
    return fake.random >> 8;
}

static int fake_open(const struct source_env *env, void **state,
                     struct psc_error *err)
{
    (void)env;
    *state = &fake;
    return fake.fail_open == 0 ? PSC_OK
                               : psc_error_set(err, fake.fail_open, "no way");
}

static int fake_tags(void *state, struct sample *out, struct psc_error *err)
{
    (void)state;
    fake.n_collects++;
    fake.cpu_us += fake.cost_us;
    if (fake.fail_collect != 0) {
        return psc_error_set(err, fake.fail_collect, "broken now");
    }
    for (unsigned i = 0; i < fake.n_tags; i++) {
        char name[32];
        int n = snprintf(name, sizeof(name), "tag-%u", i);
        if (fake.tags_real_time && next_random() % 50 == 0) {
            continue; /* gone this time */
        }
        struct tag_values v = {
            .flags = TAG_ALLOCS | TAG_FREES | TAG_OUTSTANDING | TAG_BYTES,
            .allocs = 1000 + (fake.tags_real_time ? next_random() % 100 : i),
            .frees = 900,
            .bytes = 4096LL * (fake.tags_real_time ? next_random() % 9 : i),
        };
        v.outstanding = v.allocs - v.frees;
        (void)sample_tag(out, POOL_SLAB, name, (size_t)n, &v);
    }
    return PSC_OK;
}

static int fake_counters(void *state, struct sample *out, struct psc_error *err)
{
    (void)state;
    (void)err;
    (void)sample_counter(out, "ticks", "", (int64_t)fake.n_collects);
    (void)sample_counter_real(out, "load", "x", next_random() % 100 / 10.0);
    return PSC_OK;
}

static int fake_drivers(void *state, struct sample *out, struct psc_error *err)
{
    (void)state;
    (void)err;
    if (fake.driver != NULL) {
        struct driver_record d = {
            .name = {(const uint8_t *)fake.driver, strlen(fake.driver)}};
        sample_driver(out, &d);
    }
    return PSC_OK;
}

static int fake_events(void *state, struct sample *out, struct psc_error *err)
{
    (void)state;
    (void)err;
    if (fake.event != NULL) {
        struct event_record e = {
            .message = {(const uint8_t *)fake.event, strlen(fake.event)}};
        (void)!sample_event(out, &e);
        fake.event = NULL;
    }
    return PSC_OK;
}

static int fake_commit(void *state, struct psc_error *err)
{
    (void)state;
    (void)err;
    fake.n_commits++;
    return PSC_OK;
}

static const struct source source_tags = {.name = "tags",
                                          .group = SOURCE_TAGS,
                                          .open = fake_open,
                                          .collect = fake_tags};
static const struct source source_counters = {.name = "counters",
                                              .group = SOURCE_COUNTERS,
                                              .open = fake_open,
                                              .collect = fake_counters};
static const struct source source_drivers = {.name = "drivers",
                                             .group = SOURCE_DRIVERS,
                                             .open = fake_open,
                                             .collect = fake_drivers};
static const struct source source_events = {.name = "events",
                                            .group = SOURCE_EVENTS,
                                            .open = fake_open,
                                            .collect = fake_events,
                                            .commit = fake_commit};
static const struct source *const fakes[] = {
    &source_tags, &source_counters, &source_drivers, &source_events, NULL};

static int64_t fake_cpu_us(void)
{
    return fake.cpu_us;
}

/* --- an agent's middle, and a collector that reads its spool --- */

struct bench {
    struct collect collect;
    struct spool spool;
    struct batcher batcher;
    struct spool_reader reader;
    struct wire_decoder decoder;
    struct decoded tags, counters;   /* the collector's */
    uint64_t tags_seq, counters_seq; /* where they stand */
    struct wire_message last;        /* valid until the next read */
    unsigned n_batches, n_keyframes, n_parts;
    int64_t wall_us;
};

static struct bench bench;

static struct bench *bench_init(const struct source *const *sources,
                                const char *root)
{
    struct bench *b = &bench;
    memset(b, 0, sizeof(*b));
    struct source_env env = {.root = root, .top_processes = 10};
    struct psc_error err = {.msg = ""};
    assert_int_equal(collect_init(&b->collect, sources, &env, &err), PSC_OK);
    struct spool_options o = {
        .dir = temp_dir(),
        .max_bytes = 64 << 20,
        .segment_bytes = SPOOL_SEGMENT_BYTES,
        .memory_bytes = SPOOL_MEMORY_BYTES,
        .fs = &spool_fs_uv,
    };
    assert_int_equal(spool_open(&b->spool, &o, &err), PSC_OK);
    static const uint8_t boot_id[16] = {1, 2, 3};
    batcher_init(&b->batcher, &b->spool, boot_id);
    spool_reader_init(&b->reader);
    spool_reader_seek(&b->reader, &b->spool, b->spool.stream, 1);
    wire_decoder_init(&b->decoder);
    decoded_init(&b->tags, TABLE_COLUMNS_MAX, TABLE_MAX_TAGS,
                 TABLE_MAX_TAG_KEY_BYTES);
    decoded_init(&b->counters, 1, TABLE_MAX_COUNTERS,
                 TABLE_MAX_COUNTER_KEY_BYTES);
    return b;
}

static void bench_fini(struct bench *b)
{
    decoded_fini(&b->tags);
    decoded_fini(&b->counters);
    wire_decoder_fini(&b->decoder);
    spool_reader_fini(&b->reader, &b->spool);
    batcher_fini(&b->batcher);
    spool_close(&b->spool);
    collect_fini(&b->collect);
}

/* One tick, as agent.c does it. */
static void tick(struct bench *b, unsigned due)
{
    struct batch_time time = {b->wall_us, b->wall_us, b->wall_us};
    b->wall_us += 1000000;
    if (batcher_wants_keyframe(&b->batcher, time.wall_us)) {
        due |= TAGS | COUNTERS;
    }
    collect_set_spool(&b->collect, spool_trouble(&b->spool));
    collect_run(&b->collect, due);
    assert_int_equal(batcher_take(&b->batcher, &b->collect, due, 0, &time),
                     PSC_OK);
}

static void apply(struct decoded *t, const struct columns *in, bool first,
                  uint64_t *at, uint64_t seq)
{
    struct psc_error err = {.msg = ""};
    if (!in->keyframe) {
        assert_int_equal(in->base_seq, *at);
    }
    assert_int_equal(decoded_apply(t, in, first, &err), PSC_OK);
    *at = seq;
}

/* Read and apply all batches that have come since. */
static void read_all(struct bench *b)
{
    struct spool_record record;
    struct psc_error err = {.msg = ""};
    while (spool_read(&b->spool, &b->reader, &record) == PSC_OK) {
        assert_int_equal(
            wire_decode(&b->decoder, record.payload, &b->last, &err), PSC_OK);
        assert_int_equal(b->last.type, WIRE_BATCH);
        const struct wire_batch *batch = &b->last.batch;
        assert_int_equal(batch->seq, record.seq);
        assert_int_equal(batch->more, (record.flags & SPOOL_MORE) != 0);
        if (batch->has_tags) {
            apply(&b->tags, &batch->tags, batch->part == 0, &b->tags_seq,
                  batch->seq);
        }
        if (batch->has_counters) {
            assert_false(batch->more);
            apply(&b->counters, &batch->counters, true, &b->counters_seq,
                  batch->seq);
        }
        bool key = (record.flags & SPOOL_KEYFRAME) != 0;
        assert_int_equal(key, batch->part == 0 && batch->has_tags &&
                                  batch->tags.keyframe);
        b->n_batches++;
        b->n_keyframes += key;
        b->n_parts += batch->part > 0;
    }
}

/* The collector's table holds just what the sample does. */
static void check_same(const struct table *sent, const struct decoded *got)
{
    assert_true(got->grid.complete);
    uint32_t n = 0;
    for (uint32_t i = 0; i < sent->names.count; i++) {
        struct psc_bytes key = psc_map_key(&sent->names, i);
        uint32_t at = psc_map_find(&got->names, key.data, key.len);
        bool live = at != PSC_MAP_NONE && got->grid.entries[at].live;
        assert_int_equal(live, sent->entries[i].live);
        if (live) {
            assert_memory_equal(grid_values(&got->grid, at),
                                table_values(sent, i),
                                sent->columns * sizeof(int64_t));
            n++;
        }
    }
    assert_int_equal(got->grid.n_live, n);
}

static void check_bench(struct bench *b)
{
    read_all(b);
    check_same(&b->collect.sample.tags, &b->tags);
    check_same(&b->collect.sample.counters, &b->counters);
}

static void reset_fake(void)
{
    memset(&fake, 0, sizeof(fake));
    fake.random = 42;
    fake.n_tags = 100;
    fake.tags_real_time = true;
    fake.driver = "e1000";
}

static void batches_carry_what_was_sampled(void **state)
{
    (void)state;
    reset_fake();
    struct bench *b = bench_init(fakes, "");
    for (int i = 0; i < 300; i++) {
        fake.n_tags = 50 + next_random() % 100;
        tick(b, ALL);
        check_bench(b);
        assert_int_equal(b->n_batches, i + 1);
    }
    assert_in_range(b->n_keyframes, 2, 60);
    bench_fini(b);
}

static void groups_keep_their_own_chains(void **state)
{
    (void)state;
    reset_fake();
    struct bench *b = bench_init(fakes, "");
    tick(b, ALL);
    for (int i = 0; i < 100; i++) {
        unsigned due = i % 7 == 0   ? ALL
                       : i % 3 == 0 ? TAGS
                       : i % 2 == 0 ? COUNTERS
                                    : DRIVERS;
        unsigned before = fake.n_collects;
        tick(b, due);
        assert_true((due & TAGS) == 0 || fake.n_collects == before + 1);
        check_bench(b);
    }
    bench_fini(b);
}

static void large_keyframes_go_in_parts(void **state)
{
    (void)state;
    reset_fake();
    struct bench *b = bench_init(fakes, "");
    b->batcher.budget_bytes = TABLE_BUDGET_MIN_BYTES;
    fake.n_tags = 600;
    tick(b, ALL);
    check_bench(b);
    assert_in_range(b->n_parts, 5, 60);
    for (int i = 0; i < 20; i++) {
        tick(b, ALL); /* too large for a delta, too */
        check_bench(b);
    }
    bench_fini(b);
}

static void hours_and_requests_begin_with_keyframes(void **state)
{
    (void)state;
    reset_fake();
    fake.tags_real_time = false;
    struct bench *b = bench_init(fakes, "");
    tick(b, ALL);
    tick(b, ALL);
    read_all(b);
    assert_int_equal(b->n_keyframes, 1);
    batcher_want_keyframe(&b->batcher);
    tick(b, DRIVERS); /* tags and counters are sampled all the same */
    check_bench(b);
    assert_int_equal(b->n_keyframes, 2);
    b->wall_us += HOUR_US;
    tick(b, COUNTERS);
    check_bench(b);
    assert_int_equal(b->n_keyframes, 3);
    bench_fini(b);
}

static void inventories_travel_when_they_change(void **state)
{
    (void)state;
    reset_fake();
    struct bench *b = bench_init(fakes, "");
    tick(b, ALL);
    read_all(b);
    assert_true(b->last.batch.drivers.len > 0);
    assert_true(b->last.batch.sources.len > 0);
    tick(b, ALL);
    read_all(b);
    assert_int_equal(b->last.batch.drivers.len, 0);
    assert_int_equal(b->last.batch.sources.len, 0);
    fake.driver = "e1000e";
    fake.event = "allocation failure";
    tick(b, ALL);
    read_all(b);
    assert_true(b->last.batch.drivers.len > 0);
    assert_true(b->last.batch.events.len > 0);
    /* What was dropped may have been an inventory. */
    b->spool.dropped++;
    tick(b, ALL);
    read_all(b);
    assert_true(b->last.batch.drivers.len > 0);
    assert_true(b->last.batch.sources.len > 0);
    assert_int_equal(b->last.batch.events.len, 0);
    bench_fini(b);
}

static struct batch_time now_of(struct bench *b)
{
    struct batch_time time = {b->wall_us, b->wall_us, b->wall_us};
    b->wall_us += 1000000;
    return time;
}

/* The only event of the newest batch; "" if there is none. */
static const char *last_event(struct bench *b)
{
    static char text[64];
    struct record_reader r;
    struct event_record e;
    read_all(b);
    text[0] = '\0';
    record_reader_init(&r, b->last.batch.events);
    if (b->last.batch.events.len > 0) {
        assert_true(record_next_event(&r, &e));
        (void)snprintf(text, sizeof(text), "%.*s", (int)e.message.len,
                       (const char *)e.message.data);
        assert_false(record_next_event(&r, &e));
        assert_true(record_reader_ok(&r));
    }
    return text;
}

static void events_outlive_a_batch_that_fails(void **state)
{
    (void)state;
    reset_fake();
    struct bench *b = bench_init(fakes, "");
    tick(b, ALL);
    size_t max = b->batcher.frame.max;
    b->batcher.frame.max = 1; /* no batch can be encoded */
    psc_buf_fini(&b->batcher.frame);
    fake.event = "first";
    for (int i = 0; i < 3; i++) {
        struct batch_time time = now_of(b);
        collect_run(&b->collect, ALL);
        assert_int_equal(batcher_take(&b->batcher, &b->collect, ALL, 0, &time),
                         PSC_LIMIT);
        fake.event = "second"; /* the source has it, and keeps it */
    }
    b->batcher.frame.max = max;
    tick(b, ALL);
    assert_string_equal(last_event(b), "first");
    tick(b, ALL);
    assert_string_equal(last_event(b), "second");
    tick(b, ALL);
    assert_string_equal(last_event(b), "");
    check_bench(b);
    bench_fini(b);
}

static void missed_ticks_ride_in_the_last_part(void **state)
{
    (void)state;
    reset_fake();
    struct bench *b = bench_init(fakes, "");
    b->batcher.budget_bytes = TABLE_BUDGET_MIN_BYTES;
    fake.n_tags = 600;
    struct batch_time time = now_of(b);
    collect_run(&b->collect, ALL);
    assert_int_equal(batcher_take(&b->batcher, &b->collect, ALL, 7, &time),
                     PSC_OK);
    read_all(b);
    assert_true(b->last.batch.part > 0 && !b->last.batch.more);
    assert_int_equal(b->last.batch.missed_ticks, 7);
    bench_fini(b);
}

static enum source_state told_state(struct bench *b, const char *name)
{
    struct record_reader r;
    struct source_record s;
    record_reader_init(&r, psc_buf_bytes(&b->collect.states));
    while (record_next_source(&r, &s)) {
        if (s.name.len == strlen(name) &&
            memcmp(s.name.data, name, s.name.len) == 0) {
            return s.state;
        }
    }
    fail();
    return SOURCE_OK;
}

static void slow_sources_back_off(void **state)
{
    (void)state;
    reset_fake();
    struct bench *b = bench_init(fakes, "");
    b->collect.cpu_us = fake_cpu_us;
    fake.cost_us = 120 * 1000; /* at every third tick, then */
    for (int i = 0; i < 4; i++) {
        tick(b, ALL);
    }
    assert_int_equal(told_state(b, "tags"), SOURCE_SLOW);
    unsigned before = fake.n_collects;
    for (int i = 0; i < 9; i++) {
        tick(b, ALL);
        check_bench(b); /* held, not gone */
        assert_true(b->tags.grid.n_live > 0);
    }
    assert_int_equal(fake.n_collects - before, 3);
    fake.cost_us = 1000;
    for (int i = 0; i < 4; i++) {
        tick(b, ALL);
    }
    assert_int_equal(told_state(b, "tags"), SOURCE_OK);
    before = fake.n_collects;
    tick(b, ALL);
    tick(b, ALL);
    assert_int_equal(fake.n_collects - before, 2);
    bench_fini(b);
}

static void broken_sources_are_told_and_tried_again(void **state)
{
    (void)state;
    reset_fake();
    fake.fail_open = PSC_PERMISSION;
    struct bench *b = bench_init(fakes, "");
    assert_int_equal(told_state(b, "tags"), SOURCE_UNAVAILABLE);
    tick(b, ALL & ~(unsigned)DRIVERS);
    assert_int_equal(fake.n_collects, 0);
    fake.fail_open = PSC_OK;
    tick(b, ALL & ~(unsigned)DRIVERS);
    assert_int_equal(fake.n_collects, 0);
    tick(b, ALL);
    assert_int_equal(fake.n_collects, 1);
    assert_int_equal(told_state(b, "tags"), SOURCE_OK);
    fake.fail_collect = PSC_IO;
    tick(b, ALL);
    assert_int_equal(told_state(b, "tags"), SOURCE_FAILING);
    read_all(b);
    assert_true(b->last.batch.sources.len > 0);
    assert_int_equal(b->tags.grid.n_live, 0);
    fake.fail_collect = PSC_OK;
    tick(b, TAGS);
    assert_int_equal(told_state(b, "tags"), SOURCE_OK);
    check_bench(b);
    collect_set_spool(&b->collect, "the disk is full");
    assert_int_equal(told_state(b, "spool"), SOURCE_FAILING);
    collect_commit(&b->collect);
    assert_int_equal(fake.n_commits, 1);
    bench_fini(b);
}

/* Make one digit of a recorded file another one, without allocating. */
static void touch_file(const char *path, off_t at, int round)
{
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    char digit = (char)('1' + round % 9);
    assert_int_equal(pwrite(fd, &digit, 1, at), 1);
    (void)close(fd);
}

static off_t digit_after(const char *path, const char *label)
{
    char text[65536];
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    ssize_t n = read(fd, text, sizeof(text) - 1);
    (void)close(fd);
    assert_true(n > 0);
    text[n] = '\0';
    char *at = strstr(text, label);
    assert_non_null(at);
    at += strlen(label);
    at += strcspn(at, "0123456789");
    return at - text;
}

static void steady_ticks_allocate_nothing(void **state)
{
    (void)state;
    const char *root = temp_dir();
    char command[1024];
    (void)snprintf(command, sizeof(command),
                   "cp -r '%s/proc-linux-6.18/.' '%s'", PSC_TEST_DATA, root);
    assert_int_equal(system(command), 0);
    char meminfo[512], slabinfo[512];
    (void)snprintf(meminfo, sizeof(meminfo), "%s/proc/meminfo", root);
    (void)snprintf(slabinfo, sizeof(slabinfo), "%s/proc/slabinfo", root);
    off_t free_at = digit_after(meminfo, "MemFree:");
    off_t dentry_at = digit_after(slabinfo, "\ndentry");

    struct bench *b = bench_init(agent_sources, root);
    for (int i = 0; i < 10; i++) {
        touch_file(meminfo, free_at, i);
        touch_file(slabinfo, dentry_at, i);
        tick(b, i == 0 ? ALL : TAGS | COUNTERS);
    }
    struct spool_reader sent;
    spool_reader_init(&sent);
    assert_int_equal(spool_reader_start(&sent, &b->spool, b->spool.stream, 1),
                     PSC_OK);
    uint64_t bytes = b->spool.bytes;
    unsigned long before = n_allocations;
    for (int i = 0; i < 100; i++) {
        touch_file(meminfo, free_at, i);
        touch_file(slabinfo, dentry_at, i);
        tick(b, TAGS | COUNTERS);
        struct spool_record record;
        assert_int_equal(spool_read(&b->spool, &sent, &record), PSC_OK);
    }
    unsigned long counted = n_allocations - before;
    print_message("100 steady ticks: %lu allocations, %llu bytes a batch\n",
                  counted, (unsigned long long)(b->spool.bytes - bytes) / 100);
    spool_reader_fini(&sent, &b->spool);
    check_bench(b);
    assert_true(b->tags.grid.n_live > 50);
    assert_int_equal(counted, 0);
    bench_fini(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_carry_what_was_sampled),
        cmocka_unit_test(groups_keep_their_own_chains),
        cmocka_unit_test(large_keyframes_go_in_parts),
        cmocka_unit_test(hours_and_requests_begin_with_keyframes),
        cmocka_unit_test(inventories_travel_when_they_change),
        cmocka_unit_test(events_outlive_a_batch_that_fails),
        cmocka_unit_test(missed_ticks_ride_in_the_last_part),
        cmocka_unit_test(slow_sources_back_off),
        cmocka_unit_test(broken_sources_are_told_and_tried_again),
        cmocka_unit_test(steady_ticks_allocate_nothing),
    };
    count_allocations();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
