/* A PostgreSQL that somebody else runs, for tests to use: POOLSCOPE_TEST_DSN.
 * Each test makes databases of its own there, which are dropped at exit; the
 * roles poolscope_owner, _writer and _reader, which all of a server's
 * databases share, are made where they are missing and stay. Every function
 * fails the running test on an error. */
#ifndef PSC_TESTS_SERVER_H
#define PSC_TESTS_SERVER_H

#include "sql/database.h"

/* The DSN, or NULL: tests run servers of their own. */
const char *server_dsn(void);

/* Make an empty database, dropped at exit, and return its DSN (freed at exit),
 * as the user of @dsn. Its name begins with POOLSCOPE_TEST_PREFIX, or
 * "poolscope_test". */
const char *server_make_database(const char *dsn);

/* @dsn, but in the session @role instead of the user's own; freed at exit. */
const char *server_as(const char *dsn, enum database_role role);

#endif
