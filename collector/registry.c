/* Names to local indices to ids. */
#include "collector/registry.h"

#include <stdlib.h>

#include "common/clock.h"

#define US_PER_DAY (86400 * PSC_US_PER_S)

enum { FIRST_ENTRIES = 1024, NO_ROOM = -1 };

void registry_init(struct registry *r, uint32_t max_keys, size_t max_bytes)
{
    *r = (struct registry){.cap = 0};
    psc_map_init(&r->keys, max_keys, max_bytes);
}

void registry_fini(struct registry *r)
{
    psc_map_fini(&r->keys);
    free(r->entries);
    r->entries = NULL;
    r->cap = 0;
}

void registry_day(struct registry *r, int64_t now_us)
{
    r->today = (uint16_t)(now_us / US_PER_DAY);
}

static int grow(struct registry *r)
{
    uint32_t cap = r->cap > 0 ? r->cap * 2 : FIRST_ENTRIES;
    struct registry_entry *entries =
        realloc(r->entries, (size_t)cap * sizeof(*entries));
    if (entries == NULL) {
        return PSC_NOMEM;
    }
    r->entries = entries;
    r->cap = cap;
    return PSC_OK;
}

static int take_quota(const struct registry *r, struct registry_quota *quota)
{
    if (quota == NULL) {
        return PSC_OK;
    }
    if (quota->day != r->today) {
        *quota = (struct registry_quota){.day = r->today};
    }
    if (quota->used >= REGISTRY_NEW_PER_DAY) {
        return PSC_LIMIT;
    }
    quota->used++;
    return PSC_OK;
}

static int add_new(struct registry *r, struct psc_bytes key, uint8_t flags,
                   struct registry_quota *quota, uint32_t *index)
{
    if (r->keys.count == r->cap) {
        int rc = grow(r);
        if (rc != PSC_OK) {
            return rc;
        }
    }
    int rc = take_quota(r, quota);
    if (rc == PSC_OK) {
        rc = psc_map_add(&r->keys, key.data, key.len, index);
    }
    if (rc == PSC_OK) {
        r->entries[*index] = (struct registry_entry){
            .new_flags = flags,
            .used_day = r->today,
        };
    } else if (rc == PSC_LIMIT) {
        r->n_refused++;
    }
    return rc;
}

int registry_add(struct registry *r, struct psc_bytes key, uint8_t flags,
                 struct registry_quota *quota, uint32_t *index)
{
    *index = psc_map_find(&r->keys, key.data, key.len);
    if (*index != PSC_MAP_NONE) {
        r->entries[*index].new_flags |= flags;
        return PSC_OK;
    }
    int rc = add_new(r, key, flags, quota, index);
    if (rc != PSC_OK) {
        *index = REGISTRY_NONE;
    }
    return rc;
}

int32_t registry_id(struct registry *r, uint32_t index)
{
    struct registry_entry *e = &r->entries[index];
    bool stale = e->id > 0 ? r->today - e->used_day > REGISTRY_FRESH_DAYS
                           : e->id == NO_ROOM && r->today != e->used_day;
    if (stale || (e->new_flags & ~e->flags) != 0) {
        e->id = 0;
    }
    if (e->id > 0) {
        e->used_day = r->today;
    }
    return e->id;
}

void registry_learn(struct registry *r, uint32_t index, int32_t id,
                    uint8_t flags)
{
    struct registry_entry *e = &r->entries[index];
    e->id = id > 0 ? id : NO_ROOM;
    e->flags = flags;
    e->new_flags |= flags;
    e->used_day = r->today;
}

void registry_forget_ids(struct registry *r)
{
    for (uint32_t i = 0; i < r->keys.count; i++) {
        r->entries[i].id = 0;
    }
}

bool registry_is_tight(const struct registry *r)
{
    return r->keys.count >= r->keys.max / 10 * 9 ||
           r->keys.arena.len >= r->keys.arena.max / 10 * 9;
}

void registry_retain(struct registry *r, uint32_t *moved, unsigned keep_days)
{
    uint32_t count = r->keys.count;
    for (uint32_t i = 0; i < count; i++) {
        if (r->today - r->entries[i].used_day < (int)keep_days) {
            moved[i] = 0;
        }
    }
    psc_map_retain(&r->keys, moved);
    for (uint32_t i = 0; i < count; i++) {
        if (moved[i] != REGISTRY_NONE) {
            r->entries[moved[i]] = r->entries[i]; /* downwards */
        }
    }
}

size_t registry_bytes(const struct registry *r)
{
    const struct psc_map *m = &r->keys;
    size_t slots = m->slots != NULL ? ((size_t)m->slot_mask + 1) * 4 : 0;
    return slots + (size_t)m->cap * 8 + m->arena.cap +
           (size_t)r->cap * sizeof(*r->entries);
}
