/* The real `poolscope leaktest` on this machine's kernel: the memory that it
 * says it leaks is really held, and comes back however the test ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <dirent.h>
#include <jansson.h>
#include <signal.h>

#include "tests/lib/spawn.h"
#include "tests/lib/temp.h"

static char out[65536];

/* Tests need root and SLUB's or SLAB's table. */
static void need_slabinfo(void)
{
    if (access("/proc/slabinfo", R_OK) != 0) {
        print_message("/proc/slabinfo cannot be read here\n");
        skip();
    }
}

/* The pid of the first worker of @parent, 0 if it has none. */
static pid_t worker_of(pid_t parent)
{
    char path[64];
    char line[4096] = "";

    (void)snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)parent,
                   (int)parent);
    FILE *f = fopen(path, "re");
    if (f) {
        (void)!fgets(line, sizeof line, f);
        (void)fclose(f);
    }
    return (pid_t)strtol(line, NULL, 10);
}

static size_t open_files(pid_t pid)
{
    char path[64];
    size_t n = 0;

    (void)snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *dir = opendir(path);
    while (dir && readdir(dir)) {
        n++;
    }
    if (dir) {
        (void)closedir(dir);
    }
    return n;
}

/* Wait for a worker with at least so many open files, 0 if none comes. */
static pid_t wait_worker(pid_t parent, size_t files)
{
    for (int i = 0; i < 300 && spawn_running(parent); i++) {
        pid_t worker = worker_of(parent);
        if (worker != 0 && open_files(worker) >= files) {
            return worker;
        }
        spawn_sleep_ms(100);
    }
    return 0;
}

/* Its memory is free once a process is gone. */
static void wait_gone(pid_t pid)
{
    for (int i = 0; i < 300; i++) {
        if (kill(pid, 0) != 0 || open_files(pid) == 0) {
            return;
        }
        spawn_sleep_ms(100);
    }
    fail_msg("worker %d is still there", (int)pid);
}

static const char *const leak_files[] = {
    NULL, "leaktest", "--kind", "file", "--rate", "8M", "--for", "60s", NULL};

static pid_t start(const char *log)
{
    const char *argv[sizeof leak_files / sizeof *leak_files];

    memcpy(argv, leak_files, sizeof argv);
    argv[0] = spawn_program("poolscope");
    return spawn(log, argv);
}

/* Run a leak of 8 MiB; the caller frees the report. */
static json_t *leak_report(void)
{
    const char *argv[] = {spawn_program("poolscope"),
                          "leaktest",
                          "--kind",
                          "eventfd",
                          "--rate",
                          "2M",
                          "--for",
                          "4s",
                          "--json",
                          NULL};
    json_error_t error;
    assert_int_equal(spawn_capture(argv, out, sizeof out, 120), 0);
    json_t *all = json_loads(out, 0, &error);
    assert_non_null(all);
    return all;
}

/* How much of what it should have grown by filp was seen to grow by; checks
 * that the shares sum up. */
static double filp_grown(const json_t *all)
{
    double shares = 0;
    double filp = 0;
    size_t i;
    json_t *tag;
    json_array_foreach(json_object_get(all, "tags"), i, tag)
    {
        if (json_is_true(json_object_get(tag, "counted"))) {
            shares += json_real_value(json_object_get(tag, "share"));
        }
        if (strcmp(json_string_value(json_object_get(tag, "tag")), "filp") ==
            0) {
            filp = (double)json_integer_value(
                       json_object_get(tag, "measured_bytes")) /
                   (double)json_integer_value(json_object_get(tag, "bytes"));
        }
    }
    assert_true(shares > 0.999 && shares < 1.001);
    return filp;
}

static void leaktest_leaks_what_it_says(void **state)
{
    double filp = 0;
    (void)state;
    need_slabinfo();
    /* The caches are the whole machine's: whoever opens or closes many files
     * in these four seconds disturbs the measurement. */
    for (int tries = 0; tries < 3 && !(filp > 0.7 && filp < 1.5); tries++) {
        json_t *all = leak_report();
        double bytes =
            (double)json_integer_value(json_object_get(all, "bytes"));
        assert_true(bytes > 0.95 * 8 * 1048576 && bytes < 1.05 * 8 * 1048576);
        assert_string_equal(json_string_value(json_object_get(all, "ended_by")),
                            "time");
        filp = filp_grown(all);
        json_decref(all);
    }
    assert_true(filp > 0.7 && filp < 1.5);
}

static void leaktest_frees_all_on_signals(void **state)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    (void)state;
    need_slabinfo();
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        pid_t pid = start(temp_path(temp_dir(), "log"));
        pid_t worker = wait_worker(pid, 15000);
        assert_int_not_equal(worker, 0);
        assert_int_equal(spawn_stop(pid, signals[i], 60), 0);
        wait_gone(worker);
    }
}

static void leaktest_frees_all_when_killed(void **state)
{
    (void)state;
    need_slabinfo();
    pid_t pid = start(temp_path(temp_dir(), "log"));
    pid_t worker = wait_worker(pid, 15000);
    assert_int_not_equal(worker, 0);
    (void)spawn_stop(pid, SIGKILL, 30);
    wait_gone(worker);
}

/* System V queues outlive processes: the parent must remove them. */
static void leaktest_ends_when_a_worker_dies(void **state)
{
    const char *argv[] = {spawn_program("poolscope"),
                          "leaktest",
                          "--kind",
                          "msgqueue",
                          "--rate",
                          "1M",
                          "--for",
                          "60s",
                          NULL};
    (void)state;
    need_slabinfo();
    const char *log = temp_path(temp_dir(), "log");
    pid_t pid = spawn(log, argv);
    pid_t worker = wait_worker(pid, 0);
    assert_int_not_equal(worker, 0);
    spawn_sleep_ms(1000);
    assert_int_equal(kill(worker, SIGKILL), 0);
    assert_int_equal(spawn_wait(pid, 60), 1);
    FILE *f = fopen("/proc/sysvipc/msg", "re");
    assert_non_null(f);
    while (fgets(out, sizeof out, f)) {
        long key = strtol(out, NULL, 10);
        assert_false(key >= 0x50000000 && key < 0x60000000);
    }
    fclose(f);
}

static void leaktest_refuses_too_much(void **state)
{
    const char *much[] = {spawn_program("poolscope"),
                          "leaktest",
                          "--kind",
                          "file",
                          "--limit",
                          "8000G",
                          NULL};
    const char *unknown[] = {spawn_program("poolscope"), "leaktest", "--kind",
                             "nothing", NULL};
    const char *ceiling[] = {spawn_program("poolscope"),
                             "leaktest",
                             "--kind",
                             "file",
                             "--ceiling",
                             "90",
                             NULL};
    (void)state;
    assert_int_equal(spawn_capture(much, out, sizeof out, 60), 2);
    assert_int_equal(spawn_capture(unknown, out, sizeof out, 60), 2);
    assert_int_equal(spawn_capture(ceiling, out, sizeof out, 60), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leaktest_leaks_what_it_says),
        cmocka_unit_test(leaktest_frees_all_on_signals),
        cmocka_unit_test(leaktest_frees_all_when_killed),
        cmocka_unit_test(leaktest_ends_when_a_worker_dies),
        cmocka_unit_test(leaktest_refuses_too_much),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
