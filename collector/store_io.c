/* The store over two links to PostgreSQL: one for the units, so that nobody
 * waits behind a claim, and one for everything else. sql/README.md documents
 * the statements. */
#include "collector/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/pgparam.h"
#include "common/clock.h"

enum {
    CONTROL_DEPTH = 16,
    STATEMENT_S = 30,
    RECONNECT_MAX_S = 5,
    ARRAY_MAX_BYTES = 16 * 1024 * 1024,
};

static const struct pglink_statement unit_statements[] = {
    {"intern_tags", "SELECT poolscope_api.intern_tags($1, $2, $3)"},
    {"intern_counters", "SELECT poolscope_api.intern_counters($1, $2)"},
    {"unit_store",
     "SELECT poolscope_api.unit_store($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, "
     "$11, $12, $13, $14, $15, $16, $17, $18, $19, $20)"},
    {"batch_reject",
     "SELECT poolscope_api.batch_reject($1, $2, $3, $4, $5, $6)"},
    {NULL, NULL},
};

static const struct pglink_statement control_statements[] = {
    {"claim", "SELECT result, host, session, clock_offset_us "
              "FROM poolscope_api.session_claim($1, $2, $3, $4)"},
    {"stream",
     "SELECT result, seq FROM poolscope_api.stream_open($1, $2, $3, $4)"},
    {"enrol", "SELECT result, host_id, host "
              "FROM poolscope_api.enrol($1, $2, $3, $4, $5, $6)"},
    {"renew", "SELECT result, host FROM poolscope_api.renew($1, $2, $3)"},
    {"heartbeat",
     "SELECT poolscope_api.host_heartbeat($1, $2, $3, $4, $5, $6)"},
    {"poll", "SELECT registry_epoch, disabled, settle_span_us"
             " FROM poolscope_api.poll($1, $2)"},
    {"tags", "SELECT tag_id, pool, tag, flags FROM poolscope_api.tags()"},
    {"counters",
     "SELECT counter_id, counter, instance FROM poolscope_api.counters()"},
    {NULL, NULL},
};

/* ---- start and stop ---- */

static void on_units_up(struct pglink *link)
{
    struct store *s = link->settings.user;
    if (link->n_connects > 1) {
        s->on_reconnect(s->user);
    }
}

static int start_link(struct store *s, struct pglink *link, uv_loop_t *loop,
                      const char *name,
                      const struct pglink_statement *statements, unsigned depth)
{
    const struct pglink_settings settings = {
        .name = name,
        .conninfo = s->conninfo,
        .statements = statements,
        .depth = depth,
        .statement_us = STATEMENT_S * PSC_US_PER_S,
        .reconnect_max_us = RECONNECT_MAX_S * PSC_US_PER_S,
        .on_up = link == &s->units ? on_units_up : NULL,
        .user = s,
    };
    int rc = pglink_start(link, loop, &settings);
    s->n_running += rc == PSC_OK ? 1 : 0;
    return rc;
}

int store_start(struct store *s, uv_loop_t *loop,
                const struct store_settings *settings)
{
    *s = (struct store){
        .collector = settings->collector,
        .conninfo = strdup(settings->conninfo),
        .tags = settings->tags,
        .counters = settings->counters,
        .on_reconnect = settings->on_reconnect,
        .user = settings->user,
    };
    for (size_t i = 0; i < sizeof(s->array) / sizeof(s->array[0]); i++) {
        psc_buf_init(&s->array[i], ARRAY_MAX_BYTES);
    }
    if (s->conninfo == NULL) {
        return PSC_NOMEM;
    }
    int rc = start_link(s, &s->units, loop, "units", unit_statements, 1);
    if (rc == PSC_OK) {
        rc = start_link(s, &s->control, loop, "control", control_statements,
                        CONTROL_DEPTH);
    }
    return rc;
}

static void on_link_stopped(struct pglink *link)
{
    struct store *s = link->settings.user;
    if (--s->n_running == 0 && s->on_stopped != NULL) {
        s->on_stopped(s);
    }
}

void store_stop(struct store *s, void (*on_stopped)(struct store *s))
{
    s->on_stopped = on_stopped;
    pglink_stop(&s->units, on_link_stopped);
    pglink_stop(&s->control, on_link_stopped);
}

void store_free(struct store *s)
{
    for (size_t i = 0; i < sizeof(s->array) / sizeof(s->array[0]); i++) {
        psc_buf_fini(&s->array[i]);
    }
    free(s->conninfo);
    s->conninfo = NULL;
}

bool store_up(const struct store *s)
{
    return pglink_up(&s->units) && pglink_up(&s->control);
}

uint64_t store_reconnects(const struct store *s)
{
    uint64_t n = 0;
    n += s->units.n_connects > 0 ? s->units.n_connects - 1 : 0;
    n += s->control.n_connects > 0 ? s->control.n_connects - 1 : 0;
    return n;
}

bool store_withdraw(struct store *s, struct pglink_job *job)
{
    return pglink_withdraw(&s->control, job);
}

/* ---- answers ---- */

static enum store_answer read_answer(const PGresult *res)
{
    static const struct {
        const char *text;
        enum store_answer answer;
    } known[] = {
        {"ok", STORE_OK},
        {"unknown", STORE_UNKNOWN_HOST},
        {"disabled", STORE_DISABLED},
        {"old_certificate", STORE_OLD_CERTIFICATE},
        {"token", STORE_TOKEN},
        {"name_taken", STORE_NAME_TAKEN},
        {"superseded", STORE_SUPERSEDED},
    };
    const char *text = pgresult_text(res, 0, 0);
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(text, known[i].text) == 0) {
            return known[i].answer;
        }
    }
    return STORE_BROKEN;
}

static void read_name(char out[STORE_NAME_MAX_BYTES], const PGresult *res,
                      int col)
{
    (void)snprintf(out, STORE_NAME_MAX_BYTES, "%s", pgresult_text(res, 0, col));
}

/* Each request below is the same three functions: send, take the result, pass
 * the end on. job.user is the store. */
static struct store *store_of(const struct pglink_job *job)
{
    return job->user;
}

/* ---- claim ---- */

static int send_claim(struct pglink_job *job, struct pglink *link)
{
    struct store_claim *r = (struct store_claim *)job;
    struct pgparams p = {.n = 0};
    pgparam_int64(&p, r->host_id);
    pgparam_text(&p, store_of(job)->collector);
    pgparam_time(&p, r->not_before_us);
    pgparam_text(&p, (const char *)r->facts.data);
    return pglink_send(link, "claim", p.n, p.param);
}

static void on_claim_result(struct pglink_job *job, unsigned index,
                            const PGresult *res)
{
    struct store_claim *r = (struct store_claim *)job;
    (void)index;
    r->answer = read_answer(res);
    read_name(r->host, res, 1);
    r->session = pgresult_int64(res, 0, 2);
    r->offset_known = PQntuples(res) > 0 && !PQgetisnull(res, 0, 3);
    r->clock_offset_us = pgresult_int64(res, 0, 3);
}

static void on_claim_done(struct pglink_job *job,
                          const struct pglink_failure *failure)
{
    struct store_claim *r = (struct store_claim *)job;
    r->on_done(r, failure);
}

void store_claim(struct store *s, struct store_claim *r)
{
    r->job = (struct pglink_job){
        .user = s,
        .on_send = send_claim,
        .on_result = on_claim_result,
        .on_done = on_claim_done,
    };
    r->answer = STORE_BROKEN;
    pglink_submit(&s->control, &r->job);
}

/* ---- stream ---- */

static int send_stream(struct pglink_job *job, struct pglink *link)
{
    struct store_stream *r = (struct store_stream *)job;
    struct pgparams p = {.n = 0};
    pgparam_int64(&p, r->host_id);
    pgparam_int64(&p, r->session);
    pgparam_uuid(&p, r->stream);
    pgparam_int64(&p, r->dropped_batches);
    return pglink_send(link, "stream", p.n, p.param);
}

static void on_stream_result(struct pglink_job *job, unsigned index,
                             const PGresult *res)
{
    struct store_stream *r = (struct store_stream *)job;
    (void)index;
    r->answer = read_answer(res);
    r->seq = (uint64_t)pgresult_int64(res, 0, 1);
}

static void on_stream_done(struct pglink_job *job,
                           const struct pglink_failure *failure)
{
    struct store_stream *r = (struct store_stream *)job;
    r->on_done(r, failure);
}

void store_stream(struct store *s, struct store_stream *r)
{
    r->job = (struct pglink_job){
        .user = s,
        .on_send = send_stream,
        .on_result = on_stream_result,
        .on_done = on_stream_done,
    };
    r->answer = STORE_BROKEN;
    pglink_submit(&s->control, &r->job);
}

/* ---- enrolment and renewal ---- */

static int send_enrol(struct pglink_job *job, struct pglink *link)
{
    struct store_enrol *r = (struct store_enrol *)job;
    struct pgparams p = {.n = 0};
    pgparam_bytes(&p, r->secret_sha256, sizeof(r->secret_sha256));
    pgparam_text(&p, r->name);
    pgparam_text(&p, r->os);
    pgparam_bytes(&p, r->key_sha256, sizeof(r->key_sha256));
    pgparam_time(&p, r->valid_from_us);
    pgparam_time(&p, r->not_after_us);
    return pglink_send(link, "enrol", p.n, p.param);
}

static void on_enrol_result(struct pglink_job *job, unsigned index,
                            const PGresult *res)
{
    struct store_enrol *r = (struct store_enrol *)job;
    (void)index;
    r->answer = read_answer(res);
    r->host_id = pgresult_int64(res, 0, 1);
    read_name(r->host, res, 2);
}

static void on_enrol_done(struct pglink_job *job,
                          const struct pglink_failure *failure)
{
    struct store_enrol *r = (struct store_enrol *)job;
    r->on_done(r, failure);
}

void store_enrol(struct store *s, struct store_enrol *r)
{
    r->job = (struct pglink_job){
        .user = s,
        .on_send = send_enrol,
        .on_result = on_enrol_result,
        .on_done = on_enrol_done,
    };
    r->answer = STORE_BROKEN;
    pglink_submit(&s->control, &r->job);
}

static int send_renew(struct pglink_job *job, struct pglink *link)
{
    struct store_renew *r = (struct store_renew *)job;
    struct pgparams p = {.n = 0};
    pgparam_int64(&p, r->host_id);
    pgparam_time(&p, r->not_before_us);
    pgparam_time(&p, r->not_after_us);
    return pglink_send(link, "renew", p.n, p.param);
}

static void on_renew_result(struct pglink_job *job, unsigned index,
                            const PGresult *res)
{
    struct store_renew *r = (struct store_renew *)job;
    (void)index;
    r->answer = read_answer(res);
    read_name(r->host, res, 1);
}

static void on_renew_done(struct pglink_job *job,
                          const struct pglink_failure *failure)
{
    struct store_renew *r = (struct store_renew *)job;
    r->on_done(r, failure);
}

void store_renew(struct store *s, struct store_renew *r)
{
    r->job = (struct pglink_job){
        .user = s,
        .on_send = send_renew,
        .on_result = on_renew_result,
        .on_done = on_renew_done,
    };
    r->answer = STORE_BROKEN;
    pglink_submit(&s->control, &r->job);
}

/* ---- heartbeats ---- */

static int send_heartbeats(struct pglink_job *job, struct pglink *link)
{
    struct store_heartbeats *r = (struct store_heartbeats *)job;
    struct psc_buf *a = store_of(job)->array;
    struct pgparams p = {.n = 0};
    for (unsigned col = 0; col < 6; col++) {
        pgarray_begin(&a[col], col == 2 ? PGARRAY_TIMESTAMPTZ : PGARRAY_INT8);
    }
    for (unsigned i = 0; i < r->n; i++) {
        const struct store_heartbeat *h = &r->host[i];
        pgarray_int64(&a[0], h->host_id);
        pgarray_int64(&a[1], h->session);
        pgarray_time(&a[2], h->seen_at_us);
        pgarray_int64(&a[3], h->clock_offset_us);
        pgarray_int64(&a[4], h->spool_bytes);
        pgarray_int64(&a[5], h->dropped_batches);
    }
    for (unsigned col = 0; col < 6; col++) {
        pgarray_end(&a[col]);
        if (psc_buf_error(&a[col]) != PSC_OK) {
            return psc_buf_error(&a[col]);
        }
        pgparam_array(&p, &a[col]);
    }
    return pglink_send(link, "heartbeat", p.n, p.param);
}

static void on_heartbeats_done(struct pglink_job *job,
                               const struct pglink_failure *failure)
{
    struct store_heartbeats *r = (struct store_heartbeats *)job;
    r->on_done(r, failure);
}

void store_heartbeats(struct store *s, struct store_heartbeats *r)
{
    r->job = (struct pglink_job){
        .user = s,
        .on_send = send_heartbeats,
        .on_done = on_heartbeats_done,
    };
    pglink_submit(&s->control, &r->job);
}

/* ---- poll ---- */

static int send_poll(struct pglink_job *job, struct pglink *link)
{
    struct store_poll *r = (struct store_poll *)job;
    struct pgparams p = {.n = 0};
    pgparam_text(&p, store_of(job)->collector);
    pgparam_text(&p, (const char *)r->metrics.data);
    return pglink_send(link, "poll", p.n, p.param);
}

static void on_poll_result(struct pglink_job *job, unsigned index,
                           const PGresult *res)
{
    struct store_poll *r = (struct store_poll *)job;
    struct pgarray_reader disabled;
    (void)index;
    r->registry_epoch = pgresult_int64(res, 0, 0);
    r->settle_span_us = pgresult_int64(res, 0, 2);
    pgarray_reader_init(&disabled, res, 0, 1);
    for (uint32_t i = 0; i < disabled.n; i++) {
        int64_t host_id;
        if (pgarray_next_int64(&disabled, &host_id)) {
            r->on_disabled(r, host_id);
        }
    }
}

static void on_poll_done(struct pglink_job *job,
                         const struct pglink_failure *failure)
{
    struct store_poll *r = (struct store_poll *)job;
    r->on_done(r, failure);
}

void store_poll(struct store *s, struct store_poll *r)
{
    r->job = (struct pglink_job){
        .user = s,
        .on_send = send_poll,
        .on_result = on_poll_result,
        .on_done = on_poll_done,
    };
    pglink_submit(&s->control, &r->job);
}

/* ---- loading the registries ---- */

static int send_load(struct pglink_job *job, struct pglink *link)
{
    (void)job;
    int rc = pglink_send(link, "tags", 0, NULL);
    return rc == PSC_OK ? pglink_send(link, "counters", 0, NULL) : rc;
}

static void learn_row(struct registry *registry, struct psc_buf *key,
                      int32_t id, uint8_t flags)
{
    uint32_t index;
    if (psc_buf_error(key) == PSC_OK &&
        registry_add(registry, psc_buf_bytes(key), flags, NULL, &index) ==
            PSC_OK) {
        registry_learn(registry, index, id, flags);
    }
}

static void on_load_result(struct pglink_job *job, unsigned index,
                           const PGresult *res)
{
    struct store_load *r = (struct store_load *)job;
    struct psc_buf *key = &store_of(job)->array[0];
    for (int row = 0; row < PQntuples(res); row++) {
        int32_t id = pgresult_int32(res, row, 0);
        const char *first = pgresult_text(res, row, 1);
        const char *second = pgresult_text(res, row, 2);
        enum pool pool;
        psc_buf_reset(key);
        if (index == 1) {
            psc_buf_append(key, first, strlen(first) + 1);
            psc_buf_append(key, second, strlen(second));
            learn_row(r->counters, key, id, 0);
        } else if (pool_parse(first, &pool)) {
            psc_buf_u8(key, (uint8_t)pool);
            psc_buf_append(key, second, strlen(second));
            learn_row(r->tags, key, id, (uint8_t)pgresult_int32(res, row, 3));
        }
    }
}

static void on_load_done(struct pglink_job *job,
                         const struct pglink_failure *failure)
{
    struct store_load *r = (struct store_load *)job;
    r->on_done(r, failure);
}

void store_load(struct store *s, struct store_load *r)
{
    r->job = (struct pglink_job){
        .user = s,
        .on_send = send_load,
        .on_result = on_load_result,
        .on_done = on_load_done,
    };
    pglink_submit(&s->control, &r->job);
}
