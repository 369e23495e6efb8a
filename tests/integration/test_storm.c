/* A fleet that connects all at once, to a collector that shakes hands with few
 * at a time: each host is let in at its first try, in its turn, and after a
 * kill of the collector too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "tests/lib/peer_world.h"
#include "tests/lib/spawn.h"
#include "tests/lib/temp.h"

enum { HOSTS = 300, RUN_S = 200, REPORT_MAX_BYTES = 64 * 1024 };

static const char *const few_handshakes[] = {"--max-handshakes", "8", NULL};
static struct world world;
static struct psc_buf report;

static pid_t begin(const char *snapshots, const char *path, const char *log)
{
    const char *token = world_token(&world, "300");
    const char *words[] = {
        spawn_program("fleetsim"),
        "--state",
        temp_path(world.dir, "fleet"),
        "--collector",
        peer_text("127.0.0.1:%d", world.port),
        "--token",
        token,
        "--hosts",
        "300",
        "--tags",
        "100",
        "--counters",
        "20",
        "--drivers",
        "4",
        "--ramp",
        "0s",
        "--interval",
        "2s",
        "--snapshots",
        snapshots,
        "--report",
        path,
        NULL,
    };
    return spawn(log, words);
}

/* A figure of the report that end() has read. */
static long long figure(const char *name)
{
    const char *key = peer_text("\"%s\": ", name);
    const char *at = strstr((const char *)report.data, key);
    assert_non_null(at);
    return strtoll(at + strlen(key), NULL, 10);
}

/* Wait for the simulator, and read its report. */
static void end(pid_t pid, const char *path, const char *log)
{
    struct psc_error err;
    if (spawn_wait(pid, RUN_S) != 0) {
        world_show_log(log);
        fail_msg("fleetsim failed");
    }
    psc_buf_reset(&report);
    assert_int_equal(psc_file_read(path, &report, &err), PSC_OK);
    psc_buf_u8(&report, '\0');
    assert_int_equal(psc_buf_error(&report), PSC_OK);
    assert_int_equal(figure("unacknowledged"), 0);
}

static void all_are_let_in_at_their_first_try(void **state)
{
    (void)state;
    const char *log = temp_path(world.dir, "first.log");
    const char *path = temp_path(world.dir, "first.json");
    end(begin("2", path, log), path, log);
    assert_int_equal(figure("tries"), HOSTS);
    assert_int_equal(figure("sessions"), HOSTS);
    assert_int_equal(figure("drops"), 0);
    assert_int_equal(figure("refusals"), 0);
    assert_int_equal(peer_world_refusals(&world, "crowded"), 0);
}

/* Tries while nobody listens do not count: they fail at once. */
static void all_come_back_after_a_kill(void **state)
{
    (void)state;
    const char *log = temp_path(world.dir, "second.log");
    const char *path = temp_path(world.dir, "second.json");
    pid_t pid = begin("8", path, log);
    for (int i = 0;
         i < 600 && world_metric(&world, "poolscope_collector_"
                                         "sessions{state=\"ready\"}") < HOSTS;
         i++) {
        spawn_sleep_ms(50);
    }
    world_collector_stop(&world, SIGKILL);
    world_collector_start(&world);
    end(pid, path, log);
    assert_int_equal(figure("sessions"), 2 * HOSTS);
    assert_int_equal(figure("resumed"), HOSTS);
    assert_int_equal(peer_world_refusals(&world, "crowded"), 0);
    assert_int_equal(
        world_metric(&world, "poolscope_collector_connections_total"), HOSTS);
}

static int start(void **state)
{
    (void)state;
    psc_buf_init(&report, REPORT_MAX_BYTES);
    world_start(&world, false, few_handshakes, NULL);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    world_stop(&world);
    psc_buf_fini(&report);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_are_let_in_at_their_first_try),
        cmocka_unit_test(all_come_back_after_a_kill),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
