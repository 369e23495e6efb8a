/* Who this host is: its key and certificate, the CA it trusts, and the files
 * in the state directory that hold them (mode 0600):
 *
 *   identity.pem  private key and certificate chain, replaced as one
 *   ca.pem        the trust bundle
 *   pending.pem   a key that waits for its certificate; kept over a crash, as
 *                 the collector answers the same token and key alike */
#ifndef PSC_AGENT_IDENTITY_H
#define PSC_AGENT_IDENTITY_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/error.h"
#include "common/pki.h"

struct identity {
    char dir[512];      /* the state directory */
    bool enrolled;      /* the fields below hold */
    struct psc_buf pem; /* private key and chain, with a final NUL */
    struct psc_buf ca;  /* trust bundle, with a final NUL */
    int64_t host_id;    /* as the certificate says */
    int64_t not_before_us, not_after_us; /* wall clock */
    EVP_PKEY *pending; /* owned; the key of a request under way, or NULL */
};

/* Read what is in @dir. No identity there is no error: see ->enrolled. */
PSC_MUST_CHECK int identity_init(struct identity *id, const char *dir,
                                 struct psc_error *err);
void identity_fini(struct identity *id);

/* Take what others have written meanwhile (poolscope-agent --enrol while the
 * agent runs). True if the identity is another one now; files that are gone,
 * unreadable or no identity leave it as it is (*@why is empty or says so). */
bool identity_refresh(struct identity *id, struct psc_error *why);

/* A certificate request (DER appended to @der) for a new key, or the one that
 * is pending. @host goes into it as the common name. */
PSC_MUST_CHECK int identity_request(struct identity *id, const char *host,
                                    struct psc_buf *der, struct psc_error *err);

/* Take the certificate (PEM chain) that answers identity_request(), and the
 * trust bundle, if they fit the pending key; write both. */
PSC_MUST_CHECK int identity_accept(struct identity *id,
                                   struct psc_bytes certificate,
                                   struct psc_bytes ca, struct psc_error *err);

/* Two thirds of the certificate's life are over, or all of it. */
bool identity_renew_due(const struct identity *id, int64_t wall_us);
bool identity_expired(const struct identity *id, int64_t wall_us);

/* A TLS context of this identity. */
PSC_MUST_CHECK int identity_tls(const struct identity *id, SSL_CTX **ctx,
                                struct psc_error *err);

#endif
