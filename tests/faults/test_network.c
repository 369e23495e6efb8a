/* Three agents behind a proxy each, all at once: one's connections are cut at
 * random, one's network is slow (2 KB/s), one's swallows everything without a
 * word for 40 s. Both ends must notice the dead one within 30 s, and all that
 * was taken must arrive exactly once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "common/clock.h"
#include "tests/lib/scene.h"
#include "tests/lib/spawn.h"
#include "tests/lib/world.h"

enum {
    CUT,
    SLOW,
    DEAD,
    AGENTS,
    SWALLOW_S = 40,
    NOTICE_S = 30,
    SLOW_BYTES_PER_S = 2048,
    CUT_PAUSE_MAX_MS = 2500,
    POLL_MS = 100,
    SETTLE_S = 60,
};

static const char *const names[AGENTS] = {"cut", "slow", "dead"};

static struct world world;
static struct world_agent *agents[AGENTS];
static struct scene scenes[AGENTS];

static void start_agent(int i)
{
    scene_init(&scenes[i], &world, names[i], 300, NULL);
    scenes[i].wait_s = SETTLE_S;
    agents[i] = scenes[i].agent;
    world_agent_proxy(agents[i]);
    world_agent_start(agents[i]);
}

/* Seconds from @start_us until @log says that something was lost, or 0 as long
 * as it does not. */
static double noticed(double before, const char *log, const char *text,
                      unsigned n, int64_t start_us)
{
    if (before > 0 || world_log_count(log, text) <= n) {
        return before;
    }
    return (double)(psc_clock_mono_us() - start_us) / 1e6;
}

/* Swallow for a while and cut meanwhile. */
static void strike(unsigned *n_cuts)
{
    static const char by_agent[] = "uplink: live -> closing";
    static const char by_collector[] = "host dead at";
    unsigned n_agent = world_log_count(agents[DEAD]->log, by_agent);
    unsigned n_collector = world_log_count(world.collector_log, by_collector);
    int64_t start_us = psc_clock_mono_us();
    int64_t end_us = start_us + SWALLOW_S * PSC_US_PER_S;
    int64_t cut_us = start_us;
    double agent_s = 0;
    double collector_s = 0;
    proxy_swallow(agents[DEAD]->proxy, 1);
    proxy_throttle(agents[SLOW]->proxy, SLOW_BYTES_PER_S);
    while (psc_clock_mono_us() < end_us) {
        if (psc_clock_mono_us() >= cut_us) {
            proxy_cut(agents[CUT]->proxy);
            ++*n_cuts;
            cut_us = psc_clock_mono_us() +
                     (int64_t)(rand() % CUT_PAUSE_MAX_MS) * 1000;
        }
        agent_s =
            noticed(agent_s, agents[DEAD]->log, by_agent, n_agent, start_us);
        collector_s = noticed(collector_s, world.collector_log, by_collector,
                              n_collector, start_us);
        spawn_sleep_ms(POLL_MS);
    }
    proxy_swallow(agents[DEAD]->proxy, 0);
    print_message("a dead network was noticed by the agent after %.1f s, by "
                  "the collector after %.1f s\n",
                  agent_s, collector_s);
    assert_true(agent_s > 0 && agent_s <= NOTICE_S);
    assert_true(collector_s > 0 && collector_s <= NOTICE_S + 1);
}

static void bad_networks_lose_nothing(void **state)
{
    (void)state;
    srand(world_seed());
    static const char *const words[] = {"--log-level", "debug", NULL};
    world_start(&world, false, words, NULL);
    for (int i = 0; i < AGENTS; i++) {
        start_agent(i);
    }
    for (int i = 0; i < AGENTS; i++) {
        scene_await_connected(&scenes[i]);
        scene_await_taken(&scenes[i], 5);
    }
    unsigned n_cuts = 0;
    strike(&n_cuts);
    print_message("%u cuts: %u connections; %llu bytes over the slow network\n",
                  n_cuts, proxy_accepted(agents[CUT]->proxy),
                  (unsigned long long)proxy_bytes(agents[SLOW]->proxy));
    for (int i = 0; i < AGENTS; i++) {
        scene_expect_all(&scenes[i], "bad network");
        steps_stop(scenes[i].steps);
    }
    world_stop(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_networks_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
