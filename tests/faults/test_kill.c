/* kill -9 of the agent, of the collector and of PostgreSQL at random moments,
 * sometimes of several at once, while the agent samples every 200 ms. All that
 * the agent says it took must be in the database exactly once, and every value
 * must be what it was.
 *
 * Kills of each kind: 5, or a third of POOLSCOPE_TEST_SECONDS if that is more
 * (150 for 50 of each). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>

#include "common/clock.h"
#include "tests/lib/spawn.h"
#include "tests/lib/steps.h"
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
    struct steps *steps = steps_start("killed", 100);
    const char *words[] = {"--root", steps_root(steps),    "--interval",
                           "200ms",  "--counter-interval", "200ms",
                           NULL};
    struct world_agent *a = world_agent_add(&world, "killed", words);
    world_agent_start(a);
    world_log_await(a->log, "took batch", 5, 30);

    unsigned n_kills[VICTIMS] = {0};
    unsigned want = (unsigned)world_seconds(10) / 3;
    want = want > KILLS_MIN ? want : KILLS_MIN;
    unsigned n = 0;
    while (n_kills[AGENT] < want || n_kills[COLLECTOR] < want ||
           n_kills[DATABASE] < want) {
        spawn_sleep_ms(rand() % PAUSE_MAX_MS);
        strike(a, (enum victim)(n++ % VICTIMS), n_kills);
    }
    print_message("killed: the agent %u times, the collector %u, PostgreSQL "
                  "%u\n",
                  n_kills[AGENT], n_kills[COLLECTOR], n_kills[DATABASE]);

    struct world_tally t;
    steps_await(steps, &world, "killed", false, SETTLE_S);
    world_settle(&world, a, SETTLE_S, "after kill -9", &t);
    assert_int_equal(t.missing, 0);
    assert_int_equal(t.dropped, 0);
    steps_check(steps, &world, "killed", false);
    steps_stop(steps);
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
