/* Host names of a connection string: looked up beside the loop, by a resolver
 * of our own that may hang or fail (the program is linked with
 * --wrap=getaddrinfo). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <libpq-fe.h>
#include <netdb.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/pghosts.h"
#include "collector/pglink_io.h"
#include "common/clock.h"

enum { PATIENCE_S = 10 };

/* ---- the resolver ---- */

static sem_t gate; /* what "stuck.test" waits for */
static atomic_bool resolver_away;
static atomic_uint n_asked;

int __real_getaddrinfo(const char *host, const char *service,
                       const struct addrinfo *hints, struct addrinfo **out);
int __wrap_getaddrinfo(const char *host, const char *service,
                       const struct addrinfo *hints, struct addrinfo **out);

int __wrap_getaddrinfo(const char *host, const char *service,
                       const struct addrinfo *hints, struct addrinfo **out)
{
    atomic_fetch_add(&n_asked, 1);
    if (strcmp(host, "stuck.test") == 0) {
        (void)sem_wait(&gate);
    } else if (strcmp(host, "localhost") == 0) {
        return __real_getaddrinfo(host, service, hints, out);
    } else if (strcmp(host, "db.test") != 0 && strcmp(host, "two.test") != 0) {
        return EAI_NONAME;
    }
    if (atomic_load(&resolver_away)) {
        return EAI_AGAIN;
    }
    const struct addrinfo digits = {.ai_socktype = SOCK_STREAM,
                                    .ai_flags = AI_NUMERICHOST};
    int rc = __real_getaddrinfo("127.0.0.1", service, &digits, out);
    if (rc == 0 && strcmp(host, "two.test") == 0) {
        rc = __real_getaddrinfo("::1", service, &digits, &(*out)->ai_next);
    }
    return rc;
}

/* ---- connection strings ---- */

static void names_are_told_from_addresses(void **state)
{
    (void)state;
    assert_true(pghosts_has_names("host=db.test dbname=x"));
    assert_true(pghosts_has_names("postgresql://u@localhost:5433/x"));
    assert_true(pghosts_has_names("host=10.0.0.1,db.test"));
    assert_false(pghosts_has_names("host=10.0.0.1,::1"));
    assert_false(pghosts_has_names("host=/run/postgresql,@abstract"));
    assert_false(pghosts_has_names("postgresql://u@[::1]/x"));
    assert_false(pghosts_has_names("host=db.test hostaddr=10.0.0.1"));
    assert_false(pghosts_has_names("dbname=x"));
    assert_false(pghosts_has_names("no connection string"));
}

static void check_option(const char *conninfo, const char *keyword,
                         const char *value)
{
    PQconninfoOption *all = PQconninfoParse(conninfo, NULL);
    assert_non_null(all);
    for (const PQconninfoOption *o = all; o->keyword != NULL; o++) {
        if (strcmp(o->keyword, keyword) == 0) {
            assert_string_equal(o->val != NULL ? o->val : "", value);
        }
    }
    PQconninfoFree(all);
}

static void addresses_stand_beside_names(void **state)
{
    (void)state;
    struct psc_error err;
    char *found;
    assert_int_equal(
        pghosts_look_up("host=db.test password='it\\'s \\\\' port=6000", &found,
                        &err),
        PSC_OK);
    check_option(found, "host", "db.test");
    check_option(found, "hostaddr", "127.0.0.1");
    check_option(found, "port", "6000");
    check_option(found, "password", "it's \\");
    free(found);

    assert_int_equal(pghosts_look_up("host=two.test,gone.test,10.0.0.9,/run "
                                     "port=1,2,3,4",
                                     &found, &err),
                     PSC_OK);
    check_option(found, "host", "two.test,two.test,10.0.0.9,/run");
    check_option(found, "hostaddr", "127.0.0.1,::1,,");
    check_option(found, "port", "1,1,3,4");
    free(found);

    assert_int_equal(pghosts_look_up("host=localhost", &found, &err), PSC_OK);
    assert_true(strstr(found, "127.0.0.1") != NULL ||
                strstr(found, "::1") != NULL);
    free(found);
    assert_int_equal(pghosts_look_up("host=gone.test", &found, &err),
                     PSC_CONNECTION);
    assert_non_null(strstr(err.msg, "gone.test"));
    assert_null(found);
}

/* ---- the loop ---- */

struct world {
    uv_loop_t loop;
    struct pglink link;
    uv_timer_t ticker;
    uv_tcp_t listener;
    char conninfo[128];
    unsigned n_ticks, n_connections;
    bool stopped;
};

static void on_tick(uv_timer_t *timer)
{
    struct world *w = timer->data;
    w->n_ticks++;
}

static void on_dropped(uv_handle_t *handle)
{
    free(handle);
}

/* Nobody is served here: who comes is shown out. */
static void on_connection(uv_stream_t *stream, int status)
{
    struct world *w = stream->data;
    assert_int_equal(status, 0);
    uv_tcp_t *tcp = malloc(sizeof(*tcp));
    assert_non_null(tcp);
    assert_int_equal(uv_tcp_init(&w->loop, tcp), 0);
    assert_int_equal(uv_accept(stream, (uv_stream_t *)tcp), 0);
    uv_close((uv_handle_t *)tcp, on_dropped);
    w->n_connections++;
}

static int port_of(const uv_tcp_t *tcp)
{
    struct sockaddr_in addr;
    int len = sizeof(addr);
    assert_int_equal(uv_tcp_getsockname(tcp, (struct sockaddr *)&addr, &len),
                     0);
    return ntohs(addr.sin_port);
}

static void start(struct world *w, const char *host)
{
    static const struct pglink_statement none[] = {{NULL, NULL}};
    struct sockaddr_in addr;
    memset(w, 0, sizeof(*w));
    assert_int_equal(uv_loop_init(&w->loop), 0);
    assert_int_equal(uv_timer_init(&w->loop, &w->ticker), 0);
    w->ticker.data = w;
    assert_int_equal(uv_timer_start(&w->ticker, on_tick, 10, 10), 0);
    assert_int_equal(uv_tcp_init(&w->loop, &w->listener), 0);
    w->listener.data = w;
    assert_int_equal(uv_ip4_addr("127.0.0.1", 0, &addr), 0);
    assert_int_equal(
        uv_tcp_bind(&w->listener, (const struct sockaddr *)&addr, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&w->listener, 8, on_connection),
                     0);
    (void)snprintf(w->conninfo, sizeof(w->conninfo),
                   "host=%s port=%d user=x dbname=x", host,
                   port_of(&w->listener));
    const struct pglink_settings settings = {
        .name = "test",
        .conninfo = w->conninfo,
        .statements = none,
        .depth = 1,
        .statement_us = PSC_US_PER_S,
        .reconnect_max_us = PSC_US_PER_S / 5,
        .user = w,
    };
    assert_int_equal(pglink_start(&w->link, &w->loop, &settings), 0);
}

static void on_stopped(struct pglink *link)
{
    struct world *w = link->settings.user;
    w->stopped = true;
}

static void run_ticks(struct world *w, unsigned n)
{
    int64_t end_us = psc_clock_mono_us() + PATIENCE_S * PSC_US_PER_S;
    for (unsigned last = w->n_ticks + n; w->n_ticks < last;) {
        assert_true(psc_clock_mono_us() < end_us);
        (void)uv_run(&w->loop, UV_RUN_ONCE);
    }
}

static void run_until_connections(struct world *w, unsigned n)
{
    int64_t end_us = psc_clock_mono_us() + PATIENCE_S * PSC_US_PER_S;
    while (w->n_connections < n) {
        assert_true(psc_clock_mono_us() < end_us);
        (void)uv_run(&w->loop, UV_RUN_ONCE);
    }
}

static void stop(struct world *w)
{
    int64_t start_us = psc_clock_mono_us();
    pglink_stop(&w->link, on_stopped);
    uv_close((uv_handle_t *)&w->ticker, NULL);
    uv_close((uv_handle_t *)&w->listener, NULL);
    (void)uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_true(w->stopped);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    assert_true(psc_clock_mono_us() - start_us < PSC_US_PER_S);
}

static void the_loop_goes_on_while_the_resolver_hangs(void **state)
{
    (void)state;
    static struct world w;
    start(&w, "stuck.test");
    run_ticks(&w, 30);
    assert_int_equal(w.link.state, PGLINK_RESOLVING);
    assert_int_equal(w.n_connections, 0);
    assert_int_equal(sem_post(&gate), 0);
    run_until_connections(&w, 1);
    stop(&w); /* it may be waiting for the resolver again */
    assert_int_equal(sem_post(&gate), 0);
}

static void a_link_stops_while_the_resolver_hangs(void **state)
{
    (void)state;
    static struct world w;
    unsigned asked = atomic_load(&n_asked);
    start(&w, "stuck.test");
    run_ticks(&w, 5);
    assert_int_equal(atomic_load(&n_asked), asked + 1);
    stop(&w);
    assert_int_equal(sem_post(&gate), 0);
}

static void the_last_addresses_do_when_the_resolver_is_away(void **state)
{
    (void)state;
    static struct world w;
    start(&w, "db.test");
    run_until_connections(&w, 1);
    atomic_store(&resolver_away, true);
    run_until_connections(&w, 4);
    stop(&w);

    start(&w, "db.test"); /* who has none yet, waits */
    run_ticks(&w, 30);
    assert_int_equal(w.n_connections, 0);
    atomic_store(&resolver_away, false);
    run_until_connections(&w, 1);
    stop(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_told_from_addresses),
        cmocka_unit_test(addresses_stand_beside_names),
        cmocka_unit_test(the_loop_goes_on_while_the_resolver_hangs),
        cmocka_unit_test(a_link_stops_while_the_resolver_hangs),
        cmocka_unit_test(the_last_addresses_do_when_the_resolver_is_away),
    };
    (void)sem_init(&gate, 0, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
