/* Hosts by id. */
#include "collector/hosts.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_SLOTS = 64, HOSTS_MAX = 1000000 };

void hosts_init(struct hosts *h)
{
    *h = (struct hosts){.cap = 0};
    psc_map_init(&h->ids, HOSTS_MAX, HOSTS_MAX * sizeof(int64_t));
}

void hosts_fini(struct hosts *h)
{
    for (uint32_t i = 0; i < h->ids.count; i++) {
        free(h->slot[i]);
    }
    free(h->slot);
    psc_map_fini(&h->ids);
    hosts_init(h);
}

int64_t hosts_id(const struct hosts *h, uint32_t index)
{
    int64_t host_id;
    memcpy(&host_id, psc_map_key(&h->ids, index).data, sizeof(host_id));
    return host_id;
}

struct host_slot *hosts_find(const struct hosts *h, int64_t host_id)
{
    uint32_t i = psc_map_find(&h->ids, &host_id, sizeof(host_id));
    return i != PSC_MAP_NONE ? h->slot[i] : NULL;
}

struct host_slot *hosts_get(struct hosts *h, int64_t host_id)
{
    struct host_slot *known = hosts_find(h, host_id);
    if (known != NULL) {
        return known;
    }
    if (h->ids.count == h->cap) {
        uint32_t cap = h->cap > 0 ? h->cap * 2 : FIRST_SLOTS;
        struct host_slot **slot =
            realloc(h->slot, cap * sizeof(struct host_slot *));
        if (slot == NULL) {
            return NULL;
        }
        h->slot = slot;
        h->cap = cap;
    }
    struct host_slot *made = calloc(1, sizeof(*made));
    uint32_t i;
    if (made == NULL ||
        psc_map_add(&h->ids, &host_id, sizeof(host_id), &i) != PSC_OK) {
        free(made);
        return NULL;
    }
    h->slot[i] = made;
    return made;
}
