/* The checker: what SQL says of a simulated fleet against what was sent.
 *
 * Of each host it first reads the tag that holds the snapshot's number, and so
 * learns which rows are which snapshots; then it compares the others. A sample
 * that was acknowledged must be there, one that was sent and not acknowledged
 * may be, and none may be there twice or with anything else in it. */
#ifndef PSC_TESTS_BENCH_FLEETSIM_VERIFY_H
#define PSC_TESTS_BENCH_FLEETSIM_VERIFY_H

#include <libpq-fe.h>

#include "tests/bench/fleetsim/options.h"
#include "tests/bench/fleetsim/state.h"

/* Problems are counted, and the first few printed. */
struct verify_counts {
    uint64_t hosts, samples, values; /* compared */
    uint64_t missing; /* acknowledged samples that are not there */
    uint64_t doubled; /* samples that are there again */
    uint64_t wrong;   /* rows or values that differ from the truth */
    uint64_t late;    /* samples whose time is off by more than tolerated */
    uint64_t unacked; /* samples that are there and were not acknowledged:
                         no problem */
};

/* A snapshot as the database has it. */
struct verify_row {
    uint64_t k;
    int64_t at_us;
};

struct verify {
    const struct sim_options *options; /* borrowed */
    struct truth truth;
    struct state state;
    PGconn *sql;
    uint8_t **acked; /* by host: a bit for each snapshot; owned */
    uint64_t *n_bits;
    struct verify_counts counts;
    unsigned printed;

    /* Of the host at hand. */
    struct truth_host host;
    char name[STATE_HOST_MAX];
    struct verify_row *rows; /* in order of n; owned */
    uint32_t n_rows;
    uint32_t *slots; /* of the tags to compare in full; owned */
    uint32_t n_slots;
};

/* Compare; prints what was found and *@good says whether all is right. */
PSC_MUST_CHECK int verify_run(const struct sim_options *o, bool *good,
                              struct psc_error *err);

/* --- verify_tables.c, verify_history.c: parts, of the host at hand --- */

PSC_MUST_CHECK int verify_histories(struct verify *v, struct psc_error *err);
PSC_MUST_CHECK int verify_counters(struct verify *v, struct psc_error *err);
PSC_MUST_CHECK int verify_now(struct verify *v, struct psc_error *err);
PSC_MUST_CHECK int verify_hours(struct verify *v, struct psc_error *err);
PSC_MUST_CHECK int verify_counter_hours(struct verify *v,
                                        struct psc_error *err);
PSC_MUST_CHECK int verify_boots(struct verify *v, struct psc_error *err);
PSC_MUST_CHECK int verify_drivers(struct verify *v, struct psc_error *err);

/* --- verify.c, for those --- */

/* How far a time may be off: clocks are compared through busy programs. */
int64_t verify_slack_us(const struct verify *v);

/* Count a problem in *@counter, and say it. */
void verify_complain(struct verify *v, uint64_t *counter, const char *fmt, ...)
    PSC_PRINTF(3, 4);

/* Run a query with text parameters. The caller clears *@result. */
PSC_MUST_CHECK int verify_query(struct verify *v, const char *sql, int n,
                                const char *const *parameters,
                                PGresult **result, struct psc_error *err);

/* A bigint of a result; 0 for NULL. */
int64_t verify_int(const PGresult *result, int row, int column);

/* The part of a tag's key behind its pool, and the pool's name. */
void verify_tag_name(const struct verify *v, uint32_t word,
                     char text[TRUTH_KEY_MAX], const char **pool);

#endif
