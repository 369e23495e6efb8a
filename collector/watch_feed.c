/* Fresh rows of many hosts into detection.
 *
 * Happy path: one query gives what is new of some hundred hosts, in pages of
 * bounded size; each row goes to its host, in order of n.
 *
 * Failures: damage in a row is logged, and the host goes on at its next
 * keyframe. A finding that cannot be written fails its host, see watch.c. */
#include <string.h>

#include "collector/watch_private.h"
#include "common/clock.h"
#include "common/log.h"

enum { PAGE_BYTES = 4 * 1024 * 1024 };

/* A statement that began before a poll may still have written into a slot that
 * was closed since. */
#define MARGIN_US (600 * PSC_US_PER_S)

enum {
    COL_HOST = 0,
    COL_N,
    COL_AT,
    COL_BOOT,
    COL_TAGS_KIND,
    COL_TAGS,
    COL_COUNTERS_KIND,
    COL_COUNTERS,
};

/* ---- one row ---- */

static void on_finding(void *user, const struct detect_finding *f)
{
    struct watch_emission *e = user;
    if (e->w->rc == PSC_OK) {
        e->w->rc = watch_write(e->w, e->h, f);
    }
}

struct watch_sample watch_sample_of(struct watch_emission *e, int64_t n,
                                    int64_t at_us, const uint8_t *boot_id)
{
    e->w->rc = PSC_OK;
    return (struct watch_sample){
        .at_us = at_us,
        .boot_id = boot_id,
        .emit = n <= e->h->silent_to_n ? NULL : on_finding,
        .user = e,
    };
}

int watch_sample_end(struct watch *w, int rc)
{
    if (rc == PSC_OK) {
        metrics_add(w->metrics, detect_snapshots, 1);
    }
    return rc != PSC_OK ? rc : w->rc;
}

static int feed_tags(struct watch *w, struct watch_host *h, const PGresult *res,
                     int row, bool keyframe)
{
    struct watch_emission e = {w, h};
    struct watch_sample sample = watch_sample_of(
        &e, pgresult_int64(res, row, COL_N), pgresult_time(res, row, COL_AT),
        pgresult_uuid(res, row, COL_BOOT, NULL));
    int rc =
        watch_rows_tags(&w->rows, &h->view, &sample,
                        pgresult_bytes(res, row, COL_TAGS), keyframe, w->err);
    return watch_sample_end(w, rc);
}

/* What is wrong with a row's bytes is no reason to stop. */
static int pardon(const struct watch *w, const struct watch_host *h, int64_t n,
                  int rc)
{
    if (rc == PSC_FORMAT || rc == PSC_UNSUPPORTED) {
        psc_log_warn("detection: host %lld, sample %lld: %s",
                     (long long)h->host_id, (long long)n, w->err->msg);
        return PSC_OK;
    }
    return rc == PSC_NEED_KEYFRAME ? PSC_OK : rc;
}

int watch_feed_row(struct watch *w, struct watch_host *h, const PGresult *res,
                   int row, int64_t tags_n, int64_t counters_n)
{
    int64_t n = pgresult_int64(res, row, COL_N);
    int32_t tags = pgresult_int32(res, row, COL_TAGS_KIND);
    int32_t counters = pgresult_int32(res, row, COL_COUNTERS_KIND);
    int rc = PSC_OK;
    if (counters != STORED_NONE && n > counters_n) {
        rc = watch_rows_counters(&w->rows, &h->view,
                                 pgresult_bytes(res, row, COL_COUNTERS),
                                 counters == STORED_KEYFRAME, w->err);
        rc = pardon(w, h, n, rc);
    }
    if (rc == PSC_OK && tags != STORED_NONE && n > tags_n) {
        rc = feed_tags(w, h, res, row, tags == STORED_KEYFRAME);
        rc = pardon(w, h, n, rc);
    }
    if (rc == PSC_OK) {
        h->fed_n = n;
    }
    return rc;
}

/* ---- pages ---- */

static void put_within(const struct watch *w, struct pgparams *p,
                       struct watch_host *const *hosts, uint32_t n)
{
    int64_t behind_us = w->polled_us;
    for (uint32_t i = 0; i < n; i++) {
        if (hosts[i]->behind_us < behind_us) {
            behind_us = hosts[i]->behind_us;
        }
    }
    if (behind_us == 0) {
        pgparam_null(p);
    } else {
        pgparam_int64(p, psc_clock_mono_us() - behind_us + MARGIN_US);
    }
}

PGresult *watch_fresh_rows(struct watch *w, struct watch_host *const *hosts,
                           uint32_t n, bool *cut)
{
    struct pgparams p = {.n = 0};
    pgarray_begin(&w->ids, PGARRAY_INT8);
    pgarray_begin(&w->numbers, PGARRAY_INT8);
    for (uint32_t i = 0; i < n; i++) {
        pgarray_int64(&w->ids, hosts[i]->host_id);
        pgarray_int64(&w->numbers, hosts[i]->fed_n);
    }
    pgarray_end(&w->ids);
    pgarray_end(&w->numbers);
    if (psc_buf_error(&w->ids) != PSC_OK ||
        psc_buf_error(&w->numbers) != PSC_OK) {
        (void)psc_error_set(w->err, PSC_NOMEM, "out of memory");
        return NULL;
    }
    pgparam_array(&p, &w->ids);
    pgparam_array(&p, &w->numbers);
    put_within(w, &p, hosts, n);
    pgparam_int64(&p, PAGE_BYTES);
    PGresult *res = watch_query(w, "fresh_rows", &p);
    int64_t bytes = 0;
    for (int row = 0; res != NULL && row < PQntuples(res); row++) {
        bytes += PQgetlength(res, row, COL_TAGS);
        bytes += PQgetlength(res, row, COL_COUNTERS);
    }
    *cut = bytes >= PAGE_BYTES;
    return res;
}

/* Rows come in the order of the hosts, once for each slot. Returns the index
 * of the row's host, seen from the last one's, or @n. */
static uint32_t find_host(struct watch_host *const *hosts, uint32_t n,
                          uint32_t from, int64_t host_id)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = from + i < n ? from + i : from + i - n;
        if (hosts[at]->host_id == host_id) {
            return at;
        }
    }
    return n;
}

static int feed_page(struct watch *w, struct watch_host **hosts, uint32_t n,
                     const PGresult *res)
{
    uint32_t at = 0;
    for (int row = 0; row < PQntuples(res) && !atomic_load(w->stop); row++) {
        uint32_t i =
            find_host(hosts, n, at, pgresult_int64(res, row, COL_HOST));
        if (i == n || hosts[i]->view.detect == NULL) {
            continue; /* it failed on this page */
        }
        at = i;
        int64_t fed_n = hosts[i]->fed_n;
        int rc = watch_feed_row(w, hosts[i], res, row, fed_n, fed_n);
        if (rc != PSC_OK) {
            watch_fail(w, hosts[i]);
        }
        if (rc == PSC_CONNECTION) {
            return rc;
        }
    }
    return PSC_OK;
}

/* Note who is done, and keep the others. Returns how many these are. */
static uint32_t keep_behind(struct watch_host **hosts, uint32_t n, bool cut)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct watch_host *h = hosts[i];
        if (h->view.detect == NULL) {
            continue;
        }
        if (cut && h->fed_n < h->target_n) {
            hosts[kept++] = h;
            continue;
        }
        h->fed_n = h->fed_n > h->target_n ? h->fed_n : h->target_n;
        h->position_n = h->fed_n;
    }
    return kept;
}

int watch_feed(struct watch *w, struct watch_host **hosts, uint32_t n)
{
    while (n > 0 && !atomic_load(w->stop)) {
        bool cut;
        PGresult *res = watch_fresh_rows(w, hosts, n, &cut);
        if (res == NULL) {
            return w->err->code;
        }
        int rc = feed_page(w, hosts, n, res);
        PQclear(res);
        if (rc != PSC_OK) {
            return rc;
        }
        if (!atomic_load(w->stop)) {
            n = keep_behind(hosts, n, cut);
        }
    }
    return PSC_OK;
}
