/* What the three files of the snapshot codec share: table.c (dictionary and
 * filling), table_encode.c and table_decode.c. Nobody else includes this. */
#ifndef PSC_PROTO_TABLE_PRIVATE_H
#define PSC_PROTO_TABLE_PRIVATE_H

#include "proto/table.h"

/* A name may repeat at most so much of the name before it: bounds what a few
 * bytes on the wire can become in memory. */
#define SHARED_MAX_BYTES 64u

/* Head byte of the gaps: the columns that any entry of the part sends in its
 * low bits, and whether every entry sends just these. */
enum {
    HEAD_COLUMNS = (1 << TABLE_COLUMNS_MAX) - 1,
    HEAD_UNIFORM = 1 << TABLE_COLUMNS_MAX,
};

/* Integers that count bytes are mostly whole pages. */
enum { PAGE_BYTES = 4096 };

/* In the amount code: a whole 64-bit difference follows. */
enum { AMOUNT_ESCAPE = 1 };

/* Make room for one more entry. Returns 0 or PSC_NOMEM, the table as it was.
 * At the table's maximum there is nothing to grow and adding tells so. */
PSC_MUST_CHECK int table_grow(struct table *t);

/* Set up the entry that has just been added to the dictionary. */
void table_entry_init(struct table *t, uint32_t index, uint8_t flags);

static inline int64_t *table_row(int64_t *rows, const struct table *t,
                                 uint32_t index)
{
    return rows + (size_t)index * t->columns;
}

/* Whether outstanding follows from allocs and frees. */
static inline bool table_derives(const struct table *t, uint8_t flags)
{
    const unsigned all = TAG_ALLOCS | TAG_FREES | TAG_OUTSTANDING;

    return t->columns > 1 && (flags & ENTRY_REAL) == 0 && (flags & all) == all;
}

/* The columns of an entry, and those of them that travel. */
static inline unsigned table_has(const struct table *t, uint8_t flags)
{
    return t->columns == 1 ? 1u : flags & HEAD_COLUMNS;
}

static inline unsigned table_sends(const struct table *t, uint8_t flags)
{
    unsigned has = table_has(t, flags);

    return table_derives(t, flags) ? has & ~(unsigned)TAG_OUTSTANDING : has;
}

/* Whether a column's integers are packed as amounts. */
static inline bool table_is_amount(const struct table *t, unsigned column)
{
    return t->columns == 1 || column == COL_BYTES;
}

static inline void table_derive(int64_t *row)
{
    row[COL_OUTSTANDING] =
        (int64_t)((uint64_t)row[COL_ALLOCS] - (uint64_t)row[COL_FREES]);
}

#endif
