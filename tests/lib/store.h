/* Batches put into the database by the very statements that the collector
 * uses, for tests of what SQL makes of them. Every function fails the running
 * test on an error. */
#ifndef PSC_TESTS_STORE_H
#define PSC_TESTS_STORE_H

#include <libpq-fe.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/lib/database.h"

enum { STORE_NONE = 0, STORE_DELTA = 1, STORE_KEYFRAME = 2 };

#define STORE_STREAM "00000000-0000-0000-0000-0000000000aa"
#define STORE_BOOT   "00000000-0000-0000-0000-0000000000b0"

/* A migrated database and a connection for each of its roles: what the tests
 * of one program share. begin and end are a group's set-up and tear-down. */
struct test_store {
    struct test_database db;
    PGconn *owner, *writer, *reader;
};
extern struct test_store test_store;
int test_store_begin(void **state);
int test_store_end(void **state);

/* Run `poolscope @args` on that database by a shell; what it says, on either
 * stream, goes to @out. Returns its exit code. */
int test_store_cli(const char *args, char *out, size_t cap);

/* What a sample changes, in lists, "{1,2,NULL}"; NULL: a list of as many NULLs.
 * Made into bytes on what was stored of the host before by this program; where
 * a delta cannot be, a keyframe is stored. */
struct test_batch {
    long long host_id, session;
    const char *stream;  /* NULL: STORE_STREAM */
    const char *boot_id; /* NULL: STORE_BOOT */
    long long prev_seq;  /* for test_unit_store() */
    long long first_seq; /* 0: as seq */
    long long seq;
    int64_t at_us;          /* since 1970 */
    long long missed_ticks; /* before it */
    int tags_kind;          /* STORE_… */
    const char *tag_ids, *allocs, *frees, *outstanding, *bytes, *tags_gone;
    int counters_kind;
    const char *counter_ids, *counter_values, *counters_gone;
    const char *drivers, *events, *sources, *aliases; /* JSON or NULL */
};

/* Opens the batch's stream, then stores it behind what that has, alone:
 * "stored", "duplicate" or "superseded". */
const char *test_batch_store(PGconn *writer, const struct test_batch *b);

/* poolscope_api.unit_store() of @n batches: their outcomes, "{stored,retry}".
 */
const char *test_unit_store(PGconn *writer, const struct test_batch *b, int n);

/* Enrol @host with a token of its own; returns its id. */
long long test_host_enrol(PGconn *writer, const char *host);

/* Claim a session with an interval of 60 s; returns the session. */
long long test_session_claim(PGconn *writer, long long host_id);

/* Id of a tag or counter, made when new. */
int test_tag_id(PGconn *writer, const char *pool, const char *tag);
int test_counter_id(PGconn *writer, const char *counter, const char *instance);

#endif
