/* Memory runs out at every possible place of a connection's life, a context's
 * and a certificate's: in our code, in libuv and in OpenSSL. Nothing crashes,
 * nothing leaks (the sanitizer looks), and on_close comes exactly once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "tests/lib/certs.h"
#include "tests/lib/fault.h"
#include "tests/lib/link.h"

#define DAY_S 86400LL

enum { N_FRAMES = 3 };

/* Every allocation of OpenSSL comes through here, and so under the fault. */
static void *on_malloc(size_t size, const char *file, int line)
{
    (void)file, (void)line;
    return size > 0 ? malloc(size) : NULL;
}

static void *on_realloc(void *old, size_t size, const char *file, int line)
{
    (void)file, (void)line;
    if (size == 0) {
        free(old);
        return NULL;
    }
    return realloc(old, size);
}

static void on_free(void *old, const char *file, int line)
{
    (void)file, (void)line;
    free(old);
}

static struct certs certs;
static struct host_certs host;
static SSL_CTX *server_ctx, *client_ctx;

static int set_up(void **state)
{
    (void)state;
    certs_init(&certs);
    certs_host(&certs, 7, 90 * DAY_S, &host);
    server_ctx = certs_server_ctx(&certs, PSC_TLS_VERIFY_IF_GIVEN);
    client_ctx = certs_client_ctx(&certs, &host);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fault_fail_at(0);
    SSL_CTX_free(server_ctx);
    SSL_CTX_free(client_ctx);
    host_certs_fini(&host);
    certs_fini(&certs);
    return 0;
}

static void send_back(struct link_end *end, struct psc_bytes frame)
{
    (void)!psc_conn_send(&end->conn, frame); /* may fail, may not crash */
}

static void next_frame(struct link_end *end, struct psc_bytes frame)
{
    (void)frame;
    if (end->frames == N_FRAMES || link_send(end, 40000, 1) != PSC_OK) {
        psc_conn_close(&end->conn, NULL);
    }
}

static void first_frame(struct link_end *end)
{
    if (link_send(end, 40000, 1) != PSC_OK) {
        psc_conn_close(&end->conn, NULL);
    }
}

static unsigned long n_allocations; /* of the last live() */

/* Connect, exchange frames, close, with the @n-th allocation failing. Returns
 * whether all went well. */
static bool live(unsigned long n, SSL_SESSION **session)
{
    static struct link l;
    struct psc_error err;
    link_init(&l, server_ctx, client_ctx);
    l.limits.handshake_us = 300000;
    l.limits.idle_us = 300000;
    l.server_template.act_frame = send_back;
    l.client.act_frame = next_frame;
    l.client.act_open = first_frame;

    fault_fail_at(n);
    if (link_connect(&l, &err) == PSC_OK) {
        psc_conn_keep_session(&l.client.conn, session);
        link_await(&l, &l.client.closed, 1);
    } else {
        assert_int_equal(err.code, PSC_NOMEM);
    }
    link_await(&l, &l.n_servers, l.client.started ? 1 : 0);
    link_fini(&l); /* checks that each on_close came once */
    n_allocations = fault_allocations();
    fault_fail_at(0);
    return l.client.frames == N_FRAMES && l.client.reason.code == PSC_CLOSED;
}

/* Count a cycle's allocations, then fail them in turn: a sample of OpenSSL's
 * handshake, which is most of them, and each one after that. */
static void fail_each(SSL_SESSION **session)
{
    assert_true(live(0, session));
    assert_true(live(0, session));
    unsigned long total = n_allocations;
    unsigned survived = 0;
    for (unsigned long n = 1; n <= total + 5; n += n + 600 < total ? 5 : 1) {
        survived += live(n, session);
    }
    print_message("%lu allocations a cycle, %u losses survived\n", total,
                  survived);
    assert_true(survived >= 5);
    assert_true(live(0, session));
}

static void a_connection_survives_each_loss(void **state)
{
    (void)state;
    SSL_SESSION *session = NULL;
    fail_each(&session);
    fault_fail_at(0);
    SSL_SESSION_free(session);
}

/* @make until it succeeds, with an ever later allocation failing: each of the
 * first ones, then a sample. */
static void fail_until_made(int (*make)(struct psc_error *err))
{
    int rc = PSC_NOMEM;
    unsigned long n = 0;
    unsigned long total = 0;
    while (rc != PSC_OK || n <= total) {
        struct psc_error err = {0, ""};
        n += 1 + n / 100;
        fault_fail_at(n);
        rc = make(&err);
        total = fault_allocations();
        assert_true(n < 100000);
        if (rc != PSC_OK) {
            assert_int_equal(err.code, rc);
            assert_true(err.msg[0] != '\0');
        }
        fault_fail_at(0);
    }
}

static int make_server_ctx(struct psc_error *err)
{
    struct psc_tls_settings settings = {.server = true,
                                        .verify = PSC_TLS_VERIFY_IF_GIVEN,
                                        .ca_pem = certs.ca_pem,
                                        .cert_pem = certs.server_pem,
                                        .key_pem = certs.server_key_pem};
    SSL_CTX *ctx = NULL;
    int rc = psc_tls_ctx_new(&settings, &ctx, err);
    SSL_CTX_free(ctx);
    return rc;
}

static int make_client_ctx(struct psc_error *err)
{
    struct psc_tls_settings settings = {.verify = PSC_TLS_VERIFY_PEER,
                                        .ca_pem = certs.ca_pem,
                                        .cert_pem = host.pem,
                                        .key_pem = host.key_pem};
    SSL_CTX *ctx = NULL;
    int rc = psc_tls_ctx_new(&settings, &ctx, err);
    SSL_CTX_free(ctx);
    return rc;
}

static void contexts_survive_each_loss(void **state)
{
    (void)state;
    fail_until_made(make_server_ctx);
    fail_until_made(make_client_ctx);
}

static int make_host_cert(struct psc_error *err)
{
    struct psc_buf csr;
    EVP_PKEY *key = NULL;
    X509 *cert = NULL;
    psc_buf_init(&csr, 8192);
    int rc = psc_key_new(&key, err);
    if (rc == PSC_OK) {
        rc = psc_csr_new(key, "host", &csr, err);
    }
    if (rc == PSC_OK) {
        rc = psc_ca_issue_host(certs.ca, certs.ca_key, psc_buf_bytes(&csr), 3,
                               "host", DAY_S, &cert, err);
    }
    EVP_PKEY_free(key);
    X509_free(cert);
    psc_buf_fini(&csr);
    return rc;
}

static int make_server_cert(struct psc_error *err)
{
    EVP_PKEY *key = NULL;
    X509 *ca = NULL;
    X509 *cert = NULL;
    int rc = psc_key_new(&key, err);
    if (rc == PSC_OK) {
        rc = psc_ca_new(key, "CA", 10, &ca, err);
    }
    if (rc == PSC_OK) {
        rc = psc_ca_issue_server(ca, key, key, "a.example, ::1", DAY_S, &cert,
                                 err);
    }
    EVP_PKEY_free(key);
    X509_free(ca);
    X509_free(cert);
    return rc;
}

static void certificates_survive_each_loss(void **state)
{
    (void)state;
    fail_until_made(make_host_cert);
    fail_until_made(make_server_cert);
}

int main(void)
{
    if (CRYPTO_set_mem_functions(on_malloc, on_realloc, on_free) != 1 ||
        uv_replace_allocator(malloc, realloc, calloc, free) != 0) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_connection_survives_each_loss),
        cmocka_unit_test(contexts_survive_each_loss),
        cmocka_unit_test(certificates_survive_each_loss),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
