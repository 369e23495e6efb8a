/* A scripted agent: a client (tests/lib/client.h) with an identity of its own
 * and the product's encoder, so that a test says in a line what to send.
 * Functions that do not return a verdict fail the test on an error. */
#ifndef PSC_TESTS_LIB_PEER_H
#define PSC_TESTS_LIB_PEER_H

#include <openssl/evp.h>
#include <stdint.h>

#include "proto/table.h"
#include "tests/lib/client.h"

/* A host's key and what was issued for it. */
struct peer_identity {
    EVP_PKEY *key;
    struct psc_buf cert, ca; /* PEM with a final NUL */
    char host[64];
    SSL_CTX *ctx; /* shows the certificate */
};

/* A new key without a certificate. */
void peer_identity_init(struct peer_identity *id, const char *host);
void peer_identity_fini(struct peer_identity *id);

/* Enrol with @token; returns 0 when a certificate came (id->ctx is set then),
 * otherwise the code of the refusal, or -1 when there was no answer. */
int peer_enrol(struct peer_identity *id, int port, const char *token);

/* Show @cert (PEM) of id->key from now on. */
void peer_identity_show(struct peer_identity *id, const char *cert_pem);

struct peer {
    struct client client;
    struct table tags, counters;
    struct table_writer tag_writer, counter_writer;
    uint64_t seq;                    /* of the next batch */
    uint64_t tags_seq, counters_seq; /* where the tables stand; 0: nowhere */
    uint64_t boot_us, wall_us;       /* to add to the clocks */
    uint64_t interval_us;            /* that the hello tells */
    uint8_t boot_id[16];
    uint64_t acked; /* newest seq that was acknowledged */
    int refusal;    /* code of the refusal that ended it, or 0 */
    char reason[256];
    unsigned n_need_keyframe, n_pulses;
};

/* Connect as @id (NULL: without a certificate). Returns false if the handshake
 * fails. peer_close() is due in any case. */
bool peer_connect(struct peer *p, int port, const struct peer_identity *id);
void peer_close(struct peer *p);

/* Hello; returns 0 for Welcome, or the code of the refusal, -1 for the end. */
int peer_hello(struct peer *p);

/* Open a stream whose id is @byte 16 times; returns the Cursor's seq. */
uint64_t peer_open(struct peer *p, uint8_t byte);

/* Put one tag with only bytes, or one counter, into the next batch. Tags that
 * are not put again are gone. */
void peer_tag(struct peer *p, const char *tag, int64_t bytes);
void peer_tag_raw(struct peer *p, const void *key, size_t len, int64_t bytes);
void peer_counter(struct peer *p, const char *name, double value);

/* Send what was put as batch p->seq; @extra (may be NULL) gives lists and
 * other fields. @keyframe or a delta. A keyframe goes in parts of at most
 * @budget bytes (0: one frame). Returns false when the connection is gone. */
bool peer_batch(struct peer *p, bool keyframe, size_t budget,
                const struct wire_batch *extra);

/* Read what comes until batch @seq is acknowledged, the session is refused, or
 * @timeout_s is over; returns whether it is acknowledged. */
bool peer_await_ack(struct peer *p, uint64_t seq, int timeout_s);

/* Read until the session is refused or ended, at most @timeout_s; returns the
 * code of the refusal, 0 for an end without one, -1 if it goes on. */
int peer_await_end(struct peer *p, int timeout_s);

/* Read for so long. */
void peer_listen(struct peer *p, int timeout_s);

#endif
