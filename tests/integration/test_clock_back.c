/* A collector's clock that jumps a day ahead and back: what comes afterwards
 * has its true time, in the right order, and hours are summed up all the
 * same. Small steps still keep times in order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "tests/lib/database.h"
#include "tests/lib/store.h"

#define MINUTE_US (60 * PSC_US_PER_S)
#define HOUR_US   (60 * MINUTE_US)

static struct test_database db;
static PGconn *writer, *owner;
static long long host_id, session;
static int tag;

static void store(long long seq, int64_t at_us, int64_t bytes)
{
    char ids[32];
    char values[32];
    (void)snprintf(ids, sizeof(ids), "{%d}", tag);
    (void)snprintf(values, sizeof(values), "{%lld}", (long long)bytes);
    const struct test_batch b = {
        .host_id = host_id,
        .session = session,
        .seq = seq,
        .at_us = at_us,
        .tags_kind = seq == 1 ? STORE_KEYFRAME : STORE_DELTA,
        .tag_ids = ids,
        .allocs = "{NULL}",
        .frees = "{NULL}",
        .outstanding = "{NULL}",
        .bytes = values,
        .tags_gone = "{}",
    };
    assert_string_equal(test_batch_store(writer, &b), "stored");
}

static const char *at_of(long long seq)
{
    return test_sql_textf(owner,
                          "SELECT round(extract(epoch FROM at - now()) / 3600) "
                          "FROM poolscope_data.fresh WHERE host_id = %lld "
                          "AND seq = %lld",
                          host_id, seq);
}

static void times_are_true_again_after_a_jump(void **state)
{
    (void)state;
    int64_t now_us = psc_clock_wall_us();
    host_id = test_host_enrol(writer, "jumped");
    session = test_session_claim(writer, host_id);
    store(1, now_us - 3 * HOUR_US, 1);
    store(2, now_us - 2 * HOUR_US, 2);
    store(3, now_us + 20 * HOUR_US, 3); /* ahead */
    store(4, now_us + 21 * HOUR_US, 4);
    /* The database's clock was ahead as well, and took them for true. */
    test_sql(owner, "UPDATE poolscope_data.ingest_cursor SET out_of_range = "
                    "false, last_at = now() + interval '21 hours'");
    store(5, now_us - 30 * PSC_US_PER_S, 5); /* and right again */
    store(6, now_us - 15 * PSC_US_PER_S, 6);
    store(7, now_us - 20 * PSC_US_PER_S, 7); /* a small step */
    assert_string_equal(at_of(4), "21");
    assert_string_equal(at_of(5), "0");
    assert_string_equal(at_of(7), "0");
    assert_string_equal(
        test_sql_textf(owner,
                       "SELECT string_agg(seq::text, ' ' ORDER BY at) FROM "
                       "poolscope_data.fresh WHERE host_id = %lld "
                       "AND seq >= 5",
                       host_id),
        "5 6 7");
    assert_string_equal(
        test_sql_textf(owner,
                       "SELECT count(*) FROM poolscope.event WHERE host_id = "
                       "%lld AND event_id = 'clock_stepped_back'",
                       host_id),
        "1");
    assert_string_equal(test_sql_textf(owner,
                                       "SELECT bytes FROM poolscope.pool_now "
                                       "WHERE host = 'jumped'"),
                        "7");
}

static void the_hours_are_summed_up_all_the_same(void **state)
{
    (void)state;
    test_sql(writer, "SELECT poolscope_api.maintain('10 seconds')");
    assert_string_equal(
        test_sql_text(owner, "SELECT last_bytes FROM poolscope.pool_hour WHERE "
                             "host = 'jumped' AND hour <= now() "
                             "ORDER BY hour DESC LIMIT 1"),
        "7");
    assert_string_equal(
        test_sql_text(owner, "SELECT string_agg(bytes::text, ' ' ORDER BY at) "
                             "FROM poolscope.pool_history('jumped', 'slab', "
                             "'a', now() - interval '4 hours', now())"),
        "1 2 5 6 7");
}

/* One whose clock is always ahead of the database's is not told so again and
 * again. */
static void a_collector_that_stays_ahead_is_left_alone(void **state)
{
    (void)state;
    int64_t now_us = psc_clock_wall_us();
    host_id = test_host_enrol(writer, "ahead");
    session = test_session_claim(writer, host_id);
    for (long long seq = 1; seq <= 5; seq++) {
        store(seq, now_us + HOUR_US / 2 + seq * PSC_US_PER_S, seq);
    }
    assert_int_equal(test_sql_int(owner,
                                  "SELECT count(*) FROM poolscope.event WHERE "
                                  "event_id = 'clock_stepped_back' AND host = "
                                  "'ahead'"),
                     0);
}

static int start(void **state)
{
    (void)state;
    test_database_migrated(&db, false);
    writer = test_database_connect(&db, DATABASE_WRITER);
    owner = test_database_connect(&db, DATABASE_OWNER);
    tag = test_tag_id(writer, "slab", "a");
    return 0;
}

static int stop(void **state)
{
    (void)state;
    PQfinish(writer);
    PQfinish(owner);
    test_database_stop(&db);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_are_true_again_after_a_jump),
        cmocka_unit_test(the_hours_are_summed_up_all_the_same),
        cmocka_unit_test(a_collector_that_stays_ahead_is_left_alone),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
