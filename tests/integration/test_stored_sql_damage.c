/* Damaged rows of the fresh tier in SQL: rows or an error, and the server's
 * process lives. C and PL/pgSQL never show different ones. Hours of chunks
 * whose checksums were made to fit are in test_chunk_sql_damage.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/lib/chunk_db.h"
#include "tests/lib/stored_db.h"
#include "tests/unit/chunk_random.h"
#include "tests/unit/stored_pack.h"

enum {
    IDS = 24,
    SNAPSHOTS = 12,
    BOTH_ROUNDS = 1600,
    MODULE_ROUNDS = 20000,
};

/* Functions of the session, for schema %1$s and tags or counters: all that is
 * to be read as one text, or the error's code. Sums of doubles are left out:
 * their last digits may differ. */
static const char read_tags[] =
    "CREATE FUNCTION pg_temp.read_tags_%1$s(r bytea[], k smallint[],"
    " a timestamptz[]) RETURNS text LANGUAGE plpgsql AS $$"
    "BEGIN"
    " RETURN md5(concat("
    "  (SELECT string_agg(s::text, ',' ORDER BY s.id)"
    "   FROM %1$s.stored_tags_state(r, k) s),"
    "  (SELECT string_agg(s::text, ',' ORDER BY id, s.i)"
    "   FROM generate_series(1, 4) id, %1$s.stored_tag_points(r, k, id) s),"
    "  (SELECT string_agg(s::text, ',' ORDER BY s.id, s.first_at)"
    "   FROM %1$s.stored_tag_hours(r, k, a) s)));"
    "EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE;"
    "END $$";
static const char read_counters[] =
    "CREATE FUNCTION pg_temp.read_counters_%1$s(r bytea[], k smallint[],"
    " a timestamptz[]) RETURNS text LANGUAGE plpgsql AS $$"
    "BEGIN"
    " RETURN md5(concat("
    "  (SELECT string_agg(s::text, ',' ORDER BY s.id)"
    "   FROM %1$s.stored_counters_state(r, k) s),"
    "  (SELECT string_agg(s::text, ',' ORDER BY id, s.i)"
    "   FROM generate_series(1, 4) id, %1$s.stored_counter_points(r, k, id) s"
    "  ),"
    "  (SELECT string_agg(concat_ws('|', s.hour, s.id, s.n, s.first_at,"
    "    s.last_at, s.first_value, s.last_value, s.min_value, s.max_value),"
    "    ',' ORDER BY s.id, s.first_at)"
    "   FROM %1$s.stored_counter_hours(r, k, a) s)));"
    "EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE;"
    "END $$";

/* One row of several with a few bytes changed, cut off, or others instead; or
 * it is of another kind. */
static const char helpers[] =
    "CREATE FUNCTION pg_temp.below(n int) RETURNS int LANGUAGE sql AS"
    " 'SELECT least(floor(random() * n)::int, n - 1)';"
    "CREATE FUNCTION pg_temp.hurt(b bytea) RETURNS bytea LANGUAGE plpgsql AS $$"
    "DECLARE how int := pg_temp.below(12); at int;"
    "BEGIN"
    " IF how = 0 THEN RETURN substr(b, 1, pg_temp.below(length(b))); END IF;"
    " IF how = 1 THEN"
    "  RETURN '\\x01'::bytea || substr(decode(repeat(md5(random()::text), 20),"
    "   'hex'), 1, pg_temp.below(300)); END IF;"
    " FOR i IN 0..pg_temp.below(3) LOOP"
    "  at := pg_temp.below(length(b));"
    "  b := set_byte(b, at, CASE pg_temp.below(3)"
    "   WHEN 0 THEN pg_temp.below(256)"
    "   WHEN 1 THEN get_byte(b, at) # (1 << pg_temp.below(8))"
    "   ELSE (get_byte(b, at) + 1) % 256 END); END LOOP;"
    " RETURN b; "
    "END $$;"
    "CREATE FUNCTION pg_temp.hurt(b bytea[]) RETURNS bytea[]"
    " LANGUAGE plpgsql AS $$"
    "DECLARE at int := 1 + pg_temp.below(cardinality(b));"
    "BEGIN"
    " IF b[at] IS NOT NULL THEN b[at] := pg_temp.hurt(b[at]); END IF;"
    " RETURN b; "
    "END $$;"
    "CREATE FUNCTION pg_temp.hurt(k smallint[]) RETURNS smallint[]"
    " LANGUAGE plpgsql AS $$"
    "BEGIN"
    " IF pg_temp.below(9) = 0 THEN"
    "  k[1 + pg_temp.below(cardinality(k))] := pg_temp.below(4); END IF;"
    " RETURN k; "
    "END $$;"
    "CREATE TEMP TABLE stored_sample (what text, r bytea[], k smallint[],"
    " a timestamptz[])";

static long long backend;

static void make_sample(uint32_t columns, const char *what, bool doubles)
{
    struct run r;
    struct packed packed;

    run_init(&r, columns, SNAPSHOTS, IDS);
    fill(&r);
    for (uint32_t s = 0; s < SNAPSHOTS; s++) {
        r.at_us[s] += (int64_t)s * 600000000;
    }
    for (size_t i = 0; !doubles && i < (size_t)SNAPSHOTS * IDS; i++) {
        r.cells[i].flags &= (uint8_t)~ENTRY_REAL;
    }
    pack_all(&r, &packed);
    PQclear(chunk_db_ask("INSERT INTO stored_sample SELECT '%s', x.*"
                         " FROM " STORED_ROWS,
                         what));
    run_fini(&r);
}

static void make_readers(const char *schema)
{
    PQclear(chunk_db_ask(read_tags, schema));
    PQclear(chunk_db_ask(read_counters, schema));
}

static int begin(void **state)
{
    int rc = chunk_db_begin(state);

    chunk_db_run(helpers);
    seed = 4711;
    for (int i = 0; i < 4; i++) {
        make_sample(TABLE_COLUMNS_MAX, "tags", i == 0);
        make_sample(1, "counters", i < 3);
    }
    make_readers(CHUNK_DB_MIGRATED);
    if (chunk_db.has_module) {
        make_readers(CHUNK_DB_MODULE);
    }
    chunk_db_run("SELECT setseed(0.25); SET statement_timeout = '200s'");
    backend = test_sql_int(chunk_db.conn, "SELECT pg_backend_pid()");
    return rc;
}

static void check_alive(void)
{
    assert_int_equal(PQstatus(chunk_db.conn), CONNECTION_OK);
    assert_int_equal(test_sql_int(chunk_db.conn, "SELECT pg_backend_pid()"),
                     backend);
}

#define HURT                                                                   \
    "(SELECT pg_temp.hurt(s.r), pg_temp.hurt(s.k), s.a"                        \
    " FROM stored_sample s, generate_series(1, %d) i"                          \
    " WHERE s.what = '%s' OFFSET 0) x (r, k, a)"

static void the_module_survives(void **state)
{
    (void)state;
    if (!chunk_db.has_module) {
        skip();
    }
    const char *whats[] = {"tags", "counters"};
    for (int i = 0; i < 2; i++) {
        PGresult *rows = chunk_db_ask(
            "SELECT length(o) > 5, CASE WHEN length(o) = 5 THEN o END,"
            " count(*) FROM (SELECT pg_temp.read_%s_" CHUNK_DB_MODULE
            "(x.r, x.k, x.a) FROM " HURT ") y (o) GROUP BY 1, 2",
            whats[i], MODULE_ROUNDS / 8, whats[i]);
        long long shown = 0, refused = 0;
        for (int row = 0; row < PQntuples(rows); row++) {
            bool shows = *PQgetvalue(rows, row, 0) == 't';
            const char *code = PQgetvalue(rows, row, 1);
            long long n = strtoll(PQgetvalue(rows, row, 2), NULL, 10);
            assert_true(shows || strcmp(code, "XX001") == 0 ||
                        strcmp(code, "0A000") == 0);
            *(shows ? &shown : &refused) += n;
        }
        assert_true(shown > 0 && refused > 0);
        PQclear(rows);
    }
    check_alive();
}

/* Both refuse, or show the same. PL/pgSQL may say so in its own words (22…),
 * and sees overflows that C need not. */
static void both_read_the_same(void **state)
{
    (void)state;
    if (!chunk_db.has_module) {
        skip();
    }
    const char *whats[] = {"tags", "counters"};
    for (int i = 0; i < 2; i++) {
        PGresult *rows = chunk_db_ask(
            "SELECT length(c) > 5, length(m) > 5, c = m,"
            " CASE WHEN length(c) = 5 THEN c END,"
            " CASE WHEN length(m) = 5 THEN m END, count(*) FROM ("
            " SELECT pg_temp.read_%s_" CHUNK_DB_MODULE "(x.r, x.k, x.a) AS c,"
            "  pg_temp.read_%s_" CHUNK_DB_MIGRATED "(x.r, x.k, x.a) AS m"
            " FROM " HURT ") y GROUP BY 1, 2, 3, 4, 5 ORDER BY 6",
            whats[i], whats[i], BOTH_ROUNDS / 4, whats[i]);
        long long shown = 0;
        for (int row = 0; row < PQntuples(rows); row++) {
            bool c = *PQgetvalue(rows, row, 0) == 't';
            bool m = *PQgetvalue(rows, row, 1) == 't';
            bool same = *PQgetvalue(rows, row, 2) == 't';
            const char *code = PQgetvalue(rows, row, 4);
            print_message("%s: C %s %s, PL/pgSQL %s %s: %s\n", whats[i],
                          c ? "shows" : "refuses", PQgetvalue(rows, row, 3),
                          m ? "shows" : "refuses", code,
                          PQgetvalue(rows, row, 5));
            assert_true(!c || !m || same);
            /* C has no reason of its own to refuse, PL/pgSQL one. */
            assert_true(c || !m);
            assert_true(!c || m || strcmp(code, "22003") == 0);
            shown += c && m ? strtoll(PQgetvalue(rows, row, 5), NULL, 10) : 0;
        }
        assert_true(shown > 0);
        PQclear(rows);
    }
    check_alive();
}

static void a_query_can_be_cancelled(void **state)
{
    (void)state;
    const char *schemas[] = {CHUNK_DB_MIGRATED, CHUNK_DB_MODULE};
    for (int i = 0; i < 1 + chunk_db.has_module; i++) {
        char sql[256], error[256];
        (void)snprintf(sql, sizeof(sql),
                       "SELECT count(*) FROM generate_series(1, 100000000) i,"
                       " stored_sample x, %s.stored_tag_hours(x.r, x.k, x.a)"
                       " WHERE x.what = 'tags'",
                       schemas[i]);
        PGcancel *cancel = PQgetCancel(chunk_db.conn);
        assert_int_equal(PQsendQuery(chunk_db.conn, sql), 1);
        usleep(200000);
        int64_t from_us = psc_clock_mono_us();
        assert_int_equal(PQcancel(cancel, error, sizeof(error)), 1);
        PGresult *result = PQgetResult(chunk_db.conn);
        assert_string_equal(PQresultErrorField(result, PG_DIAG_SQLSTATE),
                            "57014");
        assert_true(psc_clock_mono_us() - from_us < 5 * PSC_US_PER_S);
        PQclear(result);
        assert_null(PQgetResult(chunk_db.conn));
        PQfreeCancel(cancel);
        check_alive();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_module_survives),
        cmocka_unit_test(both_read_the_same),
        cmocka_unit_test(a_query_can_be_cancelled),
    };
    return cmocka_run_group_tests(tests, begin, chunk_db_end);
}
