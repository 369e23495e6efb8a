/* A chunk's snapshots one after the other, as detection took them when they
 * were fresh: a chunk lies by entry, this turns it by time.
 *
 *   replay_open  while (replay_next) read n, at_us, boot and changes[]
 *
 * Each entry has one cursor, queued at the snapshot of its next point. So the
 * memory is that of the entries, however often they change, and is kept for
 * the next chunk. Pure. */
#ifndef PSC_COLLECTOR_REPLAY_H
#define PSC_COLLECTOR_REPLAY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "sql/codec/chunk.h"

/* What a snapshot says of an entry. An id whose flags change is said to be
 * gone and to be there, in any order. */
struct replay_change {
    uint32_t id;
    uint8_t flags; /* TAG_…, ENTRY_… */
    bool present;  /* false: it is gone */
    int64_t value; /* a tag's bytes, or the counter; bits of a double if the
                      flags say so */
};

struct replay_entry; /* in replay.c */

struct replay {
    /* The present snapshot. */
    int64_t n, at_us;
    const uint8_t *boot;           /* CHUNK_BOOT_BYTES, in the chunk's head */
    struct replay_change *changes; /* at the first one: all that is there */
    uint32_t n_changes;
    int rc; /* why replay_next() was false: PSC_OK at the end, PSC_FORMAT */

    struct chunk chunk;
    struct chunk_times times;
    struct replay_entry *entries;
    uint32_t n_entries, cap_entries, cap_changes;
    uint32_t *queue; /* by snapshot: 1 + index of the first entry, 0: none */
    uint32_t cap_queue;
};

void replay_init(struct replay *r);
void replay_fini(struct replay *r);

/* Begin with a chunk, whose bytes are borrowed until the next call. @only: the
 * ids to read, NULL for all. Returns 0, PSC_NOMEM, or PSC_FORMAT or
 * PSC_UNSUPPORTED for what chunk_open() refuses. */
PSC_MUST_CHECK int replay_open(struct replay *r, struct psc_bytes head,
                               struct psc_bytes levels, struct psc_bytes data,
                               const uint32_t *only, uint32_t n_only,
                               struct psc_error *err);

/* Go to the next snapshot. False at the end, and at damage. */
bool replay_next(struct replay *r);

/* Let changes[] have all that is there at the present snapshot. */
void replay_all(struct replay *r);

#endif
