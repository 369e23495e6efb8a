/* A throw-away database for tests. Either it has a PostgreSQL of its own: the
 * product's embedded server in a temporary directory, with fsync off unless
 * asked for, stopped and removed at exit. Or, where POOLSCOPE_TEST_DSN names a
 * server and the test may share it, it lies there (server.h). Every function
 * fails the running test on an error. */
#ifndef PSC_TESTS_DATABASE_H
#define PSC_TESTS_DATABASE_H

#include <libpq-fe.h>
#include <stdbool.h>

#include "sql/database.h"

struct test_database {
    const char *option;   /* for the programs: "--data" or "--dsn" … */
    const char *place;    /* … and its value */
    const char *data_dir; /* of its own server; NULL: in a shared one */
    bool sync;            /* fsync on */
};

/* Make a cluster and start it; @sync as in production (slower). */
void test_database_start(struct test_database *db, bool sync);

/* A database with all migrations run. With @sync, which is for tests that kill
 * PostgreSQL, it always has a server of its own. */
void test_database_migrated(struct test_database *db, bool sync);

/* From now on in this program, too, and say why: "it stops PostgreSQL". */
void test_database_keep_private(const char *why);

/* Another, empty database beside it, as a user who may migrate it: a
 * connection string, freed at exit. */
const char *test_database_beside(const struct test_database *db);

/* Orderly stop; test_database_restart() starts it again. These three are for
 * databases with a server of their own. */
void test_database_stop(struct test_database *db);

/* kill -9 of the postmaster and all its processes. */
void test_database_kill(struct test_database *db);

/* Start again after stop or kill. */
void test_database_restart(struct test_database *db);

/* A connection string (freed at exit), and an open connection to PQfinish. */
const char *test_database_conninfo(struct test_database *db,
                                   enum database_role role);
PGconn *test_database_connect(struct test_database *db,
                              enum database_role role);

/* Run @sql and fail the test unless it succeeds. */
void test_sql(PGconn *conn, const char *sql);

/* The same; the rows are yours to PQclear(). */
PGresult *test_sql_rows(PGconn *conn, const char *sql);

/* First column of the first row as text, "" for none or NULL; freed at exit. */
const char *test_sql_text(PGconn *conn, const char *sql);
long long test_sql_int(PGconn *conn, const char *sql);

/* The same for a statement made printf-style. */
const char *test_sql_textf(PGconn *conn, const char *fmt, ...) PSC_PRINTF(2, 3);

#endif
