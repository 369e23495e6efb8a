/* The shared part of TLS: one SSL_CTX per role, made from PEM texts.
 *
 * Happy path: TLS 1.3 only -> trust bundle -> own chain and key -> how the
 * peer is judged -> sessions. Failures: unreadable PEM, a key that is not the
 * certificate's, nothing to trust (PSC_CONFIG); memory (PSC_NOMEM).
 *
 * Servers resume by tickets, so they keep no state per session. The keys that
 * seal them follow from the server's private key and from whom it trusts: a
 * server that was restarted, or another process with the same files, goes on
 * with the sessions of the one before, and one that trusts others does not. So
 * of a resumed peer only the dates need judging again: psc_tls_peer() does.
 * Whoever has the private key has these keys too; what was said before stays
 * secret nevertheless, for resumed sessions agree on fresh keys as well. */
#include "common/tls_ctx.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define SESSION_LIFE_S      (24L * 3600)
#define CERT_LIST_MAX_BYTES 32768L /* what a peer may send unauthenticated */
#define CHAIN_MAX_DEPTH     4
#define BUNDLE_MAX_CERTS    64 /* in any one PEM text */
#define DIGEST_BYTES        32 /* SHA-256 */
#define TICKET_KEYS_BYTES   80 /* as OpenSSL takes them */

static void on_ctx_free(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int index,
                        long argl, void *argp)
{
    (void)parent, (void)ad, (void)index, (void)argl, (void)argp;
    struct tls_ctx_info *info = ptr;
    if (info != NULL) {
        BIO_meth_free(info->method);
        free(info);
    }
}

/* The ex_data slot of all contexts, or -1 for want of memory. Two threads that
 * meet here may waste a slot, no more. */
static int info_index(void)
{
    static atomic_int slot = -1;
    int index = atomic_load(&slot);
    if (index < 0) {
        index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, on_ctx_free);
        int none = -1;
        if (index >= 0 &&
            !atomic_compare_exchange_strong(&slot, &none, index)) {
            index = none;
        }
    }
    return index;
}

const struct tls_ctx_info *tls_ctx_info(const SSL_CTX *ctx)
{
    return SSL_CTX_get_ex_data(ctx, info_index());
}

/* Make the info and hand it to @ctx. */
static struct tls_ctx_info *attach_info(SSL_CTX *ctx,
                                        const struct psc_tls_settings *settings)
{
    int index = info_index();
    struct tls_ctx_info *info = calloc(1, sizeof(*info));
    if (info == NULL) {
        return NULL;
    }
    info->server = settings->server;
    info->verify = settings->verify;
    memcpy(info->pin, settings->pin, sizeof(info->pin));
    info->method = tls_bio_method_new();
    if (index < 0 || info->method == NULL ||
        RAND_bytes(info->id, sizeof(info->id)) != 1 ||
        SSL_CTX_set_ex_data(ctx, index, info) != 1) {
        BIO_meth_free(info->method);
        free(info);
        return NULL;
    }
    return info;
}

static int set_protocol(SSL_CTX *ctx)
{
    if (SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256:"
                                      "TLS_CHACHA20_POLY1305_SHA256:"
                                      "TLS_AES_256_GCM_SHA384") != 1 ||
        SSL_CTX_set1_groups_list(ctx, "X25519:P-256") != 1) {
        return PSC_NOMEM;
    }
    /* A chain is what is configured, not what could be guessed each time. */
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_max_cert_list(ctx, CERT_LIST_MAX_BYTES);
    return PSC_OK;
}

/* Whether the last OpenSSL error was for want of memory. */
static bool out_of_memory(void)
{
    return ERR_GET_REASON(ERR_peek_last_error()) == ERR_R_MALLOC_FAILURE;
}

/* The certificates of @pem, at least one; @what names the text. */
static int read_certs(const char *pem, const char *what, STACK_OF(X509) * *out,
                      struct psc_error *err)
{
    STACK_OF(X509) *certs = sk_X509_new_null();
    BIO *bio = BIO_new_mem_buf(pem, -1);
    int rc = certs != NULL && bio != NULL ? PSC_OK : PSC_NOMEM;
    while (rc == PSC_OK) {
        X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        if (cert == NULL) {
            break;
        }
        if (sk_X509_num(certs) >= BUNDLE_MAX_CERTS) {
            rc = psc_error_set(err, PSC_CONFIG,
                               "TLS: more than %d certificates in the %s",
                               BUNDLE_MAX_CERTS, what);
            X509_free(cert);
        } else if (sk_X509_push(certs, cert) == 0) {
            rc = PSC_NOMEM;
            X509_free(cert);
        }
    }
    unsigned long last = ERR_peek_last_error();
    bool at_end = ERR_GET_LIB(last) == ERR_LIB_PEM &&
                  ERR_GET_REASON(last) == PEM_R_NO_START_LINE;
    if (rc == PSC_OK && out_of_memory()) {
        rc = PSC_NOMEM;
    } else if (rc == PSC_OK && (!at_end || sk_X509_num(certs) == 0)) {
        rc = psc_error_set(err, PSC_CONFIG,
                           "TLS: %s in the %s: it must hold certificates as "
                           "PEM text",
                           at_end ? "no certificate" : "damaged certificate",
                           what);
    }
    BIO_free(bio);
    if (rc != PSC_OK) {
        sk_X509_pop_free(certs, X509_free);
        return rc;
    }
    ERR_clear_error();
    *out = certs;
    return PSC_OK;
}

static int add_trust(SSL_CTX *ctx, const char *pem, struct psc_error *err)
{
    STACK_OF(X509) *certs = NULL;
    int rc = read_certs(pem, "trust bundle", &certs, err);
    if (rc != PSC_OK) {
        return rc;
    }
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);
    for (int i = 0; i < sk_X509_num(certs) && rc == PSC_OK; i++) {
        if (X509_STORE_add_cert(store, sk_X509_value(certs, i)) != 1) {
            rc = PSC_NOMEM;
        }
    }
    sk_X509_pop_free(certs, X509_free);
    return rc;
}

/* Use @pem's first certificate as ours and send the others along. */
static int use_chain(SSL_CTX *ctx, const char *pem, bool server,
                     struct psc_error *err)
{
    STACK_OF(X509) *certs = NULL;
    int rc = read_certs(pem, "certificate chain", &certs, err);
    if (rc != PSC_OK) {
        return rc;
    }
    if (SSL_CTX_use_certificate(ctx, sk_X509_value(certs, 0)) != 1) {
        rc = out_of_memory()
                 ? PSC_NOMEM
                 : psc_error_set(err, PSC_CONFIG,
                                 "TLS: own certificate cannot be used: %s",
                                 ERR_reason_error_string(ERR_peek_error()));
    }
    for (int i = 1; i < sk_X509_num(certs) && rc == PSC_OK; i++) {
        X509 *cert = sk_X509_value(certs, i);
        /* A server has the root already and would keep ours in memory. */
        if (!server && X509_self_signed(cert, 0) == 1) {
            continue;
        }
        if (SSL_CTX_add1_chain_cert(ctx, cert) != 1) {
            rc = PSC_NOMEM;
        }
    }
    sk_X509_pop_free(certs, X509_free);
    return rc;
}

static int use_key(SSL_CTX *ctx, const char *pem, struct psc_error *err)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    if (bio == NULL) {
        return PSC_NOMEM;
    }
    /* The empty pass phrase keeps OpenSSL from asking on the terminal. */
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, "");
    BIO_free(bio);
    if (key == NULL) {
        return out_of_memory()
                   ? PSC_NOMEM
                   : psc_error_set(err, PSC_CONFIG,
                                   "TLS: the private key is no readable PEM "
                                   "text (encrypted keys are not supported)");
    }
    int ok = SSL_CTX_use_PrivateKey(ctx, key);
    EVP_PKEY_free(key);
    if (ok != 1 || SSL_CTX_check_private_key(ctx) != 1) {
        return out_of_memory()
                   ? PSC_NOMEM
                   : psc_error_set(err, PSC_CONFIG,
                                   "TLS: the private key does not belong to "
                                   "the certificate");
    }
    return PSC_OK;
}

static int set_identity(SSL_CTX *ctx, const struct psc_tls_settings *settings,
                        struct psc_error *err)
{
    if ((settings->cert_pem == NULL) != (settings->key_pem == NULL) ||
        (settings->server && settings->cert_pem == NULL)) {
        return psc_error_set(err, PSC_CONFIG,
                             "TLS: a certificate and its key are needed");
    }
    if (settings->cert_pem == NULL) {
        return PSC_OK;
    }
    int rc = use_chain(ctx, settings->cert_pem, settings->server, err);
    if (rc == PSC_OK) {
        rc = use_key(ctx, settings->key_pem, err);
    }
    /* Enrolling agents find the pinned CA in what the server sends. */
    if (rc == PSC_OK && settings->server &&
        SSL_CTX_build_cert_chain(ctx, SSL_BUILD_CHAIN_FLAG_UNTRUSTED |
                                          SSL_BUILD_CHAIN_FLAG_IGNORE_ERROR |
                                          SSL_BUILD_CHAIN_FLAG_CLEAR_ERROR) <
            1) {
        rc = out_of_memory()
                 ? PSC_NOMEM
                 : psc_error_set(err, PSC_CONFIG,
                                 "TLS: unusable certificate chain: %s",
                                 ERR_reason_error_string(ERR_peek_error()));
    }
    return rc;
}

/* An otherwise valid client is let in when its own dates do not hold. */
static int on_verify_any_date(int ok, X509_STORE_CTX *store)
{
    int error = X509_STORE_CTX_get_error(store);
    bool date = error == X509_V_ERR_CERT_HAS_EXPIRED ||
                error == X509_V_ERR_CERT_NOT_YET_VALID;
    if (ok == 0 && date && X509_STORE_CTX_get_error_depth(store) == 0) {
        X509_STORE_CTX_set_error(store, X509_V_OK);
        return 1;
    }
    return ok;
}

/* The CA in @chain whose digest is the pin, borrowed, or NULL. */
static X509 *find_pinned(STACK_OF(X509) * chain, const uint8_t pin[32])
{
    for (int i = 0; i < sk_X509_num(chain); i++) {
        X509 *cert = sk_X509_value(chain, i);
        uint8_t digest[EVP_MAX_MD_SIZE];
        unsigned len = 0;
        if (X509_digest(cert, EVP_sha256(), digest, &len) == 1 && len == 32 &&
            memcmp(digest, pin, len) == 0 && X509_check_ca(cert) > 0) {
            return cert;
        }
    }
    return NULL;
}

/* Verify with the pinned CA, if the peer sent it, as the only trust. */
static int on_verify_pinned(X509_STORE_CTX *store, void *arg)
{
    const struct tls_ctx_info *info = arg;
    X509 *ca = find_pinned(X509_STORE_CTX_get0_untrusted(store), info->pin);
    STACK_OF(X509) *anchors = ca != NULL ? sk_X509_new_null() : NULL;
    if (anchors == NULL || sk_X509_push(anchors, ca) == 0) {
        sk_X509_free(anchors);
        X509_STORE_CTX_set_error(store, ca != NULL ? X509_V_ERR_OUT_OF_MEM
                                                   : X509_V_ERR_CERT_UNTRUSTED);
        return 0;
    }
    X509_STORE_CTX_set0_trusted_stack(store, anchors);
    int ok = X509_verify_cert(store);
    sk_X509_free(anchors);
    return ok;
}

static int set_verification(SSL_CTX *ctx, struct tls_ctx_info *info,
                            const struct psc_tls_settings *settings,
                            struct psc_error *err)
{
    if (settings->ca_pem == NULL && settings->verify != PSC_TLS_VERIFY_PIN) {
        return psc_error_set(err, PSC_CONFIG, "TLS: a trust bundle is needed");
    }
    int mode = SSL_VERIFY_PEER;
    if (settings->verify == PSC_TLS_VERIFY_PEER) {
        mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    }
    SSL_CTX_set_verify(ctx, mode,
                       settings->verify == PSC_TLS_VERIFY_IF_GIVEN
                           ? on_verify_any_date
                           : NULL);
    SSL_CTX_set_verify_depth(ctx, CHAIN_MAX_DEPTH);
    if (settings->verify == PSC_TLS_VERIFY_PIN) {
        SSL_CTX_set_cert_verify_callback(ctx, on_verify_pinned, info);
    }
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_hostflags(param,
                                    X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    /* An issuing CA may be trusted without its root. */
    return X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN) == 1
               ? PSC_OK
               : PSC_NOMEM;
}

/* HMAC-SHA-256 of @text with @key into @out. */
static bool mac(const void *key, size_t key_len, const char *text,
                uint8_t out[DIGEST_BYTES])
{
    unsigned len = 0;
    return HMAC(EVP_sha256(), key, (int)key_len, (const uint8_t *)text,
                strlen(text), out, &len) != NULL &&
           len == DIGEST_BYTES;
}

/* The keys of the tickets and the name of the sessions, from the private key
 * and the trust. */
static bool set_tickets(SSL_CTX *ctx, struct tls_ctx_info *info,
                        const struct psc_tls_settings *settings)
{
    static const char *const labels[] = {
        "poolscope ticket 1", "poolscope ticket 2", "poolscope ticket 3"};
    uint8_t seed[DIGEST_BYTES];
    uint8_t keys[3 * DIGEST_BYTES]; /* 80 bytes of these, then the name */
    const char *anyone =
        settings->verify == PSC_TLS_VERIFY_IF_GIVEN ? "given" : "all";
    const char *key = settings->key_pem != NULL ? settings->key_pem : "";
    const char *trust = settings->ca_pem != NULL ? settings->ca_pem : "";
    bool good = mac(key, strlen(key), trust, seed) &&
                mac(seed, sizeof(seed), anyone, seed);
    for (unsigned i = 0; i < 3; i++) {
        good = good && mac(seed, sizeof(seed), labels[i],
                           keys + (size_t)i * DIGEST_BYTES);
    }
    good = good && SSL_CTX_set_tlsext_ticket_keys(ctx, keys, TICKET_KEYS_BYTES);
    memcpy(info->id, keys + TICKET_KEYS_BYTES, sizeof(info->id));
    OPENSSL_cleanse(seed, sizeof(seed));
    OPENSSL_cleanse(keys, sizeof(keys));
    return good;
}

static int set_sessions(SSL_CTX *ctx, struct tls_ctx_info *info,
                        const struct psc_tls_settings *settings)
{
    SSL_CTX_set_timeout(ctx, SESSION_LIFE_S);
    if (info->server) {
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
        if (SSL_CTX_set_num_tickets(ctx, 1) != 1 ||
            !set_tickets(ctx, info, settings)) {
            return PSC_NOMEM;
        }
    } else {
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT |
                                                SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(ctx, tls_on_session);
    }
    return SSL_CTX_set_session_id_context(ctx, info->id, sizeof(info->id)) == 1
               ? PSC_OK
               : PSC_NOMEM;
}

int psc_tls_ctx_new(const struct psc_tls_settings *settings, SSL_CTX **out,
                    struct psc_error *err)
{
    ERR_clear_error();
    psc_error_set(err, PSC_NOMEM, "TLS: out of memory for a context");
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    if (ctx == NULL) {
        return PSC_NOMEM;
    }
    struct tls_ctx_info *info = attach_info(ctx, settings);
    int rc = info != NULL ? set_protocol(ctx) : PSC_NOMEM;
    if (rc == PSC_OK && settings->ca_pem != NULL) {
        rc = add_trust(ctx, settings->ca_pem, err);
    }
    if (rc == PSC_OK) {
        rc = set_identity(ctx, settings, err);
    }
    if (rc == PSC_OK) {
        rc = set_verification(ctx, info, settings, err);
    }
    if (rc == PSC_OK) {
        rc = set_sessions(ctx, info, settings);
    }
    ERR_clear_error();
    if (rc != PSC_OK) {
        SSL_CTX_free(ctx);
        return rc;
    }
    *out = ctx;
    return PSC_OK;
}
