/* A chunk: one table (tags, or counters) of one host over a run of snapshots,
 * as three strings of bytes.
 *
 *   head    times of the snapshots, and where each block of entries lies
 *   levels  per block: which entries, and their bytes (a counter: the value)
 *           at the run's start; enough to tell a host's level without the rest
 *   data    per block: the other columns and every change
 *
 * README.md in this folder gives layout version 1 bit by bit.
 *
 * This is the reader, for bytes from anywhere: it allocates nothing, keeps no
 * state of its own, borrows all bytes it is given for as long as its structs
 * are used, and does bounded work. chunk_writer.h makes chunks.
 *
 *   one entry:   chunk_open  chunk_find  chunk_block_open  chunk_block_find
 *                chunk_entry_open  chunk_next …
 *   everything:  chunk_open  for each block: chunk_block_at
 *                for each entry: chunk_entry_open  chunk_next …
 *   levels only: the same without data, then read the block's arrays
 *
 * Errors: PSC_FORMAT for damage of any kind, PSC_UNSUPPORTED for a layout of
 * another version; the message says what was wrong with which block, the
 * caller knows of which chunk. Checksums find accidents, so what passes them
 * is what a writer wrote; bytes made with intent may decode to any values
 * within the limits, but to nothing worse. */
#ifndef PSC_SQL_CODEC_CHUNK_H
#define PSC_SQL_CODEC_CHUNK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/error.h"
#include "proto/table.h"
#include "sql/codec/bits.h"

enum {
    CHUNK_VERSION = 1,
    CHUNK_SNAPSHOTS_MAX = 4096,
    CHUNK_BLOCK_ENTRIES = 32, /* a block's entries, at most */
    CHUNK_BOOT_BYTES = 16,    /* a boot's id */
    CHUNK_DIGEST_BYTES = 32,
};

/* Integer values, outstanding also where it is derived, are below this in
 * magnitude; doubles may have any bits. So no difference of two values leaves
 * a signed 64-bit number, nor does anything on the way to one. */
#define CHUNK_VALUE_LIMIT (INT64_C(1) << 62)
/* The same for n, at, wall - at. */
#define CHUNK_TIME_LIMIT (INT64_C(1) << 60)

/* SHA-256 of @len bytes. False if it cannot be had. chunk_sha256() is the
 * project's; a PostgreSQL extension has the server's. */
struct chunk_digest {
    bool (*sha256)(const void *data, size_t len,
                   uint8_t out[CHUNK_DIGEST_BYTES]);
};
extern const struct chunk_digest chunk_openssl;

/* An opened head. Public fields may be read, none changed. */
struct chunk {
    uint32_t columns;   /* 4: tags, 1: counters */
    uint32_t snapshots; /* of the run */
    uint32_t n_entries; /* in all blocks, as the writer says */
    uint32_t n_blocks;
    uint32_t n_boots;     /* that the run saw */
    const uint8_t *boots; /* their ids, CHUNK_BOOT_BYTES each */
    int64_t n;            /* of the first snapshot */
    int64_t at_us;        /* of the first snapshot */

    const struct chunk_digest *digest; /* borrowed */
    struct bits_in bits;   /* over the head; `at` where the index begins */
    uint64_t times_bit;    /* where the times begin */
    int64_t wall_ahead_us; /* wall - at of the first snapshot */
    int64_t step_us;       /* a usual step of at */
    uint8_t id_bits, data_bits, levels_bits; /* widths in the index */
    uint8_t check[4];                        /* the head's checksum */
};

/* Check and open a head. @c borrows @head and @digest. Returns 0,
 * PSC_FORMAT or PSC_UNSUPPORTED, explained in @err (may be NULL). */
PSC_MUST_CHECK int chunk_open(struct chunk *c, struct psc_bytes head,
                              const struct chunk_digest *digest,
                              struct psc_error *err);

/* Where a block's bytes are in the two sections. */
struct chunk_slice {
    uint32_t block;    /* its number */
    uint32_t first_id; /* of its entries, which are in order of id */
    size_t data_at, data_len;
    size_t levels_at, levels_len;
};

/* The slice of @block, below c->n_blocks. Returns 0 or PSC_FORMAT. */
PSC_MUST_CHECK int chunk_slice(const struct chunk *c, uint32_t block,
                               struct chunk_slice *slice);

/* The slice of the only block that may have entry @id. Returns 0, PSC_MISSING
 * (no block may) or PSC_FORMAT. */
PSC_MUST_CHECK int chunk_find(const struct chunk *c, uint32_t id,
                              struct chunk_slice *slice);

/* --- times --- */

struct chunk_times {
    uint32_t snapshot; /* 0 … */
    int64_t n;
    int64_t at_us;
    int64_t wall_us;
    uint32_t boot; /* index of the boot's id, below c->n_boots */
    bool failed;   /* damage; look at it when chunk_times_next() is false */

    const struct chunk *chunk; /* borrowed */
    struct bits_in bits;
    struct params params[4];
    uint32_t next;
};

void chunk_times_init(struct chunk_times *t, const struct chunk *c);

/* Go to the next snapshot. False at the end, and at damage. */
bool chunk_times_next(struct chunk_times *t);

/* --- entries --- */

/* An opened block. An id may come more than once, each time with other flags
 * (see chunk_writer_put()); never at the same snapshot. */
struct chunk_block {
    uint32_t n; /* entries, at least 1 */
    uint32_t ids[CHUNK_BLOCK_ENTRIES];
    uint8_t flags[CHUNK_BLOCK_ENTRIES];  /* TAG_…, ENTRY_… */
    bool present[CHUNK_BLOCK_ENTRIES];   /* at the run's first snapshot */
    int64_t levels[CHUNK_BLOCK_ENTRIES]; /* bytes, or the counter's value,
                                            there; 0 if it has none */

    const struct chunk *chunk;
    bool has_data;
    struct bits_in bits; /* over the data, `at` where the entries begin */
    uint32_t ends[CHUNK_BLOCK_ENTRIES];        /* of the entries, bits */
    struct params starts[TABLE_COLUMNS_MAX];   /* of start values, by slot */
    struct params defaults[TABLE_COLUMNS_MAX]; /* of differences, by slot */
};

/* Check and open a block by the bytes of its @slice. @data may be empty (NULL,
 * 0): then only the levels can be read. Returns 0 or PSC_FORMAT. */
PSC_MUST_CHECK int chunk_block_open(struct chunk_block *b,
                                    const struct chunk *c,
                                    const struct chunk_slice *slice,
                                    struct psc_bytes data,
                                    struct psc_bytes levels,
                                    struct psc_error *err);

/* The same for @block, below c->n_blocks, of a chunk whose sections @data and
 * @levels are at hand whole. PSC_FORMAT too if it is not within them. */
PSC_MUST_CHECK int chunk_block_at(struct chunk_block *b, const struct chunk *c,
                                  uint32_t block, struct psc_bytes data,
                                  struct psc_bytes levels,
                                  struct psc_error *err);

/* The index of the first entry with @id; b->n if there is none. */
uint32_t chunk_block_find(const struct chunk_block *b, uint32_t id);

/* One entry's points in time. */
struct chunk_entry {
    uint32_t snapshot; /* of this point */
    bool present;      /* from this point on, until the next */
    uint8_t flags;
    int64_t values[TABLE_COLUMNS_MAX]; /* columns that flags lack, and those of
                                          an absent entry, are 0; a counter
                                          has values[0] only */
    bool failed; /* damage; look at it when chunk_next() is false */

    uint8_t slots[TABLE_COLUMNS_MAX]; /* columns that are stored, in order */
    uint8_t n_slots;
    uint8_t by;     /* which of them predicts bytes, if any */
    bool real;      /* its values are doubles */
    uint8_t form;   /* of the list of changes */
    uint8_t list_k; /* its code */
    bool derives;   /* frees from outstanding */
    bool absences;  /* presence is stored */
    bool predicted; /* bytes follow outstanding */
    bool begun;     /* the start has been shown */
    bool changes;   /* there are changes left */
    uint32_t snapshots;
    uint32_t listed;      /* listed snapshots not yet read */
    uint32_t next;        /* the next listed one */
    uint64_t size;        /* bytes an object, to predict by; 0: not */
    struct bits_in where; /* the list of changes */
    struct bits_in bits;  /* the values */
    struct params params[TABLE_COLUMNS_MAX]; /* in order of slots */
    uint64_t state[TABLE_COLUMNS_MAX];       /* the same, as last present */
};

/* Start at entry @index, below b->n, of a block opened with its data. */
void chunk_entry_open(struct chunk_entry *e, const struct chunk_block *b,
                      uint32_t index);

/* Go to the next point: first the run's start, present or not, then every
 * snapshot at which the entry changed. False at the end, and at damage. */
bool chunk_next(struct chunk_entry *e);

#endif
