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

#define PSC_FRAME_MAX_BYTES (1024u * 1024u)

struct psc_conn;

struct psc_conn_events {
    /* The handshake is done; frames may be sent. */
    void (*on_open)(struct psc_conn *c);
    /* One whole frame; @frame is borrowed for the call. The callback may
     * close, pause or send on @c. */
    void (*on_frame)(struct psc_conn *c, struct psc_bytes frame);
    /* All that was queued has been handed to the kernel. May be NULL. */
    void (*on_drained)(struct psc_conn *c);
    /* The end. @reason->code is PSC_CLOSED for an orderly end by either
     * side, otherwise what went wrong. The caller owns @c again. */
    void (*on_close)(struct psc_conn *c, const struct psc_error *reason);
};

struct psc_conn_limits {
    int64_t handshake_us;   /* connect and handshake must be done by then */
    int64_t idle_us;        /* no byte from the peer for so long: dead */
    size_t max_frame_bytes; /* larger frames end the connection */
    size_t max_queue_bytes; /* of frames waiting to be written */
};

struct psc_conn; /* all fields are in conn.h's private part below */

/* Accept a waiting connection of @listener. Returns an error without any
 * callback if that fails at once. @ctx and @events are borrowed until
 * on_close. */
PSC_MUST_CHECK int psc_conn_accept(struct psc_conn *c, uv_stream_t *listener,
                                   SSL_CTX *ctx,
                                   const struct psc_conn_events *events,
                                   const struct psc_conn_limits *limits,
                                   void *user, struct psc_error *err);

/* Resolve @host, try its addresses in turn, and handshake. @verify_host may
 * be NULL (pinned enrolment). Strings are copied. */
PSC_MUST_CHECK int psc_conn_connect(struct psc_conn *c, uv_loop_t *loop,
                                    const char *host, const char *port,
                                    const char *verify_host, SSL_CTX *ctx,
                                    const struct psc_conn_events *events,
                                    const struct psc_conn_limits *limits,
                                    void *user, struct psc_error *err);

/* Queue one frame; the payload is copied (encrypted) before the return.
 * Returns PSC_LIMIT when the queue is full: wait for on_drained. */
PSC_MUST_CHECK int psc_conn_send(struct psc_conn *c, struct psc_bytes payload);

/* Stop and continue reading from the peer (back-pressure). While paused, the
 * idle time does not run. */
void psc_conn_pause(struct psc_conn *c);
void psc_conn_resume(struct psc_conn *c);

/* End the connection: sends what is queued and close_notify if that goes at
 * once, then closes. on_close follows with @reason (copied; NULL: PSC_CLOSED).
 * Further calls are ignored. */
void psc_conn_close(struct psc_conn *c, const struct psc_error *reason);

/* Bytes queued for the peer and not yet written. */
size_t psc_conn_queued(const struct psc_conn *c);

/* "192.0.2.7:7443", for messages; "?" before the connection stands. */
const char *psc_conn_peer_name(const struct psc_conn *c);

#include "common/conn_private.h"

#endif
