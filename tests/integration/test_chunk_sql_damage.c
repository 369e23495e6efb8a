/* Damaged chunks in SQL: an error each time, and the server's process lives;
 * where somebody made the checksums fit, an error or rows, and C and PL/pgSQL
 * never show different ones. Also: cancelling, who may call the functions, and
 * putting the module's in place of the migrations' and back. */
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
#include "tests/unit/chunk_random.h"

enum {
    IDS = 24, /* one block */
    SNAPSHOTS = 20,
    MODULE_ROUNDS = 20000,
    MIGRATED_ROUNDS = 400,
    SEALED_ROUNDS = 1500,
};

/* Functions of the session, for @schema: all that is to be read as one text,
 * or the error's code. */
static const char read_all[] =
    "CREATE OR REPLACE FUNCTION pg_temp.read_%s("
    " h bytea, l bytea, d bytea) RETURNS text LANGUAGE plpgsql AS $$"
    "BEGIN"
    " RETURN md5(concat("
    "  (SELECT string_agg(s::text, ',' ORDER BY s.i)"
    "   FROM %s.chunk_snapshots(h) s),"
    "  (SELECT string_agg(s::text, ',' ORDER BY s.id)"
    "   FROM %s.chunk_levels(h, l) s),"
    "  (SELECT string_agg(s::text, ',' ORDER BY s.id)"
    "   FROM %s.chunk_end(h, l, d) s),"
    "  (SELECT string_agg(f::text || s::text, ',' ORDER BY id, s.n)"
    "   FROM generate_series(1, 8) id, %s.chunk_find(h, id) f,"
    "   %s.chunk_points(h, l, d, id) s),"
    "  (SELECT string_agg(b::text || s::text, ',' ORDER BY s.id, s.first_at)"
    "   FROM %s.chunk_blocks(h) b, %s.chunk_tag_hours(h,"
    "    substr(l, b.levels_from, b.levels_length),"
    "    substr(d, b.data_from, b.data_length), b.block) s)));"
    "EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE;"
    "END $$";

/* One of three strings with a few bytes changed, or its end cut off, or other
 * bytes instead. */
static const char helpers[] =
    "CREATE FUNCTION pg_temp.below(n int) RETURNS int LANGUAGE sql AS"
    " 'SELECT least(floor(random() * n)::int, n - 1)';"
    "CREATE FUNCTION pg_temp.hurt(b bytea) RETURNS bytea LANGUAGE plpgsql AS $$"
    "DECLARE how int := pg_temp.below(10); was bytea := b; at int;"
    "BEGIN"
    " IF how = 0 THEN RETURN substr(b, 1, pg_temp.below(length(b))); END IF;"
    " IF how = 1 THEN"
    "  RETURN substr(decode(repeat(md5(random()::text), 40), 'hex'),"
    "                1, pg_temp.below(600)); END IF;"
    " WHILE b = was LOOP FOR i IN 0..pg_temp.below(4) LOOP"
    "  at := pg_temp.below(length(b));"
    "  b := set_byte(b, at, CASE pg_temp.below(2) WHEN 0"
    "   THEN get_byte(b, at) # (1 << pg_temp.below(8))"
    "   ELSE pg_temp.below(256) END); END LOOP; END LOOP;"
    " RETURN b; "
    "END $$;"
    "CREATE FUNCTION pg_temp.first(b bytea) RETURNS bit(32) LANGUAGE sql AS"
    " $$SELECT ('x' || encode(substr(b, 1, 4), 'hex'))::bit(32)$$;"
    /* With checksums that fit. */
    "CREATE FUNCTION pg_temp.seal(b bytea, w bit(32)) RETURNS bytea"
    " LANGUAGE sql AS $$"
    "SELECT x || decode(lpad(to_hex((pg_temp.first(sha256(x)) # w)::int),"
    "                        8, '0'), 'hex')"
    " FROM (SELECT substr(b, 1, greatest(length(b) - 4, 0))) s (x)$$";

static long long backend;

static int begin(void **state)
{
    struct run r;
    struct chunk_writer w;
    struct chunk_sections out;
    int rc = chunk_db_begin(state);

    seed = 4711;
    run_init(&r, TABLE_COLUMNS_MAX, SNAPSHOTS, IDS);
    fill(&r);
    chunk_writer_init(&w, TABLE_COLUMNS_MAX, &chunk_openssl);
    assert_int_equal(feed(&w, &r, 7), PSC_OK);
    assert_int_equal(chunk_writer_finish(&w, &out), PSC_OK);
    chunk_db_store(TABLE_COLUMNS_MAX, &out);
    chunk_writer_fini(&w);
    run_fini(&r);
    const char *m = CHUNK_DB_MIGRATED, *c = CHUNK_DB_MODULE;
    PQclear(chunk_db_ask(read_all, m, m, m, m, m, m, m, m));
    PQclear(chunk_db_ask(read_all, c, c, c, c, c, c, c, c));
    chunk_db_run(helpers);
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

/* Each of @rounds damaged chunks is refused by the functions of @schema. */
static void damage_is_told(const char *schema, int rounds)
{
    PGresult *rows = chunk_db_ask(
        "SELECT r.outcome, count(*) FROM (SELECT pg_temp.read_%s("
        " CASE x.which WHEN 0 THEN pg_temp.hurt(c.head) ELSE c.head END,"
        " CASE x.which WHEN 1 THEN pg_temp.hurt(c.levels) ELSE c.levels END,"
        " CASE x.which WHEN 2 THEN pg_temp.hurt(c.data) ELSE c.data END)"
        " FROM chunk c, (SELECT i, pg_temp.below(3)"
        "  FROM generate_series(1, %d) i OFFSET 0) x (i, which)"
        ") r (outcome) GROUP BY 1",
        schema, rounds);
    long long seen = 0;
    for (int i = 0; i < PQntuples(rows); i++) {
        const char *outcome = PQgetvalue(rows, i, 0);
        /* Another layout version is not damage. */
        assert_true(strcmp(outcome, "XX001") == 0 ||
                    strcmp(outcome, "0A000") == 0);
        seen += strtoll(PQgetvalue(rows, i, 1), NULL, 10);
    }
    assert_int_equal(seen, rounds);
    PQclear(rows);
    check_alive();
}

static void the_module_tells_damage(void **state)
{
    (void)state;
    if (!chunk_db.has_module) {
        skip();
    }
    damage_is_told(CHUNK_DB_MODULE, MODULE_ROUNDS);
}

static void the_migrated_functions_tell_damage(void **state)
{
    (void)state;
    damage_is_told(CHUNK_DB_MIGRATED, MIGRATED_ROUNDS);
}

/* Bytes that pass all checksums: both refuse, or show the same. PL/pgSQL may
 * say so in its own words (22…), and sees overflows that C need not. */
static void both_read_the_same(void **state)
{
    (void)state;
    if (!chunk_db.has_module) {
        skip();
    }
    PGresult *rows = chunk_db_ask(
        "SELECT length(c) > 5, length(m) > 5, c = m,"
        " CASE WHEN length(c) = 5 THEN c END,"
        " CASE WHEN length(m) = 5 THEN m END, count(*)"
        " FROM (SELECT pg_temp.read_" CHUNK_DB_MODULE "(h, l, d) AS c,"
        "  pg_temp.read_" CHUNK_DB_MIGRATED "(h, l, d) AS m"
        "  FROM (SELECT h, pg_temp.seal(l, w), pg_temp.seal(d, w) FROM"
        "   (SELECT h, l, d, pg_temp.first(substr(h, length(h) - 3)) FROM"
        "    (SELECT pg_temp.seal(CASE x.w WHEN 0 THEN pg_temp.hurt(head)"
        "      ELSE head END, 0::bit(32)),"
        "     CASE x.w WHEN 1 THEN pg_temp.hurt(levels) ELSE levels END,"
        "     CASE x.w WHEN 1 THEN data ELSE pg_temp.hurt(data) END"
        "     FROM chunk, (SELECT i, pg_temp.below(4)"
        "      FROM generate_series(1, %d) i OFFSET 0) x (i, w) OFFSET 0"
        "    ) hurt (h, l, d) OFFSET 0) seal (h, l, d, w) OFFSET 0"
        "  ) bytes (h, l, d) OFFSET 0) r GROUP BY 1, 2, 3, 4, 5 ORDER BY 6",
        SEALED_ROUNDS);
    long long shown = 0;
    for (int i = 0; i < PQntuples(rows); i++) {
        bool c = *PQgetvalue(rows, i, 0) == 't';
        bool m = *PQgetvalue(rows, i, 1) == 't';
        bool same = *PQgetvalue(rows, i, 2) == 't';
        print_message("C %s %s, PL/pgSQL %s %s: %s\n", c ? "shows" : "refuses",
                      PQgetvalue(rows, i, 3), m ? "shows" : "refuses",
                      PQgetvalue(rows, i, 4), PQgetvalue(rows, i, 5));
        assert_true(!c || !m || same);
        shown += c && m ? strtoll(PQgetvalue(rows, i, 5), NULL, 10) : 0;
    }
    assert_true(shown > 0);
    PQclear(rows);
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
                       " chunk c, %s.chunk_end(c.head, c.levels, c.data)",
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

/* --- whose the functions are --- */

static const char count_c[] =
    "SELECT count(*) FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang"
    " WHERE p.pronamespace = '" CHUNK_DB_MIGRATED "'::regnamespace"
    " AND p.proowner = 'poolscope_owner'::regrole AND l.lanname = 'c'";

/* By a view, as dashboards do; directly they may not. */
static void check_reader(void)
{
    PGconn *reader = test_database_connect(&chunk_db.db, DATABASE_READER);
    assert_int_equal(
        test_sql_int(reader, "SELECT count(*) FROM poolscope.x"),
        test_sql_int(chunk_db.conn,
                     "SELECT count(*) FROM public.chunk c, " CHUNK_DB_MIGRATED
                     ".chunk_levels("
                     "c.head, c.levels)"));
    PQfinish(reader);
    assert_int_equal(
        test_sql_int(chunk_db.conn,
                     "SELECT count(*) FROM pg_proc"
                     " WHERE proname LIKE 'chunk\\_%'"
                     " AND pronamespace = '" CHUNK_DB_MIGRATED "'::regnamespace"
                     " AND has_function_privilege('public', oid, 'EXECUTE')"),
        0);
}

static void the_module_takes_the_place_and_gives_it_back(void **state)
{
    (void)state;
    chunk_db_run("CREATE TABLE public.chunk AS TABLE pg_temp.chunk;"
                 "GRANT SELECT ON public.chunk TO poolscope_owner;"
                 "SET ROLE poolscope_owner;"
                 "CREATE VIEW poolscope.x AS SELECT s.* FROM public.chunk c,"
                 " " CHUNK_DB_MIGRATED ".chunk_levels(c.head, c.levels) s;"
                 "GRANT SELECT ON poolscope.x TO poolscope_reader;"
                 "RESET ROLE");
    check_reader();
    if (!chunk_db.has_module) {
        skip();
    }
    assert_int_equal(test_sql_int(chunk_db.conn, count_c), 0);
    chunk_db_install(CHUNK_DB_MIGRATED);
    assert_int_equal(test_sql_int(chunk_db.conn, count_c), 19);
    check_reader();
    chunk_db_run("SET ROLE poolscope_owner");
    chunk_db_run(chunk_db_source("sql/migrations/013_chunk.sql"));
    chunk_db_run(chunk_db_source("sql/migrations/017_stored.sql"));
    chunk_db_run("RESET ROLE");
    assert_int_equal(test_sql_int(chunk_db.conn, count_c), 0);
    check_reader();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_module_tells_damage),
        cmocka_unit_test(the_migrated_functions_tell_damage),
        cmocka_unit_test(both_read_the_same),
        cmocka_unit_test(a_query_can_be_cancelled),
        cmocka_unit_test(the_module_takes_the_place_and_gives_it_back),
    };
    return cmocka_run_group_tests(tests, begin, chunk_db_end);
}
