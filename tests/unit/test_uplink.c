/* The uplink against a scripted collector on loopback TLS: what is taken
 * arrives exactly once and in order, whatever the collector does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "common/clock.h"
#include "tests/lib/uplink_bench.h"

static void uplink_delivers_backlog_and_live(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    bench_take(b, 300); /* more than the window */
    bench_start(b);
    bench_drain(b);
    b->to_take = 50;
    bench_drain(b);
    assert_int_equal(b->fake.n_streams, 1);
    assert_int_equal(b->fake.stored[0].n, 350);
    assert_int_equal(b->fake.stored[0].skipped, 0);
    assert_int_equal(b->fake.n_duplicates, 0);
    assert_int_equal(b->fake.n_hellos, 1);
    assert_int_equal(b->spool.n_segments, 1);
    bench_run_ms(b, 150);
    assert_true(b->fake.n_heartbeats > 0);
    bench_fini(b);
}

static void heartbeats_go_with_batches(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    bench_start(b);
    bench_take(b, 1);
    bench_drain(b);
    unsigned before = b->fake.n_heartbeats;
    int64_t start_us = psc_clock_mono_us();
    for (int i = 0; i < 60; i++) { /* far more often than heartbeats */
        b->to_take = 1;
        bench_run_ms(b, 10);
    }
    unsigned beats = b->fake.n_heartbeats - before;
    int64_t passed_ms = (psc_clock_mono_us() - start_us) / 1000;
    /* One for each nine tenths of their 50 ms. */
    assert_in_range(beats, 2, passed_ms / 45 + 1);
    bench_drain(b);
    bench_fini(b);
}

static void uplink_asks_for_a_keyframe_without_backlog(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    bench_start(b);
    while (b->uplink.state != UPLINK_LIVE) {
        bench_turn(b);
    }
    assert_int_equal(b->n_wants, 1);
    b->to_take = 20;
    bench_drain(b);
    /* Cut, and nothing waits: the next batch begins anew. */
    fake_cut(&b->fake);
    while (b->n_wants < 2) {
        bench_turn(b);
    }
    b->to_take = 20;
    bench_drain(b);
    assert_int_equal(b->fake.stored[0].n, 40);
    assert_int_equal(b->fake.n_duplicates, 0);
    bench_fini(b);
}

static void uplink_resends_after_cuts(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    b->fake.cut_every = 37;
    bench_take(b, 100);
    bench_start(b);
    b->to_take = 400;
    bench_drain(b);
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
    bench_take_one(b);
    b->batcher.keyframe_bytes = 1 << 20; /* deltas for long */
    bench_take(b, 99);
}

static void uplink_loses_nothing_to_short_sessions(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    take_long_group(b);
    b->fake.cut_every = 37; /* the second session ends where the first did */
    bench_start(b);
    b->to_take = 100;
    while (b->fake.n_hellos < 30) {
        bench_turn(b);
    }
    assert_int_equal(b->fake.stored[0].n, 37);
    assert_int_equal(b->spool.dropped, 0);
    b->fake.cut_every = 0; /* the link is better now */
    bench_drain(b);
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
    bench_start(b);
    while (b->n_wants == 0) {
        bench_turn(b);
    }
    b->to_take = 100; /* the first of them is a keyframe */
    bench_drain(b);
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
    bench_start(b);
    for (uint64_t at = 20; at <= 100; at += 20) { /* a collector's bad day */
        unsigned before = b->fake.n_malformed;
        b->fake.malformed = at;
        while (b->fake.n_malformed < before + 6) {
            bench_turn(b);
        }
    }
    b->fake.malformed = 0;
    bench_drain(b);
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
    bench_take(b, 10);
    bench_start(b);
    bench_run_ms(b, 600);
    assert_in_range(b->fake.n_hellos, 2, 10);
    b->fake.cut_opens = false;
    bench_drain(b);
    assert_int_equal(b->fake.stored[0].n, 10);
    assert_int_equal(b->spool.dropped, 0);
    bench_fini(b);
}

static void uplink_bounds_what_is_in_flight(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    b->fake.hold_acks = true;
    bench_take(b, 600);
    bench_start(b);
    bench_run_ms(b, 300);
    assert_int_equal(b->fake.n_batches, UPLINK_WINDOW_BATCHES);
    b->fake.hold_acks = false;
    fake_ack(&b->fake, b->fake.stored[0].cursor);
    bench_drain(b);
    assert_int_equal(b->fake.stored[0].n, 600);
    assert_int_equal(b->fake.n_hellos, 1);
    bench_fini(b);
}

static void uplink_sends_large_samples_whole(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    b->batcher.budget_bytes = 32 * 1024;
    b->n_tags = 30000; /* a keyframe in many parts, larger than the window */
    bench_take(b, 3);
    batcher_want_keyframe(&b->batcher);
    bench_take(b, 1);
    assert_true(b->spool.bytes > 2 * UPLINK_WINDOW_BYTES);
    b->fake.cut_every = 17;
    bench_start(b);
    bench_drain(b);
    b->n_tags = 20;
    assert_int_equal(b->fake.stored[0].n, b->spool.last_seq);
    assert_int_equal(b->fake.stored[0].skipped, 0);
    bench_fini(b);
}

static void uplink_starts_over_when_asked(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    b->fake.refuse_once = 60;
    bench_take(b, 100);
    bench_start(b);
    bench_drain(b);
    assert_int_equal(b->fake.stored[0].n, 100);
    assert_int_equal(b->fake.n_opens, 2);
    assert_int_equal(b->fake.n_hellos, 1);
    bench_fini(b);
}

static void uplink_skips_what_nobody_can_decode(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    bench_take(b, 400);
    assert_true(b->spool.n_segments > 2);
    b->fake.refuse_always = b->spool.segments[0].last_seq;
    bench_start(b);
    bench_drain(b);
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
    bench_take(b, 10);
    bench_start(b);
    bench_run_ms(b, 250);
    assert_int_equal(b->fake.n_hellos, 1); /* slowly */
    bench_run_ms(b, 250);
    assert_int_equal(b->fake.n_hellos, 2);
    b->fake.refusal = 0;
    bench_drain(b);
    assert_int_equal(b->fake.stored[0].n, 10);
    bench_fini(b);
}

static void uplink_waits_as_long_as_told(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    b->fake.refusal = WIRE_REFUSAL_BUSY;
    b->fake.retry_after_us = 400 * 1000;
    bench_start(b);
    bench_run_ms(b, 350);
    assert_int_equal(b->fake.n_hellos, 1);
    b->fake.retry_after_us = 0;
    bench_run_ms(b, 350);
    assert_true(b->fake.n_hellos > 3);
    bench_fini(b);
}

static void uplink_sends_older_streams_first(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    for (int i = 0; i < 3; i++) {
        bench_take(b, 40);
        batcher_fini(&b->batcher);
        spool_close(&b->spool);
        bench_open_spool(b);
    }
    bench_take(b, 40);
    bench_start(b);
    bench_drain(b);
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
    bench_take(b, 10);
    b->fake.cursor_ahead = 20;
    bench_start(b);
    while (b->uplink.state != UPLINK_LIVE) {
        bench_turn(b);
    }
    b->to_take = 10;
    bench_drain(b);
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
    bench_start(b);
    b->to_take = 300;
    while (b->fake.n_batches < UPLINK_WINDOW_BATCHES) {
        bench_turn(b);
    }
    b->spool.o.max_bytes = 16 * 1024; /* two segments */
    bench_take(b, 600);
    assert_true(b->spool.dropped > 0);
    b->fake.hold_acks = false;
    fake_ack(&b->fake, b->fake.stored[0].cursor);
    bench_drain(b);
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
    bench_take(b, 10);
    bench_start(b);
    bench_drain(b);
    assert_int_equal(b->second.stored[0].n, 10);
    /* It keeps to the one that works. */
    fake_cut(&b->second);
    b->to_take = 10;
    bench_run_ms(b, 50);
    bench_drain(b);
    assert_int_equal(b->second.n_hellos, 2);
    assert_int_equal(b->second.stored[0].n, 20);
    assert_int_equal(b->uplink.current, 1);

    /* A new configuration takes it elsewhere. */
    (void)snprintf(b->collectors, sizeof(b->collectors), "127.0.0.1:%.5s",
                   b->fake.port);
    struct psc_error err = {.msg = ""};
    assert_int_equal(uplink_reload(&b->uplink, false, &err), PSC_OK);
    b->to_take = 10;
    while (b->fake.n_hellos == 0) {
        bench_turn(b);
    }
    bench_drain(b);
    assert_int_equal(b->fake.n_hellos, 1);

    /* One that changes nothing of the session, and one that it tells. */
    assert_int_equal(uplink_reload(&b->uplink, false, &err), PSC_OK);
    bench_run_ms(b, 50);
    assert_int_equal(b->fake.n_hellos, 1);
    assert_int_equal(uplink_reload(&b->uplink, true, &err), PSC_OK);
    while (b->fake.n_hellos == 1) {
        bench_turn(b);
    }
    bench_drain(b);
    assert_int_equal(b->fake.n_hellos, 2);
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
    bench_take(b, 10);
    int64_t begin = psc_clock_mono_us();
    bench_start(b);
    bench_drain(b);
    int64_t took_ms = (psc_clock_mono_us() - begin) / 1000;
    assert_in_range(took_ms, b->pace.idle_ms / 2, b->pace.idle_ms * 3);
    assert_int_equal(b->second.stored[0].n, 10);
    bench_fini(b);
}

static void uplink_ends_with_a_lying_collector(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    bench_take(b, 10);
    b->fake.false_ack = 1000;
    bench_start(b);
    bench_drain(b);
    assert_int_equal(b->fake.n_hellos, 2);
    assert_int_equal(b->fake.stored[0].n, 10);
    bench_fini(b);
}

static void backoff_doubles_within_bounds(void **state)
{
    (void)state;
    const struct uplink_pace *p = &uplink_default_pace;
    for (unsigned round = 0; round < 40; round++) {
        int64_t full = round < 5 ? 1000LL << round : 30000;
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
        cmocka_unit_test(backoff_doubles_within_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
