/* The module in an embedded server: `poolscope migrate` puts it in place, or
 * says why not and leaves PL/pgSQL. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file.h"
#include "tests/lib/database.h"
#include "tests/lib/spawn.h"
#include "tests/lib/temp.h"

enum { WAIT_S = 120, FILE_MAX_BYTES = 256 << 20 };

static struct test_database db;
static char out[65536];

static int begin(void **state)
{
    (void)state;
    test_database_keep_private("it loads a library into PostgreSQL");
    test_database_start(&db, false);
    return 0;
}

/* Whether the programs of this build have a module beside them. */
static bool was_built(void)
{
    char program[PATH_MAX], library[PATH_MAX];
    (void)snprintf(program, sizeof(program), "%s", spawn_program("poolscope"));
    assert_int_equal(psc_path_join(library, sizeof(library), dirname(program),
                                   "../lib/poolscope_chunk.so"),
                     PSC_OK);
    return access(library, R_OK) == 0;
}

/* What it writes goes to `out`. */
static int migrate(const char *program)
{
    const char *const argv[] = {"/bin/sh", "-c",     "exec \"$@\" 2>&1",
                                "sh",      program,  "migrate",
                                "--data",  db.place, NULL};
    return spawn_capture(argv, out, sizeof(out), WAIT_S);
}

/* How many functions read by the copy in the data directory. */
static long long count_c(PGconn *conn)
{
    return test_sql_int(
        conn,
        test_sql_textf(conn,
                       "SELECT 'SELECT count(*) FROM pg_proc WHERE probin = ' "
                       "|| quote_literal('%s/poolscope_chunk.so')",
                       db.data_dir));
}

static void migrating_puts_the_module_in_place(void **state)
{
    (void)state;
    if (!was_built()) {
        skip();
    }
    for (int round = 0; round < 2; round++) {
        assert_int_equal(migrate(spawn_program("poolscope")), 0);
        PGconn *conn = test_database_connect(&db, DATABASE_OWNER);
        assert_true(count_c(conn) >= 17);
        assert_int_equal(
            test_sql_int(conn, "SELECT count(*) FROM"
                               " poolscope_data.stored_counters_state("
                               "'{\"\\\\x010100070002110014\"}', '{2}')"),
            1);
        PQfinish(conn);
    }
}

static void copy(const char *from, const char *to, int mode)
{
    struct psc_buf b;
    psc_buf_init(&b, FILE_MAX_BYTES);
    assert_int_equal(psc_file_read(from, &b, NULL), PSC_OK);
    assert_int_equal(
        psc_file_write(to, (struct psc_bytes){b.data, b.len}, mode, NULL),
        PSC_OK);
    psc_buf_fini(&b);
}

/* A program with a library beside it that is none. */
static void what_does_not_fit_is_left_out(void **state)
{
    (void)state;
    char program[PATH_MAX], library[PATH_MAX];
    const char *dir = temp_dir();
    assert_int_equal(psc_path_join(library, sizeof(library), dir, "lib"),
                     PSC_OK);
    assert_int_equal(psc_dir_make(library, 0755, NULL), PSC_OK);
    assert_int_equal(psc_path_join(program, sizeof(program), dir, "bin"),
                     PSC_OK);
    assert_int_equal(psc_dir_make(program, 0755, NULL), PSC_OK);
    (void)snprintf(program, sizeof(program), "%s/bin/poolscope", dir);
    (void)snprintf(library, sizeof(library), "%s/lib/poolscope_chunk.so", dir);
    copy(spawn_program("poolscope"), program, 0755);
    copy("/etc/passwd", library, 0644);

    assert_int_equal(migrate(program), 0);
    assert_non_null(strstr(out, "warn: PostgreSQL reads samples without"));
    PGconn *conn = test_database_connect(&db, DATABASE_OWNER);
    assert_true(test_sql_int(conn, "SELECT count(*) FROM poolscope.host") == 0);
    PQfinish(conn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_does_not_fit_is_left_out),
        cmocka_unit_test(migrating_puts_the_module_in_place),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
