/* For truth*.c: what a tag of the vocabulary is, and when it changes. */
#ifndef PSC_TESTS_BENCH_FLEETSIM_TRUTH_PRIVATE_H
#define PSC_TESTS_BENCH_FLEETSIM_TRUTH_PRIVATE_H

#include "tests/bench/fleetsim/truth.h"
#include "tests/bench/fleetsim/truth_hash.h"

/* How often it changes; apart, since this is asked for all tags of a host in
 * each snapshot. */
struct truth_pace {
    uint32_t rate;  /* in 2^-32 of a snapshot; all with a shift */
    uint32_t shift; /* one change in 2^so many snapshots; 0: by rate */
};

struct truth_kind {
    uint8_t quick, middle, slow; /* amplitude: level >> these */
    bool fleeting;               /* comes and goes */
    bool mixed;                  /* objects of several sizes */
    uint8_t churn;               /* allocated and freed again: quick << this */
    uint32_t level;              /* objects, about */
    uint32_t size;               /* bytes of one */
};

/* Whether a tag changes in snapshot @k, where @row is of its changes. */
static inline bool truth_changes(const struct truth_pace *pace, uint64_t row,
                                 uint64_t k)
{
    uint64_t hash = hash_at(row, k >> pace->shift);
    uint64_t mask = (UINT64_C(1) << pace->shift) - 1;
    /* One of the two is always so; no branch, which could not be foretold. */
    return (hash >> 32 <= pace->rate) & (((hash ^ k) & mask) == 0);
}

#endif
