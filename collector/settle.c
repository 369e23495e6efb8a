/* The statements of settling, and a pass over the tables that are due.
 *
 * Happy path: settle_due -> per table: its fresh rows, page by page, each as it
 * comes -> chunks (settle_pack.h) -> settle_store. What is due is asked for
 * again when the list is done, at most every few seconds.
 *
 * Failures: rows that cannot be read or packed are their host's trouble: it is
 * logged, noted by settle_failed, and the next one's turn. What may pass by
 * itself (the connection, room on disk, a lock) ends the pass. */
#include "collector/settle.h"

#include <stdlib.h>
#include <string.h>

#include "collector/pgquery.h"
#include "collector/settle_pack.h"
#include "common/clock.h"
#include "common/log.h"

enum {
    DUE_MAX = 512, /* tables on a list */
    PAGE_ROWS = 256,
    UUID_BYTES = 16,
    MESSAGE_BYTES = 256,
    IDS_MAX_BYTES = 64 * 1024 * 1024,
    WORD_BITS = 64,
};
/* Chunks that are stored at once; four times as many if there is no good
 * moment before. */
#define STORE_BYTES ((size_t)4 * 1024 * 1024)
#define BUDGET_US   PSC_US_PER_S
#define DUE_US      (15 * PSC_US_PER_S)
#define SEEN_US     (3600 * PSC_US_PER_S)

enum statement { DUE, TAGS, COUNTERS, STORE, FAILED, SEEN, STATEMENTS };

static const struct pgstatement statements[STATEMENTS] = {
    [DUE] = {"settle_due",
             "SELECT host_id, table_kind, settled_n, upto_n, span_us "
             "FROM poolscope_api.settle_due($1)"},
    [TAGS] = {"settle_tags", "SELECT n, at, wall_at, boot_id, keyframe, data "
                             "FROM poolscope_api.fresh_tags WHERE host_id = $1 "
                             "AND n > $2 AND n < $3 ORDER BY n LIMIT $4"},
    [COUNTERS] = {"settle_counters",
                  "SELECT n, at, wall_at, boot_id, keyframe, data "
                  "FROM poolscope_api.fresh_counters WHERE host_id = $1 "
                  "AND n > $2 AND n < $3 ORDER BY n LIMIT $4"},
    [STORE] = {"settle_store",
               "SELECT poolscope_api.settle_store($1, $2, $3, $4, $5, $6, $7, "
               "$8, $9, $10, $11, $12, $13)"},
    [FAILED] = {"settle_failed",
                "SELECT poolscope_api.settle_failed($1, $2)::text"},
    [SEEN] = {"registry_seen",
              "SELECT poolscope_api.registry_seen($1, $2)::text"},
};

/* A table of a host. */
struct due {
    int64_t host_id;
    int64_t settled_n;
    int64_t upto_n; /* not including */
    int64_t span_us;
    bool tags; /* else counters */
};

struct settle {
    struct metrics *metrics;
    const atomic_bool *stop;
    PGconn *conn;          /* of the present pass */
    unsigned n_prepared;   /* statements that this connection has */
    struct psc_error *err; /* of the present pass */
    int64_t deadline_us;   /* monotonic: of the present pass */
    struct settle_pack tags, counters;
    struct due due[DUE_MAX];
    uint32_t n_due, next; /* on the list; up to next they are done */
    int64_t due_us;       /* monotonic: when to ask for another list */
    int64_t seen_us;      /* monotonic: when to tell the registry */
    struct psc_buf tag_ids, counter_ids; /* scratch */
    struct pgstate state;                /* of the last failure */
};

struct settle *settle_new(struct metrics *metrics, const atomic_bool *stop)
{
    struct settle *s = calloc(1, sizeof(*s));
    if (s != NULL) {
        s->metrics = metrics;
        s->stop = stop;
        s->seen_us = psc_clock_mono_us() + SEEN_US;
        settle_pack_init(&s->tags, TABLE_COLUMNS_MAX, TABLE_MAX_TAGS);
        settle_pack_init(&s->counters, 1, TABLE_MAX_COUNTERS);
        psc_buf_init(&s->tag_ids, IDS_MAX_BYTES);
        psc_buf_init(&s->counter_ids, IDS_MAX_BYTES);
    }
    return s;
}

void settle_free(struct settle *s)
{
    if (s == NULL) {
        return;
    }
    settle_pack_fini(&s->tags);
    settle_pack_fini(&s->counters);
    psc_buf_fini(&s->tag_ids);
    psc_buf_fini(&s->counter_ids);
    free(s);
}

void settle_forget_connection(struct settle *s)
{
    s->n_prepared = 0;
}

/* ---- statements ---- */

static int prepare(struct settle *s, PGconn *conn)
{
    s->conn = conn;
    while (s->n_prepared < STATEMENTS) {
        int rc = pgquery_prepare(conn, &statements[s->n_prepared], s->err,
                                 &s->state);
        if (rc != PSC_OK) {
            return rc;
        }
        s->n_prepared++;
    }
    return PSC_OK;
}

/* The result is the caller's to clear; NULL on failure (s->err says why). */
static PGresult *query(struct settle *s, enum statement what,
                       const struct pgparams *p)
{
    return pgquery_prepared(s->conn, statements[what].name, p, s->err,
                            &s->state);
}

/* ---- what is due ---- */

static int read_due(struct settle *s)
{
    struct pgparams p = {.n = 0};
    pgparam_int32(&p, DUE_MAX);
    PGresult *res = query(s, DUE, &p);
    if (res == NULL) {
        return s->err->code;
    }
    s->next = 0;
    s->n_due = 0;
    for (int row = 0; row < PQntuples(res) && s->n_due < DUE_MAX; row++) {
        s->due[s->n_due++] = (struct due){
            .host_id = pgresult_int64(res, row, 0),
            .tags = strcmp(pgresult_text(res, row, 1), "tags") == 0,
            .settled_n = pgresult_int64(res, row, 2),
            .upto_n = PQgetisnull(res, row, 3) ? INT64_MAX
                                               : pgresult_int64(res, row, 3),
            .span_us = pgresult_int64(res, row, 4),
        };
    }
    PQclear(res);
    return PSC_OK;
}

/* ---- one table ---- */

static const char *kind_of(const struct due *d)
{
    return d->tags ? "tags" : "counters";
}

/* Store what is packed: everything up to @new_n. */
static int store(struct settle *s, struct due *d, struct settle_pack *pack,
                 int64_t new_n)
{
    struct pgparams p = {.n = 0};
    int rc = settle_pack_cut(pack, s->err);
    if (rc != PSC_OK) {
        return rc;
    }
    pgparam_int64(&p, d->host_id);
    pgparam_text(&p, kind_of(d));
    pgparam_int64(&p, d->settled_n);
    pgparam_int64(&p, new_n);
    for (unsigned i = 0; i < SETTLE_COLUMNS; i++) {
        pgparam_array(&p, &pack->column[i]);
    }
    PGresult *res = query(s, STORE, &p);
    if (res == NULL) {
        return s->err->code;
    }
    if (pgresult_bool(res, 0, 0)) {
        metrics_add(s->metrics, settled_chunks, pack->n_chunks);
        metrics_add(s->metrics, settled_snapshots, pack->n_snapshots);
        metrics_add(s->metrics, settled_bytes, pack->bytes);
        d->settled_n = new_n;
    } else {
        psc_log_debug("settling: %s of host %lld to %lld: not ours to store",
                      kind_of(d), (long long)d->host_id, (long long)new_n);
        d->upto_n = 0; /* nothing more of it now */
    }
    PQclear(res);
    settle_pack_taken(pack);
    return PSC_OK;
}

/* Whether what is packed should be stored before @row, which could begin
 * without it: enough is, or it is time for others. */
static bool should_store(const struct settle *s, const struct settle_pack *pack,
                         const struct settle_row *row)
{
    bool splits = settle_pack_splits(pack, row->at_us);
    if (!row->keyframe) {
        return false;
    }
    return pack->bytes >= 4 * STORE_BYTES ||
           (splits && (pack->bytes >= STORE_BYTES ||
                       psc_clock_mono_us() >= s->deadline_us));
}

static void read_row(const PGresult *res, struct settle_row *out)
{
    static const uint8_t none[UUID_BYTES];
    *out = (struct settle_row){
        .n = pgresult_int64(res, 0, 0),
        .at_us = pgresult_time(res, 0, 1),
        .wall_us = pgresult_time(res, 0, 2),
        .boot = pgresult_uuid(res, 0, 3, none),
        .keyframe = pgresult_bool(res, 0, 4),
        .data = pgresult_bytes(res, 0, 5),
    };
}

/* What a page brought. */
struct page {
    int64_t last_n; /* of the newest row packed; as before if there is none */
    unsigned rows;  /* that were packed */
    bool store;     /* what is packed is to be stored before further rows */
};

static int pack_row(struct settle *s, const struct due *d,
                    struct settle_pack *pack, const PGresult *res,
                    struct page *page)
{
    struct settle_row row;
    read_row(res, &row);
    if (page->last_n > d->settled_n && should_store(s, pack, &row)) {
        page->store = true;
        return PSC_OK;
    }
    int rc = settle_pack_row(pack, &row, s->err);
    if (rc != PSC_OK) {
        struct psc_error why = *s->err;
        return psc_error_set(s->err, rc, "sample %lld: %.200s",
                             (long long)row.n, why.msg);
    }
    page->last_n = row.n;
    page->rows++;
    return PSC_OK;
}

/* Take the rows of a statement one by one; those after a failure, or after it
 * is time to store, are passed over. */
static int pack_rows(struct settle *s, const struct due *d,
                     struct settle_pack *pack, struct page *page)
{
    PGresult *res;
    int rc = PSC_OK;
    while ((res = PQgetResult(s->conn)) != NULL) {
        ExecStatusType status = PQresultStatus(res);
        if (rc == PSC_OK && status == PGRES_SINGLE_TUPLE && !page->store) {
            rc = pack_row(s, d, pack, res, page);
        } else if (rc == PSC_OK && status != PGRES_SINGLE_TUPLE &&
                   status != PGRES_TUPLES_OK) {
            rc = pgquery_failed(s->conn, res, s->err, &s->state);
        }
        PQclear(res);
    }
    return rc;
}

/* Pack the rows that follow page->last_n. */
static int pack_page(struct settle *s, const struct due *d,
                     struct settle_pack *pack, struct page *page)
{
    struct pgparams p = {.n = 0};
    pgparam_int64(&p, d->host_id);
    pgparam_int64(&p, page->last_n);
    pgparam_int64(&p, d->upto_n);
    pgparam_int64(&p, PAGE_ROWS);
    page->rows = 0;
    page->store = false;
    int rc = pgquery_stream(s->conn, statements[d->tags ? TAGS : COUNTERS].name,
                            &p, s->err);
    return rc == PSC_OK ? pack_rows(s, d, pack, page) : rc;
}

/* Settle @d; *@done unless the budget ended before. */
static int settle_table(struct settle *s, struct due *d, bool *done)
{
    struct settle_pack *pack = d->tags ? &s->tags : &s->counters;
    struct page page = {.last_n = d->settled_n, .rows = PAGE_ROWS};
    int rc = PSC_OK;
    settle_pack_begin(pack, d->span_us);
    while (rc == PSC_OK && (page.rows == PAGE_ROWS || page.store)) {
        rc = pack_page(s, d, pack, &page);
        if (atomic_load(s->stop)) {
            return rc;
        }
        if (rc == PSC_OK && page.store) {
            rc = store(s, d, pack, page.last_n);
            *done = d->upto_n == 0;
            if (*done || psc_clock_mono_us() >= s->deadline_us) {
                return rc;
            }
        }
    }
    *done = true;
    if (rc == PSC_OK && page.last_n > d->settled_n) {
        rc = store(s, d, pack, page.last_n);
    }
    return rc;
}

/* ---- failures ---- */

/* Leave the host of @d alone for an hour. */
static int give_up(struct settle *s, const struct due *d)
{
    char why[MESSAGE_BYTES];
    struct pgparams p = {.n = 0};
    (void)snprintf(why, sizeof(why), "%s: %.240s", kind_of(d), s->err->msg);
    psc_log_warn("settling: host %lld: %s", (long long)d->host_id, why);
    metrics_add(s->metrics, settle_failures, 1);
    pgparam_int64(&p, d->host_id);
    pgparam_text(&p, why);
    PGresult *res = query(s, FAILED, &p);
    if (res == NULL) {
        return s->err->code;
    }
    PQclear(res);
    for (uint32_t i = s->next; i < s->n_due; i++) {
        if (s->due[i].host_id == d->host_id) {
            s->due[i].host_id = 0; /* its other table */
        }
    }
    return PSC_OK;
}

/* ---- the registry ---- */

static void put_seen(struct psc_buf *ids, const struct settle_pack *p)
{
    pgarray_begin(ids, PGARRAY_INT4);
    for (uint32_t w = 0; w < p->cap_seen; w++) {
        for (uint64_t left = p->seen[w]; left != 0; left &= left - 1) {
            pgarray_int32(ids,
                          (int32_t)(w * WORD_BITS) + __builtin_ctzll(left));
        }
    }
    pgarray_end(ids);
}

static void forget_seen(struct settle_pack *p)
{
    if (p->cap_seen > 0) {
        memset(p->seen, 0, p->cap_seen * sizeof(*p->seen));
    }
}

/* Once an hour: which names are in use. */
static int tell_seen(struct settle *s)
{
    struct pgparams p = {.n = 0};
    if (psc_clock_mono_us() < s->seen_us) {
        return PSC_OK;
    }
    put_seen(&s->tag_ids, &s->tags);
    put_seen(&s->counter_ids, &s->counters);
    if (psc_buf_error(&s->tag_ids) != PSC_OK ||
        psc_buf_error(&s->counter_ids) != PSC_OK) {
        return psc_error_set(s->err, PSC_NOMEM, "out of memory");
    }
    pgparam_array(&p, &s->tag_ids);
    pgparam_array(&p, &s->counter_ids);
    PGresult *res = query(s, SEEN, &p);
    if (res == NULL) {
        return s->err->code;
    }
    PQclear(res);
    forget_seen(&s->tags);
    forget_seen(&s->counters);
    s->seen_us = psc_clock_mono_us() + SEEN_US;
    return PSC_OK;
}

/* ---- a pass ---- */

/* One table on the list. */
static int settle_next(struct settle *s)
{
    struct due *d = &s->due[s->next];
    bool done = true;
    int rc = d->host_id != 0 ? settle_table(s, d, &done) : PSC_OK;
    if (rc != PSC_OK && !pgquery_is_everybodys(rc, &s->state)) {
        rc = give_up(s, d);
        done = true;
    }
    s->next += rc == PSC_OK && done ? 1 : 0;
    return rc;
}

int settle_pass(struct settle *s, PGconn *conn, bool *more,
                struct psc_error *err)
{
    int64_t start_us = psc_clock_mono_us();
    s->err = err;
    s->deadline_us = start_us + BUDGET_US;
    *more = false;
    int rc = prepare(s, conn);
    if (rc == PSC_OK && s->next == s->n_due && start_us >= s->due_us) {
        rc = read_due(s);
        /* A full list is followed by another one at once. */
        s->due_us = start_us + (s->n_due == DUE_MAX ? 0 : DUE_US);
    }
    while (rc == PSC_OK && s->next < s->n_due && !atomic_load(s->stop) &&
           psc_clock_mono_us() < s->deadline_us) {
        rc = settle_next(s);
    }
    if (rc == PSC_OK && !atomic_load(s->stop)) {
        rc = tell_seen(s);
    }
    if (rc != PSC_OK) {
        s->next = s->n_due; /* others may have gone on meanwhile */
        s->due_us = psc_clock_mono_us() + DUE_US;
    }
    *more = s->next < s->n_due || s->due_us <= start_us;
    metrics_set(s->metrics, settle_behind, s->n_due - s->next);
    metrics_add(s->metrics, settle_us, psc_clock_mono_us() - start_us);
    return rc;
}
