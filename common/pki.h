/* Keys and certificates: P-256 keys, PKCS#10 requests, the collector's own
 * small CA, and the identity of a host in its certificate (the URI
 * "poolscope:host:<id>" as subject alternative name). */
#ifndef PSC_COMMON_PKI_H
#define PSC_COMMON_PKI_H

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/error.h"

#define PSC_SHA256_BYTES 32

PSC_MUST_CHECK int psc_key_new(EVP_PKEY **key, struct psc_error *err);

/* PEM text of a key or certificate appended to @out; and back. */
PSC_MUST_CHECK int psc_key_to_pem(EVP_PKEY *key, struct psc_buf *out);
PSC_MUST_CHECK int psc_key_from_pem(struct psc_bytes pem, EVP_PKEY **key,
                                    struct psc_error *err);
PSC_MUST_CHECK int psc_cert_to_pem(X509 *cert, struct psc_buf *out);
PSC_MUST_CHECK int psc_cert_from_pem(struct psc_bytes pem, X509 **cert,
                                     struct psc_error *err);

/* SHA-256 of a certificate's DER. */
PSC_MUST_CHECK int psc_cert_sha256(X509 *cert, uint8_t out[PSC_SHA256_BYTES]);

/* A certificate request (DER appended to @der) for @key with @common_name. */
PSC_MUST_CHECK int psc_csr_new(EVP_PKEY *key, const char *common_name,
                               struct psc_buf *der, struct psc_error *err);

/* A self-signed CA certificate for @key, valid for @days. */
PSC_MUST_CHECK int psc_ca_new(EVP_PKEY *key, const char *common_name, int days,
                              X509 **cert, struct psc_error *err);

/* Issue a client certificate for host @host_id named @host_name to the key of
 * the request @csr_der (checked: P-256, self-signature holds). */
PSC_MUST_CHECK int psc_ca_issue_host(X509 *ca, EVP_PKEY *ca_key,
                                     struct psc_bytes csr_der, int64_t host_id,
                                     const char *host_name, int64_t valid_s,
                                     X509 **cert, struct psc_error *err);

/* Issue a server certificate for @key with the comma-separated DNS names and
 * addresses in @names. */
PSC_MUST_CHECK int psc_ca_issue_server(X509 *ca, EVP_PKEY *ca_key,
                                       EVP_PKEY *key, const char *names,
                                       int64_t valid_s, X509 **cert,
                                       struct psc_error *err);

/* Host id of a certificate, or PSC_FORMAT if it is no host's. */
PSC_MUST_CHECK int psc_cert_host_id(X509 *cert, int64_t *host_id);

/* Validity as Unix times in microseconds. */
PSC_MUST_CHECK int psc_cert_validity(X509 *cert, int64_t *not_before_us,
                                     int64_t *not_after_us);

/* Enrolment tokens: "psc1.<43 chars secret>.<43 chars CA SHA-256>", both
 * parts base64url without padding of 32 bytes. The database keeps only the
 * SHA-256 of the secret. */
struct psc_token {
    uint8_t secret[32];
    uint8_t ca_sha256[PSC_SHA256_BYTES];
};
#define PSC_TOKEN_TEXT_BYTES 96 /* with the final NUL */
PSC_MUST_CHECK int psc_token_parse(const char *text, struct psc_token *token,
                                   struct psc_error *err);
void psc_token_format(const struct psc_token *token,
                      char out[PSC_TOKEN_TEXT_BYTES]);

#endif
