/* A grid stated anew, as the numbers of a keyframe. */
#include <assert.h>
#include <string.h>

#include "proto/grid.h"
#include "proto/pack.h"

static const int64_t nothing[TABLE_COLUMNS_MAX];

/* The values of an entry as they are to be packed; @copy is for those that
 * are not as they were. */
static const int64_t *values_of(const struct grid *g, uint32_t i,
                                void (*bound)(uint8_t flags, int64_t *row),
                                int64_t *copy)
{
    const int64_t *now = grid_values(g, i);
    if (bound == NULL) {
        return now;
    }
    memcpy(copy, now, g->columns * sizeof(*now));
    bound(g->entries[i].flags, copy);
    return copy;
}

void grid_pack(const struct grid *g, void (*bound)(uint8_t flags, int64_t *row),
               struct psc_buf *gaps, struct psc_buf *values)
{
    int64_t copy[TABLE_COLUMNS_MAX];
    struct pack p;
    assert(g->only == GRID_ALL);
    pack_init(&p, g->columns, 0, gaps, values);
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < g->n; i++) {
            if (!g->entries[i].live) {
                continue;
            }
            uint8_t flags = g->entries[i].flags;
            const int64_t *now = values_of(g, i, bound, copy);
            unsigned mask = pack_differing(g->columns, flags, now, nothing);
            if (pass == 0) {
                pack_scan(&p, mask);
            } else {
                pack_entry(&p, i, flags, mask, now, nothing);
            }
        }
        if (pass == 0) {
            pack_begin(&p);
        }
    }
}
