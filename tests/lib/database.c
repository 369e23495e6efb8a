/* The product's own embedded server, in a temporary directory. */
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
#include "tests/lib/temp.h"

enum { SQL_MAX_BYTES = 4096 };

static void must(int rc, const struct psc_error *err, const char *what)
{
    if (rc != PSC_OK) {
        fail_msg("%s: %s", what, err->msg);
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
    db->options.data_dir = (char *)(uintptr_t)db->data_dir;
    temp_at_exit(kill_at_exit, (void *)(uintptr_t)db->data_dir);
    start(db);
}

void test_database_migrated(struct test_database *db, bool sync)
{
    struct psc_error err = {0};
    test_database_start(db, sync);
    must(migrate_run(test_database_conninfo(db, DATABASE_OWNER), NULL, &err),
         &err, "migrate");
}

void test_database_stop(struct test_database *db)
{
    struct psc_error err = {0};
    must(embedded_stop(db->data_dir, &err), &err, "stop PostgreSQL");
}

void test_database_kill(struct test_database *db)
{
    struct psc_error err = {0};
    must(embedded_kill(db->data_dir, &err), &err, "kill PostgreSQL");
}

void test_database_restart(struct test_database *db)
{
    start(db);
}

const char *test_database_conninfo(struct test_database *db,
                                   enum database_role role)
{
    struct psc_error err = {0};
    char *conninfo = NULL;
    must(database_conninfo(&db->options, role, &conninfo, &err), &err,
         "conninfo");
    temp_at_exit(free, conninfo);
    return conninfo;
}

PGconn *test_database_connect(struct test_database *db, enum database_role role)
{
    PGconn *conn = PQconnectdb(test_database_conninfo(db, role));
    if (PQstatus(conn) != CONNECTION_OK) {
        fail_msg("connect: %s", PQerrorMessage(conn));
    }
    return conn;
}

static PGresult *query(PGconn *conn, const char *sql)
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
    PQclear(query(conn, sql));
}

const char *test_sql_text(PGconn *conn, const char *sql)
{
    PGresult *result = query(conn, sql);
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
