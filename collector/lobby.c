/* Guests in an array, counted by address. */
#include "collector/lobby.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/crc32c.h"

int lobby_init(struct lobby *l, unsigned max)
{
    *l = (struct lobby){.max = max};
    l->places = calloc(max, sizeof(*l->places));
    return l->places != NULL ? PSC_OK : PSC_NOMEM;
}

void lobby_fini(struct lobby *l)
{
    free(l->places);
    l->places = NULL;
    l->max = 0;
}

static uint32_t bucket_of(const char *address)
{
    const char *port = strrchr(address, ':');
    size_t len = port != NULL ? (size_t)(port - address) : strlen(address);
    return psc_crc32c(0, address, len) % LOBBY_BUCKETS;
}

/* The oldest of the largest crowd. */
static const struct lobby_place *oldest(const struct lobby *l)
{
    const struct lobby_place *found = &l->places[0];
    for (unsigned i = 1; i < l->n; i++) {
        const struct lobby_place *p = &l->places[i];
        unsigned n = l->crowd[p->bucket];
        unsigned most = l->crowd[found->bucket];
        if (n > most || (n == most && p->since_us < found->since_us)) {
            found = p;
        }
    }
    return found;
}

struct lobby_guest *lobby_ask(const struct lobby *l, struct lobby_guest *guest,
                              const char *address, int64_t now_us)
{
    if (l->n < l->max) {
        return NULL;
    }
    const struct lobby_place *p = oldest(l);
    bool crowded = l->crowd[p->bucket] > l->max / 4;
    bool elsewhere = l->crowd[bucket_of(address)] < l->crowd[p->bucket] / 2;
    bool may_go =
        (crowded && elsewhere) || now_us - p->since_us >= LOBBY_GRACE_US;
    return may_go ? p->guest : guest;
}

void lobby_enter(struct lobby *l, struct lobby_guest *guest,
                 const char *address, int64_t now_us)
{
    assert(l->n < l->max && !guest->in);
    struct lobby_place *p = &l->places[l->n];
    p->guest = guest;
    p->since_us = now_us;
    p->bucket = bucket_of(address);
    l->crowd[p->bucket]++;
    guest->in = true;
    guest->place = l->n++;
}

void lobby_leave(struct lobby *l, struct lobby_guest *guest)
{
    if (!guest->in) {
        return;
    }
    struct lobby_place *p = &l->places[guest->place];
    assert(p->guest == guest);
    l->crowd[p->bucket]--;
    *p = l->places[--l->n];
    p->guest->place = guest->place;
    guest->in = false;
}
