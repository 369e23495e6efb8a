/* The life of a session: accepting, states, timers, refusing, ending.
 *
 * Failures all end in CLOSING: a peer that breaks the protocol, a deadline, a
 * dead connection, memory. The session is freed when its connection is closed
 * and no request of the store refers to it any more. */
#include "collector/session.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/session_private.h"
#include "common/clock.h"
#include "common/log.h"

enum {
    HANDSHAKE_S = 10,
    TURN_S = 60, /* a peer waits so long for its turn at most */
    WAITING_MAX = 16384,
    OVER_MAX = 256,  /* connections beyond max: to be told so */
    BURST_MAX = 256, /* accepted before anything else is done */
    LOOK_FOR_ROOM_MS = 20,
    FIRST_FRAME_S = 10,
    IDLE_S = 30,
    PULSE_MS = 10000,
    LOOK_MS = 1000,
    ENABLED_AGAIN_S = 60, /* so soon is a host back after host enable */
    FIRST_FRAME_MAX_BYTES = 16 * 1024,
    QUEUE_MAX_BYTES = 256 * 1024,
    FRAME_MAX_BYTES = 512 * 1024,
    FACTS_MAX_BYTES = 64 * 1024,
    RETRY_AFTER_S = 5,
    REASON_BYTES = 240, /* of a refusal */
};

#define FULL_RETRY_US (30 * UINT64_C(1000000))

static const char *const state_names[SESSION_STATES] = {
    [SESSION_WAITING] = "waiting",         [SESSION_HANDSHAKE] = "handshake",
    [SESSION_FIRST_FRAME] = "first frame", [SESSION_ENROLLING] = "enrolling",
    [SESSION_CLAIMING] = "claiming",       [SESSION_READY] = "ready",
    [SESSION_CLOSING] = "closing",
};

const char *session_state_name(enum session_state state)
{
    return state < SESSION_STATES ? state_names[state] : "?";
}

bool session_may_change(enum session_state from, enum session_state to)
{
#define TO(state) (1u << SESSION_##state)
    static const unsigned allowed[SESSION_STATES] = {
        [SESSION_WAITING] = TO(HANDSHAKE) | TO(CLOSING),
        [SESSION_HANDSHAKE] = TO(FIRST_FRAME) | TO(CLOSING),
        [SESSION_FIRST_FRAME] = TO(ENROLLING) | TO(CLAIMING) | TO(CLOSING),
        [SESSION_ENROLLING] = TO(CLOSING),
        [SESSION_CLAIMING] = TO(READY) | TO(CLOSING),
        [SESSION_READY] = TO(CLOSING),
        [SESSION_CLOSING] = 0,
    };
#undef TO
    return from < SESSION_STATES && to < SESSION_STATES &&
           (allowed[from] >> to & 1) != 0;
}

static void count_state(struct session *s, enum session_state state, int by)
{
    atomic_fetch_add(&s->all->metrics->sessions[state], by);
}

static struct session *session_of(struct lobby_guest *guest)
{
    return (struct session *)((char *)guest - offsetof(struct session, guest));
}

/* Begin the handshakes for which there is a place. */
static void admit_guests(struct sessions *all)
{
    struct lobby_guest *guest;
    while (!all->stopping &&
           (guest = lobby_admit(&all->lobby, psc_clock_mono_us())) != NULL) {
        struct session *s = session_of(guest);
        session_set_state(s, SESSION_HANDSHAKE);
        session_set_deadline(s, (HANDSHAKE_S + 5) * PSC_US_PER_S);
        psc_conn_begin(&s->conn);
    }
}

static bool is_host(enum session_state state)
{
    return state == SESSION_CLAIMING || state == SESSION_READY;
}

void session_set_state(struct session *s, enum session_state state)
{
    assert(session_may_change(s->state, state));
    psc_log_debug("session %s %s: %s -> %s", psc_conn_peer_name(&s->conn),
                  s->host, state_names[s->state], state_names[state]);
    count_state(s, s->state, -1);
    count_state(s, state, 1);
    s->all->n_hosts += is_host(state) ? 1 : 0;
    s->all->n_hosts -= is_host(s->state) ? 1 : 0;
    s->state = state;
    if (state == SESSION_ENROLLING) {
        lobby_keep(&s->all->lobby, &s->guest);
    } else if (state >= SESSION_CLAIMING) {
        lobby_leave(&s->all->lobby, &s->guest);
        admit_guests(s->all);
    }
}

void session_set_deadline(struct session *s, int64_t us)
{
    s->deadline_us = psc_clock_mono_us() + us;
}

/* ---- the end ---- */

static void unlink_session(struct session *s)
{
    struct sessions *all = s->all;
    if (s->previous != NULL) {
        s->previous->next = s->next;
    } else {
        all->first = s->next;
    }
    if (s->next != NULL) {
        s->next->previous = s->previous;
    }
    all->n--;
}

static void maybe_free(struct session *s)
{
    struct sessions *all = s->all;
    if (s->conn_open || s->n_requests > 0) {
        return;
    }
    count_state(s, s->state, -1);
    unlink_session(s);
    psc_buf_fini(&s->claim.facts);
    if (s->issue != NULL) {
        psc_buf_fini(&s->issue->request);
        free(s->issue);
    }
    free(s);
    if (all->stopping && all->n == 0 && all->on_stopped != NULL) {
        void (*on_stopped)(struct sessions *) = all->on_stopped;
        all->on_stopped = NULL;
        on_stopped(all);
    }
}

/* Let go of everything that others hold of the session. */
static void begin_closing(struct session *s)
{
    session_set_state(s, SESSION_CLOSING);
    ingest_forget(s->all->ingest, &s->queue);
    if (s->slot != NULL && s->slot->session == s) {
        s->slot->session = NULL;
        heartbeat_end(&s->slot->heartbeat);
    }
    session_drop_requests(s);
    if (s->decode != NULL) {
        decode_fini(s->decode);
        free(s->decode);
        s->decode = NULL;
    }
    s->all->table_bytes -= s->decode_bytes;
    s->decode_bytes = 0;
}

void session_close(struct session *s, int code, const char *text)
{
    struct psc_error reason;
    if (s->state == SESSION_CLOSING) {
        return;
    }
    (void)psc_error_set(&reason, code, "%s", text);
    begin_closing(s);
    psc_conn_close(&s->conn, &reason);
}

/* The same, at once: for peers that cost too much. */
static void abort_session(struct session *s, const char *text)
{
    struct psc_error reason;
    (void)psc_error_set(&reason, PSC_CLOSED, "%s", text);
    begin_closing(s);
    psc_conn_abort(&s->conn, &reason);
}

/* 0: as the agent thinks fit, which for most refusals is many minutes. */
static uint64_t retry_after_us(const struct session *s, enum wire_refusal code)
{
    int64_t held_us = s->slot != NULL ? refused_wait_us(&s->slot->refused,
                                                        psc_clock_mono_us())
                                      : 0;
    switch (code) {
    case WIRE_REFUSAL_BUSY:
        if (s->full) { /* not all of them at once */
            return FULL_RETRY_US + uv_hrtime() % FULL_RETRY_US;
        }
        return (uint64_t)held_us + RETRY_AFTER_S * PSC_US_PER_S;
    case WIRE_REFUSAL_DISABLED: return ENABLED_AGAIN_S * PSC_US_PER_S;
    default: return 0;
    }
}

static const char *owner_name(const struct session *s)
{
    return s->host[0] != '\0' ? s->host : s->name;
}

void session_owner(const struct session *s, char out[SESSION_OWNER_BYTES])
{
    const char *name = owner_name(s);
    out[0] = '\0';
    if (name[0] != '\0') {
        (void)snprintf(out, SESSION_OWNER_BYTES, "host %s", name);
    } else if (s->host_id != 0) {
        (void)snprintf(out, SESSION_OWNER_BYTES, "host id %" PRId64,
                       s->host_id);
    }
}

/* "host NAME at address:port", as far as it is known. */
static void name_peer(const struct session *s, char *out, size_t cap)
{
    char owner[SESSION_OWNER_BYTES];
    session_owner(s, owner);
    (void)snprintf(out, cap, "%s%s%s", owner, owner[0] != '\0' ? " at " : "",
                   psc_conn_peer_name(&s->conn));
}

void session_refuse(struct session *s, enum wire_refusal code, const char *fmt,
                    ...)
{
    char text[REASON_BYTES];
    va_list args;
    if (s->state == SESSION_CLOSING) {
        return;
    }
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);

    metrics_refuse(s->all->metrics, code);
    char who[SESSION_OWNER_BYTES + 80];
    name_peer(s, who, sizeof(who));
    refusal_log(&s->all->log, psc_clock_mono_us(), who, wire_refusal_name(code),
                text);
    struct wire_message m = {.type = WIRE_REFUSAL};
    m.refusal.code = code;
    m.refusal.reason = text;
    m.refusal.retry_after_us = retry_after_us(s, code);
    session_send(s, &m);
    session_close(s, PSC_REFUSED, text);
}

void session_refuse_disabled(struct session *s)
{
    char owner[SESSION_OWNER_BYTES];
    session_owner(s, owner);
    session_refuse(s, WIRE_REFUSAL_DISABLED,
                   "%s is disabled: an administrator runs poolscope host "
                   "enable %s",
                   owner, owner_name(s));
}

bool session_request_done(struct session *s)
{
    s->n_requests--;
    if (s->state == SESSION_CLOSING) {
        maybe_free(s);
        return false;
    }
    return true;
}

/* ---- sending ---- */

void session_send(struct session *s, const struct wire_message *m)
{
    struct psc_buf *frame = &s->all->frame;
    psc_buf_reset(frame);
    wire_encode(m, frame);
    int rc = psc_buf_error(frame);
    if (rc == PSC_OK) {
        rc = psc_conn_send(&s->conn, psc_buf_bytes(frame));
    }
    if (rc != PSC_OK) {
        session_close(s, rc, "the peer does not take what it is sent");
    }
    s->sent_ms = uv_now(s->all->loop);
}

void session_send_pulse(struct session *s)
{
    struct wire_message m = {.type = WIRE_PULSE};
    m.pulse.wall_us = psc_clock_wall_us();
    session_send(s, &m);
}

/* ---- time ---- */

static void end_late(struct session *s)
{
    if (s->state <= SESSION_FIRST_FRAME) {
        metrics_refuse(s->all->metrics, METRICS_REFUSED_TIMEOUT);
        refusal_log(&s->all->log, psc_clock_mono_us(),
                    psc_conn_peer_name(&s->conn), "timeout",
                    state_names[s->state]);
        session_close(s, PSC_TIMEOUT, "no frame in time");
    } else {
        session_refuse(s, WIRE_REFUSAL_BUSY,
                       "the database does not answer; try again");
    }
}

/* Ends the session, or tells the peer that we live, which any frame does. */
static void look(struct session *s, int64_t now_us, int64_t wall_us)
{
    if (s->state == SESSION_CLOSING) {
        return;
    }
    if (s->state != SESSION_READY && now_us >= s->deadline_us) {
        end_late(s);
    } else if (s->state == SESSION_READY && s->not_after_us != 0 &&
               wall_us > s->not_after_us) {
        session_refuse(s, WIRE_REFUSAL_EXPIRED,
                       "the certificate has expired; renew it");
    } else if (s->hello_done && uv_now(s->all->loop) - s->sent_ms >= PULSE_MS) {
        session_send_pulse(s);
    }
}

/* A peer has to make room for others. */
static void send_away(struct session *s, const char *why)
{
    struct sessions *all = s->all;
    metrics_refuse(all->metrics, METRICS_REFUSED_CROWDED);
    refusal_log(&all->log, psc_clock_mono_us(), psc_conn_peer_name(&s->conn),
                metrics_refusal_name(METRICS_REFUSED_CROWDED), why);
    abort_session(s, why);
}

static void on_timer(uv_timer_t *timer)
{
    struct sessions *all = timer->data;
    int64_t now_us = psc_clock_mono_us();
    int64_t wall_us = psc_clock_wall_us();
    struct lobby_guest *late;
    while ((late = lobby_late(&all->lobby, now_us)) != NULL) {
        send_away(session_of(late), "too slow while others wait");
    }
    struct session *next;
    for (struct session *s = all->first; s != NULL; s = next) {
        next = s->next;
        look(s, now_us, wall_us);
    }
}

/* ---- frames ---- */

static void take_first(struct session *s, const struct wire_message *m)
{
    switch ((int)m->type) {
    case WIRE_HELLO: session_take_hello(s, m); break;
    case WIRE_ENROL: session_take_enrol(s, m); break;
    case WIRE_RENEW: session_take_renew(s, m); break;
    default:
        session_refuse(s, WIRE_REFUSAL_MALFORMED,
                       "a session begins with Hello, Enrol or Renew");
    }
}

static void take_ready(struct session *s, const struct wire_message *m)
{
    switch ((int)m->type) {
    case WIRE_BATCH: session_take_batch(s, m); break;
    case WIRE_HEARTBEAT: session_take_heartbeat(s, m); break;
    case WIRE_OPEN: session_take_open(s, m); break;
    case WIRE_RENEW: session_take_renew(s, m); break;
    default:
        session_refuse(s, WIRE_REFUSAL_MALFORMED,
                       "a message that does not belong here");
    }
}

static void on_frame(struct psc_conn *conn, struct psc_bytes frame)
{
    struct session *s = conn->user;
    struct wire_message m;
    struct psc_error err = {.msg = ""};

    if (s->state == SESSION_CLOSING) {
        return;
    }
    metrics_add(s->all->metrics, frames, 1);
    metrics_add(s->all->metrics, bytes, frame.len);
    int rc = wire_decode(&s->all->wire, frame, &m, &err);
    if (rc == PSC_NOMEM) {
        session_refuse(s, WIRE_REFUSAL_BUSY, "out of memory");
    } else if (rc != PSC_OK) {
        session_refuse(s, WIRE_REFUSAL_MALFORMED, "%s", err.msg);
    } else if (s->state == SESSION_FIRST_FRAME) {
        take_first(s, &m);
    } else if (s->state == SESSION_READY) {
        take_ready(s, &m);
    } else {
        session_refuse(s, WIRE_REFUSAL_MALFORMED,
                       "a message before the answer to the last one");
    }
}

/* ---- the connection ---- */

static void on_knock(struct psc_conn *conn)
{
    struct session *s = conn->user;
    session_set_deadline(s, (TURN_S + 5) * PSC_US_PER_S);
    lobby_knock(&s->all->lobby, &s->guest, psc_clock_mono_us());
    admit_guests(s->all);
}

static void on_open(struct psc_conn *conn)
{
    struct session *s = conn->user;
    session_set_state(s, SESSION_FIRST_FRAME);
    session_set_deadline(s, FIRST_FRAME_S * PSC_US_PER_S);
}

/* Why a connection that never became a session failed. */
static void note_failed_peer(struct session *s, const struct psc_error *reason)
{
    unsigned code = reason->code == PSC_TIMEOUT ? METRICS_REFUSED_TIMEOUT
                    : reason->code == PSC_LIMIT ? METRICS_REFUSED_FRAME
                                                : METRICS_REFUSED_TLS;
    bool quiet =
        reason->code == PSC_CLOSED ||
        (reason->code == PSC_CONNECTION && s->state > SESSION_HANDSHAKE);
    if (s->guest.place == LOBBY_QUEUED) {
        code = METRICS_REFUSED_CROWDED; /* whatever it was */
    }
    if (quiet) {
        return;
    }
    metrics_refuse(s->all->metrics, code);
    refusal_log(&s->all->log, psc_clock_mono_us(), psc_conn_peer_name(&s->conn),
                metrics_refusal_name(code), reason->msg);
}

static void on_close(struct psc_conn *conn, const struct psc_error *reason)
{
    struct session *s = conn->user;

    s->conn_open = false;
    if (s->state != SESSION_CLOSING) {
        if (s->host[0] != '\0') {
            psc_log_info("host %s at %s: %s", s->host,
                         psc_conn_peer_name(&s->conn), reason->msg);
        }
        if (s->host[0] == '\0' || reason->code == PSC_LIMIT) {
            note_failed_peer(s, reason);
        }
        begin_closing(s);
    }
    maybe_free(s);
}

static const struct psc_conn_events conn_events = {
    .on_knock = on_knock,
    .on_open = on_open,
    .on_frame = on_frame,
    .on_close = on_close,
};

/* ---- all sessions ---- */

static void link_session(struct sessions *all, struct session *s)
{
    s->next = all->first;
    if (all->first != NULL) {
        all->first->previous = s;
    }
    all->first = s;
    all->n++;
}

/* No memory: take the connection from the listener, and drop it. */
static void turn_away(struct sessions *all, uv_stream_t *listener)
{
    uv_tcp_t *tcp = malloc(sizeof(*tcp));
    metrics_refuse(all->metrics, METRICS_REFUSED_FULL);
    refusal_log(&all->log, psc_clock_mono_us(), "?",
                metrics_refusal_name(METRICS_REFUSED_FULL), "out of memory");
    if (tcp == NULL || uv_tcp_init(all->loop, tcp) != 0) {
        free(tcp);
        return;
    }
    (void)uv_accept(listener, (uv_stream_t *)tcp);
    uv_close((uv_handle_t *)tcp, (uv_close_cb)free);
}

static void accept_one(struct sessions *all, uv_stream_t *listener)
{
    static const struct psc_conn_limits limits = {
        .handshake_us = HANDSHAKE_S * PSC_US_PER_S,
        .wait_us = TURN_S * PSC_US_PER_S,
        .idle_us = IDLE_S * PSC_US_PER_S,
        .max_frame_bytes = FIRST_FRAME_MAX_BYTES,
        .max_queue_bytes = QUEUE_MAX_BYTES,
    };
    struct psc_error err = {.msg = ""};
    metrics_add(all->metrics, connections, 1);
    struct session *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        turn_away(all, listener);
        return;
    }
    s->all = all;
    s->state = SESSION_WAITING;
    link_session(all, s);
    count_state(s, s->state, 1);
    session_set_deadline(s, (HANDSHAKE_S + 5) * PSC_US_PER_S);
    psc_buf_init(&s->claim.facts, FACTS_MAX_BYTES);
    int rc = psc_conn_accept(&s->conn, listener, all->ca->ctx, &conn_events,
                             &limits, s, &err);
    if (rc == PSC_OK) {
        s->conn_open = true;
        lobby_enter(&all->lobby, &s->guest, psc_conn_peer_name(&s->conn),
                    psc_clock_mono_us());
    } else {
        psc_log_warn("cannot accept a connection: %s", err.msg);
        maybe_free(s);
    }
}

/* Whether another connection may come in; a silent one may have to leave. */
static bool make_room(struct sessions *all)
{
    if (!lobby_is_full(&all->lobby) && all->n < all->max + OVER_MAX) {
        return true;
    }
    struct lobby_guest *guest = lobby_spare(&all->lobby, psc_clock_mono_us());
    if (guest != NULL) {
        send_away(session_of(guest), "nothing was heard of it");
    }
    return guest != NULL;
}

static void on_more(uv_timer_t *timer)
{
    struct sessions *all = timer->data;
    uv_stream_t *listener = all->held;
    all->held = NULL;
    all->n_burst = 0;
    if (!uv_is_closing((uv_handle_t *)listener)) {
        sessions_accept(all, listener);
    }
}

/* A connection that is not accepted waits in the kernel, and so do those that
 * come behind it. */
void sessions_accept(struct sessions *all, uv_stream_t *listener)
{
    bool burst = all->n_burst >= BURST_MAX;
    if (burst || !make_room(all)) {
        all->held = listener;
        (void)uv_timer_start(&all->more, on_more, burst ? 0 : LOOK_FOR_ROOM_MS,
                             0);
        return;
    }
    all->n_burst++;
    accept_one(all, listener);
}

void sessions_disable(struct sessions *all, int64_t host_id)
{
    struct host_slot *slot = hosts_find(&all->hosts, host_id);
    if (slot != NULL && slot->session != NULL) {
        session_refuse_disabled(slot->session);
    }
}

int sessions_init(struct sessions *all, uv_loop_t *loop, struct store *store,
                  struct ingest *ingest, struct ca *ca, struct metrics *metrics,
                  unsigned max_connections, unsigned max_handshakes)
{
    *all = (struct sessions){
        .loop = loop,
        .store = store,
        .ingest = ingest,
        .ca = ca,
        .metrics = metrics,
        .max = max_connections,
    };
    psc_buf_init(&all->frame, FRAME_MAX_BYTES);
    wire_decoder_init(&all->wire);
    hosts_init(&all->hosts);
    (void)uv_timer_init(loop, &all->timer);
    all->timer.data = all;
    (void)uv_timer_start(&all->timer, on_timer, LOOK_MS, LOOK_MS);
    (void)uv_timer_init(loop, &all->more);
    all->more.data = all;
    decode_shared_init(&all->decode);
    return lobby_init(&all->lobby, WAITING_MAX + max_handshakes,
                      max_handshakes);
}

void sessions_fini(struct sessions *all)
{
    decode_shared_fini(&all->decode);
    wire_decoder_fini(&all->wire);
    hosts_fini(&all->hosts);
    lobby_fini(&all->lobby);
    psc_buf_fini(&all->frame);
}

void sessions_stop(struct sessions *all,
                   void (*on_stopped)(struct sessions *all))
{
    all->stopping = true;
    all->on_stopped = on_stopped;
    uv_close((uv_handle_t *)&all->timer, NULL);
    uv_close((uv_handle_t *)&all->more, NULL);
    refusal_log_tell(&all->log, psc_clock_mono_us(), true);
    struct session *next;
    for (struct session *s = all->first; s != NULL; s = next) {
        next = s->next;
        if (s->state <= SESSION_HANDSHAKE) {
            session_close(s, PSC_CLOSED, "the collector stops");
        } else if (s->state != SESSION_CLOSING) {
            struct wire_message m = {.type = WIRE_REFUSAL};
            m.refusal.code = WIRE_REFUSAL_BUSY;
            m.refusal.reason = "the collector stops";
            m.refusal.retry_after_us = PSC_US_PER_S;
            session_send(s, &m);
            session_close(s, PSC_CLOSED, "the collector stops");
        }
    }
    if (all->n == 0) {
        all->on_stopped = NULL;
        on_stopped(all);
    }
}
