/* Packs one table of one host: stored rows (proto/stored.h) in the order of n
 * go in, chunks (sql/codec) come out, as arrays for one statement. All memory
 * serves the next host again. Pure.
 *
 *   settle_pack_begin  per row: settle_pack_row  settle_pack_cut
 *   … the arrays …  settle_pack_taken, and on with the next row */
#ifndef PSC_COLLECTOR_SETTLE_PACK_H
#define PSC_COLLECTOR_SETTLE_PACK_H

#include <stdbool.h>
#include <stdint.h>

#include "collector/pgparam.h"
#include "common/error.h"
#include "proto/grid.h"
#include "sql/codec/chunk_writer.h"

struct settle_row {
    int64_t n;
    int64_t at_us, wall_us;
    const uint8_t *boot; /* 16 bytes */
    bool keyframe;
    struct psc_bytes data;
};

/* The columns of the chunks that are done, each an array. */
enum settle_column {
    SETTLE_SPAN_AT,
    SETTLE_N_FROM,
    SETTLE_N_TO,
    SETTLE_AT_FROM,
    SETTLE_AT_TO,
    SETTLE_SNAPSHOTS,
    SETTLE_HEAD,
    SETTLE_LEVELS,
    SETTLE_DATA,
    SETTLE_COLUMNS,
};

struct settle_pack {
    struct grid grid; /* the table as of the newest row */
    struct grid_changes changes;
    struct chunk_writer writer; /* the chunk in hand */
    int64_t span_us;            /* how long chunks are */
    int64_t span_at_us;         /* of the chunk in hand, as the next four */
    int64_t n_from, n_to;
    int64_t at_from_us, at_to_us;
    struct psc_buf column[SETTLE_COLUMNS];
    uint32_t n_chunks;    /* that are done */
    uint32_t n_snapshots; /* in them */
    size_t bytes;         /* of them */
    uint64_t *seen;       /* a bit for each id that a chunk began with; owned */
    uint32_t cap_seen;    /* words */
};

/* For tables of @columns (1 or 4) with at most @max_entries. */
void settle_pack_init(struct settle_pack *p, uint32_t columns,
                      uint32_t max_entries);
void settle_pack_fini(struct settle_pack *p);

/* The next host, whose chunks are @span_us long. */
void settle_pack_begin(struct settle_pack *p, int64_t span_us);

/* Whether a row of that time ends the chunk in hand. */
bool settle_pack_splits(const struct settle_pack *p, int64_t at_us);

/* Add a row; the first one is a keyframe. Returns 0, PSC_NOMEM, or why the
 * row cannot be settled: PSC_FORMAT, PSC_UNSUPPORTED, PSC_NEED_KEYFRAME, or
 * PSC_LIMIT. After an error only begin helps. */
PSC_MUST_CHECK int settle_pack_row(struct settle_pack *p,
                                   const struct settle_row *row,
                                   struct psc_error *err);

/* The same where the grid is at that row already, by other means. A keyframe:
 * all of the grid is looked at. */
PSC_MUST_CHECK int settle_pack_add(struct settle_pack *p,
                                   const struct settle_row *row,
                                   struct psc_error *err);

/* End the chunk in hand, if there is one, and the arrays. Returns 0, PSC_NOMEM
 * or PSC_LIMIT. */
PSC_MUST_CHECK int settle_pack_cut(struct settle_pack *p,
                                   struct psc_error *err);

/* Forget the chunks that are done: they are stored. */
void settle_pack_taken(struct settle_pack *p);

#endif
