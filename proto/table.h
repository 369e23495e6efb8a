/* The snapshot codec: a table of named entries with up to four 64-bit
 * columns, sent as a keyframe (every entry, absolute) or as a delta (only what
 * changed). Tags are one table, counters another. Pure: no I/O, no clock.
 *
 * The agent fills a table once a tick and encodes it:
 *
 *   table_begin  table_put …  table_encode      (keeps what was sent)
 *
 * A steady tick allocates nothing. What reads it is proto/names.h (the keys)
 * and proto/grid.h (the numbers). docs/protocol.md gives the packed form byte
 * by byte. */
#ifndef PSC_PROTO_TABLE_H
#define PSC_PROTO_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/error.h"
#include "common/map.h"

#define TABLE_COLUMNS_MAX   4
#define TABLE_KEY_MAX_BYTES 512

/* The protocol's limits of one host, vanished entries since the last keyframe
 * included: a decoder must take what an encoder may send. */
#define TABLE_MAX_TAGS              32768u
#define TABLE_MAX_TAG_KEY_BYTES     ((size_t)TABLE_MAX_TAGS * 96)
#define TABLE_MAX_COUNTERS          8192u
#define TABLE_MAX_COUNTER_KEY_BYTES ((size_t)TABLE_MAX_COUNTERS * 96)

/* The least budget of table_encode(): the longest entry fits. */
#define TABLE_BUDGET_MIN_BYTES (TABLE_KEY_MAX_BYTES + 128u)

/* Which columns an entry has, and what is known of it; sent with its name and
 * fixed until the next keyframe. A table of one column has it whatever the
 * TAG_ bits say. */
enum {
    TAG_ALLOCS = 1 << 0,
    TAG_FREES = 1 << 1,
    TAG_OUTSTANDING = 1 << 2, /* with allocs and frees: derived, not sent */
    TAG_BYTES = 1 << 3,
    ENTRY_REAL = 1 << 4,        /* values are the bits of IEEE doubles */
    ENTRY_RECLAIMABLE = 1 << 5, /* the kernel can shrink this cache */
};
/* Columns in order: a tag's, and a counter's only one. */
enum {
    COL_ALLOCS = 0,
    COL_FREES = 1,
    COL_OUTSTANDING = 2,
    COL_BYTES = 3,
};

/* A key of the tag table is one byte of enum pool, then the tag's text; of
 * the counter table the counter's name, a NUL, and the instance (may be
 * empty). */
enum pool {
    POOL_PAGED = 1,
    POOL_NONPAGED = 2,
    POOL_SLAB = 3,
    POOL_VMALLOC = 4,
    POOL_ALLOC = 5,
    POOL_PAGES = 6,
};
const char *pool_name(enum pool pool); /* "slab"; "?" for others */
bool pool_parse(const char *name, enum pool *pool);

struct table_entry {
    uint8_t flags;       /* TAG_…, ENTRY_…, as the peer knows them */
    uint8_t put_flags;   /* as last put */
    uint8_t owner;       /* of the source that fills it, see table_hold() */
    uint8_t mask;        /* which columns it is about to send */
    bool live;           /* in the present sample */
    bool sent_live;      /* in the last one encoded */
    uint32_t generation; /* of the last sample that had it */
};

struct table {
    struct psc_map names; /* the dictionary: key to index */
    struct table_entry *entries;
    int64_t *now;        /* columns values an entry, by index; 0 in
                            columns that an entry has not */
    int64_t *sent;       /* as last encoded */
    uint32_t cap;        /* entries allocated */
    uint32_t columns;    /* per entry, 1 or 4 */
    uint32_t n_live;     /* entries in the present sample */
    uint32_t n_encoded;  /* dictionary entries the peer knows */
    uint32_t expected;   /* entry that the next put names, if the sources keep
                            to their order */
    uint32_t generation; /* counts samples */
    bool complete;    /* a whole keyframe has been encoded: deltas may follow */
    uint64_t refused; /* puts that failed since the start */
};

/* The packed form of one table in one batch (wire.h carries it). */
struct columns {
    bool keyframe;
    uint64_t base_seq;
    struct psc_bytes names;
    struct psc_bytes gaps;
    struct psc_bytes gone;
    struct psc_bytes values;
};

/* A table of @columns per entry that takes at most @max_entries, whose keys
 * together have at most @max_key_bytes. */
void table_init(struct table *t, uint32_t columns, uint32_t max_entries,
                size_t max_key_bytes);
void table_fini(struct table *t);

/* --- filling --- */

/* Start a sample: entries not put until the encoding are gone. */
void table_begin(struct table *t);

/* Put one entry; a key already put in this sample is summed to (then it has
 * only what all its parts have), so no two owners should put the same key.
 * @values has t->columns numbers; those not in @flags are taken as 0, and
 * outstanding is allocs less frees where those are there. Returns 0, PSC_NOMEM
 * or PSC_LIMIT (too many entries, or a key of no or too many bytes); counted
 * in t->refused. Quickest when entries come in the order of the last sample. */
PSC_MUST_CHECK int table_put(struct table *t, uint8_t owner, const void *key,
                             size_t key_len, uint8_t flags,
                             const int64_t *values);

/* Keep what source @owner put last time (it skips this tick). */
void table_hold(struct table *t, uint8_t owner);

/* --- encoding --- */

/* Where table_encode() packs; one per agent, reused. */
struct table_writer {
    struct psc_buf names, gaps, gone, values;
};
void table_writer_init(struct table_writer *w, size_t max_bytes);
void table_writer_fini(struct table_writer *w);

/* A keyframe that does not fit one frame goes in parts: call with *@next = 0
 * and again while it comes back non-zero; each part is a batch of its own,
 * all but the last with `more` set. A delta has one part. @budget bytes (at
 * least TABLE_BUDGET_MIN_BYTES) bound a part's columns. A keyframe forgets
 * vanished entries, so dictionary indices begin anew; after it the peer knows
 * all. @out points into @w until the next call.
 *
 * Returns PSC_NEED_KEYFRAME when a delta cannot say what happened (no keyframe
 * yet, an entry's flags changed, the dictionary is crowded by vanished
 * entries) and PSC_LIMIT when it does not fit the budget: encode a keyframe of
 * the same sample instead. PSC_NOMEM: the sample stays as it was; try a
 * keyframe now or at the next tick. */
PSC_MUST_CHECK int table_encode(struct table *t, bool keyframe,
                                uint64_t base_seq, size_t budget,
                                uint32_t *next, struct table_writer *w,
                                struct columns *out);

/* The values of an entry in @rows, t->now or t->sent. */
static inline int64_t *table_row(int64_t *rows, const struct table *t,
                                 uint32_t i)
{
    return rows + (size_t)i * t->columns;
}

static inline const int64_t *table_values(const struct table *t, uint32_t i)
{
    return table_row(t->now, t, i);
}

#endif
