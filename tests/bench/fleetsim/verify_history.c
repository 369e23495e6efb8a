/* Histories, of tags and of counters: one row a snapshot, each value.
 *
 * Both come for many names in one query, in order of name and row; compare()
 * goes through them beside the host's rows. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/fleetsim/verify.h"

enum { TOGETHER = 64, LIST_MAX = 64 << 10 };

/* A list of names as a PostgreSQL array; they have no quotes in them. */
static void add_word(struct psc_buf *list, const char *word)
{
    psc_buf_printf(list, "%s\"%s\"", list->len == 0 ? "{" : ",", word);
}

static int end_list(struct psc_buf *list, struct psc_error *err)
{
    psc_buf_append(list, "}", 2);
    return psc_buf_error(list) == PSC_OK
               ? PSC_OK
               : psc_error_set(err, PSC_NOMEM, "a list of names is too long");
}

/* --- tags --- */

static bool is_value(const PGresult *r, int row, int column, bool has,
                     int64_t value)
{
    return has ? PQgetisnull(r, row, column) == 0 &&
                     verify_int(r, row, column) == value
               : PQgetisnull(r, row, column) == 1;
}

static void compare_tag_row(struct verify *v, const PGresult *r, int row,
                            uint32_t word, uint64_t k)
{
    struct truth_boot boot;
    int64_t want[TABLE_COLUMNS_MAX];
    truth_boot_at(&v->host, k, &boot);
    truth_tag_at(&v->host, &boot, word, k, want);
    v->counts.values++;
    for (int c = 0; c < TABLE_COLUMNS_MAX; c++) {
        bool has = (truth_tag_flags(&v->host, word) >> c & 1) != 0;
        if (!is_value(r, row, 2 + c, has, want[c])) {
            verify_complain(v, &v->counts.wrong,
                            "tag %u in snapshot %" PRIu64
                            ": column %d is \"%s\", not %" PRId64,
                            word / 2, k, c, PQgetvalue(r, row, 2 + c), want[c]);
            return;
        }
    }
}

/* The rows of one tag, from *@row on. */
static void compare_tag(struct verify *v, const PGresult *r, int ordinal,
                        uint32_t word, int *row)
{
    int n = PQntuples(r);
    for (uint32_t i = 0; i < v->n_rows; i++) {
        uint64_t k = v->rows[i].k;
        bool there = *row < n && verify_int(r, *row, 0) == ordinal &&
                     verify_int(r, *row, 1) == v->rows[i].at_us;
        if (there != truth_tag_present(&v->host, word, k)) {
            verify_complain(v, &v->counts.wrong,
                            "tag %u in snapshot %" PRIu64 " is %s", word / 2, k,
                            there ? "there, and should not be" : "not there");
        } else if (there) {
            compare_tag_row(v, r, *row, word, k);
        }
        *row += there ? 1 : 0;
    }
    while (*row < n && verify_int(r, *row, 0) == ordinal) {
        verify_complain(v, &v->counts.wrong, "tag %u has a row of no snapshot",
                        word / 2);
        ++*row;
    }
}

static int compare_tags(struct verify *v, const uint32_t *slots, uint32_t n,
                        struct psc_error *err)
{
    struct psc_buf pools, tags;
    psc_buf_init(&pools, LIST_MAX);
    psc_buf_init(&tags, LIST_MAX);
    for (uint32_t i = 0; i < n; i++) {
        char text[TRUTH_KEY_MAX];
        const char *pool;
        verify_tag_name(v, truth_word(&v->host, slots[i]), text, &pool);
        add_word(&pools, pool);
        add_word(&tags, text);
    }
    int rc = end_list(&pools, err);
    rc = rc == PSC_OK ? end_list(&tags, err) : rc;
    const char *const parameters[] = {v->name, (char *)pools.data,
                                      (char *)tags.data};
    PGresult *r = NULL;
    if (rc == PSC_OK) {
        rc = verify_query(
            v,
            "SELECT t.i, (extract(epoch FROM x.at) * 1000000)::bigint, "
            "x.allocs, x.frees, x.outstanding, x.bytes "
            "FROM unnest($2::text[], $3::text[]) WITH ORDINALITY "
            "AS t(pool, tag, i) CROSS JOIN LATERAL poolscope.pool_history($1, "
            "t.pool, t.tag, '2000-01-01Z', '2200-01-01Z') WITH ORDINALITY "
            "AS x(at, allocs, frees, outstanding, bytes, n) "
            "ORDER BY t.i, x.n",
            3, parameters, &r, err);
    }
    int row = 0;
    for (uint32_t i = 0; rc == PSC_OK && i < n; i++) {
        compare_tag(v, r, (int)i + 1, truth_word(&v->host, slots[i]), &row);
    }
    PQclear(r);
    psc_buf_fini(&pools);
    psc_buf_fini(&tags);
    return rc;
}

int verify_histories(struct verify *v, struct psc_error *err)
{
    int rc = PSC_OK;
    for (uint32_t i = 0; i < v->n_slots && rc == PSC_OK; i += TOGETHER) {
        uint32_t left = v->n_slots - i;
        rc = compare_tags(v, v->slots + i, left < TOGETHER ? left : TOGETHER,
                          err);
    }
    return rc;
}

/* --- counters --- */

static double real_of(const struct verify *v, uint32_t counter, uint64_t k)
{
    struct truth_boot boot;
    truth_boot_at(&v->host, k, &boot);
    int64_t value = truth_counter_at(&v->host, &boot, counter, k);
    double real = (double)value;
    if ((truth_counter_flags(counter) & ENTRY_REAL) != 0) {
        memcpy(&real, &value, sizeof(real));
    }
    return real;
}

static bool is_real(const PGresult *r, int row, int column, double want)
{
    double there = strtod(PQgetvalue(r, row, column), NULL);
    return PQgetisnull(r, row, column) == 0 && !(there < want) &&
           !(there > want);
}

static void compare_counter(struct verify *v, const PGresult *r,
                            uint32_t counter)
{
    int n = PQntuples(r);
    for (uint32_t i = 0; i < v->n_rows; i++) {
        double want = real_of(v, counter, v->rows[i].k);
        bool there = (int64_t)i < n &&
                     verify_int(r, (int)i, 0) == v->rows[i].at_us &&
                     is_real(r, (int)i, 1, want);
        v->counts.values++;
        if (!there) {
            verify_complain(
                v, &v->counts.wrong,
                "counter %u in snapshot %" PRIu64 " is \"%s\", not %.17g",
                counter, v->rows[i].k,
                (int64_t)i < n ? PQgetvalue(r, (int)i, 1) : "", want);
        }
    }
    if (n > (int64_t)v->n_rows) {
        verify_complain(v, &v->counts.doubled, "counter %u has %d rows more",
                        counter, n - (int)v->n_rows);
    }
}

static bool is_chosen(const struct verify *v, uint32_t counter)
{
    return v->options->verify_tags == 0 || counter < 16 ||
           (counter + v->host.number) % 16 == 0;
}

int verify_counters(struct verify *v, struct psc_error *err)
{
    int rc = PSC_OK;
    for (uint32_t c = 0; c < v->truth.s.n_counters && rc == PSC_OK; c++) {
        uint8_t key[TRUTH_KEY_MAX + 1];
        if (!is_chosen(v, c)) {
            continue;
        }
        key[truth_counter_key(&v->host, c, key)] = '\0';
        const char *name = (char *)key;
        const char *const parameters[] = {v->name, name,
                                          name + strlen(name) + 1};
        PGresult *r;
        rc = verify_query(v,
                          "SELECT (extract(epoch FROM at) * 1000000)::bigint,"
                          " value FROM poolscope.counter_history($1, $2, $3, "
                          "'2000-01-01Z', '2200-01-01Z')",
                          3, parameters, &r, err);
        if (rc == PSC_OK) {
            compare_counter(v, r, c);
            PQclear(r);
        }
    }
    return rc;
}

/* --- hours of counters --- */

struct span {
    double first, last, min, max, sum;
    uint32_t n;
};

static struct span span_of(const struct verify *v, uint32_t counter,
                           uint32_t from, uint32_t to)
{
    struct span s = {.n = to - from};
    for (uint32_t i = from; i < to; i++) {
        double x = real_of(v, counter, v->rows[i].k);
        s.first = i == from ? x : s.first;
        s.min = i == from || x < s.min ? x : s.min;
        s.max = i == from || x > s.max ? x : s.max;
        s.last = x;
        s.sum += x;
    }
    return s;
}

static bool fits(const PGresult *r, int row, const struct span *s)
{
    double mean = strtod(PQgetvalue(r, row, 1), NULL);
    double want = s->sum / s->n;
    double slack = 1e-9 * (want < 0 ? -want : want) + 1e-9;
    return is_real(r, row, 2, s->first) && is_real(r, row, 3, s->last) &&
           is_real(r, row, 4, s->min) && is_real(r, row, 5, s->max) &&
           mean >= want - slack && mean <= want + slack;
}

static void compare_counter_hours(struct verify *v, const PGresult *r,
                                  uint32_t counter)
{
    int row = 0;
    for (uint32_t from = 0, to; from < v->n_rows; from = to) {
        int64_t hour = v->rows[from].at_us / 3600000000;
        for (to = from;
             to < v->n_rows && v->rows[to].at_us / 3600000000 == hour;) {
            to++;
        }
        struct span s = span_of(v, counter, from, to);
        v->counts.values++;
        bool there = row < PQntuples(r) && verify_int(r, row, 0) == hour;
        if (!there || !fits(r, row, &s)) {
            verify_complain(v, &v->counts.wrong,
                            "counter %u, hour of snapshot %" PRIu64 ": %s",
                            counter, v->rows[from].k,
                            there ? "differs" : "not there");
        }
        row += there ? 1 : 0;
    }
    if (row < PQntuples(r)) {
        verify_complain(v, &v->counts.wrong, "counter %u has hours more",
                        counter);
    }
}

int verify_counter_hours(struct verify *v, struct psc_error *err)
{
    int rc = PSC_OK;
    for (uint32_t c = 0; c < 4 && rc == PSC_OK; c++) { /* one of each sort */
        uint8_t key[TRUTH_KEY_MAX + 1];
        key[truth_counter_key(&v->host, c, key)] = '\0';
        const char *name = (char *)key;
        const char *const parameters[] = {v->name, name,
                                          name + strlen(name) + 1};
        PGresult *r;
        rc = verify_query(v,
                          "SELECT (extract(epoch FROM at) / 3600)::bigint, "
                          "value, first_value, last_value, min_value, "
                          "max_value FROM poolscope.counter_hour WHERE host = "
                          "$1 AND counter = $2 AND instance = $3 ORDER BY at",
                          3, parameters, &r, err);
        if (rc == PSC_OK) {
            compare_counter_hours(v, r, c);
            PQclear(r);
        }
    }
    return rc;
}
