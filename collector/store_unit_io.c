/* What the unit link does: names get ids, units are stored, bad batches are
 * recorded. */
#include <assert.h>
#include <string.h>

#include "collector/pgparam.h"
#include "collector/store.h"
#include "common/clock.h"

enum {
    A_TAG_IDS,
    A_ALLOCS,
    A_FREES,
    A_OUTSTANDING,
    A_BYTES,
    A_TAGS_GONE,
    A_COUNTER_IDS,
    A_REALS,
    A_COUNTERS_GONE,
    N_ARRAYS,
};

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
        pgarray_text(&a[0], key.data, name);
        pgarray_text(&a[1], key.data + name + 1, key.len - name - 1);
    } else {
        const char *pool = pool_name((enum pool)key.data[0]);
        pgarray_text(&a[0], pool, strlen(pool));
        pgarray_text(&a[1], key.data + 1, key.len - 1);
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

static void put_column(struct psc_buf *a, bool has, int64_t value)
{
    if (has) {
        pgarray_int64(a, value);
    } else {
        pgarray_null(a);
    }
}

static void build_tags(struct store *s, const struct batch_table *t)
{
    struct psc_buf *a = s->array;
    pgarray_begin(&a[A_TAG_IDS], PGARRAY_INT4);
    pgarray_begin(&a[A_TAGS_GONE], PGARRAY_INT4);
    for (unsigned col = 0; col < TABLE_COLUMNS_MAX; col++) {
        pgarray_begin(&a[A_ALLOCS + col], PGARRAY_INT8);
    }
    for (uint32_t i = 0; i < t->n; i++) {
        int32_t id = registry_known_id(s->tags, t->index[i]);
        if (id <= 0) {
            continue; /* the registry is full */
        }
        pgarray_int32(&a[A_TAG_IDS], id);
        for (unsigned col = 0; col < TABLE_COLUMNS_MAX; col++) {
            put_column(&a[A_ALLOCS + col], (t->flags[i] >> col & 1) != 0,
                       t->values[(size_t)i * TABLE_COLUMNS_MAX + col]);
        }
    }
    for (uint32_t i = 0; i < t->n_gone; i++) {
        int32_t id = registry_known_id(s->tags, t->gone[i]);
        if (id > 0) {
            pgarray_int32(&a[A_TAGS_GONE], id);
        }
    }
}

static void build_counters(struct store *s, const struct batch_table *t)
{
    struct psc_buf *a = s->array;
    pgarray_begin(&a[A_COUNTER_IDS], PGARRAY_INT4);
    pgarray_begin(&a[A_REALS], PGARRAY_FLOAT8);
    pgarray_begin(&a[A_COUNTERS_GONE], PGARRAY_INT4);
    for (uint32_t i = 0; i < t->n; i++) {
        int32_t id = registry_known_id(s->counters, t->index[i]);
        if (id > 0) {
            pgarray_int32(&a[A_COUNTER_IDS], id);
            pgarray_double(&a[A_REALS], t->reals[i]);
        }
    }
    for (uint32_t i = 0; i < t->n_gone; i++) {
        int32_t id = registry_known_id(s->counters, t->gone[i]);
        if (id > 0) {
            pgarray_int32(&a[A_COUNTERS_GONE], id);
        }
    }
}

/* Arrays @from to before @to, or as many NULLs when there is no table. */
static void put_arrays(struct store *s, struct pgparams *p,
                       enum batch_kind kind, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        if (kind == BATCH_NO_TABLE) {
            pgparam_null(p);
        } else {
            pgarray_end(&s->array[i]);
            pgparam_array(p, &s->array[i]);
        }
    }
}

static int send_batch(struct store *s, struct pglink *link,
                      const struct batch *b)
{
    struct pgparams p = {.n = 0};
    build_tags(s, &b->tags);
    build_counters(s, &b->counters);
    pgparam_int64(&p, b->host_id);
    pgparam_int64(&p, b->session);
    pgparam_uuid(&p, b->stream);
    pgparam_int64(&p, (int64_t)b->prev_seq);
    pgparam_int64(&p, (int64_t)b->first_seq);
    pgparam_int64(&p, (int64_t)b->seq);
    pgparam_time(&p, b->at_us);
    pgparam_time(&p, b->wall_us);
    pgparam_uuid(&p, b->boot_id);
    pgparam_time_or_null(&p, b->boot_at_us);
    pgparam_int64(&p, (int64_t)(b->missed_ticks & (uint64_t)INT32_MAX));
    pgparam_int16(&p, (int16_t)b->tags.kind);
    put_arrays(s, &p, b->tags.kind, A_TAG_IDS, A_COUNTER_IDS);
    pgparam_int16(&p, (int16_t)b->counters.kind);
    put_arrays(s, &p, b->counters.kind, A_COUNTER_IDS, N_ARRAYS);
    pgparam_text(&p, b->drivers);
    pgparam_text(&p, b->events);
    pgparam_text(&p, b->sources);
    pgparam_text(&p, b->aliases);
    for (unsigned i = 0; i < N_ARRAYS; i++) {
        if (psc_buf_error(&s->array[i]) != PSC_OK) {
            return psc_buf_error(&s->array[i]);
        }
    }
    return pglink_send(link, "batch_store", p.n, p.param);
}

/* Lock every host's cursor in one order first, so that two collectors that
 * hold the same hosts for a moment wait instead of deadlocking. */
static int send_lock(struct store *s, struct pglink *link,
                     const struct store_unit *r)
{
    struct psc_buf *a = &s->array[0];
    struct pgparams p = {.n = 0};
    pgarray_begin(a, PGARRAY_INT8);
    for (unsigned i = 0; i < r->n; i++) {
        if (i == 0 || r->batch[i]->host_id != r->batch[i - 1]->host_id) {
            pgarray_int64(a, r->batch[i]->host_id);
        }
    }
    pgarray_end(a);
    if (psc_buf_error(a) != PSC_OK) {
        return psc_buf_error(a);
    }
    pgparam_array(&p, a);
    return pglink_send(link, "unit_lock", p.n, p.param);
}

static int send_unit(struct pglink_job *job, struct pglink *link)
{
    struct store_unit *r = (struct store_unit *)job;
    struct store *s = store_of(job);
    int rc = send_lock(s, link, r);
    for (unsigned i = 0; i < r->n && rc == PSC_OK; i++) {
        r->batch[i]->outcome = BATCH_PENDING;
        rc = send_batch(s, link, r->batch[i]);
    }
    return rc;
}

static enum batch_outcome read_outcome(const PGresult *res)
{
    const char *text = pgresult_text(res, 0, 0);
    return strcmp(text, "stored") == 0       ? BATCH_STORED
           : strcmp(text, "duplicate") == 0  ? BATCH_DUPLICATE
           : strcmp(text, "superseded") == 0 ? BATCH_SUPERSEDED
                                             : BATCH_RETRY;
}

static void on_unit_result(struct pglink_job *job, unsigned index,
                           const PGresult *res)
{
    struct store_unit *r = (struct store_unit *)job;
    if (index > 0 && index <= r->n) { /* 0 is the lock */
        r->batch[index - 1]->outcome = read_outcome(res);
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
    enum batch_outcome outcome = read_outcome(res);
    r->batch->outcome = outcome == BATCH_STORED ? BATCH_REJECTED : outcome;
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
