/* kill -9 of the agent, of the collector and of PostgreSQL at random moments,
 * sometimes of several at once, while the agent samples every 200 ms. All that
 * the agent says it took must be in the database exactly once, and every value
 * must be what it was.
 *
 * The killing lasts POOLSCOPE_TEST_SECONDS, and until each was killed 5 times
 * (about 200 s for 50 times). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>

#include "common/clock.h"
#include "tests/lib/scene.h"
#include "tests/lib/spawn.h"
#include "tests/lib/world.h"

enum {
    KILLS_MIN = 5,
    PAUSE_MAX_MS = 900,
    OUTAGE_MAX_MS = 700,
    SETTLE_S = 90,
    STARTS = 10,
    START_MS = 40, /* about what a start takes */
};

enum victim { AGENT, COLLECTOR, DATABASE, VICTIMS };

static struct world world;

static void kill_one(struct world_agent *a, enum victim victim)
{
    switch (victim) {
    case AGENT: world_agent_stop(a, SIGKILL); break;
    case COLLECTOR: world_collector_stop(&world, SIGKILL); break;
    default: test_database_kill(&world.db); break;
    }
}

static void revive(struct world_agent *a, enum victim victim)
{
    switch (victim) {
    case AGENT: world_agent_start(a); break;
    case COLLECTOR: world_collector_start(&world); break;
    default: test_database_restart(&world.db); break;
    }
}

/* Kill @first, now and then another one while it is away, and bring both back
 * in either order. */
static void strike(struct world_agent *a, enum victim first, unsigned *n_kills)
{
    kill_one(a, first);
    n_kills[first]++;
    bool both = rand() % 4 == 0;
    enum victim second =
        (enum victim)(((int)first + 1 + rand() % (VICTIMS - 1)) % VICTIMS);
    spawn_sleep_ms(rand() % OUTAGE_MAX_MS);
    if (both) {
        kill_one(a, second);
        n_kills[second]++;
        if (rand() % 2 == 0) {
            revive(a, second);
            both = false;
        }
    }
    revive(a, first);
    if (both) {
        revive(a, second);
    }
}

static void nothing_is_lost_by_kill_9(void **state)
{
    (void)state;
    srand(world_seed());
    world_start(&world, true, NULL, NULL);
    struct scene s;
    scene_init(&s, &world, "killed", 0, NULL);
    s.wait_s += SETTLE_S;
    world_agent_start(s.agent);
    scene_await_taken(&s, 5);

    unsigned n_kills[VICTIMS] = {0};
    int64_t end_us = psc_clock_mono_us() + world_seconds(10) * PSC_US_PER_S;
    unsigned n = 0;
    while (psc_clock_mono_us() < end_us || n < KILLS_MIN * VICTIMS) {
        spawn_sleep_ms(rand() % PAUSE_MAX_MS);
        strike(s.agent, (enum victim)(n++ % VICTIMS), n_kills);
    }
    print_message("killed: the agent %u times, the collector %u, PostgreSQL "
                  "%u\n",
                  n_kills[AGENT], n_kills[COLLECTOR], n_kills[DATABASE]);

    scene_expect_all(&s, "after kill -9");
    scene_fini(&s);
    world_stop(&world);
}

/* It must wait for the server to come back, whatever it was doing. */
static void a_database_that_dies_while_the_collector_starts(void **state)
{
    (void)state;
    int start_ms = world_sanitised() ? 4 * START_MS : START_MS;
    world_start(&world, true, NULL, NULL);
    for (int i = 0; i < STARTS; i++) {
        world_collector_stop(&world, SIGTERM);
        world_collector_spawn(&world);
        spawn_sleep_ms(rand() % start_ms);
        test_database_kill(&world.db);
        test_database_restart(&world.db);
        world_collector_await(&world);
    }
    world_stop(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_lost_by_kill_9),
        cmocka_unit_test(a_database_that_dies_while_the_collector_starts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
