/* The uplink against a scripted collector on loopback TLS: what is taken
 * arrives exactly once and in order, whatever the collector does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "agent/batch.h"
#include "agent/uplink.h"
#include "common/clock.h"
#include "tests/lib/certs.h"
#include "tests/lib/fake_collector.h"
#include "tests/lib/temp.h"

enum { TEST_TIMEOUT_MS = 20000 };

/* --- an agent --- */

static uint32_t n_samples, n_tags = 20;

static int steps_open(const struct source_env *env, void **state,
                      struct psc_error *err)
{
    (void)env;
    (void)err;
    *state = NULL;
    return PSC_OK;
}

static int steps_collect(void *state, struct sample *out, struct psc_error *err)
{
    (void)state;
    (void)err;
    n_samples++;
    for (unsigned i = 0; i < n_tags; i++) {
        char name[16];
        int n = snprintf(name, sizeof(name), "t%u", i);
        struct tag_values v = {.flags = TAG_BYTES,
                               .bytes = n_samples * (i + 1)};
        (void)sample_tag(out, POOL_SLAB, name, (size_t)n, &v);
    }
    return PSC_OK;
}

static const struct source source_steps = {.name = "steps",
                                           .group = SOURCE_TAGS,
                                           .open = steps_open,
                                           .collect = steps_collect};
static const struct source *const steps[] = {&source_steps, NULL};

struct bench {
    uv_loop_t loop;
    uv_timer_t timeout, take;
    unsigned to_take; /* batches that `take` shall still produce */
    struct certs certs;
    struct fake fake, second;
    const char *state_dir;
    struct options options;
    struct host_facts facts;
    struct identity identity;
    struct collect collect;
    struct spool spool;
    struct batcher batcher;
    struct uplink uplink;
    struct uplink_pace pace;
    unsigned n_wants, n_stopped;
    char collectors[128];
    char token[PSC_TOKEN_TEXT_BYTES];
};

static struct bench bench;

static void on_timeout(uv_timer_t *timer)
{
    (void)timer;
    fail_msg("timed out in state %s", uplink_state_name(bench.uplink.state));
}

static void on_want_keyframe(void *user)
{
    struct bench *b = user;
    b->n_wants++;
    batcher_want_keyframe(&b->batcher);
}

static void on_stopped(void *user)
{
    struct bench *b = user;
    b->n_stopped++;
    uplink_fini(&b->uplink);
}

static void take_one(struct bench *b)
{
    struct batch_time time = {psc_clock_wall_us(), psc_clock_boot_us(),
                              psc_clock_mono_us()};
    collect_run(&b->collect, 1u << SOURCE_TAGS);
    assert_int_equal(
        batcher_take(&b->batcher, &b->collect, 1u << SOURCE_TAGS, 0, &time),
        PSC_OK);
    uplink_kick(&b->uplink);
}

static void take(struct bench *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        take_one(b);
    }
}

static void on_take(uv_timer_t *timer)
{
    struct bench *b = timer->data;
    if (b->to_take > 0) {
        b->to_take--;
        take_one(b);
    }
}

static void open_bench_spool(struct bench *b)
{
    struct psc_error err = {.msg = ""};
    struct spool_options o = {
        .dir = b->state_dir,
        .max_bytes = 64 << 20,
        .segment_bytes = 8192,
        .memory_bytes = SPOOL_MEMORY_BYTES,
        .fs = &spool_fs_uv,
    };
    assert_int_equal(spool_open(&b->spool, &o, &err), PSC_OK);
    batcher_init(&b->batcher, &b->spool, b->facts.boot_id);
}

static void write_identity(struct bench *b, int64_t valid_s)
{
    struct host_certs host;
    certs_host(&b->certs, FAKE_HOST_ID, valid_s, &host);
    char both[16384];
    int n = snprintf(both, sizeof(both), "%s%s", host.key_pem, host.pem);
    temp_write(temp_path(b->state_dir, "identity.pem"), both, (unsigned long)n);
    temp_write(temp_path(b->state_dir, "ca.pem"), b->certs.ca_pem,
               strlen(b->certs.ca_pem));
    host_certs_fini(&host);
}

static void load_identity(struct bench *b)
{
    struct psc_error err = {.msg = ""};
    assert_int_equal(identity_init(&b->identity, b->state_dir, &err), PSC_OK);
}

static struct bench *bench_init(int64_t valid_s)
{
    struct bench *b = &bench;
    memset(b, 0, sizeof(*b));
    struct psc_error err = {.msg = ""};
    assert_int_equal(uv_loop_init(&b->loop), 0);
    certs_init(&b->certs);
    b->state_dir = temp_dir();
    if (valid_s != 0) {
        write_identity(b, valid_s);
    }
    load_identity(b);
    fake_start(&b->fake, &b->loop, &b->certs);
    fake_start(&b->second, &b->loop, &b->certs);
    struct source_env env = {.root = ""};
    assert_int_equal(collect_init(&b->collect, steps, &env, &err), PSC_OK);
    open_bench_spool(b);
    b->pace = (struct uplink_pace){.backoff_min_ms = 10,
                                   .backoff_max_ms = 50,
                                   .refused_ms = 300,
                                   .heartbeat_ms = 50,
                                   .idle_ms = 1000,
                                   .handshake_ms = 3000};
    (void)snprintf(b->collectors, sizeof(b->collectors), "127.0.0.1:%.5s",
                   b->fake.port);
    b->options.collector = b->collectors;
    b->options.labels = "rack=r7";
    b->options.interval_us = 1000000;
    (void)snprintf(b->facts.name, sizeof(b->facts.name), "host");
    (void)snprintf(b->facts.os, sizeof(b->facts.os), "linux");
    assert_int_equal(uv_timer_init(&b->loop, &b->timeout), 0);
    assert_int_equal(
        uv_timer_start(&b->timeout, on_timeout, TEST_TIMEOUT_MS, 0), 0);
    assert_int_equal(uv_timer_init(&b->loop, &b->take), 0);
    b->take.data = b;
    assert_int_equal(uv_timer_start(&b->take, on_take, 1, 1), 0);
    return b;
}

static void start(struct bench *b)
{
    struct uplink_settings settings = {
        .loop = &b->loop,
        .spool = &b->spool,
        .identity = &b->identity,
        .options = &b->options,
        .facts = &b->facts,
        .pace = &b->pace,
        .on_want_keyframe = on_want_keyframe,
        .on_stopped = on_stopped,
        .user = b,
    };
    struct psc_error err = {.msg = ""};
    assert_int_equal(uplink_init(&b->uplink, &settings, &err), PSC_OK);
    uplink_start(&b->uplink);
}

static void turn(struct bench *b)
{
    (void)uv_run(&b->loop, UV_RUN_ONCE);
}

static void stop(struct bench *b)
{
    int64_t begin = psc_clock_mono_us();
    unsigned before = b->n_stopped;
    uplink_stop(&b->uplink);
    while (b->n_stopped == before) {
        turn(b);
    }
    assert_true(psc_clock_mono_us() - begin < 1000000);
}

static void bench_fini(struct bench *b)
{
    stop(b);
    fake_stop(&b->fake);
    fake_stop(&b->second);
    uv_close((uv_handle_t *)&b->timeout, NULL);
    uv_close((uv_handle_t *)&b->take, NULL);
    (void)uv_run(&b->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&b->loop), 0);
    fake_free(&b->fake);
    fake_free(&b->second);
    batcher_fini(&b->batcher);
    collect_fini(&b->collect);
    spool_close(&b->spool);
    identity_fini(&b->identity);
    certs_fini(&b->certs);
}

static uint64_t acked(const struct bench *b)
{
    return spool_acked(&b->spool, b->spool.stream);
}

/* Run until all that was taken is acknowledged. */
static void drain(struct bench *b)
{
    while (b->to_take > 0 || acked(b) < b->spool.last_seq) {
        turn(b);
    }
}

static void run_ms(struct bench *b, int64_t ms)
{
    int64_t end = psc_clock_mono_us() + ms * 1000;
    while (psc_clock_mono_us() < end) {
        turn(b);
    }
}

/* --- the cases --- */

static void uplink_delivers_backlog_and_live(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    take(b, 300); /* more than the window */
    start(b);
    drain(b);
    b->to_take = 50;
    drain(b);
    assert_int_equal(b->fake.n_streams, 1);
    assert_int_equal(b->fake.stored[0].n, 350);
    assert_int_equal(b->fake.stored[0].skipped, 0);
    assert_int_equal(b->fake.n_duplicates, 0);
    assert_int_equal(b->fake.n_hellos, 1);
    assert_int_equal(b->spool.n_segments, 1);
    run_ms(b, 150);
    assert_true(b->fake.n_heartbeats > 0);
    bench_fini(b);
}

static void heartbeats_go_with_batches(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    start(b);
    take(b, 1);
    drain(b);
    unsigned before = b->fake.n_heartbeats;
    for (int i = 0; i < 60; i++) { /* far more often than heartbeats */
        b->to_take = 1;
        run_ms(b, 10);
    }
    unsigned beats = b->fake.n_heartbeats - before;
    assert_in_range(beats, 2, 600 / 45); /* nine tenths of their 50 ms */
    drain(b);
    bench_fini(b);
}

static void uplink_asks_for_a_keyframe_without_backlog(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    start(b);
    while (b->uplink.state != UPLINK_LIVE) {
        turn(b);
    }
    assert_int_equal(b->n_wants, 1);
    b->to_take = 20;
    drain(b);
    /* Cut, and nothing waits: the next batch begins anew. */
    fake_cut(&b->fake);
    while (b->n_wants < 2) {
        turn(b);
    }
    b->to_take = 20;
    drain(b);
    assert_int_equal(b->fake.stored[0].n, 40);
    assert_int_equal(b->fake.n_duplicates, 0);
    bench_fini(b);
}

static void uplink_resends_after_cuts(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    b->fake.cut_every = 37;
    take(b, 100);
    start(b);
    b->to_take = 400;
    drain(b);
    assert_int_equal(b->fake.stored[0].n, 500);
    assert_int_equal(b->fake.stored[0].skipped, 0);
    assert_true(b->fake.n_hellos > 10);
    assert_int_equal(b->spool.dropped, 0);
    bench_fini(b);
}

/* One group of 100 batches: a keyframe, and deltas behind it. */
static void take_long_group(struct bench *b)
{
    b->spool.o.segment_bytes = 1 << 20;
    take_one(b);
    b->batcher.keyframe_bytes = 1 << 20; /* deltas for long */
    take(b, 99);
}

static void uplink_loses_nothing_to_short_sessions(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    take_long_group(b);
    b->fake.cut_every = 37; /* the second session ends where the first did */
    start(b);
    b->to_take = 100;
    while (b->fake.n_hellos < 30) {
        turn(b);
    }
    assert_int_equal(b->fake.stored[0].n, 37);
    assert_int_equal(b->spool.dropped, 0);
    b->fake.cut_every = 0; /* the link is better now */
    drain(b);
    assert_int_equal(b->fake.stored[0].n, 200);
    assert_int_equal(b->fake.stored[0].skipped, 0);
    assert_int_equal(b->spool.dropped, 0);
    bench_fini(b);
}

static void uplink_gives_up_what_is_refused(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    take_long_group(b);
    b->fake.malformed = 61;
    start(b);
    while (b->n_wants == 0) {
        turn(b);
    }
    b->to_take = 100; /* the first of them is a keyframe */
    drain(b);
    /* The group's rest is given up and counted, what follows arrives. */
    assert_int_equal(b->fake.n_malformed, 1 + 10); /* one got so far */
    assert_int_equal(b->fake.stored[0].skipped, 40);
    assert_int_equal(b->spool.dropped, 40);
    assert_int_equal(b->fake.stored[0].n, 160);
    bench_fini(b);
}

static void uplink_counts_refusals_without_progress(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    take_long_group(b);
    start(b);
    for (uint64_t at = 20; at <= 100; at += 20) { /* a collector's bad day */
        unsigned before = b->fake.n_malformed;
        b->fake.malformed = at;
        while (b->fake.n_malformed < before + 6) {
            turn(b);
        }
    }
    b->fake.malformed = 0;
    drain(b);
    assert_int_equal(b->fake.stored[0].n, 100);
    assert_int_equal(b->spool.dropped, 0);
    bench_fini(b);
}

static void uplink_backs_off_from_sessions_without_use(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    b->pace.backoff_min_ms = 50;
    b->pace.backoff_max_ms = 200;
    b->fake.cut_opens = true;
    take(b, 10);
    start(b);
    run_ms(b, 600);
    assert_in_range(b->fake.n_hellos, 2, 10);
    b->fake.cut_opens = false;
    drain(b);
    assert_int_equal(b->fake.stored[0].n, 10);
    assert_int_equal(b->spool.dropped, 0);
    bench_fini(b);
}

static void uplink_bounds_what_is_in_flight(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    b->fake.hold_acks = true;
    take(b, 600);
    start(b);
    run_ms(b, 300);
    assert_int_equal(b->fake.n_batches, UPLINK_WINDOW_BATCHES);
    b->fake.hold_acks = false;
    fake_ack(&b->fake, b->fake.stored[0].cursor);
    drain(b);
    assert_int_equal(b->fake.stored[0].n, 600);
    assert_int_equal(b->fake.n_hellos, 1);
    bench_fini(b);
}

static void uplink_sends_large_samples_whole(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    b->batcher.budget_bytes = 32 * 1024;
    n_tags = 30000; /* a keyframe in many parts, larger than the window */
    take(b, 3);
    batcher_want_keyframe(&b->batcher);
    take(b, 1);
    assert_true(b->spool.bytes > 2 * UPLINK_WINDOW_BYTES);
    b->fake.cut_every = 17;
    start(b);
    drain(b);
    n_tags = 20;
    assert_int_equal(b->fake.stored[0].n, b->spool.last_seq);
    assert_int_equal(b->fake.stored[0].skipped, 0);
    bench_fini(b);
}

static void uplink_starts_over_when_asked(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    b->fake.refuse_once = 60;
    take(b, 100);
    start(b);
    drain(b);
    assert_int_equal(b->fake.stored[0].n, 100);
    assert_int_equal(b->fake.n_opens, 2);
    assert_int_equal(b->fake.n_hellos, 1);
    bench_fini(b);
}

static void uplink_skips_what_nobody_can_decode(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    take(b, 400);
    assert_true(b->spool.n_segments > 2);
    b->fake.refuse_always = b->spool.segments[0].last_seq;
    start(b);
    drain(b);
    assert_int_equal(b->fake.stored[0].n + b->fake.stored[0].skipped, 400);
    assert_int_equal(b->fake.stored[0].skipped, 1);
    assert_int_equal(b->spool.dropped, 1);
    assert_int_equal(b->fake.n_hellos, 1);
    bench_fini(b);
}

static void uplink_honours_lasting_refusals(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    b->fake.refusal = WIRE_REFUSAL_DISABLED;
    take(b, 10);
    start(b);
    run_ms(b, 250);
    assert_int_equal(b->fake.n_hellos, 1); /* slowly */
    run_ms(b, 250);
    assert_int_equal(b->fake.n_hellos, 2);
    b->fake.refusal = 0;
    drain(b);
    assert_int_equal(b->fake.stored[0].n, 10);
    bench_fini(b);
}

static void uplink_waits_as_long_as_told(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    b->fake.refusal = WIRE_REFUSAL_BUSY;
    b->fake.retry_after_us = 400 * 1000;
    start(b);
    run_ms(b, 350);
    assert_int_equal(b->fake.n_hellos, 1);
    b->fake.retry_after_us = 0;
    run_ms(b, 350);
    assert_true(b->fake.n_hellos > 3);
    bench_fini(b);
}

static void uplink_sends_older_streams_first(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    for (int i = 0; i < 3; i++) {
        take(b, 40);
        batcher_fini(&b->batcher);
        spool_close(&b->spool);
        open_bench_spool(b);
    }
    take(b, 40);
    start(b);
    drain(b);
    assert_int_equal(b->fake.n_streams, 4);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(b->fake.stored[i].n, 40);
        assert_int_equal(b->fake.stored[i].skipped, 0);
    }
    assert_memory_equal(b->fake.stored[3].stream, b->spool.stream, 16);
    assert_int_equal(b->fake.n_hellos, 1);
    assert_int_equal(b->fake.n_opens, 4);
    assert_int_equal(b->spool.dropped, 0);
    bench_fini(b);
}

static void uplink_leaves_a_stream_that_is_ahead(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    take(b, 10);
    b->fake.cursor_ahead = 20;
    start(b);
    while (b->uplink.state != UPLINK_LIVE) {
        turn(b);
    }
    b->to_take = 10;
    drain(b);
    assert_int_equal(b->fake.n_streams, 2);
    assert_int_equal(b->fake.stored[1].n, 10);
    assert_int_equal(b->fake.stored[1].skipped, 0);
    bench_fini(b);
}

static void uplink_opens_again_after_dropping(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    b->fake.hold_acks = true;
    start(b);
    b->to_take = 300;
    while (b->fake.n_batches < UPLINK_WINDOW_BATCHES) {
        turn(b);
    }
    b->spool.o.max_bytes = 16 * 1024; /* two segments */
    take(b, 600);
    assert_true(b->spool.dropped > 0);
    b->fake.hold_acks = false;
    fake_ack(&b->fake, b->fake.stored[0].cursor);
    drain(b);
    assert_int_equal(b->fake.stored[0].n + b->fake.stored[0].skipped,
                     b->spool.last_seq);
    assert_true(b->fake.stored[0].skipped > 0);
    assert_true(b->fake.dropped_told >= b->fake.stored[0].skipped);
    assert_int_equal(b->fake.n_hellos, 1);
    assert_int_equal(b->fake.n_opens, 2);
    bench_fini(b);
}

static void uplink_turns_to_the_next_collector(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    (void)snprintf(b->collectors, sizeof(b->collectors),
                   "127.0.0.1:1, 127.0.0.1:%.5s", b->second.port);
    take(b, 10);
    start(b);
    drain(b);
    assert_int_equal(b->second.stored[0].n, 10);
    /* It keeps to the one that works. */
    fake_cut(&b->second);
    b->to_take = 10;
    run_ms(b, 50);
    drain(b);
    assert_int_equal(b->second.n_hellos, 2);
    assert_int_equal(b->second.stored[0].n, 20);
    assert_int_equal(b->uplink.current, 1);

    /* A new configuration takes it elsewhere. */
    (void)snprintf(b->collectors, sizeof(b->collectors), "127.0.0.1:%.5s",
                   b->fake.port);
    struct psc_error err = {.msg = ""};
    assert_int_equal(uplink_reload(&b->uplink, &err), PSC_OK);
    b->to_take = 10;
    while (b->fake.n_hellos == 0) {
        turn(b);
    }
    drain(b);
    assert_int_equal(b->fake.n_hellos, 1);
    bench_fini(b);
}

static void uplink_notices_a_dead_peer(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    b->fake.silent = true;
    (void)snprintf(b->collectors, sizeof(b->collectors),
                   "127.0.0.1:%.5s, 127.0.0.1:%.5s", b->fake.port,
                   b->second.port);
    take(b, 10);
    int64_t begin = psc_clock_mono_us();
    start(b);
    drain(b);
    int64_t took_ms = (psc_clock_mono_us() - begin) / 1000;
    assert_in_range(took_ms, b->pace.idle_ms / 2, b->pace.idle_ms * 3);
    assert_int_equal(b->second.stored[0].n, 10);
    bench_fini(b);
}

static void uplink_ends_with_a_lying_collector(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    take(b, 10);
    b->fake.false_ack = 1000;
    start(b);
    drain(b);
    assert_int_equal(b->fake.n_hellos, 2);
    assert_int_equal(b->fake.stored[0].n, 10);
    bench_fini(b);
}

static void make_token(struct bench *b, uint8_t ca_byte)
{
    struct psc_token token;
    memset(token.secret, 5, sizeof(token.secret));
    memcpy(token.ca_sha256, b->certs.ca_sha256, sizeof(token.ca_sha256));
    token.ca_sha256[0] ^= ca_byte;
    psc_token_format(&token, b->token);
    b->options.token = b->token;
}

static void uplink_enrols_first(void **state)
{
    (void)state;
    struct bench *b = bench_init(0);
    make_token(b, 0);
    take(b, 10);
    start(b);
    drain(b);
    assert_int_equal(b->fake.n_enrols, 1);
    assert_int_equal(b->fake.stored[0].n, 10);
    assert_int_equal(b->identity.host_id, FAKE_HOST_ID);
    struct stat st;
    assert_int_equal(stat(temp_path(b->state_dir, "identity.pem"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_not_equal(stat(temp_path(b->state_dir, "pending.pem"), &st), 0);
    bench_fini(b);
}

static void uplink_keeps_the_secret_from_strangers(void **state)
{
    (void)state;
    struct bench *b = bench_init(0);
    make_token(b, 1); /* another CA's */
    start(b);
    run_ms(b, 200);
    assert_true(b->fake.n_sessions > 0);
    assert_int_equal(b->fake.n_enrols, 0);
    bench_fini(b);
}

static void uplink_keeps_trying_to_enrol(void **state)
{
    (void)state;
    struct bench *b = bench_init(0);
    start(b); /* no token yet */
    run_ms(b, 100);
    assert_int_equal(b->fake.n_sessions, 0);
    make_token(b, 0);
    b->fake.refusal = WIRE_REFUSAL_TOKEN;
    while (b->fake.n_enrols < 2) {
        turn(b);
    }
    b->fake.refusal = 0;
    take(b, 10);
    drain(b);
    assert_int_equal(b->fake.stored[0].n, 10);
    bench_fini(b);
}

static void uplink_renews_its_certificate(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    b->identity.not_before_us -= 3600 * 1000000LL * 3; /* older than it is */
    start(b);
    while (b->fake.n_renews == 0 || b->uplink.ctx != NULL) {
        turn(b);
    }
    assert_false(identity_renew_due(&b->identity, psc_clock_wall_us()));
    assert_int_equal(b->fake.n_hellos, 1); /* the session goes on */
    b->to_take = 10;
    drain(b);
    fake_cut(&b->fake);
    b->to_take = 10;
    run_ms(b, 50);
    drain(b);
    assert_int_equal(b->fake.stored[0].n, 20);
    bench_fini(b);
}

static void uplink_renews_after_expiry(void **state)
{
    (void)state;
    struct bench *b = bench_init(-3600);
    take(b, 10);
    start(b);
    drain(b);
    assert_int_equal(b->fake.n_renews, 1);
    assert_int_equal(b->fake.n_hellos, 1);
    assert_int_equal(b->fake.stored[0].n, 10);
    bench_fini(b);
}

static void backoff_doubles_within_bounds(void **state)
{
    (void)state;
    const struct uplink_pace *p = &uplink_default_pace;
    for (unsigned round = 0; round < 40; round++) {
        int64_t full = round < 6 ? 1000LL << round : 60000;
        assert_int_equal(uplink_backoff_ms(p, round, 0), full / 2);
        for (uint32_t r = 1; r < 100; r++) {
            int64_t ms = uplink_backoff_ms(p, round, r * 40503u);
            assert_in_range(ms, full / 2, full);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uplink_delivers_backlog_and_live),
        cmocka_unit_test(heartbeats_go_with_batches),
        cmocka_unit_test(uplink_asks_for_a_keyframe_without_backlog),
        cmocka_unit_test(uplink_resends_after_cuts),
        cmocka_unit_test(uplink_loses_nothing_to_short_sessions),
        cmocka_unit_test(uplink_gives_up_what_is_refused),
        cmocka_unit_test(uplink_counts_refusals_without_progress),
        cmocka_unit_test(uplink_backs_off_from_sessions_without_use),
        cmocka_unit_test(uplink_bounds_what_is_in_flight),
        cmocka_unit_test(uplink_sends_large_samples_whole),
        cmocka_unit_test(uplink_starts_over_when_asked),
        cmocka_unit_test(uplink_skips_what_nobody_can_decode),
        cmocka_unit_test(uplink_honours_lasting_refusals),
        cmocka_unit_test(uplink_waits_as_long_as_told),
        cmocka_unit_test(uplink_sends_older_streams_first),
        cmocka_unit_test(uplink_leaves_a_stream_that_is_ahead),
        cmocka_unit_test(uplink_opens_again_after_dropping),
        cmocka_unit_test(uplink_turns_to_the_next_collector),
        cmocka_unit_test(uplink_notices_a_dead_peer),
        cmocka_unit_test(uplink_ends_with_a_lying_collector),
        cmocka_unit_test(uplink_enrols_first),
        cmocka_unit_test(uplink_keeps_the_secret_from_strangers),
        cmocka_unit_test(uplink_keeps_trying_to_enrol),
        cmocka_unit_test(uplink_renews_its_certificate),
        cmocka_unit_test(uplink_renews_after_expiry),
        cmocka_unit_test(backoff_doubles_within_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
