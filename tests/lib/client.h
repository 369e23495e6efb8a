/* A client of the collector's that may say anything: blocking TLS over
 * loopback, frames of any content, raw bytes. */
#ifndef PSC_TESTS_LIB_CLIENT_H
#define PSC_TESTS_LIB_CLIENT_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>

#include "proto/wire.h"

struct client {
    int fd;
    SSL *ssl; /* NULL: no TLS */
    struct wire_decoder decoder;
    struct psc_buf in; /* the frame that was received last */
};

/* What to show: the key and certificate in @state_dir of an agent that has
 * enrolled; NULL: nothing. The collector's certificate is not checked. */
SSL_CTX *client_ctx(const char *state_dir);

/* A TCP connection only; the test fails if that is refused. */
int client_dial(int port);

/* Connect, and shake hands unless @ctx is NULL. Returns false if the
 * handshake fails; client_close() is due in any case. */
bool client_open(struct client *c, int port, SSL_CTX *ctx);
/* The same, offering @session (borrowed; may be NULL). */
bool client_resume(struct client *c, int port, SSL_CTX *ctx,
                   SSL_SESSION *session);
void client_close(struct client *c);

/* Bytes as they are, within TLS if there is some; a frame of them; a message.
 * Return false when the connection is gone. */
bool client_send_raw(struct client *c, const void *data, size_t len);
bool client_send_frame(struct client *c, const void *data, size_t len);
bool client_send(struct client *c, const struct wire_message *m);

/* The next message; false at the end of the connection or after @timeout_s.
 * Lives until the next one. */
bool client_receive(struct client *c, struct wire_message *out, int timeout_s);

/* Read on until a message of @type; false if there is none. */
bool client_await(struct client *c, enum wire_type type,
                  struct wire_message *out, int timeout_s);

/* Hello and Open of a stream of @stream_byte's, up to the Cursor, whose seq is
 * returned; the test fails otherwise. */
unsigned long long client_begin(struct client *c, uint8_t stream_byte);

#endif
