/* For truth*.c: what a tag of the vocabulary is, and when it changes. */
#ifndef PSC_TESTS_BENCH_FLEETSIM_TRUTH_PRIVATE_H
#define PSC_TESTS_BENCH_FLEETSIM_TRUTH_PRIVATE_H

#include "tests/bench/fleetsim/truth.h"
#include "tests/bench/fleetsim/truth_hash.h"

struct truth_kind {
    uint32_t rate;       /* of changes, in 2^-32 of a snapshot */
    uint8_t block_shift; /* one change in 2^so many snapshots; 0: by rate */
    uint8_t quick, middle, slow; /* amplitude: level >> these */
    bool fleeting;               /* comes and goes */
    bool mixed;                  /* objects of several sizes */
    bool reclaimable;
    uint8_t churn;  /* allocated and freed again: quick << this */
    uint32_t level; /* objects, about */
    uint32_t size;  /* bytes of one */
};

/* Whether a tag changes in snapshot @k, where @row is of its changes. */
static inline bool truth_changes(const struct truth_kind *kind, uint64_t row,
                                 uint64_t k)
{
    unsigned shift = kind->block_shift;
    if (shift == 0) {
        return hash_at(row, k) >> 32 <= kind->rate;
    }
    return ((hash_at(row, k >> shift) ^ k) & ((UINT64_C(1) << shift) - 1)) == 0;
}

#endif
