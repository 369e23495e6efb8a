/* What one host's stream knows: the dictionary and the values of the sample
 * that was encoded last. 37 bytes a tag, for there are thousands of hosts.
 * Pure. */
#ifndef PSC_TESTS_BENCH_FLEETSIM_POSITION_H
#define PSC_TESTS_BENCH_FLEETSIM_POSITION_H

#include "tests/bench/fleetsim/truth.h"

#define POSITION_ROW_BYTES (TABLE_COLUMNS_MAX * sizeof(int64_t))

struct position {
    bool known;        /* there is a sample, and all below holds */
    uint64_t k;        /* its snapshot */
    uint64_t boot;     /* number of its boot */
    uint64_t base_seq; /* its last batch */
    uint32_t n;        /* entries of the dictionary */
    uint32_t *words;   /* which tag each is; owned, as the next ones */
    uint8_t *live;     /* whether it is there */
    int64_t *tags;     /* TABLE_COLUMNS_MAX values each */
    int64_t *counters; /* in their order */
    uint64_t delta_bytes, keyframe_bytes; /* since, and of, the keyframe */
    int64_t keyframe_hour;                /* of its capture, by wall clock */
};

PSC_MUST_CHECK int position_init(struct position *p, const struct truth *t);
void position_fini(struct position *p);

/* Bring it to snapshot @k of @boot. @scratch has room for a number more than
 * the host has tags. Returns whether a delta can tell it: the entries are
 * those of before, perhaps with some behind them. */
bool position_advance(struct position *p, uint32_t *scratch,
                      const struct truth_host *h, const struct truth_boot *boot,
                      uint64_t k);

/* Forget what is not there, as a keyframe does. */
void position_compact(struct position *p);

#endif
