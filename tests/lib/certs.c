/* Certificates made for a test. */
#include "tests/lib/certs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PEM_MAX_BYTES = 16384, YEAR_S = 365 * 86400 };

/* Prints the reason and ends the program unless @rc is 0. */
static void must(int rc, const struct psc_error *err)
{
    if (rc != PSC_OK) {
        (void)fprintf(stderr, "certs: %s\n", err->msg);
        abort();
    }
}

static char *cert_text(X509 *cert)
{
    struct psc_error err = {PSC_IO, "certificate to PEM"};
    struct psc_buf buf;
    psc_buf_init(&buf, PEM_MAX_BYTES);
    must(psc_cert_to_pem(cert, &buf), &err);
    psc_buf_u8(&buf, '\0');
    must(psc_buf_error(&buf), &err);
    return (char *)buf.data;
}

static char *key_text(EVP_PKEY *key)
{
    struct psc_error err = {PSC_IO, "key to PEM"};
    struct psc_buf buf;
    psc_buf_init(&buf, PEM_MAX_BYTES);
    must(psc_key_to_pem(key, &buf), &err);
    psc_buf_u8(&buf, '\0');
    must(psc_buf_error(&buf), &err);
    return (char *)buf.data;
}

void certs_init(struct certs *certs)
{
    struct psc_error err = {PSC_IO, "make a test CA"};
    must(psc_key_new(&certs->ca_key, &err), &err);
    must(psc_ca_new(certs->ca_key, "test CA", 3650, &certs->ca, &err), &err);
    must(psc_cert_sha256(certs->ca, certs->ca_sha256), &err);
    certs->ca_pem = cert_text(certs->ca);

    EVP_PKEY *key = NULL;
    X509 *cert = NULL;
    must(psc_key_new(&key, &err), &err);
    must(psc_ca_issue_server(certs->ca, certs->ca_key, key,
                             "localhost, 127.0.0.1", YEAR_S, &cert, &err),
         &err);
    certs->server_pem = cert_text(cert);
    certs->server_key_pem = key_text(key);
    X509_free(cert);
    EVP_PKEY_free(key);
}

void certs_fini(struct certs *certs)
{
    EVP_PKEY_free(certs->ca_key);
    X509_free(certs->ca);
    free(certs->ca_pem);
    free(certs->server_pem);
    free(certs->server_key_pem);
}

void certs_host(const struct certs *certs, int64_t host_id, int64_t valid_s,
                struct host_certs *host)
{
    struct psc_error err = {PSC_IO, "make a host"};
    struct psc_buf csr;
    EVP_PKEY *key = NULL;
    X509 *cert = NULL;
    psc_buf_init(&csr, PEM_MAX_BYTES);
    must(psc_key_new(&key, &err), &err);
    must(psc_csr_new(key, "test-host", &csr, &err), &err);
    must(psc_ca_issue_host(certs->ca, certs->ca_key, psc_buf_bytes(&csr),
                           host_id, "test-host", valid_s, &cert, &err),
         &err);
    host->pem = cert_text(cert);
    host->key_pem = key_text(key);
    X509_free(cert);
    EVP_PKEY_free(key);
    psc_buf_fini(&csr);
}

void host_certs_fini(struct host_certs *host)
{
    free(host->pem);
    free(host->key_pem);
}

static SSL_CTX *make(const struct psc_tls_settings *settings)
{
    struct psc_error err;
    SSL_CTX *ctx = NULL;
    must(psc_tls_ctx_new(settings, &ctx, &err), &err);
    return ctx;
}

SSL_CTX *certs_server_ctx(const struct certs *certs, enum psc_tls_verify verify)
{
    return make(&(struct psc_tls_settings){.server = true,
                                           .verify = verify,
                                           .ca_pem = certs->ca_pem,
                                           .cert_pem = certs->server_pem,
                                           .key_pem = certs->server_key_pem});
}

SSL_CTX *certs_client_ctx(const struct certs *trusted,
                          const struct host_certs *host)
{
    return make(&(struct psc_tls_settings){
        .verify = PSC_TLS_VERIFY_PEER,
        .ca_pem = trusted->ca_pem,
        .cert_pem = host != NULL ? host->pem : NULL,
        .key_pem = host != NULL ? host->key_pem : NULL});
}

SSL_CTX *certs_pin_ctx(const uint8_t pin[PSC_SHA256_BYTES])
{
    struct psc_tls_settings settings = {.verify = PSC_TLS_VERIFY_PIN};
    memcpy(settings.pin, pin, sizeof(settings.pin));
    return make(&settings);
}
