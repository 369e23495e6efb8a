/* Framed connections against peers that misbehave: each is driven by hand over
 * a plain socket, with or without a TLS engine of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/crc32c.h"
#include "tests/lib/certs.h"
#include "tests/lib/link.h"

#define DAY_S 86400LL
#define MS    1000LL /* in microseconds */
#define KIB   ((size_t)1024)
#define MIB   (KIB * 1024)

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
    SSL_CTX_free(server_ctx);
    SSL_CTX_free(client_ctx);
    host_certs_fini(&host);
    certs_fini(&certs);
    return 0;
}

static struct link *new_link(void)
{
    return link_new(server_ctx, client_ctx);
}

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
    link_expect(&l->servers[0], PSC_TLS, "no TLS 1.3");
    link_free(l);
}

static void silence_before_tls_times_out(void **state)
{
    (void)state;
    struct link *l = new_link();
    struct raw r;
    l->limits.handshake_us = 60 * MS;
    raw_connect(&r, l);
    link_await(l, &l->servers[0].closed, 1);
    link_expect(&l->servers[0], PSC_TIMEOUT, "handshake was not done");
    raw_fini(&r);
    link_free(l);
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
    link_expect(&l->servers[0], PSC_TIMEOUT, "handshake was not done");
    psc_buf_fini(&hello);
    raw_fini(&r);
    link_free(l);
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
    link_expect(&l->client, PSC_TIMEOUT, "handshake was not done");
    (void)close(fd);
    link_free(l);
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
    link_free(l);
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
    link_expect(&l->servers[0], PSC_TIMEOUT, "frame was not complete");
    raw_fini(&r);
    link_free(l);
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
    link_free(l);
}

static void a_silent_peer_is_dead(void **state)
{
    (void)state;
    struct link *l = new_link();
    l->limits.idle_us = 100 * MS;
    uint64_t start = uv_now(&l->loop);
    link_open(l);
    link_await_both(l);
    assert_true(uv_now(&l->loop) - start >= 90);
    assert_true(l->servers[0].reason.code == PSC_TIMEOUT ||
                l->client.reason.code == PSC_TIMEOUT);
    link_free(l);
}

static void traffic_keeps_a_peer_alive(void **state)
{
    (void)state;
    struct link *l = new_link();
    l->limits.idle_us = 400 * MS;
    l->server_template.act_frame = link_echo;
    link_open(l);
    for (int i = 0; i < 12; i++) {
        link_send_ok(&l->client, 1, 0);
        link_run(l, 50);
    }
    assert_int_equal(l->client.frames, 12);
    assert_int_equal(l->client.closed + l->servers[0].closed, 0);
    link_free(l);
}

static void a_pause_stops_the_idle_time(void **state)
{
    (void)state;
    struct link *l = new_link();
    l->limits.idle_us = 250 * MS;
    link_open(l);
    psc_conn_pause(&l->servers[0].conn);
    psc_conn_pause(&l->client.conn);
    link_run(l, 600);
    assert_int_equal(l->client.closed + l->servers[0].closed, 0);
    psc_conn_resume(&l->servers[0].conn);
    psc_conn_resume(&l->client.conn);
    link_run(l, 20);
    assert_int_equal(l->client.closed + l->servers[0].closed, 0);
    link_await_both(l);
    link_free(l);
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
    link_expect(&l->servers[0], PSC_TIMEOUT, "taken nothing");
    raw_fini(&r);
    link_free(l);
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
    link_expect(&l->servers[0], PSC_CONNECTION, "connection lost");
    raw_fini(&r);
    link_free(l);
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
    link_expect(&l->servers[0], PSC_CONNECTION, "without a goodbye");
    raw_fini(&r);
    link_free(l);
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
    link_expect(&l->servers[0], PSC_CONNECTION, "amid a frame");
    link_free(l);
}

static void an_end_amid_the_handshake_is_told(void **state)
{
    (void)state;
    struct link *l = new_link();
    struct raw r;
    raw_connect(&r, l);
    raw_fini(&r);
    link_await(l, &l->servers[0].closed, 1);
    link_expect(&l->servers[0], PSC_CONNECTION, "during the TLS handshake");
    link_free(l);
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
    link_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
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
