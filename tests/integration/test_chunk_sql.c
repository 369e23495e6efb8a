/* Chunks read in SQL: by the functions of the migrations, in PL/pgSQL, and by
 * those of the module, in C, which have the same names in another schema here.
 * Both show what was put into random chunks; both take damaged bytes for an
 * error and nothing worse. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/chunk_db.h"
#include "tests/lib/stored_db.h"
#include "tests/unit/chunk_random.h"

enum { RUNS = 24 };

/* --- what is shown --- */

static void check_snapshots(const struct run *r, const char *schema)
{
    PGresult *rows = chunk_db_ask(
        "SELECT s.i, s.n, " AT_US("s.at") ", " AT_US(
            "s.wall_at") ","
                         " s.boot_id FROM chunk c, %s.chunk_snapshots(c.head) s"
                         " ORDER BY s.i",
        schema);
    assert_int_equal(PQntuples(rows), r->snapshots);
    for (int s = 0; s < PQntuples(rows); s++) {
        char boot[40];
        (void)snprintf(boot, sizeof(boot),
                       "%02xb00000-0000-0000-0000-000000000000", r->boots[s]);
        assert_int_equal(stored_db_number(rows, s, 0), s);
        assert_true(stored_db_number(rows, s, 1) == r->n[s]);
        assert_true(stored_db_number(rows, s, 2) == r->at_us[s]);
        assert_true(stored_db_number(rows, s, 3) == r->wall_us[s]);
        assert_string_equal(PQgetvalue(rows, s, 4), boot);
    }
    PQclear(rows);
}

/* Every id, and two that are nowhere, over the run. */
static void check_points(struct run *r, const char *schema)
{
    PGresult *rows = chunk_db_ask(
        "SELECT id, p.*, " AT_US(
            "p.at") " FROM chunk c,"
                    " generate_series(0, %u) id, %s.chunk_find(c.head, id) f,"
                    " %s.chunk_%spoints(c.head,"
                    "  substr(c.levels, f.levels_from, f.levels_length),"
                    "  substr(c.data, f.data_from, f.data_length), id) p ORDER "
                    "BY id, p.n",
        (unsigned)r->ids + 1, schema, schema,
        r->columns == 1 ? "counter_" : "");
    int row = 0, at = PQnfields(rows) - 1;
    for (uint32_t id = 1; id <= r->ids; id++) {
        for (uint32_t s = 0; s < r->snapshots; s++) {
            struct cell must = expected(r, cell(r, s, id));
            if (!must.present) {
                continue;
            }
            assert_true(row < PQntuples(rows));
            assert_int_equal(stored_db_number(rows, row, 0), id);
            assert_true(stored_db_number(rows, row, 1) == r->n[s]);
            assert_true(stored_db_number(rows, row, at) == r->at_us[s]);
            if (r->columns == 1) {
                stored_db_check_counter(rows, row, 3, must.flags,
                                        must.values[0]);
            } else {
                assert_int_equal(stored_db_number(rows, row, 3), must.flags);
                stored_db_check_tag(rows, row, 4, must.flags, must.values);
            }
            row++;
        }
    }
    assert_int_equal(row, PQntuples(rows));
    PQclear(rows);
}

/* All ids at snapshot @s by @call: id, then flags and @n_values columns, or a
 * counter's value. */
static void check_all(struct run *r, uint32_t s, const char *schema,
                      const char *call)
{
    PGresult *rows = chunk_db_ask(
        "SELECT e.* FROM chunk c, %s.%s e ORDER BY e.id", schema, call);
    int row = 0;
    for (uint32_t id = 1; id <= r->ids; id++) {
        struct cell must = expected(r, cell(r, s, id));
        if (!must.present) {
            continue;
        }
        assert_true(row < PQntuples(rows));
        assert_int_equal(stored_db_number(rows, row, 0), id);
        if (r->columns == 1) {
            stored_db_check_counter(rows, row, 1, must.flags, must.values[0]);
        } else {
            assert_int_equal(stored_db_number(rows, row, 1), must.flags);
        }
        if (r->columns > 1 && PQnfields(rows) > 3) {
            stored_db_check_tag(rows, row, 2, must.flags, must.values);
        } else if (r->columns > 1 && (must.flags & ENTRY_REAL) == 0) {
            bool has = (must.flags & TAG_BYTES) != 0;
            assert_int_equal(PQgetisnull(rows, row, 2), !has);
            assert_true(!has || stored_db_number(rows, row, 2) ==
                                    must.values[COL_BYTES]);
        }
        row++;
    }
    assert_int_equal(row, PQntuples(rows));
    PQclear(rows);
}

static void check_run(struct run *r, const char *schema)
{
    const bool counters = r->columns == 1;

    check_snapshots(r, schema);
    check_points(r, schema);
    check_all(r, 0, schema,
              counters ? "chunk_counter_levels(c.head, c.levels)"
                       : "chunk_levels(c.head, c.levels)");
    check_all(r, r->snapshots - 1, schema,
              counters ? "chunk_counter_end(c.head, c.levels, c.data)"
                       : "chunk_end(c.head, c.levels, c.data)");
    for (int i = 0; i < 4 && !counters; i++) {
        char call[64];
        uint32_t s = below(r->snapshots);
        (void)snprintf(call, sizeof(call),
                       "chunk_state(c.head, c.levels, c.data, %u)",
                       (unsigned)s);
        check_all(r, s, schema, call);
    }
}

static void random_chunks_are_shown(const char *schema)
{
    for (uint32_t columns = 1; columns <= TABLE_COLUMNS_MAX; columns += 3) {
        struct chunk_writer w;
        chunk_writer_init(&w, columns, &chunk_openssl);
        for (uint64_t i = 0; i < RUNS; i++) {
            struct run r;
            struct chunk_sections out;
            seed = 0x9e3779b97f4a7c15u * (i + 1);
            if (i == 0) {
                run_init(&r, columns, CHUNK_SNAPSHOTS_MAX, 4);
            } else {
                run_init(&r, columns, 1 + below(1u << (1 + below(7))),
                         1 + below(110));
            }
            fill(&r);
            assert_int_equal(feed(&w, &r, 1 + below(40)), PSC_OK);
            assert_int_equal(chunk_writer_finish(&w, &out), PSC_OK);
            chunk_db_run("TRUNCATE chunk");
            chunk_db_store(columns, &out);
            check_run(&r, schema);
            run_fini(&r);
        }
        chunk_writer_fini(&w);
    }
}

static void the_migrated_functions_show_chunks(void **state)
{
    (void)state;
    random_chunks_are_shown(CHUNK_DB_MIGRATED);
}

static void the_module_shows_chunks(void **state)
{
    (void)state;
    if (!chunk_db.has_module) {
        skip();
    }
    random_chunks_are_shown(CHUNK_DB_MODULE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_module_shows_chunks),
        cmocka_unit_test(the_migrated_functions_show_chunks),
    };
    return cmocka_run_group_tests(tests, chunk_db_begin, chunk_db_end);
}
