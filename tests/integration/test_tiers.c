/* What the views say of samples in two tiers, against a model in C.
 *
 * Rows are stored as they come and settled up to random keyframes, now and then
 * while a reader looks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "tests/lib/lives.h"
#include "tests/lib/store.h"

enum { ROUNDS = 8, SQL_BYTES = 1024 };

/* --------------------------------------------------------- comparing it */

static PGresult *rows(const char *fmt, ...)
{
    char sql[SQL_BYTES];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(sql, sizeof(sql), fmt, args);
    va_end(args);
    return test_sql_rows(test_store.reader, sql);
}

static int64_t number(const PGresult *result, int row, int column)
{
    return strtoll(PQgetvalue(result, row, column), NULL, 10);
}

/* A column of a tag: @value, or NULL where it has none. */
static void check_column(const PGresult *result, int row, int column, int t,
                         int flag, int64_t value)
{
    bool has = (lives_tag_flags(t) & flag) != 0;
    assert_int_equal(PQgetisnull(result, row, column), !has);
    assert_true(!has || number(result, row, column) == value);
}

static int tag_named(const char *name)
{
    int t = (int)strtol(name + strlen("tag-"), NULL, 10);
    assert_in_range(t, 0, LIFE_TAGS - 1);
    return t;
}

#define TIME_SQL     "'epoch'::timestamptz + %" PRId64 " * interval '1 us'"
#define US_SQL(what) "(extract(epoch FROM " what ") * 1000000)::bigint"

/* Samples of @l that have a table and a time within bounds, by time. */
static int in_order(const struct life *l, enum kind kind, int64_t from_us,
                    int64_t to_us, const struct sample *found[LIFE_SAMPLES])
{
    int n = 0;
    for (int i = 0; i < l->n; i++) {
        const struct sample *s = &l->samples[i];
        if (!s->stored[kind] || s->at_us < from_us || s->at_us > to_us) {
            continue;
        }
        int at = n++;
        for (; at > 0 && found[at - 1]->at_us > s->at_us; at--) {
            found[at] = found[at - 1];
        }
        found[at] = s;
    }
    return n;
}

static void check_history(const struct life *l, int t, int64_t from_us,
                          int64_t to_us)
{
    const struct sample *want[LIFE_SAMPLES];
    int n = in_order(l, OF_TAGS, from_us, to_us, want);
    int row = 0;
    PGresult *result =
        rows("SELECT " US_SQL(
                 "at") ", allocs, frees, outstanding, bytes FROM "
                       "poolscope.pool_history('%s', 'slab', '%s', " TIME_SQL
                       ", " TIME_SQL ")",
             l->host, lives_names[t], from_us, to_us);
    for (int i = 0; i < n; i++) {
        if (!want[i]->has[t]) {
            continue;
        }
        assert_true(row < PQntuples(result));
        assert_int_equal(number(result, row, 0), want[i]->at_us);
        for (int c = 0; c < TABLE_COLUMNS_MAX; c++) {
            check_column(result, row, c + 1, t, 1 << c, want[i]->tags[t][c]);
        }
        row++;
    }
    assert_int_equal(row, PQntuples(result));
    PQclear(result);
}

static void check_counter_history(const struct life *l, int c, int64_t from_us,
                                  int64_t to_us)
{
    const struct sample *want[LIFE_SAMPLES];
    int n = in_order(l, OF_COUNTERS, from_us, to_us, want);
    int row = 0;
    PGresult *result =
        rows("SELECT " US_SQL("at") ", value FROM poolscope.counter_history("
                                    "'%s', 'gauge', '%s', " TIME_SQL
                                    ", " TIME_SQL ")",
             l->host, lives_names[c], from_us, to_us);
    for (int i = 0; i < n; i++) {
        if (!want[i]->counted[c]) {
            continue;
        }
        assert_true(row < PQntuples(result));
        assert_int_equal(number(result, row, 0), want[i]->at_us);
        assert_true(strtod(PQgetvalue(result, row, 1), NULL) ==
                    lives_counter_value(c, want[i]->counters[c]));
        row++;
    }
    assert_int_equal(row, PQntuples(result));
    PQclear(result);
}

/* All there is, and some part between two samples. */
static void check_histories(const struct life *l)
{
    int64_t from_us = l->samples[lives_any((uint32_t)l->n)].at_us;
    int64_t to_us = l->samples[lives_any((uint32_t)l->n)].at_us;
    for (int t = 0; t < LIFE_TAGS; t += 1 + (int)lives_any(9)) {
        check_history(l, t, -HOUR_US, INT64_C(1) << 52);
        check_history(l, t, from_us, to_us);
    }
    for (int c = 0; c < LIFE_COUNTERS; c++) {
        check_counter_history(l, c, -HOUR_US, INT64_C(1) << 52);
        check_counter_history(l, c, from_us, to_us);
    }
}

static const struct sample *newest(const struct life *l, enum kind kind)
{
    int i = l->n - 1;
    while (!l->samples[i].stored[kind]) {
        i--;
    }
    return &l->samples[i];
}

static void check_now(const struct life *l)
{
    const struct sample *s = newest(l, OF_TAGS);
    int expected = 0;
    PGresult *result =
        rows("SELECT tag, " US_SQL(
                 "at") ", allocs, frees, "
                       "outstanding, bytes FROM poolscope.pool_now "
                       "WHERE host = '%s'",
             l->host);
    for (int t = 0; t < LIFE_TAGS; t++) {
        expected += s->has[t];
    }
    assert_int_equal(PQntuples(result), expected);
    for (int row = 0; row < expected; row++) {
        int t = tag_named(PQgetvalue(result, row, 0));
        assert_true(s->has[t]);
        assert_int_equal(number(result, row, 1), s->at_us);
        for (int c = 0; c < TABLE_COLUMNS_MAX; c++) {
            check_column(result, row, c + 2, t, 1 << c, s->tags[t][c]);
        }
    }
    PQclear(result);
}

static void check_counter_now(const struct life *l)
{
    const struct sample *s = newest(l, OF_COUNTERS);
    int expected = 0;
    PGresult *result = rows("SELECT instance, " US_SQL(
                                "at") ", value FROM "
                                      "poolscope.counter_now WHERE host = '%s'",
                            l->host);
    for (int c = 0; c < LIFE_COUNTERS; c++) {
        expected += s->counted[c];
    }
    assert_int_equal(PQntuples(result), expected);
    for (int row = 0; row < expected; row++) {
        int c = tag_named(PQgetvalue(result, row, 0));
        assert_true(s->counted[c]);
        assert_int_equal(number(result, row, 1), s->at_us);
        assert_true(strtod(PQgetvalue(result, row, 2), NULL) ==
                    lives_counter_value(c, s->counters[c]));
    }
    PQclear(result);
}

/* Statistics of an hour; of counters, too. */
struct hour {
    double first, last, min, max, sum, outstanding;
    int n;
};

static void count(struct hour *h, double value)
{
    h->first = h->n == 0 ? value : h->first;
    h->min = h->n == 0 ? value : fmin(h->min, value);
    h->max = h->n == 0 ? value : fmax(h->max, value);
    h->last = value;
    h->sum += value;
    h->n++;
}

static struct hour hour_of(const struct life *l, enum kind kind, int which,
                           int64_t hour_us)
{
    const struct sample *found[LIFE_SAMPLES];
    struct hour h = {0};
    int n = in_order(l, kind, hour_us, hour_us + HOUR_US - 1, found);
    for (int i = 0; i < n; i++) {
        if (kind == OF_TAGS && found[i]->has[which]) {
            count(&h, (double)found[i]->tags[which][COL_BYTES]);
            h.outstanding = (double)found[i]->tags[which][COL_OUTSTANDING];
        } else if (kind == OF_COUNTERS && found[i]->counted[which]) {
            count(&h, lives_counter_value(which, found[i]->counters[which]));
        }
    }
    return h;
}

/* How many rows the hours of @kind have, impossible times left out. */
static int count_hours(const struct life *l, enum kind kind, int64_t from_us)
{
    int64_t now_us = psc_clock_wall_us();
    int n = 0;
    for (int64_t at = now_us / HOUR_US * HOUR_US - (LIFE_HOURS + 2) * HOUR_US;
         at <= now_us + HOUR_US; at += HOUR_US) {
        for (int i = 0; i < (kind == OF_TAGS ? LIFE_TAGS : LIFE_COUNTERS);
             i++) {
            n += at >= from_us && hour_of(l, kind, i, at).n > 0;
        }
    }
    return n;
}

static void check_hour_row(const PGresult *result, int row, int t,
                           const struct hour *h)
{
    assert_true(h->n > 0);
    if ((lives_tag_flags(t) & TAG_BYTES) != 0) {
        assert_true(number(result, row, 2) == (int64_t)h->first);
        assert_true(number(result, row, 3) == (int64_t)h->last);
        assert_true(number(result, row, 4) == (int64_t)h->min);
        assert_true(number(result, row, 5) == (int64_t)h->max);
        assert_true(number(result, row, 6) == llround(h->sum / h->n));
    } else {
        for (int column = 2; column < 7; column++) {
            assert_true(PQgetisnull(result, row, column));
        }
    }
    check_column(result, row, 7, t, TAG_OUTSTANDING, (int64_t)h->outstanding);
}

#define POOL_HOUR                                                              \
    "SELECT tag, " US_SQL("hour") ", first_bytes, last_bytes, min_bytes, "     \
                                  "max_bytes, mean_bytes, last_outstanding, "  \
                                  "host FROM poolscope.pool_hour "

static void check_hours(const struct life *l)
{
    int64_t from_us = l->samples[lives_any((uint32_t)l->n)].at_us;
    PGresult *all = rows(POOL_HOUR "WHERE host = '%s'", l->host);
    PGresult *some =
        rows(POOL_HOUR "WHERE host_id = %lld AND hour >= " TIME_SQL, l->host_id,
             from_us);
    assert_int_equal(PQntuples(all), count_hours(l, OF_TAGS, 0));
    assert_int_equal(PQntuples(some), count_hours(l, OF_TAGS, from_us));
    for (int row = 0; row < PQntuples(all); row++) {
        int t = tag_named(PQgetvalue(all, row, 0));
        struct hour h = hour_of(l, OF_TAGS, t, number(all, row, 1));
        check_hour_row(all, row, t, &h);
    }
    PQclear(all);
    PQclear(some);
}

/* One tag over all hosts: another plan. */
static void check_tag_hours(int t)
{
    PGresult *result = rows(POOL_HOUR "WHERE tag = '%s'", lives_names[t]);
    int expected = 0;
    for (int row = 0; row < PQntuples(result); row++) {
        for (int h = 0; h < LIVES; h++) {
            if (strcmp(PQgetvalue(result, row, 8), lives[h].host) == 0) {
                struct hour hour =
                    hour_of(&lives[h], OF_TAGS, t, number(result, row, 1));
                check_hour_row(result, row, t, &hour);
                expected++;
            }
        }
    }
    assert_int_equal(PQntuples(result), expected);
    PQclear(result);
}

static void check_counter_hours(const struct life *l)
{
    PGresult *result = rows(
        "SELECT instance, " US_SQL(
            "at") ", first_value, last_value, "
                  "min_value, max_value, value FROM poolscope.counter_hour "
                  "WHERE host = '%s'",
        l->host);
    assert_int_equal(PQntuples(result), count_hours(l, OF_COUNTERS, 0));
    for (int row = 0; row < PQntuples(result); row++) {
        int c = tag_named(PQgetvalue(result, row, 0));
        struct hour h = hour_of(l, OF_COUNTERS, c, number(result, row, 1));
        const double want[] = {h.first, h.last, h.min, h.max};
        for (int i = 0; i < 4; i++) {
            assert_true(strtod(PQgetvalue(result, row, 2 + i), NULL) ==
                        want[i]);
        }
        double mean = strtod(PQgetvalue(result, row, 6), NULL);
        assert_true(fabs(mean - h.sum / h.n) <= 1e-9 * fabs(mean));
    }
    PQclear(result);
}

/* The newest sample at or before a time, else the first. */
static const struct sample *moment(const struct life *l, int64_t at_us)
{
    const struct sample *found[LIFE_SAMPLES];
    int n = in_order(l, OF_TAGS, INT64_MIN, at_us, found);
    if (n == 0) {
        (void)in_order(l, OF_TAGS, INT64_MIN, INT64_MAX, found);
        return found[0];
    }
    return found[n - 1];
}

struct growth {
    int64_t hosts, growing, bytes, growth;
    bool there;
};

static struct growth growth_of(int t, int64_t begin_us)
{
    struct growth g = {0};
    for (int h = 0; h < LIVES; h++) {
        const struct sample *end = newest(&lives[h], OF_TAGS);
        if (end->at_us < begin_us) {
            continue;
        }
        const struct sample *begin = moment(&lives[h], begin_us);
        bool counts = (lives_tag_flags(t) & TAG_BYTES) != 0;
        int64_t now = end->has[t] && counts ? end->tags[t][COL_BYTES] : 0;
        int64_t then = begin->has[t] && counts ? begin->tags[t][COL_BYTES] : 0;
        g.hosts += end->has[t] && counts;
        g.growing += now > then;
        g.bytes += now;
        g.growth += now - then;
        g.there = g.there || end->has[t] || begin->has[t];
    }
    return g;
}

static void check_growth(int hours)
{
    int64_t now_us = INT64_MIN;
    int expected = 0;
    for (int h = 0; h < LIVES; h++) {
        int64_t at_us = newest(&lives[h], OF_TAGS)->at_us;
        if (at_us > now_us && at_us > 365LL * 24 * HOUR_US &&
            at_us <= psc_clock_wall_us() + HOUR_US) {
            now_us = at_us;
        }
    }
    PGresult *result = rows("SELECT tag, hosts, growing_hosts, growth_bytes, "
                            "bytes FROM poolscope.fleet_growth('%d hours')",
                            hours);
    for (int t = 0; t < LIFE_TAGS; t++) {
        expected += growth_of(t, now_us - hours * HOUR_US).there;
    }
    assert_int_equal(PQntuples(result), expected);
    for (int row = 0; row < expected; row++) {
        struct growth g = growth_of(tag_named(PQgetvalue(result, row, 0)),
                                    now_us - hours * HOUR_US);
        assert_true(number(result, row, 1) == g.hosts);
        assert_true(number(result, row, 2) == g.growing);
        assert_true(number(result, row, 3) == g.growth);
        assert_true(number(result, row, 4) == g.bytes);
    }
    PQclear(result);
}

static void check_all(void)
{
    for (int h = 0; h < LIVES; h++) {
        check_histories(&lives[h]);
        check_now(&lives[h]);
        check_counter_now(&lives[h]);
        check_hours(&lives[h]);
        check_counter_hours(&lives[h]);
    }
    check_tag_hours((int)lives_any(LIFE_TAGS));
    check_growth(1);
    check_growth(3);
    check_growth(24);
}

/* ---------------------------------------------------------------- cases */

static void views_agree_while_hosts_settle(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        for (int h = 0; h < LIVES; h++) {
            if (h < 2 || round < 3) {
                lives_store(&lives[h], LIFE_SAMPLES / ROUNDS);
            }
        }
        check_all();
        test_sql(test_store.owner, "BEGIN");
        for (int h = 0; h < LIVES; h++) {
            lives_settle(&lives[h]);
        }
        if (round % 4 == 1) {
            check_all(); /* a reader sees none of it */
        }
        test_sql(test_store.owner, "COMMIT");
        check_all();
        lives_slot = round < 3 ? 0 : 1;
    }
}

static void an_emptied_slot_is_not_missed(void **state)
{
    (void)state;
    test_sql(test_store.owner, "BEGIN");
    for (int h = 0; h < LIVES; h++) {
        lives_settle_all(&lives[h]);
    }
    test_sql(test_store.owner, "COMMIT");
    check_all();
    test_sql(test_store.owner, "TRUNCATE poolscope_data.fresh_0");
    check_all();
    test_sql(test_store.owner, "TRUNCATE poolscope_data.fresh_1");
    check_all();
}

static void slots_are_shown(void **state)
{
    (void)state;
    PGresult *result = rows("SELECT count(*) FILTER (WHERE state = 'present'),"
                            " count(*) FILTER (WHERE bytes > 0), count(*)"
                            " FROM poolscope.storage_slot");
    assert_int_equal(number(result, 0, 0), 1);
    assert_int_equal(number(result, 0, 1), 8);
    assert_int_equal(number(result, 0, 2), 8);
    PQclear(result);
}

static void history_of_the_unknown_is_empty(void **state)
{
    (void)state;
    PGresult *result = rows("SELECT FROM poolscope.pool_history('nobody', "
                            "'slab', 'tag-0', '-infinity', 'infinity')");
    assert_int_equal(PQntuples(result), 0);
    PQclear(result);
    result = rows("SELECT FROM poolscope.pool_history('minute', 'slab', "
                  "'no such', '-infinity', 'infinity')");
    assert_int_equal(PQntuples(result), 0);
    PQclear(result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(views_agree_while_hosts_settle),
        cmocka_unit_test(an_emptied_slot_is_not_missed),
        cmocka_unit_test(slots_are_shown),
        cmocka_unit_test(history_of_the_unknown_is_empty),
    };
    return cmocka_run_group_tests(tests, lives_begin, lives_end);
}