/* Makes chunks (chunk.h) from snapshots in their order. Pure: no I/O, no
 * clock. Buffers are the writer's and serve the next chunk again, so a worker
 * that keeps its writer allocates nothing in the long run.
 *
 *   chunk_writer_init
 *   per snapshot: chunk_writer_snapshot  [chunk_writer_keyframe]
 *                 chunk_writer_put …  chunk_writer_gone …
 *   chunk_writer_finish, and again from chunk_writer_snapshot
 *
 * When a call returns PSC_NOMEM or PSC_LIMIT, it did nothing: the chunk can go
 * on or be finished. */
#ifndef PSC_SQL_CODEC_CHUNK_WRITER_H
#define PSC_SQL_CODEC_CHUNK_WRITER_H

#include "sql/codec/chunk.h"

enum {
    CHUNK_ENTRIES_MAX = 1 << 16,   /* that one chunk may have */
    CHUNK_VARIANTS_MAX = 16,       /* flags that one id may have */
    CHUNK_LOG_MAX_WORDS = 1 << 23, /* 8 bytes each: 4 a change of 3 values */
};
#define CHUNK_SECTION_MAX_BYTES ((size_t)1 << 28)

struct chunk_writer {
    uint32_t columns;
    const struct chunk_digest *digest; /* borrowed */

    struct chunk_moment *moments; /* the snapshots so far */
    uint32_t n_moments, cap_moments;
    uint8_t (*boots)[CHUNK_BOOT_BYTES];
    uint32_t n_boots, cap_boots;
    bool keyframe; /* what is not put at this snapshot is gone */

    struct chunk_series *series; /* entries, in the order they came */
    uint32_t n_series, cap_series;
    uint32_t *slots;         /* hash table by id of index + 1, 0 is empty */
    uint32_t n_slots;        /* a power of two; 0 before the first entry */
    uint64_t *log;           /* what was put: see chunk_write.c */
    size_t log_len, log_cap; /* words */
    size_t log_snapshot;     /* where this snapshot's begin */

    struct chunk_packer *packer; /* finish's own memory */
    struct psc_buf head, levels, data;
};

struct chunk_sections {
    struct psc_bytes head, levels, data;
};

/* A writer of tables of @columns (1 or 4). @digest is borrowed. */
void chunk_writer_init(struct chunk_writer *w, uint32_t columns,
                       const struct chunk_digest *digest);
void chunk_writer_fini(struct chunk_writer *w);

/* Start the next snapshot: @n is larger than the last one's and not negative;
 * @n, @at_us, and @wall_us - @at_us are below CHUNK_TIME_LIMIT. Returns 0,
 * PSC_NOMEM, or PSC_LIMIT: too many snapshots, a time or an n out of range;
 * finish the chunk, and begin another. */
PSC_MUST_CHECK int chunk_writer_snapshot(struct chunk_writer *w, int64_t n,
                                         int64_t at_us, int64_t wall_us,
                                         const uint8_t boot[CHUNK_BOOT_BYTES]);

/* This snapshot states every entry: those not put in it are gone. */
void chunk_writer_keyframe(struct chunk_writer *w);

/* In this snapshot entry @id (1 to INT32_MAX) has @values, w->columns numbers,
 * of which only those in @flags count (a counter has its one whatever they
 * say). Outstanding of a tag with allocs and frees is their difference. Values
 * equal to the last ones cost nothing. The last put of a snapshot counts.
 *
 * An id whose flags change becomes another entry of the same id: the one with
 * the old flags is gone from here on. Returns 0, PSC_NOMEM, or PSC_LIMIT: a
 * value or id out of range, or too much for one chunk. */
PSC_MUST_CHECK int chunk_writer_put(struct chunk_writer *w, uint32_t id,
                                    uint8_t flags, const int64_t *values);

/* In this snapshot @id is absent. Nothing happens if it was before. */
PSC_MUST_CHECK int chunk_writer_gone(struct chunk_writer *w, uint32_t id);

/* Take back the newest snapshot, of which not everything could be put; so it
 * can begin the next chunk. Only once after each chunk_writer_snapshot(). Takes
 * as long as all puts of the chunk. */
void chunk_writer_drop(struct chunk_writer *w);

/* Forget the chunk in hand, keep the memory. */
void chunk_writer_reset(struct chunk_writer *w);

/* Pack what came since the last finish or reset, at least one snapshot, and
 * forget it. @out points into the writer until the next finish. Returns 0,
 * PSC_NOMEM (the chunk is still there), PSC_LIMIT (a section would be larger
 * than CHUNK_SECTION_MAX_BYTES), or PSC_UNSUPPORTED (no digest). */
PSC_MUST_CHECK int chunk_writer_finish(struct chunk_writer *w,
                                       struct chunk_sections *out);

#endif
