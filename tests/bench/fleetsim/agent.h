/* One simulated agent: its connection and its place in its stream.
 *
 *     WAITING -> CONNECTING -> HELLO -> OPENING <-> LIVE
 *        ^           |           |         |         |
 *        +-------- CLOSING <-----+---------+---------+ -> DONE
 *
 * It has no spool. What waits is computed when it can be sent; what was sent
 * and is not acknowledged when a connection ends is computed again, under the
 * seqs that follow the collector's Cursor. */
#ifndef PSC_TESTS_BENCH_FLEETSIM_AGENT_H
#define PSC_TESTS_BENCH_FLEETSIM_AGENT_H

#include "tests/bench/fleetsim/fleet.h"

enum sim_state {
    SIM_WAITING,
    SIM_CONNECTING,
    SIM_HELLO,
    SIM_OPENING,
    SIM_LIVE,
    SIM_CLOSING,
    SIM_DONE,
    SIM_STATES,
};

/* A sample that is not acknowledged. */
struct sim_sent {
    uint64_t seq; /* of its last batch */
    uint64_t k;
    int64_t sent_us; /* monotonic */
};

struct sim_agent {
    struct fleet *fleet; /* borrowed */
    struct truth_host host;
    struct position position;
    struct psc_conn conn;
    SSL_SESSION *session; /* to resume; owned */
    uv_timer_t timer;     /* WAITING: to connect; LIVE: next thing to do */
    enum sim_state state;

    /* A stream is a life of the agent: from its start to a reboot or a
     * silence. */
    uint32_t n_lives;
    uint64_t life_first;    /* snapshot */
    struct truth_boot boot; /* of the life */
    uint64_t stream;        /* its number: the start of its id */
    uint64_t next_k, next_seq;
    uint64_t acked_seq;  /* newest */
    uint64_t hello_boot; /* number of the boot that the hello told */
    bool new_life;       /* next_k begins one */
    bool want_keyframe;

    struct sim_sent *sent; /* a ring; owned */
    uint32_t sent_at, n_sent, sent_cap;

    int64_t booted_us;  /* with --from: the present boot, wall clock */
    int64_t beat_us;    /* monotonic: last heartbeat */
    int64_t dropped_us; /* monotonic: connection lost; 0: not */
    int64_t behind_us;  /* monotonic: connection lost, and since then not all
                           that was due acknowledged; 0: not */
    int64_t wake_us;    /* wall clock: connect no sooner */
    int64_t retry_ms;   /* as a refusal said */
    unsigned round;     /* tries without success */
};

PSC_MUST_CHECK int sim_agent_init(struct sim_agent *a, struct fleet *f,
                                  uint32_t number, struct psc_error *err);
void sim_agent_fini(struct sim_agent *a);

/* Begin to connect after @delay_ms. */
void sim_agent_start(struct sim_agent *a, uint64_t delay_ms);

/* Drop the connection if there is one; it comes back as after a failure. */
void sim_agent_drop(struct sim_agent *a);

/* No further snapshots are due: be done when all is acknowledged; @now: be
 * done anyway. */
void sim_agent_finish(struct sim_agent *a, bool now);

/* --- agent_sent.c --- */

/* The @i-th oldest sample that is not acknowledged. */
struct sim_sent *sim_sent_at(struct sim_agent *a, uint32_t i);
PSC_MUST_CHECK int sim_sent_add(struct sim_agent *a, const struct sim_sent *s);

/* All up to @seq is stored, as an Ack or (@by_cursor) a Cursor says. */
void sim_sent_stored(struct sim_agent *a, uint64_t seq, bool by_cursor);

/* --- agent_stream.c: what is said on an open connection --- */

void sim_agent_begin_life(struct sim_agent *a);
void sim_agent_say_hello(struct sim_agent *a);
void sim_agent_frame(struct sim_agent *a, struct psc_bytes frame);

/* Send what is due, then sleep until the next thing to do. */
void sim_agent_pump(struct sim_agent *a);

/* --- agent.c, for agent_stream.c --- */

/* Whether nothing is left to send, or that no longer counts. */
bool sim_agent_is_done(struct sim_agent *a);

void sim_agent_set_state(struct sim_agent *a, enum sim_state state);
void sim_agent_close(struct sim_agent *a, int code, const char *text);
void sim_agent_sleep(struct sim_agent *a, int64_t us);

#endif
