/* The checker's frame: what was acknowledged, host by host, the summary.
 *
 * Happy path: verify_run() reads `acked` into a bitmap a host, then for each
 * host learn_rows() finds which rows are which snapshots, and the parts compare
 * the rest. */
#include "tests/bench/fleetsim/verify.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"

enum { PRINTED_MAX = 40, EXTRA_BITS = 4096 };

#define BITS_MAX (UINT64_C(1) << 32) /* snapshots of a host */

void verify_complain(struct verify *v, uint64_t *counter, const char *fmt, ...)
{
    va_list args;
    ++*counter;
    if (v->printed++ >= PRINTED_MAX) {
        return;
    }
    (void)printf("%s: ", v->name);
    va_start(args, fmt);
    (void)vprintf(fmt, args);
    va_end(args);
    (void)putchar('\n');
    if (v->printed == PRINTED_MAX) {
        (void)puts("… and so on");
    }
}

int verify_query(struct verify *v, const char *sql, int n,
                 const char *const *parameters, PGresult **result,
                 struct psc_error *err)
{
    *result = PQexecParams(v->sql, sql, n, NULL, parameters, NULL, NULL, 0);
    if (PQresultStatus(*result) != PGRES_TUPLES_OK) {
        (void)psc_error_set(err, PSC_DATABASE, "%s: %s", v->name,
                            PQerrorMessage(v->sql));
        PQclear(*result);
        *result = NULL;
        return PSC_DATABASE;
    }
    return PSC_OK;
}

int64_t verify_int(const PGresult *result, int row, int column)
{
    return strtoll(PQgetvalue(result, row, column), NULL, 10);
}

void verify_tag_name(const struct verify *v, uint32_t word,
                     char text[TRUTH_KEY_MAX], const char **pool)
{
    uint8_t key[TRUTH_KEY_MAX];
    size_t len = truth_tag_key(&v->host, word, key);
    memcpy(text, key + 1, len - 1);
    text[len - 1] = '\0';
    *pool = pool_name((enum pool)key[0]);
}

/* --- what was acknowledged --- */

static bool bit(const struct verify *v, uint32_t host, uint64_t k)
{
    return k < v->n_bits[host] && (v->acked[host][k / 8] >> k % 8 & 1) != 0;
}

static void on_ack(void *user, uint32_t host, uint64_t k)
{
    struct verify *v = user;
    if (host >= v->state.n_identities || k >= BITS_MAX) {
        return;
    }
    if (k >= v->n_bits[host]) {
        uint64_t n = (k + k / 2 + EXTRA_BITS) & ~UINT64_C(7);
        uint8_t *grown = realloc(v->acked[host], n / 8);
        if (grown == NULL) {
            return;
        }
        memset(grown + v->n_bits[host] / 8, 0, (n - v->n_bits[host]) / 8);
        v->acked[host] = grown;
        v->n_bits[host] = n;
    }
    v->acked[host][k / 8] |= (uint8_t)(1u << k % 8);
}

static int read_acked(struct verify *v, struct psc_error *err)
{
    size_t n = v->state.n_identities;
    v->acked = calloc(n + 1, sizeof(*v->acked));
    v->n_bits = calloc(n + 1, sizeof(*v->n_bits));
    if (v->acked == NULL || v->n_bits == NULL) {
        return psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    return state_read_acks(&v->state, on_ack, v, err);
}

/* --- which rows are which snapshots --- */

int64_t verify_slack_us(const struct verify *v)
{
    int64_t slack_us = v->truth.s.interval_us / 4;
    return slack_us > PSC_US_PER_S ? slack_us : PSC_US_PER_S;
}

/* A row says it is snapshot @k: can it be? */
static void judge_row(struct verify *v, uint64_t k, int64_t at_us)
{
    int64_t taken_us = state_time_us(&v->state, &v->host, k);
    int64_t slack_us = verify_slack_us(v);
    if (taken_us == 0 || !truth_taken(&v->host, k)) {
        verify_complain(v, &v->counts.wrong,
                        "snapshot %" PRIu64 " was never taken", k);
    } else if (at_us < taken_us - slack_us || at_us > taken_us + slack_us) {
        verify_complain(v, &v->counts.late,
                        "snapshot %" PRIu64 " is %.3f s off in time", k,
                        (double)(at_us - taken_us) / 1e6);
    }
    v->counts.unacked += bit(v, v->host.number, k) ? 0 : 1;
}

static void find_missing(struct verify *v, uint64_t from, uint64_t to)
{
    for (uint64_t k = from; k < to; k++) {
        if (bit(v, v->host.number, k)) {
            verify_complain(
                v, &v->counts.missing,
                "snapshot %" PRIu64 " was acknowledged and is not there", k);
        }
    }
}

static void take_rows(struct verify *v, const PGresult *r)
{
    uint64_t next = 0; /* snapshot */
    int64_t last_at_us = INT64_MIN;
    v->n_rows = 0;
    for (int i = 0; i < PQntuples(r); i++) {
        uint64_t k = (uint64_t)verify_int(r, i, 1) - 1;
        int64_t at_us = verify_int(r, i, 0);
        v->counts.samples++;
        if (at_us <= last_at_us) {
            verify_complain(v, &v->counts.wrong,
                            "snapshot %" PRIu64 " is not later than the one "
                            "before",
                            k);
        }
        last_at_us = at_us;
        if (v->n_rows > 0 && k < next) {
            verify_complain(v, &v->counts.doubled,
                            "snapshot %" PRIu64 " comes again or too late", k);
            continue;
        }
        judge_row(v, k, at_us);
        find_missing(v, next, k < BITS_MAX ? k : next);
        next = k + 1;
        v->rows[v->n_rows++] = (struct verify_row){k, at_us};
    }
    find_missing(v, next, v->n_bits[v->host.number]);
}

static int learn_rows(struct verify *v, struct psc_error *err)
{
    char tag[TRUTH_KEY_MAX];
    const char *pool;
    verify_tag_name(v, 0, tag, &pool);
    const char *const parameters[] = {v->name, pool, tag};
    PGresult *r;
    int rc = verify_query(v,
                          "SELECT (extract(epoch FROM at) * 1000000)::bigint,"
                          " outstanding FROM poolscope.pool_history($1, $2, "
                          "$3, '2000-01-01Z', '2200-01-01Z')",
                          3, parameters, &r, err);
    if (rc != PSC_OK) {
        return rc;
    }
    size_t n = (size_t)PQntuples(r) + 1;
    struct verify_row *rows = realloc(v->rows, n * sizeof(*rows));
    if (rows == NULL) {
        rc = psc_error_set(err, PSC_NOMEM, "out of memory");
    } else {
        v->rows = rows;
        take_rows(v, r);
    }
    PQclear(r);
    return rc;
}

/* --- hosts --- */

/* Slots to compare in full: all, or some, evenly spread from a start that
 * differs from host to host; slots 0 and those of leaks always. */
static void choose_slots(struct verify *v)
{
    uint32_t n = v->truth.s.n_tags;
    uint64_t want = (uint64_t)v->options->verify_tags;
    uint64_t every = want > 0 && want < n ? n / want : 1;
    v->n_slots = 0;
    for (uint32_t slot = 0; slot < n; slot++) {
        if (slot <= v->truth.s.n_leaks ||
            (slot + v->host.number) % every == 0) {
            v->slots[v->n_slots++] = slot;
        }
    }
}

static int verify_host(struct verify *v, uint32_t number, struct psc_error *err)
{
    static int (*const parts[])(struct verify * v, struct psc_error * err) = {
        verify_histories,     verify_counters, verify_now,     verify_hours,
        verify_counter_hours, verify_boots,    verify_drivers,
    };
    truth_host_init(&v->host, &v->truth, number);
    state_host_name(&v->state, number, v->name);
    choose_slots(v);
    v->counts.hosts++;
    int rc = learn_rows(v, err);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (rc == PSC_OK && v->n_rows > 0) {
            rc = parts[i](v, err);
        }
    }
    return rc;
}

static int verify_hosts(struct verify *v, struct psc_error *err)
{
    uint64_t n = 0, at = 0;
    for (uint32_t i = 0; i < v->state.n_identities; i++) {
        n += state_enrolled(&v->state, i) ? 1 : 0;
    }
    uint64_t want = (uint64_t)v->options->verify_hosts;
    uint64_t every = want > 0 && want < n ? n / want : 1;
    int rc = PSC_OK;
    for (uint32_t i = 0; i < v->state.n_identities && rc == PSC_OK; i++) {
        if (state_enrolled(&v->state, i) && at++ % every == 0) {
            rc = verify_host(v, i, err);
        }
    }
    return rc;
}

/* --- the whole --- */

static int connect_database(struct verify *v, struct psc_error *err)
{
    struct database_options database = v->options->database;
    char *conninfo = NULL;
    database.data_dir = database.data_dir ? strdup(database.data_dir) : NULL;
    database.dsn = database.dsn ? strdup(database.dsn) : NULL;
    database.must_exist = true;
    int rc = database_options_resolve(&database, err);
    if (rc == PSC_OK) {
        rc = database_conninfo(&database, DATABASE_READER, &conninfo, err);
    }
    if (rc == PSC_OK) {
        v->sql = PQconnectdb(conninfo);
        if (PQstatus(v->sql) != CONNECTION_OK) {
            rc = psc_error_set(err, PSC_DATABASE, "%s", PQerrorMessage(v->sql));
        }
    }
    free(conninfo);
    database_options_fini(&database);
    return rc;
}

static int prepare(struct verify *v, struct psc_error *err)
{
    int rc = state_open(&v->state, v->options->state, NULL, NULL, err);
    if (rc == PSC_OK) {
        rc = truth_init(&v->truth, &v->state.settings, err);
    }
    if (rc == PSC_OK) {
        rc = read_acked(v, err);
    }
    if (rc == PSC_OK) {
        v->slots = calloc(v->truth.s.n_tags, sizeof(*v->slots));
        rc = v->slots != NULL ? connect_database(v, err)
                              : psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    return rc;
}

static void print_counts(const struct verify_counts *c, bool good)
{
    (void)printf("hosts compared          %" PRIu64 "\n"
                 "samples there           %" PRIu64 ", %" PRIu64
                 " of them never acknowledged\n"
                 "values compared         %" PRIu64 "\n"
                 "missing samples         %" PRIu64 "\n"
                 "doubled samples         %" PRIu64 "\n"
                 "wrong values or rows    %" PRIu64 "\n"
                 "samples off in time     %" PRIu64 "\n",
                 c->hosts, c->samples, c->unacked, c->values, c->missing,
                 c->doubled, c->wrong, c->late);
    (void)puts(good ? "complete: all that was acknowledged is there, once, "
                      "as it was sent"
                    : "NOT complete");
}

static void finish(struct verify *v)
{
    for (uint32_t i = 0; v->acked != NULL && i < v->state.n_identities; i++) {
        free(v->acked[i]);
    }
    free(v->acked);
    free(v->n_bits);
    free(v->rows);
    free(v->slots);
    PQfinish(v->sql);
    truth_fini(&v->truth);
    state_close(&v->state);
}

int verify_run(const struct sim_options *o, bool *good, struct psc_error *err)
{
    struct verify v = {.options = o};
    int rc = prepare(&v, err);
    if (rc == PSC_OK) {
        rc = verify_hosts(&v, err);
    }
    const struct verify_counts *c = &v.counts;
    *good = rc == PSC_OK && c->hosts > 0 && c->missing == 0 &&
            c->doubled == 0 && c->wrong == 0 && c->late == 0;
    if (rc == PSC_OK) {
        print_counts(c, *good);
    }
    finish(&v);
    return rc;
}
