/* Connecting, backing off, closing.
 *
 * Happy path: uplink_start() -> on_timer() -> connect_now() -> on_open() ->
 * the session (uplink_session.c) -> on_close() -> pause() -> on_timer() …
 * Failures all come together in on_close() or on_enrolled(), which choose the
 * next collector and the pause before it. */
#include "agent/uplink.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/uplink_private.h"
#include "common/clock.h"
#include "common/log.h"

enum {
    ROUNDS_MAX = 30,
    FRAME_KEEP_BYTES = 64 * 1024,
    DAY_MS = 86400 * 1000,
    MINUTE_MS = 60 * 1000,
};

const struct uplink_pace uplink_default_pace = {
    .backoff_min_ms = 1000,
    .backoff_max_ms = 30000, /* all are back within a minute of a collector */
    .refused_ms = 600000,
    .heartbeat_ms = 10000,
    .idle_ms = 25000,
    .handshake_ms = 20000, /* a fleet's worth of handshakes may come first */
    .look_ms = 5000,
};

static const char *const state_names[UPLINK_STATES] = {
    "idle",  "backoff", "enrolling", "connecting", "renewing",
    "hello", "opening", "live",      "closing",
};

#define TO(state) (1u << UPLINK_##state)

static const unsigned allowed[UPLINK_STATES] = {
    [UPLINK_IDLE] = TO(BACKOFF),
    [UPLINK_BACKOFF] = TO(ENROLLING) | TO(CONNECTING) | TO(IDLE),
    [UPLINK_ENROLLING] = TO(BACKOFF) | TO(IDLE),
    [UPLINK_CONNECTING] = TO(HELLO) | TO(RENEWING) | TO(CLOSING),
    [UPLINK_RENEWING] = TO(CLOSING),
    [UPLINK_HELLO] = TO(OPENING) | TO(CLOSING),
    [UPLINK_OPENING] = TO(LIVE) | TO(CLOSING),
    [UPLINK_LIVE] = TO(OPENING) | TO(CLOSING),
    [UPLINK_CLOSING] = TO(BACKOFF) | TO(IDLE),
};

const char *uplink_state_name(enum uplink_state state)
{
    return state_names[state];
}

void uplink_set_state(struct uplink *u, enum uplink_state state)
{
    bool may = (allowed[u->state] & 1u << state) != 0;
    assert(may);
    (void)may;
    psc_log_debug("uplink: %s -> %s", state_names[u->state],
                  state_names[state]);
    u->state = state;
}

int64_t uplink_backoff_ms(const struct uplink_pace *pace, unsigned round,
                          uint32_t random)
{
    int64_t full = pace->backoff_min_ms;
    while (round-- > 0 && full < pace->backoff_max_ms) {
        full *= 2;
    }
    full = full < pace->backoff_max_ms ? full : pace->backoff_max_ms;
    return full / 2 + (int64_t)(random % (uint64_t)(full / 2 + 1));
}

static uint32_t random32(void)
{
    uint32_t value;
    if (uv_random(NULL, NULL, &value, sizeof(value), 0, NULL) != 0) {
        value = (uint32_t)uv_hrtime();
    }
    return value;
}

/* --- which collector next, and when --- */

static void on_timer(uv_timer_t *timer);

/* Sleep on in BACKOFF, at most until it is time to look for an identity. */
static void sleep_on(struct uplink *u)
{
    uint64_t now_ms = uv_now(u->s.loop);
    uint64_t left_ms = u->try_ms > now_ms ? u->try_ms - now_ms : 0;
    uint64_t look_ms = (uint64_t)u->s.pace->look_ms;
    (void)uv_timer_start(&u->timer, on_timer,
                         left_ms < look_ms ? left_ms : look_ms, 0);
}

static void wait_ms(struct uplink *u, int64_t ms)
{
    uplink_set_state(u, UPLINK_BACKOFF);
    u->try_ms = uv_now(u->s.loop) + (uint64_t)ms;
    sleep_on(u);
}

/* An administrator has to do something before this can change. */
static bool is_lasting(enum wire_refusal refusal)
{
    return refusal != 0 && refusal != WIRE_REFUSAL_BUSY &&
           refusal != WIRE_REFUSAL_MALFORMED &&
           refusal != WIRE_REFUSAL_SUPERSEDED &&
           refusal != WIRE_REFUSAL_UNSPECIFIED;
}

static int64_t next_pause_ms(struct uplink *u)
{
    const struct uplink_pace *pace = u->s.pace;
    if (u->worked) {
        u->n_rounds = 0;
        u->n_tried = 0;
    } else {
        u->current =
            u->n_endpoints == 0 ? 0 : (u->current + 1) % u->n_endpoints;
        u->n_tried++;
    }
    int64_t jitter = (int64_t)(random32() % 1000u);
    if (u->retry_after_ms > 0) {
        return u->retry_after_ms + u->retry_after_ms * jitter / 10000;
    }
    if (is_lasting(u->refusal)) {
        return pace->refused_ms + pace->refused_ms * jitter / 10000;
    }
    if (u->refusal == WIRE_REFUSAL_SUPERSEDED) {
        return pace->backoff_max_ms / 2 + pace->backoff_max_ms * jitter / 2000;
    }
    if (u->n_tried < u->n_endpoints) {
        return pace->backoff_min_ms * jitter / 5000; /* the next in the list */
    }
    unsigned round = u->n_rounds;
    if (!u->worked) {
        u->n_tried = 0;
        u->n_rounds += u->n_rounds < ROUNDS_MAX;
    }
    return uplink_backoff_ms(pace, round, random32());
}

/* Log a failure once, until it is another one or something has worked. */
static void tell(struct uplink *u, const struct psc_error *reason)
{
    char text[sizeof(u->last_error)];
    const char *why =
        reason->msg[0] == '\0' ? psc_strerror(reason->code) : reason->msg;
    const struct endpoint *at = &u->endpoints[u->current];
    if (u->n_endpoints == 0 || strstr(why, at->host) != NULL) {
        (void)snprintf(text, sizeof(text), "collector: %.220s", why);
    } else {
        (void)snprintf(text, sizeof(text), "collector %.60s:%s: %.160s",
                       at->host, at->port, why);
    }
    bool repeated = strcmp(text, u->last_error) == 0 ||
                    (u->refusal != 0 && u->refusal == u->told);
    psc_log(repeated ? PSC_LOG_DEBUG : PSC_LOG_WARN, "%s", text);
    (void)snprintf(u->last_error, sizeof(u->last_error), "%s", text);
    u->told = u->refusal;
}

/* A try has ended: stop, or wait for the next one. */
static void pause_or_stop(struct uplink *u, const struct psc_error *reason)
{
    if (u->stopping) {
        uplink_set_state(u, UPLINK_IDLE);
        u->s.on_stopped(u->s.user);
        return;
    }
    if (reason->code != PSC_OK && reason->code != PSC_CLOSED) {
        tell(u, reason);
    } else if (u->worked) {
        psc_log_info("connection closed");
    }
    wait_ms(u, next_pause_ms(u));
}

/* --- enrolling --- */

static void on_enrolled(void *user, const struct enrol_result *result)
{
    struct uplink *u = user;
    u->refusal = result->err.code == PSC_REFUSED ? result->refusal : 0;
    u->retry_after_ms = result->retry_after_us / 1000 < DAY_MS
                            ? result->retry_after_us / 1000
                            : DAY_MS;
    if (result->err.code == PSC_OK && !u->stopping) {
        wait_ms(u, 0);
        return;
    }
    pause_or_stop(u, &result->err);
}

static const char *host_name(const struct uplink *u)
{
    const char *given = u->s.options->host;
    return given != NULL && given[0] != '\0' ? given : u->s.facts->name;
}

static void enrol_now(struct uplink *u)
{
    struct psc_error err = {.msg = ""};
    struct psc_buf token;
    psc_buf_init(&token, 4096);
    int rc = agent_options_token(u->s.options, &token, &err);
    if (rc == PSC_OK && token.len == 0) {
        rc = psc_error_set(&err, PSC_CONFIG,
                           "this host is not enrolled and has no token; "
                           "run poolscope-agent --enrol TOKEN");
    }
    psc_buf_u8(&token, '\0');
    uplink_set_state(u, UPLINK_ENROLLING);
    if (rc == PSC_OK) {
        rc = enrol_start(&u->enrol, u->s.loop, u->s.identity,
                         &u->endpoints[u->current], (const char *)token.data,
                         host_name(u), u->s.facts->os, on_enrolled, u, &err);
    }
    psc_buf_wipe(&token);
    psc_buf_fini(&token);
    if (rc != PSC_OK) {
        pause_or_stop(u, &err);
    }
}

/* --- connecting --- */

static void on_open(struct psc_conn *c)
{
    struct uplink *u = c->user;
    (void)uv_timer_start(&u->timer, on_timer, (uint64_t)u->s.pace->heartbeat_ms,
                         (uint64_t)u->s.pace->heartbeat_ms);
    u->beat_ms = uv_now(u->s.loop);
    uplink_session_begin(u);
}

static void on_frame(struct psc_conn *c, struct psc_bytes frame)
{
    uplink_session_frame(c->user, frame);
}

static void on_drained(struct psc_conn *c)
{
    uplink_session_pump(c->user);
}

static void on_close(struct psc_conn *c, const struct psc_error *reason)
{
    struct uplink *u = c->user;
    (void)uv_timer_stop(&u->timer);
    uplink_session_end(u);
    if (u->state != UPLINK_CLOSING) {
        uplink_set_state(u, UPLINK_CLOSING);
    }
    if (u->frame.cap > FRAME_KEEP_BYTES) {
        size_t max = u->frame.max;
        psc_buf_fini(&u->frame);
        psc_buf_init(&u->frame, max);
    }
    pause_or_stop(u, reason);
}

static const struct psc_conn_events events = {
    .on_open = on_open,
    .on_frame = on_frame,
    .on_drained = on_drained,
    .on_close = on_close,
};

static void free_sessions(struct uplink *u)
{
    for (unsigned i = 0; i < OPTIONS_MAX_COLLECTORS; i++) {
        SSL_SESSION_free(u->sessions[i]);
        u->sessions[i] = NULL;
    }
}

static int connect_to(struct uplink *u, struct psc_error *err)
{
    if (u->ctx == NULL) {
        free_sessions(u);
        int rc = identity_tls(u->s.identity, &u->ctx, err);
        if (rc != PSC_OK) {
            return rc;
        }
    }
    const struct uplink_pace *pace = u->s.pace;
    struct psc_conn_limits limits = {
        .handshake_us = pace->handshake_ms * 1000,
        .idle_us = pace->idle_ms * 1000,
        .max_frame_bytes = 128 << 10,
        .max_queue_bytes = UPLINK_WINDOW_BYTES << 1,
    };
    const struct endpoint *at = &u->endpoints[u->current];
    int rc = psc_conn_connect(&u->conn, u->s.loop, at->host, at->port, at->host,
                              u->ctx, &events, &limits, u, err);
    if (rc == PSC_OK) {
        psc_conn_keep_session(&u->conn, &u->sessions[u->current]);
    }
    return rc;
}

/* Whether somebody has enrolled this host anew. */
static bool look_for_identity(struct uplink *u)
{
    struct psc_error why;
    bool found = identity_refresh(u->s.identity, &why);
    if (why.msg[0] != '\0' && !u->unreadable) {
        psc_log_warn("identity: %s", why.msg);
    }
    u->unreadable = why.msg[0] != '\0';
    if (found) {
        psc_log_info("took the certificate of another enrolment");
        SSL_CTX_free(u->ctx);
        u->ctx = NULL;
    }
    return found;
}

static void connect_now(struct uplink *u)
{
    u->worked = false;
    u->refusal = 0;
    u->retry_after_ms = 0;
    if (u->n_endpoints == 0) {
        wait_ms(u, MINUTE_MS); /* until a configuration names one */
        return;
    }
    if (!u->s.identity->enrolled) {
        enrol_now(u);
        return;
    }
    struct psc_error err = {.msg = ""};
    uplink_set_state(u, UPLINK_CONNECTING);
    if (connect_to(u, &err) != PSC_OK) {
        uplink_set_state(u, UPLINK_CLOSING);
        pause_or_stop(u, &err);
    }
}

static void beat(struct uplink *u)
{
    u->beat_ms = uv_now(u->s.loop);
    uplink_session_heartbeat(u);
}

static void on_timer(uv_timer_t *timer)
{
    struct uplink *u = timer->data;
    if (u->state != UPLINK_BACKOFF) {
        beat(u);
    } else if (look_for_identity(u) || uv_now(u->s.loop) >= u->try_ms) {
        connect_now(u);
    } else {
        sleep_on(u);
    }
}

void uplink_close(struct uplink *u, int code, const char *text)
{
    struct psc_error reason = {.msg = ""};
    (void)psc_error_set(&reason, code, "%s", text);
    uplink_set_state(u, UPLINK_CLOSING);
    psc_conn_close(&u->conn, &reason);
}

/* --- the outside --- */

int uplink_init(struct uplink *u, const struct uplink_settings *settings,
                struct psc_error *err)
{
    memset(u, 0, sizeof(*u));
    u->s = *settings;
    wire_decoder_init(&u->decoder);
    psc_buf_init(&u->frame, PSC_FRAME_MAX_BYTES);
    spool_reader_init(&u->reader);
    int rc =
        agent_options_endpoints(u->s.options->collector, u->endpoints,
                                OPTIONS_MAX_COLLECTORS, &u->n_endpoints, err);
    if (rc != PSC_OK) {
        return rc;
    }
    if (uv_timer_init(u->s.loop, &u->timer) != 0) {
        return psc_error_set(err, PSC_NOMEM, "timer");
    }
    u->timer.data = u;
    u->timer_open = true;
    return PSC_OK;
}

void uplink_start(struct uplink *u)
{
    wait_ms(u, 0);
}

/* A batch goes out: let a heartbeat that is due, or nearly, go with it, and
 * have the timer wait a little longer than the pace for the next batch. So
 * heartbeats cost no wakeup and no packet of their own where the interval is
 * about theirs. The collector hears something at least as often as before. */
static void beat_beside_batch(struct uplink *u)
{
    uint64_t pace_ms = (uint64_t)u->s.pace->heartbeat_ms;
    if (uv_now(u->s.loop) - u->beat_ms >= pace_ms - pace_ms / 10) {
        beat(u);
    }
    if (u->state == UPLINK_LIVE || u->state == UPLINK_OPENING) {
        (void)uv_timer_start(&u->timer, on_timer, pace_ms + pace_ms / 4,
                             pace_ms);
    }
}

void uplink_kick(struct uplink *u)
{
    if (u->state != UPLINK_LIVE) {
        return;
    }
    psc_conn_cork(&u->conn);
    uplink_session_pump(u);
    beat_beside_batch(u);
    psc_conn_uncork(&u->conn);
}

/* End a session whose hello is no longer true; the next one says more. */
static void greet_anew(struct uplink *u)
{
    if (u->state == UPLINK_HELLO || u->state == UPLINK_OPENING ||
        u->state == UPLINK_LIVE) {
        uplink_close(u, PSC_CLOSED, "the configuration has changed");
    }
}

int uplink_reload(struct uplink *u, bool greet, struct psc_error *err)
{
    struct endpoint list[OPTIONS_MAX_COLLECTORS];
    memset(list, 0, sizeof(list)); /* compared as a whole below */
    unsigned count;
    int rc = agent_options_endpoints(u->s.options->collector, list,
                                     OPTIONS_MAX_COLLECTORS, &count, err);
    if (rc != PSC_OK) {
        return rc;
    }
    if (count == u->n_endpoints &&
        memcmp(list, u->endpoints, sizeof(list)) == 0) {
        if (greet) {
            greet_anew(u);
        }
        return PSC_OK;
    }
    memcpy(u->endpoints, list, sizeof(list));
    free_sessions(u);
    u->n_endpoints = count;
    u->current = 0;
    u->n_tried = 0;
    u->n_rounds = 0;
    switch (u->state) {
    case UPLINK_BACKOFF:
        u->try_ms = 0;
        sleep_on(u);
        break;
    case UPLINK_IDLE:
    case UPLINK_ENROLLING:
    case UPLINK_CLOSING: break;
    default:
        uplink_close(u, PSC_CLOSED, "the configuration has changed");
        break;
    }
    return PSC_OK;
}

void uplink_stop(struct uplink *u)
{
    u->stopping = true;
    switch (u->state) {
    case UPLINK_IDLE:
    case UPLINK_BACKOFF:
        (void)uv_timer_stop(&u->timer);
        u->state = UPLINK_IDLE;
        u->s.on_stopped(u->s.user);
        break;
    case UPLINK_ENROLLING: enrol_cancel(&u->enrol); break;
    case UPLINK_CLOSING: break;
    default: uplink_close(u, PSC_CLOSED, "the agent stops"); break;
    }
}

void uplink_fini(struct uplink *u)
{
    if (u->timer_open) {
        uv_close((uv_handle_t *)&u->timer, NULL);
        u->timer_open = false;
    }
    spool_reader_fini(&u->reader, u->s.spool);
    free_sessions(u);
    SSL_CTX_free(u->ctx);
    u->ctx = NULL;
    wire_decoder_fini(&u->decoder);
    psc_buf_fini(&u->frame);
}
