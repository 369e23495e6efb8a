/* Lists by age: silent and queued guests by a hash of their address. */
#include "collector/lobby.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/crc32c.h"

int lobby_init(struct lobby *l, unsigned max_guests, unsigned max_inside)
{
    *l = (struct lobby){.max_guests = max_guests, .max_inside = max_inside};
    l->buckets = calloc(LOBBY_BUCKETS, sizeof(*l->buckets));
    return l->buckets != NULL ? PSC_OK : PSC_NOMEM;
}

void lobby_fini(struct lobby *l)
{
    free(l->buckets);
    l->buckets = NULL;
}

static uint32_t bucket_of(const char *address)
{
    const char *port = strrchr(address, ':');
    size_t len = port != NULL ? (size_t)(port - address) : strlen(address);
    return psc_crc32c(0, address, len) % LOBBY_BUCKETS;
}

/* ---- places ---- */

static struct lobby_list *list_of(struct lobby *l,
                                  const struct lobby_guest *guest)
{
    switch (guest->place) {
    case LOBBY_SILENT: return &l->buckets[guest->bucket].silent;
    case LOBBY_QUEUED: return &l->buckets[guest->bucket].queued;
    case LOBBY_INSIDE: return &l->inside;
    case LOBBY_KEPT: return &l->kept;
    default: return NULL;
    }
}

static void count(struct lobby *l, const struct lobby_guest *guest, unsigned by)
{
    l->n_silent += guest->place == LOBBY_SILENT ? by : 0;
    l->n_queued += guest->place == LOBBY_QUEUED ? by : 0;
}

static void put(struct lobby *l, struct lobby_guest *guest,
                enum lobby_place place)
{
    guest->place = place;
    struct lobby_list *list = list_of(l, guest);
    guest->next = NULL;
    guest->previous = list->last;
    if (list->last != NULL) {
        list->last->next = guest;
    } else {
        list->first = guest;
    }
    list->last = guest;
    list->n++;
    count(l, guest, 1);
}

static void take(struct lobby *l, struct lobby_guest *guest)
{
    struct lobby_list *list = list_of(l, guest);
    if (guest->previous != NULL) {
        guest->previous->next = guest->next;
    } else {
        list->first = guest->next;
    }
    if (guest->next != NULL) {
        guest->next->previous = guest->previous;
    } else {
        list->last = guest->previous;
    }
    list->n--;
    count(l, guest, -1u);
    guest->place = LOBBY_OUT;
}

/* ---- the way through ---- */

bool lobby_is_full(const struct lobby *l)
{
    return l->n_silent + l->n_queued + l->inside.n + l->kept.n >= l->max_guests;
}

struct lobby_guest *lobby_spare(const struct lobby *l, int64_t now_us)
{
    const struct lobby_list *most = &l->buckets[0].silent;
    for (unsigned i = 1; i < LOBBY_BUCKETS && l->n_silent > 0; i++) {
        if (l->buckets[i].silent.n > most->n) {
            most = &l->buckets[i].silent;
        }
    }
    bool may_stay =
        most->first == NULL || now_us - most->first->since_us < LOBBY_SILENT_US;
    return may_stay ? NULL : most->first;
}

void lobby_enter(struct lobby *l, struct lobby_guest *guest,
                 const char *address, int64_t now_us)
{
    assert(guest->place == LOBBY_OUT);
    guest->bucket = bucket_of(address);
    guest->since_us = now_us;
    put(l, guest, LOBBY_SILENT);
}

void lobby_knock(struct lobby *l, struct lobby_guest *guest, int64_t now_us)
{
    assert(guest->place == LOBBY_SILENT);
    take(l, guest);
    guest->since_us = now_us;
    put(l, guest, LOBBY_QUEUED);
}

struct lobby_guest *lobby_admit(struct lobby *l, int64_t now_us)
{
    if (l->n_queued == 0 || l->inside.n + l->kept.n >= l->max_inside) {
        return NULL;
    }
    do {
        l->turn = (l->turn + 1) % LOBBY_BUCKETS;
    } while (l->buckets[l->turn].queued.n == 0);
    struct lobby_guest *guest = l->buckets[l->turn].queued.first;
    take(l, guest);
    guest->since_us = now_us;
    put(l, guest, LOBBY_INSIDE);
    return guest;
}

void lobby_keep(struct lobby *l, struct lobby_guest *guest)
{
    assert(guest->place == LOBBY_INSIDE);
    take(l, guest);
    put(l, guest, LOBBY_KEPT);
}

struct lobby_guest *lobby_late(const struct lobby *l, int64_t now_us)
{
    struct lobby_guest *guest = l->inside.first;
    bool late = l->n_queued > 0 && guest != NULL &&
                now_us - guest->since_us >= LOBBY_GRACE_US;
    return late ? guest : NULL;
}

void lobby_leave(struct lobby *l, struct lobby_guest *guest)
{
    if (guest->place != LOBBY_OUT) {
        take(l, guest);
    }
}
