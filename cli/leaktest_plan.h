/* What a leak test will do: what one object costs in which caches, measured
 * by readings taken around equal batches of objects, and how many objects are
 * due when. Pure: no clock, no I/O. */
#ifndef PSC_CLI_LEAKTEST_PLAN_H
#define PSC_CLI_LEAKTEST_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cli/reading.h"

#define LEAK_SHARES_MAX 24

/* One tag that grows with each object. */
struct leak_share {
    enum pool pool;
    char tag[160];
    double object_bytes; /* bytes that an object costs here */
    double share;        /* of the plan's object_bytes, 0 to 1 */
    int64_t free_bytes;  /* that fill up before the tag grows */
    bool counted;        /* false: the same memory seen by another accounting
                            (allocinfo), so not part of the sum */
};

struct leak_plan {
    struct leak_share shares[LEAK_SHARES_MAX]; /* the largest first */
    size_t n_shares;
    double object_bytes; /* sum over what is counted */
};

#define LEAK_ROUNDS   6
#define LEAK_READINGS (2 * LEAK_ROUNDS + 1)

/* Find what grows with the objects. Each round has three of the LEAK_READINGS
 * readings in @r: its first and second with nothing done in between, then the
 * third, which is the next round's first, after @objects more objects; what
 * grows while nothing is done is no object's doing. Where the last reading
 * has slot_bytes, objects are counted rather than pages, since a cache fills
 * what it has free before it takes pages. Of each tag the median of
 * the rounds counts, if they agree at all, and it has 1 % of the sum.
 * @unaccounted says whether the residual of pool "pages" belongs to the leak
 * (it is too noisy to be judged otherwise). Returns 0, or PSC_FORMAT with a
 * message when nothing grew. */
PSC_MUST_CHECK int leak_plan_measure(struct leak_plan *plan,
                                     const struct reading r[LEAK_READINGS],
                                     int64_t objects, bool unaccounted,
                                     struct psc_error *err);

/* Objects that must exist @elapsed_us after the start, at most @max. Counted
 * from the start, so that errors never add up. */
int64_t leak_plan_due(const struct leak_plan *plan, int64_t bytes_per_s,
                      int64_t elapsed_us, int64_t max);

/* How much of the plan's tags a reading holds (what is counted only). */
int64_t leak_plan_held(const struct leak_plan *plan, const struct reading *r);

/* Bytes that one tag of the plan holds in a reading. */
int64_t leak_share_held(const struct leak_share *share,
                        const struct reading *r);

/* Set the share's free_bytes from a reading with slots. */
void leak_share_note_free(struct leak_share *share, const struct reading *r);

/* The most that may be leaked: @percent of @available_bytes. *@limit_bytes is
 * what the user asked (0: nothing) and becomes what holds. Returns
 * PSC_CONFIG with a message when the user asked for more. */
PSC_MUST_CHECK int leak_ceiling(int64_t available_bytes, int percent,
                                int64_t *limit_bytes, struct psc_error *err);

#endif
