/* What SIGHUP makes of a configuration that has changed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "collector/reload.h"
#include "tests/lib/temp.h"

static const char *config;
static char program[] = "poolscope-collector";
static char config_word[] = "--config";
static char metrics_word[] = "--metrics=off";

static void configure(const char *text)
{
    temp_write(config, text, strlen(text));
}

static int reload(struct options *o, struct psc_error *err)
{
    char *argv[] = {program, config_word, (char *)config, metrics_word, NULL};
    return reload_options(4, argv, o, err);
}

static void what_can_change_does(void **state)
{
    (void)state;
    struct options o;
    struct psc_error err = {.msg = ""};
    memset(&o, 0, sizeof(o));
    configure("[collector]\n");
    assert_int_equal(psc_config_defaults(collector_options, &o, &err), PSC_OK);
    configure("[collector]\n"
              "names = a.test\nlog_level = debug\nmax_connections = 17\n"
              "max_pending = 2M\ncommit_interval = 1s\n"
              "max_handshakes = 9\nlisten = 127.0.0.1:1\n");
    assert_int_equal(reload(&o, &err), PSC_OK);
    assert_string_equal(o.names, "a.test");
    assert_string_equal(o.log_level, "debug");
    assert_int_equal(o.max_connections, 17);
    assert_int_equal(o.max_pending_bytes, 2 << 20);
    assert_int_equal(o.commit_interval_us, 1000000);
    assert_int_equal(o.max_handshakes, 256); /* with a restart */
    assert_string_equal(o.listen, "0.0.0.0:7443");

    configure("[collector]\nmax_connections = 8\nlog_level = loud\n");
    assert_int_equal(reload(&o, &err), PSC_CONFIG);
    assert_int_equal(o.max_connections, 17);
    configure("[collector]\n"); /* names stay as they are; defaults return */
    assert_int_equal(reload(&o, &err), PSC_OK);
    assert_string_equal(o.names, "a.test");
    assert_int_equal(o.max_connections, 20000);
    psc_config_fini(collector_options, &o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_can_change_does),
    };
    config = temp_path(temp_dir(), "collector.conf");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
