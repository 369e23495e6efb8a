/* A leak that opens and ends while nobody detects is told afterwards as an
 * uninterrupted run would have told it: two hosts have the same samples, one
 * is watched all the time, the other's are looked at when all is over and most
 * of them are in chunks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <signal.h>

#include "common/clock.h"
#include "tests/lib/peer.h"
#include "tests/lib/world.h"

enum { ACK_S = 60, FOUND_S = 60, STEP_MINUTES = 2 };

#define MINUTE_US (60 * PSC_US_PER_S)
#define DAY_US    (86400 * PSC_US_PER_S)
#define MIB       (1024.0 * 1024.0)

/* Minutes ago: the leak begins, ends and is given back. */
enum { FIRST = 24 * 60, ONSET = 18 * 60, END = 10 * 60 };

static struct world world;

static void enrol(struct peer_identity *id, const char *host)
{
    peer_identity_init(id, host);
    assert_int_equal(peer_enrol(id, world.port, world_token(&world, "1")), 0);
}

static void begin(struct peer *p, const struct peer_identity *id, uint8_t byte)
{
    assert_true(peer_connect(p, world.port, id));
    p->boot_us = (uint64_t)(10 * DAY_US);
    p->interval_us = STEP_MINUTES * MINUTE_US;
    assert_int_equal(peer_hello(p), 0);
    (void)peer_open(p, byte);
}

/* 10 MiB a minute for eight hours, of 32 GiB. */
static void send_history(struct peer *p, int from, int to)
{
    for (int ago = from; ago > to; ago -= STEP_MINUTES) {
        double leaked = ago < ONSET && ago > END ? (ONSET - ago) * 10 * MIB : 0;
        p->boot_us = (uint64_t)(10 * DAY_US - ago * MINUTE_US);
        peer_tag(p, "leaky", (int64_t)(20 * MIB + leaked));
        peer_tag(p, "steady", 1000000 + ago % 7 * 4096);
        peer_counter(p, "node_memory_MemAvailable_bytes", 16384 * MIB - leaked);
        peer_counter(p, "node_memory_MemTotal_bytes", 32768 * MIB);
        assert_true(peer_batch(p, p->tags_seq == 0, 0, NULL));
    }
    assert_true(peer_await_ack(p, p->seq - 1, ACK_S));
}

/* @to has stored what @from has, in either tier. */
static void copy_samples(PGconn *owner, const char *from, const char *to)
{
    static const char *const copies[] = {
        "INSERT INTO poolscope_data.fresh SELECT t.host_id, n, at, wall_at, "
        "first_seq, seq, boot_id, stream, slot, tags_kind, counters_kind, "
        "tags, counters FROM poolscope_data.fresh s, f, t "
        "WHERE s.host_id = f.host_id",
        "INSERT INTO poolscope_data.tag_chunk SELECT t.host_id, span_at, "
        "n_from, n_to, at_from, at_to, snapshots, head, levels, data "
        "FROM poolscope_data.tag_chunk s, f, t WHERE s.host_id = f.host_id",
        "INSERT INTO poolscope_data.counter_chunk SELECT t.host_id, span_at, "
        "n_from, n_to, at_from, at_to, snapshots, head, levels, data "
        "FROM poolscope_data.counter_chunk s, f, t WHERE s.host_id = f.host_id",
        "INSERT INTO poolscope_data.host_settle AS o SELECT t.host_id, "
        "s.tags_n, s.counters_n FROM poolscope_data.host_settle s, f, t "
        "WHERE s.host_id = f.host_id ON CONFLICT (host_id) DO UPDATE SET "
        "tags_n = excluded.tags_n, counters_n = excluded.counters_n",
        "UPDATE poolscope_data.host_state o SET interval_us = s.interval_us "
        "FROM poolscope_data.host_state s, f, t "
        "WHERE s.host_id = f.host_id AND o.host_id = t.host_id",
        "UPDATE poolscope_data.ingest_cursor o SET n = s.n "
        "FROM poolscope_data.ingest_cursor s, f, t "
        "WHERE s.host_id = f.host_id AND o.host_id = t.host_id"};
    for (size_t i = 0; i < sizeof(copies) / sizeof(copies[0]); i++) {
        (void)test_sql_textf(
            owner,
            "WITH f AS (SELECT host_id FROM poolscope_data.host WHERE host = "
            "'%s'), t AS (SELECT host_id FROM poolscope_data.host WHERE host = "
            "'%s'), done AS (%s RETURNING 1) SELECT count(*) FROM done",
            from, to, copies[i]);
    }
}

/* What is told of a host's leaks, and of their life; without what is counted
 * over the fleet or known only of live hosts. */
static const char *told_of(const char *host)
{
    char sql[2048];
    (void)snprintf(
        sql, sizeof(sql),
        "SELECT string_agg(jsonb_build_array(l.state, l.tag, l.tags, "
        "l.bytes_per_day, l.onset_at, l.detected_at, l.updated_at, "
        "l.resolved_at, l.confidence, l.summary, h.state, h.bytes, "
        "h.detected_at, (SELECT jsonb_agg(jsonb_build_array(e.at, e.kind, "
        "e.severity, e.details) ORDER BY e.at, e.kind) "
        "FROM poolscope.leak_event e WHERE e.leak_id = l.leak_id))::text, "
        "'\n' ORDER BY l.detected_at) FROM poolscope.leak l "
        "JOIN poolscope.leak_host h USING (leak_id) WHERE h.host = '%s'",
        host);
    return world_text(&world, sql);
}

static void await_resolved(const char *host)
{
    char sql[256];
    (void)snprintf(sql, sizeof(sql),
                   "SELECT count(*) = 1 FROM poolscope.leak "
                   "JOIN poolscope.leak_host h USING (leak_id) "
                   "WHERE host = '%s' AND leak.state = 'resolved'",
                   host);
    world_await(&world, FOUND_S, sql);
}

static void what_nobody_watched_is_told_as_if_watched(void **state)
{
    (void)state;
    static const char lock[] = "SELECT pg_advisory_lock(hashtext('poolscope'), "
                               "hashtext('detection'))";
    struct peer_identity watched, unwatched;
    struct peer p;
    enrol(&watched, "watched");
    enrol(&unwatched, "unwatched");
    begin(&p, &unwatched, 1);
    peer_close(&p);
    begin(&p, &watched, 2);
    send_history(&p, FIRST, 0);
    await_resolved("watched");
    peer_close(&p);
    world_await(&world, FOUND_S,
                "SELECT (SELECT count(*) > 10 FROM poolscope_data.tag_chunk) "
                "AND count(*) > 10 FROM poolscope_data.counter_chunk");

    /* Another process has the lock, and dies. */
    world_collector_stop(&world, SIGKILL);
    PGconn *other = test_database_connect(&world.db, DATABASE_OWNER);
    test_sql(other, lock);
    copy_samples(other, "watched", "unwatched");
    world_collector_start(&world);
    world_await(&world, FOUND_S, "SELECT count(*) = 2 FROM poolscope.host");
    assert_int_equal(
        world_metric(&world, "poolscope_collector_detect_snapshots_total"), 0);
    PQfinish(other);
    const char *expected = told_of("watched");
    await_resolved("unwatched");
    print_message("%s\n", expected);
    assert_string_equal(told_of("unwatched"), expected);
    assert_string_equal(told_of("watched"), expected);
    peer_identity_fini(&watched);
    peer_identity_fini(&unwatched);
}

/* How far detection has come was not noted: it says all of it once more. */
static void what_is_told_again_changes_nothing(void **state)
{
    (void)state;
    const char *expected = told_of("watched");
    world_collector_stop(&world, SIGKILL);
    long long n = world_int(&world, "SELECT sum(n) FROM "
                                    "poolscope_data.ingest_cursor");
    PGconn *owner = test_database_connect(&world.db, DATABASE_OWNER);
    test_sql(owner, "UPDATE poolscope_data.detect_position SET n = 0");
    PQfinish(owner);
    world_collector_start(&world);
    world_await(&world, FOUND_S,
                "SELECT min(n) > 0 FROM poolscope_data.detect_position");
    assert_int_equal(
        world_metric(&world, "poolscope_collector_detect_snapshots_total"), n);
    assert_true(world_metric(&world, "poolscope_collector_findings_total") > 2);
    assert_string_equal(told_of("watched"), expected);
    assert_string_equal(told_of("unwatched"), expected);
}

static int start_world(void **state)
{
    (void)state;
    world_start(&world, false, NULL, NULL);
    return 0;
}

static int stop_world(void **state)
{
    (void)state;
    world_stop(&world);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_nobody_watched_is_told_as_if_watched),
        cmocka_unit_test(what_is_told_again_changes_nothing),
    };
    return cmocka_run_group_tests(tests, start_world, stop_world);
}
