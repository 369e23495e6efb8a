/* valgrind over the agent and the collector while connections are cut, the
 * database goes away, certificates are asked for, peers misbehave: no bad
 * access, and nothing leaked at the end.
 *
 * The cutting lasts POOLSCOPE_TEST_SECONDS, and 3 reconnects. Not in builds
 * with sanitisers, which valgrind does not go with (they find leaks
 * themselves); skipped where there is no valgrind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/lib/client.h"
#include "tests/lib/scene.h"
#include "tests/lib/spawn.h"
#include "tests/lib/temp.h"
#include "tests/lib/world.h"

enum { WAIT_S = 90, CUTS_MIN = 3 };

static const char valgrind[] = "/usr/bin/valgrind";

static struct world world;

static void await_connected(const struct world_agent *a, unsigned n)
{
    world_log_await(a->log, "uplink: opening -> live", n, WAIT_S);
}

/* A peer that is refused, one that says nothing, one that breaks off. */
static void bad_peers(const struct world_agent *a)
{
    SSL_CTX *bare = client_ctx(NULL);
    SSL_CTX *known = client_ctx(a->state_dir);
    struct client c;
    struct wire_message m = {.type = WIRE_HELLO};
    m.hello.protocol_min = m.hello.protocol_max = WIRE_PROTOCOL_MAX;
    if (client_open(&c, world.port, bare) && client_send(&c, &m)) {
        assert_true(client_await(&c, WIRE_REFUSAL, &m, WAIT_S));
    }
    client_close(&c);
    assert_true(client_open(&c, world.port, NULL));
    assert_true(client_send_raw(&c, "GET / HTTP/1.0\r\n\r\n", 18));
    client_close(&c);
    if (client_open(&c, world.port, known)) {
        (void)client_send_raw(&c, "\0\0\1\0abc", 7);
    }
    client_close(&c);
    SSL_CTX_free(bare);
    SSL_CTX_free(known);
}

static void reconnects_leak_nothing(void **state)
{
    (void)state;
    if (world_sanitised() || access(valgrind, X_OK) != 0) {
        print_message("SKIPPED: needs valgrind and a build without "
                      "sanitisers\n");
        skip();
    }
    static const char *const before[] = {
        valgrind,
        "--quiet",
        "--leak-check=full",
        "--show-leak-kinds=definite,possible",
        "--errors-for-leak-kinds=definite,possible",
        "--error-exitcode=99",
        "--num-callers=20",
        NULL};
    test_database_keep_private("it kills PostgreSQL");
    world_start(&world, false, NULL, before);
    struct scene s;
    scene_init(&s, &world, "checked", 500, NULL);
    s.wait_s = WAIT_S;
    struct world_agent *a = s.agent;
    const char *live_words[] = {"--interval", "1s", "--counter-interval", "1s",
                                NULL};
    struct world_agent *live = world_agent_add(&world, "live", live_words);
    a->before = before;
    live->before = before;
    world_agent_proxy(a);
    world_agent_start(a);
    world_agent_start(live);
    await_connected(a, 1);
    await_connected(live, 1);
    scene_await_taken(&s, 3);
    int64_t end_us = psc_clock_mono_us() + world_seconds(10) * PSC_US_PER_S;
    unsigned n_cuts = 0;
    while (n_cuts < CUTS_MIN || psc_clock_mono_us() < end_us) {
        unsigned n = world_log_count(a->log, "uplink: opening -> live");
        proxy_cut(a->proxy);
        await_connected(a, n + 1);
        n_cuts++;
    }
    test_database_kill(&world.db);
    scene_await_taken(&s, 3);
    test_database_restart(&world.db);
    bad_peers(a);
    world_agent_stop(a, SIGTERM); /* and once more, with a spool to read */
    world_agent_start(a);
    unsigned n_live = world_log_count(live->log, "took batch");
    world_log_await(live->log, "took batch", n_live + 3, WAIT_S);

    scene_expect_all(&s, "under valgrind");
    scene_fini(&s);
    print_message("%u reconnects under valgrind\n", n_cuts);
    world_stop(&world); /* exit code 99: valgrind has found something */
    static const char *const reports[] = {"Invalid ", "uninitialised",
                                          "definitely lost", "possibly lost"};
    for (size_t i = 0; i < sizeof(reports) / sizeof(reports[0]); i++) {
        assert_int_equal(world_log_count(a->log, reports[i]), 0);
        assert_int_equal(world_log_count(live->log, reports[i]), 0);
        assert_int_equal(world_log_count(world.collector_log, reports[i]), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reconnects_leak_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
