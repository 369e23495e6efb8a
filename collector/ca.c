/* Keys and certificates in files.
 *
 * Happy path: ca.pem and ca.key are read (or made: key first, so that a crash
 * in between leaves no certificate without its key), the server certificate is
 * read if it is ours, in date and for the same names, otherwise issued.
 *
 * Failures: a certificate that does not belong to the key, an unreadable
 * directory. A CA without its key is no failure: such a collector serves hosts
 * but enrols none. */
#include "collector/ca.h"

#include <fcntl.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"

enum {
    PEM_MAX_BYTES = 256 * 1024,
    PATH_MAX_BYTES = 4096,
    CA_VALID_DAYS = 3650,
    KEY_MODE = 0600,
    CERT_MODE = 0644,
    REQUEST_MAX_BYTES = 4096,
};

#define SERVER_VALID_S (90LL * 86400)

/* ---- files ---- */

static int file_path(const struct ca *ca, const char *name, char *out,
                     struct psc_error *err)
{
    if (psc_path_join(out, PATH_MAX_BYTES, ca->dir, name) != PSC_OK) {
        return psc_error_set(err, PSC_LIMIT, "pki_dir: the path is too long");
    }
    return PSC_OK;
}

static bool exists(const struct ca *ca, const char *name)
{
    char path[PATH_MAX_BYTES];
    return file_path(ca, name, path, NULL) == PSC_OK && access(path, F_OK) == 0;
}

/* Collectors of one machine may share the directory: who makes something in it
 * holds the lock. Returns a descriptor to close, or -1. */
static int lock_dir(const struct ca *ca)
{
    char path[PATH_MAX_BYTES];
    if (file_path(ca, "lock", path, NULL) != PSC_OK) {
        return -1;
    }
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, KEY_MODE);
    if (fd >= 0) {
        (void)flock(fd, LOCK_EX);
    }
    return fd;
}

static void unlock_dir(int fd)
{
    if (fd >= 0) {
        (void)close(fd);
    }
}

/* PEM text with a final NUL that is not counted. */
static int read_pem(const struct ca *ca, const char *name, struct psc_buf *out,
                    struct psc_error *err)
{
    char path[PATH_MAX_BYTES];
    int rc = file_path(ca, name, path, err);
    if (rc == PSC_OK) {
        rc = psc_file_read(path, out, err);
    }
    if (rc == PSC_OK && psc_buf_reserve(out, 1) != PSC_OK) {
        rc = psc_error_set(err, PSC_NOMEM, "%s: too large", path);
    }
    if (rc == PSC_OK) {
        out->data[out->len] = '\0';
    }
    return rc;
}

static int write_pem(const struct ca *ca, const char *name,
                     const struct psc_buf *pem, int mode, struct psc_error *err)
{
    char path[PATH_MAX_BYTES];
    int rc = file_path(ca, name, path, err);
    return rc == PSC_OK ? psc_file_write(path, psc_buf_bytes(pem), mode, err)
                        : rc;
}

static int write_key(const struct ca *ca, const char *name, EVP_PKEY *key,
                     struct psc_error *err)
{
    struct psc_buf pem;
    psc_buf_init(&pem, PEM_MAX_BYTES);
    int rc = psc_key_to_pem(key, &pem);
    rc = rc == PSC_OK ? write_pem(ca, name, &pem, KEY_MODE, err)
                      : psc_error_set(err, rc, "cannot write a key");
    psc_buf_wipe(&pem);
    psc_buf_fini(&pem);
    return rc;
}

static int write_cert(const struct ca *ca, const char *name, X509 *cert,
                      struct psc_error *err)
{
    struct psc_buf pem;
    psc_buf_init(&pem, PEM_MAX_BYTES);
    int rc = psc_cert_to_pem(cert, &pem);
    rc = rc == PSC_OK ? write_pem(ca, name, &pem, CERT_MODE, err)
                      : psc_error_set(err, rc, "cannot write a certificate");
    psc_buf_fini(&pem);
    return rc;
}

static int read_key(const struct ca *ca, const char *name, EVP_PKEY **key,
                    struct psc_error *err)
{
    struct psc_buf pem;
    psc_buf_init(&pem, PEM_MAX_BYTES);
    int rc = read_pem(ca, name, &pem, err);
    if (rc == PSC_OK) {
        rc = psc_key_from_pem(psc_buf_bytes(&pem), key, err);
    }
    psc_buf_wipe(&pem);
    psc_buf_fini(&pem);
    return rc;
}

static int read_cert(const struct ca *ca, const char *name, X509 **cert,
                     struct psc_error *err)
{
    struct psc_buf pem;
    psc_buf_init(&pem, PEM_MAX_BYTES);
    int rc = read_pem(ca, name, &pem, err);
    if (rc == PSC_OK) {
        rc = psc_cert_from_pem(psc_buf_bytes(&pem), cert, err);
    }
    psc_buf_fini(&pem);
    return rc;
}

/* ---- the CA ---- */

static int make_ca(struct ca *ca, struct psc_error *err)
{
    EVP_PKEY *key = NULL;
    X509 *cert = NULL;
    int rc = exists(ca, "ca.key") ? read_key(ca, "ca.key", &key, err)
                                  : psc_key_new(&key, err);
    if (rc == PSC_OK) {
        rc = psc_ca_new(key, "poolscope CA", CA_VALID_DAYS, &cert, err);
    }
    if (rc == PSC_OK) {
        rc = write_key(ca, "ca.key", key, err);
    }
    if (rc == PSC_OK) {
        rc = write_cert(ca, "ca.pem", cert, err);
    }
    if (rc == PSC_OK) {
        psc_log_info("made a certificate authority in %s", ca->dir);
    }
    EVP_PKEY_free(key);
    X509_free(cert);
    return rc;
}

static int load_ca(struct ca *ca, struct psc_error *err)
{
    int rc = read_pem(ca, "ca.pem", &ca->bundle, err);
    if (rc == PSC_OK) {
        rc = psc_cert_from_pem(psc_buf_bytes(&ca->bundle), &ca->cert, err);
    }
    if (rc == PSC_OK) {
        rc = psc_cert_sha256(ca->cert, ca->sha256);
    }
    if (rc != PSC_OK || !exists(ca, "ca.key")) {
        return rc;
    }
    rc = read_key(ca, "ca.key", &ca->key, err);
    if (rc == PSC_OK && X509_check_private_key(ca->cert, ca->key) != 1) {
        rc = psc_error_set(err, PSC_CONFIG,
                           "%s: ca.key is not the key of ca.pem", ca->dir);
    }
    return rc;
}

/* ---- our own certificate ---- */

/* Whether @cert is issued by the present CA, for each of the names. */
static bool fits(const struct ca *ca, X509 *cert)
{
    bool good = X509_check_issued(ca->cert, cert) == X509_V_OK;
    char *names = strdup(ca->names);
    char *rest = names;
    char *name;
    while (good && rest != NULL && (name = strsep(&rest, ", ")) != NULL) {
        good = *name == '\0' || X509_check_ip_asc(cert, name, 0) == 1 ||
               X509_check_host(cert, name, 0, 0, NULL) == 1;
    }
    good = good && names != NULL;
    free(names);
    return good;
}

/* Two thirds of its life after its start. */
static int note_validity(struct ca *ca, X509 *cert, struct psc_error *err)
{
    int64_t from_us;
    int rc = psc_cert_validity(cert, &from_us, &ca->server_not_after_us);
    if (rc != PSC_OK) {
        return psc_error_set(err, rc, "%s/server.pem: no validity", ca->dir);
    }
    ca->server_renew_us = from_us + (ca->server_not_after_us - from_us) / 3 * 2;
    return PSC_OK;
}

static int issue_server(struct ca *ca, struct psc_error *err)
{
    EVP_PKEY *key = NULL;
    X509 *cert = NULL;
    int rc = psc_key_new(&key, err);
    if (rc == PSC_OK) {
        rc = psc_ca_issue_server(ca->cert, ca->key, key, ca->names,
                                 SERVER_VALID_S, &cert, err);
    }
    if (rc == PSC_OK) {
        rc = write_key(ca, "server.key", key, err);
    }
    if (rc == PSC_OK) {
        rc = write_cert(ca, "server.pem", cert, err);
    }
    if (rc == PSC_OK) {
        psc_log_info("issued our server certificate for %s", ca->names);
    }
    EVP_PKEY_free(key);
    X509_free(cert);
    return rc;
}

/* Whether the server certificate on disk will do. */
static bool server_is_good(struct ca *ca, int64_t now_us)
{
    X509 *cert = NULL;
    EVP_PKEY *key = NULL;
    bool good = exists(ca, "server.pem") && exists(ca, "server.key") &&
                read_cert(ca, "server.pem", &cert, NULL) == PSC_OK &&
                read_key(ca, "server.key", &key, NULL) == PSC_OK &&
                X509_check_private_key(cert, key) == 1 &&
                note_validity(ca, cert, NULL) == PSC_OK &&
                now_us < ca->server_renew_us && fits(ca, cert);
    X509_free(cert);
    EVP_PKEY_free(key);
    return good;
}

static int make_ctx(struct ca *ca, SSL_CTX **ctx, struct psc_error *err)
{
    struct psc_buf cert, key;
    psc_buf_init(&cert, PEM_MAX_BYTES);
    psc_buf_init(&key, PEM_MAX_BYTES);
    int rc = read_pem(ca, "server.pem", &cert, err);
    if (rc == PSC_OK) {
        rc = read_pem(ca, "server.key", &key, err);
    }
    if (rc == PSC_OK) {
        const struct psc_tls_settings settings = {
            .server = true,
            .verify = PSC_TLS_VERIFY_IF_GIVEN,
            .ca_pem = (const char *)ca->bundle.data,
            .cert_pem = (const char *)cert.data,
            .key_pem = (const char *)key.data,
        };
        rc = psc_tls_ctx_new(&settings, ctx, err);
    }
    psc_buf_fini(&cert);
    psc_buf_wipe(&key);
    psc_buf_fini(&key);
    return rc;
}

static int refresh(struct ca *ca, int64_t now_us, struct psc_error *err)
{
    SSL_CTX *ctx = NULL;
    X509 *cert = NULL;
    int rc = PSC_OK;
    if (ca->key != NULL && !server_is_good(ca, now_us)) {
        rc = issue_server(ca, err);
    }
    if (rc == PSC_OK) {
        rc = read_cert(ca, "server.pem", &cert, err);
    }
    if (rc == PSC_OK) {
        rc = note_validity(ca, cert, err);
    }
    if (rc == PSC_OK && ca->ctx != NULL && now_us >= ca->server_renew_us) {
        /* Not ours to renew, and still the old one: look again tomorrow. */
        ca->server_renew_us = now_us + 86400 * PSC_US_PER_S;
    }
    if (rc == PSC_OK) {
        rc = make_ctx(ca, &ctx, err);
    }
    if (rc == PSC_OK) {
        SSL_CTX_free(ca->ctx);
        ca->ctx = ctx;
    }
    X509_free(cert);
    return rc;
}

int ca_refresh(struct ca *ca, int64_t now_us, struct psc_error *err)
{
    if (ca->ctx != NULL && now_us < ca->server_renew_us) {
        return PSC_OK;
    }
    int lock = lock_dir(ca);
    int rc = refresh(ca, now_us, err);
    unlock_dir(lock);
    return rc;
}

int ca_open(struct ca *ca, const char *dir, const char *names,
            struct psc_error *err)
{
    *ca = (struct ca){.dir = strdup(dir), .names = strdup(names)};
    psc_buf_init(&ca->bundle, PEM_MAX_BYTES);
    if (ca->dir == NULL || ca->names == NULL) {
        ca_close(ca);
        return psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    int rc = psc_dir_make(dir, 0700, err);
    int lock = lock_dir(ca);
    if (rc == PSC_OK && !exists(ca, "ca.pem")) {
        rc = make_ca(ca, err);
    }
    if (rc == PSC_OK) {
        rc = load_ca(ca, err);
    }
    if (rc == PSC_OK) {
        rc = refresh(ca, psc_clock_wall_us(), err);
    }
    unlock_dir(lock);
    if (rc != PSC_OK) {
        ca_close(ca);
    }
    return rc;
}

int ca_reload(struct ca *ca, const char *names, struct psc_error *err)
{
    struct ca fresh;
    if (!exists(ca, "ca.pem")) { /* it would be made anew */
        return psc_error_set(err, PSC_CONFIG, "%s/ca.pem is missing", ca->dir);
    }
    int rc = ca_open(&fresh, ca->dir, names, err);
    if (rc == PSC_OK &&
        memcmp(fresh.sha256, ca->sha256, sizeof(ca->sha256)) != 0) {
        rc = psc_error_set(err, PSC_CONFIG,
                           "%s/ca.pem is another CA: that needs a restart",
                           ca->dir);
        ca_close(&fresh);
    }
    if (rc == PSC_OK) {
        ca_close(ca);
        *ca = fresh;
    }
    return rc;
}

void ca_close(struct ca *ca)
{
    free(ca->dir);
    free(ca->names);
    psc_buf_fini(&ca->bundle);
    X509_free(ca->cert);
    EVP_PKEY_free(ca->key);
    SSL_CTX_free(ca->ctx);
    ca->dir = NULL;
    ca->names = NULL;
    ca->cert = NULL;
    ca->key = NULL;
    ca->ctx = NULL;
}

/* ---- hosts' certificates ---- */

int ca_issue(const struct ca *ca, struct psc_bytes request, int64_t host_id,
             const char *host, struct psc_buf *pem, struct psc_error *err)
{
    X509 *cert = NULL;
    if (ca->key == NULL) {
        return psc_error_set(err, PSC_UNSUPPORTED,
                             "this collector has no CA key and issues no "
                             "certificates");
    }
    int rc = psc_ca_issue_host(ca->cert, ca->key, request, host_id, host,
                               CA_HOST_VALID_S, &cert, err);
    if (rc == PSC_OK) {
        rc = psc_cert_to_pem(cert, pem);
    }
    X509_free(cert);
    return rc;
}

int ca_request_key(struct psc_bytes request, uint8_t sha256[PSC_SHA256_BYTES],
                   struct psc_error *err)
{
    const uint8_t *at = request.data;
    if (request.len == 0 || request.len > REQUEST_MAX_BYTES) {
        return psc_error_set(err, PSC_FORMAT, "no certificate request");
    }
    X509_REQ *req = d2i_X509_REQ(NULL, &at, (long)request.len);
    EVP_PKEY *key = req != NULL ? X509_REQ_get0_pubkey(req) : NULL;
    uint8_t *der = NULL;
    int len = key != NULL && X509_REQ_verify(req, key) == 1
                  ? i2d_PUBKEY(key, &der)
                  : -1;
    if (len > 0) {
        (void)SHA256(der, (size_t)len, sha256);
    }
    OPENSSL_free(der);
    X509_REQ_free(req);
    return len > 0 ? PSC_OK
                   : psc_error_set(err, PSC_FORMAT,
                                   "the certificate request is malformed");
}
