/* One TLS connection as a byte engine.
 *
 * OpenSSL reads and writes through a BIO of our own: it reads from the bytes
 * that psc_tls_feed() lent, without a copy, and writes into tls->out. OpenSSL's
 * memory BIOs would keep the memory of the largest flight for good.
 *
 * Failures become a code and a message for people: the peer's certificate as
 * we judge it, ours as the peer does (an alert), something that is no TLS. */
#include "common/tls.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdint.h>
#include <string.h>

#include "common/tls_ctx.h"

enum {
    RECORD_BYTES = 16384,    /* most plaintext in a record */
    RECORD_EXTRA_BYTES = 64, /* more than header, type and tag take */
};

static int on_bio_read(BIO *bio, char *data, size_t cap, size_t *got)
{
    struct psc_tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    *got = 0;
    if (tls->in.len == 0) {
        BIO_set_retry_read(bio);
        return 0;
    }
    size_t n = cap < tls->in.len ? cap : tls->in.len;
    memcpy(data, tls->in.data, n);
    tls->in.data += n;
    tls->in.len -= n;
    *got = n;
    return 1;
}

static int on_bio_write(BIO *bio, const char *data, size_t len, size_t *written)
{
    struct psc_tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    *written = 0;
    psc_buf_append(&tls->out, data, len);
    if (psc_buf_error(&tls->out) != PSC_OK) {
        return 0;
    }
    *written = len;
    return 1;
}

static long on_bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    (void)bio, (void)num, (void)ptr;
    return cmd == BIO_CTRL_FLUSH ? 1 : 0;
}

BIO_METHOD *tls_bio_method_new(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "poolscope");
    if (method != NULL && (BIO_meth_set_read_ex(method, on_bio_read) != 1 ||
                           BIO_meth_set_write_ex(method, on_bio_write) != 1 ||
                           BIO_meth_set_ctrl(method, on_bio_ctrl) != 1)) {
        BIO_meth_free(method);
        return NULL;
    }
    return method;
}

int tls_on_session(SSL *ssl, SSL_SESSION *session)
{
    struct psc_tls *tls = SSL_get_app_data(ssl);
    if (tls == NULL || tls->session == NULL) {
        return 0;
    }
    SSL_SESSION_free(*tls->session);
    *tls->session = session;
    return 1; /* the reference is ours now */
}

static bool is_server(const struct psc_tls *tls)
{
    return tls_ctx_info(SSL_get_SSL_CTX(tls->ssl))->server;
}

/* Have the peer's certificate checked for @name. */
static int expect_name(SSL *ssl, const char *name, struct psc_error *err)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    ASN1_OCTET_STRING *address = a2i_IPADDRESS(name);
    ASN1_OCTET_STRING_free(address);
    ERR_clear_error();
    if (address != NULL) {
        return X509_VERIFY_PARAM_set1_ip_asc(param, name) == 1 ? PSC_OK
                                                               : PSC_NOMEM;
    }
    if (*name == '\0' || strlen(name) > 255) {
        return psc_error_set(err, PSC_CONFIG,
                             "TLS: \"%.64s\" is no host name to verify", name);
    }
    return X509_VERIFY_PARAM_set1_host(param, name, 0) == 1 &&
                   SSL_set_tlsext_host_name(ssl, name) == 1
               ? PSC_OK
               : PSC_NOMEM;
}

int psc_tls_init(struct psc_tls *tls, SSL_CTX *ctx, const char *name,
                 size_t max_out_bytes, struct psc_error *err)
{
    *tls = (struct psc_tls){.ssl = NULL};
    psc_buf_init(&tls->out, max_out_bytes);
    psc_error_set(err, PSC_NOMEM, "TLS: out of memory for a connection");
    ERR_clear_error();

    const struct tls_ctx_info *info = tls_ctx_info(ctx);
    tls->ssl = SSL_new(ctx);
    BIO *bio = BIO_new(info->method);
    if (tls->ssl == NULL || bio == NULL) {
        BIO_free(bio);
        psc_tls_fini(tls);
        return PSC_NOMEM;
    }
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio);
    int rc = SSL_set_app_data(tls->ssl, tls) == 1 ? PSC_OK : PSC_NOMEM;
    if (info->server) {
        SSL_set_accept_state(tls->ssl);
    } else {
        SSL_set_connect_state(tls->ssl);
    }
    if (rc == PSC_OK && name != NULL) {
        rc = expect_name(tls->ssl, name, err);
    }
    if (rc != PSC_OK) {
        psc_tls_fini(tls);
    }
    return rc;
}

void psc_tls_fini(struct psc_tls *tls)
{
    if (tls->ssl != NULL) {
        /* A cut connection is no reason to forget its session. */
        SSL_set_shutdown(tls->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
        SSL_free(tls->ssl);
        tls->ssl = NULL;
    }
    psc_buf_fini(&tls->out);
    tls->in = (struct psc_bytes){NULL, 0};
    tls->established = false;
}

void psc_tls_resume(struct psc_tls *tls, SSL_SESSION **session)
{
    tls->session = session;
    if (*session == NULL) {
        return;
    }
    const struct tls_ctx_info *info = tls_ctx_info(SSL_get_SSL_CTX(tls->ssl));
    unsigned len = 0;
    const unsigned char *id = SSL_SESSION_get0_id_context(*session, &len);
    if (len == sizeof(info->id) && memcmp(id, info->id, len) == 0 &&
        SSL_SESSION_is_resumable(*session) == 1 &&
        SSL_set_session(tls->ssl, *session) != 1) {
        ERR_clear_error(); /* a full handshake does as well */
    }
    SSL_SESSION_free(*session);
    *session = NULL;
}

void psc_tls_feed(struct psc_tls *tls, const void *data, size_t len)
{
    tls->in = (struct psc_bytes){data, len};
}

/* Whether the dates of @cert hold now. */
static bool dates_hold(X509 *cert)
{
    return X509_cmp_current_time(X509_get0_notBefore(cert)) < 0 &&
           X509_cmp_current_time(X509_get0_notAfter(cert)) > 0;
}

/* Why we refused the peer's certificate. */
static int explain_verify(const struct psc_tls *tls, struct psc_error *err)
{
    const struct tls_ctx_info *info = tls_ctx_info(SSL_get_SSL_CTX(tls->ssl));
    const char *whose = info->server ? "client" : "collector";
    long result = SSL_get_verify_result(tls->ssl);
    switch (result) {
    case X509_V_ERR_OUT_OF_MEM:
        return psc_error_set(err, PSC_NOMEM,
                             "TLS: out of memory while verifying");
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH: {
        const char *name =
            SSL_get_servername(tls->ssl, TLSEXT_NAMETYPE_host_name);
        return psc_error_set(err, PSC_TLS,
                             "TLS: certificate of the %s is not for %s%s; add "
                             "that to the %s's names or connect by one that "
                             "is in it",
                             whose, name != NULL ? "name " : "this address",
                             name != NULL ? name : "", whose);
    }
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return psc_error_set(err, PSC_TLS,
                             "TLS: certificate of the %s: %s; renew it, or set "
                             "the clocks right",
                             whose, X509_verify_cert_error_string(result));
    default: break;
    }
    if (info->verify == PSC_TLS_VERIFY_PIN) {
        return psc_error_set(err, PSC_TLS,
                             "TLS: certificate of the collector does not come "
                             "from the CA that the token names (%s); use a "
                             "token of this collector",
                             X509_verify_cert_error_string(result));
    }
    return psc_error_set(err, PSC_TLS,
                         "TLS: certificate of the %s is not trusted (%s); "
                         "is it from the same CA?",
                         whose, X509_verify_cert_error_string(result));
}

/* What the peer's fatal alert says. */
static int explain_alert(const struct psc_tls *tls, int alert,
                         struct psc_error *err)
{
    const char *peer = is_server(tls) ? "client" : "collector";
    const char *text = SSL_alert_desc_string_long(alert);
    switch (alert) {
    case SSL_AD_BAD_CERTIFICATE:
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
    case SSL_AD_CERTIFICATE_REVOKED:
    case SSL_AD_CERTIFICATE_EXPIRED:
    case SSL_AD_CERTIFICATE_UNKNOWN:
    case SSL_AD_UNKNOWN_CA:
    case SSL_AD_ACCESS_DENIED:
    case SSL_AD_CERTIFICATE_REQUIRED:
        return psc_error_set(err, PSC_REFUSED,
                             "TLS: the %s does not accept our certificate "
                             "(%s); is it from the same CA?",
                             peer, text);
    case SSL_AD_PROTOCOL_VERSION:
        return psc_error_set(err, PSC_TLS, "TLS: the %s does not speak TLS 1.3",
                             peer);
    default:
        return psc_error_set(err, PSC_TLS, "TLS: the %s ended it: %s", peer,
                             text);
    }
}

/* Turn the failure in OpenSSL's queue into a code and a message. */
static int explain_queue(const struct psc_tls *tls, struct psc_error *err)
{
    if (psc_buf_error(&tls->out) != PSC_OK) {
        return psc_error_set(err, psc_buf_error(&tls->out),
                             "TLS: %s for what the peer does not take",
                             psc_strerror(psc_buf_error(&tls->out)));
    }
    unsigned long error = ERR_peek_error();
    int reason = ERR_GET_REASON(error);
    if (reason == ERR_R_MALLOC_FAILURE) {
        return psc_error_set(err, PSC_NOMEM, "TLS: out of memory");
    }
    if (ERR_GET_LIB(error) == ERR_LIB_SSL && reason > SSL_AD_REASON_OFFSET) {
        return explain_alert(tls, reason - SSL_AD_REASON_OFFSET, err);
    }
    switch (ERR_GET_LIB(error) == ERR_LIB_SSL ? reason : 0) {
    case SSL_R_CERTIFICATE_VERIFY_FAILED: return explain_verify(tls, err);
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        return psc_error_set(err, PSC_TLS,
                             "TLS: the client showed no certificate");
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
    case SSL_R_BAD_RECORD_TYPE:
        return psc_error_set(err, PSC_TLS,
                             "TLS: what the peer sends is no TLS 1.3; is this "
                             "the right port?");
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
        return psc_error_set(err, PSC_TLS,
                             "TLS: the peer does not speak TLS 1.3");
    default: break;
    }
    const char *text = ERR_reason_error_string(error);
    return psc_error_set(err, PSC_TLS, "TLS: %s",
                         text != NULL ? text : "failed for no stated reason");
}

/* Explain the failure of an SSL call; the queue is empty afterwards, so that
 * no other connection takes its blame. */
static int explain(const struct psc_tls *tls, struct psc_error *err)
{
    int rc = explain_queue(tls, err);
    ERR_clear_error();
    return rc;
}

/* What an SSL call that returned @ret means: 0 when more input is needed. */
static int outcome(const struct psc_tls *tls, int ret, struct psc_error *err)
{
    switch (SSL_get_error(tls->ssl, ret)) {
    case SSL_ERROR_WANT_READ: return PSC_OK;
    case SSL_ERROR_ZERO_RETURN:
        return psc_error_set(err, PSC_CLOSED, "closed by the peer");
    default: return explain(tls, err);
    }
}

int psc_tls_handshake(struct psc_tls *tls, struct psc_error *err)
{
    if (tls->established) {
        return PSC_OK;
    }
    ERR_clear_error();
    int ret = SSL_do_handshake(tls->ssl);
    if (ret != 1) {
        return outcome(tls, ret, err);
    }
    /* A resumed session says that its certificate was good once. */
    bool expired = false;
    const struct tls_ctx_info *info = tls_ctx_info(SSL_get_SSL_CTX(tls->ssl));
    if (psc_tls_peer(tls, &expired) != NULL && expired &&
        info->verify != PSC_TLS_VERIFY_IF_GIVEN) {
        return psc_error_set(err, PSC_TLS,
                             "TLS: certificate of the %s has expired; renew "
                             "it, or set the clocks right",
                             info->server ? "client" : "collector");
    }
    tls->established = true;
    return PSC_OK;
}

int psc_tls_read(struct psc_tls *tls, void *out, size_t cap, size_t *got,
                 struct psc_error *err)
{
    *got = 0;
    ERR_clear_error();
    int ret = SSL_read_ex(tls->ssl, out, cap, got);
    return ret == 1 ? PSC_OK : outcome(tls, ret, err);
}

int psc_tls_write(struct psc_tls *tls, const void *data, size_t len,
                  struct psc_error *err)
{
    if (len == 0) {
        return PSC_OK;
    }
    /* OpenSSL cannot take back a record, so the room comes first. */
    size_t records = (len + RECORD_BYTES - 1) / RECORD_BYTES;
    int rc = psc_buf_reserve(&tls->out, len + records * RECORD_EXTRA_BYTES);
    if (rc != PSC_OK) {
        tls->out.error = PSC_OK;
        return psc_error_set(err, rc, "TLS: %s for %zu bytes to be sent",
                             psc_strerror(rc), len);
    }
    ERR_clear_error();
    size_t written = 0;
    int ret = SSL_write_ex(tls->ssl, data, len, &written);
    return ret == 1 ? PSC_OK : explain(tls, err);
}

void psc_tls_shutdown(struct psc_tls *tls)
{
    ERR_clear_error();
    if (tls->established) {
        (void)SSL_shutdown(tls->ssl);
        ERR_clear_error();
    }
}

int psc_tls_take(struct psc_tls *tls, struct psc_buf *out)
{
    if (out->len > 0) {
        int rc = psc_buf_reserve(out, tls->out.len);
        if (rc == PSC_OK) {
            psc_buf_append(out, tls->out.data, tls->out.len);
            psc_buf_reset(&tls->out);
        }
        return rc;
    }
    if (tls->out.len > out->max) {
        return PSC_LIMIT;
    }
    size_t max = tls->out.max;
    size_t out_max = out->max;
    struct psc_buf taken = tls->out;
    tls->out = *out;
    tls->out.max = max;
    psc_buf_reset(&tls->out);
    *out = taken;
    out->max = out_max;
    out->error = PSC_OK;
    return PSC_OK;
}

X509 *psc_tls_peer(const struct psc_tls *tls, bool *expired)
{
    X509 *cert = SSL_get0_peer_certificate(tls->ssl);
    *expired = cert != NULL && !dates_hold(cert);
    return cert;
}
