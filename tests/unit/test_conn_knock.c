/* Servers whose peers wait for their turn: what is kept of them, when they are
 * announced, and how they end while they wait. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/lib/certs.h"
#include "tests/lib/link.h"

#define DAY_S 86400LL
#define MS    1000LL /* in microseconds */

enum { FIRST_BYTES = 4096 /* kept of a peer at most */ };

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
    struct link *l = link_new(server_ctx, client_ctx);
    l->servers_wait = true;
    l->limits.wait_us = 20000 * MS;
    return l;
}

static void begin(struct link_end *end)
{
    psc_conn_begin(&end->conn);
}

/* A plain socket to the listener. */
static int dial(struct link *l)
{
    struct sockaddr_in addr;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(uv_ip4_addr("127.0.0.1", l->port, &addr), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    link_await(l, &l->n_servers, 1);
    return fd;
}

static void say(int fd, const void *data, size_t len)
{
    assert_int_equal(send(fd, data, len, MSG_NOSIGNAL), len);
}

static void a_peer_is_served_in_its_turn(void **state)
{
    (void)state;
    struct link *l = new_link();
    struct psc_error err;
    assert_int_equal(link_connect(l, &err), 0);
    link_await(l, &l->servers[0].knocked, 1);
    link_run(l, 50);
    assert_int_equal(l->client.opened, 0);
    begin(&l->servers[0]);
    begin(&l->servers[0]); /* once is enough */
    assert_int_equal(l->servers[0].opened, 0);
    link_await(l, &l->servers[0].opened, 1);
    begin(&l->servers[0]);
    link_send_ok(&l->client, 10000, 'a');
    link_await(l, &l->servers[0].frames, 1);
    assert_int_equal(l->servers[0].bytes, 10000);
    link_free(l);
}

static void a_turn_may_come_at_once(void **state)
{
    (void)state;
    struct link *l = new_link();
    l->server_template.act_knock = begin;
    link_open(l);
    link_free(l);
}

static void drop(struct link_end *end)
{
    psc_conn_close(&end->conn, NULL);
}

static void a_peer_may_be_dropped_when_it_knocks(void **state)
{
    (void)state;
    struct link *l = new_link();
    struct psc_error err;
    l->server_template.act_knock = drop;
    assert_int_equal(link_connect(l, &err), 0);
    link_await_both(l);
    link_expect(&l->servers[0], PSC_CLOSED, "");
    link_free(l);
}

static void silence_is_no_knock(void **state)
{
    (void)state;
    struct link *l = new_link();
    l->limits.handshake_us = 60 * MS;
    int fd = dial(l);
    begin(&l->servers[0]); /* of no use: it has not knocked */
    link_await(l, &l->servers[0].closed, 1);
    assert_int_equal(l->servers[0].knocked, 0);
    link_expect(&l->servers[0], PSC_TIMEOUT, "nothing was heard");
    (void)close(fd);
    link_free(l);
}

/* Half a record is none; its sender is not waited for longer than a silent
 * one. */
static void half_a_record_is_no_knock(void **state)
{
    (void)state;
    static const uint8_t head[] = {0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3};
    struct link *l = new_link();
    l->limits.handshake_us = 80 * MS;
    int fd = dial(l);
    for (size_t i = 0; i < sizeof(head); i++) {
        say(fd, head + i, 1);
        link_run(l, 2);
    }
    link_await(l, &l->servers[0].closed, 1);
    assert_int_equal(l->servers[0].knocked, 0);
    link_expect(&l->servers[0], PSC_TIMEOUT, "nothing was heard");
    (void)close(fd);
    link_free(l);
}

static void a_long_record_knocks_with_what_is_kept(void **state)
{
    (void)state;
    static uint8_t record[5 + 0x3fff] = {0x16, 3, 1, 0x3f, 0xff};
    struct link *l = new_link();
    int fd = dial(l);
    say(fd, record, sizeof(record));
    link_await(l, &l->servers[0].knocked, 1);
    link_run(l, 20);
    assert_int_equal(l->servers[0].conn.tls.in.len, FIRST_BYTES);
    begin(&l->servers[0]); /* it is nonsense, and ends as such */
    link_await(l, &l->servers[0].closed, 1);
    link_expect(&l->servers[0], PSC_TLS, "TLS");
    (void)close(fd);
    link_free(l);
}

static void garbage_knocks_and_is_refused(void **state)
{
    (void)state;
    /* HTTP, another version, a record of 32 KiB */
    static const char *const garbage[] = {
        "GET / HTTP/1.1\r\n", "\x16\x02\x01\x20\x20", "\x16\x03\x01\x7f\xff"};
    for (unsigned i = 0; i < 3; i++) {
        struct link *l = new_link();
        l->server_template.act_knock = begin;
        int fd = dial(l);
        say(fd, garbage[i], strlen(garbage[i]));
        link_await(l, &l->servers[0].closed, 1);
        link_expect(&l->servers[0], PSC_TLS, "TLS");
        (void)close(fd);
        link_free(l);
    }
}

static void a_turn_that_does_not_come_ends_it(void **state)
{
    (void)state;
    struct link *l = new_link();
    struct psc_error err;
    l->limits.wait_us = 60 * MS;
    assert_int_equal(link_connect(l, &err), 0);
    link_await_both(l);
    link_expect(&l->servers[0], PSC_TIMEOUT, "its turn did not come");
    link_free(l);
}

static void who_leaves_the_queue_is_noticed(void **state)
{
    (void)state;
    struct link *l = new_link();
    struct psc_error err;
    assert_int_equal(link_connect(l, &err), 0);
    link_await(l, &l->servers[0].knocked, 1);
    psc_conn_abort(&l->client.conn, NULL);
    link_await_both(l);
    link_expect(&l->servers[0], PSC_CONNECTION, "before its turn");
    link_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_peer_is_served_in_its_turn),
        cmocka_unit_test(a_turn_may_come_at_once),
        cmocka_unit_test(a_peer_may_be_dropped_when_it_knocks),
        cmocka_unit_test(silence_is_no_knock),
        cmocka_unit_test(half_a_record_is_no_knock),
        cmocka_unit_test(a_long_record_knocks_with_what_is_kept),
        cmocka_unit_test(garbage_knocks_and_is_refused),
        cmocka_unit_test(a_turn_that_does_not_come_ends_it),
        cmocka_unit_test(who_leaves_the_queue_is_noticed),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
