/* Decodes chunks by the codec's reader, snapshot by snapshot. */
#include "tests/lib/fresh_check.h"

/* cmocka.h needs these before it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collector/pgparam.h"
#include "collector/settle.h"
#include "common/clock.h"
#include "sql/codec/chunk.h"
#include "tests/lib/database.h"

enum { SQL_BYTES = 512 };

#define SPAN_MAX_US (14400 * PSC_US_PER_S)

static PGresult *ask(PGconn *owner, const char *sql)
{
    PGresult *res = PQexecParams(owner, sql, 0, NULL, NULL, NULL, NULL, 1);
    if (PQresultStatus(res) != PGRES_TUPLES_OK) {
        fail_msg("%s\n%s", sql, PQerrorMessage(owner));
    }
    return res;
}

int64_t fresh_settled(PGconn *owner, const struct fresh_host *h, bool tags)
{
    char sql[SQL_BYTES];
    (void)snprintf(sql, sizeof(sql),
                   "SELECT coalesce(max(%s), 0) FROM "
                   "poolscope_data.host_settle WHERE host_id = %lld",
                   tags ? "tags_n" : "counters_n", (long long)h->host_id);
    PGresult *res = ask(owner, sql);
    int64_t n = pgresult_int64(res, 0, 0);
    PQclear(res);
    return n;
}

static struct psc_bytes bytes_of(const PGresult *res, int row, int col)
{
    return (struct psc_bytes){(const uint8_t *)PQgetvalue(res, row, col),
                              (size_t)PQgetlength(res, row, col)};
}

/* Entry @id of the snapshots from @from on, up to @to, is as @e says. */
static void check_run(const struct fresh_table *t, const struct fresh_row *rows,
                      uint32_t id, const struct chunk_entry *e, uint32_t from,
                      uint32_t to, bool *seen)
{
    assert_in_range(id, 1, t->n_ids);
    for (uint32_t s = from; s < to; s++) {
        const struct fresh_cell *c = &rows[s].cells[id - 1];
        assert_true(c->present);
        assert_int_equal(c->flags, e->flags);
        for (unsigned i = 0; i < t->columns; i++) {
            if (t->columns == 1 || (e->flags >> i & 1) != 0) {
                assert_true(c->values[i] == e->values[i]);
            }
        }
        assert_false(seen[s * t->n_ids + id - 1]);
        seen[s * t->n_ids + id - 1] = true;
    }
}

static void check_entry(const struct fresh_table *t,
                        const struct fresh_row *rows, const struct chunk *c,
                        const struct chunk_block *b, uint32_t index, bool *seen)
{
    struct chunk_entry e;
    chunk_entry_open(&e, b, index);
    bool more = chunk_next(&e);
    while (more) {
        struct chunk_entry was = e;
        more = chunk_next(&e);
        if (was.present) {
            check_run(t, rows, b->ids[index], &was, was.snapshot,
                      more ? e.snapshot : c->snapshots, seen);
        }
    }
    assert_false(e.failed);
}

static bool is_there(const struct fresh_table *t, const struct fresh_cell *c)
{
    double v;
    memcpy(&v, c->values, sizeof(v));
    bool real = t->columns == 1 && (c->flags & ENTRY_REAL) != 0;
    return c->present && (!real || isfinite(v));
}

static void check_entries(const struct fresh_table *t,
                          const struct fresh_row *rows, const struct chunk *c,
                          struct psc_bytes levels, struct psc_bytes data)
{
    size_t cells = (size_t)c->snapshots * t->n_ids;
    bool *seen = calloc(cells, sizeof(*seen));
    assert_non_null(seen);
    for (uint32_t i = 0; i < c->n_blocks; i++) {
        struct chunk_block b;
        assert_int_equal(chunk_block_at(&b, c, i, data, levels, NULL), PSC_OK);
        for (uint32_t e = 0; e < b.n; e++) {
            check_entry(t, rows, c, &b, e, seen);
        }
    }
    for (size_t i = 0; i < cells; i++) {
        const struct fresh_row *row = &rows[i / t->n_ids];
        assert_int_equal(seen[i], is_there(t, &row->cells[i % t->n_ids]));
    }
    free(seen);
}

/* The chunk in @line begins with row @first. Returns how many it has. */
static uint32_t check_chunk(const struct fresh_table *t, uint32_t first,
                            const PGresult *res, int line)
{
    const struct fresh_row *rows = t->rows + first;
    struct psc_error err = {.msg = ""};
    struct chunk c;
    struct chunk_times times;
    int64_t least_us = INT64_MAX, most_us = INT64_MIN;
    uint32_t n = 0;
    if (chunk_open(&c, bytes_of(res, line, 6), &chunk_openssl, &err) !=
        PSC_OK) {
        fail_msg("%s", err.msg);
    }
    assert_int_equal(c.columns, t->columns);
    assert_int_equal(pgresult_int32(res, line, 5), c.snapshots);
    assert_in_range(c.snapshots, 1, t->n_rows - first);
    for (chunk_times_init(&times, &c); chunk_times_next(&times); n++) {
        assert_int_equal(times.n, rows[n].n);
        assert_true(times.at_us == rows[n].at_us);
        assert_true(times.wall_us == rows[n].at_us + 1500);
        least_us = rows[n].at_us < least_us ? rows[n].at_us : least_us;
        most_us = rows[n].at_us > most_us ? rows[n].at_us : most_us;
    }
    assert_int_equal(n, c.snapshots);
    assert_int_equal(pgresult_int64(res, line, 1), rows[0].n);
    assert_int_equal(pgresult_int64(res, line, 2), rows[n - 1].n);
    assert_true(pgresult_time(res, line, 3) == least_us);
    assert_true(pgresult_time(res, line, 4) == most_us);
    assert_true(pgresult_time(res, line, 0) <= least_us);
    assert_true(pgresult_time(res, line, 0) + SPAN_MAX_US > most_us);
    check_entries(t, rows, &c, bytes_of(res, line, 7), bytes_of(res, line, 8));
    return n;
}

static void check_table(PGconn *owner, const struct fresh_host *h, bool tags)
{
    const struct fresh_table *t = tags ? &h->tags : &h->counters;
    char sql[SQL_BYTES];
    uint32_t first = 0;
    (void)snprintf(sql, sizeof(sql),
                   "SELECT c.span_at, c.n_from, c.n_to, c.at_from, c.at_to, "
                   "c.snapshots, c.head, c.levels, c.data, s.%s "
                   "FROM poolscope_data.%s c JOIN poolscope_data.host_settle s "
                   "USING (host_id) WHERE host_id = %lld ORDER BY n_from",
                   tags ? "tags_n" : "counters_n",
                   tags ? "tag_chunk" : "counter_chunk", (long long)h->host_id);
    PGresult *res = ask(owner, sql);
    for (int line = 0; line < PQntuples(res); line++) {
        first += check_chunk(t, first, res, line);
    }
    int64_t settled_n = pgresult_int64(res, 0, 9);
    assert_int_equal(first > 0 ? t->rows[first - 1].n : 0, settled_n);
    PQclear(res);
}

void fresh_check(PGconn *owner, const struct fresh_host *h)
{
    check_table(owner, h, true);
    check_table(owner, h, false);
}

unsigned fresh_settle(PGconn *writer)
{
    static struct metrics metrics;
    static atomic_bool stop;
    struct psc_error err = {.msg = ""};
    unsigned long long failures = atomic_load(&metrics.settle_failures);
    struct settle *s = settle_new(&metrics, &stop);
    bool more = true;
    assert_non_null(s);
    while (more) {
        if (settle_pass(s, writer, &more, &err) != PSC_OK) {
            fail_msg("%s", err.msg);
        }
    }
    settle_free(s);
    test_sql(writer, "DEALLOCATE ALL");
    return (unsigned)(atomic_load(&metrics.settle_failures) - failures);
}
