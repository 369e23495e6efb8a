/* Framed connections over real loopback sockets, both ends ours. Peers that
 * misbehave are in test_conn_hostile.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/crc32c.h"
#include "tests/lib/certs.h"
#include "tests/lib/link.h"

#define DAY_S 86400LL
#define MS    1000LL /* in microseconds */
#define KIB   ((size_t)1024)
#define MIB   (KIB * 1024)

static struct certs ours, foreign;
static struct host_certs host, expired_host, stranger;
static SSL_CTX *server_ctx, *client_ctx;

static int set_up(void **state)
{
    (void)state;
    certs_init(&ours);
    certs_init(&foreign);
    certs_host(&ours, 7, 90 * DAY_S, &host);
    certs_host(&ours, 7, -2 * DAY_S, &expired_host);
    certs_host(&foreign, 7, 90 * DAY_S, &stranger);
    server_ctx = certs_server_ctx(&ours, PSC_TLS_VERIFY_IF_GIVEN);
    client_ctx = certs_client_ctx(&ours, &host);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    SSL_CTX_free(server_ctx);
    SSL_CTX_free(client_ctx);
    host_certs_fini(&host);
    host_certs_fini(&expired_host);
    host_certs_fini(&stranger);
    certs_fini(&ours);
    certs_fini(&foreign);
    return 0;
}

static struct link *new_link(void)
{
    return link_new(server_ctx, client_ctx);
}

/* --- frames --- */

static void frames_of_all_sizes_go_both_ways(void **state)
{
    (void)state;
    static const size_t sizes[] = {0,   1,     3,         16380, 16381, 16384,
                                   100, 70000, 300 * KIB, MIB,   5};
    struct link *l = new_link();
    l->server_template.act_frame = link_echo;
    link_open(l);
    uint32_t checksum = 0;
    for (int i = 0; i < (int)(sizeof(sizes) / sizeof(sizes[0])); i++) {
        link_send_ok(&l->client, sizes[i], (uint8_t)('a' + i));
        link_await(l, &l->client.frames, i + 1);
        uint8_t *want = malloc(sizes[i] + 1);
        memset(want, 'a' + i, sizes[i] + 1);
        checksum = psc_crc32c(checksum, want, sizes[i]);
        free(want);
        assert_int_equal(l->client.checksum, checksum);
        /* Nothing stays behind after a large frame. */
        struct psc_conn *c = &l->servers[0].conn;
        link_await(l, &l->servers[0].drained, i + 1);
        assert_null(c->frame.data);
        assert_null(c->writing.data);
        assert_null(c->tls.out.data);
        assert_null(c->chunk);
        assert_int_equal(psc_conn_queued(c), 0);
    }
    psc_conn_close(&l->client.conn, NULL);
    link_await_both(l);
    link_expect(&l->client, PSC_CLOSED, "closed");
    link_expect(&l->servers[0], PSC_CLOSED, "closed by the peer");
    link_free(l);
}

static void many_small_frames_keep_their_order(void **state)
{
    (void)state;
    struct link *l = new_link();
    link_open(l);
    uint32_t checksum = 0;
    for (int i = 0; i < 5000; i++) {
        uint8_t bytes[37];
        memset(bytes, i, sizeof(bytes));
        checksum = psc_crc32c(checksum, bytes, (size_t)(i % 37));
        link_send_ok(&l->client, (size_t)(i % 37), (uint8_t)i);
    }
    link_await(l, &l->servers[0].frames, 5000);
    assert_int_equal(l->servers[0].checksum, checksum);
    link_free(l);
}

static void corked_frames_go_in_one_write(void **state)
{
    (void)state;
    struct link *l = new_link();
    link_open(l);
    struct psc_conn *c = &l->client.conn;
    psc_conn_cork(c);
    link_send_ok(&l->client, 100, 'a');
    link_send_ok(&l->client, 200, 'b');
    assert_false(c->write_busy);
    assert_true(psc_conn_queued(c) > 300);
    psc_conn_uncork(c);
    assert_true(c->write_busy || psc_conn_queued(c) == 0);
    assert_int_equal(c->tls.out.len, 0);
    link_await(l, &l->servers[0].frames, 2);
    link_await(l, &l->client.drained, 1);
    psc_conn_uncork(c); /* with nothing to do */

    /* What is held still goes out before the end. */
    psc_conn_cork(c);
    link_send_ok(&l->client, 300, 'c');
    psc_conn_close(c, NULL);
    psc_conn_uncork(c);
    link_await(l, &l->servers[0].frames, 3);
    link_await_both(l);
    link_expect(&l->servers[0], PSC_CLOSED, "closed by the peer");
    link_free(l);
}

static void too_large_a_payload_is_the_callers_error(void **state)
{
    (void)state;
    struct link *l = new_link();
    link_open(l);
    assert_int_equal(link_send(&l->client, MIB + 1, 0), PSC_FORMAT);
    link_send_ok(&l->client, 10, 0);
    link_await(l, &l->servers[0].frames, 1);
    link_free(l);
}

static void an_oversized_frame_ends_it(void **state)
{
    (void)state;
    struct link *l = new_link();
    link_open(l);
    psc_conn_limit_frames(&l->servers[0].conn, 1000);
    link_send_ok(&l->client, 1000, 0);
    link_await(l, &l->servers[0].frames, 1);
    link_send_ok(&l->client, 1001, 0);
    link_await_both(l);
    link_expect(&l->servers[0], PSC_LIMIT, "1001 bytes is over the limit");
    link_expect(&l->client, PSC_CLOSED, "");
    assert_int_equal(l->servers[0].frames, 1);
    link_free(l);
}

static void the_frame_limit_can_be_raised(void **state)
{
    (void)state;
    struct link *l = new_link();
    l->limits.max_frame_bytes = 100;
    link_open(l);
    link_send_ok(&l->client, 100, 0);
    link_await(l, &l->servers[0].frames, 1);
    psc_conn_limit_frames(&l->servers[0].conn, MIB);
    link_send_ok(&l->client, MIB, 0);
    link_await(l, &l->servers[0].frames, 2);
    link_free(l);
}

/* --- back-pressure --- */

static void pause_on_open(struct link_end *end)
{
    psc_conn_pause(&end->conn);
}

static void a_full_queue_says_so_and_drains(void **state)
{
    (void)state;
    struct link *l = new_link();
    l->server_template.act_open = pause_on_open;
    link_open(l);
    int sent = 0;
    int rc = PSC_OK;
    while (rc == PSC_OK) {
        assert_true(sent < 1000);
        rc = link_send(&l->client, 64 * KIB, (uint8_t)sent);
        sent += rc == PSC_OK;
        (void)uv_run(&l->loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(rc, PSC_LIMIT);
    assert_true(psc_conn_queued(&l->client.conn) <= MIB + 64 * KIB);
    link_run(l, 20);
    assert_int_equal(l->servers[0].frames, 0);
    int drained = l->client.drained;

    psc_conn_resume(&l->servers[0].conn);
    assert_int_equal(l->servers[0].frames, 0); /* not from within */
    link_await(l, &l->client.drained, drained + 1);
    link_await(l, &l->servers[0].frames, sent);
    link_send_ok(&l->client, 1, 0);
    link_await(l, &l->servers[0].frames, sent + 1);
    link_free(l);
}

static void pause_on_frame(struct link_end *end, struct psc_bytes frame)
{
    (void)frame;
    psc_conn_pause(&end->conn);
}

static void a_pause_holds_amid_a_chunk(void **state)
{
    (void)state;
    struct link *l = new_link();
    l->server_template.act_frame = pause_on_frame;
    link_open(l);
    for (int i = 0; i < 10; i++) {
        link_send_ok(&l->client, (size_t)i * 4000, (uint8_t)i);
    }
    for (int i = 1; i <= 10; i++) {
        link_await(l, &l->servers[0].frames, i);
        link_run(l, 6);
        assert_int_equal(l->servers[0].frames, i);
        psc_conn_resume(&l->servers[0].conn);
        psc_conn_pause(&l->servers[0].conn);
        psc_conn_resume(&l->servers[0].conn);
    }
    link_free(l);
}

static void pause_and_resume(struct link_end *end, struct psc_bytes frame)
{
    (void)frame;
    psc_conn_pause(&end->conn);
    psc_conn_resume(&end->conn);
}

static void a_pause_may_end_within_the_callback(void **state)
{
    (void)state;
    struct link *l = new_link();
    l->server_template.act_frame = pause_and_resume;
    link_open(l);
    for (int i = 0; i < 100; i++) {
        link_send_ok(&l->client, 1000, (uint8_t)i);
    }
    link_await(l, &l->servers[0].frames, 100);
    link_free(l);
}

static void a_closed_pause_is_still_closed(void **state)
{
    (void)state;
    struct link *l = new_link();
    l->server_template.act_frame = pause_on_frame;
    link_open(l);
    for (int i = 0; i < 10; i++) {
        link_send_ok(&l->client, 10000, (uint8_t)i);
    }
    link_await(l, &l->servers[0].frames, 1);
    psc_conn_close(&l->servers[0].conn, NULL);
    link_await_both(l);
    assert_int_equal(l->servers[0].frames, 1);
    link_free(l);
}

/* --- closing --- */

static const struct psc_error own_reason = {PSC_REFUSED, "token is used up"};

static void close_now(struct link_end *end)
{
    psc_conn_close(&end->conn, &own_reason);
    psc_conn_close(&end->conn, NULL); /* ignored */
    assert_int_equal(end->closed, 0);
    assert_int_equal(link_send(end, 1, 0), PSC_CLOSED);
}

static void close_on_frame(struct link_end *end, struct psc_bytes frame)
{
    close_now(end);
    uint8_t sum = 0;
    for (size_t i = 0; i < frame.len; i++) {
        sum = (uint8_t)(sum + frame.data[i]); /* still ours to read */
    }
    assert_int_equal(sum, (uint8_t)(frame.len * 9));
}

static void send_on_open(struct link_end *end)
{
    link_send_ok(end, 50000, 9);
    link_send_ok(end, 50000, 9);
}

/* Both ends talk; one of them closes in one of its callbacks. */
static void close_within(int which, bool by_server)
{
    struct link *l = new_link();
    struct psc_error err;
    struct link_end *closer = by_server ? &l->server_template : &l->client;
    l->server_template.act_open = send_on_open;
    l->client.act_open = send_on_open;
    if (which == 0) {
        closer->act_open = close_now;
    } else if (which == 1) {
        closer->act_frame = close_on_frame;
    } else {
        closer->act_drained = close_now;
    }
    assert_int_equal(link_connect(l, &err), 0);
    link_await_both(l);
    closer = by_server ? &l->servers[0] : &l->client;
    struct link_end *other = by_server ? &l->client : &l->servers[0];
    link_expect(closer, PSC_REFUSED, own_reason.msg);
    link_expect(other, PSC_CLOSED, "closed by the peer");
    link_free(l);
}

static void each_callback_may_close(void **state)
{
    (void)state;
    for (int which = 0; which < 3; which++) {
        close_within(which, false);
        close_within(which, true);
    }
}

static void close_amid_connecting_and_handshake(void **state)
{
    (void)state;
    for (int turns = 0; turns < 8; turns++) {
        struct link *l = new_link();
        struct psc_error err;
        assert_int_equal(link_connect(l, &err), 0);
        for (int i = 0; i < turns; i++) {
            (void)uv_run(&l->loop, UV_RUN_NOWAIT);
        }
        psc_conn_close(&l->client.conn, NULL);
        assert_int_equal(l->client.closed, 0);
        link_await(l, &l->client.closed, 1);
        link_expect(&l->client, PSC_CLOSED, "");
        link_free(l);
    }
}

static void say_and_close(struct link_end *end, struct psc_bytes frame)
{
    (void)frame;
    link_send_ok(end, 300, 'R');
    psc_conn_close(&end->conn, NULL);
}

static void remember_last(struct link_end *end, struct psc_bytes frame)
{
    assert_int_equal(frame.len, 300);
    assert_int_equal(frame.data[299], 'R');
    (void)end;
}

/* A refusal arrives although the peer is in the middle of sending. */
static void the_last_word_arrives(void **state)
{
    (void)state;
    for (int round = 0; round < 10; round++) {
        struct link *l = new_link();
        l->server_template.act_frame = say_and_close;
        l->client.act_frame = remember_last;
        link_open(l);
        for (int i = 0; i < 8; i++) {
            link_send_ok(&l->client, 100000, 0);
        }
        link_await_both(l);
        assert_int_equal(l->client.frames, 1);
        assert_int_equal(l->servers[0].frames, 1);
        link_expect(&l->client, PSC_CLOSED, "closed by the peer");
        link_free(l);
    }
}

static void connect_again(struct link_end *end)
{
    struct link *l = end->link;
    struct psc_error err;
    end->closed = 0;
    end->opened = 0;
    end->act_close = NULL;
    assert_int_equal(link_connect(l, &err), 0);
}

static void the_memory_may_be_reused_in_on_close(void **state)
{
    (void)state;
    struct link *l = new_link();
    l->client.act_close = connect_again;
    link_open(l);
    psc_conn_close(&l->client.conn, NULL);
    link_await(l, &l->servers[1].opened, 1);
    link_await(l, &l->client.opened, 1);
    link_send_ok(&l->client, 10, 1);
    link_await(l, &l->servers[1].frames, 1);
    link_free(l);
}

/* --- who the peer is --- */

static void connect_with(SSL_CTX *ctx, const char *verify_host, int server_code,
                         const char *server_text, int client_code,
                         const char *client_text)
{
    struct link *l = new_link();
    struct psc_error err;
    l->client_ctx = ctx;
    l->verify_host = verify_host;
    assert_int_equal(link_connect(l, &err), 0);
    link_await_both(l);
    link_expect(&l->servers[0], server_code, server_text);
    link_expect(&l->client, client_code, client_text);
    assert_non_null(strstr(l->client.reason.msg, l->port_text));
    assert_int_equal(l->servers[0].opened, 0);
    link_free(l);
}

static void bad_certificates_are_refused_on_both_sides(void **state)
{
    (void)state;
    SSL_CTX *foreign_ctx = certs_client_ctx(&ours, &stranger);
    SSL_CTX *lost_ctx = certs_client_ctx(&foreign, &host);
    SSL_CTX *pin_ctx = certs_pin_ctx(foreign.ca_sha256);
    for (int i = 0; i < 5; i++) { /* the alert must not be a matter of luck */
        connect_with(foreign_ctx, "localhost", PSC_TLS, "not trusted",
                     PSC_REFUSED, "does not accept our certificate");
        connect_with(lost_ctx, "localhost", PSC_REFUSED,
                     "does not accept our certificate", PSC_TLS, "not trusted");
        connect_with(pin_ctx, NULL, PSC_REFUSED, "", PSC_TLS, "token");
        connect_with(client_ctx, "other.example", PSC_REFUSED, "", PSC_TLS,
                     "is not for name other.example");
    }
    SSL_CTX_free(foreign_ctx);
    SSL_CTX_free(lost_ctx);
    SSL_CTX_free(pin_ctx);
}

/* Connect with @ctx; the certificate as the server sees it. */
static X509 *peer_of(struct link *l, SSL_CTX *ctx, const char *verify_host,
                     bool *expired)
{
    l->client_ctx = ctx;
    l->verify_host = verify_host;
    link_open(l);
    return psc_tls_peer(&l->servers[0].conn.tls, expired);
}

static void peers_are_known_for_what_they_are(void **state)
{
    (void)state;
    bool expired = true;
    int64_t id = 0;
    struct link *l = new_link();
    X509 *cert = peer_of(l, client_ctx, "127.0.0.1", &expired);
    assert_int_equal(psc_cert_host_id(cert, &id), 0);
    assert_int_equal(id, 7);
    assert_false(expired);
    assert_non_null(strstr(psc_conn_peer_name(&l->client.conn), "127.0.0.1:"));
    link_free(l);

    SSL_CTX *late = certs_client_ctx(&ours, &expired_host);
    l = new_link();
    assert_non_null(peer_of(l, late, "localhost", &expired));
    assert_true(expired);
    link_free(l);
    SSL_CTX_free(late);

    SSL_CTX *pin = certs_pin_ctx(ours.ca_sha256);
    l = new_link();
    assert_null(peer_of(l, pin, NULL, &expired));
    link_send_ok(&l->client, 100, 'E');
    link_await(l, &l->servers[0].frames, 1);
    link_free(l);
    SSL_CTX_free(pin);
}

static void sessions_are_resumed(void **state)
{
    (void)state;
    SSL_SESSION *session = NULL;
    for (int i = 0; i < 4; i++) {
        struct link *l = new_link();
        struct psc_error err;
        bool expired = true;
        int64_t id = 0;
        l->server_template.act_frame = link_echo;
        assert_int_equal(link_connect(l, &err), 0);
        psc_conn_keep_session(&l->client.conn, &session);
        link_await(l, &l->client.opened, 1);
        link_send_ok(&l->client, 10, 1);
        link_await(l, &l->client.frames, 1);
        assert_non_null(session);
        struct psc_tls *tls = &l->servers[0].conn.tls;
        assert_int_equal(SSL_session_reused(tls->ssl), i > 0);
        assert_int_equal(psc_cert_host_id(psc_tls_peer(tls, &expired), &id), 0);
        assert_int_equal(id, 7);
        assert_false(expired);
        link_free(l);
    }
    SSL_SESSION_free(session);
}

/* --- addresses --- */

static void nobody_listens(void **state)
{
    (void)state;
    struct link *l = new_link();
    struct psc_error err;
    char text[64];
    uv_close((uv_handle_t *)&l->listener, NULL);
    link_run(l, 4);
    assert_int_equal(link_connect(l, &err), 0);
    link_await(l, &l->client.closed, 1);
    (void)snprintf(text, sizeof(text),
                   "connect to 127.0.0.1:%s: connection refused", l->port_text);
    link_expect(&l->client, PSC_CONNECTION, text);
    assert_int_equal(uv_tcp_init(&l->loop, &l->listener), 0);
    link_free(l);
}

static int connect_to(struct link *l, const char *name, const char *port,
                      struct psc_error *err)
{
    static struct psc_conn_events none;
    return psc_conn_connect(&l->client.conn, &l->loop, name, port, NULL,
                            client_ctx, &none, &l->limits, NULL, err);
}

static void bad_addresses_are_refused_at_once(void **state)
{
    (void)state;
    struct link *l = new_link();
    struct psc_error err;
    char long_name[300];
    memset(long_name, 'a', sizeof(long_name));
    long_name[299] = '\0';
    assert_int_equal(connect_to(l, "127.0.0.1", "0", &err), PSC_CONFIG);
    assert_int_equal(connect_to(l, "127.0.0.1", "65536", &err), PSC_CONFIG);
    assert_int_equal(connect_to(l, "127.0.0.1", "https", &err), PSC_CONFIG);
    assert_non_null(strstr(err.msg, "https"));
    assert_int_equal(connect_to(l, "127.0.0.1", "", &err), PSC_CONFIG);
    assert_int_equal(connect_to(l, "127.0.0.1", "7443 ", &err), PSC_CONFIG);
    assert_int_equal(connect_to(l, "", "7443", &err), PSC_CONFIG);
    assert_int_equal(connect_to(l, long_name, "7443", &err), PSC_CONFIG);
    link_free(l);
}

static void on_close_count(struct psc_conn *c, const struct psc_error *reason)
{
    struct link_end *end = c->user;
    end->closed++;
    end->reason = *reason;
}

static void on_open_count(struct psc_conn *c)
{
    struct link_end *end = c->user;
    end->opened++;
}

static const struct psc_conn_events counting = {.on_open = on_open_count,
                                                .on_close = on_close_count};

static void connect_by_name(struct link *l, const char *name)
{
    struct psc_error err;
    l->client.link = l;
    l->client.started = true;
    assert_int_equal(psc_conn_connect(&l->client.conn, &l->loop, name,
                                      l->port_text, "localhost", client_ctx,
                                      &counting, &l->limits, &l->client, &err),
                     0);
}

/* "localhost" may give ::1 first, where nobody listens. */
static void names_are_resolved_and_tried_in_turn(void **state)
{
    (void)state;
    struct link *l = new_link();
    connect_by_name(l, "localhost");
    link_await(l, &l->client.opened, 1);
    link_free(l);
}

static void unknown_names_are_told(void **state)
{
    (void)state;
    struct link *l = new_link();
    l->limits.handshake_us = 500 * MS;
    connect_by_name(l, "no-such-host.invalid");
    link_await(l, &l->client.closed, 1);
    assert_true(l->client.reason.code == PSC_CONNECTION ||
                l->client.reason.code == PSC_TIMEOUT);
    assert_non_null(
        strstr(l->client.reason.msg, "resolve no-such-host.invalid"));
    link_free(l);
}

static void a_resolver_under_way_does_not_hold_up_the_end(void **state)
{
    (void)state;
    struct link *l = new_link();
    connect_by_name(l, "localhost");
    psc_conn_close(&l->client.conn, NULL);
    link_await(l, &l->client.closed, 1);
    link_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_of_all_sizes_go_both_ways),
        cmocka_unit_test(many_small_frames_keep_their_order),
        cmocka_unit_test(corked_frames_go_in_one_write),
        cmocka_unit_test(too_large_a_payload_is_the_callers_error),
        cmocka_unit_test(an_oversized_frame_ends_it),
        cmocka_unit_test(the_frame_limit_can_be_raised),
        cmocka_unit_test(a_full_queue_says_so_and_drains),
        cmocka_unit_test(a_pause_holds_amid_a_chunk),
        cmocka_unit_test(a_pause_may_end_within_the_callback),
        cmocka_unit_test(a_closed_pause_is_still_closed),
        cmocka_unit_test(each_callback_may_close),
        cmocka_unit_test(close_amid_connecting_and_handshake),
        cmocka_unit_test(the_last_word_arrives),
        cmocka_unit_test(the_memory_may_be_reused_in_on_close),
        cmocka_unit_test(bad_certificates_are_refused_on_both_sides),
        cmocka_unit_test(peers_are_known_for_what_they_are),
        cmocka_unit_test(sessions_are_resumed),
        cmocka_unit_test(nobody_listens),
        cmocka_unit_test(bad_addresses_are_refused_at_once),
        cmocka_unit_test(names_are_resolved_and_tried_in_turn),
        cmocka_unit_test(unknown_names_are_told),
        cmocka_unit_test(a_resolver_under_way_does_not_hold_up_the_end),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
