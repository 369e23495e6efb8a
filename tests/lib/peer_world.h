/* Scripted agents (peer.h) in an installation (world.h), and what the database
 * and the metrics say of them. Every function fails the running test on an
 * error. */
#ifndef PSC_TESTS_LIB_PEER_WORLD_H
#define PSC_TESTS_LIB_PEER_WORLD_H

#include "tests/lib/peer.h"
#include "tests/lib/world.h"

enum { PEER_ACK_S = 20 };

/* A text made printf-style; good until three more were made. */
const char *peer_text(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/* A host that has enrolled with a token of its own. */
void peer_world_enrol(struct world *w, struct peer_identity *id,
                      const char *host);

/* Connect, Hello and Open. */
void peer_world_begin(struct world *w, struct peer *p,
                      const struct peer_identity *id, uint8_t stream_byte);

/* Samples stored of a host: "count distinct-seqs max-seq". */
const char *peer_world_stored(struct world *w, const struct peer_identity *id);

/* How many events of a kind the host has. */
long long peer_world_events(struct world *w, const struct peer_identity *id,
                            const char *event_id);

long long peer_world_host_id(struct world *w, const struct peer_identity *id);

/* Refusals counted under a reason, and waiting for them: some are counted
 * only when the connection is closed for good. */
long long peer_world_refusals(struct world *w, const char *reason);
void peer_world_await_refusals(struct world *w, const char *reason,
                               long long n);

#endif
