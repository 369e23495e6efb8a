/* What the unit link does: names get ids, units are stored, bad batches are
 * recorded. */
#include <assert.h>
#include <string.h>

#include "collector/pgparam.h"
#include "collector/store.h"
#include "common/clock.h"

static struct store *store_of(const struct pglink_job *job)
{
    return job->user;
}

/* ---- names ---- */

static void put_name(struct store_intern *r, unsigned i, struct psc_buf *a)
{
    struct psc_bytes key = registry_key(r->registry, r->index[i]);
    r->flags[i] = r->registry->entries[r->index[i]].new_flags;
    if (r->counters) {
        size_t name = strlen((const char *)key.data);
        pgarray_bytes(&a[0], key.data, name);
        pgarray_bytes(&a[1], key.data + name + 1, key.len - name - 1);
    } else {
        const char *pool = pool_name((enum pool)key.data[0]);
        pgarray_bytes(&a[0], pool, strlen(pool));
        pgarray_bytes(&a[1], key.data + 1, key.len - 1);
        pgarray_int32(&a[2], r->flags[i]);
    }
}

static int send_intern(struct pglink_job *job, struct pglink *link)
{
    struct store_intern *r = (struct store_intern *)job;
    struct psc_buf *a = store_of(job)->array;
    struct pgparams p = {.n = 0};
    unsigned columns = r->counters ? 2 : 3;
    for (unsigned col = 0; col < columns; col++) {
        pgarray_begin(&a[col], col == 2 ? PGARRAY_INT4 : PGARRAY_TEXT);
    }
    for (unsigned i = 0; i < r->n; i++) {
        put_name(r, i, a);
    }
    for (unsigned col = 0; col < columns; col++) {
        pgarray_end(&a[col]);
        if (psc_buf_error(&a[col]) != PSC_OK) {
            return psc_buf_error(&a[col]);
        }
        pgparam_array(&p, &a[col]);
    }
    return pglink_send(link, r->counters ? "intern_counters" : "intern_tags",
                       p.n, p.param);
}

static void on_intern_result(struct pglink_job *job, unsigned index,
                             const PGresult *res)
{
    struct store_intern *r = (struct store_intern *)job;
    struct pgarray_reader ids;
    (void)index;
    pgarray_reader_init(&ids, res, 0, 0);
    for (unsigned i = 0; i < r->n && i < ids.n; i++) {
        int32_t id;
        (void)pgarray_next_int32(&ids, &id); /* 0 for NULL: no room */
        registry_learn(r->registry, r->index[i], id, r->flags[i]);
    }
}

static void on_intern_done(struct pglink_job *job,
                           const struct pglink_failure *failure)
{
    struct store_intern *r = (struct store_intern *)job;
    if (failure != NULL) {
        /* What was learnt was not committed. */
        for (unsigned i = 0; i < r->n; i++) {
            r->registry->entries[r->index[i]].id = 0;
        }
    }
    r->on_done(r, failure);
}

void store_intern(struct store *s, struct store_intern *r)
{
    r->job = (struct pglink_job){
        .user = s,
        .on_send = send_intern,
        .on_result = on_intern_result,
        .on_done = on_intern_done,
    };
    pglink_submit(&s->units, &r->job);
}

/* ---- units ---- */

/* unit_store()'s parameters, in order. */
enum {
    A_HOST,
    A_SESSION,
    A_STREAM,
    A_PREV_SEQ,
    A_FIRST_SEQ,
    A_SEQ,
    A_AT,
    A_WALL_AT,
    A_BOOT,
    A_BOOT_AT,
    A_MISSED,
    A_TAGS_KIND,
    A_COUNTERS_KIND,
    A_TAGS,
    A_COUNTERS,
    A_EXTRA_OF,
    A_DRIVERS,
    A_EVENTS,
    A_SOURCES,
    A_ALIASES,
    N_ARRAYS,
};
_Static_assert(N_ARRAYS <= STORE_ARRAYS, "the store has fewer");

static void begin_arrays(struct psc_buf *a)
{
    static const enum pgarray_type type[N_ARRAYS] = {
        [A_HOST] = PGARRAY_INT8,          [A_SESSION] = PGARRAY_INT8,
        [A_STREAM] = PGARRAY_UUID,        [A_PREV_SEQ] = PGARRAY_INT8,
        [A_FIRST_SEQ] = PGARRAY_INT8,     [A_SEQ] = PGARRAY_INT8,
        [A_AT] = PGARRAY_TIMESTAMPTZ,     [A_WALL_AT] = PGARRAY_TIMESTAMPTZ,
        [A_BOOT] = PGARRAY_UUID,          [A_BOOT_AT] = PGARRAY_TIMESTAMPTZ,
        [A_MISSED] = PGARRAY_INT8,        [A_TAGS_KIND] = PGARRAY_INT2,
        [A_COUNTERS_KIND] = PGARRAY_INT2, [A_TAGS] = PGARRAY_BYTEA,
        [A_COUNTERS] = PGARRAY_BYTEA,     [A_EXTRA_OF] = PGARRAY_INT4,
        [A_DRIVERS] = PGARRAY_TEXT,       [A_EVENTS] = PGARRAY_TEXT,
        [A_SOURCES] = PGARRAY_TEXT,       [A_ALIASES] = PGARRAY_TEXT,
    };
    for (unsigned i = 0; i < N_ARRAYS; i++) {
        pgarray_begin(&a[i], type[i]);
    }
}

static void put_table(struct psc_buf *a, const struct registry *registry,
                      const struct batch_table *t)
{
    if (t->kind == STORED_NONE) {
        pgarray_null(a);
        return;
    }
    size_t opened = pgarray_open(a);
    stored_begin(a, t->n_names);
    for (uint32_t i = 0; i < t->n_names; i++) {
        int32_t id = t->local[i] == REGISTRY_NONE
                         ? 0
                         : registry_known_id(registry, t->local[i]);
        stored_name(a, t->name_flags[i], id > 0 ? (uint32_t)id : 0);
    }
    psc_buf_append(a, t->packed, t->packed_bytes);
    pgarray_close(a, opened);
}

static void put_text(struct psc_buf *a, const char *text)
{
    if (text == NULL) {
        pgarray_null(a);
    } else {
        pgarray_bytes(a, text, strlen(text));
    }
}

/* What few batches have; @n: of those before it. */
static void put_extras(struct psc_buf *a, const struct batch *b, int32_t *n)
{
    if (b->drivers == NULL && b->events == NULL && b->sources == NULL &&
        b->aliases == NULL) {
        pgarray_int32(&a[A_EXTRA_OF], 0);
        return;
    }
    pgarray_int32(&a[A_EXTRA_OF], ++*n);
    put_text(&a[A_DRIVERS], b->drivers);
    put_text(&a[A_EVENTS], b->events);
    put_text(&a[A_SOURCES], b->sources);
    put_text(&a[A_ALIASES], b->aliases);
}

static void put_batch(const struct store *s, struct psc_buf *a,
                      const struct batch *b)
{
    pgarray_int64(&a[A_HOST], b->host_id);
    pgarray_int64(&a[A_SESSION], b->session);
    pgarray_bytes(&a[A_STREAM], b->stream, sizeof(b->stream));
    pgarray_int64(&a[A_PREV_SEQ], (int64_t)b->prev_seq);
    pgarray_int64(&a[A_FIRST_SEQ], (int64_t)b->first_seq);
    pgarray_int64(&a[A_SEQ], (int64_t)b->seq);
    pgarray_time(&a[A_AT], b->at_us);
    pgarray_time(&a[A_WALL_AT], b->wall_us);
    pgarray_bytes(&a[A_BOOT], b->boot_id, sizeof(b->boot_id));
    pgarray_time_or_null(&a[A_BOOT_AT], b->boot_at_us);
    pgarray_int64(&a[A_MISSED],
                  (int64_t)(b->missed_ticks & (uint64_t)INT32_MAX));
    pgarray_int16(&a[A_TAGS_KIND], (int16_t)b->tags.kind);
    pgarray_int16(&a[A_COUNTERS_KIND], (int16_t)b->counters.kind);
    put_table(&a[A_TAGS], s->tags, &b->tags);
    put_table(&a[A_COUNTERS], s->counters, &b->counters);
}

static int send_unit(struct pglink_job *job, struct pglink *link)
{
    struct store_unit *r = (struct store_unit *)job;
    struct store *s = store_of(job);
    struct psc_buf *a = s->array;
    struct pgparams p = {.n = 0};
    int32_t n_extras = 0;
    begin_arrays(a);
    for (unsigned i = 0; i < r->n; i++) {
        r->batch[i]->outcome = BATCH_PENDING;
        put_batch(s, a, r->batch[i]);
        put_extras(a, r->batch[i], &n_extras);
    }
    for (unsigned i = 0; i < N_ARRAYS; i++) {
        pgarray_end(&a[i]);
        if (psc_buf_error(&a[i]) != PSC_OK) {
            return psc_buf_error(&a[i]);
        }
        pgparam_array(&p, &a[i]);
    }
    return pglink_send(link, "unit_store", p.n, p.param);
}

static enum batch_outcome outcome_of(struct psc_bytes text)
{
    static const struct {
        const char *text;
        enum batch_outcome outcome;
    } known[] = {
        {"stored", BATCH_STORED},
        {"duplicate", BATCH_DUPLICATE},
        {"superseded", BATCH_SUPERSEDED},
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (text.len == strlen(known[i].text) &&
            memcmp(text.data, known[i].text, text.len) == 0) {
            return known[i].outcome;
        }
    }
    return BATCH_RETRY;
}

static void on_unit_result(struct pglink_job *job, unsigned index,
                           const PGresult *res)
{
    struct store_unit *r = (struct store_unit *)job;
    struct pgarray_reader outcomes;
    (void)index;
    pgarray_reader_init(&outcomes, res, 0, 0);
    for (unsigned i = 0; i < r->n; i++) {
        struct psc_bytes text;
        (void)pgarray_next_bytes(&outcomes, &text); /* none: empty */
        r->batch[i]->outcome = outcome_of(text);
    }
}

static void on_unit_done(struct pglink_job *job,
                         const struct pglink_failure *failure)
{
    struct store_unit *r = (struct store_unit *)job;
    for (unsigned i = 0; failure != NULL && i < r->n; i++) {
        r->batch[i]->outcome = BATCH_PENDING;
    }
    r->on_done(r, failure);
}

void store_unit(struct store *s, struct store_unit *r)
{
    assert(r->n > 0);
    r->job = (struct pglink_job){
        .user = s,
        .on_send = send_unit,
        .on_result = on_unit_result,
        .on_done = on_unit_done,
    };
    pglink_submit(&s->units, &r->job);
}

bool store_unit_withdraw(struct store *s, struct store_unit *r)
{
    return pglink_withdraw(&s->units, &r->job);
}

/* ---- rejected batches ---- */

static int send_reject(struct pglink_job *job, struct pglink *link)
{
    struct store_reject *r = (struct store_reject *)job;
    const struct batch *b = r->batch;
    struct pgparams p = {.n = 0};
    pgparam_int64(&p, b->host_id);
    pgparam_int64(&p, b->session);
    pgparam_uuid(&p, b->stream);
    pgparam_int64(&p, (int64_t)b->prev_seq);
    pgparam_int64(&p, (int64_t)b->seq);
    pgparam_text(&p, r->reason);
    return pglink_send(link, "batch_reject", p.n, p.param);
}

static void on_reject_result(struct pglink_job *job, unsigned index,
                             const PGresult *res)
{
    struct store_reject *r = (struct store_reject *)job;
    (void)index;
    const char *text = pgresult_text(res, 0, 0);
    enum batch_outcome outcome =
        outcome_of((struct psc_bytes){(const uint8_t *)text, strlen(text)});
    /* A duplicate is our own record: the request had to be sent again. */
    bool passed = outcome == BATCH_STORED || outcome == BATCH_DUPLICATE;
    r->batch->outcome = passed ? BATCH_REJECTED : outcome;
}

static void on_reject_done(struct pglink_job *job,
                           const struct pglink_failure *failure)
{
    struct store_reject *r = (struct store_reject *)job;
    r->on_done(r, failure);
}

void store_reject(struct store *s, struct store_reject *r)
{
    r->job = (struct pglink_job){
        .user = s,
        .on_send = send_reject,
        .on_result = on_reject_result,
        .on_done = on_reject_done,
    };
    pglink_submit(&s->units, &r->job);
}
