/* Two collectors on one port, one database and one directory of keys: agents
 * are spread over both, go on with their TLS sessions at either, and come to
 * the one that is left. One without shared_port stays outside. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "tests/lib/peer_world.h"
#include "tests/lib/spawn.h"
#include "tests/lib/temp.h"

enum { PEERS = 24, WAIT_S = 30, WORDS_MAX = 24 };

static struct world world; /* its collector is the first one */
static const char *const first_words[] = {"--shared-port", "--name", "first",
                                          NULL};
static pid_t second;
static int second_metrics;
static const char *second_log;
static struct peer_identity ids[PEERS];

static pid_t spawn_second(const char *shared, const char *log)
{
    static char listen[32], metrics[32];
    (void)snprintf(listen, sizeof(listen), "127.0.0.1:%d", world.port);
    (void)snprintf(metrics, sizeof(metrics), "127.0.0.1:%d", second_metrics);
    const char *words[WORDS_MAX] = {
        spawn_program("poolscope-collector"),
        "--listen",
        listen,
        "--metrics",
        metrics,
        "--name",
        "second",
        "--names",
        "localhost,127.0.0.1",
        "--pki-dir",
        world.pki_dir,
        world.db.option,
        world.db.place,
        shared,
        NULL,
    };
    return spawn(log, words);
}

static long long metric(int port, const char *name)
{
    struct world w = world;
    w.metrics_port = port;
    return world_metric(&w, name);
}

static long long ready(int port)
{
    return metric(port, "poolscope_collector_sessions{state=\"ready\"}");
}

static int start(void **state)
{
    (void)state;
    world_start(&world, false, first_words, NULL);
    second_metrics = world_free_port();
    second_log = temp_path(world.dir, "second.log");
    second = spawn_second("--shared-port", second_log);
    world_log_await(second_log, "listening", 1, WAIT_S);
    for (int i = 0; i < PEERS; i++) {
        peer_world_enrol(&world, &ids[i], peer_text("peer%d", i));
    }
    return 0;
}

static int stop(void **state)
{
    (void)state;
    for (int i = 0; i < PEERS; i++) {
        peer_identity_fini(&ids[i]);
    }
    (void)kill(second, SIGTERM);
    assert_int_equal(spawn_wait(second, 5), 0);
    world_stop(&world);
    return 0;
}

static void agents_are_spread_and_move(void **state)
{
    (void)state;
    static struct peer peers[PEERS];
    for (int i = 0; i < PEERS; i++) {
        peer_world_begin(&world, &peers[i], &ids[i], 1);
        peer_tag(&peers[i], "shared_tag", 1);
        assert_true(peer_batch(&peers[i], true, 0, NULL));
        assert_true(peer_await_ack(&peers[i], 1, PEER_ACK_S));
    }
    long long here = ready(world.metrics_port);
    long long there = ready(second_metrics);
    print_message("%lld agents at the first, %lld at the second\n", here,
                  there);
    assert_int_equal(here + there, PEERS);
    assert_true(here > 0 && there > 0); /* 1 in 8 million otherwise */

    world_collector_stop(&world, SIGKILL);
    unsigned moved = 0;
    for (int i = 0; i < PEERS; i++) {
        peer_close(&peers[i]);
        peer_world_begin(&world, &peers[i], &ids[i], 1);
        moved += peers[i].refusal == 0 ? 1 : 0;
        peers[i].seq = 2;
        peer_tag(&peers[i], "shared_tag", 2);
        assert_true(peer_batch(&peers[i], true, 0, NULL));
        assert_true(peer_await_ack(&peers[i], 2, PEER_ACK_S));
        peer_close(&peers[i]);
        assert_string_equal(peer_world_stored(&world, &ids[i]), "2 2 2");
    }
    assert_int_equal(moved, PEERS);
    world_collector_start(&world);
}

/* Tickets of one are good at the other: full handshakes are for the first
 * time only. */
static void sessions_are_resumed_at_either(void **state)
{
    (void)state;
    SSL_SESSION *session = NULL;
    long long before =
        metric(second_metrics, "poolscope_collector_connections_total");
    int resumed = 0;
    for (int i = 0; i <= PEERS; i++) {
        struct client c;
        struct wire_message m = {.type = WIRE_HELLO};
        m.hello.protocol_min = m.hello.protocol_max = WIRE_PROTOCOL_MAX;
        assert_true(client_resume(&c, world.port, ids[0].ctx, session));
        resumed += SSL_session_reused(c.ssl);
        assert_true(client_send(&c, &m));
        assert_true(client_await(&c, WIRE_WELCOME, &m, WAIT_S));
        SSL_SESSION_free(session);
        session = SSL_get1_session(c.ssl);
        /* A cut connection is no reason to forget it. */
        SSL_set_shutdown(c.ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
        client_close(&c);
    }
    SSL_SESSION_free(session);
    long long there =
        metric(second_metrics, "poolscope_collector_connections_total") -
        before;
    print_message("%d of %d sessions resumed, %lld of them at the second\n",
                  resumed, PEERS, there);
    assert_int_equal(resumed, PEERS);
    assert_in_range(there, 1, PEERS);
}

static void one_that_shares_nothing_stays_outside(void **state)
{
    (void)state;
    const char *log = temp_path(world.dir, "third.log");
    pid_t third = spawn_second("--shared-port=no", log);
    assert_int_equal(spawn_wait(third, WAIT_S), 1);
    assert_int_equal(world_log_count(log, "shared_port"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agents_are_spread_and_move),
        cmocka_unit_test(sessions_are_resumed_at_either),
        cmocka_unit_test(one_that_shares_nothing_stays_outside),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
