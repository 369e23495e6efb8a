/* What an SSL_CTX of ours carries; between tls_ctx.c and tls.c only. */
#ifndef PSC_COMMON_TLS_CTX_H
#define PSC_COMMON_TLS_CTX_H

#include <openssl/bio.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/tls.h"

enum { TLS_CTX_ID_BYTES = 16 };

struct tls_ctx_info {
    bool server;
    enum psc_tls_verify verify;
    uint8_t pin[32];              /* with PSC_TLS_VERIFY_PIN */
    uint8_t id[TLS_CTX_ID_BYTES]; /* of this context: what its sessions bear */
    BIO_METHOD *method;           /* of the connections' BIOs; owned */
};

/* The info of a context made by psc_tls_ctx_new(). */
const struct tls_ctx_info *tls_ctx_info(const SSL_CTX *ctx);

/* In tls.c: a BIO_METHOD over struct psc_tls, or NULL. */
BIO_METHOD *tls_bio_method_new(void);

/* In tls.c: OpenSSL has a fresh session for a client. */
int tls_on_session(SSL *ssl, SSL_SESSION *session);

#endif
