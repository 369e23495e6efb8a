/* What is kept of a day whose samples come late, or go: summaries are not lost
 * when retention is changed, when more comes than can be made anew, or when
 * something is damaged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collector/metrics.h"
#include "collector/rollup.h"
#include "common/clock.h"
#include "tests/lib/store.h"

static struct metrics metrics;
static atomic_bool stop;

static long long count(const char *sql)
{
    return test_sql_int(test_store.owner, sql);
}

static int begin(void **state)
{
    if (test_store_begin(state) != 0) {
        return -1;
    }
    test_sql(test_store.owner,
             "CREATE FUNCTION day(integer) RETURNS timestamptz LANGUAGE sql "
             "AS 'SELECT date_trunc(''day'', now(), ''UTC'') - $1 * "
             "interval ''1 day'''; "
             /* Bytes that nobody reads here. */
             "CREATE FUNCTION chunk(bigint, timestamptz, integer) RETURNS void "
             "LANGUAGE sql AS 'INSERT INTO poolscope_data.tag_chunk VALUES "
             "($1, $2, 1, $3, $2, $2, $3, ''h'', ''l'', ''d'')'; "
             "CREATE FUNCTION sum_up(bigint, timestamptz, integer) RETURNS "
             "void LANGUAGE sql AS 'INSERT INTO poolscope_data.tag_hours "
             "VALUES ($1, $2, array_fill($3, ''{24}''), ''h'', ''l'', ''d'')'; "
             "CREATE FUNCTION touch(bigint, timestamptz) RETURNS void "
             "LANGUAGE sql AS 'SELECT poolscope_data.summary_touch($1, "
             "''tags'', ARRAY[$2])'");
    return 0;
}

static int clear(void **state)
{
    (void)state;
    test_sql(test_store.owner,
             "TRUNCATE poolscope_data.tag_chunk, poolscope_data.tag_hours, "
             "poolscope_data.tag_days, poolscope_data.summary_due; "
             "UPDATE poolscope_data.setting SET value = CASE name "
             "WHEN 'retention_points' THEN '7 days' ELSE '90 days' END "
             "WHERE name IN ('retention_points', 'retention_hours')");
    return 0;
}

static void samples_that_are_hardly_kept_are_summed_up(void **state)
{
    (void)state;
    test_sql(test_store.owner, "UPDATE poolscope_data.setting SET value = "
                               "'1 hour' WHERE name = 'retention_points'; "
                               "SELECT touch(1, day(1))");
    assert_int_equal(count("SELECT count(*) FROM poolscope_data.summary_due"),
                     1);
}

/* An agent that was cut off for longer than samples are kept. */
static void what_comes_after_weeks_is_summed_up(void **state)
{
    (void)state;
    test_sql(test_store.owner,
             "SELECT touch(1, day(20)), chunk(1, day(20), 60); "
             "UPDATE poolscope_data.maintenance SET next_at = '-infinity'; "
             "SELECT poolscope_api.maintain('1 s')");
    assert_int_equal(count("SELECT count(*) FROM poolscope_data.summary_due"),
                     1);
    assert_int_equal(count("SELECT count(*) FROM poolscope_data.tag_chunk"), 1);
    test_sql(test_store.owner,
             "DELETE FROM poolscope_data.summary_due; "
             "UPDATE poolscope_data.maintenance SET next_at = '-infinity'; "
             "SELECT poolscope_api.maintain('1 s')");
    assert_int_equal(count("SELECT count(*) FROM poolscope_data.tag_chunk"), 0);
}

/* Samples were kept for 7 days until now; what is 20 days old is gone. */
static void longer_retention_harms_no_summary(void **state)
{
    (void)state;
    test_sql(test_store.owner, "UPDATE poolscope_data.setting SET value = "
                               "'30 days' WHERE name = 'retention_points'; "
                               "SELECT sum_up(1, day(20), 60), "
                               "touch(1, day(20)), chunk(1, day(20), 60)");
    assert_int_equal(count("SELECT count(*) FROM poolscope_data.tag_hours"), 1);
    assert_int_equal(count("SELECT count(*) FROM poolscope_data.summary_due"),
                     0);
}

static void a_day_whose_samples_are_there_is_made_anew(void **state)
{
    (void)state;
    test_sql(test_store.owner, "SELECT chunk(1, day(3), 24 * 60), "
                               "sum_up(1, day(3), 60), touch(1, day(3)); "
                               /* of the first version */
                               "SELECT sum_up(1, day(4), 1), touch(1, day(4))");
    assert_int_equal(count("SELECT count(*) FROM poolscope_data.tag_hours"), 0);
    assert_int_equal(count("SELECT count(*) FROM poolscope_data.summary_due"),
                     2);
}

static void no_month_loses_days(void **state)
{
    const char *store =
        "SELECT poolscope_api.summary_store(1, 'tags', 'day', "
        "'2026-01-01 00:00+00', 0, 0, '{%s}', '\\x01', '\\x02', '\\x03')";
    const char *told = "SELECT snapshots FROM poolscope_data.tag_days";
    (void)state;
    (void)test_sql_textf(test_store.owner, store, "5,0,7");
    (void)test_sql_textf(test_store.owner, store, "0,0,9");
    assert_string_equal(test_sql_text(test_store.owner, told), "{5,0,7}");
    (void)test_sql_textf(test_store.owner, store, "5,1,9");
    assert_string_equal(test_sql_text(test_store.owner, told), "{5,1,9}");
}

static void old_hours_without_a_partition_go(void **state)
{
    (void)state;
    test_sql(test_store.owner,
             "SELECT sum_up(1, day(150), 1), sum_up(1, day(160), 1); "
             "INSERT INTO poolscope_data.summary_due VALUES (1, 'tags', 'day', "
             "date_trunc('month', day(150), 'UTC')); "
             "UPDATE poolscope_data.maintenance SET next_at = '-infinity'; "
             "SELECT poolscope_api.maintain('1 s')");
    assert_true(count("SELECT count(*) FROM poolscope_data.tag_hours "
                      "WHERE day = day(150)") == 1);
    test_sql(test_store.owner,
             "DELETE FROM poolscope_data.summary_due; "
             "UPDATE poolscope_data.maintenance SET next_at = '-infinity'; "
             "SELECT poolscope_api.maintain('1 s')");
    assert_int_equal(count("SELECT count(*) FROM poolscope_data.tag_hours"), 0);
}

/* Else a damaged chunk would keep the samples of all hosts for ever. */
static void what_cannot_be_summed_up_is_kept_for_a_week(void **state)
{
    const char *waits = "SELECT poolscope_data.partition_waits('tag_chunk', "
                        "day(%d), day(%d))::int";
    (void)state;
    test_sql(test_store.owner,
             "SELECT touch(1, day(30)), touch(1, day(10)); "
             "UPDATE poolscope_data.summary_due SET retry_at = now()");
    assert_string_equal(test_sql_textf(test_store.owner, waits, 10, 9), "1");
    assert_string_equal(test_sql_textf(test_store.owner, waits, 30, 29), "0");
    test_sql(test_store.owner,
             "UPDATE poolscope_data.summary_due SET retry_at = NULL");
    assert_string_equal(test_sql_textf(test_store.owner, waits, 30, 29), "1");
}

/* Hours of the first version come to a day of which samples have come. */
static void hours_do_not_hide_samples(void **state)
{
    (void)state;
    test_sql(test_store.owner,
             "SELECT touch(1, day(2)); "
             "SELECT poolscope_api.convert_day(1, 'tag_hours', day(2), '{1}', "
             "'h', 'l', 'd'); "
             "SELECT poolscope_api.convert_day(1, 'tag_hours', day(9), '{1}', "
             "'h', 'l', 'd')");
    assert_int_equal(count("SELECT count(*) FROM poolscope_data.tag_hours"), 1);
}

/* The server cannot read the chunks of one host. */
static void one_host_keeps_no_other_waiting(void **state)
{
    struct psc_error err = {.msg = ""};
    struct rollup r;
    bool more;
    (void)state;
    (void)test_session_claim(test_store.writer,
                             test_host_enrol(test_store.writer, "alpha"));
    (void)test_session_claim(test_store.writer,
                             test_host_enrol(test_store.writer, "beta"));
    test_sql(test_store.owner,
             "SELECT touch(h.host_id, day(4)) FROM poolscope_data.host h; "
             "CREATE OR REPLACE FUNCTION poolscope_api.summary_parts("
             "p_host_id bigint, p_kind text, p_step text, p_from timestamptz) "
             "RETURNS TABLE (n_to bigint, snapshots integer[], head bytea, "
             "levels bytea, data bytea) LANGUAGE plpgsql AS $$ BEGIN "
             "IF p_host_id = (SELECT min(host_id) FROM poolscope_data.host) "
             "THEN RAISE data_corrupted; END IF; END $$");
    rollup_init(&r, &metrics, &stop);
    assert_int_equal(rollup_pass(&r, test_store.owner,
                                 psc_clock_mono_us() + 60 * PSC_US_PER_S, &more,
                                 &err),
                     PSC_OK);
    rollup_fini(&r);
    assert_int_equal(count("SELECT count(*) FROM poolscope_data.summary_due "
                           "WHERE retry_at > now()"),
                     1);
    assert_int_equal(count("SELECT count(*) FROM poolscope_data.summary_due"),
                     1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(samples_that_are_hardly_kept_are_summed_up,
                                  clear),
        cmocka_unit_test_teardown(what_comes_after_weeks_is_summed_up, clear),
        cmocka_unit_test_teardown(longer_retention_harms_no_summary, clear),
        cmocka_unit_test_teardown(a_day_whose_samples_are_there_is_made_anew,
                                  clear),
        cmocka_unit_test_teardown(no_month_loses_days, clear),
        cmocka_unit_test_teardown(old_hours_without_a_partition_go, clear),
        cmocka_unit_test_teardown(what_cannot_be_summed_up_is_kept_for_a_week,
                                  clear),
        cmocka_unit_test_teardown(hours_do_not_hide_samples, clear),
        cmocka_unit_test_teardown(one_host_keeps_no_other_waiting, clear),
    };
    return cmocka_run_group_tests(tests, begin, test_store_end);
}
