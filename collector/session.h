/* One connection of an agent, from the handshake to its end, and the set of
 * all of them. The protocol's rules are in docs/protocol.md.
 *
 *               accept
 *                 v
 *              WAITING           for its turn: see lobby.h
 *                 v
 *             HANDSHAKE          TLS; judged by the connection
 *                 v
 *            FIRST_FRAME         Hello, Enrol or Renew
 *             |       |
 *             v       v
 *        ENROLLING  CLAIMING     waiting for the database; reads paused
 *             |       v
 *             |     READY        Open, Batch, Heartbeat, Renew
 *             v       v
 *             CLOSING            what is queued is flushed, requests end
 *                 v
 *               freed
 *
 * Every state may go to CLOSING, and each before READY has a deadline. Peers
 * in the first three, and those that enrol, are in the lobby. From
 * Hello on the collector sends a Pulse when it has sent nothing for 10 s. One
 * timer looks at all sessions every second: a timer for each would wake us ten
 * thousand times. */
#ifndef PSC_COLLECTOR_SESSION_H
#define PSC_COLLECTOR_SESSION_H

#include <uv.h>

#include "collector/ca.h"
#include "collector/clock_offset.h"
#include "collector/decode.h"
#include "collector/hosts.h"
#include "collector/ingest.h"
#include "collector/lobby.h"
#include "collector/metrics.h"
#include "collector/refusal_log.h"
#include "collector/store.h"
#include "common/conn.h"
#include "proto/wire.h"

enum session_state {
    SESSION_WAITING,
    SESSION_HANDSHAKE,
    SESSION_FIRST_FRAME,
    SESSION_ENROLLING,
    SESSION_CLAIMING,
    SESSION_READY,
    SESSION_CLOSING,
    SESSION_STATES,
};
const char *session_state_name(enum session_state state);
/* Whether a session may go from one state to the other. */
bool session_may_change(enum session_state from, enum session_state to);

/* What all sessions share. */
struct sessions {
    uv_loop_t *loop;
    struct store *store;
    struct ingest *ingest;
    struct ca *ca;
    struct metrics *metrics;
    struct decode_shared decode;
    struct wire_decoder wire;
    struct psc_buf frame; /* being sent; scratch */
    struct hosts hosts;
    struct lobby lobby; /* sessions before the claim */
    struct refusal_log log;
    struct session *first; /* all of them */
    uv_timer_t timer;      /* every second */
    unsigned n;
    unsigned n_hosts;   /* of these: CLAIMING or READY */
    unsigned max;       /* of hosts */
    uv_stream_t *held;  /* a connection waits at this listener, or NULL */
    uv_timer_t more;    /* while there is one: to look for room again */
    unsigned n_burst;   /* accepted since the loop has read anything */
    size_t table_bytes; /* of all decoders */
    struct store_heartbeats heartbeats;
    bool heartbeats_busy;
    uint32_t heartbeat_next; /* index of the host whose turn it is */
    bool stopping;
    void (*on_stopped)(struct sessions *all);
};

/* The other modules are borrowed. Returns 0 or PSC_NOMEM. */
PSC_MUST_CHECK int sessions_init(struct sessions *all, uv_loop_t *loop,
                                 struct store *store, struct ingest *ingest,
                                 struct ca *ca, struct metrics *metrics,
                                 unsigned max_connections,
                                 unsigned max_handshakes);
void sessions_fini(struct sessions *all);

/* Descriptors that are taken beyond one for each of `max`: connections that are
 * to be told to come later, those that are being closed, and the program's. */
#define SESSIONS_SPARE_FILES 512u

/* What ingest tells sessions. */
extern const struct ingest_events session_ingest_events;

/* A connection waits at @listener. */
void sessions_accept(struct sessions *all, uv_stream_t *listener);

/* An administrator has disabled the host: its session ends. */
void sessions_disable(struct sessions *all, int64_t host_id);

/* Send to the store what is due of the heartbeats; every few seconds. */
void sessions_flush_heartbeats(struct sessions *all);

/* End all sessions with REFUSAL_BUSY ("restarting"), then @on_stopped. */
void sessions_stop(struct sessions *all,
                   void (*on_stopped)(struct sessions *all));

#endif
