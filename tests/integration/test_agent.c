/* The agent as a person meets it: what it prints, what it says of its options,
 * and SIGHUP, after which it goes on with the new configuration, or with the
 * old one if the new one is wrong. No collector is needed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/lib/spawn.h"
#include "tests/lib/temp.h"
#include "tests/lib/world.h"

enum { WAIT_S = 20, WORDS_MAX = 12, USAGE = 2 };

static char out[1 << 20];

/* Run poolscope-agent WORDS…, standard error included; returns the exit code,
 * `out` holds what it says. */
static int agent(const char *const *words)
{
    const char *argv[WORDS_MAX + 8] = {"/bin/sh", "-c", "exec \"$@\" 2>&1",
                                       "sh", spawn_program("poolscope-agent")};
    for (int n = 5; *words != NULL; n++) {
        assert_true(n < WORDS_MAX + 7);
        argv[n] = *words++;
    }
    return spawn_capture(argv, out, sizeof(out), WAIT_S);
}

static void has(const char *part)
{
    if (strstr(out, part) == NULL) {
        fail_msg("no '%s' in:\n%s", part, out);
    }
}

/* --- printing --- */

static int print(const char *tree)
{
    const char *words[] = {"--once", "--print", "--root", tree, NULL};
    return agent(words);
}

/* The line that begins with @start has, after it, these words in order. */
static void line_has(const char *start, const char *const *words)
{
    const char *line = strstr(out, start);
    if (line == NULL) {
        fail_msg("no line '%s' in:\n%s", start, out);
    }
    size_t len = strlen(start) + strcspn(line + strlen(start), "\n");
    const char *at = line + strlen(start);
    for (; *words != NULL; words++) {
        at = strstr(at, *words);
        if (at == NULL || at > line + len) {
            fail_msg("no '%s' in: %.*s", *words, (int)len, line);
        }
        at += strlen(*words);
    }
}

static void one_sample_is_printed(void **state)
{
    (void)state;
    static const char *const slab[] = {"-", "-", "9500", "1855488", NULL};
    static const char *const driver[] = {"1.15.4", "6A1B2C3D", "1327104", NULL};
    static const char *const unit[] = {"/system.slice/nginx.service",
                                       "31457280", NULL};
    static const char *const source[] = {"ok", NULL};
    assert_int_equal(print(PSC_TEST_DATA "/proc-linux-6.12"), 0);
    has("web-17: linux Example Linux 24 (web) (6.12.8-generic), 15.6 GiB");
    line_has("\nslabinfo ", source);
    line_has("\nslab     filp ", slab);
    line_has("\nice ", driver);
    has("\npages    unaccounted ");
    has("kernel     slab_allocation_failure");
    const char *units = strstr(out, "\ncgroup_memory_kernel_bytes ");
    assert_non_null(units);
    line_has("/system.slice/nginx.service", unit + 1);
    /* The largest tags of a pool come first. */
    assert_true(strstr(out, "\nslab     ext4_inode_cache") <
                strstr(out, "\nslab     filp "));
}

/* What a tree lacks is said, and the rest printed. */
static void every_recorded_tree_is_printed(void **state)
{
    (void)state;
    static const char *const trees[] = {
        "/proc-linux-2.6.32", "/proc-linux-5.15", "/proc-linux-6.10-early",
        "/proc-linux-7.0"};
    for (size_t i = 0; i < sizeof(trees) / sizeof(trees[0]); i++) {
        char path[512];
        (void)snprintf(path, sizeof(path), PSC_TEST_DATA "%s", trees[i]);
        assert_int_equal(print(path), 0);
        has("\nSOURCE ");
        has("unavailable");
        has("\nPOOL ");
    }
    assert_int_equal(print("/nonexistent"), 1);
    has("is /proc mounted?");
}

/* --- options --- */

static void options_are_explained(void **state)
{
    (void)state;
    static const char *const help[] = {"--help", NULL};
    static const char *const version[] = {"--version", NULL};
    assert_int_equal(agent(help), 0);
    has("--counter-interval");
    has("slabinfo ");
    assert_int_equal(agent(version), 0);
    has("poolscope-agent " PSC_VERSION);
}

static void wrong_options_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *words[6];
        const char *says;
    } wrong[] = {
        {{"--check", "--nonsense"}, "--nonsense"},
        {{"--check", "--interval", "soon"}, "interval"},
        {{"--check", "--interval", "1ms"}, "interval"},
        {{"--check", "--config", "/nonexistent"}, "/nonexistent"},
        {{"--check", "--collector", "a:0"}, "a:0"},
        {{"--check", "--collector", "a", "--log-level", "loud"}, "loud"},
        {{"--check"}, "collector"},
        {{"--collector", "a", "--host", "bad host name!"},
         "host = bad host name!: must be"},
        {{"--check", "--collector", "a", "--state-dir", "here"},
         "state_dir = here: must be a whole path"},
        {{"--check", "--collector", "a", "--token-file", "/nonexistent/token"},
         "/nonexistent/token"},
        {{"--enrol", "abc", "--collector", "a"},
         "--enrol: this is no enrolment token"},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        int code = agent(wrong[i].words);
        /* A token is found wrong when it is to be used. */
        assert_int_equal(code, wrong[i].words[0][2] == 'e' ? 1 : USAGE);
        has(wrong[i].says);
    }
    static const char *const good[] = {"--check", "--collector", "a.example",
                                       NULL};
    assert_int_equal(agent(good), 0);
    has("configuration is valid");
}

/* --- SIGHUP --- */

struct running {
    const char *dir, *config, *log;
    pid_t pid;
};

/* The configuration: nobody listens at its collector. */
static void configure(const struct running *r, const char *state_dir,
                      const char *more)
{
    char text[1024];
    bool other = strstr(more, "collector =") != NULL;
    int n = snprintf(text, sizeof(text), "[agent]\n%sstate_dir = %s\n%s",
                     other ? "" : "collector = 127.0.0.1:9\n", state_dir, more);
    temp_write(r->config, text, (unsigned long)n);
}

static void hang_up(const struct running *r, const char *says)
{
    unsigned n = world_log_count(r->log, says);
    assert_int_equal(kill(r->pid, SIGHUP), 0);
    world_log_await(r->log, says, n + 1, WAIT_S);
}

static void begin(struct running *r)
{
    r->dir = temp_dir();
    r->config = temp_path(r->dir, "agent.conf");
    r->log = temp_path(r->dir, "agent.log");
    configure(r, temp_path(r->dir, "state"),
              "interval = 1h\ncounter_interval = 1h\nlog_level = debug\n");
    const char *argv[] = {spawn_program("poolscope-agent"), "--config",
                          r->config, NULL};
    r->pid = spawn(r->log, argv);
    world_log_await(r->log, "took batch", 1, WAIT_S);
}

static void a_new_configuration_is_used(void **state)
{
    (void)state;
    struct running r;
    const char *state_dir;
    begin(&r);
    state_dir = temp_path(r.dir, "state");
    unsigned n = world_log_count(r.log, "took batch");
    configure(&r, state_dir,
              "interval = 200ms\ncounter_interval = 100ms\nspool_max = 8M\n"
              "collector = 127.0.0.1:9, localhost:9, 127.0.0.1:10\n"
              "role = test\nlabels = a=b\nlog_level = debug\n");
    hang_up(&r, "configuration reloaded");
    world_log_await(r.log, "took batch", n + 20, WAIT_S);

    /* Many times over, while it connects and samples. */
    for (int i = 0; i < 20; i++) {
        hang_up(&r, "configuration reloaded");
    }
    n = world_log_count(r.log, "took batch");
    world_log_await(r.log, "took batch", n + 5, WAIT_S);

    configure(&r, state_dir,
              "interval = 1h\ncounter_interval = 1h\nlog_level = debug\n");
    hang_up(&r, "configuration reloaded");
    spawn_sleep_ms(300);
    n = world_log_count(r.log, "took batch");
    spawn_sleep_ms(1000);
    assert_int_equal(world_log_count(r.log, "took batch"), n);
    assert_int_equal(spawn_stop(r.pid, SIGTERM, WAIT_S), 0);
    assert_int_equal(world_log_count(r.log, "Sanitizer"), 0);
}

static void what_needs_a_restart_is_said(void **state)
{
    (void)state;
    struct running r;
    begin(&r);
    const char *state_dir = temp_path(r.dir, "state");
    static const char *const more[] = {"jitter = no\n", "top_processes = 3\n"};
    static const char *const says[] = {
        "jitter has changed: that needs a restart",
        "top_processes has changed: that needs a restart"};
    for (int i = 0; i < 2; i++) {
        configure(&r, state_dir, more[i]);
        hang_up(&r, says[i]);
    }
    configure(&r, state_dir, "host = other\nrole = test\n");
    hang_up(&r, "host has changed: the name counts when it enrols anew");
    world_log_await(r.log, "configuration reloaded", 3, WAIT_S);
    assert_int_equal(world_log_count(r.log, "restart"), 2);
    assert_int_equal(spawn_stop(r.pid, SIGTERM, WAIT_S), 0);
    assert_int_equal(world_log_count(r.log, "Sanitizer"), 0);
}

static void a_wrong_configuration_changes_nothing(void **state)
{
    (void)state;
    struct running r;
    static const char *const wrong[] = {
        "interval = soon\n",
        "nonsense = 1\n",
        "collector = :\n",
        "log_level = loud\n",
    };
    begin(&r);
    const char *state_dir = temp_path(r.dir, "state");
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        configure(&r, state_dir, wrong[i]);
        hang_up(&r, "configuration not reloaded: ");
    }
    configure(&r, temp_path(r.dir, "other"), "");
    hang_up(&r, "state_dir and root change only with a restart");
    assert_int_equal(unlink(r.config), 0);
    hang_up(&r, "configuration not reloaded: ");

    unsigned n = world_log_count(r.log, "took batch");
    configure(&r, state_dir, "interval = 200ms\nlog_level = debug\n");
    hang_up(&r, "configuration reloaded");
    world_log_await(r.log, "took batch", n + 3, WAIT_S);
    assert_int_equal(spawn_stop(r.pid, SIGTERM, WAIT_S), 0);
    assert_int_equal(world_log_count(r.log, "Sanitizer"), 0);
    assert_int_not_equal(access(temp_path(r.dir, "other"), F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_sample_is_printed),
        cmocka_unit_test(every_recorded_tree_is_printed),
        cmocka_unit_test(options_are_explained),
        cmocka_unit_test(wrong_options_are_named),
        cmocka_unit_test(a_new_configuration_is_used),
        cmocka_unit_test(what_needs_a_restart_is_said),
        cmocka_unit_test(a_wrong_configuration_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
