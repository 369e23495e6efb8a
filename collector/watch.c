/* The hosts under detection, and a pass over those that have advanced.
 *
 * How far detection has come with each host is kept in the database, at most a
 * minute behind: up to there a process that begins with the host is silent,
 * what came since it tells, perhaps a second time, which changes nothing.
 *
 * Failures: when anything of a host fails, its state is dropped and built anew
 * a minute later, in silence up to where it had been looked at: what was found
 * but not written is found again. When another process holds the lock, all
 * state is dropped. */
#include "collector/watch.h"

#include <stdlib.h>
#include <string.h>

#include "collector/watch_private.h"
#include "common/clock.h"
#include "common/log.h"

enum {
    FIRST_HOSTS = 64,
    IDS_MAX_BYTES = 64 * 1024 * 1024,
    WORDS_MAX_BYTES = 64 * 1024,
};

#define DEFAULT_INTERVAL_US (60 * PSC_US_PER_S)
#define RETRY_US            (60 * PSC_US_PER_S)
#define SAVE_US             (60 * PSC_US_PER_S)

struct watch *watch_new(struct metrics *metrics, const atomic_bool *stop)
{
    struct watch *w = calloc(1, sizeof(*w));
    if (w != NULL) {
        w->metrics = metrics;
        w->stop = stop;
        psc_buf_init(&w->ids, IDS_MAX_BYTES);
        psc_buf_init(&w->numbers, IDS_MAX_BYTES);
        psc_buf_init(&w->summary, WORDS_MAX_BYTES);
        psc_buf_init(&w->evidence, WORDS_MAX_BYTES);
    }
    return w;
}

static void reset_host(struct watch_host *h)
{
    int64_t host_id = h->host_id;
    detect_host_free(h->detect);
    free(h->tags);
    *h = (struct watch_host){
        .host_id = host_id,
        .available_bytes = -1,
        .total_bytes = -1,
    };
}

/* What had not been looked at when the host failed is not history yet. */
static void fail_host(struct watch_host *h)
{
    int64_t silent_to_n = h->position_n > 0 ? h->position_n : h->silent_to_n;
    reset_host(h);
    h->silent_to_n = silent_to_n;
    h->retry_us = psc_clock_mono_us() + RETRY_US;
}

static void drop_hosts(struct watch *w)
{
    for (uint32_t i = 0; i < w->n_hosts; i++) {
        reset_host(w->host[i]);
        free(w->host[i]);
    }
    w->n_hosts = 0;
}

void watch_free(struct watch *w)
{
    if (w == NULL) {
        return;
    }
    drop_hosts(w);
    free(w->host);
    free(w->tag);
    free(w->keyframe);
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

/* The host, added if it is new; NULL when out of memory. */
static struct watch_host *get_host(struct watch *w, int64_t host_id)
{
    uint32_t i = lower_bound(w, host_id);
    if (i < w->n_hosts && w->host[i]->host_id == host_id) {
        return w->host[i];
    }
    if (w->n_hosts == w->cap_hosts) {
        uint32_t cap = w->cap_hosts > 0 ? w->cap_hosts * 2 : FIRST_HOSTS;
        struct watch_host **host =
            realloc(w->host, cap * sizeof(struct watch_host *));
        if (host == NULL) {
            return NULL;
        }
        w->host = host;
        w->cap_hosts = cap;
    }
    struct watch_host *h = calloc(1, sizeof(*h));
    if (h == NULL) {
        return NULL;
    }
    h->host_id = host_id;
    reset_host(h);
    memmove(w->host + i + 1, w->host + i,
            (w->n_hosts - i) * sizeof(struct watch_host *));
    w->host[i] = h;
    w->n_hosts++;
    return h;
}

/* Begin with a host: its open findings, then what is stored. */
static int build_host(struct watch *w, struct watch_host *h)
{
    struct detect_settings settings;
    detect_settings_default(&settings);
    int rc = detect_host_new(&settings, &h->detect);
    if (rc != PSC_OK) {
        return psc_error_set(w->err, rc, "out of memory");
    }
    return watch_restore(w, h);
}

/* The host of a row of positions. */
static int look_at(struct watch *w, const PGresult *res, int row)
{
    int64_t n = pgresult_int64(res, row, 1);
    int64_t interval_us = pgresult_int64(res, row, 2);
    struct watch_host *h = get_host(w, pgresult_int64(res, row, 0));
    if (h == NULL) {
        return psc_error_set(w->err, PSC_NOMEM, "out of memory");
    }
    if (n < h->position_n) {
        reset_host(h); /* the database went back in time: a restored backup */
    }
    if (n == h->position_n || psc_clock_mono_us() < h->retry_us) {
        return PSC_OK;
    }
    int rc = PSC_OK;
    if (h->detect == NULL) {
        int64_t seen_n = pgresult_int64(res, row, 3);
        h->silent_to_n = seen_n > h->silent_to_n ? seen_n : h->silent_to_n;
        rc = build_host(w, h);
    }
    h->interval_us = interval_us > 0 ? interval_us : DEFAULT_INTERVAL_US;
    if (rc == PSC_OK) {
        rc = watch_feed(w, h);
    }
    if (rc != PSC_OK) {
        fail_host(h);
    } else if (!atomic_load(w->stop)) {
        h->position_n = n;
    }
    return rc;
}

static void tell_metrics(struct watch *w)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < w->n_hosts; i++) {
        const struct watch_host *h = w->host[i];
        bytes += sizeof(*h) + h->cap_tags * sizeof(uint32_t);
        bytes += h->detect != NULL ? detect_host_bytes(h->detect) : 0;
    }
    metrics_set(w->metrics, detect_hosts, w->n_hosts);
    metrics_set(w->metrics, detect_bytes, bytes);
}

/* Where the hosts stand, in *@res to be cleared; NULL if others detect. */
static int read_positions(struct watch *w, PGconn *conn, PGresult **res)
{
    struct pgparams none = {.n = 0};
    *res = NULL;
    int rc = begin_pass(w, conn);
    if (rc != PSC_OK || !w->locked) {
        return rc;
    }
    *res = watch_query(w, "positions", &none);
    return *res != NULL ? PSC_OK : w->err->code;
}

static int save_if_due(struct watch *w)
{
    int64_t now_us = psc_clock_mono_us();
    if (!w->locked || (!w->written && now_us < w->save_us)) {
        return PSC_OK;
    }
    int rc = watch_save_positions(w);
    if (rc == PSC_OK) {
        w->written = false;
        w->save_us = now_us + SAVE_US;
    }
    return rc;
}

int watch_pass(struct watch *w, PGconn *conn, struct psc_error *err)
{
    struct psc_error first = {.msg = ""};
    PGresult *res;
    w->err = err;
    int rc = read_positions(w, conn, &res);
    int failed = PSC_OK;
    for (int row = 0; res != NULL && rc == PSC_OK && row < PQntuples(res) &&
                      !atomic_load(w->stop);
         row++) {
        rc = look_at(w, res, row);
        if (rc == PSC_DATABASE) { /* the other hosts can do nothing for it */
            first = failed == PSC_OK ? *err : first;
            failed = rc;
            rc = PSC_OK;
        }
    }
    PQclear(res);
    tell_metrics(w);
    rc = rc == PSC_OK ? save_if_due(w) : rc;
    if (rc == PSC_OK && failed != PSC_OK) {
        *err = first;
    }
    return rc != PSC_OK ? rc : failed;
}
