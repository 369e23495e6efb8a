/* Thin wrappers around schema poolscope_api. */
#include "tests/lib/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/temp.h"

enum { BATCH_PARAMETERS = 21, NUMBER_BYTES = 32 };

struct test_store test_store;

int test_store_begin(void **state)
{
    struct test_store *s = &test_store;
    (void)state;
    test_database_migrated(&s->db, false);
    s->owner = test_database_connect(&s->db, DATABASE_OWNER);
    s->writer = test_database_connect(&s->db, DATABASE_WRITER);
    s->reader = test_database_connect(&s->db, DATABASE_READER);
    return 0;
}

int test_store_end(void **state)
{
    (void)state;
    PQfinish(test_store.owner);
    PQfinish(test_store.writer);
    PQfinish(test_store.reader);
    return 0;
}

static const char *ask(PGconn *conn, const char *sql, int n,
                       const char *const *values)
{
    PGresult *result = PQexecParams(conn, sql, n, NULL, values, NULL, NULL, 0);
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        fail_msg("%s\n%s", sql, PQerrorMessage(conn));
    }
    char *text = strdup(PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    assert_non_null(text);
    temp_at_exit(free, text);
    return text;
}

const char *test_batch_store(PGconn *writer, const struct test_batch *b)
{
    static const char sql[] =
        "SELECT poolscope_api.batch_store($1, $2, $3,"
        " (SELECT o.seq FROM poolscope_api.stream_open($1, $2, $3, 0) o),"
        " $4, $5,"
        " 'epoch'::timestamptz + $6::bigint * interval '1 microsecond',"
        " 'epoch'::timestamptz + $6::bigint * interval '1 microsecond',"
        " $7, 'epoch'::timestamptz + $6::bigint * interval '1 microsecond',"
        " 0, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,"
        " $21, NULL)";
    char host[NUMBER_BYTES];
    char session[NUMBER_BYTES];
    char first[NUMBER_BYTES];
    char seq[NUMBER_BYTES];
    char at[NUMBER_BYTES];
    char tags[NUMBER_BYTES];
    char counters[NUMBER_BYTES];
    (void)snprintf(host, sizeof(host), "%lld", b->host_id);
    (void)snprintf(session, sizeof(session), "%lld", b->session);
    (void)snprintf(first, sizeof(first), "%lld",
                   b->first_seq != 0 ? b->first_seq : b->seq);
    (void)snprintf(seq, sizeof(seq), "%lld", b->seq);
    (void)snprintf(at, sizeof(at), "%lld", (long long)b->at_us);
    (void)snprintf(tags, sizeof(tags), "%d", b->tags_kind);
    (void)snprintf(counters, sizeof(counters), "%d", b->counters_kind);
    const char *values[BATCH_PARAMETERS] = {
        host,
        session,
        b->stream != NULL ? b->stream : STORE_STREAM,
        first,
        seq,
        at,
        b->boot_id != NULL ? b->boot_id : STORE_BOOT,
        tags,
        b->tag_ids,
        b->allocs,
        b->frees,
        b->outstanding,
        b->bytes,
        b->tags_gone,
        counters,
        b->counter_ids,
        b->counter_values,
        b->counters_gone,
        b->drivers,
        b->events,
        b->sources,
    };
    return ask(writer, sql, BATCH_PARAMETERS, values);
}

long long test_host_enrol(PGconn *writer, const char *host)
{
    const char *values[] = {host};
    (void)ask(writer,
              "SELECT poolscope_api.token_create(sha256($1::text::bytea), 1,"
              " '1 hour', 'test')",
              1, values);
    return strtoll(ask(writer,
                       "SELECT host_id FROM poolscope_api.enrol("
                       "sha256($1::text::bytea), $1, 'linux',"
                       " sha256(('key of ' || $1)::bytea), now(),"
                       " now() + interval '90 days')",
                       1, values),
                   NULL, 10);
}

long long test_session_claim(PGconn *writer, long long host_id)
{
    char id[NUMBER_BYTES];
    (void)snprintf(id, sizeof(id), "%lld", host_id);
    const char *values[] = {id};
    return strtoll(
        ask(writer,
            "SELECT session FROM poolscope_api.session_claim($1, 'test',"
            " now(), '{\"os\": \"linux\", \"interval_us\": 60000000}')",
            1, values),
        NULL, 10);
}

int test_tag_id(PGconn *writer, const char *pool, const char *tag)
{
    const char *values[] = {pool, tag};
    return (int)strtol(ask(writer,
                           "SELECT (poolscope_api.intern_tags(ARRAY[$1::text],"
                           " ARRAY[$2::text], ARRAY[8]))[1]",
                           2, values),
                       NULL, 10);
}

int test_counter_id(PGconn *writer, const char *counter, const char *instance)
{
    const char *values[] = {counter, instance};
    return (int)strtol(
        ask(writer,
            "SELECT (poolscope_api.intern_counters(ARRAY[$1::text],"
            " ARRAY[$2::text]))[1]",
            2, values),
        NULL, 10);
}
