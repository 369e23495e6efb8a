/* The agent's options: lists, tokens, the command line over the file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/options.h"
#include "common/pki.h"
#include "tests/lib/temp.h"

static void endpoints_are_parsed(void **state)
{
    (void)state;
    struct endpoint list[4];
    unsigned n;
    struct psc_error err;
    assert_int_equal(agent_options_endpoints(
                         " a.example , b.example:99,[2001:db8::1]:1,[::1]",
                         list, 4, &n, &err),
                     PSC_OK);
    assert_int_equal(n, 4);
    assert_string_equal(list[0].host, "a.example");
    assert_string_equal(list[0].port, "7443");
    assert_string_equal(list[1].host, "b.example");
    assert_string_equal(list[1].port, "99");
    assert_string_equal(list[2].host, "2001:db8::1");
    assert_string_equal(list[2].port, "1");
    assert_string_equal(list[3].host, "::1");
    assert_int_equal(agent_options_endpoints(NULL, list, 4, &n, &err), PSC_OK);
    assert_int_equal(n, 0);
}

static void bad_endpoints_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        ":7443", "host:",  "host:0",    "host:65536", "host:7x",
        "[::1",  "[::1]x", ",",         "a,,b",       "::1",
        "a:1:2", " ",      "a,b,c,d,e",
    };
    struct endpoint list[4];
    unsigned n;
    struct psc_error err;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(agent_options_endpoints(bad[i], list, 4, &n, &err),
                         PSC_CONFIG);
    }
    char long_host[400];
    memset(long_host, 'a', sizeof(long_host));
    long_host[sizeof(long_host) - 1] = '\0';
    assert_int_equal(agent_options_endpoints(long_host, list, 4, &n, &err),
                     PSC_CONFIG);
}

static void labels_become_pairs(void **state)
{
    (void)state;
    struct psc_buf out;
    struct psc_error err;
    psc_buf_init(&out, 1024);
    assert_int_equal(
        agent_options_labels("rack=r7, owner=team a,empty=", &out, &err),
        PSC_OK);
    struct psc_reader r;
    psc_reader_init(&r, psc_buf_bytes(&out));
    static const char *const expected[] = {"rack",   "r7",    "owner",
                                           "team a", "empty", ""};
    for (int i = 0; i < 6; i++) {
        struct psc_bytes s = psc_read_string(&r);
        assert_int_equal(s.len, strlen(expected[i]));
        assert_memory_equal(s.data, expected[i], s.len);
    }
    assert_int_equal(psc_reader_left(&r), 0);
    psc_buf_reset(&out);
    assert_int_equal(agent_options_labels("rack", &out, &err), PSC_CONFIG);
    assert_int_equal(agent_options_labels("=x", &out, &err), PSC_CONFIG);
    psc_buf_fini(&out);
}

static int read_line(struct options *o, struct command_line *line,
                     struct psc_error *err, int argc, char **argv)
{
    memset(o, 0, sizeof(*o));
    assert_int_equal(psc_config_defaults(agent_options, o, err), PSC_OK);
    return agent_options_read(argc, argv, o, line, err);
}

static void command_line_wins_over_file(void **state)
{
    (void)state;
    const char *path = temp_path(temp_dir(), "agent.conf");
    static const char text[] = "[agent]\ncollector = a:1, b:2\n"
                               "interval = 10s\nrole = database\n";
    temp_write(path, text, sizeof(text) - 1);
    char *argv[] = {
        "poolscope-agent",       "--interval", "2s",           "--config",
        (char *)(uintptr_t)path, "--once",     "--print=json", "--jitter=no"};
    struct options o;
    struct command_line line;
    struct psc_error err;
    assert_int_equal(read_line(&o, &line, &err, 8, argv), PSC_OK);
    assert_int_equal(line.command, COMMAND_ONCE);
    assert_true(line.json);
    assert_int_equal(o.interval_us, 2000000);
    assert_int_equal(o.counter_interval_us, 60 * 1000000);
    assert_string_equal(o.role, "database");
    assert_string_equal(o.collector, "a:1, b:2");
    assert_false(o.jitter);
    assert_int_equal(agent_options_check(&o, true, &err), PSC_OK);
    psc_config_fini(agent_options, &o);
}

static void bad_usage_is_refused(void **state)
{
    (void)state;
    char *lines[][3] = {
        {"poolscope-agent", "--nonsense", NULL},
        {"poolscope-agent", "--config", NULL},
        {"poolscope-agent", "--enrol", NULL},
        {"poolscope-agent", "--print", NULL},
        {"poolscope-agent", "--interval=0s", NULL},
        {"poolscope-agent", "--spool-max=1K", NULL},
        {"poolscope-agent", "--config=/nonexistent/agent.conf", NULL},
        {"poolscope-agent", "stray", NULL},
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct options o;
        struct command_line line;
        struct psc_error err = {.msg = ""};
        assert_int_not_equal(read_line(&o, &line, &err, 2, lines[i]), PSC_OK);
        assert_true(strlen(err.msg) > 0);
        psc_config_fini(agent_options, &o);
    }
}

static void check_tells_what_is_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *argument;
        const char *message;
    } cases[] = {
        {"--role=x", "collector"},
        {"--collector=a:b", "host:port"},
        {"--log-level=loud", "log_level"},
        {"--labels=x", "labels"},
        {"--token=garbage", "token: this is no enrolment token"},
        {"--host=bad host name!", "host = bad host name!"},
        {"--state-dir=here", "state_dir = here"},
        {"--labels=a=b, c=d,a=c", "labels: \"a\" is given twice"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct options o;
        struct command_line line;
        struct psc_error err = {.msg = ""};
        char *argv[] = {"poolscope-agent",
                        i == 0 ? "--role=x" : "--collector=localhost",
                        (char *)(uintptr_t)cases[i].argument};
        assert_int_equal(read_line(&o, &line, &err, 3, argv), PSC_OK);
        assert_int_not_equal(agent_options_check(&o, true, &err), PSC_OK);
        assert_non_null(strstr(err.msg, cases[i].message));
        psc_config_fini(agent_options, &o);
    }
}

static char told[1024];

static void on_error(const char *message)
{
    size_t n = strlen(told);
    (void)snprintf(told + n, sizeof(told) - n, "%s\n", message);
}

/* Each with its line, and all of them. */
static void a_wrong_file_is_told_as_a_whole(void **state)
{
    (void)state;
    static const struct {
        const char *text, *lines[5];
    } cases[] = {
        {"[agent]\ncollector = a:b\nlabels = x\n\nhost = no name\n"
         "state_dir = here\ntoken = abc\n",
         {":2: collector: \"a:b\"", ":6: state_dir = here",
          ":5: host = no name", ":3: labels: \"x\"",
          ":7: token: this is no enrolment token: it has 3"}},
        {"[agent]\ncollector = a\ninterval = soon\nlogging = 1\n"
         "collector = b\nnonsense\n",
         {":3: interval = soon", ":4: unknown option logging",
          ":5: collector is given twice, first in line 2", ":6: neither a"}},
    };
    const char *path = temp_path(temp_dir(), "agent.conf");
    char *argv[] = {"poolscope-agent", "--config", (char *)(uintptr_t)path};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct options o;
        struct command_line line;
        struct psc_error err = {.msg = ""};
        temp_write(path, cases[i].text, strlen(cases[i].text));
        memset(&o, 0, sizeof(o));
        told[0] = '\0';
        o.places.on_error = on_error;
        assert_int_equal(psc_config_defaults(agent_options, &o, &err), PSC_OK);
        int rc = agent_options_read(3, argv, &o, &line, &err);
        if (rc == PSC_OK) {
            rc = agent_options_check(&o, true, &err);
        }
        assert_int_not_equal(rc, PSC_OK);
        on_error(err.msg);
        for (unsigned k = 0; k < 5 && cases[i].lines[k] != NULL; k++) {
            if (strstr(told, cases[i].lines[k]) == NULL) {
                fail_msg("no \"%s\" in %s", cases[i].lines[k], told);
            }
        }
        psc_config_fini(agent_options, &o);
    }
}

/* It may be gone once the host is enrolled. */
static void a_token_file_is_there_at_first(void **state)
{
    (void)state;
    const char *dir = temp_dir();
    struct options o;
    struct psc_error err = {.msg = ""};
    memset(&o, 0, sizeof(o));
    assert_int_equal(psc_config_defaults(agent_options, &o, &err), PSC_OK);
    free(o.state_dir);
    o.state_dir = strdup(dir);
    assert_int_equal(agent_options_check_files(&o, &err), PSC_OK);
    o.token_file = strdup(temp_path(dir, "token"));
    assert_int_not_equal(agent_options_check_files(&o, &err), PSC_OK);
    assert_non_null(strstr(err.msg, "token_file: "));
    temp_write(temp_path(dir, "identity.pem"), "x", 1);
    assert_int_equal(agent_options_check_files(&o, &err), PSC_OK);
    psc_config_fini(agent_options, &o);
}

static void token_comes_from_option_or_file(void **state)
{
    (void)state;
    struct psc_token token;
    memset(&token, 7, sizeof(token));
    char text[PSC_TOKEN_TEXT_BYTES];
    psc_token_format(&token, text);
    char line[PSC_TOKEN_TEXT_BYTES + 4];
    int n = snprintf(line, sizeof(line), "%s \n", text);
    const char *path = temp_path(temp_dir(), "token");
    temp_write(path, line, (unsigned long)n);

    struct options o;
    memset(&o, 0, sizeof(o));
    struct psc_error err;
    struct psc_buf out;
    psc_buf_init(&out, 4096);
    assert_int_equal(agent_options_token(&o, &out, &err), PSC_OK);
    assert_int_equal(out.len, 0);
    o.token_file = (char *)(uintptr_t)path;
    assert_int_equal(agent_options_token(&o, &out, &err), PSC_OK);
    assert_int_equal(out.len, strlen(text));
    assert_memory_equal(out.data, text, out.len);
    psc_buf_reset(&out);
    o.token = "direct";
    assert_int_equal(agent_options_token(&o, &out, &err), PSC_OK);
    assert_int_equal(out.len, 6);
    psc_buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(endpoints_are_parsed),
        cmocka_unit_test(bad_endpoints_are_refused),
        cmocka_unit_test(labels_become_pairs),
        cmocka_unit_test(command_line_wins_over_file),
        cmocka_unit_test(bad_usage_is_refused),
        cmocka_unit_test(check_tells_what_is_wrong),
        cmocka_unit_test(a_wrong_file_is_told_as_a_whole),
        cmocka_unit_test(a_token_file_is_there_at_first),
        cmocka_unit_test(token_comes_from_option_or_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
