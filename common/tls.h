/* TLS 1.3 as a byte engine without sockets: ciphertext in, plaintext out, and
 * back, through OpenSSL memory BIOs. One struct psc_tls is one connection. */
#ifndef PSC_COMMON_TLS_H
#define PSC_COMMON_TLS_H

#include <openssl/ssl.h>
#include <stdbool.h>

#include "common/buf.h"
#include "common/error.h"

/* How the peer's certificate is judged. */
enum psc_tls_verify {
    PSC_TLS_VERIFY_PEER, /* chain and dates must hold */
    PSC_TLS_VERIFY_IF_GIVEN, /* collector: none is accepted (enrolment); a
                                given one must chain to the CA; an expired one
                                is let in and reported (renewal) */
    PSC_TLS_VERIFY_PIN,  /* enrolling agent: the chain must end in a CA whose
                            SHA-256 is the pinned one */
};

struct psc_tls_settings {
    bool server;
    enum psc_tls_verify verify;
    const char *ca_pem;    /* trust bundle, PEM text; may be NULL with PIN */
    const char *cert_pem;  /* own certificate chain, PEM text, or NULL */
    const char *key_pem;   /* its key, PEM text, or NULL */
    uint8_t pin[32];       /* SHA-256 of the CA certificate's DER, for PIN */
};

/* A shared context, TLS 1.3 only, no 0-RTT; borrowed texts are copied. */
PSC_MUST_CHECK int psc_tls_ctx_new(const struct psc_tls_settings *settings,
                                   SSL_CTX **ctx, struct psc_error *err);

struct psc_tls {
    SSL *ssl;        /* owned */
    BIO *in;         /* ciphertext from the peer; owned by ssl */
    BIO *out;        /* ciphertext for the peer; owned by ssl */
    bool established;
};

/* Start a connection. @name is the peer's host name that a client verifies
 * and sends as SNI (NULL on servers and with PIN). */
PSC_MUST_CHECK int psc_tls_init(struct psc_tls *tls, SSL_CTX *ctx, bool server,
                                const char *name, struct psc_error *err);
void psc_tls_fini(struct psc_tls *tls);

/* Give the engine @len bytes of ciphertext from the peer. */
PSC_MUST_CHECK int psc_tls_feed(struct psc_tls *tls, const void *data,
                                size_t len, struct psc_error *err);

/* Drive the handshake. Returns 0 also while it is unfinished: see
 * tls->established. After each call, send what psc_tls_take() gives. */
PSC_MUST_CHECK int psc_tls_handshake(struct psc_tls *tls,
                                     struct psc_error *err);

/* Read decrypted bytes into @out. *@got is 0 when more input is needed.
 * Returns PSC_CLOSED after the peer's close_notify. */
PSC_MUST_CHECK int psc_tls_read(struct psc_tls *tls, void *out, size_t cap,
                                size_t *got, struct psc_error *err);

/* Encrypt all of @data. */
PSC_MUST_CHECK int psc_tls_write(struct psc_tls *tls, const void *data,
                                 size_t len, struct psc_error *err);

/* Queue a close_notify alert. */
void psc_tls_shutdown(struct psc_tls *tls);

/* Append the ciphertext that waits for the peer to @out. */
PSC_MUST_CHECK int psc_tls_take(struct psc_tls *tls, struct psc_buf *out);

/* The peer's certificate, or NULL if it gave none; borrowed. *@expired says
 * whether it was let in though its dates do not hold now. Checked afresh at
 * each call, so a resumed session gets no old answer. */
X509 *psc_tls_peer(const struct psc_tls *tls, bool *expired);

#endif
