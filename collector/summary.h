/* A host's day, or month, as a summary: a chunk whose snapshots are hours, or
 * days. Pure.
 *
 * Of tags, 4 columns, two entries each:
 *   id 2t      allocs: least bytes; outstanding: the last; bytes: the last
 *   id 2t + 1  allocs: first bytes; outstanding: mean bytes; bytes: greatest
 * Of counters, 1 column, doubles, five entries each, id 8c + SUMMARY_….
 *
 * Statistics are over the samples that have the tag, each counted once; a
 * day's mean is that of its hours, each by its samples. A snapshot's n is
 * hours (days) since 2000, at and wall are its beginning.
 *
 * Happy path: summary_begin_day, summary_add for every chunk of samples,
 * summary_finish; or summary_begin_month, summary_add_day for every day. The
 * order does not matter. Memory is kept for the next one. */
#ifndef PSC_COLLECTOR_SUMMARY_H
#define PSC_COLLECTOR_SUMMARY_H

#include "common/map.h"
#include "sql/codec/chunk_runs.h"
#include "sql/codec/chunk_writer.h"

enum {
    SUMMARY_HOURS = 24,     /* of a day */
    SUMMARY_STEPS_MAX = 31, /* hours of a day, or days of a month */
};

/* Entries of a counter, of SUMMARY_IDS ids. */
enum {
    SUMMARY_MIN,
    SUMMARY_LAST,
    SUMMARY_FIRST,
    SUMMARY_MEAN,
    SUMMARY_MAX,
    SUMMARY_VALUES,
    SUMMARY_IDS = 8,
};

struct summary {
    uint32_t columns; /* 4 tags, 1 counters */
    int64_t from_us;  /* beginning of the day or month */
    int64_t step_us;  /* an hour or a day */
    uint32_t steps;
    uint32_t snapshots[SUMMARY_STEPS_MAX]; /* samples in each */
    struct psc_map ids;                    /* of 4 bytes */
    struct summary_stat *stats;            /* steps of them an id; owned */
    uint32_t cap;                          /* ids that stats has room for */
    struct chunk_writer writer;
    struct chunk_clock clock; /* scratch */
};

/* Summaries of tags (@columns 4) or of counters (1). @digest is borrowed. */
void summary_init(struct summary *s, uint32_t columns,
                  const struct chunk_digest *digest);
void summary_fini(struct summary *s);

/* Begin with nothing: the 24 hours from @day_us on. */
void summary_begin_day(struct summary *s, int64_t day_us);

/* Begin with nothing: @days days from @month_us on. */
void summary_begin_month(struct summary *s, int64_t month_us, uint32_t days);

/* Add what a chunk of samples has within the day. Returns 0, PSC_NOMEM,
 * PSC_LIMIT (too many ids), PSC_FORMAT or PSC_UNSUPPORTED; after a failure
 * begin anew. */
PSC_MUST_CHECK int summary_add(struct summary *s, struct psc_bytes head,
                               struct psc_bytes levels, struct psc_bytes data,
                               struct psc_error *err);

/* Add a day, whose hours have @snapshots samples. Returns likewise. */
PSC_MUST_CHECK int summary_add_day(struct summary *s, struct psc_bytes head,
                                   struct psc_bytes levels,
                                   struct psc_bytes data,
                                   const uint32_t snapshots[SUMMARY_HOURS],
                                   struct psc_error *err);

/* What is known of one id in the step that begins at @at_us, from @n samples.
 */
struct summary_fact {
    uint32_t id;
    uint32_t n;
    double first, last, min, max, mean;
    bool has_outstanding;
    int64_t last_outstanding;
};
/* Returns 0, PSC_NOMEM or PSC_LIMIT. */
PSC_MUST_CHECK int summary_put(struct summary *s, int64_t at_us,
                               const struct summary_fact *fact);

/* Pack it; s->snapshots tells how many samples each step has. @out points into
 * @s until the next one. Returns 0, PSC_MISSING (there is nothing in it),
 * PSC_NOMEM, PSC_LIMIT or PSC_UNSUPPORTED. */
PSC_MUST_CHECK int summary_finish(struct summary *s, struct chunk_sections *out,
                                  struct psc_error *err);

#endif
