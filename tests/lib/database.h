/* A private throw-away PostgreSQL for tests: the product's embedded server in
 * a temporary directory, with fsync off unless asked for. Stopped and removed
 * at exit. Every function fails the running test on an error. */
#ifndef PSC_TESTS_DATABASE_H
#define PSC_TESTS_DATABASE_H

#include <libpq-fe.h>
#include <stdbool.h>

#include "sql/database.h"

struct test_database {
    struct database_options options; /* --data of the programs under test */
    const char *data_dir;            /* the same directory */
    bool sync;                       /* fsync on */
};

/* Make a cluster and start it; @sync as in production (slower). */
void test_database_start(struct test_database *db, bool sync);

/* The same with all migrations run. */
void test_database_migrated(struct test_database *db, bool sync);

/* Orderly stop; test_database_restart() starts it again. */
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

/* First column of the first row as text, "" for none or NULL; freed at exit. */
const char *test_sql_text(PGconn *conn, const char *sql);
long long test_sql_int(PGconn *conn, const char *sql);

/* The same for a statement made printf-style. */
const char *test_sql_textf(PGconn *conn, const char *fmt, ...) PSC_PRINTF(2, 3);

#endif
