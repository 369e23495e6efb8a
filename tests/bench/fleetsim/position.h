/* What one host's stream knows: the dictionary and the values of the sample
 * that was encoded last. Values are packed, since there are thousands of
 * hosts: 27 bytes a tag on Windows, 19 on Linux. Pure. */
#ifndef PSC_TESTS_BENCH_FLEETSIM_POSITION_H
#define PSC_TESTS_BENCH_FLEETSIM_POSITION_H

#include "tests/bench/fleetsim/truth.h"

#define POSITION_ROW_BYTES (TABLE_COLUMNS_MAX * sizeof(int64_t))

struct position {
    bool known;        /* there is a sample, and all below holds */
    bool counts;       /* tags have allocs and frees */
    uint64_t k;        /* its snapshot */
    uint64_t boot;     /* number of its boot */
    uint64_t base_seq; /* its last batch */
    uint32_t n;        /* entries of the dictionary */
    uint16_t *words;   /* which tag each is; owned, as the next ones */
    uint8_t *live;     /* whether it is there */
    int64_t *tags;     /* allocs, frees, bytes or outstanding, bytes of each */
    int64_t *counters; /* in their order */
    uint64_t delta_bytes, keyframe_bytes; /* since, and of, the keyframe */
    int64_t keyframe_span;                /* in which it was captured */
};

PSC_MUST_CHECK int position_init(struct position *p,
                                 const struct truth_host *h);
void position_fini(struct position *p);

/* Where to bring a position, and what that took. The rows, of
 * TABLE_COLUMNS_MAX values an entry, are all zeros before and after: only the
 * entries that change are put there, so that a step costs what changes. */
struct position_step {
    const struct truth_host *host;
    const struct truth_boot *boot; /* of snapshot k */
    uint64_t k;
    int64_t *now, *sent; /* rows after, and before */
    uint32_t *touched;   /* entries with rows; room for all tags of a host */
    uint32_t n_touched;
    uint8_t *is_touched; /* by entry; zeros before and after */
    uint32_t *scratch;   /* with room for a number more */
    bool near;           /* out: what position_advance() returned */
    uint32_t n_before;   /* entries before */
    uint64_t changed;    /* out: cells that differ from before */
    uint64_t values;     /* out: values in them that differ and travel */
};

/* Bring it to snapshot @s->k. Returns whether a delta can tell it: the entries
 * are those of before, perhaps with some behind them, and those with rows have
 * changed. */
bool position_advance(struct position *p, struct position_step *s);

/* Make the rows zeros again. */
void position_clear(struct position_step *s);

/* The rows of all entries into @rows. */
void position_unpack(const struct position *p, int64_t *rows);

/* Forget what is not there, as a keyframe does. */
void position_compact(struct position *p);

#endif
