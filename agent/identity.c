/* This host's key and certificate in files.
 *
 * Happy path: identity_request() makes a key and leaves it in pending.pem,
 * identity_accept() writes ca.pem, then identity.pem (key and certificate as
 * one file, so they cannot come apart), then forgets pending.pem. Whatever
 * fails before identity.pem is replaced leaves the old identity in place. */
#include "agent/identity.h"

#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "common/file.h"
#include "common/log.h"
#include "common/tls.h"

enum { PEM_MAX_BYTES = 256 * 1024, PATH_BYTES = 640 };

static void path_of(const struct identity *id, const char *name,
                    char out[PATH_BYTES])
{
    (void)snprintf(out, PATH_BYTES, "%s/%s", id->dir, name);
}

/* Read a PEM file and end it with a NUL. */
static int read_text(const struct identity *id, const char *name,
                     struct psc_buf *out, struct psc_error *err)
{
    char path[PATH_BYTES];
    path_of(id, name, path);
    psc_buf_wipe(out);
    int rc = psc_file_read(path, out, err);
    if (rc != PSC_OK) {
        return rc;
    }
    psc_buf_u8(out, '\0');
    rc = psc_buf_error(out);
    return rc == PSC_OK ? rc : psc_error_set(err, rc, "%s is too large", path);
}

/* The bytes of a text that ends with a NUL. */
static struct psc_bytes text_bytes(const struct psc_buf *text)
{
    struct psc_bytes bytes = {text->data, text->len - 1};
    return bytes;
}

static bool same_bytes(const struct psc_buf *a, const struct psc_buf *b)
{
    return a->len == b->len &&
           (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

/* Read host id and validity from the certificate in id->pem. */
static int examine(struct identity *id, struct psc_error *err)
{
    X509 *cert = NULL;
    int rc = psc_cert_from_pem(text_bytes(&id->pem), &cert, err);
    if (rc == PSC_OK) {
        rc = psc_cert_host_id(cert, &id->host_id);
    }
    if (rc == PSC_OK) {
        rc = psc_cert_validity(cert, &id->not_before_us, &id->not_after_us);
    }
    X509_free(cert);
    if (rc != PSC_OK) {
        return psc_error_set(err, rc,
                             "%s/identity.pem holds no certificate of "
                             "a host",
                             id->dir);
    }
    return PSC_OK;
}

static int load(struct identity *id, struct psc_error *err)
{
    id->enrolled = false;
    int rc = read_text(id, "identity.pem", &id->pem, err);
    if (rc == PSC_OK) {
        rc = read_text(id, "ca.pem", &id->ca, err);
    }
    if (rc == PSC_OK) {
        rc = examine(id, err);
    }
    id->enrolled = rc == PSC_OK;
    return rc;
}

int identity_init(struct identity *id, const char *dir, struct psc_error *err)
{
    memset(id, 0, sizeof(*id));
    psc_buf_init(&id->pem, PEM_MAX_BYTES);
    psc_buf_init(&id->ca, PEM_MAX_BYTES);
    int n = snprintf(id->dir, sizeof(id->dir), "%s", dir);
    if (n < 0 || (size_t)n >= sizeof(id->dir)) {
        return psc_error_set(err, PSC_LIMIT, "state_dir: path is too long");
    }
    int rc = load(id, err);
    return rc == PSC_MISSING ? PSC_OK : rc;
}

void identity_fini(struct identity *id)
{
    psc_buf_wipe(&id->pem);
    psc_buf_fini(&id->pem);
    psc_buf_fini(&id->ca);
    EVP_PKEY_free(id->pending);
    id->pending = NULL;
    id->enrolled = false;
}

bool identity_refresh(struct identity *id, struct psc_error *why)
{
    struct identity fresh;
    if (identity_init(&fresh, id->dir, why) == PSC_OK) {
        why->msg[0] = '\0'; /* none there is no error */
    }
    if (!fresh.enrolled ||
        (same_bytes(&fresh.pem, &id->pem) && same_bytes(&fresh.ca, &id->ca))) {
        identity_fini(&fresh);
        return false;
    }
    /* A key of our own that waits: the file went with the other's answer. */
    identity_fini(id);
    *id = fresh;
    return true;
}

static int load_pending(struct identity *id)
{
    struct psc_buf pem;
    psc_buf_init(&pem, PEM_MAX_BYTES);
    struct psc_error ignored;
    int rc = read_text(id, "pending.pem", &pem, &ignored);
    if (rc == PSC_OK) {
        rc = psc_key_from_pem(text_bytes(&pem), &id->pending, &ignored);
    }
    psc_buf_wipe(&pem);
    psc_buf_fini(&pem);
    return rc;
}

static int new_pending(struct identity *id, struct psc_error *err)
{
    int rc = psc_key_new(&id->pending, err);
    if (rc != PSC_OK) {
        return rc;
    }
    struct psc_buf pem;
    psc_buf_init(&pem, PEM_MAX_BYTES);
    rc = psc_key_to_pem(id->pending, &pem);
    if (rc == PSC_OK) {
        char path[PATH_BYTES];
        path_of(id, "pending.pem", path);
        rc = psc_file_write(path, psc_buf_bytes(&pem), 0600, err);
    }
    psc_buf_wipe(&pem);
    psc_buf_fini(&pem);
    if (rc != PSC_OK) {
        EVP_PKEY_free(id->pending);
        id->pending = NULL;
    }
    return rc;
}

int identity_request(struct identity *id, const char *host, struct psc_buf *der,
                     struct psc_error *err)
{
    if (id->pending == NULL && load_pending(id) != PSC_OK) {
        int rc = new_pending(id, err);
        if (rc != PSC_OK) {
            return rc;
        }
    }
    return psc_csr_new(id->pending, host, der, err);
}

/* The certificate must be of the pending key and a host's. */
static int check_answer(const struct identity *id, struct psc_bytes certificate,
                        struct psc_error *err)
{
    X509 *cert = NULL;
    int rc = psc_cert_from_pem(certificate, &cert, err);
    if (rc != PSC_OK) {
        return rc;
    }
    int64_t host_id;
    if (id->pending == NULL || X509_check_private_key(cert, id->pending) != 1) {
        rc = psc_error_set(err, PSC_FORMAT,
                           "the certificate is not for our key");
    } else if (psc_cert_host_id(cert, &host_id) != PSC_OK) {
        rc = psc_error_set(err, PSC_FORMAT, "the certificate names no host");
    }
    X509_free(cert);
    return rc;
}

static int write_files(struct identity *id, struct psc_bytes certificate,
                       struct psc_bytes ca, struct psc_error *err)
{
    char path[PATH_BYTES];
    struct psc_buf pem;
    psc_buf_init(&pem, PEM_MAX_BYTES);
    int rc = psc_key_to_pem(id->pending, &pem);
    if (rc == PSC_OK) {
        psc_buf_append(&pem, certificate.data, certificate.len);
        rc = psc_buf_error(&pem);
    }
    if (rc != PSC_OK) {
        (void)psc_error_set(err, rc, "certificate: %s", psc_strerror(rc));
    }
    if (rc == PSC_OK && ca.len > 0) {
        path_of(id, "ca.pem", path);
        rc = psc_file_write(path, ca, 0600, err);
    }
    if (rc == PSC_OK) {
        path_of(id, "identity.pem", path);
        rc = psc_file_write(path, psc_buf_bytes(&pem), 0600, err);
    }
    psc_buf_wipe(&pem);
    psc_buf_fini(&pem);
    return rc;
}

int identity_accept(struct identity *id, struct psc_bytes certificate,
                    struct psc_bytes ca, struct psc_error *err)
{
    int rc = check_answer(id, certificate, err);
    if (rc == PSC_OK) {
        rc = write_files(id, certificate, ca, err);
    }
    if (rc != PSC_OK) {
        return rc;
    }
    EVP_PKEY_free(id->pending);
    id->pending = NULL;
    char path[PATH_BYTES];
    path_of(id, "pending.pem", path);
    uv_fs_t req;
    (void)uv_fs_unlink(NULL, &req, path, NULL);
    uv_fs_req_cleanup(&req);
    return load(id, err);
}

bool identity_renew_due(const struct identity *id, int64_t wall_us)
{
    int64_t life = id->not_after_us - id->not_before_us;
    return id->enrolled && wall_us - id->not_before_us >= life / 3 * 2;
}

bool identity_expired(const struct identity *id, int64_t wall_us)
{
    return id->enrolled && wall_us >= id->not_after_us;
}

int identity_tls(const struct identity *id, SSL_CTX **ctx,
                 struct psc_error *err)
{
    struct psc_tls_settings settings = {
        .server = false,
        .verify = PSC_TLS_VERIFY_PEER,
        .ca_pem = (const char *)id->ca.data,
        .cert_pem = (const char *)id->pem.data,
        .key_pem = (const char *)id->pem.data,
    };
    return psc_tls_ctx_new(&settings, ctx, err);
}
