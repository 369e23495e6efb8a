/* What reader and writer of chunks share about layout version 1. Nobody else
 * includes this.
 *
 * A stored column is called a slot: 0 allocs, 1 frees, 2 outstanding, 3 bytes
 * or a counter's value. Where frees follow from allocs and outstanding, slot 1
 * holds outstanding and slot 2 is empty. */
#ifndef PSC_SQL_CODEC_CHUNK_LAYOUT_H
#define PSC_SQL_CODEC_CHUNK_LAYOUT_H

#include "sql/codec/chunk.h"

enum {
    CHECK_BYTES = 4, /* a checksum: the start of SHA-256 */

    /* Bytes of the head before the boots. */
    HEAD_VERSION = 0,
    HEAD_COLUMNS_AT = 1,
    HEAD_SNAPSHOTS = 2,
    HEAD_BOOTS = 4,
    HEAD_BLOCKS = 6,
    HEAD_ENTRIES = 8,
    HEAD_N = 12,
    HEAD_AT = 20,
    HEAD_AHEAD = 28,
    HEAD_STEP = 36,
    HEAD_WIDTHS = 44,
    HEAD_FIXED_BYTES = 47,

    SLOT_FREES = 1,
    SLOT_OUTSTANDING = 2,
    SLOT_LEVEL = 3, /* the one in the levels */
    SLOTS = 4,

    /* The numbers of each snapshot in the head. */
    TIME_N = 0,
    TIME_AT = 1,
    TIME_AHEAD = 2,
    TIME_BOOT = 3,

    COUNT_BITS = 5,  /* entries of a block, or distinct flags, less one */
    FORM_BITS = 2,   /* how an entry lists its changes */
    FORM_BITMAP = 0, /* a bit per snapshot but the first */
    FORM_CHANGED = 1,
    FORM_UNCHANGED = 2,
    LIST_K_BITS = 3, /* k of the gaps in a list */
};

/* Predicting never multiplies larger numbers than these. */
#define PREDICT_LIMIT (UINT64_C(1) << 31)

static inline bool chunk_is_real(uint8_t flags)
{
    return (flags & ENTRY_REAL) != 0;
}

/* Whether slot 1 holds outstanding. */
static inline bool chunk_derives(uint32_t columns, uint8_t flags)
{
    const unsigned both = TAG_ALLOCS | TAG_FREES;

    return columns > 1 && !chunk_is_real(flags) && (flags & both) == both;
}

/* The slots of an entry, one bit each. */
static inline uint8_t chunk_slots(uint32_t columns, uint8_t flags)
{
    if (columns == 1) {
        return 1 << SLOT_LEVEL;
    }
    unsigned has =
        flags & (TAG_ALLOCS | TAG_FREES | TAG_OUTSTANDING | TAG_BYTES);
    if (chunk_derives(columns, flags)) {
        has &= ~(unsigned)TAG_OUTSTANDING;
    }
    return (uint8_t)has;
}

/* The slot of outstanding if bytes can be predicted from it, else SLOTS. */
static inline unsigned chunk_predictor(uint32_t columns, uint8_t flags)
{
    uint8_t slots = chunk_slots(columns, flags);

    if (columns == 1 || chunk_is_real(flags) ||
        (slots >> SLOT_LEVEL & 1) == 0) {
        return SLOTS;
    }
    if (chunk_derives(columns, flags)) {
        return SLOT_FREES;
    }
    return (slots >> SLOT_OUTSTANDING & 1) != 0 ? SLOT_OUTSTANDING : SLOTS;
}

/* Bytes an object by its state at the run's start; 0 if it cannot be told or
 * is too large to predict by. */
static inline uint64_t chunk_size(int64_t outstanding, int64_t bytes)
{
    if (outstanding <= 0 || bytes <= 0) {
        return 0;
    }
    uint64_t objects = (uint64_t)outstanding;
    uint64_t size = ((uint64_t)bytes + objects / 2) / objects;
    return size < PREDICT_LIMIT ? size : 0;
}

static inline bool chunk_in_range(uint64_t v)
{
    const uint64_t most = (uint64_t)CHUNK_VALUE_LIMIT - 1;

    return v + most <= 2 * most;
}

static inline bool chunk_time_in_range(uint64_t v)
{
    const uint64_t most = (uint64_t)CHUNK_TIME_LIMIT - 1;

    return v + most <= 2 * most;
}

/* Put the checksum of @bytes, bound to the head's (@with; NULL for the head
 * itself), to @out. Returns 0 or PSC_UNSUPPORTED. */
PSC_MUST_CHECK static inline int chunk_checksum(
    const struct chunk_digest *digest, struct psc_bytes bytes,
    const uint8_t *with, uint8_t out[CHECK_BYTES])
{
    uint8_t sum[CHUNK_DIGEST_BYTES];

    if (!digest->sha256(bytes.data, bytes.len, sum)) {
        return PSC_UNSUPPORTED;
    }
    for (unsigned i = 0; i < CHECK_BYTES; i++) {
        out[i] = (uint8_t)(sum[i] ^ (with != NULL ? with[i] : 0));
    }
    return PSC_OK;
}

#endif
