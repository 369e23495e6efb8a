/* Figures of a run: counts, and distributions of times. Pure. */
#ifndef PSC_TESTS_BENCH_FLEETSIM_STATS_H
#define PSC_TESTS_BENCH_FLEETSIM_STATS_H

#include <stdint.h>

/* A histogram of microseconds: 16 buckets to each power of two. */
#define TIMES_BUCKETS (64u * 16u)
struct times {
    uint64_t buckets[TIMES_BUCKETS];
    uint64_t n;
    int64_t max_us;
};
void times_add(struct times *t, int64_t us);

/* The time that @share of all do not exceed, to 6 %; 0 without any. */
int64_t times_share(const struct times *t, double share);

struct stats {
    uint64_t samples, batches, bytes;    /* sent; of payload */
    uint64_t keyframes, cells, repeated; /* repeated: sent again */
    uint64_t changed, values;            /* cells of deltas that changed, and
                                            values in them that travel */
    uint64_t acked;                      /* samples */
    uint64_t by_cursor;                  /* of these, told by a Cursor only */
    uint64_t lost;                       /* acknowledged, and the Cursor knows
                                            nothing of them */
    uint64_t tries;                      /* connections begun */
    uint64_t sessions, drops, refusals, need_keyframes, reboots;
    uint64_t resumed;       /* sessions whose TLS session was */
    struct times ack;       /* from sending to the acknowledgement */
    struct times reconnect; /* from a drop to the Cursor */
    struct times caught_up; /* to all that was due being acknowledged */
    int64_t encode_ns;      /* CPU time of encoding, encryption included */
};

/* Leave of @s what has come since it was @before. */
void stats_since(struct stats *s, const struct stats *before);

#endif
