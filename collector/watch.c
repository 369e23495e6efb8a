/* The hosts under detection, and a pass over those that have advanced.
 *
 * Happy path: a poll tells which hosts have new rows; those that have a state
 * are fed together, some hundred a query; those without, or whose rows may
 * have been settled and emptied since they were looked at, are built from
 * chunks one by one, for BUILD_US a pass, so that nobody waits for them.
 *
 * How far detection has come with each host is kept in the database, some
 * minutes behind: up to there a process that begins with the host is silent,
 * what came since it tells, perhaps a second time, which changes nothing.
 *
 * Failures: when anything of a host fails, its state is dropped and built anew
 * a minute later, in silence up to where it had been looked at: what was found
 * but not written is found again. When another process holds the lock, all
 * state is dropped. */
#include "collector/watch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/watch_private.h"
#include "common/clock.h"
#include "common/log.h"

enum {
    FIRST_HOSTS = 64,
    PAGE_HOSTS = 512, /* of one query */
    IDS_MAX_BYTES = 64 * 1024 * 1024,
    WORDS_MAX_BYTES = 64 * 1024,
};

#define DEFAULT_INTERVAL_US (60 * PSC_US_PER_S)
#define RETRY_US            (60 * PSC_US_PER_S)
#define SAVE_US             (300 * PSC_US_PER_S)
#define AHEAD_US            (3600 * PSC_US_PER_S) /* as the store has it */
#define POLL_US             (3 * PSC_US_PER_S)
/* What is settled is still among the fresh rows for an hour. */
#define FRESH_US (1800 * PSC_US_PER_S)
#define BUILD_US (3 * PSC_US_PER_S)

struct watch *watch_new(struct metrics *metrics, const atomic_bool *stop)
{
    struct watch *w = calloc(1, sizeof(*w));
    if (w != NULL) {
        w->metrics = metrics;
        w->stop = stop;
        watch_rows_init(&w->rows);
        w->rows.learn = watch_learn_tags;
        w->rows.arg = w;
        replay_init(&w->tags);
        replay_init(&w->counters);
        psc_buf_init(&w->ids, IDS_MAX_BYTES);
        psc_buf_init(&w->numbers, IDS_MAX_BYTES);
        psc_buf_init(&w->summary, WORDS_MAX_BYTES);
        psc_buf_init(&w->evidence, WORDS_MAX_BYTES);
    }
    return w;
}

static void count_bytes(struct watch *w, struct watch_host *h)
{
    size_t bytes = sizeof(*h) + watch_view_bytes(&h->view);
    w->bytes += bytes - h->bytes;
    h->bytes = bytes;
}

static void reset_host(struct watch *w, struct watch_host *h)
{
    watch_view_fini(&h->view);
    h->position_n = 0;
    h->fed_n = 0;
    h->silent_to_n = 0;
    h->retry_us = 0;
    count_bytes(w, h);
}

/* What had not been looked at when the host failed is not history yet. */
void watch_fail(struct watch *w, struct watch_host *h)
{
    int64_t silent_to_n = h->position_n > 0 ? h->position_n : h->silent_to_n;
    reset_host(w, h);
    h->silent_to_n = silent_to_n;
    h->retry_us = psc_clock_mono_us() + RETRY_US;
    if (w->first.code == PSC_OK) {
        w->first = *w->err;
        (void)psc_error_prefix(&w->first, "host %lld", (long long)h->host_id);
    }
}

static void drop_hosts(struct watch *w)
{
    for (uint32_t i = 0; i < w->n_hosts; i++) {
        watch_view_fini(&w->host[i]->view);
        free(w->host[i]);
    }
    w->n_hosts = 0;
    w->n_pending = 0;
    w->bytes = 0;
    w->polled = false;
}

void watch_free(struct watch *w)
{
    if (w == NULL) {
        return;
    }
    drop_hosts(w);
    free(w->host);
    free(w->pending);
    watch_rows_fini(&w->rows);
    replay_fini(&w->tags);
    replay_fini(&w->counters);
    psc_buf_fini(&w->ids);
    psc_buf_fini(&w->numbers);
    psc_buf_fini(&w->summary);
    psc_buf_fini(&w->evidence);
    free(w);
}

void watch_forget_connection(struct watch *w)
{
    w->prepared_on = NULL;
    w->locked = false;
}

/* Statements and lock belong to a connection: take them on a new one. */
static int begin_pass(struct watch *w, PGconn *conn)
{
    w->conn = conn;
    if (w->prepared_on != conn) {
        w->prepared_on = NULL;
        w->locked = false;
        w->polled = false;
        int rc = watch_prepare(w);
        if (rc != PSC_OK) {
            return rc;
        }
        w->prepared_on = conn;
    }
    if (!w->locked) {
        struct pgparams none = {.n = 0};
        PGresult *res = watch_query(w, "detect_lock", &none);
        if (res == NULL) {
            return w->err->code;
        }
        w->locked = pgresult_bool(res, 0, 0);
        PQclear(res);
        psc_log_debug("detection: %s", w->locked ? "ours" : "another's");
    }
    if (!w->locked) {
        drop_hosts(w);
    }
    metrics_set(w->metrics, detecting, w->locked ? 1 : 0);
    return PSC_OK;
}

/* Index of the first host whose id is not less than @host_id. */
static uint32_t lower_bound(const struct watch *w, int64_t host_id)
{
    uint32_t low = 0;
    uint32_t high = w->n_hosts;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (w->host[middle]->host_id < host_id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static int grow(struct watch_host ***list, uint32_t *cap, uint32_t need)
{
    uint32_t want = *cap > 0 ? *cap : FIRST_HOSTS;
    while (want < need) {
        want *= 2;
    }
    if (want > *cap) {
        struct watch_host **grown =
            realloc(*list, want * sizeof(struct watch_host *));
        if (grown == NULL) {
            return PSC_NOMEM;
        }
        *list = grown;
        *cap = want;
    }
    return PSC_OK;
}

/* The host, added if it is new; NULL when out of memory. */
static struct watch_host *get_host(struct watch *w, int64_t host_id)
{
    uint32_t i = lower_bound(w, host_id);
    if (i < w->n_hosts && w->host[i]->host_id == host_id) {
        return w->host[i];
    }
    struct watch_host *h =
        grow(&w->host, &w->cap_hosts, w->n_hosts + 1) == PSC_OK &&
                grow(&w->pending, &w->cap_pending, w->cap_hosts) == PSC_OK
            ? calloc(1, sizeof(*h))
            : NULL;
    if (h == NULL) {
        return NULL;
    }
    h->host_id = host_id;
    watch_view_init(&h->view);
    count_bytes(w, h);
    memmove(w->host + i + 1, w->host + i,
            (w->n_hosts - i) * sizeof(struct watch_host *));
    w->host[i] = h;
    w->n_hosts++;
    return h;
}

/* ---- a pass ---- */

/* What the poll says of a host. */
static int take_host(struct watch *w, const PGresult *res, int row)
{
    int64_t n = pgresult_int64(res, row, 1);
    int64_t interval_us = pgresult_int64(res, row, 2);
    struct watch_host *h = get_host(w, pgresult_int64(res, row, 0));
    if (h == NULL) {
        return psc_error_set(w->err, PSC_NOMEM, "out of memory");
    }
    if (n < h->position_n) {
        reset_host(w, h); /* the database went back in time: a backup */
        h->behind_us = 0;
    }
    h->target_n = n;
    h->view.interval_us = interval_us > 0 ? interval_us : DEFAULT_INTERVAL_US;
    if (n > h->position_n && !h->pending) {
        h->pending = true;
        h->behind_us = w->polled_us;
        w->pending[w->n_pending++] = h;
    }
    return PSC_OK;
}

/* See who has advanced since the last poll; all hosts, if that was on another
 * connection. */
static int poll_hosts(struct watch *w)
{
    struct pgparams p = {.n = 0};
    char since[16];
    int64_t now_us = psc_clock_mono_us();
    (void)snprintf(since, sizeof(since), "%" PRIu32, w->horizon);
    pgparam_text(&p, w->polled ? since : NULL);
    PGresult *res = watch_query(w, "feed_hosts", &p);
    if (res == NULL) {
        return w->err->code;
    }
    int rc = PSC_OK;
    for (int row = 0; rc == PSC_OK && row < PQntuples(res); row++) {
        rc = take_host(w, res, row);
    }
    if (rc == PSC_OK) {
        if (PQntuples(res) > 0) {
            w->horizon = (uint32_t)pgresult_int32(res, 0, 3);
            w->polled = true;
        }
        w->polled_us = now_us;
    }
    PQclear(res);
    return rc;
}

/* Whether the host's rows that are new are sure to be there, and to be all. */
static bool is_live(const struct watch_host *h, int64_t now_us)
{
    return h->view.detect != NULL && h->behind_us != 0 &&
           now_us - h->behind_us < FRESH_US;
}

static int feed_live(struct watch *w)
{
    struct watch_host *some[PAGE_HOSTS];
    uint32_t most = PAGE_HOSTS;
    int64_t now_us = psc_clock_mono_us();
    for (uint32_t at = 0; at < w->n_pending && !atomic_load(w->stop);) {
        uint32_t n = 0;
        uint32_t end = at;
        for (; end < w->n_pending && n < most; end++) {
            if (is_live(w->pending[end], now_us)) {
                some[n++] = w->pending[end];
            }
        }
        int rc = n > 0 ? watch_feed(w, some, n) : PSC_OK;
        if (rc == PSC_DATABASE && n > 1) {
            most = 1; /* one of them is at fault: each by itself */
            continue;
        }
        if (rc == PSC_DATABASE) {
            watch_fail(w, some[0]);
        } else if (rc != PSC_OK) {
            return rc;
        }
        at = end;
    }
    return PSC_OK;
}

static int build_some(struct watch *w)
{
    int64_t start_us = psc_clock_mono_us();
    for (uint32_t i = 0; i < w->n_pending && !atomic_load(w->stop); i++) {
        struct watch_host *h = w->pending[i];
        int64_t now_us = psc_clock_mono_us();
        if (now_us - start_us > BUILD_US) {
            break;
        }
        if (h->position_n >= h->target_n || is_live(h, start_us) ||
            now_us < h->retry_us) {
            continue;
        }
        int rc = watch_build(w, h);
        if (rc != PSC_OK) {
            watch_fail(w, h);
        }
        if (rc == PSC_CONNECTION) {
            return rc;
        }
    }
    return PSC_OK;
}

/* Drop from the list who is done. */
static void keep_pending(struct watch *w)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < w->n_pending; i++) {
        struct watch_host *h = w->pending[i];
        count_bytes(w, h);
        h->pending = h->position_n < h->target_n;
        if (h->pending) {
            w->pending[kept++] = h;
        }
    }
    w->n_pending = kept;
    metrics_set(w->metrics, detect_hosts, w->n_hosts);
    metrics_set(w->metrics, detect_bytes, w->bytes);
}

static int look(struct watch *w)
{
    bool due = !w->polled || psc_clock_mono_us() - w->polled_us >= POLL_US;
    int rc = due ? poll_hosts(w) : PSC_OK;
    if (rc != PSC_OK || w->n_pending == 0) {
        return rc;
    }
    w->rows.latest_us = psc_clock_wall_us() + AHEAD_US;
    rc = watch_learn_counters(w);
    rc = rc == PSC_OK ? feed_live(w) : rc;
    rc = rc == PSC_OK ? build_some(w) : rc;
    keep_pending(w);
    return rc;
}

static int save_if_due(struct watch *w)
{
    int64_t now_us = psc_clock_mono_us();
    bool all = now_us >= w->save_us;
    if (!all && !w->told) {
        return PSC_OK;
    }
    int rc = watch_save_positions(w, all);
    if (rc == PSC_OK && all) {
        w->save_us = now_us + SAVE_US;
    }
    return rc;
}

int watch_pass(struct watch *w, PGconn *conn, struct psc_error *err)
{
    w->err = err;
    w->first.code = PSC_OK;
    int rc = begin_pass(w, conn);
    if (rc != PSC_OK || !w->locked) {
        return rc;
    }
    rc = look(w);
    rc = rc == PSC_OK ? save_if_due(w) : rc;
    if (rc == PSC_OK && w->first.code != PSC_OK) {
        *err = w->first;
        rc = err->code;
    }
    return rc;
}
