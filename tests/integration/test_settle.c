/* Settling: whatever hosts send, chunks hold just that, each sample once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "tests/lib/fresh_check.h"
#include "tests/lib/store.h"

enum { TAGS = 40, COUNTERS = 12 };

#define MINUTE_US (60 * PSC_US_PER_S)
#define HOUR_US   (60 * MINUTE_US)

static uint64_t seed = 88172645463325252u;

static uint64_t any(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static uint32_t below(uint32_t n)
{
    return (uint32_t)((any() >> 33) % n);
}

/* The beginning of an hour, @hours ago. */
static int64_t hours_ago(int hours)
{
    int64_t now_us = psc_clock_wall_us();
    return now_us - now_us % HOUR_US - hours * HOUR_US;
}

/* ------------------------------------------------------- what hosts send */

static int64_t next_id(void)
{
    static int64_t id;
    return ++id;
}

static uint8_t some_flags(void)
{
    static const uint8_t flags[] = {15, 12, 12 | ENTRY_RECLAIMABLE, 8, 7, 11};
    return flags[below(sizeof(flags))];
}

static void change_tag(struct fresh_cell *c, bool may_reflag)
{
    if (!c->present && may_reflag) {
        c->flags = some_flags();
    }
    c->present = true;
    for (unsigned i = 0; i < TABLE_COLUMNS_MAX; i++) {
        if ((c->flags >> i & 1) != 0 && below(3) > 0) {
            c->values[i] += (int64_t)below(1u << below(31)) - 500;
        }
    }
    if ((c->flags & 7) == 7) {
        c->values[COL_OUTSTANDING] =
            c->values[COL_ALLOCS] - c->values[COL_FREES];
    }
}

static void change_counter(struct fresh_cell *c)
{
    double v = below(9) == 0 ? (double)NAN : (double)below(1000) / 8;
    c->present = true;
    if ((c->flags & ENTRY_REAL) != 0) {
        memcpy(c->values, &v, sizeof(v));
    } else {
        c->values[0] += (int64_t)below(100000) - 1000;
    }
}

/* Absent entries have no values; flags stay where the dictionary may have
 * them. */
static void vanish(struct fresh_cell *c)
{
    uint8_t flags = c->flags;
    *c = (struct fresh_cell){.flags = flags};
}

static void change(struct fresh_host *h, bool may_reflag)
{
    for (uint32_t i = 0; i < h->tags.n_ids; i++) {
        if (below(5) == 0) {
            change_tag(&h->tags.now[i], may_reflag);
        } else if (below(60) == 0) {
            vanish(&h->tags.now[i]);
        }
    }
    for (uint32_t i = 0; i < h->counters.n_ids; i++) {
        if (below(3) == 0) {
            change_counter(&h->counters.now[i]);
        } else if (below(60) == 0) {
            vanish(&h->counters.now[i]);
        }
    }
}

/* Samples from @at_us until @until_us, some without one of the tables. */
static void feed(struct fresh_host *h, int64_t at_us, int64_t until_us,
                 int64_t interval_us)
{
    unsigned boot = 0;
    for (; at_us < until_us; at_us += interval_us - below(1000)) {
        bool keyframe = below(40) == 0;
        boot += below(50) == 0;
        change(h, keyframe);
        fresh_store(test_store.owner, h, at_us, boot, keyframe || below(20) > 0,
                    keyframe || below(4) > 0, keyframe);
    }
}

static void host_new(struct fresh_host *h, int64_t interval_us)
{
    char sql[160];
    fresh_host_init(h, next_id(), TAGS, COUNTERS, true);
    for (uint32_t i = 0; i < TAGS; i++) {
        h->tags.now[i].flags = some_flags();
    }
    for (uint32_t i = 0; i < COUNTERS; i++) {
        h->counters.now[i].flags = (i & 1) != 0 ? ENTRY_REAL : 0;
    }
    (void)snprintf(sql, sizeof(sql),
                   "INSERT INTO poolscope_data.host_state (host_id, "
                   "interval_us) VALUES (%lld, %lld)",
                   (long long)h->host_id, (long long)interval_us);
    test_sql(test_store.owner, sql);
}

/* -------------------------------------------------------------- settling */

static unsigned settle_all(void)
{
    return fresh_settle(test_store.writer);
}

static long long count(const char *table, const struct fresh_host *h)
{
    return strtoll(test_sql_textf(test_store.owner,
                                  "SELECT count(*) FROM poolscope_data.%s "
                                  "WHERE host_id = %lld",
                                  table, (long long)h->host_id),
                   NULL, 10);
}

static int64_t settled(const struct fresh_host *h)
{
    return fresh_settled(test_store.owner, h, true);
}

/* Nothing has come for two hours: the slot of what came is closed. */
static void fall_silent(void)
{
    test_sql(test_store.owner,
             "UPDATE poolscope_data.fresh_slot SET "
             "opened_at = opened_at - interval '2 hours' WHERE present;"
             "SELECT poolscope_api.fresh_turn();"
             "UPDATE poolscope_data.fresh_slot SET "
             "closed_at = closed_at - interval '2 hours'");
}

/* ----------------------------------------------------------------- tests */

static void random_hosts_are_settled_bit_by_bit(void **state)
{
    (void)state;
    static const int64_t intervals_us[] = {
        60 * PSC_US_PER_S, 120 * PSC_US_PER_S, 300 * PSC_US_PER_S,
        10 * PSC_US_PER_S, 3600 * PSC_US_PER_S};
    enum { HOSTS = 10 };
    struct fresh_host hosts[HOSTS];
    for (int i = 0; i < HOSTS; i++) {
        int64_t interval_us = intervals_us[i % 5];
        int hours = i % 5 == 3 ? 3 : 9;
        host_new(&hosts[i], interval_us);
        feed(&hosts[i], hours_ago(hours) + i * MINUTE_US, hours_ago(1),
             interval_us);
    }
    assert_int_equal(settle_all(), 0);
    for (int i = 0; i < HOSTS; i++) {
        fresh_check(test_store.owner, &hosts[i]);
        assert_true(settled(&hosts[i]) > 0);
        int64_t before = settled(&hosts[i]);
        assert_int_equal(settle_all(), 0);
        assert_int_equal(settled(&hosts[i]), before);
        feed(&hosts[i], hours_ago(1), hours_ago(0), intervals_us[i % 5]);
    }
    assert_int_equal(settle_all(), 0);
    for (int i = 0; i < HOSTS; i++) {
        fresh_check(test_store.owner, &hosts[i]);
        fresh_host_fini(&hosts[i]);
    }
}

/* How many hours of one host's samples become how many chunks. */
static void spans_follow_the_interval(void **state)
{
    (void)state;
    static const struct {
        int64_t interval_us;
        int chunks; /* of 8 whole hours, 4 of them within one of 4 hours */
    } cases[] = {{75 * PSC_US_PER_S, 8},
                 {76 * PSC_US_PER_S, 4},
                 {150 * PSC_US_PER_S, 4},
                 {151 * PSC_US_PER_S, 2}};
    int64_t day_us = 24 * HOUR_US;
    int64_t from_us = psc_clock_wall_us() / day_us * day_us - day_us;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fresh_host h;
        host_new(&h, cases[i].interval_us);
        for (int64_t at = from_us; at < from_us + 8 * HOUR_US + MINUTE_US;
             at += 5 * MINUTE_US) {
            change(&h, false);
            fresh_store(test_store.owner, &h, at, 0, true, false, false);
        }
        assert_int_equal(settle_all(), 0);
        fresh_check(test_store.owner, &h);
        assert_int_equal(count("tag_chunk", &h), cases[i].chunks);
        assert_int_equal(settled(&h), 96);
        fresh_host_fini(&h);
    }
}

static void short_spans_can_be_set(void **state)
{
    (void)state;
    struct fresh_host h;
    host_new(&h, 10 * PSC_US_PER_S);
    test_sql(test_store.owner, "UPDATE poolscope_data.setting SET value = "
                               "'10 min' WHERE name = 'settle_span'");
    for (int64_t at = hours_ago(2); at < hours_ago(1);
         at += 30 * PSC_US_PER_S) {
        change(&h, false);
        fresh_store(test_store.owner, &h, at, 0, true, true,
                    at % (10 * MINUTE_US) == 0);
    }
    assert_int_equal(settle_all(), 0);
    test_sql(test_store.owner, "UPDATE poolscope_data.setting SET value = "
                               "'1 hour' WHERE name = 'settle_span'");
    fresh_check(test_store.owner, &h);
    assert_int_equal(count("tag_chunk", &h), 5);
    assert_int_equal(count("counter_chunk", &h), 5);
    assert_int_equal(settled(&h), 100);
    fresh_host_fini(&h);
}

/* What a span of 4,096 snapshots or more becomes, and of times that go back. */
static void runs_are_split_where_they_must(void **state)
{
    (void)state;
    struct fresh_host h;
    host_new(&h, 1 * PSC_US_PER_S);
    int64_t from_us = hours_ago(4);
    for (int i = 0; i < 5000; i++) {
        if (i % 20 == 0) {
            change(&h, false);
        }
        fresh_store(test_store.owner, &h, from_us + i * 700000LL, 0, true,
                    false, false);
    }
    feed(&h, hours_ago(2), hours_ago(1), MINUTE_US); /* the clock is ahead */
    feed(&h, hours_ago(3), hours_ago(2), MINUTE_US); /* and right again */
    feed(&h, hours_ago(2), hours_ago(1), MINUTE_US);
    feed(&h, hours_ago(1), hours_ago(1) + MINUTE_US, MINUTE_US);
    assert_int_equal(settle_all(), 0);
    fresh_check(test_store.owner, &h);
    assert_int_equal(count("tag_chunk", &h), 5);
    fresh_host_fini(&h);
}

static void impossible_times_are_settled_too(void **state)
{
    (void)state;
    struct fresh_host h;
    host_new(&h, MINUTE_US);
    const int64_t long_ago_us = -350000 * HOUR_US; /* in 1930 */
    feed(&h, long_ago_us, long_ago_us + HOUR_US / 2, MINUTE_US);
    feed(&h, hours_ago(-9999), hours_ago(-10000), MINUTE_US);
    feed(&h, hours_ago(2), hours_ago(1) + MINUTE_US, MINUTE_US);
    assert_int_equal(settle_all(), 0);
    fresh_check(test_store.owner, &h);
    assert_true(settled(&h) > 100);
    fresh_host_fini(&h);
}

static void silent_hosts_are_settled_whole_and_fenced(void **state)
{
    (void)state;
    struct fresh_host h;
    host_new(&h, MINUTE_US);
    feed(&h, hours_ago(3), hours_ago(2) - 10 * MINUTE_US, MINUTE_US);
    assert_int_equal(settle_all(), 0);
    assert_int_equal(settled(&h), 0); /* it may have been storing just now */
    fall_silent();
    long long session = strtoll(
        test_sql_textf(test_store.owner,
                       "SELECT session FROM poolscope_data.ingest_cursor "
                       "WHERE host_id = %lld",
                       (long long)h.host_id),
        NULL, 10);
    assert_int_equal(settle_all(), 0);
    fresh_check(test_store.owner, &h);
    assert_int_equal(settled(&h), h.tags.rows[h.tags.n_rows - 1].n);
    /* Both tables ended with nothing behind them. */
    assert_int_equal(
        strtoll(test_sql_textf(test_store.owner,
                               "SELECT session FROM "
                               "poolscope_data.ingest_cursor WHERE host_id = "
                               "%lld",
                               (long long)h.host_id),
                NULL, 10),
        session + 2);
    /* It comes back. */
    feed(&h, hours_ago(1), hours_ago(0), MINUTE_US);
    feed(&h, hours_ago(0), hours_ago(0) + MINUTE_US, MINUTE_US);
    assert_int_equal(settle_all(), 0);
    fresh_check(test_store.owner, &h);
    assert_true(settled(&h) > 60);
    fresh_host_fini(&h);
}

/* An agent drains its spool: times lie far back, but it is not silent. */
static void backlogs_are_not_silence(void **state)
{
    (void)state;
    struct fresh_host h;
    host_new(&h, MINUTE_US);
    feed(&h, hours_ago(60), hours_ago(57) - 20 * MINUTE_US, MINUTE_US);
    assert_int_equal(settle_all(), 0);
    fresh_check(test_store.owner, &h);
    assert_int_equal(count("tag_chunk", &h), 2);
    fresh_host_fini(&h);
}

/* An agent is told to send no counters any more. */
static void a_table_may_end_alone(void **state)
{
    (void)state;
    struct fresh_host h;
    host_new(&h, MINUTE_US);
    for (int64_t at = hours_ago(5); at <= hours_ago(2); at += 2 * MINUTE_US) {
        change(&h, false);
        fresh_store(test_store.owner, &h, at, 0, true, at < hours_ago(4),
                    false);
        if (at == hours_ago(3) - 2 * MINUTE_US || at == hours_ago(2)) {
            assert_int_equal(settle_all(), 0);
            assert_int_equal(fresh_settled(test_store.owner, &h, false),
                             at == hours_ago(2) ? 30 : 0);
        }
    }
    fresh_check(test_store.owner, &h);
    fresh_host_fini(&h);
}

static void damaged_rows_stop_their_host_alone(void **state)
{
    (void)state;
    struct fresh_host hosts[3];
    for (int i = 0; i < 3; i++) {
        host_new(&hosts[i], MINUTE_US);
        feed(&hosts[i], hours_ago(3), hours_ago(1), MINUTE_US);
    }
    const struct fresh_row *bad = &hosts[1].tags.rows[20];
    (void)test_sql_textf(test_store.owner,
                         "UPDATE poolscope_data.fresh SET tags = "
                         "tags || '\\x01' WHERE host_id = %lld AND n = %lld "
                         "RETURNING n",
                         (long long)hosts[1].host_id, (long long)bad->n);
    assert_int_equal(settle_all(), 1);
    assert_int_equal(settled(&hosts[1]), 0);
    assert_true(settled(&hosts[0]) > 0 && settled(&hosts[2]) > 0);
    const char *why = test_sql_textf(test_store.owner,
                                     "SELECT failed FROM "
                                     "poolscope_data.host_settle WHERE "
                                     "host_id = %lld AND retry_at > now() + "
                                     "interval '59 min'",
                                     (long long)hosts[1].host_id);
    char wanted[64];
    (void)snprintf(wanted, sizeof(wanted),
                   "tags: sample %lld: ", (long long)bad->n);
    assert_memory_equal(why, wanted, strlen(wanted));
    assert_int_equal(settle_all(), 0); /* left alone */

    (void)test_sql_textf(test_store.owner,
                         "UPDATE poolscope_data.fresh SET tags = "
                         "substr(tags, 1, length(tags) - 1) "
                         "WHERE host_id = %lld AND n = %lld RETURNING n",
                         (long long)hosts[1].host_id, (long long)bad->n);
    test_sql(test_store.owner, "UPDATE poolscope_data.host_settle SET "
                               "retry_at = now()");
    assert_int_equal(settle_all(), 0);
    for (int i = 0; i < 3; i++) {
        fresh_check(test_store.owner, &hosts[i]);
        assert_true(settled(&hosts[i]) > 0);
        fresh_host_fini(&hosts[i]);
    }
}

/* settle_store() as somebody slower would call it. */
static void the_slower_of_two_changes_nothing(void **state)
{
    (void)state;
    struct fresh_host h;
    host_new(&h, MINUTE_US);
    for (int64_t at = hours_ago(3); at < hours_ago(1); at += MINUTE_US) {
        change(&h, false);
        fresh_store(test_store.owner, &h, at, 0, true, true, false);
    }
    assert_int_equal(settle_all(), 0);
    long long chunks = count("tag_chunk", &h);
    static const char sql[] =
        "SELECT poolscope_api.settle_store(%lld, 'tags', %lld, %lld, "
        "ARRAY[now()], ARRAY[1], ARRAY[2], ARRAY[now()], ARRAY[now()], "
        "ARRAY[2], ARRAY[''::bytea], ARRAY[''::bytea], ARRAY[''::bytea])";
    assert_string_equal(test_sql_textf(test_store.writer, sql,
                                       (long long)h.host_id, 0LL,
                                       (long long)settled(&h)),
                        "f");
    /* Nor does one who would leave a delta without what it changes. */
    assert_string_equal(
        test_sql_textf(test_store.writer, sql, (long long)h.host_id,
                       (long long)settled(&h), (long long)settled(&h) + 3),
        "f");
    assert_int_equal(count("tag_chunk", &h), chunks);
    fresh_check(test_store.owner, &h);
    fresh_host_fini(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_hosts_are_settled_bit_by_bit),
        cmocka_unit_test(spans_follow_the_interval),
        cmocka_unit_test(short_spans_can_be_set),
        cmocka_unit_test(runs_are_split_where_they_must),
        cmocka_unit_test(impossible_times_are_settled_too),
        cmocka_unit_test(silent_hosts_are_settled_whole_and_fenced),
        cmocka_unit_test(backlogs_are_not_silence),
        cmocka_unit_test(a_table_may_end_alone),
        cmocka_unit_test(damaged_rows_stop_their_host_alone),
        cmocka_unit_test(the_slower_of_two_changes_nothing),
    };
    return cmocka_run_group_tests(tests, test_store_begin, test_store_end);
}
