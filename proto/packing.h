/* What the packed columns of a table are made of (docs/protocol.md, Columns),
 * for those who write them and those who read them. */
#ifndef PSC_PROTO_PACKING_H
#define PSC_PROTO_PACKING_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/table.h"

/* Head byte of the gaps: the columns that any entry of the part sends in its
 * low bits, and whether every entry sends just these. */
enum {
    HEAD_COLUMNS = (1 << TABLE_COLUMNS_MAX) - 1,
    HEAD_UNIFORM = 1 << TABLE_COLUMNS_MAX,
};

/* Integers that count bytes are mostly whole pages. */
enum { PAGE_BYTES = 4096 };
#define PAGES_MAX ((uint64_t)1 << 51)

/* In the amount code: a whole 64-bit difference follows. */
enum { AMOUNT_ESCAPE = 1 };

/* Whether outstanding follows from allocs and frees. */
static inline bool entry_derives(uint32_t columns, uint8_t flags)
{
    const unsigned all = TAG_ALLOCS | TAG_FREES | TAG_OUTSTANDING;

    return columns > 1 && (flags & ENTRY_REAL) == 0 && (flags & all) == all;
}

/* The columns of an entry, and those of them that travel. */
static inline unsigned entry_has(uint32_t columns, uint8_t flags)
{
    return columns == 1 ? 1u : flags & HEAD_COLUMNS;
}

static inline unsigned entry_sends(uint32_t columns, uint8_t flags)
{
    unsigned has = entry_has(columns, flags);

    return entry_derives(columns, flags) ? has & ~(unsigned)TAG_OUTSTANDING
                                         : has;
}

/* Whether a column's integers are packed as amounts. */
static inline bool column_is_amount(uint32_t columns, unsigned column)
{
    return columns == 1 || column == COL_BYTES;
}

static inline void entry_derive(int64_t *row)
{
    row[COL_OUTSTANDING] =
        (int64_t)((uint64_t)row[COL_ALLOCS] - (uint64_t)row[COL_FREES]);
}

#endif
