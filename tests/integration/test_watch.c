/* Detection from stored samples: days of a leak come as one agent's backlog,
 * the finding is written once with its words and numbers, and a restart of
 * the collector neither forgets nor repeats it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <signal.h>

#include "common/clock.h"
#include "sql/embedded.h"
#include "tests/lib/peer.h"
#include "tests/lib/temp.h"
#include "tests/lib/world.h"

enum { ACK_S = 60, FOUND_S = 60 };

#define MINUTE_US (60 * PSC_US_PER_S)
#define DAY_US    (86400 * PSC_US_PER_S)
#define MIB       (1024.0 * 1024.0)

static struct world world;

/* Samples of @from to @to minutes ago (a smaller number), one every two. */
static void send_history(struct peer *p, int from, int to)
{
    for (int ago = from; ago > to; ago -= 2) {
        int64_t grown = (int64_t)((20000 - ago) * MIB / 10);
        p->boot_us = (uint64_t)(10 * DAY_US - ago * MINUTE_US);
        peer_tag(p, "leaky", grown);
        peer_tag(p, "lockstep", grown / 3);
        peer_tag(p, "steady", 1000000 + ago % 7 * 4096);
        peer_counter(p, "node_memory_MemAvailable_bytes",
                     16384 * MIB - (double)grown * 1.34);
        peer_counter(p, "node_memory_MemTotal_bytes", 32768 * MIB);
        assert_true(peer_batch(p, p->tags_seq == 0, 0, NULL));
    }
    assert_true(peer_await_ack(p, p->seq - 1, ACK_S));
}

/* Wait until detection has looked at all that is stored. A keyframe that was
 * read again after a restart may be counted as well. */
static void await_seen(struct peer *p)
{
    long long n =
        world_int(&world, "SELECT n FROM poolscope_data.ingest_cursor");
    for (int i = 0; i < FOUND_S; i++) {
        if (world_metric(&world,
                         "poolscope_collector_detect_snapshots_total") >= n) {
            return;
        }
        peer_listen(p, 1);
    }
    fail_msg("detection does not get on");
}

static void begin(struct peer *p, const struct peer_identity *id, uint8_t byte)
{
    assert_true(peer_connect(p, world.port, id));
    p->boot_us = (uint64_t)(10 * DAY_US);
    p->interval_us = 2 * MINUTE_US;
    assert_int_equal(peer_hello(p), 0);
    (void)peer_open(p, byte);
}

static void a_leak_is_found_and_survives_a_restart(void **state)
{
    (void)state;
    static const char leaks[] = "SELECT count(*) FROM poolscope.leak "
                                "WHERE tag = 'leaky'";
    struct peer_identity id;
    struct peer p;
    peer_identity_init(&id, "leaking");
    assert_int_equal(peer_enrol(&id, world.port, world_token(&world, "1")), 0);
    begin(&p, &id, 1);
    send_history(&p, 7 * 1440, 720);
    await_seen(&p);
    send_history(&p, 718, 60);
    world_await(&world, FOUND_S,
                "SELECT count(*) = 1 FROM poolscope.leak WHERE tag = 'leaky' "
                "AND state = 'open'");
    char line[128];
    (void)snprintf(line, sizeof(line), "host %s: leak opened: ", id.host);
    world_log_await(world.collector_log, line, 1, FOUND_S);
    /* 144 MiB a day, with its companion, and never the steady one. */
    print_message("%s\n", world_text(&world, "SELECT summary FROM "
                                             "poolscope.leak"));
    assert_string_equal(
        world_text(&world,
                   "SELECT array_to_string(tags, ',') || ' ' || (bytes_per_day "
                   "BETWEEN 136000000 AND 166000000) || ' ' || "
                   "(exhaustion_at > now()) || ' ' || "
                   "((evidence ->> 'mann_kendall_z')::real > 2) "
                   "FROM poolscope.leak WHERE tag = 'leaky'"),
        "leaky,lockstep true true true");
    assert_int_equal(world_int(&world, "SELECT count(*) FROM poolscope.leak "
                                       "WHERE 'steady' = ANY (tags)"),
                     0);
    peer_close(&p);

    world_collector_stop(&world, SIGKILL);
    world_collector_start(&world);
    begin(&p, &id, 2);
    send_history(&p, 58, 0);
    await_seen(&p);
    assert_int_equal(world_int(&world, leaks), 1);
    assert_int_equal(world_int(&world, "SELECT count(*) FROM "
                                       "poolscope.leak_event WHERE kind "
                                       "IN ('opened', 'reopened', 'resolved')"),
                     1);
    peer_close(&p);
    peer_identity_fini(&id);
}

/* From now on a query for rows of the host fails, whoever else it is for. */
static void break_reading(PGconn *owner, const char *host)
{
    test_sql(owner, "DO $$ BEGIN EXECUTE replace(pg_get_functiondef("
                    "'poolscope_api.fresh_rows'::regproc), 'fresh_rows(', "
                    "'sound_rows('); END $$");
    char sql[1024];
    (void)snprintf(
        sql, sizeof(sql),
        "CREATE OR REPLACE FUNCTION poolscope_api.fresh_rows("
        "p_host_ids bigint[], p_after_ns bigint[], p_within_us bigint, "
        "p_max_bytes bigint) RETURNS TABLE (host_id bigint, n bigint, "
        "at timestamptz, boot_id uuid, tags_kind smallint, tags bytea, "
        "counters_kind smallint, counters bytea) "
        "LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN "
        "IF (SELECT h.host_id FROM poolscope_data.host h WHERE h.host = '%s') "
        "= ANY (p_host_ids) THEN RAISE 'broken'; END IF; "
        "RETURN QUERY SELECT * FROM poolscope_api.sound_rows($1, $2, $3, $4); "
        "END $$",
        host);
    test_sql(owner, sql);
}

/* One host's rows cannot be read, live or when a process begins with it; the
 * other one has a sample of a time to come and a damaged one in its history. */
static void one_bad_host_or_sample_hides_no_leak(void **state)
{
    (void)state;
    struct peer_identity bad, good;
    struct peer p, q;
    peer_identity_init(&bad, "bad");
    peer_identity_init(&good, "good");
    assert_int_equal(peer_enrol(&bad, world.port, world_token(&world, "1")), 0);
    assert_int_equal(peer_enrol(&good, world.port, world_token(&world, "1")),
                     0);
    begin(&p, &bad, 3);
    begin(&q, &good, 4);
    send_history(&p, 20, 10);
    send_history(&q, 7 * 1440, 7 * 1440 - 20);
    PGconn *owner = test_database_connect(&world.db, DATABASE_OWNER);
    break_reading(owner, "bad");
    send_history(&p, 10, 0);
    send_history(&q, 7 * 1440 - 20, 7 * 1440 - 40);
    world_log_await(world.collector_log, "broken", 1, FOUND_S);

    world_collector_stop(&world, SIGKILL);
    test_sql(owner, "UPDATE poolscope_data.fresh s SET at = at + '2 years' "
                    "FROM poolscope_data.host h WHERE s.host_id = h.host_id "
                    "AND host = 'good' AND n = 5");
    test_sql(owner, "UPDATE poolscope_data.fresh s SET tags = '\\x0100' "
                    "FROM poolscope_data.host h WHERE s.host_id = h.host_id "
                    "AND host = 'good' AND n = 7");
    PQfinish(owner);
    peer_close(&p);
    peer_close(&q);
    world_collector_start(&world);
    begin(&q, &good, 5);
    send_history(&q, 7 * 1440 - 40, 60);
    world_await(&world, FOUND_S,
                "SELECT count(*) = 1 FROM poolscope.leak_host "
                "WHERE host = 'good'");
    world_log_await(world.collector_log, "sample 7: stored table", 1, FOUND_S);
    world_log_await(world.collector_log, "broken", 2, FOUND_S);
    peer_close(&q);
    peer_identity_fini(&bad);
    peer_identity_fini(&good);
}

static void thaw(void *arg)
{
    (void)kill(*(pid_t *)arg, SIGCONT);
}

/* PostgreSQL takes connections (the kernel does) and says nothing. */
static void a_frozen_server_does_not_hold_up_the_stop(void **state)
{
    (void)state;
    static struct embedded_status status; /* until the exit */
    assert_int_equal(embedded_status(world.db.data_dir, &status, NULL), PSC_OK);
    assert_int_equal(kill(status.pid, SIGSTOP), 0);
    temp_at_exit(thaw, &status.pid);
    world_collector_stop(&world, SIGTERM); /* within 5 s */
    thaw(&status.pid);
    world_collector_start(&world);
}

static int start_world(void **state)
{
    (void)state;
    test_database_keep_private("it freezes PostgreSQL");
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
        cmocka_unit_test(a_leak_is_found_and_survives_a_restart),
        cmocka_unit_test(one_bad_host_or_sample_hides_no_leak),
        cmocka_unit_test(a_frozen_server_does_not_hold_up_the_stop),
    };
    return cmocka_run_group_tests(tests, start_world, stop_world);
}
