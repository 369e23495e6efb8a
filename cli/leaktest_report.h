/* What a leak test tells: the plan, its progress, the end, for people and as
 * JSON. */
#ifndef PSC_CLI_LEAKTEST_REPORT_H
#define PSC_CLI_LEAKTEST_REPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "cli/leaktest_plan.h"

/* A test's facts, filled as it goes. */
struct leak_report {
    const char *kind;
    int64_t bytes_per_s;     /* asked */
    int64_t limit_bytes;     /* in force */
    int64_t for_us;          /* asked; 0: until stopped */
    int64_t available_bytes; /* when it began */
    const struct leak_plan *plan;
    int workers;
    int64_t started_wall_us; /* first object */
    int64_t grown_us;        /* growing took so long */
    int64_t elapsed_us;      /* from the first object to now or the end */
    int64_t objects;         /* now, or when it ended */
    int64_t held_before[LEAK_SHARES_MAX]; /* bytes by share, at the start */
    int64_t held[LEAK_SHARES_MAX];        /* now, or before the release */
    int64_t held_after[LEAK_SHARES_MAX];  /* after the release */
    bool measured;                        /* the tags can be read (slabinfo) */
    const char *ended_by; /* "time", "signal", "memory", "failure" */
};

/* Bytes that the test has made, by what its objects cost. */
int64_t leak_report_bytes(const struct leak_report *r);

/* Bytes by which the counted tags have grown since the start. */
int64_t leak_report_grown(const struct leak_report *r);

void leak_report_plan(const struct leak_report *r, FILE *out);
/* A line of progress; on a terminal (@tty) it overwrites the last one. */
void leak_report_progress(const struct leak_report *r, bool tty, FILE *out);
void leak_report_end(const struct leak_report *r, FILE *out);
PSC_MUST_CHECK int leak_report_json(const struct leak_report *r, FILE *out);

#endif
