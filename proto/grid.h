/* The numbers of a table by position, and how packed columns change them:
 * what a collector keeps of a host, and what readers of stored samples build
 * again. Who names the entries is the caller's business: an entry has a `ref`,
 * in a session the registry's index, in the store the fleet-wide id.
 *
 *   grid_clear (at a keyframe)  grid_add …  grid_apply  then read the changes
 *
 * docs/protocol.md gives the packed columns byte by byte. Pure; grid.c needs
 * nothing but common/buf and common/error. */
#ifndef PSC_PROTO_GRID_H
#define PSC_PROTO_GRID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/error.h"
#include "proto/table.h"

struct grid_entry {
    uint32_t ref;  /* whose numbers they are */
    uint8_t flags; /* TAG_…, ENTRY_… */
    bool live;     /* in the present sample */
    bool gone;     /* while a part is applied: it said so */
    bool mark;     /* the caller's; false when added */
};

/* Like realloc(): NULL when there is no memory, or never returns. With 0 bytes
 * it frees. */
typedef void *grid_resize(void *memory, size_t bytes);

struct grid {
    struct grid_entry *entries;
    int64_t *now;     /* width values an entry; 0 where it has none, and of
                         an absent entry */
    uint32_t columns; /* of the table, 1 or 4 */
    uint32_t width;   /* of them kept: all, or 1 */
    uint32_t only;    /* which one that is; GRID_ALL: all are kept */
    uint32_t max;     /* entries, at most */
    uint32_t n, cap;  /* entries there are, and allocated */
    uint32_t n_live;
    bool complete; /* a keyframe has been applied whole: deltas may follow */
    grid_resize *resize;
};

/* What one grid_apply() brought, by position, ascending. Shared by many grids,
 * grown as the largest needs. */
struct grid_changes {
    uint32_t *changed, *gone;
    uint32_t n_changed, n_gone, cap;
    grid_resize *resize;
};

/* The numbers of one part, as in struct columns. */
struct grid_part {
    struct psc_bytes gone, gaps, values;
};

/* @resize: NULL for realloc() and free(). */
void grid_init(struct grid *g, uint32_t columns, uint32_t max,
               grid_resize *resize);
void grid_fini(struct grid *g);

/* A grid that keeps no column but @only, one that is sent, and reads over the
 * others: grid_values() has one value, and an entry is listed as changed if
 * that column changed or the entry came. */
enum { GRID_ALL = TABLE_COLUMNS_MAX };
void grid_init_only(struct grid *g, uint32_t columns, uint32_t only,
                    uint32_t max, grid_resize *resize);
void grid_changes_init(struct grid_changes *c, grid_resize *resize);
void grid_changes_fini(struct grid_changes *c);

/* A keyframe begins: no entries, not complete. Keeps the memory. */
void grid_clear(struct grid *g);

/* Make room for @more entries, no more than needed. Returns 0 or PSC_NOMEM;
 * beyond the maximum there is nothing to grow and adding tells so. */
PSC_MUST_CHECK int grid_reserve(struct grid *g, uint32_t more);

/* The next entry, absent at first. Returns 0, PSC_NOMEM or PSC_LIMIT. */
PSC_MUST_CHECK int grid_add(struct grid *g, uint32_t ref, uint8_t flags);

/* Apply a part's numbers. @first_new: the position from which a keyframe's
 * first gap counts (0 in a delta). Hostile bytes give PSC_FORMAT, or PSC_NOMEM,
 * and leave the grid incomplete until the next keyframe; success makes it
 * complete. The work is bounded by the bytes of @part. */
PSC_MUST_CHECK int grid_apply(struct grid *g, uint32_t first_new,
                              const struct grid_part *part,
                              struct grid_changes *changes,
                              struct psc_error *err);

/* Pack all live entries as a delta against nothing: what a keyframe's part
 * has in gaps and values when its dictionary is this grid's, absent entries
 * included. @bound (NULL: none) may change a copy of an entry's values before
 * they are packed. Appends to both; test them with psc_buf_error(). In
 * grid_pack.c, which needs pack.c. */
void grid_pack(const struct grid *g, void (*bound)(uint8_t flags, int64_t *row),
               struct psc_buf *gaps, struct psc_buf *values);

static inline int64_t *grid_values(const struct grid *g, uint32_t i)
{
    return g->now + (size_t)i * g->width;
}

#endif
