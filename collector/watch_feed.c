/* One host's stored rows into detect/.
 *
 * Tags and memory counters come in rows of their own, both in the order of n;
 * before a snapshot is ended, the counters up to its n have been read. */
#include <stdlib.h>
#include <string.h>

#include "collector/watch_private.h"
#include "common/clock.h"

enum { PAGE_ROWS = 256, FIRST_IDS = 256 };

#define YEAR_2000_US (946684800 * PSC_US_PER_S)
#define AHEAD_US     (3600 * PSC_US_PER_S) /* as the store takes for possible */

/* The counter rows that were read ahead. */
struct counters {
    PGresult *res; /* NULL: none */
    int row;       /* next one */
    bool more;     /* the database may have further ones */
};

/* ---- room ---- */

static void take_counters(struct watch *w, struct watch_host *h,
                          const PGresult *res, int row)
{
    struct pgarray_reader ids, values;
    pgarray_reader_init(&ids, res, row, 1);
    pgarray_reader_init(&values, res, row, 2);
    for (uint32_t i = 0; i < ids.n && i < values.n; i++) {
        int32_t id;
        double value;
        (void)pgarray_next_int32(&ids, &id);
        bool some = pgarray_next_double(&values, &value);
        if (!some || value < 0 || value > 1e18 || id == 0) {
            continue;
        }
        if (id == w->available_id) {
            h->available_bytes = (int64_t)value;
        } else if (id == w->total_id) {
            h->total_bytes = (int64_t)value;
        }
    }
    h->counters_n = pgresult_int64(res, row, 0);
}

static int read_counters(struct watch *w, struct watch_host *h,
                         int64_t since_us, struct counters *c)
{
    struct pgparams p = {.n = 0};
    pgparam_int64(&p, h->host_id);
    pgparam_int64(&p, h->counters_n);
    pgparam_time(&p, since_us);
    pgparam_int32(&p, PAGE_ROWS);
    PQclear(c->res);
    c->res = watch_query(w, "counter_rows", &p);
    c->row = 0;
    if (c->res == NULL) {
        return w->err->code;
    }
    c->more = PQntuples(c->res) == PAGE_ROWS;
    return PSC_OK;
}

/* The room as of snapshot @n. */
static int advance_counters(struct watch *w, struct watch_host *h,
                            int64_t since_us, int64_t n, struct counters *c)
{
    for (;;) {
        while (c->res != NULL && c->row < PQntuples(c->res)) {
            if (pgresult_int64(c->res, c->row, 0) > n) {
                return PSC_OK;
            }
            take_counters(w, h, c->res, c->row++);
        }
        if (!c->more) {
            return PSC_OK;
        }
        int rc = read_counters(w, h, since_us, c);
        if (rc != PSC_OK) {
            return rc;
        }
    }
}

/* ---- the tags that a host has ---- */

static int by_id(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static int grow_ids(uint32_t **ids, uint32_t *cap, uint32_t need)
{
    uint32_t want = *cap > 0 ? *cap : FIRST_IDS;
    while (want < need) {
        want *= 2;
    }
    if (want > *cap) {
        uint32_t *grown = realloc(*ids, want * sizeof(**ids));
        if (grown == NULL) {
            return PSC_NOMEM;
        }
        *ids = grown;
        *cap = want;
    }
    return PSC_OK;
}

/* A delta brought tags: those that are new are remembered. */
static int remember(struct watch_host *h, const uint32_t *ids, uint32_t n)
{
    uint32_t had = h->n_tags;
    int rc = grow_ids(&h->tags, &h->cap_tags, had + n);
    for (uint32_t i = 0; rc == PSC_OK && i < n; i++) {
        if (had == 0 ||
            bsearch(&ids[i], h->tags, had, sizeof(uint32_t), by_id) == NULL) {
            h->tags[h->n_tags++] = ids[i];
        }
    }
    if (h->n_tags > had) {
        qsort(h->tags, h->n_tags, sizeof(uint32_t), by_id);
    }
    return rc;
}

/* A keyframe names all tags: what it does not name is gone. */
static int replace(struct watch_host *h, uint32_t *ids, uint32_t n)
{
    qsort(ids, n, sizeof(uint32_t), by_id);
    for (uint32_t i = 0; i < h->n_tags; i++) {
        if (n == 0 ||
            bsearch(&h->tags[i], ids, n, sizeof(uint32_t), by_id) == NULL) {
            detect_gone(h->detect, h->tags[i]);
        }
    }
    int rc = grow_ids(&h->tags, &h->cap_tags, n);
    if (rc == PSC_OK) {
        if (n > 0) {
            memcpy(h->tags, ids, n * sizeof(uint32_t));
        }
        h->n_tags = n;
    }
    return rc;
}

/* ---- snapshots ---- */

struct emission {
    struct watch *w;
    struct watch_host *h;
};

static void on_finding(void *user, const struct detect_finding *f)
{
    struct emission *e = user;
    if (e->w->rc == PSC_OK) {
        e->w->rc = watch_write(e->w, e->h, f);
    }
}

static int feed_tags(struct watch *w, struct watch_host *h, const PGresult *res,
                     int row, bool keyframe)
{
    struct pgarray_reader ids, bytes;
    uint32_t n = 0;
    pgarray_reader_init(&ids, res, row, 4);
    pgarray_reader_init(&bytes, res, row, 5);
    int rc = grow_ids(&w->keyframe, &w->cap_keyframe, ids.n);
    for (uint32_t i = 0; rc == PSC_OK && i < ids.n; i++) {
        int32_t id = 0;
        int64_t value;
        bool named = pgarray_next_int32(&ids, &id);
        bool has = pgarray_next_int64(&bytes, &value);
        if (!named || id <= 0 || (uint32_t)id >= w->cap_tags || !has) {
            continue;
        }
        const struct watch_tag *t = &w->tag[id];
        w->keyframe[n++] = (uint32_t)id;
        rc = detect_tag(h->detect, (uint32_t)id, t->pool, t->flags, t->generic,
                        value);
        rc = rc == PSC_LIMIT ? PSC_OK : rc;
    }
    if (rc == PSC_OK) {
        rc =
            keyframe ? replace(h, w->keyframe, n) : remember(h, w->keyframe, n);
    }
    return rc;
}

static void feed_gone(struct watch_host *h, const PGresult *res, int row)
{
    struct pgarray_reader gone;
    pgarray_reader_init(&gone, res, row, 6);
    for (uint32_t i = 0; i < gone.n; i++) {
        int32_t id;
        if (pgarray_next_int32(&gone, &id) && id > 0) {
            detect_gone(h->detect, (uint32_t)id);
        }
    }
}

static void note_boot(struct watch_host *h, const PGresult *res, int row)
{
    if (PQgetlength(res, row, 2) != (int)sizeof(h->boot_id)) {
        return;
    }
    const char *id = PQgetvalue(res, row, 2);
    if (h->has_boot && memcmp(h->boot_id, id, sizeof(h->boot_id)) != 0) {
        detect_boot(h->detect);
    }
    memcpy(h->boot_id, id, sizeof(h->boot_id));
    h->has_boot = true;
}

/* A clock that was wrong for a moment must not move detection's: an impossible
 * time, past or to come, is taken for that of the snapshot before. */
static void note_time(struct watch_host *h, int64_t at_us)
{
    if (at_us >= YEAR_2000_US && at_us <= psc_clock_wall_us() + AHEAD_US) {
        h->at_us = at_us;
    }
}

static int feed_row(struct watch *w, struct watch_host *h, const PGresult *res,
                    int row)
{
    struct emission e = {w, h};
    int64_t n = pgresult_int64(res, row, 0);
    bool silent = n <= h->silent_to_n;
    h->tags_n = n;
    note_time(h, pgresult_time(res, row, 1));
    if (h->at_us == 0) {
        return PSC_OK; /* no time to speak of */
    }
    note_boot(h, res, row);
    detect_begin(h->detect, h->at_us, h->interval_us);
    int rc = feed_tags(w, h, res, row, pgresult_bool(res, row, 3));
    feed_gone(h, res, row);
    if (h->available_bytes >= 0 && h->total_bytes > 0) {
        detect_room(h->detect, h->available_bytes, h->total_bytes);
    }
    w->rc = PSC_OK;
    int ended = detect_end(h->detect, silent ? NULL : on_finding, &e);
    metrics_add(w->metrics, detect_snapshots, 1);
    return rc != PSC_OK ? rc : w->rc != PSC_OK ? w->rc : ended;
}

static int feed_page(struct watch *w, struct watch_host *h, const PGresult *res,
                     int64_t since_us, struct counters *c)
{
    int rc = watch_learn_tags(w, res, 4);
    for (int row = 0; rc == PSC_OK && row < PQntuples(res); row++) {
        if (atomic_load(w->stop)) {
            return PSC_OK;
        }
        rc = advance_counters(w, h, since_us, pgresult_int64(res, row, 0), c);
        if (rc == PSC_OK) {
            rc = feed_row(w, h, res, row);
        }
    }
    return rc;
}

int watch_feed(struct watch *w, struct watch_host *h)
{
    struct counters c = {.more = true};
    int64_t since_us = psc_clock_wall_us() - DETECT_REPLAY_US;
    bool more = true;
    int rc = watch_learn_counters(w);
    while (rc == PSC_OK && more && !atomic_load(w->stop)) {
        struct pgparams p = {.n = 0};
        pgparam_int64(&p, h->host_id);
        pgparam_int64(&p, h->tags_n);
        pgparam_time(&p, since_us);
        pgparam_int32(&p, PAGE_ROWS);
        PGresult *res = watch_query(w, "tag_rows", &p);
        if (res == NULL) {
            rc = w->err->code;
            break;
        }
        more = PQntuples(res) == PAGE_ROWS;
        rc = feed_page(w, h, res, since_us, &c);
        PQclear(res);
    }
    PQclear(c.res);
    return rc;
}
