/* A connection's life: start, writing, deadlines, and the one way it ends.
 *
 * Happy path: conn_init -> (conn_dial.c, or WAITING for psc_conn_begin) ->
 * conn_start_tls -> conn_open ->
 * frames (conn_input.c), psc_conn_send -> conn_end_politely: FLUSHING until
 * the last byte is with the kernel, LINGERING until the peer's end or a
 * second -> conn_end_now: CLOSING -> maybe_fire_close -> on_close.
 *
 * The lingering is what lets a last word arrive (a refusal, an alert): closing
 * a socket with unread input makes the kernel reset the connection, and the
 * peer loses what it has not read yet.
 *
 * Failures: the peer is dead (no byte, a frame or a write that makes no end
 * within the idle time), resets, breaks TLS or the framing, memory. Each ends
 * here with its reason; on_close comes from the loop, never from within a
 * call of the user's. */
#include "common/conn.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/conn_internal.h"
#include "common/log.h"

enum {
    LINGER_MS = 1000,
    KEEPALIVE_S = 60,
    RECORD_BYTES = 16384,         /* of TLS; a small frame goes in one */
    HEADER_BYTES = 4,             /* of a frame */
    OUT_EXTRA_BYTES = 256 * 1024, /* handshake, records' overhead, alerts */
};

uint64_t conn_ms(int64_t us)
{
    return us > 0 ? ((uint64_t)us + 999) / 1000 : 0;
}

static uint64_t now_ms(const struct psc_conn *c)
{
    return uv_now(c->tcp.loop);
}

static const char *state_name(enum psc_conn_state state)
{
    static const char *const names[] = {"RESOLVING", "CONNECTING", "WAITING",
                                        "HANDSHAKE", "OPEN",       "FLUSHING",
                                        "LINGERING", "CLOSING",    "CLOSED"};
    return names[state];
}

void conn_set_state(struct psc_conn *c, enum psc_conn_state state)
{
#define BIT(s) (1u << PSC_CONN_##s)
    static const unsigned allowed[] = {
        [PSC_CONN_RESOLVING] = BIT(CONNECTING) | BIT(CLOSING),
        [PSC_CONN_CONNECTING] = BIT(HANDSHAKE) | BIT(CLOSING),
        [PSC_CONN_WAITING] = BIT(HANDSHAKE) | BIT(CLOSING),
        [PSC_CONN_HANDSHAKE] = BIT(OPEN) | BIT(FLUSHING) | BIT(CLOSING),
        [PSC_CONN_OPEN] = BIT(FLUSHING) | BIT(CLOSING),
        [PSC_CONN_FLUSHING] = BIT(LINGERING) | BIT(CLOSING),
        [PSC_CONN_LINGERING] = BIT(CLOSING),
        [PSC_CONN_CLOSING] = BIT(CLOSED),
        [PSC_CONN_CLOSED] = 0,
    };
#undef BIT
    bool may = (allowed[c->state] & (1u << state)) != 0;
    assert(may);
    (void)may; /* release builds do not assert */
    psc_log_debug("%s: %s -> %s", c->peer_name, state_name(c->state),
                  state_name(state));
    c->state = state;
}

static void on_timer(uv_timer_t *timer);

void conn_init(struct psc_conn *c, uv_loop_t *loop, SSL_CTX *ctx,
               const struct psc_conn_events *events,
               const struct psc_conn_limits *limits, void *user)
{
    memset(c, 0, sizeof(*c));
    c->user = user;
    c->events = events;
    c->limits = *limits;
    c->ctx = ctx;
    c->peer_name[0] = '?';
    psc_buf_init(&c->frame, limits->max_frame_bytes);
    psc_buf_init(&c->writing, SIZE_MAX);

    /* Neither of these can fail: they open nothing yet. */
    (void)uv_tcp_init(loop, &c->tcp);
    (void)uv_timer_init(loop, &c->timer);
    c->tcp.data = c;
    c->timer.data = c;
    c->tcp_open = true;
    c->timer_open = true;
    c->deadline_ms = now_ms(c) + conn_ms(limits->handshake_us);
#ifdef SIGPIPE
    /* libuv writes to sockets by write(2). */
    (void)signal(SIGPIPE, SIG_IGN);
#endif
}

void conn_name_address(const struct sockaddr *addr, char *out, size_t cap)
{
    char text[INET6_ADDRSTRLEN] = "?";
    if (addr->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)addr;
        (void)uv_ip4_name(in, text, sizeof(text));
        (void)snprintf(out, cap, "%s:%u", text, ntohs(in->sin_port));
    } else if (addr->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)addr;
        (void)uv_ip6_name(in6, text, sizeof(text));
        (void)snprintf(out, cap, "[%s]:%u", text, ntohs(in6->sin6_port));
    } else {
        (void)snprintf(out, cap, "?");
    }
}

static void name_peer(struct psc_conn *c)
{
    struct sockaddr_storage addr;
    int len = sizeof(addr);
    if (uv_tcp_getpeername(&c->tcp, (struct sockaddr *)&addr, &len) == 0) {
        conn_name_address((const struct sockaddr *)&addr, c->peer_name,
                          sizeof(c->peer_name));
    }
}

int psc_conn_accept(struct psc_conn *c, uv_stream_t *listener, SSL_CTX *ctx,
                    const struct psc_conn_events *events,
                    const struct psc_conn_limits *limits, void *user,
                    struct psc_error *err)
{
    (void)err; /* all that can fail comes later */
    conn_init(c, listener->loop, ctx, events, limits, user);
    bool waits = events->on_knock != NULL;
    c->state = waits ? PSC_CONN_WAITING : PSC_CONN_HANDSHAKE;
    conn_arm(c, c->deadline_ms);
    int rc = uv_accept(listener, (uv_stream_t *)&c->tcp);
    if (rc != 0) {
        struct psc_error reason;
        psc_error_set(&reason, PSC_CONNECTION, "accept a connection: %s",
                      uv_strerror(rc));
        conn_end_now(c, &reason);
        return PSC_OK;
    }
    name_peer(c);
    if (waits) {
        conn_update_reading(c);
    } else {
        conn_start_tls(c, NULL, NULL);
    }
    return PSC_OK;
}

void psc_conn_begin(struct psc_conn *c)
{
    if (c->state == PSC_CONN_WAITING && c->knocked && !c->wake) {
        c->wake = true; /* from the loop, each in its turn */
        conn_arm(c, 0);
    }
}

/* The turn of a peer that has waited. */
static void begin_tls(struct psc_conn *c)
{
    struct psc_bytes first = c->tls.in;
    c->wake = false;
    conn_set_state(c, PSC_CONN_HANDSHAKE);
    c->deadline_ms = now_ms(c) + conn_ms(c->limits.handshake_us);
    conn_arm(c, c->deadline_ms);
    conn_start_tls(c, NULL, NULL);
    if (c->state == PSC_CONN_HANDSHAKE) {
        psc_tls_feed(&c->tls, first.data, first.len);
        conn_input(c);
    }
}

void conn_start_tls(struct psc_conn *c, const char *name, SSL_SESSION **session)
{
    (void)uv_tcp_nodelay(&c->tcp, 1);
    (void)uv_tcp_keepalive(&c->tcp, 1, KEEPALIVE_S);

    struct psc_error err;
    size_t max_out = c->limits.max_queue_bytes;
    if (max_out < PSC_FRAME_MAX_BYTES) {
        max_out = PSC_FRAME_MAX_BYTES; /* an empty queue takes any frame */
    }
    int rc =
        psc_tls_init(&c->tls, c->ctx, name, max_out + OUT_EXTRA_BYTES, &err);
    if (rc != PSC_OK) {
        conn_end_now(c, &err);
        return;
    }
    if (session != NULL) {
        psc_tls_resume(&c->tls, session);
    }
    c->heard_ms = now_ms(c);
    /* A server has nothing to say before the client has; until then it spares
     * the buffers that OpenSSL takes for a handshake. */
    if (SSL_is_server(c->tls.ssl) != 1 &&
        psc_tls_handshake(&c->tls, &err) != PSC_OK) {
        conn_end_politely(c, &err);
        return;
    }
    conn_update_reading(c);
    conn_flush(c);
}

void conn_open(struct psc_conn *c)
{
    conn_set_state(c, PSC_CONN_OPEN);
    conn_dial_free(c);
    c->heard_ms = now_ms(c);
    conn_arm(c, c->heard_ms + conn_ms(c->limits.idle_us));
    c->events->on_open(c);
}

/* --- writing --- */

static void start_shutdown(struct psc_conn *c);

static void on_write(uv_write_t *req, int status)
{
    struct psc_conn *c = req->data;
    c->write_busy = false;
    psc_buf_fini(&c->writing);
    if (c->state == PSC_CONN_CLOSING) {
        return; /* maybe_fire_close() finishes the job */
    }
    if (status != 0) {
        struct psc_error err;
        psc_error_set(&err, PSC_CONNECTION, "send: %s", uv_strerror(status));
        conn_end_now(c, &err);
        return;
    }
    if (c->tls.out.len > 0) {
        conn_flush(c);
        return;
    }
    if (c->state == PSC_CONN_FLUSHING) {
        start_shutdown(c);
        return;
    }
    if (c->state == PSC_CONN_OPEN && c->frames_queued) {
        c->frames_queued = false;
        if (c->events->on_drained != NULL) {
            c->events->on_drained(c);
        }
    }
}

void conn_flush(struct psc_conn *c)
{
    if (c->write_busy || c->tls.out.len == 0 || c->state >= PSC_CONN_CLOSING ||
        (c->corked && c->state == PSC_CONN_OPEN)) {
        return;
    }
    /* Cannot fail: c->writing is empty. */
    (void)!psc_tls_take(&c->tls, &c->writing);
    c->write_left = c->writing.len;
    c->write_ms = now_ms(c);
    c->req.write.data = c;
    uv_buf_t buf =
        uv_buf_init((char *)c->writing.data, (unsigned)c->writing.len);
    int rc = uv_write(&c->req.write, (uv_stream_t *)&c->tcp, &buf, 1, on_write);
    if (rc != 0) {
        struct psc_error err;
        psc_error_set(&err, PSC_CONNECTION, "send: %s", uv_strerror(rc));
        conn_end_now(c, &err);
        return;
    }
    c->write_busy = true;
}

/* Encrypt header and payload, small frames as a single record. */
static int write_frame(struct psc_conn *c, struct psc_bytes payload,
                       struct psc_error *err)
{
    uint8_t first[RECORD_BYTES];
    size_t head = payload.len;
    if (head > sizeof(first) - HEADER_BYTES) {
        head = sizeof(first) - HEADER_BYTES;
    }
    first[0] = (uint8_t)(payload.len >> 24);
    first[1] = (uint8_t)(payload.len >> 16);
    first[2] = (uint8_t)(payload.len >> 8);
    first[3] = (uint8_t)payload.len;
    if (head > 0) {
        memcpy(first + HEADER_BYTES, payload.data, head);
    }
    /* Room for all of it first, so that a frame goes whole or not at all. */
    size_t room = payload.len + payload.len / 64 + 512;
    int rc = psc_buf_reserve(&c->tls.out, room);
    if (rc != PSC_OK) {
        c->tls.out.error = PSC_OK;
        return psc_error_set(err, rc, "send: %s", psc_strerror(rc));
    }
    rc = psc_tls_write(&c->tls, first, HEADER_BYTES + head, err);
    if (rc == PSC_OK && head < payload.len) {
        rc = psc_tls_write(&c->tls, payload.data + head, payload.len - head,
                           err);
    }
    if (rc != PSC_OK) {
        conn_end_now(c, err);
        return PSC_CLOSED;
    }
    return PSC_OK;
}

int psc_conn_send(struct psc_conn *c, struct psc_bytes payload)
{
    if (c->state != PSC_CONN_OPEN) {
        return PSC_CLOSED;
    }
    if (payload.len > PSC_FRAME_MAX_BYTES) {
        return PSC_FORMAT;
    }
    size_t queued = psc_conn_queued(c);
    if (queued > 0 && (queued > c->limits.max_queue_bytes ||
                       payload.len > c->limits.max_queue_bytes - queued)) {
        c->frames_queued = true; /* on_drained is owed now */
        return PSC_LIMIT;
    }
    struct psc_error err;
    int rc = write_frame(c, payload, &err);
    if (rc != PSC_OK) {
        return rc;
    }
    c->frames_queued = true;
    conn_flush(c);
    return c->state == PSC_CONN_OPEN ? PSC_OK : PSC_CLOSED;
}

void psc_conn_cork(struct psc_conn *c)
{
    c->corked = true;
}

void psc_conn_uncork(struct psc_conn *c)
{
    c->corked = false;
    conn_flush(c);
}

size_t psc_conn_queued(const struct psc_conn *c)
{
    size_t in_flight = 0;
    if (c->write_busy) {
        in_flight =
            uv_stream_get_write_queue_size((const uv_stream_t *)&c->tcp);
    }
    return c->tls.out.len + in_flight;
}

/* --- reading, as far as it is not input --- */

void conn_update_reading(struct psc_conn *c)
{
    bool want =
        c->state == PSC_CONN_HANDSHAKE ||
        (c->state == PSC_CONN_WAITING && c->tls.in.len < CONN_FIRST_BYTES) ||
        c->state == PSC_CONN_FLUSHING || c->state == PSC_CONN_LINGERING ||
        (c->state == PSC_CONN_OPEN && !c->paused && !c->wake);
    want = want && !c->peer_done;
    if (want == c->reading) {
        return;
    }
    c->reading = want;
    uv_stream_t *stream = (uv_stream_t *)&c->tcp;
    if (!want) {
        (void)uv_read_stop(stream);
        return;
    }
    int rc = uv_read_start(stream, conn_on_alloc, conn_on_read);
    if (rc != 0) {
        struct psc_error err;
        c->reading = false;
        psc_error_set(&err, PSC_CONNECTION, "read: %s", uv_strerror(rc));
        conn_end_now(c, &err);
    }
}

void psc_conn_pause(struct psc_conn *c)
{
    c->paused = true;
    conn_update_reading(c);
}

void psc_conn_resume(struct psc_conn *c)
{
    if (!c->paused) {
        return;
    }
    c->paused = false;
    if (c->state != PSC_CONN_OPEN) {
        return;
    }
    c->heard_ms = now_ms(c);
    c->frame_ms = c->heard_ms;
    if (!c->processing) {
        /* What was kept comes first, and from the loop. */
        c->wake = true;
        conn_arm(c, 0);
    }
}

/* --- deadlines --- */

void conn_arm(struct psc_conn *c, uint64_t deadline_ms)
{
    uint64_t now = now_ms(c);
    uint64_t delay = deadline_ms > now ? deadline_ms - now : 0;
    (void)uv_timer_start(&c->timer, on_timer, delay, 0);
}

/* When an open connection is to be looked at again; 0 and @err filled when it
 * is dead. Every deadline starts an idle time or more ahead, so looking once
 * in an idle time misses none. */
static uint64_t check_open(struct psc_conn *c, struct psc_error *err)
{
    uint64_t now = now_ms(c);
    uint64_t idle = conn_ms(c->limits.idle_us);
    uint64_t next = now + idle;
    double idle_s = (double)idle / 1000;

    if (c->write_busy) {
        size_t left =
            uv_stream_get_write_queue_size((const uv_stream_t *)&c->tcp);
        if (left < c->write_left) {
            c->write_left = left;
            c->write_ms = now;
        }
        if (c->write_ms + idle <= now) {
            psc_error_set(err, PSC_TIMEOUT,
                          "the peer has taken nothing for %g s", idle_s);
            return 0;
        }
        next = c->write_ms + idle;
    }
    if (c->paused) {
        return next;
    }
    if (c->heard_ms + idle <= now) {
        psc_error_set(err, PSC_TIMEOUT, "nothing heard for %g s", idle_s);
        return 0;
    }
    next = c->heard_ms + idle < next ? c->heard_ms + idle : next;
    if (conn_in_frame(c)) {
        if (c->frame_ms + idle <= now) {
            psc_error_set(err, PSC_TIMEOUT,
                          "a frame was not complete after %g s", idle_s);
            return 0;
        }
        next = c->frame_ms + idle < next ? c->frame_ms + idle : next;
    }
    return next;
}

static void on_timer(uv_timer_t *timer)
{
    struct psc_conn *c = timer->data;
    struct psc_error err;

    if (c->state == PSC_CONN_OPEN) {
        uint64_t next = check_open(c, &err);
        if (next == 0) {
            conn_end_now(c, &err);
            return;
        }
        conn_arm(c, next);
        if (c->wake) {
            c->wake = false;
            conn_input(c);
        }
        return;
    }
    if (c->state == PSC_CONN_FLUSHING || c->state == PSC_CONN_LINGERING) {
        conn_end_now(c, NULL);
        return;
    }
    if (c->state == PSC_CONN_WAITING) {
        if (c->wake) {
            begin_tls(c);
        } else {
            psc_error_set(&err, PSC_TIMEOUT, "%s",
                          c->knocked ? "its turn did not come in time"
                                     : "nothing was heard of it");
            conn_end_now(c, &err);
        }
        return;
    }
    conn_dial_timeout(c);
}

/* --- the end --- */

/* Keep @reason (NULL: PSC_CLOSED) unless there is one already. */
static void keep_reason(struct psc_conn *c, const struct psc_error *reason)
{
    if (c->reason.code != PSC_OK) {
        return;
    }
    if (reason == NULL) {
        psc_error_set(&c->reason, PSC_CLOSED, "closed");
    } else {
        c->reason = *reason;
    }
    if (c->dialled && c->state >= PSC_CONN_HANDSHAKE) {
        psc_error_prefix(&c->reason, "%s", c->peer_name);
    }
}

static void maybe_fire_close(struct psc_conn *c)
{
    if (c->tcp_open || c->timer_open) {
        return;
    }
    conn_dial_free(c);
    psc_tls_fini(&c->tls);
    psc_buf_fini(&c->writing);
    psc_buf_fini(&c->frame);
    free(c->chunk);
    c->chunk = NULL;
    conn_set_state(c, PSC_CONN_CLOSED);
    struct psc_error reason = c->reason; /* @c may be freed in on_close */
    c->events->on_close(c, &reason);
}

void conn_on_tcp_closed(uv_handle_t *handle)
{
    struct psc_conn *c = handle->data;
    c->tcp_open = false;
    if (c->state == PSC_CONN_CLOSING) {
        maybe_fire_close(c);
    } else {
        conn_dial_next(c);
    }
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct psc_conn *c = handle->data;
    c->timer_open = false;
    maybe_fire_close(c);
}

void conn_end_now(struct psc_conn *c, const struct psc_error *reason)
{
    if (c->state >= PSC_CONN_CLOSING) {
        return;
    }
    keep_reason(c, reason);
    conn_set_state(c, PSC_CONN_CLOSING);
    c->reading = false;
    uv_close((uv_handle_t *)&c->timer, on_timer_closed);
    if (c->tcp_open && !uv_is_closing((uv_handle_t *)&c->tcp)) {
        uv_close((uv_handle_t *)&c->tcp, conn_on_tcp_closed);
    }
}

static void on_shutdown(uv_shutdown_t *req, int status)
{
    struct psc_conn *c = req->data;
    if (status != 0 && c->state == PSC_CONN_LINGERING) {
        conn_end_now(c, NULL);
    }
}

/* All is with the kernel: say that no more comes, and wait for the peer. */
static void start_shutdown(struct psc_conn *c)
{
    if (c->peer_done) {
        conn_end_now(c, NULL);
        return;
    }
    conn_set_state(c, PSC_CONN_LINGERING);
    c->req.shutdown.data = c;
    if (uv_shutdown(&c->req.shutdown, (uv_stream_t *)&c->tcp, on_shutdown) !=
        0) {
        conn_end_now(c, NULL);
    }
}

void conn_end_politely(struct psc_conn *c, const struct psc_error *reason)
{
    if (c->state >= PSC_CONN_FLUSHING) {
        return;
    }
    if (c->state < PSC_CONN_HANDSHAKE) {
        conn_end_now(c, reason);
        return;
    }
    keep_reason(c, reason);
    psc_tls_shutdown(&c->tls);
    conn_set_state(c, PSC_CONN_FLUSHING);
    conn_arm(c, now_ms(c) + LINGER_MS);
    conn_update_reading(c);
    conn_flush(c);
    if (!c->write_busy && c->state == PSC_CONN_FLUSHING) {
        start_shutdown(c);
    }
}

void psc_conn_close(struct psc_conn *c, const struct psc_error *reason)
{
    if (c->state < PSC_CONN_FLUSHING && reason != NULL) {
        c->reason = *reason;
    }
    conn_end_politely(c, NULL);
}

void psc_conn_abort(struct psc_conn *c, const struct psc_error *reason)
{
    conn_end_now(c, reason);
}

void psc_conn_limit_frames(struct psc_conn *c, size_t max_frame_bytes)
{
    c->limits.max_frame_bytes = max_frame_bytes;
}

const char *psc_conn_peer_name(const struct psc_conn *c)
{
    return c->peer_name;
}
