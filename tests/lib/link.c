/* Two ends of framed connections over loopback. */
#include "tests/lib/link.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/crc32c.h"

enum { TICK_MS = 2, PATIENCE_MS = 20000, HIGH_FD = 64 };

static void on_knock(struct psc_conn *c)
{
    struct link_end *end = c->user;
    end->knocked++;
    assert_int_equal(end->knocked, 1);
    assert_int_equal(end->opened + end->closed, 0);
    if (end->act_knock != NULL) {
        end->act_knock(end);
    }
}

static void on_open(struct psc_conn *c)
{
    struct link_end *end = c->user;
    end->opened++;
    assert_int_equal(end->closed, 0);
    if (end->act_open != NULL) {
        end->act_open(end);
    }
}

static void on_frame(struct psc_conn *c, struct psc_bytes frame)
{
    struct link_end *end = c->user;
    end->frames++;
    end->bytes += frame.len;
    end->checksum = psc_crc32c(end->checksum, frame.data, frame.len);
    assert_int_equal(end->opened, 1);
    assert_int_equal(end->closed, 0);
    if (end->act_frame != NULL) {
        end->act_frame(end, frame);
    }
}

static void on_drained(struct psc_conn *c)
{
    struct link_end *end = c->user;
    end->drained++;
    assert_int_equal(end->closed, 0);
    if (end->act_drained != NULL) {
        end->act_drained(end);
    }
}

static void on_close(struct psc_conn *c, const struct psc_error *reason)
{
    struct link_end *end = c->user;
    end->closed++;
    end->reason = *reason;
    assert_int_equal(end->closed, 1);
    assert_int_not_equal(reason->code, PSC_OK);
    memset(c, 0xee, sizeof(*c)); /* the memory is ours again */
    if (end->act_close != NULL) {
        end->act_close(end);
    }
}

static const struct psc_conn_events events = {
    .on_open = on_open,
    .on_frame = on_frame,
    .on_drained = on_drained,
    .on_close = on_close,
};

static const struct psc_conn_events waiting_events = {
    .on_knock = on_knock,
    .on_open = on_open,
    .on_frame = on_frame,
    .on_drained = on_drained,
    .on_close = on_close,
};

static void on_connection(uv_stream_t *listener, int status)
{
    struct link *l = listener->data;
    struct psc_error err;
    assert_int_equal(status, 0);
    assert_true(l->n_servers < LINK_MAX_SERVERS);
    struct link_end *end = &l->servers[l->n_servers++];
    *end = l->server_template;
    end->link = l;
    end->started = true;
    assert_int_equal(
        psc_conn_accept(&end->conn, listener, l->server_ctx,
                        l->servers_wait ? &waiting_events : &events, &l->limits,
                        end, &err),
        0);
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

/* A socket of a number that makes libuv's table of descriptors large enough at
 * once: growing it later, without memory, libuv aborts. */
static int high_socket(void)
{
    int low = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(low >= 0);
    int high = fcntl(low, F_DUPFD_CLOEXEC, HIGH_FD);
    assert_true(high >= 0);
    (void)close(low);
    return high;
}

void link_init(struct link *l, SSL_CTX *server_ctx, SSL_CTX *client_ctx)
{
    memset(l, 0, sizeof(*l));
    l->server_ctx = server_ctx;
    l->client_ctx = client_ctx;
    l->verify_host = "localhost";
    l->limits = (struct psc_conn_limits){.handshake_us = 5000000,
                                         .idle_us = 5000000,
                                         .max_frame_bytes = 1 << 20,
                                         .max_queue_bytes = 1 << 20};
    assert_int_equal(uv_loop_init(&l->loop), 0);
    assert_int_equal(uv_timer_init(&l->loop, &l->tick), 0);
    assert_int_equal(uv_timer_start(&l->tick, on_tick, TICK_MS, TICK_MS), 0);
    assert_int_equal(uv_tcp_init(&l->loop, &l->listener), 0);
    assert_int_equal(uv_tcp_open(&l->listener, high_socket()), 0);
    l->listener.data = l;

    struct sockaddr_in addr;
    assert_int_equal(uv_ip4_addr("127.0.0.1", 0, &addr), 0);
    assert_int_equal(
        uv_tcp_bind(&l->listener, (const struct sockaddr *)&addr, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&l->listener, 128, on_connection),
                     0);
    int len = sizeof(addr);
    assert_int_equal(
        uv_tcp_getsockname(&l->listener, (struct sockaddr *)&addr, &len), 0);
    l->port = ntohs(addr.sin_port);
    (void)snprintf(l->port_text, sizeof(l->port_text), "%u", l->port);
}

/* Ends that were started and have not closed. */
static int n_open(const struct link *l)
{
    int n = l->client.started && l->client.closed == 0;
    for (int i = 0; i < l->n_servers; i++) {
        n += l->servers[i].closed == 0;
    }
    return n;
}

void link_fini(struct link *l)
{
    if (l->client.started && l->client.closed == 0) {
        psc_conn_close(&l->client.conn, NULL);
    }
    for (int i = 0; i < l->n_servers; i++) {
        if (l->servers[i].closed == 0) {
            psc_conn_close(&l->servers[i].conn, NULL);
        }
    }
    uv_update_time(&l->loop);
    uint64_t start = uv_now(&l->loop);
    while (n_open(l) > 0) {
        assert_true(uv_now(&l->loop) - start < PATIENCE_MS);
        (void)uv_run(&l->loop, UV_RUN_ONCE);
    }
    uv_close((uv_handle_t *)&l->tick, NULL);
    uv_close((uv_handle_t *)&l->listener, NULL);
    assert_int_equal(uv_run(&l->loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&l->loop), 0);
}

int link_connect(struct link *l, struct psc_error *err)
{
    int rc = psc_conn_connect(&l->client.conn, &l->loop, "127.0.0.1",
                              l->port_text, l->verify_host, l->client_ctx,
                              &events, &l->limits, &l->client, err);
    l->client.link = l;
    l->client.started = rc == PSC_OK;
    assert_int_equal(l->client.opened + l->client.closed, 0);
    return rc;
}

void link_open(struct link *l)
{
    struct psc_error err;
    int before = l->n_servers;
    assert_int_equal(link_connect(l, &err), 0);
    link_await(l, &l->client.opened, 1);
    link_await(l, &l->servers[before].opened, 1);
}

void link_await(struct link *l, const int *value, int at_least)
{
    uv_update_time(&l->loop);
    uint64_t start = uv_now(&l->loop);
    while (*value < at_least) {
        if (uv_now(&l->loop) - start > PATIENCE_MS) {
            fail_msg("waited in vain; client: %d %s; server: %d %s",
                     l->client.closed, l->client.reason.msg,
                     l->servers[0].closed, l->servers[0].reason.msg);
        }
        (void)uv_run(&l->loop, UV_RUN_ONCE);
    }
}

void link_run(struct link *l, unsigned ms)
{
    uv_update_time(&l->loop);
    uint64_t start = uv_now(&l->loop);
    while (uv_now(&l->loop) - start < ms) {
        (void)uv_run(&l->loop, UV_RUN_ONCE);
    }
}

int link_send(struct link_end *end, size_t len, uint8_t fill)
{
    static uint8_t payload[PSC_FRAME_MAX_BYTES + 1];
    assert_true(len <= sizeof(payload));
    memset(payload, fill, len);
    struct psc_bytes bytes = {payload, len};
    return psc_conn_send(&end->conn, bytes);
}

void link_send_ok(struct link_end *end, size_t len, uint8_t fill)
{
    assert_int_equal(link_send(end, len, fill), PSC_OK);
}

struct link *link_new(SSL_CTX *server_ctx, SSL_CTX *client_ctx)
{
    struct link *l = malloc(sizeof(*l));
    assert_non_null(l);
    link_init(l, server_ctx, client_ctx);
    return l;
}

void link_free(struct link *l)
{
    link_fini(l);
    free(l);
}

void link_await_both(struct link *l)
{
    link_await(l, &l->client.closed, 1);
    link_await(l, &l->servers[0].closed, 1);
}

void link_expect(const struct link_end *end, int code, const char *text)
{
    if (end->reason.code != code || strstr(end->reason.msg, text) == NULL) {
        fail_msg("closed with %d \"%s\", not %d \"%s\"", end->reason.code,
                 end->reason.msg, code, text);
    }
}

void link_echo(struct link_end *end, struct psc_bytes frame)
{
    assert_int_equal(psc_conn_send(&end->conn, frame), PSC_OK);
}
