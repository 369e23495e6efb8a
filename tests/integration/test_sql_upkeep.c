/* Housekeeping in SQL: partitions ahead of time, rows that came before theirs
 * was made, retention, and what one failure may not stop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "tests/lib/store.h"

static const char *maintain(void)
{
    return test_sql_text(test_store.writer,
                         "SELECT poolscope_api.maintain('1 min')");
}

/* ----------------------------------------------------------- partitions */

static const char waiting[] =
    "SELECT waiting_rows FROM poolscope.storage WHERE data = 'snapshot'";

/* One snapshot of @host with one tag, @days ago. */
static void put_sample(const char *host, int days)
{
    char ids[32];
    long long host_id = test_host_enrol(test_store.writer, host);
    (void)snprintf(ids, sizeof(ids), "{%d}",
                   test_tag_id(test_store.writer, "slab", host));
    struct test_batch b = {
        .host_id = host_id,
        .session = test_session_claim(test_store.writer, host_id),
        .seq = 1,
        .at_us = psc_clock_wall_us() - days * 86400LL * PSC_US_PER_S,
        .tags_kind = STORE_KEYFRAME,
        .tag_ids = ids,
        .bytes = "{4096}",
    };
    assert_string_equal(test_batch_store(test_store.writer, &b), "stored");
}

static void partitions_are_made_a_week_ahead(void **state)
{
    (void)state;
    static const char ahead[] = "SELECT count(*) FROM poolscope.storage "
                                "WHERE made_until >= now() + interval '7 days' "
                                "AND kept_from <= now() - interval '1 day' "
                                "AND default_rows = 0";
    assert_int_equal(test_sql_int(test_store.reader, ahead), 6);
    (void)maintain();
    assert_int_equal(test_sql_int(test_store.reader, ahead), 6);
}

/* Housekeeping has not run for more than a week. */
static void rows_without_a_partition_are_counted_and_moved(void **state)
{
    (void)state;
    test_sql(test_store.owner,
             "DO $$ DECLARE p record; BEGIN "
             "FOR p IN DELETE FROM poolscope_data.partition "
             "WHERE parent = 'snapshot' RETURNING child LOOP "
             "EXECUTE format('DROP TABLE poolscope_data.%I', p.child); "
             "END LOOP; END $$");
    put_sample("late", 0);
    assert_int_equal(test_sql_int(test_store.reader, waiting), 1);
    assert_null(strstr(maintain(), "\"partitions_made\": 0"));
    assert_int_equal(test_sql_int(test_store.reader, waiting), 0);
    assert_int_equal(test_sql_int(test_store.owner,
                                  "SELECT count(*) FROM ONLY "
                                  "poolscope_data.snapshot_default"),
                     0);
    assert_int_equal(test_sql_int(test_store.reader, "SELECT count(*) FROM "
                                                     "poolscope.pool_now "
                                                     "WHERE host = 'late'"),
                     1);
}

static void one_host_stops_no_other_ones_summaries(void **state)
{
    (void)state;
    static const char summarised[] =
        "SELECT count(*) FROM poolscope_data.pool_summary "
        "JOIN poolscope_data.host USING (host_id) WHERE host LIKE 'sum-%'";
    static const char *const names[] = {"sum-a", "sum-b", "sum-c"};
    for (int i = 0; i < 3; i++) {
        put_sample(names[i], 2);
    }
    test_sql(test_store.owner,
             "DO $$ BEGIN EXECUTE format('ALTER TABLE "
             "poolscope_data.pool_summary ADD CONSTRAINT broken CHECK "
             "(host_id <> %s)', (SELECT host_id FROM "
             "poolscope_data.host WHERE host = 'sum-b')); END $$");
    assert_non_null(strstr(maintain(), "\"failed\": \"summaries of host "));
    assert_non_null(strstr(maintain(), "\"failed\": null"));
    assert_int_equal(test_sql_int(test_store.owner, summarised), 2);
    test_sql(test_store.owner, "ALTER TABLE poolscope_data.pool_summary "
                               "DROP CONSTRAINT broken; "
                               "UPDATE poolscope_data.rollup_position "
                               "SET retry_at = now()");
    assert_non_null(strstr(maintain(), "\"failed\": null"));
    assert_int_equal(test_sql_int(test_store.owner, summarised), 3);
}

/* A day's partition that cannot be made, since something else has its name. */
static void one_partition_stops_no_other_one(void **state)
{
    (void)state;
    test_sql(test_store.owner,
             "DO $$ DECLARE p record; BEGIN "
             "FOR p IN DELETE FROM poolscope_data.partition "
             "WHERE parent IN ('snapshot', 'other_batch') "
             "AND from_at > now() + interval '5 days' "
             "RETURNING parent, child LOOP "
             "EXECUTE format('DROP TABLE poolscope_data.%I', p.child); "
             "IF p.parent = 'other_batch' THEN EXECUTE "
             "format('CREATE TABLE poolscope_data.%I ()', p.child); "
             "END IF; END LOOP; END $$");
    static const char late[] = "SELECT string_agg(data, ',') "
                               "FROM poolscope.storage "
                               "WHERE made_until < now() + interval '7 days'";
    assert_non_null(strstr(maintain(), "\"a partition of other_batch for "));
    assert_string_equal(test_sql_text(test_store.reader, late), "other_batch");
    test_sql(test_store.owner,
             "DO $$ DECLARE t name; BEGIN FOR t IN SELECT tablename "
             "FROM pg_tables WHERE schemaname = 'poolscope_data' AND "
             "tablename LIKE 'other\\_batch\\_2%' AND tablename NOT IN "
             "(SELECT child FROM poolscope_data.partition) LOOP "
             "EXECUTE format('DROP TABLE poolscope_data.%I', t); "
             "END LOOP; END $$");
    assert_non_null(strstr(maintain(), "\"failed\": null"));
    assert_string_equal(test_sql_text(test_store.reader, late), "");
}

/* ------------------------------------------------------------ retention */

static void retention_drops_samples_and_keeps_summaries(void **state)
{
    (void)state;
    long long host = test_host_enrol(test_store.writer, "old");
    int tag = test_tag_id(test_store.writer, "slab", "old");
    char ids[32];
    (void)snprintf(ids, sizeof(ids), "{%d}", tag);
    test_sql(test_store.writer,
             "SELECT poolscope_api.setting_set('retention_points', '30 d')");
    struct test_batch b = {
        .host_id = host,
        .session = test_session_claim(test_store.writer, host),
        .seq = 1,
        .at_us = psc_clock_wall_us() - 20 * 86400LL * PSC_US_PER_S,
        .tags_kind = STORE_KEYFRAME,
        .tag_ids = ids,
        .bytes = "{4096}",
    };
    assert_string_equal(test_batch_store(test_store.writer, &b), "stored");
    static const char in_default[] =
        "SELECT count(*) FROM poolscope_data.snapshot_default";
    assert_int_equal(test_sql_int(test_store.owner, in_default), 1);
    assert_non_null(strstr(maintain(), "\"partitions_dropped\": 0"));
    assert_int_equal(test_sql_int(test_store.owner, in_default), 0);
    static const char history[] =
        "SELECT count(*) FROM poolscope.pool_history('old', 'slab', 'old', "
        "'-infinity', 'infinity')";
    static const char hours[] = "SELECT count(*) FROM poolscope.pool_hour "
                                "WHERE host = 'old' AND last_bytes = 4096";
    assert_int_equal(test_sql_int(test_store.reader, history), 1);
    assert_int_equal(test_sql_int(test_store.reader, hours), 1);
    test_sql(test_store.writer,
             "SELECT poolscope_api.setting_set('retention_points', '7 d')");
    assert_null(strstr(maintain(), "\"partitions_dropped\": 0"));
    assert_int_equal(test_sql_int(test_store.reader, history), 0);
    assert_int_equal(test_sql_int(test_store.reader, hours), 1);
    /* More of that hour, later still: the summary is not made worse. */
    b.seq = 2;
    b.bytes = "{1}";
    b.tags_kind = STORE_DELTA;
    assert_string_equal(test_batch_store(test_store.writer, &b), "stored");
    (void)maintain();
    assert_int_equal(test_sql_int(test_store.reader, hours), 1);
}

static void one_maintainer_works_at_a_time(void **state)
{
    (void)state;
    PGconn *other = test_database_connect(&test_store.db, DATABASE_WRITER);
    test_sql(other, "BEGIN; SELECT poolscope_api.maintain('1 min')");
    assert_non_null(strstr(maintain(), "\"busy\": true"));
    test_sql(other, "ROLLBACK");
    assert_null(strstr(maintain(), "busy"));
    PQfinish(other);
}

static void settings_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "SELECT poolscope_api.setting_set('retention_points', '1 s')",
        "SELECT poolscope_api.setting_set('nonsense', '1')"};
    for (int i = 0; i < 2; i++) {
        PGresult *res = PQexec(test_store.writer, bad[i]);
        assert_string_equal(PQresultErrorField(res, PG_DIAG_SQLSTATE), "P0001");
        PQclear(res);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(partitions_are_made_a_week_ahead),
        cmocka_unit_test(rows_without_a_partition_are_counted_and_moved),
        cmocka_unit_test(one_host_stops_no_other_ones_summaries),
        cmocka_unit_test(one_partition_stops_no_other_one),
        cmocka_unit_test(retention_drops_samples_and_keeps_summaries),
        cmocka_unit_test(one_maintainer_works_at_a_time),
        cmocka_unit_test(settings_that_make_no_sense_are_refused),
    };
    return cmocka_run_group_tests(tests, test_store_begin, test_store_end);
}
