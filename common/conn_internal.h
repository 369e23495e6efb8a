/* Between conn.c (life and death, writing), conn_dial.c (a client's way to an
 * address) and conn_input.c (bytes to frames) only. */
#ifndef PSC_COMMON_CONN_INTERNAL_H
#define PSC_COMMON_CONN_INTERNAL_H

#include "common/conn.h"

enum {
    CONN_READ_BYTES = 65536, /* read at once; allocated per read */
    CONN_FIRST_BYTES = 4096, /* kept of a peer that waits */
};

/* conn.c */

/* Set all fields of @c and its handles; nothing is under way yet. */
void conn_init(struct psc_conn *c, uv_loop_t *loop, SSL_CTX *ctx,
               const struct psc_conn_events *events,
               const struct psc_conn_limits *limits, void *user);

/* The only door between states. */
void conn_set_state(struct psc_conn *c, enum psc_conn_state state);

/* Arm the timer for @deadline_ms of the loop's clock. */
void conn_arm(struct psc_conn *c, uint64_t deadline_ms);

/* TCP stands: begin TLS, for a client with @name to verify (or NULL). */
void conn_start_tls(struct psc_conn *c, const char *name,
                    SSL_SESSION **session);

/* The handshake is done. */
void conn_open(struct psc_conn *c);

/* Hand waiting ciphertext to the kernel unless a write is in flight. */
void conn_flush(struct psc_conn *c);

/* Start or stop reading as the state asks. */
void conn_update_reading(struct psc_conn *c);

/* End with @reason (its message gets the peer's name in front): after what is
 * queued, alerts included, has gone out; or at once. */
void conn_end_politely(struct psc_conn *c, const struct psc_error *reason);
void conn_end_now(struct psc_conn *c, const struct psc_error *reason);

/* The TCP handle's close callback. */
void conn_on_tcp_closed(uv_handle_t *handle);

/* "192.0.2.7:7443" or "[2001:db8::1]:7443" into @out; "?" for other kinds. */
void conn_name_address(const struct sockaddr *addr, char *out, size_t cap);

/* Microseconds to the loop's milliseconds, rounded up. */
uint64_t conn_ms(int64_t us);

/* conn_input.c */

/* Work on ciphertext that has arrived, and on what a pause has left over. */
void conn_input(struct psc_conn *c);
void conn_on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf);
void conn_on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf);

/* Whether a frame has begun to arrive and is not complete. */
bool conn_in_frame(const struct psc_conn *c);

/* conn_dial.c */

/* The attempt's TCP handle is closed: go on with the next address. */
void conn_dial_next(struct psc_conn *c);

/* The time for the present step (resolver, address, handshake) is up. */
void conn_dial_timeout(struct psc_conn *c);

/* Forget what only a client needs; a resolver under way is left to itself. */
void conn_dial_free(struct psc_conn *c);

#endif
