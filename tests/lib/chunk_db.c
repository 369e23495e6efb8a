/* A cluster of the test's own, whose superuser may load libraries. */
#include "tests/lib/chunk_db.h"

/* cmocka.h needs these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/file.h"
#include "sql/embedded.h"
#include "tests/lib/temp.h"

enum { SQL_BYTES = 4096, FILE_MAX_BYTES = 1 << 20 };

struct chunk_db chunk_db;

PGresult *chunk_db_ask(const char *fmt, ...)
{
    char sql[SQL_BYTES];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(sql, sizeof(sql), fmt, args);
    va_end(args);
    assert_in_range(n, 0, sizeof(sql) - 1);
    return test_sql_rows(chunk_db.conn, sql);
}

void chunk_db_run(const char *sql)
{
    test_sql(chunk_db.conn, sql);
}

const char *chunk_db_source(const char *path)
{
    char full[4096];
    struct psc_buf buf;
    struct psc_error err;
    (void)snprintf(full, sizeof(full), "%s/../../%s", PSC_TEST_DATA, path);
    psc_buf_init(&buf, FILE_MAX_BYTES);
    if (psc_file_read(full, &buf, &err) != PSC_OK) {
        fail_msg("%s", err.msg);
    }
    psc_buf_u8(&buf, 0);
    assert_int_equal(psc_buf_error(&buf), PSC_OK);
    temp_at_exit(free, buf.data);
    return (const char *)buf.data;
}

/* Replace every @from in @text by @to; freed at exit. */
static const char *replaced(const char *text, const char *from, const char *to)
{
    struct psc_buf buf;
    psc_buf_init(&buf, FILE_MAX_BYTES);
    for (const char *at; (at = strstr(text, from)) != NULL;
         text = at + strlen(from)) {
        psc_buf_append(&buf, text, (size_t)(at - text));
        psc_buf_append(&buf, to, strlen(to));
    }
    psc_buf_append(&buf, text, strlen(text) + 1);
    assert_int_equal(psc_buf_error(&buf), PSC_OK);
    temp_at_exit(free, buf.data);
    return (const char *)buf.data;
}

void chunk_db_install(const char *schema)
{
    const char *file = chunk_db_source("sql/extension/install.sql");
    const char *commands = strstr(file, "\nBEGIN;"); /* psql's come before */
    char prefix[64];
    assert_non_null(commands);
    (void)snprintf(prefix, sizeof(prefix), "%s.", schema);
    const char *sql = replaced(commands, ":'library'", "'" POOLSCOPE_CHUNK "'");
    chunk_db_run(replaced(sql, CHUNK_DB_MIGRATED ".", prefix));
}

/* Who may load libraries. */
static PGconn *superuser(void)
{
    struct embedded_status status;
    char conninfo[sizeof(status.socket_dir) + 64];
    assert_int_equal(embedded_status(chunk_db.db.data_dir, &status, NULL),
                     PSC_OK);
    (void)snprintf(conninfo, sizeof(conninfo),
                   "host='%s' user=" EMBEDDED_SUPERUSER
                   " dbname=" EMBEDDED_DATABASE,
                   status.socket_dir);
    PGconn *made = PQconnectdb(conninfo);
    if (PQstatus(made) != CONNECTION_OK) {
        fail_msg("connect: %s", PQerrorMessage(made));
    }
    return made;
}

int chunk_db_begin(void **state)
{
    (void)state;
    test_database_keep_private("it loads a library into PostgreSQL");
    test_database_migrated(&chunk_db.db, false);
    chunk_db.conn = superuser();
    chunk_db_run(
        "SET TimeZone = 'UTC'; CREATE SCHEMA " CHUNK_DB_MODULE ";"
        "SET client_min_messages = warning;"
        "CREATE TEMP TABLE chunk (columns int, head bytea, levels bytea,"
        " data bytea);"
        "ALTER TABLE chunk ALTER head SET STORAGE MAIN,"
        " ALTER levels SET STORAGE EXTERNAL,"
        " ALTER data SET STORAGE EXTERNAL");
    chunk_db.has_module = POOLSCOPE_CHUNK[0] != '\0';
    if (chunk_db.has_module) {
        chunk_db_install(CHUNK_DB_MODULE);
    } else {
        print_message("the module was not built: only PL/pgSQL is tested\n");
    }
    return 0;
}

int chunk_db_end(void **state)
{
    (void)state;
    PQfinish(chunk_db.conn);
    return 0;
}

void chunk_db_store(uint32_t columns, const struct chunk_sections *c)
{
    char number[16];
    (void)snprintf(number, sizeof(number), "%u", (unsigned)columns);
    /* Without entries there are no bytes, which is not NULL. */
    const bool any = c->data.len > 0;
    const char *values[] = {number, (const char *)c->head.data,
                            any ? (const char *)c->levels.data : "",
                            any ? (const char *)c->data.data : ""};
    const int lengths[] = {0, (int)c->head.len, (int)c->levels.len,
                           (int)c->data.len};
    const int formats[] = {0, 1, 1, 1};
    PGresult *result =
        PQexecParams(chunk_db.conn, "INSERT INTO chunk VALUES ($1, $2, $3, $4)",
                     4, NULL, values, lengths, formats, 0);
    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        fail_msg("%s", PQerrorMessage(chunk_db.conn));
    }
    PQclear(result);
}
