/* What detection keeps of one tag of one host: its last value, the minimum of
 * the present window at two scales, a ring of slow minima, and a record of
 * the levels it has held. A ring of fast minima (struct mover) exists only
 * while the floor rises. Pure, no allocation. */
#ifndef PSC_DETECT_SERIES_H
#define PSC_DETECT_SERIES_H

#include <stdbool.h>
#include <stdint.h>

#include "collector/detect/trend.h"

#define SERIES_SLOW  20 /* slow minima kept: five days of six hours */
#define SERIES_FAST  16 /* fast minima kept of a series that moves */
#define SERIES_STILL UINT32_MAX

enum {
    SERIES_RECLAIMABLE = 1 << 0, /* the kernel can shrink it */
    SERIES_GENERIC = 1 << 1,     /* belongs to nobody in particular */
    SERIES_GONE = 1 << 2,        /* not in the host's snapshots any more */
    SERIES_FOUND = 1 << 3,       /* in an open finding */
};

struct series {
    int64_t last;            /* bytes as of the last snapshot */
    uint32_t id;             /* the store's id of pool and tag */
    uint32_t mover;          /* index of its fast ring, or SERIES_STILL */
    float fast_min;          /* of the present windows so far; NAN: nothing */
    float slow_min;          /* has changed since they began */
    float floor;             /* of the last closed fast window; NAN: none */
    float peak;              /* highest fast floor before the fast ring */
    float slow_peak;         /* highest and lowest slow floor before the slow */
    float slow_trough;       /* ring; -1 and INFINITY: none yet */
    uint8_t flags;           /* SERIES_… */
    uint8_t pool;            /* enum pool */
    uint8_t fast_seen;       /* fast windows closed in this boot, up to 255 */
    uint8_t slow_seen;       /* slow windows closed in this boot, up to 255 */
    uint8_t n_slow;          /* in the ring */
    uint8_t unused[3];       /* explicit padding */
    float slow[SERIES_SLOW]; /* minima of the last slow windows, oldest first */
};
_Static_assert(sizeof(struct series) <= 128, "30 million of these");

/* The fast ring of a series that moves. */
struct mover {
    uint32_t series;      /* whose */
    uint32_t n;           /* minima in the ring */
    float y[SERIES_FAST]; /* oldest first */
};

void series_init(struct series *s, uint32_t id, uint8_t pool);

/* The value of this snapshot. @fast_held and @slow_held say that the present
 * window has earlier snapshots, in which the last value still held. */
void series_set(struct series *s, int64_t bytes, bool fast_held,
                bool slow_held);

/* The host has restarted: windows start from nothing. What it held before
 * stays in the record, so that warm-up below it is no news; an open finding's
 * leak does not count as held. */
void series_boot(struct series *s, const struct mover *m);

/* The present fast window closes: its floor enters @m, the ring (NULL for a
 * still series), or else the record. Returns whether a still series rose
 * above the dead band and should get a ring, to begin with the floors
 * *@before and s->floor. */
bool series_close_fast(struct series *s, struct mover *m, float *before);

/* The present window at a scale is dropped: too few of its samples came. */
void series_drop_fast(struct series *s);
void series_drop_slow(struct series *s);

/* The present slow window closes. */
void series_close_slow(struct series *s);

/* A finding with this series is over; its windows start anew. A leak's levels
 * are not what the host normally holds, so the record goes back to @peak, that
 * before the leak. */
void series_release(struct series *s, float peak);

/* Whether a ring has nothing to tell any more; if so its floors enter the
 * record and the caller frees it. */
bool series_settle(struct series *s, const struct mover *m);

/* Changes within it are no change, in bytes: a few slab pages, or a small
 * share of the level. */
double series_band(double level);

/* The minima as points, with the numbers of the windows in @x[0..n_x). */
void mover_points(const struct mover *m, const double *x, uint32_t n_x,
                  struct trend_points *p);
void series_slow_points(const struct series *s, const double *x, uint32_t n_x,
                        struct trend_points *p);

#endif
