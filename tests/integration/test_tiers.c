/* What the views say of samples in two tiers, against a model in C.
 *
 * Hosts live through hours of samples: tags that move, rest, come and go,
 * samples without tags or counters, clocks that step, hosts that fall silent.
 * The model keeps every sample whole. Rows are stored as they come and settled
 * up to random keyframes, now and then while a reader looks. */
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
#include "proto/stored.h"
#include "tests/lib/store.h"
#include "tests/lib/tiers.h"

enum {
    HOSTS = 3,
    TAGS = 40, /* more than a block of a chunk has */
    COUNTERS = 4,
    SAMPLES = 240,
    HOURS_BACK = 11,
    ROUNDS = 8,
    SQL_BYTES = 1024,
};

#define MINUTE_US (60LL * PSC_US_PER_S)
#define HOUR_US   (60LL * MINUTE_US)

enum kind { OF_TAGS, OF_COUNTERS, KINDS };

struct sample {
    int64_t at_us;
    bool stored[KINDS];   /* it has this table */
    bool keyframe[KINDS]; /* which is one */
    bool has[TAGS];
    int64_t tags[TAGS][TABLE_COLUMNS_MAX];
    bool counted[COUNTERS];
    int64_t counters[COUNTERS]; /* doubles by their bits */
};

struct life {
    const char *host;
    long long host_id;
    int64_t every_us, span_us;
    struct tier_table tables[KINDS];
    int64_t row_span_us[KINDS]; /* of the newest row with that table */
    struct sample samples[SAMPLES];
    int n;              /* samples so far; a sample's n is its index + 1 */
    int settled[KINDS]; /* samples, from the first on */
};

static struct life lives[HOSTS] = {
    {.host = "minute", .every_us = MINUTE_US, .span_us = HOUR_US},
    {.host = "slow", .every_us = 150 * PSC_US_PER_S, .span_us = 4 * HOUR_US},
    {.host = "silent", .every_us = MINUTE_US, .span_us = HOUR_US},
};
static int32_t tag_ids[TAGS];
static int32_t counter_ids[COUNTERS];
static char names[TAGS][16];
static int slot; /* where rows go */

static uint32_t any(uint32_t below)
{
    static uint32_t seed = 20260117;
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return (seed >> 4) % below;
}

/* ------------------------------------------------------------ the model */

static uint8_t tag_flags(int t)
{
    static const uint8_t flags[] = {15, 12, 8, TAG_ALLOCS | TAG_FREES, 12};
    return flags[t % 5];
}

static uint8_t counter_flags(int c)
{
    return c % 2 != 0 ? ENTRY_REAL : 0;
}

static double counter_value(int c, int64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof(value));
    return c % 2 != 0 ? value : (double)bits;
}

static void live_tag(struct sample *s, int t)
{
    int64_t *v = s->tags[t];
    s->has[t] = t < 4 || any(20) != 0 ? s->has[t] || any(4) == 0 : !s->has[t];
    if (t != 1 && any(4) == 0) { /* the second one rests */
        v[COL_ALLOCS] += any(5000);
        v[COL_FREES] += any(3000);
        v[COL_BYTES] =
            (int64_t)any(1u << (8 + t % 20)) * (any(9) == 0 ? -1 : 1);
        v[COL_OUTSTANDING] = any(9999);
    }
    if ((tag_flags(t) & 3) == 3) {
        v[COL_OUTSTANDING] = v[COL_ALLOCS] - v[COL_FREES];
    }
}

static void live_counter(struct sample *s, int c)
{
    s->counted[c] = c != 3 || any(3) != 0;
    if (any(3) == 0) {
        double real = (double)any(100000) / 8;
        int64_t bits;
        memcpy(&bits, &real, sizeof(bits));
        s->counters[c] = c % 2 != 0 ? bits : (int64_t)any(100000);
    }
}

/* When the sample happens: most of the time one interval later. */
static int64_t next_at(const struct life *l, int i)
{
    int64_t at_us = l->samples[i - 1].at_us + l->every_us + any(1000);
    if (l == &lives[0]) {
        switch (i) {
        case 60: return at_us + 50 * MINUTE_US;
        case 110: return psc_clock_wall_us() + 5 * HOUR_US; /* is ahead … */
        case 112: return l->samples[109].at_us + MINUTE_US; /* … and right */
        case 150: return at_us - 70 * MINUTE_US;            /* late samples */
        case 170: return 20 * HOUR_US;                      /* 1970 */
        case 171: return l->samples[169].at_us + MINUTE_US;
        default: break;
        }
    }
    return at_us;
}

static void live(struct life *l)
{
    struct sample *s = &l->samples[l->n];
    if (l->n > 0) {
        *s = l->samples[l->n - 1];
        s->at_us = next_at(l, l->n);
    } else {
        s->at_us = (psc_clock_wall_us() / HOUR_US - HOURS_BACK) * HOUR_US +
                   any(3600) * PSC_US_PER_S;
    }
    for (int t = 0; t < TAGS; t++) {
        live_tag(s, t);
    }
    for (int c = 0; c < COUNTERS; c++) {
        live_counter(s, c);
    }
    s->stored[OF_TAGS] = l->n < 2 || any(10) != 0;
    s->stored[OF_COUNTERS] = l->n < 2 || any(5) != 0;
    /* What nobody saw did not happen. */
    if (!s->stored[OF_TAGS]) {
        memcpy(s->has, (s - 1)->has, sizeof(s->has));
        memcpy(s->tags, (s - 1)->tags, sizeof(s->tags));
    }
    l->n++;
}

/* ----------------------------------------------------------- storing it */

static int64_t span_of(const struct life *l, int64_t at_us)
{
    /* Spans are counted from 2000, which was at a multiple of 4 hours. */
    int64_t span = at_us / l->span_us * l->span_us;
    return span > at_us ? span - l->span_us : span;
}

static int row_of(struct life *l, struct sample *s, enum kind kind,
                  struct psc_bytes *row)
{
    struct tier_table *table = &l->tables[kind];
    int64_t span_us = span_of(l, s->at_us);
    if (!s->stored[kind]) {
        return STORED_NONE;
    }
    tier_begin(table);
    for (int t = 0; t < TAGS && kind == OF_TAGS; t++) {
        if (s->has[t]) {
            tier_put(table, tag_ids[t], tag_flags(t), s->tags[t]);
        }
    }
    for (int c = 0; c < COUNTERS && kind == OF_COUNTERS; c++) {
        if (s->counted[c]) {
            tier_put(table, counter_ids[c], counter_flags(c), &s->counters[c]);
        }
    }
    s->keyframe[kind] = span_us != l->row_span_us[kind] || any(15) == 0;
    *row = tier_row(table, &s->keyframe[kind]);
    l->row_span_us[kind] = span_us;
    return s->keyframe[kind] ? STORED_KEYFRAME : STORED_DELTA;
}

static void store(struct life *l)
{
    struct sample *s = &l->samples[l->n - 1];
    struct tier_sample row = {
        .host_id = l->host_id, .n = l->n, .at_us = s->at_us, .slot = slot};
    row.tags_kind = row_of(l, s, OF_TAGS, &row.tags);
    row.counters_kind = row_of(l, s, OF_COUNTERS, &row.counters);
    tier_store(test_store.owner, &row);
}

static void chunk_sample(struct life *l, enum kind kind, int i)
{
    static const uint8_t boot[CHUNK_BOOT_BYTES] = {1};
    const struct sample *s = &l->samples[i];
    struct chunk_writer *w = &l->tables[kind].chunk;
    assert_int_equal(chunk_writer_snapshot(w, i + 1, s->at_us, s->at_us, boot),
                     PSC_OK);
    chunk_writer_keyframe(w);
    for (int t = 0; t < TAGS && kind == OF_TAGS; t++) {
        if (s->has[t]) {
            assert_int_equal(chunk_writer_put(w, (uint32_t)tag_ids[t],
                                              tag_flags(t), s->tags[t]),
                             PSC_OK);
        }
    }
    for (int c = 0; c < COUNTERS && kind == OF_COUNTERS; c++) {
        if (s->counted[c]) {
            assert_int_equal(chunk_writer_put(w, (uint32_t)counter_ids[c],
                                              counter_flags(c),
                                              &s->counters[c]),
                             PSC_OK);
        }
    }
}

static void end_chunk(struct life *l, enum kind kind, struct tier_chunk *c)
{
    if (c->snapshots > 0) {
        tier_store_chunk(test_store.owner, &l->tables[kind], c);
    }
    c->snapshots = 0;
}

/* Samples up to the one before index @until into chunks, a span each. */
static void settle_to(struct life *l, enum kind kind, int until)
{
    struct tier_chunk c = {.host_id = l->host_id};
    for (int i = l->settled[kind]; i < until; i++) {
        int64_t at_us = l->samples[i].at_us;
        if (!l->samples[i].stored[kind]) {
            continue;
        }
        if (span_of(l, at_us) != c.span_us) {
            end_chunk(l, kind, &c);
        }
        if (c.snapshots == 0) {
            c.span_us = span_of(l, at_us);
            c.n_from = i + 1;
            c.at_from_us = c.at_to_us = at_us;
        }
        c.n_to = i + 1;
        c.at_from_us = at_us < c.at_from_us ? at_us : c.at_from_us;
        c.at_to_us = at_us > c.at_to_us ? at_us : c.at_to_us;
        c.snapshots++;
        chunk_sample(l, kind, i);
    }
    end_chunk(l, kind, &c);
    l->settled[kind] = until;
    if (until == l->n) {
        l->row_span_us[kind] = INT64_MIN; /* what follows is a keyframe */
    }
}

/* Up to some keyframe that is not settled, or, of a silent host, all. */
static void settle(struct life *l)
{
    for (enum kind kind = OF_TAGS; kind < KINDS; kind++) {
        int until = l == &lives[2] && any(3) == 0 ? l->n : l->settled[kind];
        for (int i = l->settled[kind]; i < l->n && until < l->n; i++) {
            if (l->samples[i].keyframe[kind] && l->samples[i].stored[kind] &&
                any(3) != 0) {
                until = i;
            }
        }
        settle_to(l, kind, until);
    }
    tier_settled(test_store.owner, l->host_id, l->settled[OF_TAGS],
                 l->settled[OF_COUNTERS]);
}

static int make_database(void **state)
{
    (void)test_store_begin(state);
    for (int t = 0; t < TAGS; t++) {
        (void)snprintf(names[t], sizeof(names[t]), "tag-%d", t);
        tag_ids[t] = test_tag_id(test_store.writer, "slab", names[t]);
    }
    for (int c = 0; c < COUNTERS; c++) {
        counter_ids[c] = test_counter_id(test_store.writer, "gauge", names[c]);
    }
    for (int h = 0; h < HOSTS; h++) {
        struct life *l = &lives[h];
        l->host_id = test_host_enrol(test_store.writer, l->host);
        (void)test_session_claim(test_store.writer, l->host_id);
        tier_table_init(&l->tables[OF_TAGS], TABLE_COLUMNS_MAX);
        tier_table_init(&l->tables[OF_COUNTERS], 1);
    }
    return 0;
}

static int end_database(void **state)
{
    for (int h = 0; h < HOSTS; h++) {
        tier_table_fini(&lives[h].tables[OF_TAGS]);
        tier_table_fini(&lives[h].tables[OF_COUNTERS]);
    }
    return test_store_end(state);
}

/* --------------------------------------------------------- comparing it */

static PGresult *rows(const char *fmt, ...)
{
    char sql[SQL_BYTES];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(sql, sizeof(sql), fmt, args);
    va_end(args);
    PGresult *result = PQexec(test_store.reader, sql);
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        fail_msg("%s\n%s", sql, PQerrorMessage(test_store.reader));
    }
    return result;
}

static int64_t number(const PGresult *result, int row, int column)
{
    return strtoll(PQgetvalue(result, row, column), NULL, 10);
}

/* A column of a tag: @value, or NULL where it has none. */
static void check_column(const PGresult *result, int row, int column, int t,
                         int flag, int64_t value)
{
    bool has = (tag_flags(t) & flag) != 0;
    assert_int_equal(PQgetisnull(result, row, column), !has);
    assert_true(!has || number(result, row, column) == value);
}

static int tag_named(const char *name)
{
    int t = (int)strtol(name + strlen("tag-"), NULL, 10);
    assert_in_range(t, 0, TAGS - 1);
    return t;
}

#define TIME_SQL     "'epoch'::timestamptz + %" PRId64 " * interval '1 us'"
#define US_SQL(what) "(extract(epoch FROM " what ") * 1000000)::bigint"

/* Samples of @l that have a table and a time within bounds, by time. */
static int in_order(const struct life *l, enum kind kind, int64_t from_us,
                    int64_t to_us, const struct sample *found[SAMPLES])
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
    const struct sample *want[SAMPLES];
    int n = in_order(l, OF_TAGS, from_us, to_us, want);
    int row = 0;
    PGresult *result =
        rows("SELECT " US_SQL(
                 "at") ", allocs, frees, outstanding, bytes FROM "
                       "poolscope.pool_history('%s', 'slab', '%s', " TIME_SQL
                       ", " TIME_SQL ")",
             l->host, names[t], from_us, to_us);
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
    const struct sample *want[SAMPLES];
    int n = in_order(l, OF_COUNTERS, from_us, to_us, want);
    int row = 0;
    PGresult *result =
        rows("SELECT " US_SQL("at") ", value FROM poolscope.counter_history("
                                    "'%s', 'gauge', '%s', " TIME_SQL
                                    ", " TIME_SQL ")",
             l->host, names[c], from_us, to_us);
    for (int i = 0; i < n; i++) {
        if (!want[i]->counted[c]) {
            continue;
        }
        assert_true(row < PQntuples(result));
        assert_int_equal(number(result, row, 0), want[i]->at_us);
        assert_true(strtod(PQgetvalue(result, row, 1), NULL) ==
                    counter_value(c, want[i]->counters[c]));
        row++;
    }
    assert_int_equal(row, PQntuples(result));
    PQclear(result);
}

/* All there is, and some part between two samples. */
static void check_histories(const struct life *l)
{
    int64_t from_us = l->samples[any((uint32_t)l->n)].at_us;
    int64_t to_us = l->samples[any((uint32_t)l->n)].at_us;
    for (int t = 0; t < TAGS; t += 1 + (int)any(9)) {
        check_history(l, t, -HOUR_US, INT64_C(1) << 52);
        check_history(l, t, from_us, to_us);
    }
    for (int c = 0; c < COUNTERS; c++) {
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
    for (int t = 0; t < TAGS; t++) {
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
    for (int c = 0; c < COUNTERS; c++) {
        expected += s->counted[c];
    }
    assert_int_equal(PQntuples(result), expected);
    for (int row = 0; row < expected; row++) {
        int c = tag_named(PQgetvalue(result, row, 0));
        assert_true(s->counted[c]);
        assert_int_equal(number(result, row, 1), s->at_us);
        assert_true(strtod(PQgetvalue(result, row, 2), NULL) ==
                    counter_value(c, s->counters[c]));
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
    const struct sample *found[SAMPLES];
    struct hour h = {0};
    int n = in_order(l, kind, hour_us, hour_us + HOUR_US - 1, found);
    for (int i = 0; i < n; i++) {
        if (kind == OF_TAGS && found[i]->has[which]) {
            count(&h, (double)found[i]->tags[which][COL_BYTES]);
            h.outstanding = (double)found[i]->tags[which][COL_OUTSTANDING];
        } else if (kind == OF_COUNTERS && found[i]->counted[which]) {
            count(&h, counter_value(which, found[i]->counters[which]));
        }
    }
    return h;
}

/* How many rows the hours of @kind have, impossible times left out. */
static int count_hours(const struct life *l, enum kind kind, int64_t from_us)
{
    int64_t now_us = psc_clock_wall_us();
    int n = 0;
    for (int64_t at = now_us / HOUR_US * HOUR_US - (HOURS_BACK + 2) * HOUR_US;
         at <= now_us + HOUR_US; at += HOUR_US) {
        for (int i = 0; i < (kind == OF_TAGS ? TAGS : COUNTERS); i++) {
            n += at >= from_us && hour_of(l, kind, i, at).n > 0;
        }
    }
    return n;
}

static void check_hour_row(const PGresult *result, int row, int t,
                           const struct hour *h)
{
    assert_true(h->n > 0);
    if ((tag_flags(t) & TAG_BYTES) != 0) {
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
    int64_t from_us = l->samples[any((uint32_t)l->n)].at_us;
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
    PGresult *result = rows(POOL_HOUR "WHERE tag = '%s'", names[t]);
    int expected = 0;
    for (int row = 0; row < PQntuples(result); row++) {
        for (int h = 0; h < HOSTS; h++) {
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
    const struct sample *found[SAMPLES];
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
    for (int h = 0; h < HOSTS; h++) {
        const struct sample *end = newest(&lives[h], OF_TAGS);
        if (end->at_us < begin_us) {
            continue;
        }
        const struct sample *begin = moment(&lives[h], begin_us);
        bool counts = (tag_flags(t) & TAG_BYTES) != 0;
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
    for (int h = 0; h < HOSTS; h++) {
        int64_t at_us = newest(&lives[h], OF_TAGS)->at_us;
        if (at_us > now_us && at_us > 365 * 24 * HOUR_US &&
            at_us <= psc_clock_wall_us() + HOUR_US) {
            now_us = at_us;
        }
    }
    PGresult *result = rows("SELECT tag, hosts, growing_hosts, growth_bytes, "
                            "bytes FROM poolscope.fleet_growth('%d hours')",
                            hours);
    for (int t = 0; t < TAGS; t++) {
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
    for (int h = 0; h < HOSTS; h++) {
        check_histories(&lives[h]);
        check_now(&lives[h]);
        check_counter_now(&lives[h]);
        check_hours(&lives[h]);
        check_counter_hours(&lives[h]);
    }
    check_tag_hours((int)any(TAGS));
    check_growth(1);
    check_growth(3);
    check_growth(24);
}

/* ---------------------------------------------------------------- cases */

static void store_some(struct life *l, int n)
{
    for (int i = 0; i < n; i++) {
        live(l);
        store(l);
    }
}

static void views_agree_while_hosts_settle(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        for (int h = 0; h < HOSTS; h++) {
            if (h < 2 || round < 3) {
                store_some(&lives[h], SAMPLES / ROUNDS);
            }
        }
        check_all();
        test_sql(test_store.owner, "BEGIN");
        for (int h = 0; h < HOSTS; h++) {
            settle(&lives[h]);
        }
        if (round % 4 == 1) {
            check_all(); /* a reader sees none of it */
        }
        test_sql(test_store.owner, "COMMIT");
        check_all();
        slot = round < 3 ? 0 : 1;
    }
}

static void an_emptied_slot_is_not_missed(void **state)
{
    (void)state;
    test_sql(test_store.owner, "BEGIN");
    for (int h = 0; h < HOSTS; h++) {
        for (enum kind kind = OF_TAGS; kind < KINDS; kind++) {
            settle_to(&lives[h], kind, lives[h].n);
        }
        tier_settled(test_store.owner, lives[h].host_id, lives[h].n,
                     lives[h].n);
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
    return cmocka_run_group_tests(tests, make_database, end_database);
}
