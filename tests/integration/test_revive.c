/* The embedded PostgreSQL under a running collector: one that dies is started
 * again, one that was stopped is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>

#include "sql/embedded.h"
#include "tests/lib/spawn.h"
#include "tests/lib/world.h"

enum { REVIVED_S = 40, STAYS_S = 9, LOOKS_A_SECOND = 5 };

static struct world world;

/* Look for as long as @seconds whether it runs; nobody here connects, which
 * would start it. */
static bool runs_within(int seconds)
{
    struct embedded_status status = {0};
    for (int i = 0; i < seconds * LOOKS_A_SECOND && !status.running; i++) {
        spawn_sleep_ms(1000 / LOOKS_A_SECOND);
        assert_int_equal(embedded_status(world.db.data_dir, &status, NULL),
                         PSC_OK);
    }
    return status.running;
}

static void a_server_that_dies_is_started_again(void **state)
{
    (void)state;
    test_database_kill(&world.db);
    assert_true(runs_within(REVIVED_S));
    world_log_await(world.collector_log, "has died: starting it again", 1, 1);
    world_log_await(world.collector_log, "database link units: connected", 2,
                    REVIVED_S);
}

static void a_server_that_was_stopped_stays_so(void **state)
{
    (void)state;
    test_database_stop(&world.db);
    assert_false(runs_within(STAYS_S));
    test_database_restart(&world.db);
    world_log_await(world.collector_log, "database link units: connected", 3,
                    REVIVED_S);
    assert_int_equal(
        world_log_count(world.collector_log, "has died: starting it again"), 1);
}

static int start_world(void **state)
{
    (void)state;
    test_database_keep_private("it stops PostgreSQL");
    world_start(&world, false, NULL, NULL);
    return 0;
}

static int stop_world(void **state)
{
    (void)state;
    world_stop(&world);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_that_dies_is_started_again),
        cmocka_unit_test(a_server_that_was_stopped_stays_so),
    };
    return cmocka_run_group_tests(tests, start_world, stop_world);
}
