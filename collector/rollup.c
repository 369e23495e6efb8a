/* One summary after the other: ask what is due, read its parts, sum up, store.
 *
 * Failures: a lost connection, and what else is everybody's, ends the pass;
 * parts that are damaged, for us or for the server, are told, and the summary
 * is due again a day later; when parts have come meanwhile,
 * nothing is stored, and it is due at once. */
#include "collector/rollup.h"

#include <inttypes.h>
#include <string.h>

#include "collector/metrics.h"
#include "collector/pgquery.h"
#include "common/clock.h"
#include "common/log.h"

enum {
    ASK_MAX = 32,       /* what is due, at once */
    KEEP_IDS = 1 << 14, /* memory for more is given back */
    SNAPSHOTS_MAX_BYTES = 4096,
};

/* Columns of summary_next() and of summary_parts(). */
enum { NEXT_HOST, NEXT_KIND, NEXT_STEP, NEXT_FROM, NEXT_STEPS };
enum { PART_N_TO, PART_SNAPSHOTS, PART_HEAD, PART_LEVELS, PART_DATA };

/* A summary that is due. */
struct due {
    int64_t host_id;
    const char *kind, *step; /* borrowed from the result */
    int64_t from_us;
    uint32_t steps;
    bool hours; /* of a day; else days of a month */
};

void rollup_init(struct rollup *r, struct metrics *metrics,
                 const atomic_bool *stop)
{
    *r = (struct rollup){.metrics = metrics, .stop = stop};
    summary_init(&r->tags, 4, &chunk_openssl);
    summary_init(&r->counters, 1, &chunk_openssl);
    psc_buf_init(&r->snapshots, SNAPSHOTS_MAX_BYTES);
}

void rollup_fini(struct rollup *r)
{
    summary_fini(&r->tags);
    summary_fini(&r->counters);
    psc_buf_fini(&r->snapshots);
}

static void put_due(struct pgparams *p, const struct due *d)
{
    pgparam_int64(p, d->host_id);
    pgparam_text(p, d->kind);
    pgparam_text(p, d->step);
    pgparam_time(p, d->from_us);
}

/* ---- from its parts ---- */

static int add_part(struct summary *s, const struct due *d, const PGresult *res,
                    int row, struct psc_error *err)
{
    struct psc_bytes head = pgresult_bytes(res, row, PART_HEAD);
    struct psc_bytes levels = pgresult_bytes(res, row, PART_LEVELS);
    struct psc_bytes data = pgresult_bytes(res, row, PART_DATA);
    if (d->hours) {
        return summary_add(s, head, levels, data, err);
    }
    uint32_t snapshots[SUMMARY_HOURS] = {0};
    struct pgarray_reader a;
    pgarray_reader_init(&a, res, row, PART_SNAPSHOTS);
    for (unsigned i = 0; i < SUMMARY_HOURS && i < a.n; i++) {
        int32_t n;
        if (pgarray_next_int32(&a, &n) && n > 0) {
            snapshots[i] = (uint32_t)n;
        }
    }
    return summary_add_day(s, head, levels, data, snapshots, err);
}

/* Sum up the parts in @res. Returns 0, PSC_MISSING (there is nothing in
 * them), PSC_NOMEM, or PSC_FORMAT and the like for what is damaged. */
static int sum_up(struct summary *s, const struct due *d, const PGresult *res,
                  struct chunk_sections *out, struct psc_error *err)
{
    int rc = PSC_OK;
    if (d->hours) {
        summary_begin_day(s, d->from_us);
    } else {
        summary_begin_month(s, d->from_us, d->steps);
    }
    for (int row = 0; rc == PSC_OK && row < PQntuples(res); row++) {
        rc = add_part(s, d, res, row, err);
    }
    return rc == PSC_OK ? summary_finish(s, out, err) : rc;
}

/* ---- into the database ---- */

/* @out: NULL if there was nothing to sum up. */
static int store(struct rollup *r, PGconn *conn, const struct due *d,
                 const struct summary *s, const PGresult *parts,
                 const struct chunk_sections *out, struct psc_error *err,
                 struct pgstate *state)
{
    struct pgparams p = {.n = 0};
    int64_t sum = 0;
    for (int row = 0; row < PQntuples(parts); row++) {
        sum += pgresult_int64(parts, row, PART_N_TO);
    }
    pgarray_begin(&r->snapshots, PGARRAY_INT4);
    for (uint32_t i = 0; i < d->steps; i++) {
        pgarray_int32(&r->snapshots, (int32_t)s->snapshots[i]);
    }
    pgarray_end(&r->snapshots);
    if (psc_buf_error(&r->snapshots) != PSC_OK) {
        return psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    put_due(&p, d);
    pgparam_int32(&p, PQntuples(parts));
    pgparam_int64(&p, sum);
    pgparam_array(&p, &r->snapshots);
    if (out != NULL) {
        pgparam_bytes(&p, out->head.data, out->head.len);
        pgparam_bytes(&p, out->levels.data, out->levels.len);
        pgparam_bytes(&p, out->data.data, out->data.len);
    } else {
        pgparam_null(&p);
        pgparam_null(&p);
        pgparam_null(&p);
    }
    PGresult *res =
        pgquery_told(conn,
                     "SELECT poolscope_api.summary_store($1, $2, $3, "
                     "$4, $5, $6::bigint, $7, $8, $9, $10)",
                     &p, err, state);
    if (res == NULL) {
        return err->code;
    }
    metrics_add(r->metrics, summaries, pgresult_bool(res, 0, 0) ? 1 : 0);
    PQclear(res);
    return PSC_OK;
}

/* Leave it for a day, and say why. */
static int give_up(PGconn *conn, const struct due *d, struct psc_error *err)
{
    struct pgparams p = {.n = 0};
    psc_log_error("summary of host %" PRId64 " (%s, %s): %s", d->host_id,
                  d->kind, d->step, err->msg);
    put_due(&p, d);
    PGresult *res = pgquery(
        conn, "SELECT poolscope_api.summary_failed($1, $2, $3, $4)", &p, err);
    PQclear(res);
    return res != NULL ? PSC_OK : err->code;
}

static int try_to_make(struct rollup *r, PGconn *conn, const struct due *d,
                       struct summary *s, struct psc_error *err,
                       struct pgstate *state)
{
    struct chunk_sections out;
    struct pgparams p = {.n = 0};
    put_due(&p, d);
    PGresult *parts =
        pgquery_told(conn,
                     "SELECT n_to, snapshots, head, levels, data "
                     "FROM poolscope_api.summary_parts($1, $2, $3, $4)",
                     &p, err, state);
    if (parts == NULL) {
        return err->code;
    }
    int rc = sum_up(s, d, parts, &out, err);
    if (rc == PSC_OK || rc == PSC_MISSING) {
        rc =
            store(r, conn, d, s, parts, rc == PSC_OK ? &out : NULL, err, state);
    }
    PQclear(parts);
    return rc;
}

static int make(struct rollup *r, PGconn *conn, const struct due *d,
                struct psc_error *err)
{
    struct summary *s = strcmp(d->kind, "tags") == 0 ? &r->tags : &r->counters;
    struct pgstate state = {.text = ""};
    int rc = try_to_make(r, conn, d, s, err, &state);
    if (rc != PSC_OK && !pgquery_is_everybodys(rc, &state)) {
        rc = give_up(conn, d, err);
    }
    if (s->cap > KEEP_IDS) {
        uint32_t columns = s->columns;
        summary_fini(s);
        summary_init(s, columns, &chunk_openssl);
    }
    return rc;
}

int rollup_pass(struct rollup *r, PGconn *conn, int64_t until_us, bool *more,
                struct psc_error *err)
{
    struct pgparams p = {.n = 0};
    pgparam_int32(&p, ASK_MAX);
    *more = false;
    PGresult *res = pgquery(conn,
                            "SELECT host_id, kind, step, from_at, steps "
                            "FROM poolscope_api.summary_next($1)",
                            &p, err);
    if (res == NULL) {
        return err->code;
    }
    int rc = PSC_OK;
    int row = 0;
    for (; rc == PSC_OK && row < PQntuples(res) && !atomic_load(r->stop) &&
           psc_clock_mono_us() < until_us;
         row++) {
        struct due d = {
            .host_id = pgresult_int64(res, row, NEXT_HOST),
            .kind = pgresult_text(res, row, NEXT_KIND),
            .step = pgresult_text(res, row, NEXT_STEP),
            .from_us = pgresult_time(res, row, NEXT_FROM),
            .steps = (uint32_t)pgresult_int32(res, row, NEXT_STEPS),
        };
        d.hours = strcmp(d.step, "hour") == 0;
        rc = make(r, conn, &d, err);
    }
    *more = row < PQntuples(res) || row == ASK_MAX;
    PQclear(res);
    return rc;
}
