/* An entry of a chunk as runs of snapshots that show the same within one hour:
 * what statistics of hours are made of. Like the reader it allocates nothing
 * and takes bytes from anywhere. */
#ifndef PSC_SQL_CODEC_CHUNK_RUNS_H
#define PSC_SQL_CODEC_CHUNK_RUNS_H

#include "sql/codec/chunk.h"

#define CHUNK_HOUR_US INT64_C(3600000000)

/* The times of a chunk's snapshots. 48 KiB. */
struct chunk_clock {
    uint32_t n; /* snapshots */
    int64_t at_us[CHUNK_SNAPSHOTS_MAX];
    uint32_t hour_end[CHUNK_SNAPSHOTS_MAX]; /* the first snapshot behind this
                                               one that is of another hour */
};

/* The hour (UTC) of a time, by its beginning. */
static inline int64_t chunk_hour(int64_t at_us)
{
    int64_t into = at_us % CHUNK_HOUR_US;
    return at_us - (into < 0 ? into + CHUNK_HOUR_US : into);
}

/* Returns 0 or PSC_FORMAT. */
PSC_MUST_CHECK int chunk_clock_read(struct chunk_clock *clock,
                                    const struct chunk *c,
                                    struct psc_error *err);

struct chunk_runs {
    uint32_t from, count;              /* of this run: snapshots */
    uint8_t flags;                     /* as in struct chunk_entry, */
    int64_t values[TABLE_COLUMNS_MAX]; /* likewise */
    bool failed; /* damage; look at it when chunk_runs_next() is false */

    const struct chunk_clock *clock; /* borrowed */
    struct chunk_entry entry;        /* at the next point */
    bool more;                       /* there is one */
    uint32_t at, until; /* snapshots of the present point not yet shown */
};

/* Start at entry @index, below b->n, of a block opened with its data. */
void chunk_runs_open(struct chunk_runs *r, const struct chunk_clock *clock,
                     const struct chunk_block *b, uint32_t index);

/* Go to the next run of snapshots that have the entry. False at the end, and
 * at damage. */
bool chunk_runs_next(struct chunk_runs *r);

#endif
