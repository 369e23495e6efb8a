/* The real agent, collector and PostgreSQL together: what the agent sees is
 * what the database shows, whatever stops and comes back in between.
 *
 * One agent reads this machine, one a recorded tree that has everything this
 * machine's kernel may lack. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/lib/spawn.h"
#include "tests/lib/temp.h"
#include "tests/lib/world.h"

enum { WAIT_S = 30, JSON_BYTES = 1024 * 1024, OUT_BYTES = 64 * 1024 };

static const char tree[] = PSC_TEST_DATA "/proc-linux-6.12";

static struct world world;
static struct world_agent *live, *recorded;

static const char *const live_words[] = {
    "--interval",     "500ms", "--counter-interval", "500ms", "--jitter=no",
    "--role",         "test",  "--region",           "here",  "--labels",
    "rack=7,os=mine", NULL};
static const char *const recorded_words[] = {
    "--root", tree, "--interval", "500ms", "--counter-interval", "500ms", NULL};

static int start_all(void **state)
{
    (void)state;
    test_database_keep_private("it stops PostgreSQL");
    world_start(&world, false, NULL, NULL);
    live = world_agent_add(&world, "live", live_words);
    recorded = world_agent_add(&world, "recorded", recorded_words);
    world_agent_start(live);
    world_agent_start(recorded);
    return 0;
}

/* --- what is seen --- */

static long long mem_total_bytes(void)
{
    char line[128];
    spawn_read_line("/proc/meminfo", line, sizeof(line), 5);
    assert_memory_equal(line, "MemTotal:", 9);
    return strtoll(line + 9, NULL, 10) * 1024;
}

static void this_machine_is_shown_within_seconds(void **state)
{
    (void)state;
    int64_t start_us = psc_clock_mono_us();
    world_await(&world, WAIT_S,
                "SELECT count(*) = 1 FROM poolscope.host WHERE host = 'live'"
                " AND status = 'reporting' AND os = 'linux' AND role = 'test'"
                " AND region = 'here' AND labels ->> 'rack' = '7'"
                " AND last_seen > now() - interval '10 seconds'"
                " AND sample_interval = interval '500 ms'");
    world_await(&world, WAIT_S,
                access("/proc/slabinfo", R_OK) == 0
                    ? "SELECT count(*) > 50 FROM poolscope.pool_now WHERE"
                      " host = 'live' AND pool = 'slab' AND bytes >= 0"
                    : "SELECT count(*) > 0 FROM poolscope.pool_now WHERE"
                      " host = 'live' AND pool = 'pages' AND bytes >= 0");
    print_message("shown after %lld ms\n",
                  (long long)(psc_clock_mono_us() - start_us) / 1000);
    char sql[512];
    (void)snprintf(sql, sizeof(sql),
                   "SELECT value = %lld FROM poolscope.counter_now"
                   " WHERE host = 'live'"
                   " AND counter = 'node_memory_MemTotal_bytes'",
                   mem_total_bytes());
    world_await(&world, WAIT_S, sql);
    char boot[64];
    spawn_read_line("/proc/sys/kernel/random/boot_id", boot, sizeof(boot), 5);
    (void)snprintf(sql, sizeof(sql),
                   "SELECT count(*) = 1 AND bool_and(boot_at < now() AND"
                   " last_seen > boot_at) FROM poolscope.boot"
                   " WHERE host = 'live' AND boot_id = '%s'",
                   boot);
    world_await(&world, WAIT_S, sql);
    world_await(&world, WAIT_S,
                "SELECT used_bytes > 0 AND limit_bytes > used_bytes"
                " FROM poolscope.host_room WHERE host = 'live'"
                " AND resource = 'available memory'");
}

/* The recorded kernel keeps to its limit (overcommit_memory is 2 there). */
static void committed_memory_has_room_where_it_binds(void **state)
{
    (void)state;
    world_await(&world, WAIT_S,
                "SELECT used_bytes = 5200000 * 1024::bigint AND"
                " limit_bytes = 10289152 * 1024::bigint"
                " FROM poolscope.host_room WHERE host = 'recorded'"
                " AND resource = 'commit'");
    char mode[16];
    spawn_read_line("/proc/sys/vm/overcommit_memory", mode, sizeof(mode), 5);
    char sql[256];
    (void)snprintf(sql, sizeof(sql),
                   "SELECT value = %ld FROM poolscope.counter_now"
                   " WHERE host = 'live'"
                   " AND counter = 'poolscope_vm_overcommit_memory'",
                   strtol(mode, NULL, 10));
    world_await(&world, WAIT_S, sql);
    assert_int_equal(world_int(&world,
                               "SELECT count(*) FROM poolscope.host_room"
                               " WHERE host = 'live' AND resource = 'commit'"),
                     strtol(mode, NULL, 10) == 2);
}

static void what_cannot_run_says_why(void **state)
{
    (void)state;
    static const char *const sources[][2] = {{"allocinfo", "/proc/allocinfo"},
                                             {"modules", "/proc/modules"}};
    for (size_t i = 0; i < 2; i++) {
        bool there = access(sources[i][1], R_OK) == 0;
        char sql[256];
        (void)snprintf(sql, sizeof(sql),
                       there ? "SELECT NOT source_errors ? '%s'"
                               " FROM poolscope.host WHERE host = 'live'"
                             : "SELECT source_errors -> '%s' ->> 'message'"
                               " LIKE '%%proc%%does not exist%%'"
                               " FROM poolscope.host WHERE host = 'live'",
                       sources[i][0]);
        world_await(&world, WAIT_S, sql);
    }
    world_await(&world, WAIT_S,
                "SELECT source_errors = '{}' FROM poolscope.host"
                " WHERE host = 'recorded'");
}

/* --- what is recorded --- */

/* Make @json a temporary table's only row. */
static void load_json(const char *json)
{
    (void)world_text(&world, "CREATE TEMP TABLE printed (j jsonb)");
    const char *values[] = {json};
    PGresult *r = PQexecParams(world.sql, "INSERT INTO printed VALUES ($1)", 1,
                               NULL, values, NULL, NULL, 0);
    if (PQresultStatus(r) != PGRES_COMMAND_OK) {
        fail_msg("%s", PQerrorMessage(world.sql));
    }
    PQclear(r);
}

/* Check that a query of differences has no rows. */
static void expect_none(const char *what, const char *sql)
{
    PGresult *r = PQexec(world.sql, sql);
    if (PQresultStatus(r) != PGRES_TUPLES_OK) {
        fail_msg("%s", PQerrorMessage(world.sql));
    }
    for (int i = 0; i < PQntuples(r) && i < 10; i++) {
        for (int c = 0; c < PQnfields(r); c++) {
            print_error("%s ", PQgetvalue(r, i, c));
        }
        print_error("\n");
    }
    if (PQntuples(r) > 0) {
        fail_msg("%s: %d differences", what, PQntuples(r));
    }
    PQclear(r);
}

static void a_recorded_tree_is_stored_as_it_is_printed(void **state)
{
    (void)state;
    const char *argv[] = {spawn_program("poolscope-agent"),
                          "--once",
                          "--print=json",
                          "--root",
                          tree,
                          NULL};
    static char json[JSON_BYTES];
    assert_int_equal(spawn_capture(argv, json, sizeof(json), WAIT_S), 0);
    world_await(&world, WAIT_S,
                "SELECT count(*) > 0 FROM poolscope.counter_now"
                " WHERE host = 'recorded'");
    load_json(json);
    expect_none("tags",
                "WITH p AS (SELECT t.* FROM printed, jsonb_to_recordset("
                " j -> 'tags') AS t(pool text, tag text, allocs bigint,"
                " frees bigint, outstanding bigint, bytes bigint)),"
                " s AS (SELECT pool, tag, allocs, frees, outstanding, bytes"
                "  FROM poolscope.pool_now WHERE host = 'recorded')"
                "(SELECT 'printed', * FROM p EXCEPT SELECT 'printed', * FROM s)"
                " UNION ALL"
                "(SELECT 'stored', * FROM s EXCEPT SELECT 'stored', * FROM p)");
    /* What the agent uses itself is not of the tree. */
    expect_none("counters",
                "WITH p AS (SELECT t.* FROM printed, jsonb_to_recordset("
                " j -> 'counters') AS t(counter text, instance text,"
                " value float8) WHERE counter NOT LIKE 'poolscope_source%'),"
                " s AS (SELECT counter, instance, value"
                "  FROM poolscope.counter_now WHERE host = 'recorded'"
                "  AND counter NOT LIKE 'poolscope_source%')"
                "(SELECT 'printed', * FROM p EXCEPT SELECT 'printed', * FROM s)"
                " UNION ALL"
                "(SELECT 'stored', * FROM s EXCEPT SELECT 'stored', * FROM p)");
    assert_true(world_int(&world, "SELECT count(*) FROM poolscope.pool_now"
                                  " WHERE host = 'recorded'") > 20);
}

static void history_has_every_sample(void **state)
{
    (void)state;
    world_await(&world, WAIT_S,
                "SELECT count(*) >= 6 AND count(DISTINCT bytes) = 1"
                " AND bool_and(bytes = (SELECT bytes FROM poolscope.pool_now"
                "  WHERE host = 'recorded' AND pool = 'slab'"
                "  AND tag = 'ext4_inode_cache'))"
                " AND max(at) - min(at) >= (count(*) - 2) * interval '450 ms'"
                " FROM poolscope.pool_history('recorded', 'slab',"
                " 'ext4_inode_cache', now() - interval '1 hour',"
                " now() + interval '1 hour')");
    world_await(&world, WAIT_S,
                "SELECT count(*) >= 6 FROM poolscope.counter_history('live',"
                " 'node_memory_MemFree_bytes', '', now() - interval '1 hour',"
                " now() + interval '1 hour')");
    world_await(&world, WAIT_S,
                "SELECT count(*) >= 1 FROM poolscope.pool_hour"
                " WHERE host = 'recorded' AND tag = 'dentry'"
                " AND min_bytes = max_bytes");
}

static void modules_are_drivers_and_own_their_tags(void **state)
{
    (void)state;
    world_await(&world, WAIT_S,
                "SELECT array_agg(driver ORDER BY driver) ="
                " ARRAY['ice', 'nf_tables', 'nvme'] FROM poolscope.driver"
                " WHERE host = 'recorded' AND seen_to IS NULL");
    world_await(&world, WAIT_S,
                "SELECT count(*) >= 2 FROM poolscope.pool_now"
                " WHERE host = 'recorded' AND pool IN ('vmalloc', 'alloc')"
                " AND driver = 'ice'");
    world_await(&world, WAIT_S,
                "SELECT count(*) > 0 FROM poolscope.event"
                " WHERE host = 'recorded' AND source = 'kernel'"
                " AND event_id = 'slab_allocation_failure'");
}

/* --- what people type --- */

static void the_command_line_shows_it(void **state)
{
    (void)state;
    static char out[OUT_BYTES];
    const char *status[] = {"status", NULL};
    const char *hosts[] = {"hosts", NULL};
    const char *top[] = {"top",  "--host", "recorded", "--limit",
                         "1000", "--csv",  NULL};
    const char *history[] = {"history", "recorded", "slab", "dentry", NULL};
    assert_int_equal(world_poolscope(&world, status, out, sizeof(out)), 0);
    assert_int_equal(world_poolscope(&world, hosts, out, sizeof(out)), 0);
    assert_non_null(strstr(out, "recorded"));
    assert_non_null(strstr(out, "live"));
    assert_int_equal(world_poolscope(&world, top, out, sizeof(out)), 0);
    assert_non_null(strstr(out, "ice_rx_desc"));
    assert_int_equal(world_poolscope(&world, history, out, sizeof(out)), 0);
}

/* --- what stops and comes back --- */

static long long n_samples(const char *host)
{
    char sql[160];
    (void)snprintf(sql, sizeof(sql),
                   "SELECT n FROM poolscope_data.ingest_cursor"
                   " JOIN poolscope_data.host USING (host_id)"
                   " WHERE host = '%s'",
                   host);
    return world_int(&world, sql);
}

static void await_samples(const char *host, long long n)
{
    char sql[256];
    (void)snprintf(sql, sizeof(sql),
                   "SELECT n >= %lld FROM poolscope_data.ingest_cursor"
                   " JOIN poolscope_data.host USING (host_id)"
                   " WHERE host = '%s'",
                   n, host);
    world_await(&world, WAIT_S, sql);
}

static void sessions_outlive_the_database(void **state)
{
    (void)state;
    long long before = n_samples("live");
    unsigned connected = world_log_count(live->log, "connected to");
    test_database_stop(&world.db);
    unsigned taken = world_log_count(live->log, "took batch");
    world_log_await(live->log, "took batch", taken + 8, WAIT_S);
    assert_int_equal(world_metric(&world, "poolscope_collector_database_up"),
                     0);
    test_database_restart(&world.db);
    await_samples("live", before + 10);
    assert_int_equal(world_log_count(live->log, "connected to"), connected);
    struct world_tally t;
    world_settle(&world, live, WAIT_S, "after the database was away", &t);
    assert_int_equal(t.missing, 0);
}

static void agents_wait_for_the_collector(void **state)
{
    (void)state;
    world_collector_stop(&world, SIGTERM);
    unsigned taken = world_log_count(live->log, "took batch");
    world_log_await(live->log, "took batch", taken + 5, WAIT_S);
    world_collector_start(&world);
    struct world_tally t;
    world_settle(&world, live, WAIT_S, "after the collector was away", &t);
    assert_int_equal(t.missing, 0);
    world_settle(&world, recorded, WAIT_S, "after the collector was away", &t);
    assert_int_equal(t.missing, 0);
}

static void the_next_collector_is_tried(void **state)
{
    (void)state;
    struct world other = world; /* a second collector on the same database */
    other.collector = 0;
    other.port = world_free_port();
    other.metrics_port = world_free_port();
    other.dir = temp_dir();
    other.collector_log = temp_path(other.dir, "collector.log");
    world_collector_start(&other);

    char list[96];
    (void)snprintf(list, sizeof(list), "127.0.0.1:1,127.0.0.1:%d,127.0.0.1:%d",
                   other.port, world.port);
    struct world_agent *a = world_agent_add(&world, "wanderer", recorded_words);
    a->collectors = list;
    world_agent_start(a);
    world_log_await(a->log, "connected to", 1, WAIT_S);
    await_samples("wanderer", 3);
    assert_true(world_log_count(other.collector_log, "wanderer") > 0);

    world_collector_stop(&other, SIGKILL);
    world_log_await(a->log, "connected to", 2, WAIT_S);
    await_samples("wanderer", n_samples("wanderer") + 3);
    struct world_tally t;
    world_settle(&world, a, WAIT_S, "after the first collector died", &t);
    assert_int_equal(t.missing, 0);
    world_agent_stop(a, SIGTERM);
}

static void a_restarted_agent_goes_on(void **state)
{
    (void)state;
    world_agent_stop(recorded, SIGTERM);
    world_agent_start(recorded);
    await_samples("recorded", n_samples("recorded") + 3);
    struct world_tally t;
    world_settle(&world, recorded, WAIT_S, "after a restart", &t);
    assert_int_equal(t.missing, 0);
    assert_int_equal(world_int(&world, "SELECT count(*) FROM poolscope.event"
                                       " WHERE host = 'recorded' AND event_id"
                                       " = 'slab_allocation_failure'"),
                     1);
}

/* Last: the collector must end in time with its database away, too. */
static void each_ends_within_5_s_of_sigterm(void **state)
{
    (void)state;
    test_database_stop(&world.db);
    spawn_sleep_ms(500);
    world_collector_stop(&world, SIGTERM);
    world_stop(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(this_machine_is_shown_within_seconds),
        cmocka_unit_test(committed_memory_has_room_where_it_binds),
        cmocka_unit_test(what_cannot_run_says_why),
        cmocka_unit_test(a_recorded_tree_is_stored_as_it_is_printed),
        cmocka_unit_test(history_has_every_sample),
        cmocka_unit_test(modules_are_drivers_and_own_their_tags),
        cmocka_unit_test(the_command_line_shows_it),
        cmocka_unit_test(sessions_outlive_the_database),
        cmocka_unit_test(agents_wait_for_the_collector),
        cmocka_unit_test(the_next_collector_is_tried),
        cmocka_unit_test(a_restarted_agent_goes_on),
        cmocka_unit_test(each_ends_within_5_s_of_sigterm),
    };
    return cmocka_run_group_tests(tests, start_all, NULL);
}
