/* How a run goes: a line a second for --course, and the span that the figures
 * at the end are of. */
#ifndef PSC_TESTS_BENCH_FLEETSIM_COURSE_H
#define PSC_TESTS_BENCH_FLEETSIM_COURSE_H

#include <stdio.h>

#include "common/error.h"
#include "tests/bench/fleetsim/stats.h"

struct fleet;

/* The counts at a moment. */
struct course_mark {
    int64_t at_us; /* monotonic; 0: not yet */
    int64_t cpu_us;
    struct stats stats;
};

struct course {
    struct course_mark begin, end; /* of the figures; end: if it was told */
    FILE *file;                    /* of --course, or NULL */
};

/* Open --course and begin the figures. */
PSC_MUST_CHECK int course_start(struct fleet *f, struct psc_error *err);
void course_fini(struct course *c);

/* The figures begin anew now, or end now. */
void course_begin(struct fleet *f);
void course_end(struct fleet *f);

/* Snapshots that were due by now and are not acknowledged, of all hosts. */
uint64_t course_backlog(const struct fleet *f);

/* Write a line if there is a file. */
void course_note(const struct fleet *f);

/* The figures: from their begin to their end, or to now. */
void course_figures(const struct fleet *f, struct course_mark *out);

#endif
