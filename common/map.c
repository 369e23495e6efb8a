/* Byte strings to dense indices.
 *
 * The hash table holds index + 1 and is at most half full; a key is compared
 * by its full hash first, so a probe rarely touches the arena. */
#include "common/map.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_KEYS = 64 };

void psc_map_init(struct psc_map *m, uint32_t max_keys, size_t max_bytes)
{
    *m = (struct psc_map){.max = max_keys};
    psc_buf_init(&m->arena, max_bytes);
}

void psc_map_fini(struct psc_map *m)
{
    free(m->slots);
    free(m->offsets);
    free(m->hashes);
    psc_buf_fini(&m->arena);
    psc_map_init(m, m->max, m->arena.max);
}

void psc_map_clear(struct psc_map *m)
{
    if (m->slots != NULL) {
        memset(m->slots, 0, ((size_t)m->slot_mask + 1) * sizeof(*m->slots));
    }
    m->count = 0;
    psc_buf_reset(&m->arena);
}

/* FNV-1a with a final mix: keys are short, and a peer that makes them collide
 * slows only its own session, within the bound on its keys. */
static uint32_t hash_key(const uint8_t *key, size_t len)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < len; i++) {
        h = (h ^ key[i]) * 0x100000001b3u;
    }
    h ^= h >> 29;
    return (uint32_t)(h ^ (h >> 32));
}

struct psc_bytes psc_map_key(const struct psc_map *m, uint32_t index)
{
    struct psc_bytes key = {m->arena.data + m->offsets[index],
                            m->offsets[index + 1] - m->offsets[index]};
    return key;
}

static uint32_t find_slot(const struct psc_map *m, const void *key, size_t len,
                          uint32_t hash)
{
    uint32_t slot = hash & m->slot_mask;
    while (m->slots[slot] != 0) {
        uint32_t index = m->slots[slot] - 1;
        if (m->hashes[index] == hash) {
            struct psc_bytes k = psc_map_key(m, index);
            if (k.len == len && (len == 0 || memcmp(k.data, key, len) == 0)) {
                break;
            }
        }
        slot = (slot + 1) & m->slot_mask;
    }
    return slot;
}

uint32_t psc_map_find(const struct psc_map *m, const void *key, size_t len)
{
    if (m->count == 0) {
        return PSC_MAP_NONE;
    }
    uint32_t slot = find_slot(m, key, len, hash_key(key, len));
    return m->slots[slot] != 0 ? m->slots[slot] - 1 : PSC_MAP_NONE;
}

/* Fill the empty hash table. */
static void fill_slots(struct psc_map *m)
{
    for (uint32_t i = 0; i < m->count; i++) {
        uint32_t slot = m->hashes[i] & m->slot_mask;
        while (m->slots[slot] != 0) {
            slot = (slot + 1) & m->slot_mask;
        }
        m->slots[slot] = i + 1;
    }
}

void psc_map_retain(struct psc_map *m, uint32_t *moved)
{
    uint32_t n = 0;
    if (m->count == 0) {
        return;
    }
    for (uint32_t i = 0; i < m->count; i++) {
        struct psc_bytes key = psc_map_key(m, i);
        if (moved[i] == PSC_MAP_NONE) {
            continue;
        }
        /* Downwards only: n <= i, and so are the bytes. */
        memmove(m->arena.data + m->offsets[n], key.data, key.len);
        uint32_t end = m->offsets[n] + (uint32_t)key.len;
        m->hashes[n] = m->hashes[i];
        moved[i] = n++;
        m->offsets[n] = end;
    }
    m->count = n;
    m->arena.len = m->offsets[n];
    memset(m->slots, 0, ((size_t)m->slot_mask + 1) * sizeof(*m->slots));
    fill_slots(m);
}

/* Make the arrays take one key more; the map stays valid on failure. */
static int grow(struct psc_map *m)
{
    uint32_t cap = m->cap > 0 ? m->cap * 2 : FIRST_KEYS;
    uint32_t n_slots = cap * 2;

    uint32_t *offsets =
        realloc(m->offsets, ((size_t)cap + 1) * sizeof(*offsets));
    if (offsets == NULL) {
        return PSC_NOMEM;
    }
    m->offsets = offsets;
    uint32_t *hashes = realloc(m->hashes, (size_t)cap * sizeof(*hashes));
    if (hashes == NULL) {
        return PSC_NOMEM;
    }
    m->hashes = hashes;
    uint32_t *slots = calloc(n_slots, sizeof(*slots));
    if (slots == NULL) {
        return PSC_NOMEM;
    }
    free(m->slots);
    m->slots = slots;
    m->slot_mask = n_slots - 1;
    m->cap = cap;
    fill_slots(m);
    return PSC_OK;
}

int psc_map_add(struct psc_map *m, const void *key, size_t len, uint32_t *index)
{
    uint32_t hash = hash_key(key, len);
    if (m->count > 0) {
        uint32_t slot = find_slot(m, key, len, hash);
        if (m->slots[slot] != 0) {
            *index = m->slots[slot] - 1;
            return PSC_OK;
        }
    }
    if (m->count >= m->max) {
        return PSC_LIMIT;
    }
    if (m->count == m->cap) {
        int rc = grow(m);
        if (rc != PSC_OK) {
            return rc;
        }
    }
    int rc = psc_buf_reserve(&m->arena, len);
    if (rc != PSC_OK) {
        m->arena.error = PSC_OK; /* the keys that are in stay usable */
        return rc;
    }
    if (m->count == 0) {
        m->offsets[0] = 0;
    }
    psc_buf_append(&m->arena, key, len);
    m->offsets[m->count + 1] = (uint32_t)m->arena.len;
    m->hashes[m->count] = hash;
    m->slots[find_slot(m, key, len, hash)] = m->count + 1;
    *index = m->count++;
    return PSC_OK;
}
