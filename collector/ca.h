/* The collector's certificate authority and its own server certificate, in the
 * directory pki_dir:
 *
 *   ca.pem       the CA's certificate; more may follow: the trust bundle
 *   ca.key       its private key, mode 0600; without it nothing is issued
 *   server.pem   our certificate, server.key its private key
 *
 * All are made on the first start, also when several collectors that share the
 * directory start at once (file "lock"). An existing PKI is used by putting its
 * files there without ca.key: then server.pem is taken as it is, and hosts get
 * their certificates elsewhere. */
#ifndef PSC_COLLECTOR_CA_H
#define PSC_COLLECTOR_CA_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/error.h"
#include "common/pki.h"
#include "common/tls.h"

#define CA_HOST_VALID_S (90LL * 86400)
/* Certificates are dated back by an hour, for clocks that lag. */
#define CA_BACKDATE_S 3600

struct ca {
    char *dir;             /* owned */
    char *names;           /* of the server certificate; owned */
    struct psc_buf bundle; /* trust bundle, PEM with a final NUL */
    X509 *cert;            /* the CA's, first of the bundle; owned */
    EVP_PKEY *key;         /* its key; NULL: this collector does not issue */
    uint8_t sha256[PSC_SHA256_BYTES]; /* of the CA's certificate */
    SSL_CTX *ctx; /* what sessions are accepted with; owned */
    int64_t server_not_after_us;
    int64_t server_renew_us; /* when a new server certificate is due */
};

/* Read or make everything in @dir. @names: comma-separated DNS names and
 * addresses for our own certificate. */
PSC_MUST_CHECK int ca_open(struct ca *ca, const char *dir, const char *names,
                           struct psc_error *err);
void ca_close(struct ca *ca);

/* Renew our server certificate if it is due at @now_us: ca->ctx is replaced
 * then; sessions keep the one they began with. */
PSC_MUST_CHECK int ca_refresh(struct ca *ca, int64_t now_us,
                              struct psc_error *err);

/* Read everything again, with these @names: another server certificate, more
 * certificates in the bundle. Another CA is refused, and on any error @ca is
 * as it was. Sessions keep what they began with. */
PSC_MUST_CHECK int ca_reload(struct ca *ca, const char *names,
                             struct psc_error *err);

/* Issue a certificate for a host: its chain as PEM appended to @pem. */
PSC_MUST_CHECK int ca_issue(const struct ca *ca, struct psc_bytes request,
                            int64_t host_id, const char *host,
                            struct psc_buf *pem, struct psc_error *err);

/* SHA-256 of the public key in a certificate request, after its signature has
 * been checked. */
PSC_MUST_CHECK int ca_request_key(struct psc_bytes request,
                                  uint8_t sha256[PSC_SHA256_BYTES],
                                  struct psc_error *err);

#endif
