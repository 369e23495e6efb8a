/* Byte strings to dense indices 0, 1, 2, …: the dictionary of a stream, the
 * registry of tags. Open addressing; keys live in one arena; single keys are
 * not removed, only all of them or all that are not wanted any more. No
 * allocation while no key is new. */
#ifndef PSC_COMMON_MAP_H
#define PSC_COMMON_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/error.h"

#define PSC_MAP_NONE UINT32_MAX

struct psc_map {
    uint32_t *slots;    /* hash table of index + 1, 0 is empty */
    uint32_t slot_mask; /* number of slots - 1 */
    uint32_t count;     /* keys */
    uint32_t max;       /* never more keys than this */
    uint32_t *offsets;  /* start of each key in the arena; count + 1 of them */
    uint32_t *hashes;   /* hash of each key */
    uint32_t cap;       /* allocated length of offsets - 1 and hashes */
    struct psc_buf arena;
};

/* An empty map of at most @max_keys keys with @max_bytes of key bytes. */
void psc_map_init(struct psc_map *m, uint32_t max_keys, size_t max_bytes);
void psc_map_fini(struct psc_map *m);

/* Forget all keys, keep the memory. */
void psc_map_clear(struct psc_map *m);

/* Drop every key whose @moved (by index, count of them) is PSC_MAP_NONE. The
 * others keep their order; their new index is put there. The memory stays. */
void psc_map_retain(struct psc_map *m, uint32_t *moved);

/* Index of the key, or PSC_MAP_NONE. */
uint32_t psc_map_find(const struct psc_map *m, const void *key, size_t len);

/* Index of the key, added as the last one if it is new. Returns 0,
 * PSC_NOMEM or PSC_LIMIT; on failure the map is unchanged. */
PSC_MUST_CHECK int psc_map_add(struct psc_map *m, const void *key, size_t len,
                               uint32_t *index);

/* The key of an index below count; valid until the next add or clear. */
struct psc_bytes psc_map_key(const struct psc_map *m, uint32_t index);

#endif
