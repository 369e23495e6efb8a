/* The statements of the watch, over the worker's blocking connection. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/pgquery.h"
#include "collector/watch_private.h"
#include "collector/watch_words.h"
#include "common/clock.h"
#include "common/log.h"
#include "proto/table.h"

enum { FIRST_TAGS = 4096, TAG_ID_MAX = 1 << 26 };

#define TAGS_FRESH_US     (600 * PSC_US_PER_S)
#define COUNTERS_AGAIN_US (60 * PSC_US_PER_S)

static const struct pgstatement statements[] = {
    {"feed_hosts", "SELECT host_id, n, interval_us, horizon "
                   "FROM poolscope_api.feed_hosts($1)"},
    {"feed_begin", "SELECT seen_n, tags_n, counters_n "
                   "FROM poolscope_api.feed_begin($1)"},
    {"fresh_rows", "SELECT host_id, n, at, boot_id, tags_kind::int, tags, "
                   "counters_kind::int, counters "
                   "FROM poolscope_api.fresh_rows($1, $2, $3, $4)"},
    {"chunk_rows", "SELECT n_to, head, levels, data "
                   "FROM poolscope_api.chunk_rows($1, $2, $3, $4, $5, $6)"},
    {"positions_seen", "SELECT poolscope_api.positions_seen($1, $2)"},
    {"tag_info", "SELECT tag_id, pool, tag, flags "
                 "FROM poolscope_api.tag_info($1)"},
    {"counter_id", "SELECT poolscope_api.counter_id($1, $2)"},
    {"finding_write", "SELECT poolscope_api.finding_write($1, $2, $3, $4, $5, "
                      "$6, $7, $8, $9, $10, $11, $12, $13, $14, $15), "
                      "(SELECT h.host FROM poolscope.host h "
                      "WHERE h.host_id = $1)"},
    {"findings_open", "SELECT leak_id, evidence::text "
                      "FROM poolscope_api.findings_open($1)"},
    {"detect_lock", "SELECT pg_try_advisory_lock(hashtext('poolscope'), "
                    "hashtext('detection'))"},
};

int watch_prepare(struct watch *w)
{
    int rc = PSC_OK;
    for (size_t i = 0;
         rc == PSC_OK && i < sizeof(statements) / sizeof(statements[0]); i++) {
        rc = pgquery_prepare(w->conn, &statements[i], w->err, NULL);
    }
    return rc;
}

PGresult *watch_query(struct watch *w, const char *name,
                      const struct pgparams *p)
{
    return pgquery_prepared(w->conn, name, p, w->err, NULL);
}

/* ---- tags ---- */

static int grow_tags(struct watch_rows *r, uint32_t id)
{
    uint32_t cap = r->cap_tags > 0 ? r->cap_tags : FIRST_TAGS;
    while (cap <= id) {
        cap *= 2;
    }
    if (cap > r->cap_tags) {
        struct watch_tag *tag = realloc(r->tag, cap * sizeof(*tag));
        if (tag == NULL) {
            return PSC_NOMEM;
        }
        memset(tag + r->cap_tags, 0, (cap - r->cap_tags) * sizeof(*tag));
        r->tag = tag;
        r->cap_tags = cap;
    }
    return PSC_OK;
}

/* Caches that anybody allocates from lead no finding. */
static bool is_generic(const char *pool, const char *tag)
{
    return strcmp(pool, "slab") == 0 &&
           (strncmp(tag, "kmalloc-", 8) == 0 ||
            strncmp(tag, "dma-kmalloc-", 12) == 0 ||
            strncmp(tag, "size-", 5) == 0);
}

/* Caches that the kernel shrinks although some versions do not say so. */
static bool is_reclaimable(const char *pool, const char *tag)
{
    static const char *const known[] = {
        "dentry",          "inode_cache",   "buffer_head",
        "radix_tree_node", "xfs_inode",     "xfs_ili",
        "xfs_buf",         "bio_integrity", "btrfs_extent_map",
    };
    size_t len = strlen(tag);
    static const char suffix[] = "_inode_cache";
    const size_t n = sizeof(suffix) - 1;
    if (strcmp(pool, "slab") != 0) {
        return false;
    }
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(tag, known[i]) == 0) {
            return true;
        }
    }
    return len > n && strcmp(tag + len - n, suffix) == 0 &&
           strcmp(tag, "sock_inode_cache") != 0 &&
           strcmp(tag, "mqueue_inode_cache") != 0;
}

static void learn_tag(struct watch_rows *r, const PGresult *res, int row)
{
    uint32_t id = (uint32_t)pgresult_int32(res, row, 0);
    const char *pool_text = pgresult_text(res, row, 1);
    const char *tag = pgresult_text(res, row, 2);
    enum pool pool;
    if (id >= r->cap_tags || !pool_parse(pool_text, &pool)) {
        return;
    }
    uint8_t flags = (uint8_t)pgresult_int32(res, row, 3);
    if (is_reclaimable(pool_text, tag)) {
        flags |= ENTRY_RECLAIMABLE;
    }
    struct watch_tag *t = &r->tag[id];
    t->known = true;
    t->generic = is_generic(pool_text, tag);
    t->flags = flags;
    t->pool = (uint8_t)pool;
}

/* Forget now and then what was asked: flags may have been added. */
static void age_tags(struct watch *w)
{
    int64_t now_us = psc_clock_mono_us();
    if (now_us - w->tags_read_us > TAGS_FRESH_US) {
        w->tags_read_us = now_us;
        for (uint32_t i = 0; i < w->rows.cap_tags; i++) {
            w->rows.tag[i].asked = false;
        }
    }
}

/* Those of @ids that are to be asked for, into w->ids, marked as asked.
 * Returns PSC_MISSING if none is. */
static int collect_unknown(struct watch *w, const uint32_t *ids, uint32_t n)
{
    bool some = false;
    pgarray_begin(&w->ids, PGARRAY_INT4);
    for (uint32_t i = 0; i < n; i++) {
        if (ids[i] == 0 || ids[i] >= TAG_ID_MAX) {
            continue;
        }
        if (grow_tags(&w->rows, ids[i]) != PSC_OK) {
            return PSC_NOMEM;
        }
        if (!w->rows.tag[ids[i]].asked) {
            w->rows.tag[ids[i]].asked = true;
            pgarray_int32(&w->ids, (int32_t)ids[i]);
            some = true;
        }
    }
    pgarray_end(&w->ids);
    return psc_buf_error(&w->ids) != PSC_OK ? PSC_NOMEM
           : some                           ? PSC_OK
                                            : PSC_MISSING;
}

int watch_learn_tags(void *arg, const uint32_t *ids, uint32_t n,
                     struct psc_error *err)
{
    struct watch *w = arg;
    struct pgparams p = {.n = 0};
    age_tags(w);
    int rc = collect_unknown(w, ids, n);
    if (rc != PSC_OK) {
        return rc == PSC_MISSING ? PSC_OK
                                 : psc_error_set(err, rc, "out of memory");
    }
    pgparam_array(&p, &w->ids);
    PGresult *info = watch_query(w, "tag_info", &p);
    if (info == NULL) {
        for (uint32_t i = 0; i < n; i++) {
            if (ids[i] < w->rows.cap_tags) {
                w->rows.tag[ids[i]].asked = false;
            }
        }
        return w->err->code;
    }
    for (int row = 0; row < PQntuples(info); row++) {
        learn_tag(&w->rows, info, row);
    }
    PQclear(info);
    return PSC_OK;
}

/* ---- counters ---- */

static int learn_counter(struct watch *w, const char *name, uint32_t *id)
{
    struct pgparams p = {.n = 0};
    if (*id != 0) {
        return PSC_OK;
    }
    pgparam_text(&p, name);
    pgparam_text(&p, "");
    PGresult *res = watch_query(w, "counter_id", &p);
    if (res == NULL) {
        return w->err->code;
    }
    *id = (uint32_t)pgresult_int32(res, 0, 0);
    PQclear(res);
    return PSC_OK;
}

int watch_learn_counters(struct watch *w)
{
    struct watch_rows *r = &w->rows;
    int64_t now_us = psc_clock_mono_us();
    if ((r->available_id != 0 && r->total_id != 0) ||
        (w->counters_read_us != 0 &&
         now_us - w->counters_read_us < COUNTERS_AGAIN_US)) {
        return PSC_OK;
    }
    int rc =
        learn_counter(w, "node_memory_MemAvailable_bytes", &r->available_id);
    rc = rc == PSC_OK
             ? learn_counter(w, "node_memory_MemTotal_bytes", &r->total_id)
             : rc;
    if (rc == PSC_OK) {
        w->counters_read_us = now_us;
    }
    return rc;
}

/* ---- findings ---- */

/* "slab filp" for each of the finding's tags. */
static int name_tags(struct watch *w, const struct detect_finding *f,
                     struct watch_names *names)
{
    struct pgparams p = {.n = 0};
    pgarray_begin(&w->ids, PGARRAY_INT4);
    for (uint32_t i = 0; i < f->n_tags; i++) {
        pgarray_int32(&w->ids, (int32_t)f->tags[i]);
        (void)snprintf(names->tag[i], sizeof(names->tag[i]), "tag %u",
                       f->tags[i]);
    }
    pgarray_end(&w->ids);
    pgparam_array(&p, &w->ids);
    PGresult *res = watch_query(w, "tag_info", &p);
    if (res == NULL) {
        return w->err->code;
    }
    for (int row = 0; row < PQntuples(res); row++) {
        uint32_t id = (uint32_t)pgresult_int32(res, row, 0);
        for (uint32_t i = 0; i < f->n_tags; i++) {
            if (f->tags[i] == id) {
                (void)snprintf(names->tag[i], sizeof(names->tag[i]), "%s %s",
                               pgresult_text(res, row, 1),
                               pgresult_text(res, row, 2));
            }
        }
    }
    PQclear(res);
    return PSC_OK;
}

static const char *change_name(enum detect_change change)
{
    return change == DETECT_OPENED    ? "opened"
           : change == DETECT_CHANGED ? "changed"
                                      : "resolved";
}

static void put_finding(struct watch *w, const struct watch_host *h,
                        const struct detect_finding *f, struct pgparams *p)
{
    pgparam_int64(p, h->host_id);
    pgparam_text(p, change_name(f->change));
    pgparam_array(p, &w->ids); /* as name_tags() has left them */
    pgparam_time(p, f->onset_us);
    pgparam_time(p, f->detected_us);
    pgparam_time(p, f->updated_us);
    pgparam_int64(p, f->bytes);
    pgparam_double(p, f->bytes_per_day);
    pgparam_int64(p, f->room_bytes);
    pgparam_time_or_null(p, f->exhaustion_us);
    pgparam_time_or_null(p, f->earliest_us);
    pgparam_time_or_null(p, f->latest_us);
    pgparam_double(p, f->confidence);
    pgparam_text(p, (const char *)w->summary.data);
    pgparam_text(p, (const char *)w->evidence.data);
}

int watch_write(struct watch *w, struct watch_host *h,
                const struct detect_finding *f)
{
    struct watch_names names;
    struct pgparams p = {.n = 0};
    int rc = name_tags(w, f, &names);
    if (rc != PSC_OK) {
        return rc;
    }
    psc_buf_reset(&w->summary);
    psc_buf_reset(&w->evidence);
    watch_summary(f, &names, &w->summary);
    if (watch_evidence(f, &names, &w->evidence) != PSC_OK ||
        psc_buf_error(&w->summary) != PSC_OK) {
        return psc_error_set(w->err, PSC_NOMEM, "out of memory");
    }
    put_finding(w, h, f, &p);
    PGresult *res = watch_query(w, "finding_write", &p);
    if (res == NULL) {
        return w->err->code;
    }
    w->told = true;
    h->told = true;
    metrics_add(w->metrics, findings, 1);
    psc_log_info("host %s: leak %s: %s", pgresult_text(res, 0, 1),
                 change_name(f->change), (const char *)w->summary.data);
    PQclear(res);
    return PSC_OK;
}

/* Hosts of which the database has another position than it should. */
static uint32_t list_unsaved(struct watch *w, bool all)
{
    uint32_t n = 0;
    pgarray_begin(&w->ids, PGARRAY_INT8);
    pgarray_begin(&w->numbers, PGARRAY_INT8);
    for (uint32_t i = 0; i < w->n_hosts; i++) {
        const struct watch_host *h = w->host[i];
        if ((all || h->told) && h->position_n > 0 &&
            h->position_n != h->saved_n) {
            pgarray_int64(&w->ids, h->host_id);
            pgarray_int64(&w->numbers, h->position_n);
            n++;
        }
    }
    pgarray_end(&w->ids);
    pgarray_end(&w->numbers);
    return n;
}

int watch_save_positions(struct watch *w, bool all)
{
    struct pgparams p = {.n = 0};
    uint32_t n = list_unsaved(w, all);
    if (psc_buf_error(&w->ids) != PSC_OK ||
        psc_buf_error(&w->numbers) != PSC_OK) {
        return psc_error_set(w->err, PSC_NOMEM, "out of memory");
    }
    if (n > 0) {
        pgparam_array(&p, &w->ids);
        pgparam_array(&p, &w->numbers);
        PGresult *res = watch_query(w, "positions_seen", &p);
        if (res == NULL) {
            return w->err->code;
        }
        PQclear(res);
    }
    for (uint32_t i = 0; i < w->n_hosts; i++) {
        struct watch_host *h = w->host[i];
        if (all || h->told) {
            h->saved_n = h->position_n;
            h->told = false;
        }
    }
    w->told = false;
    return PSC_OK;
}

int watch_restore(struct watch *w, struct watch_host *h)
{
    struct pgparams p = {.n = 0};
    pgparam_int64(&p, h->host_id);
    PGresult *res = watch_query(w, "findings_open", &p);
    if (res == NULL) {
        return w->err->code;
    }
    int rc = PSC_OK;
    for (int row = 0; rc == PSC_OK && row < PQntuples(res); row++) {
        struct detect_finding f;
        if (watch_evidence_read(pgresult_text(res, row, 1), &f)) {
            rc = detect_restore(h->view.detect, &f);
        }
    }
    PQclear(res);
    return rc;
}
