/* What a host has now, its hours, its boots and its drivers. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/fleetsim/verify.h"

#define HOUR_US         INT64_C(3600000000)
#define LOADED_SLACK_US INT64_C(3000000)

/* Sorted rows of a query are compared by name: find one's slot. */
struct named {
    char text[TRUTH_KEY_MAX];
    const char *pool;
    uint32_t slot;
};

static int by_name(const void *a, const void *b)
{
    const struct named *x = a, *y = b;
    int order = strcmp(x->pool, y->pool);
    return order != 0 ? order : strcmp(x->text, y->text);
}

/* The names of @n slots (all if @slots is NULL), sorted; NULL: no memory. */
static struct named *name_slots(const struct verify *v, const uint32_t *slots,
                                uint32_t n)
{
    struct named *all = calloc(n, sizeof(*all));
    for (uint32_t i = 0; all != NULL && i < n; i++) {
        all[i].slot = slots != NULL ? slots[i] : i;
        verify_tag_name(v, truth_word(&v->host, all[i].slot), all[i].text,
                        &all[i].pool);
    }
    if (all != NULL) {
        qsort(all, n, sizeof(*all), by_name);
    }
    return all;
}

static const struct named *find(const struct named *all, uint32_t n,
                                const PGresult *r, int row)
{
    struct named key = {.pool = PQgetvalue(r, row, 0)};
    (void)snprintf(key.text, sizeof(key.text), "%s", PQgetvalue(r, row, 1));
    return bsearch(&key, all, n, sizeof(*all), by_name);
}

/* --- now --- */

static void compare_now(struct verify *v, const PGresult *r,
                        const struct named *all)
{
    const struct verify_row *newest = &v->rows[v->n_rows - 1];
    uint32_t n = v->truth.s.n_tags, expected = 0;
    struct truth_boot boot;
    truth_boot_at(&v->host, newest->k, &boot);
    for (uint32_t slot = 0; slot < n; slot++) {
        uint32_t word = truth_word(&v->host, slot);
        expected += truth_tag_present(&v->host, word, newest->k) ? 1 : 0;
    }
    for (int row = 0; row < PQntuples(r); row++) {
        const struct named *tag = find(all, n, r, row);
        int64_t want[TABLE_COLUMNS_MAX];
        v->counts.values++;
        if (tag == NULL) {
            verify_complain(v, &v->counts.wrong, "has no tag %s now",
                            PQgetvalue(r, row, 1));
            continue;
        }
        truth_tag_at(&v->host, &boot, truth_word(&v->host, tag->slot),
                     newest->k, want);
        bool counts = v->host.windows;
        if ((counts && (verify_int(r, row, 2) != want[COL_ALLOCS] ||
                        verify_int(r, row, 3) != want[COL_FREES])) ||
            verify_int(r, row, 4) != want[COL_OUTSTANDING] ||
            verify_int(r, row, 5) != want[COL_BYTES] ||
            verify_int(r, row, 6) != newest->at_us) {
            verify_complain(v, &v->counts.wrong,
                            "tag %u now (snapshot %" PRIu64 ") differs",
                            tag->slot, newest->k);
        }
    }
    if ((uint32_t)PQntuples(r) != expected) {
        verify_complain(v, &v->counts.wrong, "has %d tags now, not %u",
                        PQntuples(r), expected);
    }
}

int verify_now(struct verify *v, struct psc_error *err)
{
    const char *const parameters[] = {v->name};
    struct named *all = name_slots(v, NULL, v->truth.s.n_tags);
    PGresult *r = NULL;
    if (all == NULL) {
        return psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    int rc = verify_query(v,
                          "SELECT pool, tag, allocs, frees, outstanding, "
                          "bytes, (extract(epoch FROM at) * 1000000)::bigint "
                          "FROM poolscope.pool_now WHERE host = $1",
                          1, parameters, &r, err);
    if (rc == PSC_OK) {
        compare_now(v, r, all);
    }
    PQclear(r);
    free(all);
    return rc;
}

/* --- hours --- */

struct hour {
    int64_t first, last, min, max, mean, outstanding;
    bool there;
};

/* One tag over rows @from to @to - 1, all of an hour. */
static struct hour hour_of(const struct verify *v, uint32_t word, uint32_t from,
                           uint32_t to)
{
    struct hour h = {.there = false};
    __extension__ typedef __int128 wide; /* a sum of int64_t */
    wide sum = 0;
    int64_t n = 0;
    for (uint32_t i = from; i < to; i++) {
        struct truth_boot boot;
        int64_t values[TABLE_COLUMNS_MAX];
        uint64_t k = v->rows[i].k;
        if (!truth_tag_present(&v->host, word, k)) {
            continue;
        }
        truth_boot_at(&v->host, k, &boot);
        truth_tag_at(&v->host, &boot, word, k, values);
        int64_t bytes = values[COL_BYTES];
        h.first = h.there ? h.first : bytes;
        h.min = !h.there || bytes < h.min ? bytes : h.min;
        h.max = !h.there || bytes > h.max ? bytes : h.max;
        h.last = bytes;
        h.outstanding = values[COL_OUTSTANDING];
        h.there = true;
        sum += bytes;
        n++;
    }
    h.mean = n > 0 ? (int64_t)((2 * sum + n) / (2 * n)) : 0;
    return h;
}

static bool hour_fits(const PGresult *r, int row, const struct hour *h)
{
    return verify_int(r, row, 3) == h->first &&
           verify_int(r, row, 4) == h->last &&
           verify_int(r, row, 5) == h->min && verify_int(r, row, 6) == h->max &&
           verify_int(r, row, 7) == h->mean &&
           verify_int(r, row, 8) == h->outstanding;
}

/* Rows of one hour, from *@row on; they come in the order of names. */
static void compare_hour(struct verify *v, const PGresult *r, int64_t hour,
                         uint32_t from, uint32_t to, const struct named *all,
                         int *row)
{
    for (uint32_t i = 0; i < v->n_slots; i++) {
        uint32_t word = truth_word(&v->host, all[i].slot);
        struct hour want = hour_of(v, word, from, to);
        bool there = *row < PQntuples(r) && verify_int(r, *row, 2) == hour &&
                     strcmp(PQgetvalue(r, *row, 1), all[i].text) == 0;
        v->counts.values++;
        if (there != want.there || (there && !hour_fits(r, *row, &want))) {
            verify_complain(v, &v->counts.wrong,
                            "tag %u, hour of snapshot %" PRIu64 ": %s",
                            all[i].slot, v->rows[from].k,
                            there == want.there ? "differs"
                            : there             ? "should not be there"
                                                : "not there");
        }
        *row += there ? 1 : 0;
    }
}

static void compare_hours(struct verify *v, const PGresult *r,
                          const struct named *all)
{
    int row = 0;
    for (uint32_t from = 0, to; from < v->n_rows; from = to) {
        int64_t hour = v->rows[from].at_us / HOUR_US;
        for (to = from;
             to < v->n_rows && v->rows[to].at_us / HOUR_US == hour;) {
            to++;
        }
        compare_hour(v, r, hour, from, to, all, &row);
    }
    if (row < PQntuples(r)) {
        verify_complain(v, &v->counts.wrong, "has %d hours of tags more",
                        PQntuples(r) - row);
    }
}

static void put_names(const struct named *all, uint32_t n,
                      struct psc_buf *pools, struct psc_buf *tags)
{
    for (uint32_t i = 0; i < n; i++) {
        const char *sign = i == 0 ? "{" : ",";
        psc_buf_printf(pools, "%s\"%s\"", sign, all[i].pool);
        psc_buf_printf(tags, "%s\"%s\"", sign, all[i].text);
    }
    psc_buf_append(pools, "}", 2);
    psc_buf_append(tags, "}", 2);
}

int verify_hours(struct verify *v, struct psc_error *err)
{
    struct named *all = name_slots(v, v->slots, v->n_slots);
    struct psc_buf pools, tags;
    psc_buf_init(&pools, (size_t)TRUTH_TAGS_MAX * TRUTH_KEY_MAX);
    psc_buf_init(&tags, (size_t)TRUTH_TAGS_MAX * TRUTH_KEY_MAX);
    if (all != NULL) {
        put_names(all, v->n_slots, &pools, &tags);
    }
    PGresult *r = NULL;
    int rc = PSC_OK;
    if (all == NULL || psc_buf_error(&pools) != PSC_OK ||
        psc_buf_error(&tags) != PSC_OK) {
        rc = psc_error_set(err, PSC_NOMEM, "out of memory");
    } else {
        const char *const parameters[] = {v->name, (char *)pools.data,
                                          (char *)tags.data};
        rc = verify_query(
            v,
            "SELECT h.pool, h.tag, (extract(epoch FROM h.hour) / 3600)::bigint,"
            " h.first_bytes, h.last_bytes, h.min_bytes, h.max_bytes, "
            "h.mean_bytes, h.last_outstanding FROM poolscope.pool_hour h "
            "JOIN unnest($2::text[], $3::text[]) t(pool, tag) "
            "ON t.pool = h.pool AND t.tag = h.tag WHERE h.host = $1 "
            "ORDER BY h.hour, h.pool COLLATE \"C\", h.tag COLLATE \"C\"",
            3, parameters, &r, err);
    }
    if (rc == PSC_OK) {
        compare_hours(v, r, all);
    }
    PQclear(r);
    psc_buf_fini(&pools);
    psc_buf_fini(&tags);
    free(all);
    return rc;
}

/* --- boots --- */

static void hex_uuid(const uint8_t id[16], char out[33])
{
    for (unsigned i = 0; i < 16; i++) {
        (void)snprintf(out + (size_t)2 * i, 3, "%02x", id[i]);
    }
}

/* Row of the boot in the query's result, or -1. */
static int find_boot(const PGresult *r, const struct truth_boot *boot)
{
    char hex[33];
    hex_uuid(boot->id, hex);
    for (int row = 0; row < PQntuples(r); row++) {
        if (strcmp(PQgetvalue(r, row, 0), hex) == 0) {
            return row;
        }
    }
    return -1;
}

int verify_boots(struct verify *v, struct psc_error *err)
{
    const char *const parameters[] = {v->name};
    PGresult *r;
    int rc = verify_query(v,
                          "SELECT replace(boot_id::text, '-', ''), (extract("
                          "epoch FROM boot_at) * 1000000)::bigint "
                          "FROM poolscope.boot WHERE host = $1",
                          1, parameters, &r, err);
    uint64_t number = UINT64_MAX;
    for (uint32_t i = 0; rc == PSC_OK && i < v->n_rows; i++) {
        struct truth_boot boot;
        truth_boot_at(&v->host, v->rows[i].k, &boot);
        if (boot.number == number) {
            continue;
        }
        number = boot.number;
        int row = find_boot(r, &boot);
        int64_t off_us = row < 0
                             ? 0
                             : verify_int(r, row, 1) -
                                   state_boot_us(&v->state, &v->host, &boot);
        v->counts.values++;
        if (row < 0) {
            verify_complain(v, &v->counts.wrong,
                            "boot %" PRIu64 " is not there", number);
        } else if (off_us > verify_slack_us(v) ||
                   off_us < -verify_slack_us(v)) {
            verify_complain(v, &v->counts.late,
                            "boot %" PRIu64 " is %.3f s off in time", number,
                            (double)off_us / 1e6);
        }
    }
    if (rc == PSC_OK) {
        PQclear(r);
    }
    return rc;
}

/* --- drivers --- */

/* Whether the inventory has a row of this driver, loaded when @boot began, seen
 * from @from_us on. What was loaded within 2 s of the same driver before counts
 * as loaded once (and times are told in whole seconds). */
static bool has_driver(const struct verify *v, const PGresult *r,
                       const struct truth_boot *boot, uint32_t i,
                       int64_t from_us)
{
    struct truth_driver want;
    char hex[65];
    truth_driver(&v->host, boot, i, &want);
    hex_uuid(want.sha256, hex);
    hex_uuid(want.sha256 + 16, hex + 32);
    int64_t boot_us = state_boot_us(&v->state, &v->host, boot);
    for (int row = 0; row < PQntuples(r); row++) {
        int64_t off_us = verify_int(r, row, 3) - boot_us;
        if (strcmp(PQgetvalue(r, row, 0), want.name) == 0 &&
            strcmp(PQgetvalue(r, row, 1), want.version) == 0 &&
            strcmp(PQgetvalue(r, row, 2), hex) == 0 &&
            off_us <= LOADED_SLACK_US && off_us >= -LOADED_SLACK_US &&
            verify_int(r, row, 4) <= from_us) {
            return true;
        }
    }
    return false;
}

/* The inventory that came with row @i of the host, the first one of @boot. */
static void compare_drivers(struct verify *v, const PGresult *r, uint32_t i,
                            const struct truth_boot *boot)
{
    for (uint32_t d = 0; d < v->truth.s.n_drivers; d++) {
        v->counts.values++;
        if (!has_driver(v, r, boot, d, v->rows[i].at_us)) {
            verify_complain(v, &v->counts.wrong,
                            "driver %u of boot %" PRIu64 " is not there", d,
                            boot->number);
        }
    }
}

int verify_drivers(struct verify *v, struct psc_error *err)
{
    const char *const parameters[] = {v->name};
    PGresult *r;
    int rc = verify_query(v,
                          "SELECT driver, version, sha256, (extract(epoch "
                          "FROM loaded_at) * 1000000)::bigint, (extract("
                          "epoch FROM seen_from) * 1000000)::bigint, "
                          "seen_to IS NULL FROM poolscope.driver "
                          "WHERE host = $1",
                          1, parameters, &r, err);
    uint64_t number = UINT64_MAX;
    uint32_t n_boots = 0;
    for (uint32_t i = 0; rc == PSC_OK && i < v->n_rows; i++) {
        struct truth_boot boot;
        truth_boot_at(&v->host, v->rows[i].k, &boot);
        if (boot.number != number) {
            compare_drivers(v, r, i, &boot);
            n_boots++;
        }
        number = boot.number;
    }
    if (rc == PSC_OK &&
        (uint32_t)PQntuples(r) > n_boots * v->truth.s.n_drivers) {
        verify_complain(v, &v->counts.doubled, "has %d drivers too many",
                        PQntuples(r) - (int)(n_boots * v->truth.s.n_drivers));
    }
    if (rc == PSC_OK) {
        PQclear(r);
    }
    return rc;
}
