/* Thin wrappers around schema poolscope_api, and the bytes of tables. */
#include "tests/lib/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/buf.h"
#include "tests/lib/spawn.h"
#include "tests/lib/temp.h"
#include "tests/lib/tiers.h"

enum {
    NUMBER_BYTES = 32,
    PARAMETER_MAX_BYTES = 64 << 20,
    ENTRIES_MAX = 4096,
};

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

int test_store_cli(const char *args, char *out, size_t cap)
{
    char command[512];
    (void)snprintf(command, sizeof(command), "%s %s %s '%s' 2>&1",
                   spawn_program("poolscope"), args, test_store.db.option,
                   test_store.db.place);
    const char *const argv[] = {"/bin/sh", "-c", command, NULL};
    return spawn_capture(argv, out, cap, 60);
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

/* ----------------------------------------------------- tables into bytes */

/* A table of a host, as the newest batch left it. */
struct known {
    struct known *next;
    long long host_id;
    bool counters;
    bool stale; /* a batch was not stored: the next one is a keyframe */
    struct tier_table packer;
    unsigned n;
    struct {
        int32_t id;
        uint8_t flags;
        int64_t values[TABLE_COLUMNS_MAX];
    } entry[ENTRIES_MAX];
};

static struct known *all_known;

static void forget_all(void *arg)
{
    (void)arg;
    while (all_known != NULL) {
        struct known *k = all_known;
        all_known = k->next;
        tier_table_fini(&k->packer);
        free(k);
    }
}

static struct known *known_of(long long host_id, bool counters)
{
    for (struct known *k = all_known; k != NULL; k = k->next) {
        if (k->host_id == host_id && k->counters == counters) {
            return k;
        }
    }
    struct known *k = calloc(1, sizeof(*k));
    assert_non_null(k);
    if (all_known == NULL) {
        temp_at_exit(forget_all, NULL);
    }
    *k = (struct known){
        .next = all_known, .host_id = host_id, .counters = counters};
    tier_table_init(&k->packer, counters ? 1 : TABLE_COLUMNS_MAX);
    all_known = k;
    return k;
}

/* The next element of a list; NULL at its end. */
static const char *next_element(const char **list, char out[NUMBER_BYTES])
{
    if (*list == NULL) {
        return NULL;
    }
    const char *from = *list + strspn(*list, "{,");
    size_t len = strcspn(from, ",}");
    if (len == 0) {
        return NULL;
    }
    assert_true(len < NUMBER_BYTES);
    memcpy(out, from, len);
    out[len] = '\0';
    *list = from + len;
    return out;
}

static unsigned place_of(const struct known *k, int32_t id)
{
    unsigned i = 0;
    while (i < k->n && k->entry[i].id != id) {
        i++;
    }
    assert_true(i < ENTRIES_MAX);
    return i;
}

static void take_gone(struct known *k, const char *gone)
{
    char text[NUMBER_BYTES];
    while (next_element(&gone, text) != NULL) {
        unsigned i = place_of(k, (int32_t)strtol(text, NULL, 10));
        assert_true(i < k->n);
        memmove(&k->entry[i], &k->entry[i + 1],
                (--k->n - i) * sizeof(k->entry[0]));
    }
}

static void take_counters(struct known *k, const struct test_batch *b)
{
    char text[NUMBER_BYTES];
    const char *ids = b->counter_ids;
    const char *values = b->counter_values;
    while (next_element(&ids, text) != NULL) {
        unsigned i = place_of(k, (int32_t)strtol(text, NULL, 10));
        k->entry[i].id = (int32_t)strtol(text, NULL, 10);
        k->entry[i].flags = ENTRY_REAL;
        assert_non_null(next_element(&values, text));
        double value = strtod(text, NULL);
        memcpy(k->entry[i].values, &value, sizeof(value));
        k->n += i == k->n;
    }
    take_gone(k, b->counters_gone);
}

static void take_tags(struct known *k, const struct test_batch *b)
{
    char text[NUMBER_BYTES];
    const char *ids = b->tag_ids;
    const char *columns[TABLE_COLUMNS_MAX] = {b->allocs, b->frees,
                                              b->outstanding, b->bytes};
    while (next_element(&ids, text) != NULL) {
        unsigned i = place_of(k, (int32_t)strtol(text, NULL, 10));
        k->entry[i].id = (int32_t)strtol(text, NULL, 10);
        k->entry[i].flags = 0;
        for (int c = 0; c < TABLE_COLUMNS_MAX; c++) {
            bool has = next_element(&columns[c], text) != NULL &&
                       strcmp(text, "NULL") != 0;
            k->entry[i].flags |= (uint8_t)(has ? 1 << c : 0);
            k->entry[i].values[c] = has ? strtoll(text, NULL, 10) : 0;
        }
        k->n += i == k->n;
    }
    take_gone(k, b->tags_gone);
}

/* Bytes of a table of @b, and its kind in *@kind; valid until the next call. */
static struct psc_bytes pack(const struct test_batch *b, bool counters,
                             int *kind)
{
    *kind = counters ? b->counters_kind : b->tags_kind;
    if (*kind == STORE_NONE) {
        return (struct psc_bytes){NULL, 0};
    }
    struct known *k = known_of(b->host_id, counters);
    bool keyframe = *kind == STORE_KEYFRAME || k->stale;
    if (*kind == STORE_KEYFRAME) {
        k->n = 0;
    }
    if (counters) {
        take_counters(k, b);
    } else {
        take_tags(k, b);
    }
    tier_begin(&k->packer);
    for (unsigned i = 0; i < k->n; i++) {
        tier_put(&k->packer, k->entry[i].id, k->entry[i].flags,
                 k->entry[i].values);
    }
    struct psc_bytes row = tier_row(&k->packer, &keyframe);
    k->stale = false;
    *kind = keyframe ? STORE_KEYFRAME : STORE_DELTA;
    return row;
}

/* ------------------------------------------------------------------ units */

/* Lists for unit_store(), in the order of its parameters. */
enum {
    P_HOST,
    P_SESSION,
    P_STREAM,
    P_PREV_SEQ,
    P_FIRST_SEQ,
    P_SEQ,
    P_AT, /* also the host's own time, and that of the boot */
    P_BOOT,
    P_MISSED,
    P_TAGS_KIND,
    P_COUNTERS_KIND,
    P_TAGS,
    P_COUNTERS,
    P_EXTRA_OF,
    P_DRIVERS,
    P_EVENTS,
    P_SOURCES,
    P_ALIASES,
    UNIT_PARAMETERS,
};

static void put_element(struct psc_buf *p, const char *text)
{
    psc_buf_u8(p, p->len == 0 ? '{' : ',');
    if (text == NULL) {
        psc_buf_printf(p, "NULL");
        return;
    }
    psc_buf_u8(p, '"');
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\') {
            psc_buf_u8(p, '\\');
        }
        psc_buf_u8(p, (uint8_t)*text);
    }
    psc_buf_u8(p, '"');
}

static void put_number(struct psc_buf *p, long long v)
{
    char text[NUMBER_BYTES];
    (void)snprintf(text, sizeof(text), "%lld", v);
    put_element(p, text);
}

static void put_bytes(struct psc_buf *p, struct psc_bytes bytes, bool has)
{
    if (!has) {
        put_element(p, NULL);
        return;
    }
    psc_buf_u8(p, p->len == 0 ? '{' : ',');
    psc_buf_printf(p, "\"\\\\x");
    for (size_t i = 0; i < bytes.len; i++) {
        psc_buf_printf(p, "%02x", bytes.data[i]);
    }
    psc_buf_u8(p, '"');
}

static void put_extras(struct psc_buf *p, const struct test_batch *b, int *n)
{
    bool some = b->drivers != NULL || b->events != NULL || b->sources != NULL ||
                b->aliases != NULL;
    put_number(&p[P_EXTRA_OF], some ? ++*n : 0);
    if (some) {
        put_element(&p[P_DRIVERS], b->drivers);
        put_element(&p[P_EVENTS], b->events);
        put_element(&p[P_SOURCES], b->sources);
        put_element(&p[P_ALIASES], b->aliases);
    }
}

static void put_batch(struct psc_buf *p, const struct test_batch *b)
{
    int kind;
    put_number(&p[P_HOST], b->host_id);
    put_number(&p[P_SESSION], b->session);
    put_element(&p[P_STREAM], b->stream != NULL ? b->stream : STORE_STREAM);
    put_number(&p[P_PREV_SEQ], b->prev_seq);
    put_number(&p[P_FIRST_SEQ], b->first_seq != 0 ? b->first_seq : b->seq);
    put_number(&p[P_SEQ], b->seq);
    put_number(&p[P_AT], b->at_us);
    put_element(&p[P_BOOT], b->boot_id != NULL ? b->boot_id : STORE_BOOT);
    put_number(&p[P_MISSED], b->missed_ticks);
    struct psc_bytes tags = pack(b, false, &kind);
    put_number(&p[P_TAGS_KIND], kind);
    put_bytes(&p[P_TAGS], tags, kind != STORE_NONE);
    struct psc_bytes counters = pack(b, true, &kind);
    put_number(&p[P_COUNTERS_KIND], kind);
    put_bytes(&p[P_COUNTERS], counters, kind != STORE_NONE);
}

/* Batches that are not stored are not what the next ones of the host build
 * on. */
static void note_outcomes(const struct test_batch *b, int n,
                          const char *outcomes)
{
    char outcome[NUMBER_BYTES];
    for (int i = 0; i < n; i++) {
        assert_non_null(next_element(&outcomes, outcome));
        if (strcmp(outcome, "stored") != 0) {
            known_of(b[i].host_id, false)->stale = true;
            known_of(b[i].host_id, true)->stale = true;
        }
    }
}

const char *test_unit_store(PGconn *writer, const struct test_batch *b, int n)
{
    static const char sql[] =
        "SELECT poolscope_api.unit_store($1, $2, $3, $4, $5, $6, t.at, t.at, "
        "$8, t.at, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18) "
        "FROM (SELECT array_agg('epoch'::timestamptz "
        "  + u.us * interval '1 microsecond' ORDER BY u.i) AS at "
        " FROM unnest($7::bigint[]) WITH ORDINALITY AS u(us, i)) AS t";
    struct psc_buf p[UNIT_PARAMETERS];
    const char *values[UNIT_PARAMETERS];
    int n_extras = 0;
    for (int i = 0; i < UNIT_PARAMETERS; i++) {
        psc_buf_init(&p[i], PARAMETER_MAX_BYTES);
    }
    for (int i = 0; i < n; i++) {
        put_batch(p, &b[i]);
        put_extras(p, &b[i], &n_extras);
    }
    for (int i = 0; i < UNIT_PARAMETERS; i++) {
        psc_buf_printf(&p[i], p[i].len == 0 ? "{}" : "}");
        psc_buf_u8(&p[i], '\0');
        assert_int_equal(psc_buf_error(&p[i]), PSC_OK);
        values[i] = (const char *)p[i].data;
    }
    const char *outcomes = ask(writer, sql, UNIT_PARAMETERS, values);
    for (int i = 0; i < UNIT_PARAMETERS; i++) {
        psc_buf_fini(&p[i]);
    }
    note_outcomes(b, n, outcomes);
    return outcomes;
}

const char *test_batch_store(PGconn *writer, const struct test_batch *b)
{
    static const char *const known[] = {"{duplicate}", "{superseded}",
                                        "{retry}"};
    static const char *const said[] = {"duplicate", "superseded", "retry"};
    struct test_batch alone = *b;
    alone.prev_seq = strtoll(
        test_sql_textf(writer,
                       "SELECT seq FROM poolscope_api.stream_open(%lld, %lld, "
                       "'%s', 0)",
                       b->host_id, b->session,
                       b->stream != NULL ? b->stream : STORE_STREAM),
        NULL, 10);
    const char *outcomes = test_unit_store(writer, &alone, 1);
    for (int i = 0; i < 3; i++) {
        if (strcmp(outcomes, known[i]) == 0) {
            return said[i];
        }
    }
    assert_string_equal(outcomes, "{stored}");
    return "stored";
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
