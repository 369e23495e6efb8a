/* The TLS engine: two ends in memory, bytes carried between them by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/certs.h"

#define DAY_S 86400LL

enum {
    OUT_MAX_BYTES = 4 * 1024 * 1024,
    HOST_ID = 42,
};

struct fixture {
    struct certs ours, foreign;
    struct host_certs host, expired, stranger;
    SSL_CTX *server; /* VERIFY_IF_GIVEN */
    SSL_CTX *client; /* with host's certificate */
};

static int set_up(void **state)
{
    static struct fixture f;
    certs_init(&f.ours);
    certs_init(&f.foreign);
    certs_host(&f.ours, HOST_ID, 90 * DAY_S, &f.host);
    certs_host(&f.ours, HOST_ID, -3 * DAY_S, &f.expired);
    certs_host(&f.foreign, HOST_ID, 90 * DAY_S, &f.stranger);
    f.server = certs_server_ctx(&f.ours, PSC_TLS_VERIFY_IF_GIVEN);
    f.client = certs_client_ctx(&f.ours, &f.host);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    SSL_CTX_free(f->server);
    SSL_CTX_free(f->client);
    host_certs_fini(&f->host);
    host_certs_fini(&f->expired);
    host_certs_fini(&f->stranger);
    certs_fini(&f->ours);
    certs_fini(&f->foreign);
    return 0;
}

/* Both ends of a connection and how each of them fares. */
struct pair {
    struct psc_tls client, server;
    int client_rc, server_rc;
    struct psc_error client_err, server_err;
};

/* What @from has for its peer goes into @to, @step bytes at a time. Returns
 * whether there was any. */
static bool carry(struct psc_tls *from, struct psc_tls *to, int *to_rc,
                  struct psc_error *to_err, size_t step)
{
    struct psc_buf wire;
    psc_buf_init(&wire, OUT_MAX_BYTES);
    assert_int_equal(psc_tls_take(from, &wire), 0);
    for (size_t at = 0; at < wire.len && *to_rc == PSC_OK; at += step) {
        size_t n = wire.len - at < step ? wire.len - at : step;
        psc_tls_feed(to, wire.data + at, n);
        *to_rc = psc_tls_handshake(to, to_err);
        if (*to_rc == PSC_OK && to->established) {
            uint8_t byte;
            size_t got = 0;
            *to_rc = psc_tls_read(to, &byte, 1, &got, to_err);
        }
        if (*to_rc == PSC_OK) {
            assert_int_equal(to->in.len, 0);
        }
    }
    bool any = wire.len > 0;
    psc_buf_fini(&wire);
    return any;
}

static void run(struct pair *p, size_t step)
{
    if (p->client_rc == PSC_OK) {
        p->client_rc = psc_tls_handshake(&p->client, &p->client_err);
    }
    bool moved = true;
    for (int i = 0; i < 20 && moved; i++) {
        moved =
            carry(&p->client, &p->server, &p->server_rc, &p->server_err, step);
        moved |=
            carry(&p->server, &p->client, &p->client_rc, &p->client_err, step);
    }
}

static void start(struct pair *p, SSL_CTX *client, SSL_CTX *server,
                  const char *name, SSL_SESSION **session)
{
    memset(p, 0, sizeof(*p));
    assert_int_equal(
        psc_tls_init(&p->client, client, name, OUT_MAX_BYTES, &p->client_err),
        0);
    assert_int_equal(
        psc_tls_init(&p->server, server, NULL, OUT_MAX_BYTES, &p->server_err),
        0);
    if (session != NULL) {
        psc_tls_resume(&p->client, session);
    }
}

static void finish(struct pair *p)
{
    psc_tls_fini(&p->client);
    psc_tls_fini(&p->server);
    assert_int_equal(ERR_peek_error(), 0);
}

static void connect_pair(struct pair *p, SSL_CTX *client, SSL_CTX *server,
                         const char *name, SSL_SESSION **session)
{
    start(p, client, server, name, session);
    run(p, SIZE_MAX);
}

static void expect_up(const struct pair *p)
{
    if (p->client_rc != PSC_OK || p->server_rc != PSC_OK) {
        print_error("client: %s\nserver: %s\n", p->client_err.msg,
                    p->server_err.msg);
    }
    assert_int_equal(p->client_rc, PSC_OK);
    assert_int_equal(p->server_rc, PSC_OK);
    assert_true(p->client.established);
    assert_true(p->server.established);
}

/* The host id that the server sees, 0 without certificate. */
static int64_t server_sees(const struct pair *p, bool *expired)
{
    int64_t id = 0;
    X509 *cert = psc_tls_peer(&p->server, expired);
    if (cert != NULL) {
        assert_int_equal(psc_cert_host_id(cert, &id), 0);
    }
    return id;
}

static void both_ends_know_each_other(void **state)
{
    struct fixture *f = *state;
    static const size_t steps[] = {SIZE_MAX, 100, 1};
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        struct pair p;
        bool expired = true;
        start(&p, f->client, f->server, "localhost", NULL);
        run(&p, steps[i]);
        expect_up(&p);
        assert_int_equal(server_sees(&p, &expired), HOST_ID);
        assert_false(expired);
        assert_non_null(psc_tls_peer(&p.client, &expired));
        assert_false(expired);
        assert_int_equal(SSL_version(p.client.ssl), TLS1_3_VERSION);
        finish(&p);
    }
}

static void addresses_are_verified_too(void **state)
{
    struct fixture *f = *state;
    struct pair p;
    connect_pair(&p, f->client, f->server, "127.0.0.1", NULL);
    expect_up(&p);
    finish(&p);
    connect_pair(&p, f->client, f->server, "127.0.0.2", NULL);
    assert_int_equal(p.client_rc, PSC_TLS);
    assert_non_null(strstr(p.client_err.msg, "address"));
    finish(&p);
}

static void a_wrong_name_is_told(void **state)
{
    struct fixture *f = *state;
    struct pair p;
    connect_pair(&p, f->client, f->server, "elsewhere.example", NULL);
    assert_int_equal(p.client_rc, PSC_TLS);
    assert_non_null(strstr(
        p.client_err.msg,
        "certificate of the collector is not for name elsewhere.example"));
    assert_int_equal(p.server_rc, PSC_REFUSED);
    finish(&p);
}

static void a_client_may_come_without_certificate(void **state)
{
    struct fixture *f = *state;
    struct pair p;
    bool expired = true;
    SSL_CTX *anonymous = certs_client_ctx(&f->ours, NULL);
    connect_pair(&p, anonymous, f->server, "localhost", NULL);
    expect_up(&p);
    assert_null(psc_tls_peer(&p.server, &expired));
    assert_false(expired);
    finish(&p);

    SSL_CTX *strict = certs_server_ctx(&f->ours, PSC_TLS_VERIFY_PEER);
    connect_pair(&p, anonymous, strict, "localhost", NULL);
    assert_int_equal(p.server_rc, PSC_TLS);
    assert_non_null(strstr(p.server_err.msg, "no certificate"));
    assert_int_equal(p.client_rc, PSC_REFUSED);
    finish(&p);
    SSL_CTX_free(strict);
    SSL_CTX_free(anonymous);
}

static void a_foreign_client_is_refused_on_both_sides(void **state)
{
    struct fixture *f = *state;
    struct pair p;
    SSL_CTX *stranger = certs_client_ctx(&f->ours, &f->stranger);
    connect_pair(&p, stranger, f->server, "localhost", NULL);
    assert_int_equal(p.server_rc, PSC_TLS);
    assert_non_null(
        strstr(p.server_err.msg, "certificate of the client is not trusted"));
    assert_int_equal(p.client_rc, PSC_REFUSED);
    assert_non_null(
        strstr(p.client_err.msg, "does not accept our certificate"));
    finish(&p);
    SSL_CTX_free(stranger);
}

static void a_foreign_collector_is_refused_on_both_sides(void **state)
{
    struct fixture *f = *state;
    struct pair p;
    SSL_CTX *lost = certs_client_ctx(&f->foreign, &f->host);
    connect_pair(&p, lost, f->server, "localhost", NULL);
    assert_int_equal(p.client_rc, PSC_TLS);
    assert_non_null(strstr(p.client_err.msg,
                           "certificate of the collector is not trusted"));
    assert_int_equal(p.server_rc, PSC_REFUSED);
    finish(&p);
    SSL_CTX_free(lost);
}

static void an_expired_client_is_let_in_and_told(void **state)
{
    struct fixture *f = *state;
    struct pair p;
    bool expired = false;
    SSL_CTX *late = certs_client_ctx(&f->ours, &f->expired);
    connect_pair(&p, late, f->server, "localhost", NULL);
    expect_up(&p);
    assert_int_equal(server_sees(&p, &expired), HOST_ID);
    assert_true(expired);
    finish(&p);

    SSL_CTX *strict = certs_server_ctx(&f->ours, PSC_TLS_VERIFY_PEER);
    connect_pair(&p, late, strict, "localhost", NULL);
    assert_int_equal(p.server_rc, PSC_TLS);
    assert_non_null(strstr(p.server_err.msg, "expired"));
    assert_int_equal(p.client_rc, PSC_REFUSED);
    finish(&p);
    SSL_CTX_free(strict);
    SSL_CTX_free(late);
}

static void a_foreign_expired_client_is_refused(void **state)
{
    struct fixture *f = *state;
    struct pair p;
    struct host_certs old;
    certs_host(&f->foreign, HOST_ID, -3 * DAY_S, &old);
    SSL_CTX *ctx = certs_client_ctx(&f->ours, &old);
    connect_pair(&p, ctx, f->server, "localhost", NULL);
    assert_int_equal(p.server_rc, PSC_TLS);
    finish(&p);
    SSL_CTX_free(ctx);
    host_certs_fini(&old);
}

/* A host's certificate must not pass for a collector's. */
static void a_host_is_no_collector(void **state)
{
    struct fixture *f = *state;
    struct pair p;
    SSL_CTX *ctx = NULL;
    struct psc_error err;
    struct psc_tls_settings settings = {.server = true,
                                        .verify = PSC_TLS_VERIFY_IF_GIVEN,
                                        .ca_pem = f->ours.ca_pem,
                                        .cert_pem = f->host.pem,
                                        .key_pem = f->host.key_pem};
    assert_int_equal(psc_tls_ctx_new(&settings, &ctx, &err), 0);
    connect_pair(&p, f->client, ctx, NULL, NULL);
    assert_int_equal(p.client_rc, PSC_TLS);
    finish(&p);
    SSL_CTX *pin = certs_pin_ctx(f->ours.ca_sha256);
    connect_pair(&p, pin, ctx, NULL, NULL);
    assert_int_equal(p.client_rc, PSC_TLS);
    finish(&p);
    SSL_CTX_free(pin);
    SSL_CTX_free(ctx);
}

static void a_pin_admits_its_ca_only(void **state)
{
    struct fixture *f = *state;
    struct pair p;
    bool expired = true;
    SSL_CTX *right = certs_pin_ctx(f->ours.ca_sha256);
    connect_pair(&p, right, f->server, NULL, NULL);
    expect_up(&p);
    assert_non_null(psc_tls_peer(&p.client, &expired));
    assert_null(psc_tls_peer(&p.server, &expired));
    finish(&p);

    SSL_CTX *wrong = certs_pin_ctx(f->foreign.ca_sha256);
    connect_pair(&p, wrong, f->server, NULL, NULL);
    assert_int_equal(p.client_rc, PSC_TLS);
    assert_non_null(strstr(p.client_err.msg, "token"));
    assert_int_equal(p.server_rc, PSC_REFUSED);
    finish(&p);
    SSL_CTX_free(wrong);
    SSL_CTX_free(right);
}

/* An impostor sends the pinned CA's certificate along with its own. */
static void a_pin_is_not_fooled_by_a_borrowed_ca(void **state)
{
    struct fixture *f = *state;
    struct pair p;
    struct psc_error err;
    SSL_CTX *impostor = NULL;
    char chain[16384];
    (void)snprintf(chain, sizeof(chain), "%s%s%s", f->foreign.server_pem,
                   f->foreign.ca_pem, f->ours.ca_pem);
    struct psc_tls_settings settings = {.server = true,
                                        .verify = PSC_TLS_VERIFY_IF_GIVEN,
                                        .ca_pem = f->ours.ca_pem,
                                        .cert_pem = chain,
                                        .key_pem = f->foreign.server_key_pem};
    assert_int_equal(psc_tls_ctx_new(&settings, &impostor, &err), 0);
    SSL_CTX *pin = certs_pin_ctx(f->ours.ca_sha256);
    connect_pair(&p, pin, impostor, NULL, NULL);
    assert_int_equal(p.client_rc, PSC_TLS);
    finish(&p);
    SSL_CTX_free(pin);
    SSL_CTX_free(impostor);
}

static void a_session_is_resumed_with_its_peer(void **state)
{
    struct fixture *f = *state;
    struct pair p;
    bool expired = true;
    SSL_SESSION *session = NULL;
    connect_pair(&p, f->client, f->server, "localhost", &session);
    expect_up(&p);
    assert_false(SSL_session_reused(p.server.ssl));
    finish(&p); /* cut off without a goodbye */
    for (int i = 0; i < 3; i++) {
        assert_non_null(session);
        connect_pair(&p, f->client, f->server, "localhost", &session);
        expect_up(&p);
        assert_true(SSL_session_reused(p.server.ssl));
        assert_true(SSL_session_reused(p.client.ssl));
        assert_int_equal(server_sees(&p, &expired), HOST_ID);
        assert_false(expired);
        assert_non_null(psc_tls_peer(&p.client, &expired));
        finish(&p);
    }
    SSL_SESSION_free(session);
}

static void an_expired_peer_stays_so_when_resumed(void **state)
{
    struct fixture *f = *state;
    struct pair p;
    bool expired = false;
    SSL_SESSION *session = NULL;
    SSL_CTX *late = certs_client_ctx(&f->ours, &f->expired);
    for (int i = 0; i < 2; i++) {
        connect_pair(&p, late, f->server, "localhost", &session);
        expect_up(&p);
        assert_int_equal(SSL_session_reused(p.server.ssl), i);
        assert_int_equal(server_sees(&p, &expired), HOST_ID);
        assert_true(expired);
        finish(&p);
    }
    SSL_SESSION_free(session);
    SSL_CTX_free(late);
}

/* After renewal the agent has a new context; an old session would go on
 * showing the old certificate. */
static void a_session_does_not_outlive_its_context(void **state)
{
    struct fixture *f = *state;
    struct pair p;
    bool expired = true;
    SSL_SESSION *session = NULL;
    struct host_certs renewed;
    certs_host(&f->ours, HOST_ID + 1, 90 * DAY_S, &renewed);
    SSL_CTX *ctx = certs_client_ctx(&f->ours, &renewed);
    connect_pair(&p, f->client, f->server, "localhost", &session);
    expect_up(&p);
    finish(&p);
    connect_pair(&p, ctx, f->server, "localhost", &session);
    expect_up(&p);
    assert_false(SSL_session_reused(p.server.ssl));
    assert_int_equal(server_sees(&p, &expired), HOST_ID + 1);
    finish(&p);
    SSL_SESSION_free(session);
    SSL_CTX_free(ctx);
    host_certs_fini(&renewed);
}

/* A ticket is good for every server with the same key and the same trust: a
 * collector that was restarted, or its neighbour. */
static void a_session_outlives_a_restarted_server(void **state)
{
    struct fixture *f = *state;
    struct pair p;
    bool expired = true;
    SSL_SESSION *session = NULL;
    connect_pair(&p, f->client, f->server, "localhost", &session);
    expect_up(&p);
    finish(&p);
    SSL_CTX *restarted = certs_server_ctx(&f->ours, PSC_TLS_VERIFY_IF_GIVEN);
    connect_pair(&p, f->client, restarted, "localhost", &session);
    expect_up(&p);
    assert_true(SSL_session_reused(p.server.ssl));
    assert_int_equal(server_sees(&p, &expired), HOST_ID);
    assert_false(expired);
    finish(&p);

    /* One that trusts others judges its peers itself. */
    SSL_CTX *stricter = certs_server_ctx(&f->ours, PSC_TLS_VERIFY_PEER);
    char bundle[8192];
    (void)snprintf(bundle, sizeof(bundle), "%s%s", f->ours.ca_pem,
                   f->foreign.ca_pem);
    SSL_CTX *wider = NULL;
    struct psc_error err;
    struct psc_tls_settings settings = {.server = true,
                                        .verify = PSC_TLS_VERIFY_IF_GIVEN,
                                        .ca_pem = bundle,
                                        .cert_pem = f->ours.server_pem,
                                        .key_pem = f->ours.server_key_pem};
    assert_int_equal(psc_tls_ctx_new(&settings, &wider, &err), PSC_OK);
    SSL_CTX *others[] = {stricter, wider};
    for (unsigned i = 0; i < 2; i++) {
        assert_non_null(session);
        connect_pair(&p, f->client, others[i], "localhost", &session);
        expect_up(&p);
        assert_false(SSL_session_reused(p.server.ssl));
        assert_int_equal(server_sees(&p, &expired), HOST_ID);
        finish(&p);
        SSL_CTX_free(others[i]);
    }
    SSL_SESSION_free(session);
    SSL_CTX_free(restarted);
}

static void old_tls_is_refused(void **state)
{
    struct fixture *f = *state;
    struct pair p;
    start(&p, f->client, f->server, "localhost", NULL);
    assert_int_equal(SSL_set_min_proto_version(p.client.ssl, TLS1_2_VERSION),
                     1);
    assert_int_equal(SSL_set_max_proto_version(p.client.ssl, TLS1_2_VERSION),
                     1);
    run(&p, SIZE_MAX);
    assert_int_equal(p.server_rc, PSC_TLS);
    assert_non_null(strstr(p.server_err.msg, "TLS 1.3"));
    assert_int_equal(p.client_rc, PSC_TLS);
    assert_non_null(strstr(p.client_err.msg, "TLS 1.3"));
    finish(&p);
}

static void garbage_is_no_tls(void **state)
{
    struct fixture *f = *state;
    static const char *const texts[] = {
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n",
        "\x16\x03\x01\xff\xff garbage", "\0\0\0\0\0\0\0\0\0\0"};
    static const size_t sizes[] = {27, 21, 13, 10};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct psc_tls tls;
        struct psc_error err = {0, ""};
        assert_int_equal(
            psc_tls_init(&tls, f->server, NULL, OUT_MAX_BYTES, &err), 0);
        psc_tls_feed(&tls, texts[i], sizes[i]);
        assert_int_equal(psc_tls_handshake(&tls, &err), PSC_TLS);
        assert_true(err.msg[0] != '\0');
        /* And it stays so, whatever comes. */
        psc_tls_feed(&tls, texts[0], sizes[0]);
        assert_int_not_equal(psc_tls_handshake(&tls, &err), PSC_OK);
        psc_tls_fini(&tls);
    }
}

/* Read all there is into @out. */
static int read_all(struct psc_tls *tls, struct psc_buf *out)
{
    struct psc_error err;
    for (;;) {
        uint8_t bytes[3000];
        size_t got = 0;
        int rc = psc_tls_read(tls, bytes, sizeof(bytes), &got, &err);
        if (rc != PSC_OK || got == 0) {
            return rc;
        }
        psc_buf_append(out, bytes, got);
    }
}

static void data_arrives_whole_and_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    struct pair p;
    struct psc_error err;
    struct psc_buf wire;
    struct psc_buf got;
    static uint8_t data[1000000];
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i * 2654435761u >> 24);
    }
    psc_buf_init(&wire, OUT_MAX_BYTES);
    psc_buf_init(&got, OUT_MAX_BYTES);
    connect_pair(&p, f->client, f->server, "localhost", NULL);
    expect_up(&p);
    assert_int_equal(psc_tls_write(&p.client, data, sizeof(data), &err), 0);
    assert_int_equal(psc_tls_write(&p.client, data, 0, &err), 0);
    assert_int_equal(psc_tls_take(&p.client, &wire), 0);
    assert_null(p.client.out.data); /* the memory went along */
    psc_tls_feed(&p.server, wire.data, wire.len);
    assert_int_equal(read_all(&p.server, &got), 0);
    assert_int_equal(got.len, sizeof(data));
    assert_memory_equal(got.data, data, sizeof(data));

    psc_buf_reset(&wire);
    psc_tls_shutdown(&p.client);
    assert_int_equal(psc_tls_take(&p.client, &wire), 0);
    psc_tls_feed(&p.server, wire.data, wire.len);
    assert_int_equal(read_all(&p.server, &got), PSC_CLOSED);
    psc_buf_fini(&wire);
    psc_buf_fini(&got);
    finish(&p);
}

static void a_full_queue_leaves_the_connection_alone(void **state)
{
    struct fixture *f = *state;
    struct pair p;
    struct psc_error err;
    static uint8_t data[OUT_MAX_BYTES];
    connect_pair(&p, f->client, f->server, "localhost", NULL);
    expect_up(&p);
    assert_int_equal(psc_tls_write(&p.client, data, sizeof(data), &err),
                     PSC_LIMIT);
    assert_int_equal(p.client.out.len, 0);
    assert_int_equal(psc_tls_write(&p.client, "x", 1, &err), 0);
    run(&p, SIZE_MAX);
    assert_int_equal(p.server_rc, PSC_OK);
    finish(&p);
}

static void damaged_records_end_the_connection(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < 30; i++) {
        struct pair p;
        struct psc_error err;
        struct psc_buf wire;
        struct psc_buf got;
        psc_buf_init(&wire, OUT_MAX_BYTES);
        psc_buf_init(&got, OUT_MAX_BYTES);
        connect_pair(&p, f->client, f->server, "localhost", NULL);
        expect_up(&p);
        assert_int_equal(psc_tls_write(&p.client, "some text", 9, &err), 0);
        assert_int_equal(psc_tls_take(&p.client, &wire), 0);
        assert_int_equal(wire.len, 31);
        wire.data[i] ^= 0x40;
        psc_tls_feed(&p.server, wire.data, wire.len);
        int rc = read_all(&p.server, &got);
        /* A longer length makes it wait for what is not coming. */
        assert_int_equal(rc, i == 3 || i == 4 ? PSC_OK : PSC_TLS);
        assert_int_equal(got.len, 0);
        psc_buf_fini(&wire);
        psc_buf_fini(&got);
        finish(&p);
    }
}

static void expect_config_error(struct psc_tls_settings settings,
                                const char *text)
{
    struct psc_error err = {0, ""};
    SSL_CTX *ctx = NULL;
    assert_int_equal(psc_tls_ctx_new(&settings, &ctx, &err), PSC_CONFIG);
    if (strstr(err.msg, text) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", err.msg, text);
    }
    assert_null(ctx);
    assert_int_equal(ERR_peek_error(), 0);
}

static void bad_settings_are_explained(void **state)
{
    struct fixture *f = *state;
    struct psc_tls_settings good = {.server = true,
                                    .verify = PSC_TLS_VERIFY_IF_GIVEN,
                                    .ca_pem = f->ours.ca_pem,
                                    .cert_pem = f->ours.server_pem,
                                    .key_pem = f->ours.server_key_pem};
    struct psc_tls_settings s = good;
    s.ca_pem = NULL;
    expect_config_error(s, "trust bundle is needed");
    s.ca_pem = "nothing";
    expect_config_error(s, "no certificate in the trust bundle");
    s = good;
    s.cert_pem = "";
    expect_config_error(s, "no certificate in the certificate chain");
    s.cert_pem = "-----BEGIN CERTIFICATE-----\nMIIB\n"
                 "-----END CERTIFICATE-----\n";
    expect_config_error(s, "damaged certificate in the certificate chain");
    s = good;
    s.key_pem = f->host.key_pem;
    expect_config_error(s, "does not belong");
    s.key_pem = "x";
    expect_config_error(s, "private key");
    s.key_pem = NULL;
    expect_config_error(s, "certificate and its key");
    s.cert_pem = NULL;
    expect_config_error(s, "certificate and its key");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ends_know_each_other),
        cmocka_unit_test(addresses_are_verified_too),
        cmocka_unit_test(a_wrong_name_is_told),
        cmocka_unit_test(a_client_may_come_without_certificate),
        cmocka_unit_test(a_foreign_client_is_refused_on_both_sides),
        cmocka_unit_test(a_foreign_collector_is_refused_on_both_sides),
        cmocka_unit_test(an_expired_client_is_let_in_and_told),
        cmocka_unit_test(a_foreign_expired_client_is_refused),
        cmocka_unit_test(a_host_is_no_collector),
        cmocka_unit_test(a_pin_admits_its_ca_only),
        cmocka_unit_test(a_pin_is_not_fooled_by_a_borrowed_ca),
        cmocka_unit_test(a_session_is_resumed_with_its_peer),
        cmocka_unit_test(an_expired_peer_stays_so_when_resumed),
        cmocka_unit_test(a_session_does_not_outlive_its_context),
        cmocka_unit_test(a_session_outlives_a_restarted_server),
        cmocka_unit_test(old_tls_is_refused),
        cmocka_unit_test(garbage_is_no_tls),
        cmocka_unit_test(data_arrives_whole_and_leaves_nothing),
        cmocka_unit_test(a_full_queue_leaves_the_connection_alone),
        cmocka_unit_test(damaged_records_end_the_connection),
        cmocka_unit_test(bad_settings_are_explained),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
