/* Hours of rows and of chunks in SQL: what the functions of the migrations and
 * those of the module say of random samples is what counting them says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/chunk_db.h"
#include "tests/lib/stored_db.h"
#include "tests/unit/chunk_random.h"
#include "tests/unit/stored_pack.h"

enum { RUNS = 14, DIGITS = 48 };

#define HOUR_US INT64_C(3600000000)

/* Columns of an answer, as asked below. */
enum {
    COLUMN_HOUR,
    COLUMN_ID,
    COLUMN_N,
    COLUMN_FIRST_AT,
    COLUMN_LAST_AT,
    COLUMN_FIRST,
    COLUMN_LAST,
    COLUMN_LEAST,
    COLUMN_GREATEST,
    COLUMN_SUM,
    COLUMN_OUTSTANDING,
};

/* An hour of an id; where time goes back an hour may come twice. */
struct hour {
    uint32_t id;
    uint32_t from, end; /* snapshots that may belong to it */
    int64_t first_at, last_at;
    int64_t n;
    const struct cell *first, *last;
};

static int64_t floor_hour(int64_t us)
{
    int64_t rest = us % HOUR_US;
    return us - (rest < 0 ? rest + HOUR_US : rest);
}

/* --- the model --- */

struct hours {
    struct run *r;
    struct hour *all;
    size_t n;
};

static struct cell *cells; /* as they are shown, like those of the run */

static const struct cell *shown_cell(const struct run *r, uint32_t s,
                                     uint32_t id)
{
    return &cells[(size_t)s * r->ids + id - 1];
}

static void show_cells(struct run *r, bool rows)
{
    cells = calloc((size_t)r->snapshots * r->ids, sizeof(*cells));
    assert_non_null(cells);
    for (uint32_t s = 0; s < r->snapshots; s++) {
        for (uint32_t id = 1; id <= r->ids; id++) {
            cells[(size_t)s * r->ids + id - 1] = shown(r, s, id, rows);
        }
    }
}

static void count_hour(struct hours *h, uint32_t id, uint32_t from,
                       uint32_t end)
{
    struct hour hour = {.id = id, .from = from, .end = end};

    for (uint32_t s = from; s < end; s++) {
        const struct cell *c = shown_cell(h->r, s, id);
        if (!c->present) {
            continue;
        }
        if (hour.n++ == 0) {
            hour.first = c;
            hour.first_at = h->r->at_us[s];
        }
        hour.last = c;
        hour.last_at = h->r->at_us[s];
    }
    if (hour.n > 0) {
        h->all[h->n++] = hour;
    }
}

static int by_id_and_time(const void *one, const void *two)
{
    const struct hour *a = one, *b = two;

    if (a->id != b->id) {
        return a->id < b->id ? -1 : 1;
    }
    return a->first_at < b->first_at ? -1 : 1;
}

static void count_hours(struct hours *h)
{
    const struct run *r = h->r;

    h->all = calloc((size_t)r->snapshots * r->ids, sizeof(*h->all));
    assert_non_null(h->all);
    for (uint32_t id = 1; id <= r->ids; id++) {
        for (uint32_t from = 0, end; from < r->snapshots; from = end) {
            for (end = from + 1;
                 end < r->snapshots &&
                 floor_hour(r->at_us[end]) == floor_hour(r->at_us[from]);
                 end++) {
            }
            count_hour(h, id, from, end);
        }
    }
    qsort(h->all, h->n, sizeof(*h->all), by_id_and_time);
}

/* --- what is shown --- */

static void check_number(const PGresult *rows, int row, int column, bool has,
                         int64_t must)
{
    assert_int_equal(PQgetisnull(rows, row, column), !has);
    assert_true(!has || stored_db_number(rows, row, column) == must);
}

static void check_column(const PGresult *rows, int row, int column,
                         const struct cell *c, int i)
{
    int64_t v = c->values[i];
    bool has = stored_db_tag(c->flags, i, &v);

    check_number(rows, row, column, has, v);
}

static void print_wide(__int128 v, char out[DIGITS])
{
    char text[DIGITS];
    char *at = text + DIGITS - 1;
    bool minus = v < 0;

    *at = '\0';
    do {
        int digit = (int)(v % 10);
        *--at = (char)('0' + (digit < 0 ? -digit : digit));
        v /= 10;
    } while (v != 0);
    if (minus) {
        *--at = '-';
    }
    (void)snprintf(out, DIGITS, "%s", at);
}

static void check_tag(const PGresult *rows, int row, const struct run *r,
                      const struct hour *h)
{
    int64_t least = INT64_MAX, greatest = INT64_MIN;
    __int128 sum = 0;
    bool any_bytes = false;
    char text[DIGITS];

    for (uint32_t s = h->from; s < h->end; s++) {
        const struct cell *c = shown_cell(r, s, h->id);
        int64_t v = c->values[COL_BYTES];
        if (!c->present || !stored_db_tag(c->flags, COL_BYTES, &v)) {
            continue;
        }
        any_bytes = true;
        least = v < least ? v : least;
        greatest = v > greatest ? v : greatest;
        sum += v;
    }
    check_column(rows, row, COLUMN_FIRST, h->first, COL_BYTES);
    check_column(rows, row, COLUMN_LAST, h->last, COL_BYTES);
    check_number(rows, row, COLUMN_LEAST, any_bytes, least);
    check_number(rows, row, COLUMN_GREATEST, any_bytes, greatest);
    print_wide(sum, text);
    assert_string_equal(PQgetvalue(rows, row, COLUMN_SUM),
                        any_bytes ? text : "");
    check_column(rows, row, COLUMN_OUTSTANDING, h->last, COL_OUTSTANDING);
}

static void check_real(const PGresult *rows, int row, int column, double must,
                       double within)
{
    double is = strtod(PQgetvalue(rows, row, column), NULL);

    assert_false(PQgetisnull(rows, row, column));
    assert_true(is == must || fabs(is - must) <= within);
}

static void check_counter(const PGresult *rows, int row, const struct run *r,
                          const struct hour *h)
{
    double least = INFINITY, greatest = -INFINITY, sum = 0, size = 0;

    for (uint32_t s = h->from; s < h->end; s++) {
        const struct cell *c = shown_cell(r, s, h->id);
        double v = stored_db_counter(c->flags, c->values[0]);
        if (c->present) {
            least = fmin(v, least);
            greatest = fmax(v, greatest);
            sum += v;
            size += fabs(v);
        }
    }
    check_real(rows, row, COLUMN_FIRST,
               stored_db_counter(h->first->flags, h->first->values[0]), 0);
    check_real(rows, row, COLUMN_LAST,
               stored_db_counter(h->last->flags, h->last->values[0]), 0);
    check_real(rows, row, COLUMN_LEAST, least, 0);
    check_real(rows, row, COLUMN_GREATEST, greatest, 0);
    check_real(rows, row, COLUMN_SUM, sum, size * 1e-12);
}

static void check_hours(struct hours *h, PGresult *rows)
{
    count_hours(h);
    assert_int_equal(PQntuples(rows), h->n);
    for (int row = 0; row < PQntuples(rows); row++) {
        const struct hour *must = &h->all[row];
        assert_int_equal(stored_db_number(rows, row, COLUMN_ID), must->id);
        assert_true(stored_db_number(rows, row, COLUMN_HOUR) ==
                    floor_hour(must->first_at));
        assert_true(stored_db_number(rows, row, COLUMN_N) == must->n);
        assert_true(stored_db_number(rows, row, COLUMN_FIRST_AT) ==
                    must->first_at);
        assert_true(stored_db_number(rows, row, COLUMN_LAST_AT) ==
                    must->last_at);
        (h->r->columns == 1 ? check_counter : check_tag)(rows, row, h->r, must);
    }
    free(h->all);
    PQclear(rows);
}

/* --- what is asked --- */

#define SHOWN(value, more)                                                     \
    "SELECT " AT_US("h.hour") ", h.id, h.n, " AT_US("h.first_at") ", " AT_US(  \
        "h.last_at") ", h.first_" value ", h.last_" value ", h.min_" value     \
                     ", h.max_" value ", h.sum_" value more " FROM "
#define SHOWN_TAGS     SHOWN("bytes", ", h.last_outstanding")
#define SHOWN_COUNTERS SHOWN("value", "")

static void check_rows(struct run *r, const char *schema)
{
    struct hours h = {.r = r};
    struct packed packed;

    pack_all(r, &packed);
    show_cells(r, true);
    check_hours(&h, chunk_db_ask("%s" STORED_ROWS
                                 ", %s.stored_%s_hours(x.r, x.k, x.a) h"
                                 " ORDER BY h.id, h.first_at",
                                 r->columns == 1 ? SHOWN_COUNTERS : SHOWN_TAGS,
                                 schema, r->columns == 1 ? "counter" : "tag"));
    free(cells);
}

/* Every id is in the block that chunk_find() names, and in no other. */
static void check_blocks(const struct run *r, const char *schema)
{
    PGresult *rows = chunk_db_ask(
        "SELECT count(*), count(*) FILTER (WHERE f IS DISTINCT FROM"
        " ROW(b.levels_from, b.levels_length, b.data_from, b.data_length)"
        " AND NOT (f IS NULL AND b.block IS NULL))"
        " FROM chunk c CROSS JOIN generate_series(0, %u) id"
        " LEFT JOIN LATERAL %s.chunk_find(c.head, id) f ON true"
        " LEFT JOIN LATERAL %s.chunk_blocks(c.head) b"
        "  ON id BETWEEN b.first_id AND b.last_id",
        (unsigned)r->ids + 1, CHUNK_DB_MIGRATED, schema);
    assert_int_equal(stored_db_number(rows, 0, 0), r->ids + 2);
    assert_int_equal(stored_db_number(rows, 0, 1), 0);
    PQclear(rows);
}

static void check_chunk(struct run *r, const char *schema)
{
    struct hours h = {.r = r};
    struct chunk_writer w;
    struct chunk_sections out;

    chunk_writer_init(&w, r->columns, &chunk_openssl);
    assert_int_equal(feed(&w, r, 1 + below(40)), PSC_OK);
    assert_int_equal(chunk_writer_finish(&w, &out), PSC_OK);
    chunk_db_run("TRUNCATE chunk");
    chunk_db_store(r->columns, &out);
    chunk_writer_fini(&w);
    show_cells(r, false);
    check_blocks(r, schema);
    check_hours(&h, chunk_db_ask("%schunk c, %s.chunk_blocks(c.head) b,"
                                 " %s.chunk_%s_hours(c.head,"
                                 "  substr(c.levels, b.levels_from,"
                                 "   b.levels_length),"
                                 "  substr(c.data, b.data_from, b.data_length),"
                                 "  b.block) h ORDER BY h.id, h.first_at",
                                 r->columns == 1 ? SHOWN_COUNTERS : SHOWN_TAGS,
                                 schema, schema,
                                 r->columns == 1 ? "counter" : "tag"));
    free(cells);
}

/* Minutes, or longer, from before 2000 on; and time goes back. */
static void set_times(struct run *r)
{
    const int64_t step = (int64_t)(1 + below(20)) * 60000000;
    int64_t at = below(3) == 0 ? INT64_C(946684800000000) - 50 * step
                               : INT64_C(1767225600000000);

    for (uint32_t s = 0; s < r->snapshots; s++) {
        at += step + below(1000000);
        at -= below(60) == 0 ? step * below(20) : 0;
        r->at_us[s] = at;
        r->wall_us[s] = at + 10;
    }
}

static void random_hours_are_shown(const char *schema)
{
    for (uint32_t columns = 1; columns <= TABLE_COLUMNS_MAX; columns += 3) {
        for (uint64_t i = 0; i < RUNS; i++) {
            struct run r;
            seed = 0x9e3779b97f4a7c15u * (i + 77);
            run_init(&r, columns, 1 + below(1u << (1 + below(7))),
                     1 + below(100));
            fill(&r);
            set_times(&r);
            check_rows(&r, schema);
            check_chunk(&r, schema);
            run_fini(&r);
        }
    }
}

static void the_migrated_functions_count_hours(void **state)
{
    (void)state;
    random_hours_are_shown(CHUNK_DB_MIGRATED);
}

static void the_module_counts_hours(void **state)
{
    (void)state;
    if (!chunk_db.has_module) {
        skip();
    }
    random_hours_are_shown(CHUNK_DB_MODULE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_module_counts_hours),
        cmocka_unit_test(the_migrated_functions_count_hours),
    };
    return cmocka_run_group_tests(tests, chunk_db_begin, chunk_db_end);
}
