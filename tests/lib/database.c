/* The product's own embedded server in a temporary directory, or a database in
 * somebody else's. */
#include "tests/lib/database.h"

/* cmocka.h needs these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sql/embedded.h"
#include "sql/migrate.h"
#include "tests/lib/server.h"
#include "tests/lib/temp.h"

enum { SQL_MAX_BYTES = 4096 };

static bool keep_private;

static void must(int rc, const struct psc_error *err, const char *what)
{
    if (rc != PSC_OK) {
        fail_msg("%s: %s", what, err->msg);
    }
}

static void must_be_own(const struct test_database *db)
{
    if (db->data_dir == NULL) {
        fail_msg("a shared PostgreSQL is not the test's to stop");
    }
}

static void kill_at_exit(void *arg)
{
    (void)!embedded_kill(arg, NULL);
    (void)!embedded_stop(arg, NULL); /* removes the socket directory */
}

static void start(struct test_database *db)
{
    struct psc_error err = {0};
    struct embedded_options o = {.data_dir = db->data_dir,
                                 .no_sync = !db->sync};
    must(embedded_start(&o, NULL, &err), &err, "start PostgreSQL");
}

void test_database_start(struct test_database *db, bool sync)
{
    memset(db, 0, sizeof(*db));
    db->sync = sync;
    db->data_dir = temp_dir();
    db->option = "--data";
    db->place = db->data_dir;
    temp_at_exit(kill_at_exit, (void *)(uintptr_t)db->data_dir);
    start(db);
}

void test_database_keep_private(const char *why)
{
    keep_private = true;
    if (server_dsn() != NULL) {
        print_message("uses a PostgreSQL of its own, since %s\n", why);
    }
}

void test_database_migrated(struct test_database *db, bool sync)
{
    struct psc_error err = {0};
    if (sync && !keep_private) {
        test_database_keep_private("it kills PostgreSQL");
    }
    if (server_dsn() == NULL || keep_private) {
        test_database_start(db, sync);
    } else {
        memset(db, 0, sizeof(*db));
        db->option = "--dsn";
        db->place = server_make_database(server_dsn());
    }
    /* The owner of a server's database is its user, who also migrates it. */
    const char *conninfo = db->data_dir != NULL
                               ? test_database_conninfo(db, DATABASE_OWNER)
                               : db->place;
    must(migrate_run(conninfo, NULL, &err), &err, "migrate");
}

void test_database_stop(struct test_database *db)
{
    struct psc_error err = {0};
    must_be_own(db);
    must(embedded_stop(db->data_dir, &err), &err, "stop PostgreSQL");
}

void test_database_kill(struct test_database *db)
{
    struct psc_error err = {0};
    must_be_own(db);
    must(embedded_kill(db->data_dir, &err), &err, "kill PostgreSQL");
}

void test_database_restart(struct test_database *db)
{
    must_be_own(db);
    start(db);
}

const char *test_database_conninfo(struct test_database *db,
                                   enum database_role role)
{
    struct psc_error err = {0};
    char *conninfo = NULL;
    if (db->data_dir == NULL) {
        return server_as(db->place, role);
    }
    struct database_options o = {.data_dir = (char *)(uintptr_t)db->data_dir};
    must(database_conninfo(&o, role, &conninfo, &err), &err, "conninfo");
    temp_at_exit(free, conninfo);
    return conninfo;
}

const char *test_database_beside(const struct test_database *db)
{
    if (db->data_dir == NULL) {
        return server_make_database(db->place);
    }
    struct embedded_status status;
    char *conninfo = NULL;
    assert_int_equal(embedded_status(db->data_dir, &status, NULL), PSC_OK);
    assert_true(asprintf(&conninfo,
                         "host='%s' user=" EMBEDDED_SUPERUSER
                         " dbname=postgres",
                         status.socket_dir) > 0);
    temp_at_exit(free, conninfo);
    return server_make_database(conninfo);
}

PGconn *test_database_connect(struct test_database *db, enum database_role role)
{
    PGconn *conn = PQconnectdb(test_database_conninfo(db, role));
    if (PQstatus(conn) != CONNECTION_OK) {
        fail_msg("connect: %s", PQerrorMessage(conn));
    }
    return conn;
}

PGresult *test_sql_rows(PGconn *conn, const char *sql)
{
    PGresult *result = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        fail_msg("%s\n%s", sql, PQerrorMessage(conn));
    }
    return result;
}

void test_sql(PGconn *conn, const char *sql)
{
    PQclear(test_sql_rows(conn, sql));
}

const char *test_sql_text(PGconn *conn, const char *sql)
{
    PGresult *result = test_sql_rows(conn, sql);
    char *text = strdup(PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    assert_non_null(text);
    temp_at_exit(free, text);
    return text;
}

long long test_sql_int(PGconn *conn, const char *sql)
{
    return strtoll(test_sql_text(conn, sql), NULL, 10);
}

const char *test_sql_textf(PGconn *conn, const char *fmt, ...)
{
    char sql[SQL_MAX_BYTES];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(sql, sizeof(sql), fmt, args);
    va_end(args);
    assert_in_range(n, 0, sizeof(sql) - 1);
    return test_sql_text(conn, sql);
}
