/* A framed TLS connection over libuv: TCP, TLS 1.3, and frames of a 4-byte
 * big-endian length and that many bytes. Both the agent's uplink and the
 * collector's sessions are one of these.
 *
 * Happy path: psc_conn_connect() or psc_conn_accept() -> on_open -> on_frame …
 * -> psc_conn_close() or the peer's end -> on_close, exactly once, after which
 * the memory is the caller's again. No callback fires before the start call
 * has returned, and none after on_close. */
#ifndef PSC_COMMON_CONN_H
#define PSC_COMMON_CONN_H

#include <uv.h>

#include "common/buf.h"
#include "common/error.h"
#include "common/tls.h"

#define PSC_FRAME_MAX_BYTES (1u << 20)

struct psc_conn;

struct psc_conn_events {
    /* Servers; NULL: none waits. The peer's first record is here, and TLS waits
     * for psc_conn_begin(). Until then a peer costs no CPU and a few KiB. The
     * callback may begin or close @c. */
    void (*on_knock)(struct psc_conn *c);
    /* The handshake is done; frames may be sent. */
    void (*on_open)(struct psc_conn *c);
    /* One whole frame; @frame is borrowed for the call. The callback may
     * close, pause or send on @c. */
    void (*on_frame)(struct psc_conn *c, struct psc_bytes frame);
    /* All that was queued has been handed to the kernel. May be NULL. */
    void (*on_drained)(struct psc_conn *c);
    /* The end. @reason->code is PSC_CLOSED for an orderly end by either
     * side, otherwise what went wrong; who dialled is told which address it was
     * about. The caller owns @c again. */
    void (*on_close)(struct psc_conn *c, const struct psc_error *reason);
};

struct psc_conn_limits {
    int64_t handshake_us;   /* resolve and connect within this (a server with
                               on_knock: hear the first record), and then
                               handshake within this */
    int64_t wait_us;        /* from on_knock to psc_conn_begin() */
    int64_t idle_us;        /* no byte from the peer for so long, or a frame
                               or a write unfinished for so long: dead */
    size_t max_frame_bytes; /* larger frames end the connection */
    size_t max_queue_bytes; /* of ciphertext waiting to be written */
};

/* Accept a waiting connection of @listener, which is taken from the listener
 * in any case. Returns an error without any callback if that fails at once;
 * later failures come through on_close. @ctx and @events are borrowed until
 * on_close, @limits is copied. Ignores SIGPIPE for the process, as libuv needs
 * it. */
PSC_MUST_CHECK int psc_conn_accept(struct psc_conn *c, uv_stream_t *listener,
                                   SSL_CTX *ctx,
                                   const struct psc_conn_events *events,
                                   const struct psc_conn_limits *limits,
                                   void *user, struct psc_error *err);

/* Begin the handshake of a peer that has knocked; no callback fires within.
 * Nothing happens if it has not, or if it has begun already. */
void psc_conn_begin(struct psc_conn *c);

/* Resolve @host, try its addresses in turn, and handshake; an address in
 * digits needs no resolver. @port is a number. @verify_host may be NULL
 * (pinned enrolment). Strings and @limits are copied. Returns PSC_CONFIG for
 * unusable strings, or PSC_NOMEM, without any callback.
 *
 * A server judges the client's certificate after the client's on_open: its
 * refusal arrives as on_close with PSC_REFUSED. */
PSC_MUST_CHECK int psc_conn_connect(struct psc_conn *c, uv_loop_t *loop,
                                    const char *host, const char *port,
                                    const char *verify_host, SSL_CTX *ctx,
                                    const struct psc_conn_events *events,
                                    const struct psc_conn_limits *limits,
                                    void *user, struct psc_error *err);

/* Client, directly after psc_conn_connect(): resume the TLS session kept in
 * *@session by an earlier connection with the same SSL_CTX, and keep the
 * newest one there; see psc_tls_resume(). Keep one per collector. @session
 * must stay valid until on_close. */
void psc_conn_keep_session(struct psc_conn *c, SSL_SESSION **session);

/* Change the limit of frames from the peer, from the next frame on: a server
 * starts small and raises it once it knows who the peer is. */
void psc_conn_limit_frames(struct psc_conn *c, size_t max_frame_bytes);

/* Queue one frame; the payload is copied (encrypted) before the return. An
 * empty queue takes a frame of any size up to PSC_FRAME_MAX_BYTES. Returns
 * PSC_LIMIT when the queue is full: wait for on_drained; PSC_FORMAT for a
 * payload that is too large for any queue; PSC_CLOSED when @c is not open;
 * PSC_NOMEM. After these errors the connection is as it was. */
PSC_MUST_CHECK int psc_conn_send(struct psc_conn *c, struct psc_bytes payload);

/* Hold frames that are sent from now on, and let them go in one write, which
 * costs one packet and one wakeup of the peer instead of several. Both within
 * one callback: the loop must not run in between. Uncork is safe in any state
 * until on_close, and no callback fires within. */
void psc_conn_cork(struct psc_conn *c);
void psc_conn_uncork(struct psc_conn *c);

/* Stop and continue reading from the peer (back-pressure). While paused, the
 * idle time does not run, and the peer's end is not noticed. No callback fires
 * within either. */
void psc_conn_pause(struct psc_conn *c);
void psc_conn_resume(struct psc_conn *c);

/* End the connection: sends what is queued and close_notify and waits for the
 * peer's end, so that the last frame arrives, all within a second; then
 * closes. No other callback fires any more. on_close follows with @reason
 * (copied; NULL: PSC_CLOSED). Further calls are ignored. */
void psc_conn_close(struct psc_conn *c, const struct psc_error *reason);

/* End the connection at once, without a word to the peer. on_close follows as
 * above. */
void psc_conn_abort(struct psc_conn *c, const struct psc_error *reason);

/* Bytes queued for the peer and not yet written. */
size_t psc_conn_queued(const struct psc_conn *c);

/* "192.0.2.7:7443", for messages; "?" before the connection stands. */
const char *psc_conn_peer_name(const struct psc_conn *c);

#include "common/conn_private.h"

#endif
