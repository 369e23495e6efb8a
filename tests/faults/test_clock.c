/* Clocks that jump, and hosts that boot anew while their samples wait.
 *
 * The wall clock of the agent, or of the collector, is shifted by hours, days
 * and years and back (a preloaded object, not in builds with sanitisers). All
 * samples arrive exactly once, in order, at the time when they were taken by
 * the collector's clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/scene.h"
#include "tests/lib/steps.h"
#include "tests/lib/temp.h"
#include "tests/lib/world.h"

enum { PER_JUMP = 8 };

static struct world world;

static int start(void **state)
{
    (void)state;
    world_start(&world, false, NULL, NULL);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    world_stop(&world);
    return 0;
}

static void end_scene(struct scene *s, const char *title)
{
    scene_expect_all(s, title);
    scene_fini(s);
}

/* --- jumps --- */

#ifdef PSC_CLOCK_SHIFT

static const long jumps_s[] = {3600, -3600, 86400 * 2, -86400 * 2, 7, 0};

static void shift(const char *path, long seconds)
{
    char text[32];
    int n = snprintf(text, sizeof(text), "%ld\n", seconds);
    char fresh[256];
    (void)snprintf(fresh, sizeof(fresh), "%s.new", path);
    temp_write(fresh, text, (unsigned long)n);
    assert_int_equal(rename(fresh, path), 0);
}

/* What is started until end_shift() has a clock that @path moves. */
static void begin_shift(const char *path)
{
    shift(path, 0);
    assert_int_equal(setenv("POOLSCOPE_CLOCK_SHIFT", path, 1), 0);
    /* LD_PRELOAD takes no path that has a space in it. */
    assert_int_equal(setenv("LD_PRELOAD", PSC_CLOCK_SHIFT, 1), 0);
    assert_int_equal(setenv("LD_LIBRARY_PATH", PSC_CLOCK_SHIFT_DIR, 1), 0);
}

static void end_shift(void)
{
    (void)unsetenv("LD_PRELOAD");
    (void)unsetenv("LD_LIBRARY_PATH");
    (void)unsetenv("POOLSCOPE_CLOCK_SHIFT");
}

static void an_agents_clock_may_jump(void **state)
{
    (void)state;
    struct scene s;
    scene_init(&s, &world, "jumper", 0, NULL);
    const char *path = temp_path(world.dir, "agent.shift");
    begin_shift(path);
    world_agent_start(s.agent);
    end_shift();
    scene_await_connected(&s);
    const char *start_at = world_text(&world, "SELECT clock_timestamp()");
    scene_await_taken(&s, PER_JUMP);
    for (size_t i = 0; i < sizeof(jumps_s) / sizeof(jumps_s[0]); i++) {
        shift(path, jumps_s[i]);
        scene_await_taken(&s, PER_JUMP);
    }
    /* While nobody listens, too. */
    world_collector_stop(&world, SIGTERM);
    shift(path, 5400);
    scene_await_taken(&s, PER_JUMP);
    shift(path, -5400);
    scene_await_taken(&s, PER_JUMP);
    world_collector_start(&world);
    shift(path, 0);
    end_scene(&s, "the agent's clock jumped");

    char sql[512];
    (void)snprintf(sql, sizeof(sql),
                   "SELECT count(*) FROM poolscope_data.fresh"
                   " JOIN poolscope_data.host USING (host_id)"
                   " WHERE host = 'jumper' AND (at > clock_timestamp()"
                   " OR at < '%s'::timestamptz - interval '30 seconds')",
                   start_at);
    assert_int_equal(world_int(&world, sql), 0);
    /* The longest pause between two samples is no jump. */
    assert_true(world_int(&world,
                          "SELECT extract(epoch FROM max(at - before))::int"
                          " FROM (SELECT at, lag(at) OVER (ORDER BY n) AS"
                          "  before FROM poolscope_data.fresh"
                          "  JOIN poolscope_data.host USING (host_id)"
                          "  WHERE host = 'jumper') x") < 10);
    assert_true(world_int(&world,
                          "SELECT count(DISTINCT round(extract(epoch FROM"
                          " wall_at - at) / 600)) FROM poolscope_data.fresh"
                          " JOIN poolscope_data.host USING (host_id)"
                          " WHERE host = 'jumper'") >= 5);
}

static void a_collectors_clock_may_jump(void **state)
{
    (void)state;
    struct scene s;
    scene_init(&s, &world, "steady", 0, NULL);
    world_agent_start(s.agent);
    const char *path = temp_path(world.dir, "collector.shift");
    world_collector_stop(&world, SIGTERM);
    begin_shift(path);
    world_collector_start(&world);
    end_shift();
    scene_await_connected(&s);
    scene_await_taken(&s, PER_JUMP);
    static const long seconds[] = {600, -600, 0};
    for (size_t i = 0; i < sizeof(seconds) / sizeof(seconds[0]); i++) {
        shift(path, seconds[i]);
        scene_await_taken(&s, PER_JUMP);
    }
    end_scene(&s, "the collector's clock jumped");
    world_collector_stop(&world, SIGTERM);
    world_collector_start(&world);
}

#endif

/* --- boots --- */

static void samples_of_an_earlier_boot_come_first(void **state)
{
    (void)state;
    struct scene s;
    scene_init(&s, &world, "rebooted", 0, NULL);
    world_agent_start(s.agent);
    scene_await_connected(&s);
    scene_await_taken(&s, 3);
    world_collector_stop(&world, SIGTERM);
    scene_await_taken(&s, 10);
    for (int boot = 0; boot < 2; boot++) {
        (void)steps_pause(s.steps);
        scene_await_taken(&s, 2); /* the last event is in the spool */
        world_agent_stop(s.agent, SIGKILL);
        steps_new_boot(s.steps);
        steps_resume(s.steps);
        world_agent_start(s.agent);
        scene_await_taken(&s, 10);
    }
    world_collector_start(&world);
    end_scene(&s, "booted twice");
    assert_int_equal(world_int(&world, "SELECT count(*) FROM poolscope.boot"
                                       " WHERE host = 'rebooted'"),
                     3);
    assert_int_equal(
        world_int(&world,
                  "SELECT count(*) FROM (SELECT boot_id, lag(boot_id) OVER"
                  " (ORDER BY n) AS before FROM poolscope_data.fresh"
                  " JOIN poolscope_data.host USING (host_id)"
                  " WHERE host = 'rebooted') x WHERE boot_id <> before"),
        2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#ifdef PSC_CLOCK_SHIFT
        cmocka_unit_test(an_agents_clock_may_jump),
        cmocka_unit_test(a_collectors_clock_may_jump),
#endif
        cmocka_unit_test(samples_of_an_earlier_boot_come_first),
    };
#ifndef PSC_CLOCK_SHIFT
    print_message("SKIPPED: jumps of the wall clock (a build with "
                  "sanitisers)\n");
#endif
    return cmocka_run_group_tests(tests, start, stop);
}
