/* Summaries made by the worker's roll-up, against the same statistics made by
 * SQL from the chunks of samples; late chunks; months; damage; retention. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collector/metrics.h"
#include "collector/rollup.h"
#include "common/clock.h"
#include "tests/lib/store.h"
#include "tests/lib/tiers.h"

enum { TAGS = 50, SPANS_A_DAY = 12, SAMPLES = 24 };
#define HOUR_US INT64_C(3600000000)
#define DAY_US  (24 * HOUR_US)

static struct metrics metrics;
static atomic_bool stop;
static struct rollup rollup;
static long long host;
static int64_t today_us; /* 00:00 UTC */
static uint64_t seed = 7;

static int64_t below(uint32_t n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (int64_t)((seed >> 33) % n);
}

/* A chunk of two hours, a sample every five minutes. */
static void insert(uint32_t columns, int64_t n, int64_t at_us)
{
    static const uint8_t boot[CHUNK_BOOT_BYTES] = {1};
    struct tier_chunk c = {.host_id = host,
                           .span_us = at_us,
                           .n_from = n,
                           .n_to = n + SAMPLES - 1,
                           .at_from_us = at_us,
                           .snapshots = SAMPLES};
    struct chunk_writer w;
    chunk_writer_init(&w, columns, &chunk_openssl);
    for (int64_t i = 0; i < SAMPLES; i++) {
        c.at_to_us = at_us + i * 2 * HOUR_US / SAMPLES;
        assert_int_equal(
            chunk_writer_snapshot(&w, n + i, c.at_to_us, c.at_to_us, boot), 0);
        chunk_writer_keyframe(&w);
        for (uint32_t id = 1; id <= TAGS; id++) {
            int64_t v[] = {below(1000), 0, below(500), 4096 * below(1000)};
            if (id % 7 != 0 || i % 5 != 0) {
                assert_int_equal(chunk_writer_put(&w, id, id % 3 ? 12 : 8, v),
                                 0);
            }
        }
    }
    tier_store_chunk(test_store.owner, &w, &c);
    chunk_writer_fini(&w);
}

/* As settling does in the same transaction. */
static void touch(const char *kind, int64_t at_us)
{
    (void)test_sql_textf(test_store.owner,
                         "SELECT poolscope_data.summary_touch(%lld, '%s', "
                         "ARRAY[to_timestamp(%lld)])",
                         host, kind, (long long)(at_us / 1000000));
}

static void fill_day(int64_t day_us, int64_t n)
{
    for (int64_t i = 0; i < SPANS_A_DAY; i++) {
        int64_t at_us = day_us + i * 2 * HOUR_US;
        if (i % 5 != 3) {
            insert(4, n + i * SAMPLES, at_us);
            insert(1, n + i * SAMPLES, at_us);
            touch("tags", at_us);
            touch("counters", at_us);
        }
    }
}

static bool roll_up(void)
{
    struct psc_error err = {.msg = ""};
    bool more;
    if (rollup_pass(&rollup, test_store.writer,
                    psc_clock_mono_us() + 60 * PSC_US_PER_S, &more,
                    &err) != PSC_OK) {
        fail_msg("%s", err.msg);
    }
    return more;
}

static long long count(const char *sql)
{
    return test_sql_int(test_store.owner, sql);
}

/* Rows that only one of two ways tells; the mean of a day comes from those of
 * its hours, which are rounded. */
static long long differences(const char *step)
{
    char sql[4096];
    bool hours = strcmp(step, "hour") == 0;
    snprintf(
        sql, sizeof(sql),
        "WITH made AS MATERIALIZED ("
        "SELECT r.at, r.id, r.first_bytes, r.last_bytes, r.min_bytes, "
        "r.max_bytes, %s, r.last_outstanding "
        "FROM poolscope_data.tag_%ss c, "
        "poolscope_data.chunk_blocks(c.head) b, "
        "poolscope_data.summary_tag_rows(c.head, "
        "substr(c.levels, b.levels_from, b.levels_length), "
        "substr(c.data, b.data_from, b.data_length), b.block) r), "
        "simple AS MATERIALIZED ("
        "SELECT date_trunc('%s', p.at, 'UTC') AS at, p.id, "
        "(array_agg(p.bytes ORDER BY p.at))[1], "
        "(array_agg(p.bytes ORDER BY p.at DESC))[1], min(p.bytes), "
        "max(p.bytes), %s, "
        "(array_agg(p.outstanding ORDER BY p.at DESC))[1] "
        "FROM poolscope_data.tag_chunk c, generate_series(1, %d) t(id), "
        "poolscope_data.chunk_find(c.head, t.id) f, "
        "LATERAL (SELECT t.id, x.* FROM poolscope_data.chunk_points(c.head, "
        "substr(c.levels, f.levels_from, f.levels_length), "
        "substr(c.data, f.data_from, f.data_length), t.id) x) p "
        "GROUP BY 1, 2) "
        "SELECT count(*) FROM ((TABLE made EXCEPT TABLE simple) UNION ALL "
        "(TABLE simple EXCEPT TABLE made)) d",
        hours ? "r.mean_bytes" : "0", step, step,
        hours ? "round(avg(p.bytes))::bigint" : "0", TAGS);
    return count(sql);
}

static int begin(void **state)
{
    if (test_store_begin(state) != 0) {
        return -1;
    }
    host = test_host_enrol(test_store.writer, "alpha");
    (void)test_session_claim(test_store.writer, host);
    (void)test_sql_textf(test_store.owner,
                         "INSERT INTO poolscope_data.host_settle "
                         "VALUES (%lld, 0, 0) RETURNING 1",
                         host);
    rollup_init(&rollup, &metrics, &stop);
    int64_t now_us = psc_clock_wall_us();
    today_us = now_us - now_us % DAY_US;
    return 0;
}

static int end(void **state)
{
    rollup_fini(&rollup);
    return test_store_end(state);
}

static void days_that_are_over_are_summed_up(void **state)
{
    (void)state;
    fill_day(today_us - 4 * DAY_US, 1000);
    fill_day(today_us - 3 * DAY_US, 2000);
    fill_day(today_us, 5000);
    assert_false(roll_up());
    assert_int_equal(count("SELECT count(*) FROM poolscope_data.tag_hours"), 2);
    assert_int_equal(count("SELECT count(*) FROM poolscope_data.counter_hours"),
                     2);
    assert_int_equal(
        count("SELECT sum(s) FROM poolscope_data.tag_hours, unnest(snapshots) "
              "s"),
        2 * 10 * SAMPLES);
    /* Today's is due, but not over. */
    assert_int_equal(count("SELECT count(*) FROM poolscope_data.summary_due "
                           "WHERE step = 'hour'"),
                     2);
    test_sql(test_store.owner,
             "DELETE FROM poolscope_data.tag_chunk WHERE n_from >= 5000");
    assert_int_equal(differences("hour"), 0);
}

static void what_comes_late_makes_a_day_anew(void **state)
{
    int64_t at_us = today_us - 3 * DAY_US + 3 * 2 * HOUR_US;
    (void)state;
    insert(4, 9000, at_us);
    touch("tags", at_us);
    assert_int_equal(count("SELECT count(*) FROM poolscope_data.tag_hours"), 1);
    assert_int_equal(count("SELECT count(*) FROM poolscope_data.counter_hours"),
                     2);
    assert_false(roll_up());
    assert_int_equal(count("SELECT count(*) FROM poolscope_data.tag_hours"), 2);
    assert_int_equal(differences("hour"), 0);
}

/* A chunk comes between reading and storing. */
static void parts_of_before_are_not_stored(void **state)
{
    (void)state;
    const char *sql =
        "SELECT poolscope_api.summary_store(%lld, 'tags', 'hour', "
        "to_timestamp(%lld), %s, '{1}', '\\x01', '\\x02', '\\x03')";
    assert_string_equal(
        test_sql_textf(test_store.writer, sql, host,
                       (long long)((today_us - 4 * DAY_US) / 1000000), "9, 5"),
        "f");
    assert_int_equal(differences("hour"), 0);
}

static void samples_stay_until_they_are_in_summaries(void **state)
{
    (void)state;
    const char *waits = "SELECT poolscope_data.partition_waits('tag_chunk', "
                        "now() - interval '%s', now() + interval '1 day')::int";
    assert_string_equal(test_sql_textf(test_store.owner, waits, "1 day"), "1");
    test_sql(test_store.owner, "DELETE FROM poolscope_data.summary_due "
                               "WHERE step = 'hour'");
    assert_string_equal(test_sql_textf(test_store.owner, waits, "9 days"), "0");
}

static void damage_is_left_for_a_day(void **state)
{
    (void)state;
    test_sql(test_store.owner,
             "UPDATE poolscope_data.tag_chunk "
             "SET levels = set_byte(levels, 2, get_byte(levels, 2) # 1) "
             "WHERE n_from = 9000");
    touch("tags", today_us - 3 * DAY_US);
    assert_false(roll_up());
    assert_int_equal(count("SELECT count(*) FROM poolscope_data.summary_due "
                           "WHERE retry_at > now() + interval '23 hours'"),
                     1);
    assert_int_equal(count("SELECT count(*) FROM poolscope_data.tag_hours"), 1);
    test_sql(test_store.owner, "DELETE FROM poolscope_data.tag_chunk "
                               "WHERE n_from = 9000; "
                               "UPDATE poolscope_data.summary_due "
                               "SET retry_at = NULL");
    assert_false(roll_up());
    assert_int_equal(differences("hour"), 0);
}

static void months_that_are_over_are_summed_up(void **state)
{
    (void)state;
    /* As if the fleet's newest sample came long after. */
    test_sql(test_store.owner,
             "CREATE OR REPLACE FUNCTION poolscope_data.in_range("
             "p_at timestamptz) RETURNS boolean LANGUAGE sql AS 'SELECT true'; "
             "UPDATE poolscope_data.ingest_cursor "
             "SET last_at = now() + interval '70 days'");
    while (roll_up()) {
    }
    assert_true(count("SELECT count(*) FROM poolscope_data.tag_days") >= 1);
    assert_true(count("SELECT count(*) FROM poolscope_data.counter_days") >= 1);
    assert_int_equal(count("SELECT count(*) FROM poolscope_data.summary_due"),
                     0);
    assert_int_equal(differences("day"), 0);
    /* Most tags have as many samples in each hour: their mean is exact but for
     * rounding. */
    assert_true(
        count("SELECT max(abs(d.mean_bytes - h.mean)) FROM "
              "(SELECT r.* FROM poolscope_data.tag_days c, "
              "poolscope_data.chunk_blocks(c.head) b, "
              "poolscope_data.summary_tag_rows(c.head, "
              "substr(c.levels, b.levels_from, b.levels_length), "
              "substr(c.data, b.data_from, b.data_length), b.block) r) d "
              "JOIN (SELECT date_trunc('day', r.at, 'UTC') AS at, r.id, "
              "avg(r.mean_bytes) AS mean FROM poolscope_data.tag_hours c, "
              "poolscope_data.chunk_blocks(c.head) b, "
              "poolscope_data.summary_tag_rows(c.head, "
              "substr(c.levels, b.levels_from, b.levels_length), "
              "substr(c.data, b.data_from, b.data_length), b.block) r "
              "GROUP BY 1, 2) h USING (at, id) WHERE id % 7 <> 0") <= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(days_that_are_over_are_summed_up),
        cmocka_unit_test(what_comes_late_makes_a_day_anew),
        cmocka_unit_test(parts_of_before_are_not_stored),
        cmocka_unit_test(samples_stay_until_they_are_in_summaries),
        cmocka_unit_test(damage_is_left_for_a_day),
        cmocka_unit_test(months_that_are_over_are_summed_up),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
