/* A database that the first version made, with its samples of a day and its
 * hours of the day before: migrated and converted, it tells the same as then,
 * while samples go on to come.
 *
 * tests/data/first-version.sql.gz is pg_dump's of a database that the first
 * version's own functions filled. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collector/convert.h"
#include "common/clock.h"
#include "sql/migrate.h"
#include "tests/lib/spawn.h"
#include "tests/lib/store.h"
#include "tests/lib/temp.h"

static PGconn *old; /* as superuser */
static atomic_bool stop;

/* What the first version's own views tell, in tables. */
static const char *const expected =
    "CREATE SCHEMA expected; "
    "CREATE TABLE expected.history AS SELECT h.host, t.pool, t.tag, x.* "
    "FROM poolscope.host h, poolscope_data.tag t, "
    "LATERAL poolscope.pool_history(h.host, t.pool, t.tag, '-infinity', "
    "'infinity') x; "
    "CREATE TABLE expected.counters AS SELECT h.host, t.counter, t.instance, "
    "x.value, x.at FROM poolscope.host h, poolscope_data.counter_name t, "
    "LATERAL poolscope.counter_history(h.host, t.counter, t.instance, "
    "'-infinity', 'infinity') x; "
    "CREATE TABLE expected.hours AS SELECT host, pool, tag, hour, "
    "first_bytes, last_bytes, min_bytes, max_bytes, mean_bytes, "
    "last_outstanding FROM poolscope.pool_hour; "
    "CREATE TABLE expected.counter_hours AS SELECT host, counter, instance, "
    "value, at, first_value, last_value, min_value, max_value "
    "FROM poolscope.counter_hour; "
    "CREATE TABLE expected.now AS SELECT host, pool, tag, allocs, frees, "
    "outstanding, bytes, at FROM poolscope.pool_now; "
    "CREATE TABLE expected.drivers AS SELECT * FROM poolscope.driver; "
    "CREATE TABLE expected.boots AS SELECT * FROM poolscope.boot";

static const char *const history =
    "SELECT h.host, t.pool, t.tag, x.at, x.allocs, x.frees, x.outstanding, "
    "x.bytes FROM poolscope.host h, poolscope_data.tag t, "
    "LATERAL poolscope.pool_history(h.host, t.pool, t.tag, '-infinity', "
    "'2026-11-22') x";
static const char *const counters =
    "SELECT h.host, t.counter, t.instance, x.value, x.at "
    "FROM poolscope.host h, poolscope_data.counter_name t, "
    "LATERAL poolscope.counter_history(h.host, t.counter, t.instance, "
    "'-infinity', '2026-11-22') x";
static const char *const hours =
    "SELECT host, pool, tag, hour, first_bytes, last_bytes, min_bytes, "
    "max_bytes, mean_bytes, last_outstanding FROM poolscope.pool_hour "
    "WHERE hour < '2026-11-22'";
static const char *const counter_hours =
    "SELECT host, counter, instance, value, at, first_value, last_value, "
    "min_value, max_value FROM poolscope.counter_hour WHERE at < '2026-11-22'";

/* Rows that only one of them has; of which there must be some at all. */
static void same(const char *table, const char *query)
{
    assert_string_not_equal(
        test_sql_textf(old, "SELECT count(*) FROM expected.%s", table), "0");
    assert_string_equal(
        test_sql_textf(old,
                       "SELECT count(*) FROM ((TABLE expected.%s EXCEPT ALL "
                       "%s) UNION ALL (%s EXCEPT ALL TABLE expected.%s)) d",
                       table, query, query, table),
        "0");
}

static int begin(void **state)
{
    char command[2048], out[4096];
    if (test_store_begin(state) != 0) {
        return -1;
    }
    const char *conninfo = test_database_beside(&test_store.db);
    snprintf(command, sizeof(command),
             "gzip -dc '%s' | psql -q -v ON_ERROR_STOP=1 -d \"%s\" 2>&1",
             PSC_TEST_DATA "/first-version.sql.gz", conninfo);
    const char *const argv[] = {"/bin/bash", "-o",    "pipefail",
                                "-c",        command, NULL};
    if (spawn_capture(argv, out, sizeof(out), 60) != 0) {
        fail_msg("%s", out);
    }
    old = PQconnectdb(conninfo);
    assert_int_equal(PQstatus(old), CONNECTION_OK);
    test_sql(old, "SET TimeZone = 'UTC'");
    test_sql(old, expected);

    struct psc_error err;
    int applied;
    if (migrate_run(conninfo, &applied, &err) != PSC_OK) {
        fail_msg("%s", err.msg);
    }
    assert_int_equal(applied, migrate_newest() - 9);
    return 0;
}

static int end(void **state)
{
    PQfinish(old);
    return test_store_end(state);
}

/* A sample that comes before anything is converted. */
static void samples_come_while_old_ones_wait(void **state)
{
    (void)state;
    long long host = test_sql_int(
        old, "SELECT host_id FROM poolscope.host WHERE host = 'old-1'");
    struct test_batch b = {
        .host_id = host,
        .session = test_session_claim(old, host),
        .stream = "00000000-0000-0000-0000-0000000000cc",
        .seq = 1,
        .at_us = psc_clock_wall_us(),
        .tags_kind = STORE_KEYFRAME,
        .tag_ids = "{1,2}",
        .outstanding = "{5,6}",
        .bytes = "{4096,8192}",
    };
    assert_string_equal(test_batch_store(old, &b), "stored");
    assert_string_equal(
        test_sql_text(old, "SELECT string_agg(bytes::text, ' ' ORDER BY bytes) "
                           "FROM poolscope.pool_now WHERE host = 'old-1'"),
        "4096 8192");
    /* Detection would miss what is not converted. */
    assert_int_equal(
        test_sql_int(old,
                     "SELECT count(*) FROM poolscope_api.feed_hosts(NULL)"),
        0);
}

/* In passes of no time, as if it were killed between any two of its steps. */
static void what_was_stored_is_converted(void **state)
{
    struct psc_error err = {.msg = ""};
    struct convert c;
    (void)state;
    convert_init(&c, &stop);
    for (bool more = true; more;) {
        if (convert_pass(&c, old, psc_clock_mono_us() + 1000, &more, &err) !=
            PSC_OK) {
            fail_msg("%s", err.msg);
        }
    }
    assert_true(c.ended);
    assert_int_equal(
        test_sql_int(old, "SELECT count(*) FROM pg_class WHERE relname LIKE "
                          "'%\\_v1%' AND relkind IN ('r', 'p')"),
        0);
    assert_int_equal(test_sql_int(old, "SELECT count(*) FROM "
                                       "poolscope_data.convert_due"),
                     0);
    assert_int_equal(
        test_sql_int(old,
                     "SELECT count(*) FROM poolscope_api.feed_hosts(NULL)"),
        test_sql_int(old, "SELECT count(*) FROM poolscope_data.ingest_cursor "
                          "WHERE n > 0"));
}

static void what_it_tells_is_the_same(void **state)
{
    (void)state;
    same("history", history);
    same("counters", counters);
    same("hours", hours);
    same("counter_hours", counter_hours);
    same("drivers", "SELECT * FROM poolscope.driver");
    assert_int_equal(
        test_sql_int(old,
                     "SELECT count(*) FROM (SELECT * FROM expected.now WHERE "
                     "host = 'old-2' EXCEPT SELECT host, pool, tag, allocs, "
                     "frees, outstanding, bytes, at FROM poolscope.pool_now) "
                     "d"),
        0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_come_while_old_ones_wait),
        cmocka_unit_test(what_was_stored_is_converted),
        cmocka_unit_test(what_it_tells_is_the_same),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
