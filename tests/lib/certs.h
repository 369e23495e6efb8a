/* Certificates made for a test: a CA, a server and hosts of it, and TLS
 * contexts from them. Everything aborts the test on failure. */
#ifndef PSC_TESTS_LIB_CERTS_H
#define PSC_TESTS_LIB_CERTS_H

#include <stdint.h>

#include "common/buf.h"
#include "common/pki.h"
#include "common/tls.h"

struct certs {
    EVP_PKEY *ca_key;
    X509 *ca;
    uint8_t ca_sha256[PSC_SHA256_BYTES];
    char *ca_pem;
    char *server_pem; /* leaf only; for "localhost" and 127.0.0.1 */
    char *server_key_pem;
};

/* A host's identity. */
struct host_certs {
    char *pem; /* leaf only */
    char *key_pem;
};

void certs_init(struct certs *certs);
void certs_fini(struct certs *certs);

/* A host's key and certificate by @certs, good for @valid_s from now;
 * negative: expired that long ago. */
void certs_host(const struct certs *certs, int64_t host_id, int64_t valid_s,
                struct host_certs *host);
void host_certs_fini(struct host_certs *host);

/* A server's context: its own certificate, clients judged by @verify. */
SSL_CTX *certs_server_ctx(const struct certs *certs,
                          enum psc_tls_verify verify);

/* A client's context that trusts @trusted and shows @host (NULL: nothing). */
SSL_CTX *certs_client_ctx(const struct certs *trusted,
                          const struct host_certs *host);

/* An enrolling client's context. */
SSL_CTX *certs_pin_ctx(const uint8_t pin[PSC_SHA256_BYTES]);

#endif
