/* Who has connected and not said who he is yet. Such peers know no password, so
 * what each of them may cost is little. Pure: time comes in.
 *
 *   enter -> SILENT -> knock -> QUEUED -> admit -> INSIDE -> leave
 *
 * SILENT: nothing has been heard; that costs a few KiB. When the lobby is full,
 * one of these makes room for whoever comes: the oldest of the address that has
 * most of them, after LOBBY_SILENT_US. An honest agent speaks as soon as it is
 * connected.
 *
 * QUEUED: the first record of TLS is here, nothing is done about it yet. Each
 * address in turn gets a place inside for its oldest, so that no crowd holds up
 * the others, and a fleet that comes all at once is let through in order. If
 * only such peers fill the lobby, further ones stay in the kernel's queue.
 *
 * INSIDE: the handshake and the first frame, which cost CPU and buffers, so
 * these places are few. An honest agent needs milliseconds; who holds a place
 * for more than LOBBY_GRACE_US while others want it goes. */
#ifndef PSC_COLLECTOR_LOBBY_H
#define PSC_COLLECTOR_LOBBY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

#define LOBBY_SILENT_US (500000LL)
#define LOBBY_GRACE_US  (6000000LL)
#define LOBBY_BUCKETS   1024u

enum lobby_place {
    LOBBY_OUT,
    LOBBY_SILENT,
    LOBBY_QUEUED,
    LOBBY_INSIDE,
    LOBBY_KEPT, /* inside, and not to be hurried */
};

/* Part of whoever waits. */
struct lobby_guest {
    enum lobby_place place;
    uint32_t bucket;                     /* of the address */
    int64_t since_us;                    /* monotonic: in this place */
    struct lobby_guest *next, *previous; /* of the same place, by age */
};

struct lobby_list {
    struct lobby_guest *first, *last;
    unsigned n;
};

/* Those whose address has the same hash. */
struct lobby_bucket {
    struct lobby_list silent, queued;
};

struct lobby {
    struct lobby_bucket *buckets;   /* owned */
    struct lobby_list inside, kept; /* of all addresses */
    unsigned n_silent, n_queued;    /* likewise */
    unsigned max_guests, max_inside;
    uint32_t turn; /* bucket whose guest was admitted last */
};

/* Room for @max_guests, @max_inside of them inside. Returns 0 or PSC_NOMEM. */
PSC_MUST_CHECK int lobby_init(struct lobby *l, unsigned max_guests,
                              unsigned max_inside);
void lobby_fini(struct lobby *l);

bool lobby_is_full(const struct lobby *l);

/* The silent guest who is to make room, still in the lobby; NULL if nobody has
 * to. */
struct lobby_guest *lobby_spare(const struct lobby *l, int64_t now_us);

/* In, from @address ("192.0.2.7:1234", the port does not count). */
void lobby_enter(struct lobby *l, struct lobby_guest *guest,
                 const char *address, int64_t now_us);

/* A silent guest has spoken. */
void lobby_knock(struct lobby *l, struct lobby_guest *guest, int64_t now_us);

/* The guest whose turn it is, who is inside from now on; NULL when nobody
 * waits or there is no place. */
struct lobby_guest *lobby_admit(struct lobby *l, int64_t now_us);

/* A guest inside keeps his place, as long as it takes. */
void lobby_keep(struct lobby *l, struct lobby_guest *guest);

/* The guest who has been inside for too long, while others wait; or NULL. */
struct lobby_guest *lobby_late(const struct lobby *l, int64_t now_us);

/* Out; safe for one who is not in. */
void lobby_leave(struct lobby *l, struct lobby_guest *guest);

#endif
