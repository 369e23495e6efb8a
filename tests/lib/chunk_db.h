/* A database in which chunks are read by the functions of the migrations and,
 * in a schema of its own, by those of the module poolscope_chunk. Shared by
 * tests and benchmarks. Every function fails the running test on an error. */
#ifndef PSC_TESTS_CHUNK_DB_H
#define PSC_TESTS_CHUNK_DB_H

#include <libpq-fe.h>
#include <stdbool.h>

#include "sql/codec/chunk_writer.h"
#include "tests/lib/database.h"

/* The schemas. */
#define CHUNK_DB_MIGRATED "poolscope_data"
#define CHUNK_DB_MODULE   "chunk_c"

struct chunk_db {
    struct test_database db;
    PGconn *conn;    /* a superuser's; times are UTC */
    bool has_module; /* it was built */
};
extern struct chunk_db chunk_db;

/* A group's set-up and tear-down. Makes a temporary table: chunk (columns
 * int, head, levels, data bytea), the bytes as they are, not compressed. */
int chunk_db_begin(void **state);
int chunk_db_end(void **state);

/* Run a statement made printf-style; PQclear the result. */
PGresult *chunk_db_ask(const char *fmt, ...) PSC_PRINTF(1, 2);

/* The same where nothing is asked. */
void chunk_db_run(const char *sql);

/* Add a row to table chunk. */
void chunk_db_store(uint32_t columns, const struct chunk_sections *c);

/* Run sql/extension/install.sql for the functions of @schema. */
void chunk_db_install(const char *schema);

/* A file of the source tree as a string; freed at exit. */
const char *chunk_db_source(const char *path);

#endif
