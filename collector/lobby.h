/* Who has connected and not said who he is yet: handshakes and first frames.
 * Such peers cost memory and know no password, so they are few, and room for a
 * new one is made by sending away one that has had his time. Pure: time comes
 * in.
 *
 * An honest agent is through within milliseconds. When the lobby is full, the
 * one to go is the oldest of the address that has most of them: at once when
 * that address holds a quarter of the lobby and the new one comes from
 * elsewhere, otherwise when he has been there for a second. If nobody may go,
 * the new one must come again. */
#ifndef PSC_COLLECTOR_LOBBY_H
#define PSC_COLLECTOR_LOBBY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

#define LOBBY_GRACE_US (1000000LL)
#define LOBBY_BUCKETS  1024u

/* Part of whoever waits. */
struct lobby_guest {
    bool in;
    unsigned place;
};

struct lobby_place {
    struct lobby_guest *guest;
    int64_t since_us; /* monotonic */
    uint32_t bucket;  /* of the address */
};

struct lobby {
    struct lobby_place *places; /* owned; @n of @max are taken, in any order */
    unsigned n, max;
    unsigned crowd[LOBBY_BUCKETS]; /* guests by a hash of their address */
};

/* Returns 0 or PSC_NOMEM. */
PSC_MUST_CHECK int lobby_init(struct lobby *l, unsigned max);
void lobby_fini(struct lobby *l);

/* Who must leave before a guest from @address ("192.0.2.7:1234", the port does
 * not count) may come in: NULL, one that is in, or @guest itself. */
struct lobby_guest *lobby_ask(const struct lobby *l, struct lobby_guest *guest,
                              const char *address, int64_t now_us);

/* In, when there is room, and out; out is safe for one who is not in. */
void lobby_enter(struct lobby *l, struct lobby_guest *guest,
                 const char *address, int64_t now_us);
void lobby_leave(struct lobby *l, struct lobby_guest *guest);

#endif
