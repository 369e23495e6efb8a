/* What is stored of a host, into detection: chunks, then fresh rows behind
 * them.
 *
 * Tags and counters are in chunks of their own, up to an n of their own. The
 * tags lead: before a snapshot of them is fed, the room is read up to its n.
 * Up to where chunks went does not matter much later: fresh rows of what has
 * been settled since are still there for an hour.
 *
 * Failures: a damaged chunk is logged and left out, as if nothing had come in
 * its time. */
#include "collector/watch_private.h"
#include "common/clock.h"
#include "common/log.h"

enum { PAGE_BYTES = 4 * 1024 * 1024 };

enum { COL_N_TO = 0, COL_HEAD, COL_LEVELS, COL_DATA };

/* The chunks of one table, page by page. */
struct chunks {
    const char *kind;
    int64_t after_n; /* behind which the next one ends */
    int64_t to_n;    /* where the last one does */
    PGresult *res;   /* NULL: no page */
    int row;         /* the next one */
};

struct history {
    struct watch *w;
    struct watch_host *h;
    int64_t since_us; /* chunks that are older are not read */
    int64_t from_n;   /* fed before */
    struct chunks tags, counters;
    bool opened; /* a chunk of counters */
    bool held;   /* its present snapshot is still to be taken */
};

/* ---- chunks ---- */

static int read_page(struct history *y, struct chunks *c)
{
    struct pgparams p = {.n = 0};
    pgparam_int64(&p, y->h->host_id);
    pgparam_text(&p, c->kind);
    pgparam_int64(&p, c->after_n);
    pgparam_int64(&p, c->to_n);
    pgparam_time(&p, y->since_us);
    pgparam_int64(&p, PAGE_BYTES);
    PQclear(c->res);
    c->row = 0;
    c->res = watch_query(y->w, "chunk_rows", &p);
    return c->res != NULL ? PSC_OK : y->w->err->code;
}

static void leave_out(const struct history *y, const struct chunks *c,
                      const char *why)
{
    psc_log_warn("detection: host %lld, chunk of %s to sample %lld: %s; it is "
                 "left out",
                 (long long)y->h->host_id, c->kind, (long long)c->after_n, why);
}

/* Open the next chunk that can be read. Returns PSC_MISSING when there is
 * none. */
static int next_chunk(struct history *y, struct chunks *c, struct replay *r,
                      const uint32_t *only, uint32_t n_only)
{
    for (;;) {
        if (c->res == NULL || c->row == PQntuples(c->res)) {
            int rc = c->after_n < c->to_n ? read_page(y, c) : PSC_MISSING;
            if (rc != PSC_OK) {
                return rc;
            }
            if (PQntuples(c->res) == 0) {
                c->after_n = c->to_n;
                return PSC_MISSING;
            }
        }
        int row = c->row++;
        c->after_n = pgresult_int64(c->res, row, COL_N_TO);
        int rc = replay_open(r, pgresult_bytes(c->res, row, COL_HEAD),
                             pgresult_bytes(c->res, row, COL_LEVELS),
                             pgresult_bytes(c->res, row, COL_DATA), only,
                             n_only, y->w->err);
        if (rc != PSC_FORMAT && rc != PSC_UNSUPPORTED) {
            return rc;
        }
        leave_out(y, c, y->w->err->msg);
    }
}

/* ---- room ---- */

/* Go to the next snapshot of counters. Returns PSC_MISSING at the end. */
static int next_room(struct history *y)
{
    struct watch *w = y->w;
    const uint32_t only[] = {w->rows.available_id, w->rows.total_id};
    if (only[0] == 0 || only[1] == 0) {
        return PSC_MISSING;
    }
    while (!y->opened || !replay_next(&w->counters)) {
        if (y->opened && w->counters.rc != PSC_OK) {
            leave_out(y, &y->counters, psc_strerror(w->counters.rc));
        }
        y->opened = false;
        int rc = next_chunk(y, &y->counters, &w->counters, only, 2);
        if (rc != PSC_OK) {
            return rc;
        }
        y->opened = true;
    }
    return PSC_OK;
}

/* The room as of sample @n. */
static int room_until(struct history *y, int64_t n)
{
    for (;;) {
        if (!y->held) {
            int rc = next_room(y);
            if (rc != PSC_OK) {
                return rc == PSC_MISSING ? PSC_OK : rc;
            }
            y->held = true;
        }
        if (y->w->counters.n > n) {
            return PSC_OK;
        }
        watch_rows_room(&y->w->rows, &y->h->view, &y->w->counters);
        y->held = false;
    }
}

/* ---- tags ---- */

static int feed_snapshot(struct history *y, bool whole)
{
    struct watch *w = y->w;
    struct watch_emission e = {w, y->h};
    struct watch_sample sample =
        watch_sample_of(&e, w->tags.n, w->tags.at_us, w->tags.boot);
    int rc = room_until(y, w->tags.n);
    if (rc != PSC_OK) {
        return rc;
    }
    rc = watch_rows_replay(&w->rows, &y->h->view, &sample, &w->tags, whole,
                           w->err);
    return watch_sample_end(w, rc);
}

static int feed_chunk(struct history *y)
{
    struct watch *w = y->w;
    bool whole = true;
    while (!atomic_load(w->stop) && replay_next(&w->tags)) {
        if (w->tags.n <= y->from_n) {
            continue;
        }
        int rc = feed_snapshot(y, whole);
        if (rc != PSC_OK) {
            return rc;
        }
        whole = false;
    }
    if (w->tags.rc != PSC_OK) {
        leave_out(y, &y->tags, "its rest is damaged");
    }
    if (whole) {
        return PSC_OK; /* nothing of it was fed */
    }
    return watch_rows_replayed(&w->rows, &y->h->view, &w->tags) == PSC_OK
               ? PSC_OK
               : psc_error_set(w->err, PSC_NOMEM, "out of memory");
}

static int feed_chunks(struct history *y)
{
    int rc = PSC_OK;
    while (rc == PSC_OK && !atomic_load(y->w->stop)) {
        rc = next_chunk(y, &y->tags, &y->w->tags, NULL, 0);
        if (rc == PSC_OK) {
            rc = feed_chunk(y);
        }
    }
    return rc == PSC_MISSING ? PSC_OK : rc;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int feed_fresh(struct history *y)
{
    struct watch_host *h = y->h;
    int64_t tags_n = larger(y->from_n, y->tags.to_n);
    int64_t counters_n = larger(y->from_n, y->counters.to_n);
    int rc = PSC_OK;
    bool cut = true;
    h->fed_n = tags_n < counters_n ? tags_n : counters_n;
    h->behind_us = 0;
    while (rc == PSC_OK && cut && !atomic_load(y->w->stop)) {
        PGresult *res = watch_fresh_rows(y->w, &h, 1, &cut);
        if (res == NULL) {
            return y->w->err->code;
        }
        for (int row = 0;
             rc == PSC_OK && row < PQntuples(res) && !atomic_load(y->w->stop);
             row++) {
            rc = room_until(y, pgresult_int64(res, row, 1));
            if (rc == PSC_OK) {
                rc = watch_feed_row(y->w, h, res, row, tags_n, counters_n);
            }
        }
        PQclear(res);
    }
    return rc;
}

/* ---- the host ---- */

/* A state for it, with its open findings. */
static int make_state(struct watch *w, struct watch_host *h, int64_t seen_n)
{
    struct detect_settings settings;
    detect_settings_default(&settings);
    h->silent_to_n = larger(h->silent_to_n, seen_n);
    h->position_n = 0;
    int rc = detect_host_new(&settings, &h->view.detect);
    if (rc != PSC_OK) {
        return psc_error_set(w->err, rc, "out of memory");
    }
    return watch_restore(w, h);
}

int watch_build(struct watch *w, struct watch_host *h)
{
    struct pgparams p = {.n = 0};
    pgparam_int64(&p, h->host_id);
    PGresult *res = watch_query(w, "feed_begin", &p);
    if (res == NULL) {
        return w->err->code;
    }
    int64_t seen_n = pgresult_int64(res, 0, 0);
    int64_t tags_n = pgresult_int64(res, 0, 1);
    int64_t counters_n = pgresult_int64(res, 0, 2);
    PQclear(res);
    int rc = h->view.detect == NULL ? make_state(w, h, seen_n) : PSC_OK;
    struct history y = {
        .w = w,
        .h = h,
        .since_us = psc_clock_wall_us() - DETECT_REPLAY_US,
        .from_n = h->position_n,
        .tags = {"tags", .after_n = h->position_n, .to_n = tags_n},
        .counters = {"counters", .after_n = h->position_n, .to_n = counters_n},
    };
    rc = rc == PSC_OK ? feed_chunks(&y) : rc;
    rc = rc == PSC_OK ? feed_fresh(&y) : rc;
    PQclear(y.tags.res);
    PQclear(y.counters.res);
    if (rc == PSC_OK && !atomic_load(w->stop)) {
        h->fed_n = larger(h->fed_n, h->target_n);
        h->position_n = h->fed_n;
    }
    return rc;
}
