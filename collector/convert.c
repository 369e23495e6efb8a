/* Rows of arrays into chunks, and hours into summaries.
 *
 * Happy path: convert_next -> of samples: pages of rows -> the state of the
 * host, sample by sample -> chunks -> convert_store; of hours: all of a host
 * -> a summary a day -> convert_day, convert_done. -> convert_end.
 *
 * Failures: a kill at any moment leaves whole tables, or whole runs of samples
 * that end before a keyframe, so what is left is begun there again. */
#include "collector/convert.h"

#include <inttypes.h>
#include <string.h>

#include "collector/pgquery.h"
#include "collector/settle_pack.h"
#include "collector/summary.h"
#include "common/clock.h"
#include "common/log.h"

enum {
    PAGE_ROWS = 64,
    SAY_US = 60 * PSC_US_PER_S,
    HOUR_SAMPLES = 1, /* how many an hour had is not known */
};
/* Chunks that are stored at once, if a keyframe follows. */
#define STORE_BYTES ((size_t)16 * 1024 * 1024)
#define DAY_US      (INT64_C(86400) * PSC_US_PER_S)

/* Columns of convert_rows(), and of convert_hours(). */
enum { N, AT, WALL_AT, BOOT, KEYFRAME, IDS, ALLOCS, REALS = 10, GONE };
enum { HOUR, HOUR_IDS, FIRST, LAST, MIN, MAX, MEAN, OUTSTANDING };

/* A table of a host. */
struct task {
    PGconn *conn;
    struct psc_error *err;
    int64_t host_id;
    char kind[16];
    bool tags; /* else counters */
    int64_t n; /* converted up to there */
    int64_t span_us;
    struct settle_pack pack;
    struct psc_map ids; /* of 4 bytes, to positions in pack.grid */
};

void convert_init(struct convert *c, const atomic_bool *stop)
{
    *c = (struct convert){.stop = stop};
}

/* ---- a row's arrays ---- */

/* The arrays of a row, read side by side. */
struct columns_reader {
    struct pgarray_reader ids, values[TABLE_COLUMNS_MAX], reals;
    bool tags;
};

static void open_columns(struct columns_reader *r, const PGresult *res, int row,
                         bool tags)
{
    r->tags = tags;
    pgarray_reader_init(&r->ids, res, row, IDS);
    for (int i = 0; i < TABLE_COLUMNS_MAX; i++) {
        pgarray_reader_init(&r->values[i], res, row, ALLOCS + i);
    }
    pgarray_reader_init(&r->reals, res, row, REALS);
}

/* The next entry: its id, 0 for none, with the columns that it has. */
static int32_t next_entry(struct columns_reader *r, uint8_t *flags,
                          int64_t values[TABLE_COLUMNS_MAX])
{
    int32_t id = 0;
    double real = 0;
    *flags = 0;
    memset(values, 0, TABLE_COLUMNS_MAX * sizeof(*values));
    if (!pgarray_next_int32(&r->ids, &id)) {
        id = 0;
    }
    for (unsigned i = 0; r->tags && i < TABLE_COLUMNS_MAX; i++) {
        if (pgarray_next_int64(&r->values[i], &values[i])) {
            *flags = (uint8_t)(*flags | 1u << i);
        }
    }
    if (!r->tags) {
        *flags = ENTRY_REAL;
        if (pgarray_next_double(&r->reals, &real)) {
            memcpy(&values[0], &real, sizeof(real));
        } else {
            id = 0;
        }
    }
    return id > 0 ? id : 0;
}

/* ---- the state of a host ---- */

static int put(struct task *t, uint32_t id, uint8_t flags,
               const int64_t values[TABLE_COLUMNS_MAX])
{
    struct grid *g = &t->pack.grid;
    uint32_t at;
    int rc = psc_map_add(&t->ids, &id, sizeof(id), &at);
    if (rc == PSC_OK && at == g->n) {
        rc = grid_add(g, id, flags);
    }
    if (rc != PSC_OK) {
        return rc;
    }
    struct grid_entry *e = &g->entries[at];
    g->n_live += e->live ? 0 : 1;
    e->live = true;
    e->flags = flags;
    memcpy(grid_values(g, at), values, g->columns * sizeof(*values));
    return PSC_OK;
}

static void drop(struct task *t, uint32_t id)
{
    struct grid *g = &t->pack.grid;
    uint32_t at = psc_map_find(&t->ids, &id, sizeof(id));
    if (at != PSC_MAP_NONE && g->entries[at].live) {
        g->entries[at].live = false;
        g->n_live--;
    }
}

static int apply(struct task *t, const PGresult *res, int row)
{
    struct columns_reader r;
    struct pgarray_reader gone;
    int rc = PSC_OK;
    if (pgresult_bool(res, row, KEYFRAME)) {
        grid_clear(&t->pack.grid);
        psc_map_clear(&t->ids);
    }
    open_columns(&r, res, row, t->tags);
    for (uint32_t i = 0; rc == PSC_OK && i < r.ids.n; i++) {
        uint8_t flags;
        int64_t values[TABLE_COLUMNS_MAX];
        int32_t id = next_entry(&r, &flags, values);
        rc = id > 0 ? put(t, (uint32_t)id, flags, values) : PSC_OK;
    }
    pgarray_reader_init(&gone, res, row, GONE);
    for (uint32_t i = 0; i < gone.n; i++) {
        int32_t id;
        if (pgarray_next_int32(&gone, &id) && id > 0) {
            drop(t, (uint32_t)id);
        }
    }
    return rc;
}

/* ---- samples ---- */

static PGresult *read_rows(struct task *t, int64_t after_n)
{
    struct pgparams p = {.n = 0};
    pgparam_int64(&p, t->host_id);
    pgparam_text(&p, t->kind);
    pgparam_int64(&p, after_n);
    pgparam_int32(&p, PAGE_ROWS);
    return pgquery(t->conn,
                   "SELECT * FROM poolscope_api.convert_rows($1, $2, $3, $4)",
                   &p, t->err);
}

static int store(struct task *t, int64_t new_n, bool last)
{
    struct pgparams p = {.n = 0};
    int rc = settle_pack_cut(&t->pack, t->err);
    if (rc != PSC_OK) {
        return rc;
    }
    pgparam_int64(&p, t->host_id);
    pgparam_text(&p, t->kind);
    pgparam_int64(&p, t->n);
    pgparam_int64(&p, new_n);
    pgparam_bool(&p, last);
    for (unsigned i = 0; i < SETTLE_COLUMNS; i++) {
        pgparam_array(&p, &t->pack.column[i]);
    }
    PGresult *res =
        pgquery(t->conn,
                "SELECT poolscope_api.convert_store($1, $2, $3, $4, $5, $6, "
                "$7, $8, $9, $10, $11, $12, $13, $14)",
                &p, t->err);
    if (res == NULL) {
        return t->err->code;
    }
    bool ours = pgresult_bool(res, 0, 0);
    PQclear(res);
    settle_pack_taken(&t->pack);
    t->n = new_n;
    return ours ? PSC_OK : PSC_CLOSED; /* closed: others are at it */
}

static int add_row(struct task *t, const PGresult *res, int row, int64_t last_n)
{
    static const uint8_t none[CHUNK_BOOT_BYTES];
    bool keyframe = pgresult_bool(res, row, KEYFRAME);
    const struct settle_row at = {
        .n = pgresult_int64(res, row, N),
        .at_us = pgresult_time(res, row, AT),
        .wall_us = pgresult_time(res, row, WALL_AT),
        .boot = pgresult_uuid(res, row, BOOT, none),
        .keyframe = true, /* all of the state is looked at */
    };
    int rc = PSC_OK;
    if (keyframe && t->pack.bytes > STORE_BYTES) {
        rc = store(t, last_n, false);
    }
    rc = rc == PSC_OK ? apply(t, res, row) : rc;
    return rc == PSC_OK ? settle_pack_add(&t->pack, &at, t->err) : rc;
}

static int convert_samples(struct task *t, const atomic_bool *stop)
{
    int64_t last_n = t->n;
    int rows = PAGE_ROWS;
    int rc = PSC_OK;
    settle_pack_begin(&t->pack, t->span_us);
    psc_map_clear(&t->ids);
    while (rc == PSC_OK && rows == PAGE_ROWS && !atomic_load(stop)) {
        PGresult *res = read_rows(t, last_n);
        if (res == NULL) {
            return t->err->code;
        }
        rows = PQntuples(res);
        for (int row = 0; rc == PSC_OK && row < rows; row++) {
            rc = add_row(t, res, row, last_n);
            last_n = pgresult_int64(res, row, N);
        }
        PQclear(res);
    }
    return rc == PSC_OK && !atomic_load(stop) ? store(t, last_n, true) : rc;
}

/* ---- hours ---- */

static int add_hour(struct summary *s, const PGresult *res, int row)
{
    struct pgarray_reader ids, v[MEAN - FIRST + 1], outstanding;
    int64_t at_us = pgresult_time(res, row, HOUR);
    int rc = PSC_OK;
    pgarray_reader_init(&ids, res, row, HOUR_IDS);
    for (int i = FIRST; i <= MEAN; i++) {
        pgarray_reader_init(&v[i - FIRST], res, row, i);
    }
    pgarray_reader_init(&outstanding, res, row, OUTSTANDING);
    for (uint32_t i = 0; rc == PSC_OK && i < ids.n; i++) {
        struct summary_fact f = {.n = HOUR_SAMPLES};
        int32_t id = 0;
        bool whole = pgarray_next_int32(&ids, &id);
        whole = pgarray_next_double(&v[0], &f.first) && whole;
        whole = pgarray_next_double(&v[LAST - FIRST], &f.last) && whole;
        whole = pgarray_next_double(&v[MIN - FIRST], &f.min) && whole;
        whole = pgarray_next_double(&v[MAX - FIRST], &f.max) && whole;
        whole = pgarray_next_double(&v[MEAN - FIRST], &f.mean) && whole;
        f.has_outstanding =
            pgarray_next_int64(&outstanding, &f.last_outstanding);
        f.id = (uint32_t)id;
        rc = whole && id > 0 ? summary_put(s, at_us, &f) : PSC_OK;
    }
    return rc;
}

static int store_day(struct task *t, struct summary *s)
{
    struct chunk_sections out;
    struct psc_buf snapshots;
    struct pgparams p = {.n = 0};
    int rc = summary_finish(s, &out, t->err);
    if (rc != PSC_OK) {
        return rc == PSC_MISSING ? PSC_OK : rc;
    }
    psc_buf_init(&snapshots, 4096);
    pgarray_begin(&snapshots, PGARRAY_INT4);
    for (uint32_t i = 0; i < SUMMARY_HOURS; i++) {
        pgarray_int32(&snapshots, (int32_t)s->snapshots[i]);
    }
    pgarray_end(&snapshots);
    pgparam_int64(&p, t->host_id);
    pgparam_text(&p, t->kind);
    pgparam_time(&p, s->from_us);
    pgparam_array(&p, &snapshots);
    pgparam_bytes(&p, out.head.data, out.head.len);
    pgparam_bytes(&p, out.levels.data, out.levels.len);
    pgparam_bytes(&p, out.data.data, out.data.len);
    rc = psc_buf_error(&snapshots);
    PGresult *res =
        rc == PSC_OK
            ? pgquery(t->conn,
                      "SELECT poolscope_api.convert_day($1, $2, $3, $4, $5, "
                      "$6, $7)::text",
                      &p, t->err)
            : NULL;
    psc_buf_fini(&snapshots);
    PQclear(res);
    return rc != PSC_OK  ? psc_error_set(t->err, rc, "out of memory")
           : res != NULL ? PSC_OK
                         : t->err->code;
}

static int tell_done(struct task *t, const char *sql)
{
    struct pgparams p = {.n = 0};
    pgparam_int64(&p, t->host_id);
    pgparam_text(&p, t->kind);
    PGresult *res = pgquery(t->conn, sql, &p, t->err);
    PQclear(res);
    return res != NULL ? PSC_OK : t->err->code;
}

static int64_t day_of(int64_t at_us)
{
    int64_t into = at_us % DAY_US;
    return at_us - (into < 0 ? into + DAY_US : into);
}

/* A page of hours; a day is stored when the next one begins. */
static int add_hours(struct task *t, struct summary *s, const PGresult *res,
                     int64_t *last_us)
{
    int rc = PSC_OK;
    for (int row = 0; rc == PSC_OK && row < PQntuples(res); row++) {
        int64_t at_us = pgresult_time(res, row, HOUR);
        if (day_of(at_us) != s->from_us) {
            rc = store_day(t, s);
            summary_begin_day(s, day_of(at_us));
        }
        rc = rc == PSC_OK ? add_hour(s, res, row) : rc;
        *last_us = at_us;
    }
    return rc;
}

static int convert_hours(struct task *t, const atomic_bool *stop)
{
    struct summary s;
    int64_t last_us = 0;
    int rows = PAGE_ROWS;
    int rc = PSC_OK;
    summary_init(&s, t->tags ? 4 : 1, &chunk_openssl);
    summary_begin_day(&s, 0);
    while (rc == PSC_OK && rows == PAGE_ROWS && !atomic_load(stop)) {
        struct pgparams p = {.n = 0};
        pgparam_int64(&p, t->host_id);
        pgparam_text(&p, t->kind);
        pgparam_time(&p, last_us);
        pgparam_int32(&p, PAGE_ROWS);
        PGresult *res =
            pgquery(t->conn,
                    "SELECT * FROM poolscope_api.convert_hours($1, $2, $3, $4)",
                    &p, t->err);
        rows = PQntuples(res);
        rc = res != NULL ? add_hours(t, &s, res, &last_us) : t->err->code;
        PQclear(res);
    }
    if (rc == PSC_OK && !atomic_load(stop)) {
        rc = store_day(t, &s);
        rc = rc == PSC_OK ? tell_done(t, "SELECT poolscope_api.convert_done("
                                         "$1, $2)::text")
                          : rc;
    }
    summary_fini(&s);
    return rc;
}

/* ---- one after the other ---- */

static int convert_one(struct task *t, const atomic_bool *stop)
{
    bool hours = strstr(t->kind, "hours") != NULL;
    int rc;
    if (hours) {
        rc = convert_hours(t, stop);
    } else {
        settle_pack_init(&t->pack, t->tags ? TABLE_COLUMNS_MAX : 1,
                         t->tags ? TABLE_MAX_TAGS : TABLE_MAX_COUNTERS);
        psc_map_init(&t->ids, TABLE_MAX_TAGS,
                     TABLE_MAX_TAGS * sizeof(uint32_t));
        rc = convert_samples(t, stop);
        settle_pack_fini(&t->pack);
        psc_map_fini(&t->ids);
    }
    if (rc == PSC_OK || rc == PSC_CONNECTION || rc == PSC_NOMEM) {
        return rc;
    }
    if (rc == PSC_CLOSED) {
        return PSC_OK;
    }
    psc_log_error("what the first version stored of host %" PRId64
                  " (%s) cannot be converted: %s",
                  t->host_id, t->kind, t->err->msg);
    return tell_done(t, "SELECT poolscope_api.convert_failed($1, $2)::text");
}

/* What is to be done next: false if nothing is, now. */
static bool read_task(const PGresult *res, struct task *t)
{
    if (PQgetisnull(res, 0, 0)) {
        return false;
    }
    t->host_id = pgresult_int64(res, 0, 0);
    (void)snprintf(t->kind, sizeof(t->kind), "%s", pgresult_text(res, 0, 1));
    t->tags = strncmp(t->kind, "tag", 3) == 0;
    t->n = pgresult_int64(res, 0, 2);
    t->span_us = pgresult_int64(res, 0, 4);
    return true;
}

static int end_all(struct convert *c, PGconn *conn, struct psc_error *err)
{
    struct pgparams none = {.n = 0};
    PGresult *res =
        pgquery(conn, "SELECT poolscope_api.convert_end()", &none, err);
    if (res == NULL) {
        return err->code;
    }
    if (pgresult_bool(res, 0, 0)) {
        psc_log_info("all that the first version stored is converted");
    }
    c->ended = true;
    PQclear(res);
    return PSC_OK;
}

int convert_pass(struct convert *c, PGconn *conn, int64_t until_us, bool *more,
                 struct psc_error *err)
{
    int rc = PSC_OK;
    *more = false;
    while (rc == PSC_OK && !c->ended && !atomic_load(c->stop)) {
        struct pgparams none = {.n = 0};
        struct task t = {.conn = conn, .err = err};
        PGresult *res = pgquery(conn,
                                "SELECT host_id, kind, n, left_over, span_us "
                                "FROM poolscope_api.convert_next()",
                                &none, err);
        if (res == NULL) {
            return err->code;
        }
        int64_t left = pgresult_int64(res, 0, 3);
        bool any = read_task(res, &t);
        PQclear(res);
        if (left == 0) {
            return end_all(c, conn, err);
        }
        int64_t now_us = psc_clock_mono_us();
        if (!any || now_us >= until_us) {
            *more = any;
            break;
        }
        if (now_us - c->said_us >= SAY_US) {
            c->said_us = now_us;
            psc_log_info("converting what the first version stored: %" PRId64
                         " tables of hosts are left",
                         left);
        }
        rc = convert_one(&t, c->stop);
    }
    return rc;
}
