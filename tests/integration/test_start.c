/* What keeps a collector from starting, and that it has touched nothing then:
 * options that make no sense, and a database of another CA. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <signal.h>
#include <unistd.h>

#include "tests/lib/spawn.h"
#include "tests/lib/temp.h"
#include "tests/lib/world.h"

enum { END_S = 30, USAGE = 2, LOG_BYTES = 8192 };

static struct world world;

/* The CA of the database, in hex. */
static const char *known_ca(void)
{
    static char hex[128];
    (void)snprintf(hex, sizeof(hex), "%s",
                   world_text(&world, "SELECT value FROM poolscope.setting "
                                      "WHERE name = 'ca_sha256'"));
    return hex;
}

/* Run another collector on the same database until it ends; @log_path gets
 * what it says. Returns its exit code. */
static int run_other(const char *pki_dir, const char *log_path,
                     const char *option, const char *value, const char *flag)
{
    const char *const argv[] = {spawn_program("poolscope-collector"),
                                world.db.option,
                                world.db.place,
                                "--pki-dir",
                                pki_dir,
                                "--names",
                                "localhost",
                                option,
                                value,
                                flag,
                                NULL};
    (void)unlink(log_path);
    return spawn_wait(spawn(log_path, argv), END_S);
}

static void must_say(const char *log_path, const char *text)
{
    char log[LOG_BYTES];
    FILE *f = fopen(log_path, "re");
    assert_non_null(f);
    size_t n = fread(log, 1, sizeof(log) - 1, f);
    (void)fclose(f);
    log[n] = '\0';
    if (strstr(log, text) == NULL) {
        fail_msg("no \"%s\" in: %s", text, log);
    }
}

static void bad_options_touch_nothing(void **state)
{
    (void)state;
    static const char *const bad[][3] = {
        {"--metrics", "0.0.0.0:9743", "not a loopback address"},
        {"--metrics", "localhost:9743", "not an address"},
        {"--listen", "nowhere:7443", "not an address"},
        {"--listen", "7443", "expected address:port"},
        {"--log-level", "loud", "expected error, warn"},
        {"--names", "a b,c", "\"a b\" is neither a DNS name nor"},
        {"--names", "a,,c", "\"\" is neither a DNS name nor"},
        {"--max-handshakes", "30000", "must not be above max_connections"},
    };
    static const char *const flags[] = {NULL, "--check"};
    const char *pki_dir = temp_path(world.dir, "none");
    const char *log_path = temp_path(world.dir, "bad.log");
    char ca[128];
    (void)snprintf(ca, sizeof(ca), "%s", known_ca());
    assert_int_equal(strlen(ca), 64);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        for (size_t j = 0; j < 2; j++) {
            assert_int_equal(
                run_other(pki_dir, log_path, bad[i][0], bad[i][1], flags[j]),
                USAGE);
            must_say(log_path, bad[i][2]);
        }
    }
    assert_int_not_equal(access(pki_dir, F_OK), 0);
    assert_string_equal(known_ca(), ca);
}

static void another_ca_is_refused(void **state)
{
    (void)state;
    const char *pki_dir = temp_path(world.dir, "none");
    const char *log_path = temp_path(world.dir, "other.log");
    char ca[128];
    (void)snprintf(ca, sizeof(ca), "%s", known_ca());
    assert_int_equal(run_other(pki_dir, log_path, "--metrics", "off", NULL), 1);
    must_say(log_path, "this database belongs to the CA");
    must_say(log_path, ca);
    must_say(log_path, "--replace-ca");
    assert_int_not_equal(access(pki_dir, F_OK), 0); /* none was made */
    assert_string_equal(known_ca(), ca);
}

/* A CA that exists already is refused too, unless it shall replace. */
static void a_ca_is_replaced_when_told_to(void **state)
{
    (void)state;
    const char *pki_dir = world.pki_dir;
    const char *log_path = temp_path(world.dir, "old.log");
    char ca[128];
    (void)snprintf(ca, sizeof(ca), "%s", known_ca());
    world_collector_stop(&world, SIGTERM);

    static const char *const replace[] = {"--replace-ca", NULL};
    world.pki_dir = temp_path(world.dir, "new");
    world.words = replace;
    world_collector_start(&world);
    assert_string_not_equal(known_ca(), ca);
    (void)snprintf(ca, sizeof(ca), "%s", known_ca());

    assert_int_equal(run_other(pki_dir, log_path, "--metrics", "off", NULL), 1);
    must_say(log_path, ca);
    assert_string_equal(known_ca(), ca);

    world_collector_stop(&world, SIGTERM);
    world.words = NULL;
    world_collector_start(&world); /* now the database is its own */
    assert_string_equal(known_ca(), ca);
}

static int start_world(void **state)
{
    (void)state;
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
        cmocka_unit_test(bad_options_touch_nothing),
        cmocka_unit_test(another_ca_is_refused),
        cmocka_unit_test(a_ca_is_replaced_when_told_to),
    };
    return cmocka_run_group_tests(tests, start_world, stop_world);
}
