/* The snapshot codec: a table of named entries with up to four 64-bit
 * columns, sent as a keyframe (every entry, absolute) or as a delta (only what
 * changed). Tags are one table, counters another. Pure: no I/O, no clock.
 *
 * The agent fills a table once a tick and encodes it; the collector applies
 * what arrives to a table of its own and reads what changed. A steady tick
 * allocates nothing on either side.
 *
 *   agent:      table_begin  table_put …  table_encode      (keeps `sent`)
 *   collector:  table_apply  then read changed[] and gone[]
 *
 * docs/protocol.md gives the packed form byte by byte. */
#ifndef PSC_PROTO_TABLE_H
#define PSC_PROTO_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/error.h"
#include "common/map.h"

#define TABLE_COLUMNS_MAX 4
#define TABLE_KEY_MAX_BYTES 512

/* Which columns an entry has, and what is known of it; fixed per entry and
 * sent with its name. For tags: */
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
const char *pool_name(enum pool pool);           /* "slab"; "?" for others */
bool pool_parse(const char *name, enum pool *pool);

struct table_entry {
    uint8_t flags;       /* TAG_…, ENTRY_… */
    uint8_t owner;       /* of the source that fills it, see table_hold() */
    bool live;           /* in the present sample */
    bool sent_live;      /* in the last one encoded */
    uint32_t generation; /* of the last table_begin() that saw it */
};

struct table {
    struct psc_map names;       /* the dictionary: key to index */
    struct table_entry *entries;
    int64_t *now;               /* columns values an entry, by index */
    int64_t *sent;              /* as last encoded; NULL in a decoder */
    uint32_t cap;               /* entries allocated */
    uint32_t columns;           /* per entry, 1 or 4 */
    uint32_t n_encoded;         /* dictionary entries the peer knows */
    uint32_t generation;
    bool encoder;
    bool complete;              /* decoder: a keyframe has been applied */
    uint32_t *changed;          /* decoder: indices the last apply changed */
    uint32_t n_changed;
    uint32_t *gone;             /* decoder: indices that vanished */
    uint32_t n_gone;
    uint64_t refused;           /* puts beyond the limits since the start */
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

/* A table of @columns per entry that takes at most @max_entries. */
void table_init(struct table *t, uint32_t columns, uint32_t max_entries,
                bool encoder);
void table_fini(struct table *t);

/* --- filling (agent) --- */

/* Start a sample: entries not put until the encoding are gone. */
void table_begin(struct table *t);

/* Put one entry; a key already put in this sample is summed to. @values has
 * t->columns numbers, those not in @flags 0. Returns 0, PSC_NOMEM or
 * PSC_LIMIT (counted in t->refused). */
PSC_MUST_CHECK int table_put(struct table *t, uint8_t owner, const void *key,
                             size_t key_len, uint8_t flags,
                             const int64_t *values);

/* Keep what source @owner put last time (it skips this tick). */
void table_hold(struct table *t, uint8_t owner);

/* --- encoding (agent) --- */

/* Where table_encode() packs; one per agent, reused. */
struct table_writer {
    struct psc_buf names, gaps, gone, values;
};
void table_writer_init(struct table_writer *w, size_t max_bytes);
void table_writer_fini(struct table_writer *w);

/* A keyframe that does not fit one frame goes in parts: call with *@next = 0
 * and again while it comes back non-zero; each part is a batch of its own,
 * all but the last with `more` set. A delta has one part. @budget bytes bound
 * a part. A keyframe forgets vanished entries, so dictionary indices begin
 * anew; after it the peer knows all. @out points into @w until the next call.
 * On failure the table stays as it was and the caller must send a keyframe. */
PSC_MUST_CHECK int table_encode(struct table *t, bool keyframe,
                                uint64_t base_seq, size_t budget,
                                uint32_t *next, struct table_writer *w,
                                struct columns *out);

/* --- decoding (collector, and an agent reading its own spool) --- */

/* Apply a part. A keyframe's first part (@first) empties the table. Hostile
 * bytes give PSC_FORMAT or PSC_LIMIT and leave the table unusable until the
 * next keyframe (t->complete false); a delta on such a table gives
 * PSC_NEED_KEYFRAME. Afterwards changed[] and gone[] list what this part
 * brought. */
PSC_MUST_CHECK int table_apply(struct table *t, const struct columns *in,
                               bool first, struct psc_error *err);

/* Turn a decoder into an encoder of the same state (an agent that resumes
 * from its spool), so that its next encoding is a keyframe. */
PSC_MUST_CHECK int table_make_encoder(struct table *t);

static inline const int64_t *table_values(const struct table *t, uint32_t i)
{
    return t->now + (size_t)i * t->columns;
}

#endif
