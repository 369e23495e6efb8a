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
#include "tests/lib/tiers.h"

#define HOUR_US (3600LL * PSC_US_PER_S)

static const char *maintain(void)
{
    return test_sql_text(test_store.writer,
                         "SELECT poolscope_api.maintain('1 min')");
}

/* ----------------------------------------------------------- partitions */

static const char waiting[] =
    "SELECT waiting_rows FROM poolscope.storage WHERE data = 'tag_chunk'";

/* @host with one snapshot of a tag of its name, @days ago, in a chunk. */
static void put_sample(const char *host, int days)
{
    static const uint8_t boot[CHUNK_BOOT_BYTES] = {1};
    static const int64_t values[TABLE_COLUMNS_MAX] = {[COL_BYTES] = 4096};
    int64_t at_us = psc_clock_wall_us() - days * 86400LL * PSC_US_PER_S;
    struct tier_chunk c = {.host_id = test_host_enrol(test_store.writer, host),
                           .span_us = at_us / HOUR_US * HOUR_US,
                           .n_from = 1,
                           .n_to = 1,
                           .at_from_us = at_us,
                           .at_to_us = at_us,
                           .snapshots = 1};
    int tag = test_tag_id(test_store.writer, "slab", host);
    struct tier_table t;
    tier_table_init(&t, TABLE_COLUMNS_MAX);
    assert_int_equal(chunk_writer_snapshot(&t.chunk, 1, at_us, at_us, boot),
                     PSC_OK);
    assert_int_equal(
        chunk_writer_put(&t.chunk, (uint32_t)tag, TAG_BYTES, values), PSC_OK);
    tier_store_chunk(test_store.owner, &t.chunk, &c);
    tier_settled(test_store.owner, c.host_id, 1, 1);
    tier_table_fini(&t);
}

/* How many points, and how many hours, the views show of @host. */
static const char *shown(const char *host)
{
    return test_sql_textf(
        test_store.reader,
        "SELECT (SELECT count(*) FROM poolscope.pool_history('%s', 'slab', "
        "'%s', '-infinity', 'infinity') WHERE bytes = 4096) || ' ' || "
        "(SELECT count(*) FROM poolscope.pool_hour WHERE host = '%s' "
        "AND last_bytes = 4096)",
        host, host, host);
}

static void partitions_are_made_a_week_ahead(void **state)
{
    (void)state;
    static const char not_ahead[] =
        "SELECT count(*) FROM poolscope.storage "
        "WHERE (made_until >= now() + interval '7 days' "
        "AND kept_from <= now() - interval '1 day' AND default_rows = 0) "
        "IS NOT TRUE";
    assert_int_equal(test_sql_int(test_store.reader, not_ahead), 0);
    assert_int_equal(test_sql_int(test_store.reader,
                                  "SELECT count(*) FROM poolscope.storage "
                                  "WHERE data IN ('tag_chunk', 'event')"),
                     2);
    (void)maintain();
    assert_int_equal(test_sql_int(test_store.reader, not_ahead), 0);
}

/* Housekeeping has not run for more than a week. */
static void rows_without_a_partition_are_counted_and_moved(void **state)
{
    (void)state;
    test_sql(test_store.owner,
             "DO $$ DECLARE p record; BEGIN "
             "FOR p IN DELETE FROM poolscope_data.partition "
             "WHERE parent = 'tag_chunk' RETURNING child LOOP "
             "EXECUTE format('DROP TABLE poolscope_data.%I', p.child); "
             "END LOOP; END $$");
    put_sample("late", 0);
    assert_int_equal(test_sql_int(test_store.reader, waiting), 1);
    assert_string_equal(shown("late"), "1 1");
    assert_null(strstr(maintain(), "\"partitions_made\": 0"));
    assert_int_equal(test_sql_int(test_store.reader, waiting), 0);
    assert_int_equal(test_sql_int(test_store.owner,
                                  "SELECT count(*) FROM ONLY "
                                  "poolscope_data.tag_chunk_default"),
                     0);
    assert_string_equal(shown("late"), "1 1");
}

/* A day's partition that cannot be made, since something else has its name. */
static void one_partition_stops_no_other_one(void **state)
{
    (void)state;
    test_sql(test_store.owner,
             "DO $$ DECLARE p record; BEGIN "
             "FOR p IN DELETE FROM poolscope_data.partition "
             "WHERE parent IN ('tag_chunk', 'counter_chunk') "
             "AND from_at > now() + interval '5 days' "
             "RETURNING parent, child LOOP "
             "EXECUTE format('DROP TABLE poolscope_data.%I', p.child); "
             "IF p.parent = 'counter_chunk' THEN EXECUTE "
             "format('CREATE TABLE poolscope_data.%I ()', p.child); "
             "END IF; END LOOP; END $$");
    static const char late[] = "SELECT string_agg(data, ',') "
                               "FROM poolscope.storage "
                               "WHERE made_until < now() + interval '7 days'";
    assert_non_null(strstr(maintain(), "\"a partition of counter_chunk for "));
    assert_string_equal(test_sql_text(test_store.reader, late),
                        "counter_chunk");
    test_sql(test_store.owner,
             "DO $$ DECLARE t name; BEGIN FOR t IN SELECT tablename "
             "FROM pg_tables WHERE schemaname = 'poolscope_data' AND "
             "tablename LIKE 'counter\\_chunk\\_2%' AND tablename NOT IN "
             "(SELECT child FROM poolscope_data.partition) LOOP "
             "EXECUTE format('DROP TABLE poolscope_data.%I', t); "
             "END LOOP; END $$");
    assert_non_null(strstr(maintain(), "\"failed\": null"));
    assert_string_equal(test_sql_text(test_store.reader, late), "");
}

/* ------------------------------------------------------------ retention */

static void retention_drops_samples(void **state)
{
    (void)state;
    static const char in_default[] =
        "SELECT count(*) FROM poolscope_data.tag_chunk_default";
    test_sql(test_store.writer,
             "SELECT poolscope_api.setting_set('retention_points', '30 d')");
    put_sample("old", 20);
    assert_int_equal(test_sql_int(test_store.owner, in_default), 1);
    assert_non_null(strstr(maintain(), "\"partitions_dropped\": 0"));
    assert_int_equal(test_sql_int(test_store.owner, in_default), 0);
    assert_string_equal(shown("old"), "1 1");
    test_sql(test_store.writer,
             "SELECT poolscope_api.setting_set('retention_points', '7 d')");
    assert_null(strstr(maintain(), "\"partitions_dropped\": 0"));
    assert_string_equal(shown("old"), "0 0");
    assert_string_equal(shown("late"), "1 1");
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
        "SELECT poolscope_api.setting_set('retention_days', '9000 years')",
        "SELECT poolscope_api.setting_set('nonsense', '1')"};
    for (int i = 0; i < 3; i++) {
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
        cmocka_unit_test(one_partition_stops_no_other_one),
        cmocka_unit_test(retention_drops_samples),
        cmocka_unit_test(one_maintainer_works_at_a_time),
        cmocka_unit_test(settings_that_make_no_sense_are_refused),
    };
    return cmocka_run_group_tests(tests, test_store_begin, test_store_end);
}
