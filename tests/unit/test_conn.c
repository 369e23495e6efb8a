/* Framed connections over real loopback sockets: two of ours, and ours against
 * peers that misbehave (struct raw). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/crc32c.h"
#include "tests/lib/certs.h"
#include "tests/lib/link.h"

enum { DAY_S = 86400, MS = 1000, KIB = 1024, MIB = 1024 * 1024 };

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
    struct link *l = calloc(1, sizeof(*l));
    assert_non_null(l);
    link_init(l, server_ctx, client_ctx);
    return l;
}

static void free_link(struct link *l)
{
    link_fini(l);
    free(l);
}

static void expect_reason(const struct link_end *end, int code,
                          const char *text)
{
    if (end->reason.code != code || strstr(end->reason.msg, text) == NULL) {
        fail_msg("closed with %d \"%s\", not %d \"%s\"", end->reason.code,
                 end->reason.msg, code, text);
    }
}

/* Wait until the client and the first server are closed. */
static void await_both(struct link *l)
{
    link_await(l, &l->client.closed, 1);
    link_await(l, &l->servers[0].closed, 1);
}

/* Send a frame that must be taken. */
static void send_ok(struct link_end *end, size_t len, uint8_t fill)
{
    assert_int_equal(link_send(end, len, fill), PSC_OK);
}

static void echo(struct link_end *end, struct psc_bytes frame)
{
    assert_int_equal(psc_conn_send(&end->conn, frame), PSC_OK);
}

/* --- frames --- */

static void frames_of_all_sizes_go_both_ways(void **state)
{
    (void)state;
    static const size_t sizes[] = {0,   1,     3,         16380, 16381, 16384,
                                   100, 70000, 300 * KIB, MIB,   5};
    struct link *l = new_link();
    l->server_template.act_frame = echo;
    link_open(l);
    uint32_t checksum = 0;
    for (int i = 0; i < (int)(sizeof(sizes) / sizeof(sizes[0])); i++) {
        send_ok(&l->client, sizes[i], (uint8_t)('a' + i));
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
    await_both(l);
    expect_reason(&l->client, PSC_CLOSED, "closed");
    expect_reason(&l->servers[0], PSC_CLOSED, "closed by the peer");
    free_link(l);
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
        send_ok(&l->client, (size_t)(i % 37), (uint8_t)i);
    }
    link_await(l, &l->servers[0].frames, 5000);
    assert_int_equal(l->servers[0].checksum, checksum);
    free_link(l);
}

static void too_large_a_payload_is_the_callers_error(void **state)
{
    (void)state;
    struct link *l = new_link();
    link_open(l);
    assert_int_equal(link_send(&l->client, MIB + 1, 0), PSC_FORMAT);
    send_ok(&l->client, 10, 0);
    link_await(l, &l->servers[0].frames, 1);
    free_link(l);
}

static void an_oversized_frame_ends_it(void **state)
{
    (void)state;
    struct link *l = new_link();
    link_open(l);
    psc_conn_limit_frames(&l->servers[0].conn, 1000);
    send_ok(&l->client, 1000, 0);
    link_await(l, &l->servers[0].frames, 1);
    send_ok(&l->client, 1001, 0);
    await_both(l);
    expect_reason(&l->servers[0], PSC_LIMIT, "1001 bytes is over the limit");
    expect_reason(&l->client, PSC_CLOSED, "");
    assert_int_equal(l->servers[0].frames, 1);
    free_link(l);
}

static void the_frame_limit_can_be_raised(void **state)
{
    (void)state;
    struct link *l = new_link();
    l->limits.max_frame_bytes = 100;
    link_open(l);
    send_ok(&l->client, 100, 0);
    link_await(l, &l->servers[0].frames, 1);
    psc_conn_limit_frames(&l->servers[0].conn, MIB);
    send_ok(&l->client, MIB, 0);
    link_await(l, &l->servers[0].frames, 2);
    free_link(l);
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
    send_ok(&l->client, 1, 0);
    link_await(l, &l->servers[0].frames, sent + 1);
    free_link(l);
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
        send_ok(&l->client, (size_t)(i * 4000), (uint8_t)i);
    }
    for (int i = 1; i <= 10; i++) {
        link_await(l, &l->servers[0].frames, i);
        link_run(l, 6);
        assert_int_equal(l->servers[0].frames, i);
        psc_conn_resume(&l->servers[0].conn);
        psc_conn_pause(&l->servers[0].conn);
        psc_conn_resume(&l->servers[0].conn);
    }
    free_link(l);
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
        send_ok(&l->client, 1000, (uint8_t)i);
    }
    link_await(l, &l->servers[0].frames, 100);
    free_link(l);
}

static void a_closed_pause_is_still_closed(void **state)
{
    (void)state;
    struct link *l = new_link();
    l->server_template.act_frame = pause_on_frame;
    link_open(l);
    for (int i = 0; i < 10; i++) {
        send_ok(&l->client, 10000, (uint8_t)i);
    }
    link_await(l, &l->servers[0].frames, 1);
    psc_conn_close(&l->servers[0].conn, NULL);
    await_both(l);
    assert_int_equal(l->servers[0].frames, 1);
    free_link(l);
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
    send_ok(end, 50000, 9);
    send_ok(end, 50000, 9);
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
    await_both(l);
    closer = by_server ? &l->servers[0] : &l->client;
    struct link_end *other = by_server ? &l->client : &l->servers[0];
    expect_reason(closer, PSC_REFUSED, own_reason.msg);
    expect_reason(other, PSC_CLOSED, "closed by the peer");
    free_link(l);
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
        expect_reason(&l->client, PSC_CLOSED, "");
        free_link(l);
    }
}

static void say_and_close(struct link_end *end, struct psc_bytes frame)
{
    (void)frame;
    send_ok(end, 300, 'R');
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
            send_ok(&l->client, 100000, 0);
        }
        await_both(l);
        assert_int_equal(l->client.frames, 1);
        assert_int_equal(l->servers[0].frames, 1);
        expect_reason(&l->client, PSC_CLOSED, "closed by the peer");
        free_link(l);
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
    send_ok(&l->client, 10, 1);
    link_await(l, &l->servers[1].frames, 1);
    free_link(l);
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
    await_both(l);
    expect_reason(&l->servers[0], server_code, server_text);
    expect_reason(&l->client, client_code, client_text);
    assert_non_null(strstr(l->client.reason.msg, l->port_text));
    assert_int_equal(l->servers[0].opened, 0);
    free_link(l);
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
    free_link(l);

    SSL_CTX *late = certs_client_ctx(&ours, &expired_host);
    l = new_link();
    assert_non_null(peer_of(l, late, "localhost", &expired));
    assert_true(expired);
    free_link(l);
    SSL_CTX_free(late);

    SSL_CTX *pin = certs_pin_ctx(ours.ca_sha256);
    l = new_link();
    assert_null(peer_of(l, pin, NULL, &expired));
    send_ok(&l->client, 100, 'E');
    link_await(l, &l->servers[0].frames, 1);
    free_link(l);
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
        l->server_template.act_frame = echo;
        assert_int_equal(link_connect(l, &err), 0);
        psc_conn_keep_session(&l->client.conn, &session);
        link_await(l, &l->client.opened, 1);
        send_ok(&l->client, 10, 1);
        link_await(l, &l->client.frames, 1);
        assert_non_null(session);
        struct psc_tls *tls = &l->servers[0].conn.tls;
        assert_int_equal(SSL_session_reused(tls->ssl), i > 0);
        assert_int_equal(psc_cert_host_id(psc_tls_peer(tls, &expired), &id), 0);
        assert_int_equal(id, 7);
        assert_false(expired);
        free_link(l);
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
    expect_reason(&l->client, PSC_CONNECTION, text);
    assert_int_equal(uv_tcp_init(&l->loop, &l->listener), 0);
    free_link(l);
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
    free_link(l);
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
    free_link(l);
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
    free_link(l);
}

static void a_resolver_under_way_does_not_hold_up_the_end(void **state)
{
    (void)state;
    struct link *l = new_link();
    connect_by_name(l, "localhost");
    psc_conn_close(&l->client.conn, NULL);
    link_await(l, &l->client.closed, 1);
    free_link(l);
}

/* --- peers that misbehave --- */

/* A peer driven by hand. */
struct raw {
    struct link *link;
    int fd;
    struct psc_tls tls; /* if raw_handshake() was called */
};

static void raw_connect(struct raw *r, struct link *l)
{
    struct sockaddr_in addr;
    memset(r, 0, sizeof(*r));
    r->link = l;
    r->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(uv_ip4_addr("127.0.0.1", l->port, &addr), 0);
    assert_int_equal(connect(r->fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(fcntl(r->fd, F_SETFL, O_NONBLOCK), 0);
    link_await(l, &l->n_servers, 1);
}

static void raw_fini(struct raw *r)
{
    psc_tls_fini(&r->tls);
    if (r->fd >= 0) {
        (void)close(r->fd);
    }
}

/* Write @len bytes, @step at a time with a turn of the loop in between. */
static void raw_write(struct raw *r, const void *data, size_t len, size_t step)
{
    const uint8_t *at = data;
    while (len > 0) {
        size_t n = len < step ? len : step;
        ssize_t done = send(r->fd, at, n, MSG_NOSIGNAL);
        if (done < 0 && errno != EAGAIN) {
            return; /* the other side has had enough */
        }
        at += done > 0 ? done : 0;
        len -= done > 0 ? (size_t)done : 0;
        (void)uv_run(&r->link->loop, UV_RUN_NOWAIT);
    }
}

/* Send what the engine has. */
static void raw_flush(struct raw *r, size_t step)
{
    struct psc_buf out;
    psc_buf_init(&out, 4 * MIB);
    assert_int_equal(psc_tls_take(&r->tls, &out), 0);
    raw_write(r, out.data, out.len, step);
    psc_buf_fini(&out);
}

static void raw_handshake(struct raw *r, size_t step)
{
    struct psc_error err;
    assert_int_equal(
        psc_tls_init(&r->tls, client_ctx, "localhost", 4 * MIB, &err), 0);
    assert_int_equal(psc_tls_handshake(&r->tls, &err), 0);
    while (!r->tls.established) {
        uint8_t bytes[4096];
        raw_flush(r, step);
        ssize_t n = recv(r->fd, bytes, sizeof(bytes), 0);
        if (n > 0) {
            psc_tls_feed(&r->tls, bytes, (size_t)n);
            assert_int_equal(psc_tls_handshake(&r->tls, &err), 0);
        }
        (void)uv_run(&r->link->loop, UV_RUN_NOWAIT);
    }
    raw_flush(r, step);
    link_await(r->link, &r->link->servers[0].opened, 1);
}

/* Encrypt @len bytes and send them, @step bytes at a time. */
static void raw_send(struct raw *r, const void *data, size_t len, size_t step)
{
    struct psc_error err;
    assert_int_equal(psc_tls_write(&r->tls, data, len, &err), 0);
    raw_flush(r, step);
}

/* Wait for the end of the stream; returns how many bytes came before. */
static size_t raw_drain(struct raw *r)
{
    size_t total = 0;
    for (int i = 0; i < 5000; i++) {
        uint8_t bytes[4096];
        ssize_t n = recv(r->fd, bytes, sizeof(bytes), 0);
        if (n == 0) {
            return total;
        }
        total += n > 0 ? (size_t)n : 0;
        link_run(r->link, 1);
    }
    fail_msg("the connection does not end");
    return 0;
}

static void garbage_is_cut_off(void **state)
{
    (void)state;
    static const char request[] = "GET / HTTP/1.1\r\nHost: collector\r\n\r\n";
    struct link *l = new_link();
    struct raw r;
    raw_connect(&r, l);
    raw_write(&r, request, sizeof(request) - 1, SIZE_MAX);
    assert_int_equal(raw_drain(&r), 0); /* OpenSSL has no alert for that */
    raw_fini(&r);
    link_await(l, &l->servers[0].closed, 1);
    expect_reason(&l->servers[0], PSC_TLS, "no TLS 1.3");
    free_link(l);
}

static void silence_before_tls_times_out(void **state)
{
    (void)state;
    struct link *l = new_link();
    struct raw r;
    l->limits.handshake_us = 60 * MS;
    raw_connect(&r, l);
    link_await(l, &l->servers[0].closed, 1);
    expect_reason(&l->servers[0], PSC_TIMEOUT, "handshake was not done");
    raw_fini(&r);
    free_link(l);
}

static void a_never_ending_handshake_times_out(void **state)
{
    (void)state;
    struct link *l = new_link();
    struct raw r;
    struct psc_error err;
    struct psc_buf hello;
    l->limits.handshake_us = 100 * MS;
    raw_connect(&r, l);
    psc_buf_init(&hello, MIB);
    assert_int_equal(psc_tls_init(&r.tls, client_ctx, NULL, MIB, &err), 0);
    assert_int_equal(psc_tls_handshake(&r.tls, &err), 0);
    assert_int_equal(psc_tls_take(&r.tls, &hello), 0);
    for (size_t i = 0; i < hello.len && l->servers[0].closed == 0; i++) {
        raw_write(&r, hello.data + i, 1, 1);
        link_run(l, 4);
    }
    expect_reason(&l->servers[0], PSC_TIMEOUT, "handshake was not done");
    psc_buf_fini(&hello);
    raw_fini(&r);
    free_link(l);
}

static void a_mute_server_times_out(void **state)
{
    (void)state;
    struct link *l = new_link();
    struct psc_error err;
    l->limits.handshake_us = 80 * MS;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in addr;
    socklen_t len = sizeof(addr);
    assert_int_equal(uv_ip4_addr("127.0.0.1", 0, &addr), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    (void)snprintf(l->port_text, sizeof(l->port_text), "%u",
                   ntohs(addr.sin_port));
    assert_int_equal(link_connect(l, &err), 0);
    link_await(l, &l->client.closed, 1);
    expect_reason(&l->client, PSC_TIMEOUT, "handshake was not done");
    (void)close(fd);
    free_link(l);
}

static void single_bytes_make_whole_frames(void **state)
{
    (void)state;
    static const uint8_t two[] = "\0\0\0\5hello\0\0\0\0\0\0\0\3abc";
    struct link *l = new_link();
    struct raw r;
    raw_connect(&r, l);
    raw_handshake(&r, 1);
    raw_send(&r, two, sizeof(two) - 1, 1);
    link_await(l, &l->servers[0].frames, 3);
    assert_int_equal(l->servers[0].bytes, 8);
    assert_int_equal(l->servers[0].checksum, psc_crc32c(0, "helloabc", 8));
    for (size_t i = 0; i < sizeof(two) - 1; i++) { /* a record each */
        raw_send(&r, two + i, 1, SIZE_MAX);
    }
    link_await(l, &l->servers[0].frames, 6);
    raw_fini(&r);
    free_link(l);
}

static void a_trickling_frame_times_out(void **state)
{
    (void)state;
    struct link *l = new_link();
    struct raw r;
    l->limits.idle_us = 150 * MS;
    raw_connect(&r, l);
    raw_handshake(&r, SIZE_MAX);
    raw_send(&r, "\0\0\1\0", 4, SIZE_MAX);
    for (int i = 0; i < 100 && l->servers[0].closed == 0; i++) {
        raw_send(&r, "x", 1, SIZE_MAX);
        link_run(l, 10);
    }
    link_await(l, &l->servers[0].closed, 1);
    expect_reason(&l->servers[0], PSC_TIMEOUT, "frame was not complete");
    raw_fini(&r);
    free_link(l);
}

static void a_header_alone_costs_no_memory(void **state)
{
    (void)state;
    struct link *l = new_link();
    struct raw r;
    raw_connect(&r, l);
    raw_handshake(&r, SIZE_MAX);
    raw_send(&r, "\0\x10\0\0", 4, SIZE_MAX);
    raw_send(&r, "x", 1, SIZE_MAX);
    link_run(l, 10);
    assert_true(l->servers[0].conn.frame.cap <= 16 * KIB);
    raw_fini(&r);
    link_await(l, &l->servers[0].closed, 1);
    free_link(l);
}

static void a_silent_peer_is_dead(void **state)
{
    (void)state;
    struct link *l = new_link();
    l->limits.idle_us = 100 * MS;
    link_open(l);
    uint64_t start = uv_now(&l->loop);
    await_both(l);
    assert_true(uv_now(&l->loop) - start >= 90);
    assert_true(l->servers[0].reason.code == PSC_TIMEOUT ||
                l->client.reason.code == PSC_TIMEOUT);
    free_link(l);
}

static void traffic_keeps_a_peer_alive(void **state)
{
    (void)state;
    struct link *l = new_link();
    l->limits.idle_us = 150 * MS;
    l->server_template.act_frame = echo;
    link_open(l);
    for (int i = 0; i < 12; i++) {
        send_ok(&l->client, 1, 0);
        link_run(l, 30);
    }
    assert_int_equal(l->client.frames, 12);
    assert_int_equal(l->client.closed + l->servers[0].closed, 0);
    free_link(l);
}

static void a_pause_stops_the_idle_time(void **state)
{
    (void)state;
    struct link *l = new_link();
    l->limits.idle_us = 100 * MS;
    link_open(l);
    psc_conn_pause(&l->servers[0].conn);
    psc_conn_pause(&l->client.conn);
    link_run(l, 300);
    assert_int_equal(l->client.closed + l->servers[0].closed, 0);
    psc_conn_resume(&l->servers[0].conn);
    psc_conn_resume(&l->client.conn);
    link_run(l, 30);
    assert_int_equal(l->client.closed + l->servers[0].closed, 0);
    await_both(l);
    free_link(l);
}

static void a_peer_that_takes_nothing_is_dead(void **state)
{
    (void)state;
    struct link *l = new_link();
    struct raw r;
    l->limits.idle_us = 150 * MS;
    raw_connect(&r, l);
    raw_handshake(&r, SIZE_MAX);
    /* More than the kernel's buffers take. */
    for (int refused = 0, i = 0; refused < 5 && i < 1000; i++) {
        int rc = link_send(&l->servers[0], 256 * KIB, 1);
        refused = rc == PSC_LIMIT ? refused + 1 : 0;
        (void)uv_run(&l->loop, UV_RUN_NOWAIT);
    }
    assert_true(psc_conn_queued(&l->servers[0].conn) > 0);
    for (int i = 0; i < 100 && l->servers[0].closed == 0; i++) {
        raw_send(&r, "\0\0\0\0", 4, SIZE_MAX); /* it talks, though */
        link_run(l, 10);
    }
    link_await(l, &l->servers[0].closed, 1);
    expect_reason(&l->servers[0], PSC_TIMEOUT, "taken nothing");
    raw_fini(&r);
    free_link(l);
}

static void a_reset_is_told(void **state)
{
    (void)state;
    struct link *l = new_link();
    struct raw r;
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    raw_connect(&r, l);
    raw_handshake(&r, SIZE_MAX);
    assert_int_equal(setsockopt(r.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)),
                     0);
    (void)close(r.fd);
    r.fd = -1;
    link_await(l, &l->servers[0].closed, 1);
    expect_reason(&l->servers[0], PSC_CONNECTION, "connection lost");
    raw_fini(&r);
    free_link(l);
}

static void an_end_without_goodbye_is_told(void **state)
{
    (void)state;
    struct link *l = new_link();
    struct raw r;
    raw_connect(&r, l);
    raw_handshake(&r, SIZE_MAX);
    (void)shutdown(r.fd, SHUT_WR);
    link_await(l, &l->servers[0].closed, 1);
    expect_reason(&l->servers[0], PSC_CONNECTION, "without a goodbye");
    raw_fini(&r);
    free_link(l);
}

static void an_end_amid_a_frame_is_told(void **state)
{
    (void)state;
    struct link *l = new_link();
    struct raw r;
    raw_connect(&r, l);
    raw_handshake(&r, SIZE_MAX);
    raw_send(&r, "\0\0\0\5hell", 8, SIZE_MAX);
    psc_tls_shutdown(&r.tls);
    raw_flush(&r, SIZE_MAX);
    assert_true(raw_drain(&r) > 0); /* a ticket and a goodbye */
    raw_fini(&r);
    link_await(l, &l->servers[0].closed, 1);
    expect_reason(&l->servers[0], PSC_CONNECTION, "amid a frame");
    free_link(l);
}

static void an_end_amid_the_handshake_is_told(void **state)
{
    (void)state;
    struct link *l = new_link();
    struct raw r;
    raw_connect(&r, l);
    raw_fini(&r);
    link_await(l, &l->servers[0].closed, 1);
    expect_reason(&l->servers[0], PSC_CONNECTION, "during the TLS handshake");
    free_link(l);
}

/* Whoever floods a closing connection gets a second, not more. */
static void lingering_is_short(void **state)
{
    (void)state;
    struct link *l = new_link();
    struct raw r;
    raw_connect(&r, l);
    raw_handshake(&r, SIZE_MAX);
    uint64_t start = uv_now(&l->loop);
    psc_conn_close(&l->servers[0].conn, NULL);
    static uint8_t flood[10000];
    while (l->servers[0].closed == 0) {
        raw_write(&r, flood, sizeof(flood), SIZE_MAX);
    }
    uint64_t took = uv_now(&l->loop) - start;
    assert_true(took >= 900 && took < 3000);
    raw_fini(&r);
    free_link(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_of_all_sizes_go_both_ways),
        cmocka_unit_test(many_small_frames_keep_their_order),
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
        cmocka_unit_test(garbage_is_cut_off),
        cmocka_unit_test(silence_before_tls_times_out),
        cmocka_unit_test(a_never_ending_handshake_times_out),
        cmocka_unit_test(a_mute_server_times_out),
        cmocka_unit_test(single_bytes_make_whole_frames),
        cmocka_unit_test(a_trickling_frame_times_out),
        cmocka_unit_test(a_header_alone_costs_no_memory),
        cmocka_unit_test(a_silent_peer_is_dead),
        cmocka_unit_test(traffic_keeps_a_peer_alive),
        cmocka_unit_test(a_pause_stops_the_idle_time),
        cmocka_unit_test(a_peer_that_takes_nothing_is_dead),
        cmocka_unit_test(a_reset_is_told),
        cmocka_unit_test(an_end_without_goodbye_is_told),
        cmocka_unit_test(an_end_amid_a_frame_is_told),
        cmocka_unit_test(an_end_amid_the_handshake_is_told),
        cmocka_unit_test(lingering_is_short),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
