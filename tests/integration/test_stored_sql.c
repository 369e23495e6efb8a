/* Rows of the fresh tier read in SQL: by the functions of the migrations and
 * by those of the module. Both show what was packed into random rows. */
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

enum { RUNS = 16 };

/* --- what is shown --- */

static void check_shown(const PGresult *rows, int row, const struct run *r,
                        const struct cell *must, int column)
{
    if (r->columns == 1) {
        stored_db_check_counter(rows, row, column, must->flags,
                                must->values[0]);
    } else {
        assert_int_equal(stored_db_number(rows, row, column), must->flags);
        stored_db_check_tag(rows, row, column + 1, must->flags, must->values);
    }
}

static void check_state(struct run *r, const char *schema)
{
    PGresult *rows = chunk_db_ask(
        "SELECT s.* FROM " STORED_ROWS ", %s.stored_%s_state(x.r, x.k) s"
        " ORDER BY s.id",
        schema, r->columns == 1 ? "counters" : "tags");
    int row = 0;
    for (uint32_t id = 1; id <= r->ids; id++) {
        const struct cell must = shown(r, r->snapshots - 1, id, true);
        if (must.present) {
            assert_true(row < PQntuples(rows));
            assert_int_equal(stored_db_number(rows, row, 0), id * id_step);
            check_shown(rows, row++, r, &must, 1);
        }
    }
    assert_int_equal(row, PQntuples(rows));
    PQclear(rows);
}

/* Every id, and some that are nowhere. */
static void check_points(struct run *r, const struct packed *packed,
                         const char *schema)
{
    PGresult *rows = chunk_db_ask(
        "SELECT id, p.* FROM " STORED_ROWS ", generate_series(-1, %u) id,"
        " %s.stored_%s_points(x.r, x.k, id * %u) p ORDER BY id, p.i",
        (unsigned)r->ids + 1, schema, r->columns == 1 ? "counter" : "tag",
        (unsigned)id_step);
    int row = 0;
    for (uint32_t id = 1; id <= r->ids; id++) {
        for (int i = 1; i <= packed->n; i++) {
            struct cell must = {.present = false};
            if (packed->snapshot_of[i] >= 0) {
                must = shown(r, (uint32_t)packed->snapshot_of[i], id, true);
            }
            if (must.present) {
                assert_true(row < PQntuples(rows));
                assert_int_equal(stored_db_number(rows, row, 0), id);
                assert_int_equal(stored_db_number(rows, row, 1), i);
                check_shown(rows, row++, r, &must, 2);
            }
        }
    }
    assert_int_equal(row, PQntuples(rows));
    PQclear(rows);
}

/* No doubles: PL/pgSQL has a quicker way then. */
static void make_whole(struct run *r)
{
    for (size_t i = 0; i < (size_t)r->snapshots * r->ids; i++) {
        r->cells[i].flags &= (uint8_t)~ENTRY_REAL;
    }
}

static void random_rows_are_shown(const char *schema)
{
    for (uint32_t columns = 1; columns <= TABLE_COLUMNS_MAX; columns += 3) {
        for (uint64_t i = 0; i < RUNS; i++) {
            struct run r;
            struct packed packed;
            seed = 0x9e3779b97f4a7c15u * (i + 1);
            run_init(&r, columns, 1 + below(1u << (1 + below(7))),
                     1 + below(i == 0 ? 900 : 90));
            fill(&r);
            if (i % 3 != 0) {
                make_whole(&r);
            }
            id_step = i % 4 < 2 ? 1 : 1 + below(1u << 21);
            pack_all(&r, &packed);
            check_state(&r, schema);
            check_points(&r, &packed, schema);
            run_fini(&r);
        }
    }
}

static void the_migrated_functions_show_rows(void **state)
{
    (void)state;
    random_rows_are_shown(CHUNK_DB_MIGRATED);
}

static void the_module_shows_rows(void **state)
{
    (void)state;
    if (!chunk_db.has_module) {
        skip();
    }
    random_rows_are_shown(CHUNK_DB_MODULE);
}

/* --- what is refused --- */

/* A keyframe of counter 7 with value 5, and the same again as a delta. */
#define KEYFRAME "\\x010100070002110014"
#define DELTA    "\\x01000002110004"

static const struct {
    const char *rows, *kinds, *state;
} judged[] = {
    {"{}", "{}", ""},
    {"{NULL}", "{0}", ""},
    {"{\"\\" KEYFRAME "\"}", "{NULL}", ""},
    {"{\"\\" KEYFRAME "\"}", "{2}", "7 5"},
    {"{\"\\" KEYFRAME "\",NULL,\"\\" DELTA "\"}", "{2,1,1}", "7 6"},
    {"{\"\\" KEYFRAME "\",\"\\" KEYFRAME "\"}", "{2,2}", "7 5"},
    {"{\"\\" DELTA "\"}", "{1}", "XX001"}, /* no keyframe */
    {"{\"\\" KEYFRAME "\"}", "{1}", "XX001"},
    {"{\"\\" KEYFRAME "\"}", "{3}", "XX001"},
    {"{\"\\" KEYFRAME "\"}", "{-1}", "XX001"},
    {"{\"\\" KEYFRAME "\"}", "{2,2}", "XX001"},
    {"{\"\\" KEYFRAME "\"}", "{}", "XX001"},
    {"{\"\\\\x\"}", "{2}", "XX001"},
    {"{\"\\\\x020100070002110014\"}", "{2}", "0A000"},     /* version 2 */
    {"{\"\\\\x01020007000700021100\"}", "{2}", "XX001"},   /* 7 twice */
    {"{\"\\\\x0101008080808008000211\"}", "{2}", "XX001"}, /* beyond int */
};

static void check_judged(const char *schema, size_t i)
{
    PGresult *rows = chunk_db_ask("SELECT pg_temp.judge_%s('%s', '%s')", schema,
                                  judged[i].rows, judged[i].kinds);
    assert_string_equal(PQgetvalue(rows, 0, 0), judged[i].state);
    PQclear(rows);
}

static void rows_are_judged(void **state)
{
    (void)state;
    const char *schemas[] = {CHUNK_DB_MIGRATED, CHUNK_DB_MODULE};
    for (int which = 0; which < 1 + chunk_db.has_module; which++) {
        PQclear(chunk_db_ask(
            "CREATE FUNCTION pg_temp.judge_%s(r bytea[], k smallint[])"
            " RETURNS text LANGUAGE plpgsql AS $$ BEGIN"
            " RETURN coalesce((SELECT string_agg(concat_ws(' ', s.id, s.value),"
            "  ',') FROM %s.stored_counters_state(r, k) s), '');"
            " EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END $$",
            schemas[which], schemas[which]));
        for (size_t i = 0; i < sizeof(judged) / sizeof(judged[0]); i++) {
            check_judged(schemas[which], i);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_judged),
        cmocka_unit_test(the_module_shows_rows),
        cmocka_unit_test(the_migrated_functions_show_rows),
    };
    return cmocka_run_group_tests(tests, chunk_db_begin, chunk_db_end);
}
