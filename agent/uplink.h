/* The way to the collector: connects, opens the spool's streams one after the
 * other, sends what is not acknowledged, and takes acknowledgements back to
 * the spool. Never gives up.
 *
 *                  +------------------ BACKOFF <-------------------+
 *                  v                                               |
 *   IDLE -> (no identity yet) ENROLLING -> CONNECTING -> HELLO     |
 *                                              |           |       |
 *             (certificate expired) RENEWING <-+           v       |
 *                                     |        +------- OPENING    |
 *                                     |        |         ^   |     |
 *                                     |        |         |   v     |
 *                                     +--------+--------- LIVE     |
 *                                     v                    v       |
 *                                   CLOSING <--------------+ ------+
 *
 * Several collectors are tried in their order; one that works is kept. Between
 * rounds that fail the pause doubles up to backoff_max_ms, with jitter. A
 * refusal that only an administrator can lift is logged once and tried again
 * every refused_ms. An identity that another process has written (--enrol while
 * the agent runs) is looked for before each try, and every look_ms until then;
 * a new one ends the pause. */
#ifndef PSC_AGENT_UPLINK_H
#define PSC_AGENT_UPLINK_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "agent/enrol.h"
#include "agent/identity.h"
#include "agent/options.h"
#include "agent/source.h"
#include "agent/spool.h"
#include "common/conn.h"
#include "proto/wire.h"

/* Batches sent and not yet acknowledged. A sample in parts, which the collector
 * acknowledges as a whole, may go beyond it. */
#define UPLINK_WINDOW_BATCHES 192u
#define UPLINK_WINDOW_BYTES   (256u << 10)
#define UPLINK_RING_BATCHES   (UPLINK_WINDOW_BATCHES + 64u)

enum uplink_state {
    UPLINK_IDLE,
    UPLINK_BACKOFF,
    UPLINK_ENROLLING,
    UPLINK_CONNECTING,
    UPLINK_RENEWING,
    UPLINK_HELLO,
    UPLINK_OPENING,
    UPLINK_LIVE,
    UPLINK_CLOSING,
    UPLINK_STATES,
};

struct uplink_pace {
    int64_t backoff_min_ms; /* first pause */
    int64_t backoff_max_ms; /* longest pause */
    int64_t refused_ms;     /* pause after a lasting refusal */
    int64_t heartbeat_ms;
    int64_t idle_ms;      /* a peer silent for so long is dead */
    int64_t handshake_ms; /* to connect, and again to shake hands */
    int64_t look_ms;      /* between looks for a new identity */
};
extern const struct uplink_pace uplink_default_pace;

struct uplink_settings {
    uv_loop_t *loop;
    struct spool *spool; /* borrowed, as all below */
    struct identity *identity;
    const struct options *options; /* token, role, region, labels, interval */
    const struct host_facts *facts;
    const struct uplink_pace *pace;
    /* Nothing waits: the next batch must be a keyframe. */
    void (*on_want_keyframe)(void *user);
    /* After uplink_stop(): the connection is gone. */
    void (*on_stopped)(void *user);
    void *user;
};

struct uplink {
    struct uplink_settings s;
    enum uplink_state state; /* changed by uplink_set_state() alone */

    struct endpoint endpoints[OPTIONS_MAX_COLLECTORS];
    SSL_SESSION *sessions[OPTIONS_MAX_COLLECTORS]; /* to resume; owned */
    unsigned n_endpoints;
    unsigned current;          /* the one in use or tried next */
    unsigned n_tried;          /* endpoints failed in this round */
    unsigned n_rounds;         /* rounds failed since the last success */
    enum wire_refusal refusal; /* of this connection; 0: none */
    enum wire_refusal told;    /* the last one that was logged */
    int64_t retry_after_ms;    /* as the collector asked */
    char last_error[256];      /* logged last, to log changes only */

    SSL_CTX *ctx; /* of the identity; NULL: to be made */
    union {       /* ENROLLING, or a connection */
        struct enrol enrol;
        struct psc_conn conn;
    };
    uv_timer_t timer; /* BACKOFF: the pause; else: heartbeat */
    uint64_t beat_ms; /* loop time of the last heartbeat */
    uint64_t try_ms;  /* BACKOFF: loop time of the next try */
    bool unreadable;  /* said that the identity's files cannot be read */
    struct wire_decoder decoder;
    struct psc_buf frame; /* being encoded */

    uint8_t stream[SPOOL_STREAM_BYTES]; /* opened with the collector */
    uint64_t sent_seq;                  /* newest batch sent since Cursor */
    uint64_t high_seq; /* newest of this stream sent in the session */
    struct spool_reader reader;
    struct {
        uint64_t seq;
        size_t bytes;
    } window[UPLINK_RING_BATCHES]; /* a ring of unacknowledged batches */
    unsigned window_at, window_n;  /* its first one, and how many */
    size_t window_bytes;           /* of their payloads */
    uint64_t cursor_seq;           /* as the stream's last Cursor told */
    uint64_t given_up_seq;  /* not to be sent again, whatever Cursors tell */
    unsigned n_refused;     /* refusals of what follows cursor_seq */
    uint64_t stuck_seq;     /* of the last NEED_KEYFRAME without progress */
    int64_t renew_after_us; /* wall clock: not before that again */
    unsigned n_stuck;       /* how often in a row */
    bool stopping;          /* uplink_stop() was called */
    bool worked;            /* this connection was of use */
    bool passed;            /* all that was sent again is acknowledged */
    bool timer_open;        /* the timer must be closed */
    bool sent_any;          /* sent_seq holds */
    bool within_sample;     /* the next batch is a further part */
    bool renewing;          /* a request is under way in LIVE */
};

const char *uplink_state_name(enum uplink_state state);

/* Prepare; nothing happens before uplink_start(). */
PSC_MUST_CHECK int uplink_init(struct uplink *u,
                               const struct uplink_settings *settings,
                               struct psc_error *err);

/* Begin to connect, from the loop on. */
void uplink_start(struct uplink *u);

/* A batch has been appended to the spool. */
void uplink_kick(struct uplink *u);

/* The options have changed: use their collectors. @greet: so has what a hello
 * tells, which takes a new session. */
PSC_MUST_CHECK int uplink_reload(struct uplink *u, bool greet,
                                 struct psc_error *err);

/* Close; on_stopped follows, then uplink_fini() may be called. */
void uplink_stop(struct uplink *u);
void uplink_fini(struct uplink *u);

/* The pause before round @round (0, 1, …) of tries: between half and all of
 * backoff_min_ms doubled each round up to backoff_max_ms. */
int64_t uplink_backoff_ms(const struct uplink_pace *pace, unsigned round,
                          uint32_t random);

#endif
