/* TLS 1.3 as a byte engine without sockets: ciphertext in, plaintext out, and
 * back. One struct psc_tls is one connection. It reads from bytes that the
 * caller lends it and writes into one bounded buffer, so that an idle
 * connection holds nothing but OpenSSL's own state.
 *
 * Happy path: psc_tls_init() -> psc_tls_handshake(), then for whatever comes
 * from the peer psc_tls_feed() -> psc_tls_handshake() until established ->
 * psc_tls_read() until *got is 0. After every call that may write (handshake,
 * read, write, shutdown; failed ones too, for the alert) send what
 * psc_tls_take() gives. */
#ifndef PSC_COMMON_TLS_H
#define PSC_COMMON_TLS_H

#include <openssl/ssl.h>
#include <stdbool.h>

#include "common/buf.h"
#include "common/error.h"

/* How the peer's certificate is judged. */
enum psc_tls_verify {
    PSC_TLS_VERIFY_PEER,     /* chain and dates must hold */
    PSC_TLS_VERIFY_IF_GIVEN, /* collector: none is accepted (enrolment); a
                                given one must chain to the CA; an expired one
                                is let in and reported (renewal) */
    PSC_TLS_VERIFY_PIN,      /* enrolling agent: the chain must end in a CA
                                whose SHA-256 is the pinned one */
};

struct psc_tls_settings {
    bool server;
    enum psc_tls_verify verify;
    const char *ca_pem;   /* trust bundle, PEM text; may be NULL with PIN */
    const char *cert_pem; /* own certificate chain, PEM text, or NULL. A
                             server's is completed from ca_pem, so that it
                             ends in the CA; a client sends no root. */
    const char *key_pem;  /* its key, PEM text, or NULL */
    uint8_t pin[32];      /* SHA-256 of the CA certificate's DER, for PIN */
};

/* A shared context, TLS 1.3 only, no 0-RTT; borrowed texts are copied. Free it
 * with SSL_CTX_free(); connections keep it alive. Returns PSC_CONFIG with what
 * is wrong with which of the texts, or PSC_NOMEM. */
PSC_MUST_CHECK int psc_tls_ctx_new(const struct psc_tls_settings *settings,
                                   SSL_CTX **ctx, struct psc_error *err);

/* Must not move in memory between psc_tls_init() and psc_tls_fini(). */
struct psc_tls {
    SSL *ssl;              /* owned */
    struct psc_bytes in;   /* ciphertext not yet read; borrowed */
    struct psc_buf out;    /* ciphertext for the peer */
    SSL_SESSION **session; /* where a client keeps its last session; borrowed,
                              or NULL */
    bool established;      /* the handshake is done */
};

/* Start a connection on the side that @ctx was made for. @name is the peer's
 * host name or address that a client verifies (names also go out as SNI); NULL
 * on servers and with PIN. At most @max_out_bytes of ciphertext ever wait for
 * psc_tls_take(). */
PSC_MUST_CHECK int psc_tls_init(struct psc_tls *tls, SSL_CTX *ctx,
                                const char *name, size_t max_out_bytes,
                                struct psc_error *err);

/* Free what @tls holds; harmless on a zeroed or finished one. */
void psc_tls_fini(struct psc_tls *tls);

/* Client, before the first handshake call: resume the session in *@session
 * (or NULL) if it was made with the same SSL_CTX, and keep the newest one
 * there. A session is offered only once: it is taken out of *@session here
 * and a fresh one replaces it as soon as the server sends one. What is in
 * *@session is the caller's to SSL_SESSION_free(); @session must stay valid
 * until psc_tls_fini(). */
void psc_tls_resume(struct psc_tls *tls, SSL_SESSION **session);

/* Lend the engine @len bytes of ciphertext from the peer. They are used by
 * psc_tls_handshake() and psc_tls_read() and must stay in place until
 * tls->in.len is 0; only then may more be fed. */
void psc_tls_feed(struct psc_tls *tls, const void *data, size_t len);

/* Drive the handshake. Returns 0 also while it is unfinished: see
 * tls->established. Otherwise PSC_TLS when the peer is not acceptable,
 * PSC_REFUSED when it says so of us, PSC_NOMEM or PSC_LIMIT. */
PSC_MUST_CHECK int psc_tls_handshake(struct psc_tls *tls,
                                     struct psc_error *err);

/* Read decrypted bytes into @out. *@got is 0 when more input is needed.
 * Returns PSC_CLOSED after the peer's close_notify, else as
 * psc_tls_handshake(): a server's judgement of a client's certificate reaches
 * the client only here. */
PSC_MUST_CHECK int psc_tls_read(struct psc_tls *tls, void *out, size_t cap,
                                size_t *got, struct psc_error *err);

/* Encrypt all of @data. PSC_LIMIT and PSC_NOMEM leave the connection as it
 * was; other errors end it. */
PSC_MUST_CHECK int psc_tls_write(struct psc_tls *tls, const void *data,
                                 size_t len, struct psc_error *err);

/* Queue a close_notify alert. */
void psc_tls_shutdown(struct psc_tls *tls);

/* Move the ciphertext that waits for the peer to the end of @out; an empty
 * @out takes over the memory without a copy. On failure nothing is lost. */
PSC_MUST_CHECK int psc_tls_take(struct psc_tls *tls, struct psc_buf *out);

/* The peer's certificate, or NULL if it gave none; borrowed. *@expired says
 * whether its dates do not hold now. Judged afresh at each call, so that a
 * resumed session, or an old one, gets no old answer. */
X509 *psc_tls_peer(const struct psc_tls *tls, bool *expired);

#endif
