/* The option table: INI text, command line, errors that name the place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/config.h"

struct conf {
    char *name;
    bool on;
    int64_t count, size, wait_us;
};

static const struct psc_option options[] = {
    {"main", "name", PSC_OPT_STRING, offsetof(struct conf, name), "x", 0, 0,
     "TEXT", "A name."},
    {"main", "on", PSC_OPT_BOOL, offsetof(struct conf, on), "no", 0, 0, NULL,
     "A switch."},
    {"main", "count", PSC_OPT_INT, offsetof(struct conf, count), "3", 1, 9, "N",
     "A number."},
    {"main", "max_size", PSC_OPT_SIZE, offsetof(struct conf, size), "64M", 0, 0,
     "BYTES", "A size,\non two lines."},
    {"time", "wait", PSC_OPT_DURATION, offsetof(struct conf, wait_us), "10s", 0,
     0, "TIME", "A time."},
    {NULL, NULL, PSC_OPT_STRING, 0, NULL, 0, 0, NULL, NULL},
};

static int parse(struct conf *c, const char *text, struct psc_error *err)
{
    memset(c, 0, sizeof(*c));
    assert_int_equal(psc_config_defaults(options, c, err), 0);
    return psc_config_parse(options, c, text, "f.conf", err);
}

static void values_of_every_type_are_read(void **state)
{
    (void)state;
    struct conf c;
    struct psc_error err;
    assert_int_equal(parse(&c,
                           "; comment\n[main]\nname = a, b # tail\non=yes\n"
                           "count=9\nmax_size = 2G\n[time]\nwait = 200ms\n",
                           &err),
                     0);
    assert_string_equal(c.name, "a, b # tail");
    assert_true(c.on);
    assert_int_equal(c.count, 9);
    assert_int_equal(c.size, 2LL << 30);
    assert_int_equal(c.wait_us, 200000);
    psc_config_fini(options, &c);
}

static void errors_name_file_line_and_remedy(void **state)
{
    (void)state;
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"[main]\ncount = 10\n", "f.conf:2: count = 10: must be from 1 to 9"},
        {"[main]\n\ncuont = 1\n", "f.conf:3: unknown option cuont"},
        {"[main]\n\ncuont = 1\n", "the nearest is count in [main]"},
        {"[time]\nwait = 5 parsecs\n", "expected a time such as"},
        {"[main]\nsomething odd\n", "f.conf:2: neither"},
        {"[main]\non = maybe\n", "expected yes or no"},
        {"[main]\ncount = 1\non = yes\ncount = 1\n",
         "f.conf:4: count is given twice, first in line 2"},
        {"[main]\nmax_size = 99999999999G\n", "expected bytes"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct conf c;
        struct psc_error err;
        assert_int_equal(parse(&c, cases[i].text, &err), PSC_CONFIG);
        if (strstr(err.msg, cases[i].part) == NULL) {
            fail_msg("\"%s\" is not in \"%s\"", cases[i].part, err.msg);
        }
        psc_config_fini(options, &c);
    }
}

static void overlong_lines_are_refused(void **state)
{
    (void)state;
    char text[2048] = "[main]\nname = ";
    size_t n = strlen(text);
    memset(text + n, 'a', sizeof(text) - n - 1);
    text[sizeof(text) - 1] = '\0';
    struct conf c;
    struct psc_error err;
    assert_int_equal(parse(&c, text, &err), PSC_CONFIG);
    assert_non_null(strstr(err.msg, "f.conf:2: line is longer"));
    psc_config_fini(options, &c);
}

static void command_line_takes_both_forms(void **state)
{
    (void)state;
    char *argv[] = {"p",    "--max-size=1K", "--wait", "2d",
                    "--on", "other",         "--count"};
    int argc = (int)(sizeof(argv) / sizeof(argv[0]));
    struct conf c = {0};
    struct psc_error err;
    int i = 1;
    int known = 0;
    while (i < 5) {
        assert_int_equal(
            psc_config_arg(options, &c, argc, argv, &i, &known, &err), 0);
        assert_true(known);
    }
    assert_int_equal(psc_config_arg(options, &c, argc, argv, &i, &known, &err),
                     0);
    assert_false(known);
    i = 6;
    assert_int_equal(psc_config_arg(options, &c, argc, argv, &i, &known, &err),
                     PSC_CONFIG);
    assert_non_null(strstr(err.msg, "needs a value"));
    char *bad[] = {"p", "--max-size", "x"};
    i = 1;
    assert_int_equal(psc_config_arg(options, &c, 3, bad, &i, &known, &err),
                     PSC_CONFIG);
    assert_non_null(strstr(err.msg, "--max-size = x: expected bytes"));
    assert_int_equal(c.size, 1024);
    assert_true(c.on);
    assert_int_equal(c.wait_us, 2 * 86400000000LL);
    psc_config_fini(options, &c);
}

static void printed_configuration_reads_back(void **state)
{
    (void)state;
    struct conf c, again;
    struct psc_error err;
    assert_int_equal(parse(&c, "[main]\ncount = 7\n[time]\nwait = 90s\n", &err),
                     0);
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    assert_non_null(out);
    psc_config_print(options, &c, out);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(parse(&again, text, &err), 0);
    assert_int_equal(again.count, 7);
    assert_int_equal(again.wait_us, 90000000);
    assert_int_equal(again.size, 64 << 20);
    free(text);
    psc_config_fini(options, &c);
    psc_config_fini(options, &again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_of_every_type_are_read),
        cmocka_unit_test(errors_name_file_line_and_remedy),
        cmocka_unit_test(overlong_lines_are_refused),
        cmocka_unit_test(command_line_takes_both_forms),
        cmocka_unit_test(printed_configuration_reads_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
