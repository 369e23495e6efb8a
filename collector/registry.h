/* The fleet's names: keys of tags (or of counters) to a dense local index, and
 * from that to the id in the database, once the database has given one. Local
 * indices change only in registry_retain(), so batches may wait with them for
 * their ids. Pure.
 *
 * Sessions add keys (bounded per host by struct registry_quota), batches wait
 * with local indices, and before a unit is stored its unknown ones are
 * interned: registry_id() is 0 until registry_learn(). */
#ifndef PSC_COLLECTOR_REGISTRY_H
#define PSC_COLLECTOR_REGISTRY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/map.h"

#define REGISTRY_NONE PSC_MAP_NONE

/* An entry whose id was used so long ago is interned anew, since the database
 * forgets what no host has had for months. */
#define REGISTRY_FRESH_DAYS 20

struct registry_entry {
    int32_t id;        /* in the database; 0: unknown, -1: it has no room */
    uint8_t flags;     /* proto/table.h's, as known to the database */
    uint8_t new_flags; /* with those that hosts added since */
    bool asked;        /* is in the request that is being put together */
    uint16_t used_day; /* last day on which the id was asked for */
};

struct registry {
    struct psc_map keys;
    struct registry_entry *entries; /* by local index */
    uint32_t cap;                   /* entries allocated */
    uint16_t today;                 /* days since 1970 */
    uint64_t n_refused;             /* new keys beyond quota or cap */
};

/* How many names that nobody had one host may still bring today. */
struct registry_quota {
    uint16_t day;
    uint32_t used;
};
#define REGISTRY_NEW_PER_DAY 16384u

/* At most @max_keys names of @max_bytes together. */
void registry_init(struct registry *r, uint32_t max_keys, size_t max_bytes);
void registry_fini(struct registry *r);

/* Time goes on; @now_us is wall time. */
void registry_day(struct registry *r, int64_t now_us);

/* Local index of a key, which is added if it is new and @quota (NULL: without
 * bound) has room. @flags are what the host says of it. Returns 0; PSC_LIMIT
 * (counted) or PSC_NOMEM, then *@index is REGISTRY_NONE. */
PSC_MUST_CHECK int registry_add(struct registry *r, struct psc_bytes key,
                                uint8_t flags, struct registry_quota *quota,
                                uint32_t *index);

/* The database's id, 0 if it must be interned first, -1 if it was refused. */
int32_t registry_id(struct registry *r, uint32_t index);

/* The id as it stands, for a batch whose names have just been asked for: a
 * unit that is sent again must not find its ids gone. */
static inline int32_t registry_known_id(const struct registry *r,
                                        uint32_t index)
{
    return r->entries[index].id;
}

/* The database says: @id (0: no room, not asked again today). */
void registry_learn(struct registry *r, uint32_t index, int32_t id,
                    uint8_t flags);

/* The database has forgotten some: every id must be asked for anew. */
void registry_forget_ids(struct registry *r);

static inline struct psc_bytes registry_key(const struct registry *r,
                                            uint32_t index)
{
    return psc_map_key(&r->keys, index);
}

/* Whether it is nearly full: new keys will soon be refused. */
bool registry_is_tight(const struct registry *r);

/* Drop every key whose @moved (by index) is REGISTRY_NONE and whose id has not
 * been asked for within @keep_days. Afterwards @moved has the new indices:
 * whoever holds old ones must change them. */
void registry_retain(struct registry *r, uint32_t *moved, unsigned keep_days);

/* Bytes of memory that the registry holds. */
size_t registry_bytes(const struct registry *r);

#endif
