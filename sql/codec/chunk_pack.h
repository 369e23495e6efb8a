/* What the files of the chunk writer share, in the order of its work:
 * chunk_write.c (feeding), chunk_gather.c (differences), chunk_choose.c and
 * chunk_fit.c (parameters), chunk_pack.c (blocks), chunk_finish.c (order, head,
 * checksums). Nobody else includes this. */
#ifndef PSC_SQL_CODEC_CHUNK_PACK_H
#define PSC_SQL_CODEC_CHUNK_PACK_H

#include "sql/codec/chunk_layout.h"
#include "sql/codec/chunk_writer.h"

struct chunk_moment {
    int64_t n, at_us, wall_us;
    uint32_t boot; /* index in the writer's boots */
};

/* An entry. */
struct chunk_series {
    uint32_t id;
    uint32_t last;      /* word of its newest record + 1; 0: none */
    uint32_t other;     /* index + 1 of the next entry with this id; 0: none */
    uint32_t n_records; /* that count */
    uint32_t records_end; /* in the packer's records */
    uint16_t seen;        /* snapshot of its last put */
    uint8_t flags;
    bool present; /* as its newest record says */
};

/* The head of a record in the log, one word; as many values follow. */
struct record {
    uint32_t series; /* index */
    uint32_t snapshot;
    uint8_t n_values; /* of its slots in order; none if it is absent */
    bool present;
    bool replaced; /* by a later one of the same snapshot: does not count */
};

static inline uint64_t record_word(struct record r)
{
    return (uint64_t)r.series << 32 | (uint64_t)r.snapshot << 8 |
           (uint64_t)r.n_values << 2 | (r.present ? 2u : 0u) |
           (r.replaced ? 1u : 0u);
}

static inline struct record record_of(uint64_t word)
{
    return (struct record){.series = (uint32_t)(word >> 32),
                           .snapshot = (uint32_t)word >> 8,
                           .n_values = (uint8_t)(word >> 2 & 0x3f),
                           .present = (word & 2) != 0,
                           .replaced = (word & 1) != 0};
}

/* --- choosing parameters --- */

/* Numbers, counted by their length. */
struct tally {
    uint64_t any;         /* all magnitudes, or'ed */
    uint32_t n;           /* numbers */
    bool negative;        /* is one of them */
    uint16_t lengths[65]; /* at most CHUNK_SNAPSHOTS_MAX each */
};

/* Count the 64-bit number @v, unsigned if it is of a @real. */
static inline void tally_add(struct tally *t, uint64_t v, bool real)
{
    bool negative = !real & (v >> 63 != 0);

    v = bits_magnitude(v, negative);
    t->any |= v;
    t->n++;
    t->negative |= negative;
    t->lengths[bits_length(v)]++;
}

/* Bits of a number of @length bits, coded with @k. */
static inline unsigned code_bits(unsigned length, unsigned k)
{
    return length > k ? 2 * length - k : k + 1;
}

/* Add the counts of @more. */
void tally_merge(struct tally *t, const struct tally *more);

/* The k that codes these numbers, shifted by @shift, shortest. */
unsigned tally_fit_k(const struct tally *t, unsigned shift);

/* The parameters that code these numbers shortest. */
struct fit {
    struct params params;
    uint64_t bits; /* of parameters and numbers */
};
struct fit tally_fit(const struct tally *t);

/* Bits of the numbers by a block's default @p, and of saying so; UINT64_MAX if
 * it cannot hold them. */
uint64_t tally_default_price(const struct tally *t, struct params p);

/* --- packing --- */

/* A snapshot that changed an entry of the block in hand. */
struct change {
    uint64_t diffs[SLOTS]; /* of its columns; of doubles what to XOR */
    uint64_t rest;         /* the last less what outstanding predicts */
    uint32_t snapshot;
    bool present; /* afterwards; without it there are no differences */
};

/* An entry of the block in hand. Its columns are its slots side by side; bytes,
 * or a counter's value, is the last if it is there. */
struct packed {
    uint32_t id;
    uint8_t flags;
    uint8_t n_columns;
    uint8_t slots[SLOTS]; /* of the columns */
    bool has_level;       /* the last column is slot 3 */
    bool real;
    bool present; /* at the start */
    bool absences;
    bool predicted;
    unsigned by;            /* the column to predict by; SLOTS: none */
    uint32_t first, n;      /* its changes */
    uint32_t n_values;      /* those that have differences */
    uint64_t start[SLOTS];  /* of the columns */
    uint64_t bits;          /* that it takes in the data */
    struct fit fits[SLOTS]; /* of the columns */
    struct tally tallies[SLOTS];
    struct tally rest;
};

/* Where a finished block is. */
struct block_end {
    uint32_t first_id;
    uint32_t data, levels; /* ends in their sections */
};

struct chunk_packer {
    uint32_t n; /* entries in the block in hand */
    struct packed block[CHUNK_BLOCK_ENTRIES];
    struct params starts[SLOTS], defaults[SLOTS];
    struct change *changes; /* of the block in hand */
    size_t n_changes, cap_changes;

    uint32_t *records; /* words in the log, by entry, then in order */
    uint32_t cap_records;
    uint16_t gaps[CHUNK_SNAPSHOTS_MAX]; /* of the entry in hand */

    uint64_t *order, *spare; /* entries by id: id << 32 | index */
    uint32_t cap_order;
    struct block_end *ends;
    uint32_t n_ends, cap_ends;
    uint32_t n_entries; /* in all blocks */
    struct psc_buf
        bits; /* the block's entries, before its data is put together */
};

/* Make @p's block hold entry @s of @w as one more. Adds nothing if the entry
 * was never present. Returns 0 or PSC_NOMEM. */
PSC_MUST_CHECK int pack_gather(struct chunk_writer *w,
                               const struct chunk_series *s);

/* Choose the parameters of the block in hand. */
void pack_choose(struct chunk_packer *p);

/* Put the block in hand to the end of the sections, and start the next.
 * Returns 0, PSC_NOMEM or PSC_LIMIT. */
PSC_MUST_CHECK int pack_block(struct chunk_writer *w);

/* At the end of a keyframe: entries that were not put in it are gone. Returns
 * 0, PSC_NOMEM or PSC_LIMIT. */
PSC_MUST_CHECK int chunk_sweep(struct chunk_writer *w);

/* Make *@array (elements of @size bytes) hold at least @need. Returns 0 or
 * PSC_NOMEM, the array as it was. */
PSC_MUST_CHECK int chunk_grow(void *array, uint32_t *cap, uint32_t need,
                              size_t size);

/* Free what pack and finish allocated. */
void chunk_packer_free(struct chunk_packer *p);

#endif
