/* Which refusals are worth a line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "collector/refusal_log.h"
#include "common/clock.h"

static struct refusal_log log_state;
static int64_t now_us;

static int setup(void **state)
{
    (void)state;
    memset(&log_state, 0, sizeof(log_state));
    now_us = 1000 * PSC_US_PER_S;
    return 0;
}

/* Whether a line is printed. */
static bool prints(const char *peer, const char *reason, const char *text)
{
    uint64_t before = log_state.lines;
    refusal_log(&log_state, now_us, peer, reason, text);
    return log_state.lines > before;
}

static void the_same_words_of_a_peer_come_once_a_minute(void **state)
{
    (void)state;
    assert_true(prints("192.0.2.1:1000", "malformed", "batch 17 after 3"));
    assert_false(prints("192.0.2.1:1000", "malformed", "batch 17 after 3"));
    assert_false(prints("192.0.2.1:2000", "malformed", "batch 99 after 4"));
    now_us += 61 * PSC_US_PER_S;
    assert_true(prints("192.0.2.1:3000", "malformed", "batch 17 after 3"));
}

/* Many hosts may share an address. */
static void other_words_and_other_hosts_are_told(void **state)
{
    (void)state;
    assert_true(prints("192.0.2.1:1000", "tls", "unknown CA"));
    assert_true(prints("192.0.2.1:1001", "tls", "wrong version number"));
    assert_true(prints("192.0.2.1:1002", "timeout", "handshake"));
    assert_true(prints("192.0.2.2:1002", "timeout", "handshake"));
    assert_true(prints("host a at 192.0.2.1:1", "disabled", "is disabled"));
    assert_true(prints("host b at 192.0.2.1:1", "disabled", "is disabled"));
    assert_false(prints("host b at 192.0.2.1:2", "disabled", "is disabled"));
}

/* Each line goes to standard error: keep them of one call. */
static const char *told(bool all)
{
    static char text[4096];
    FILE *file = tmpfile();
    assert_non_null(file);
    int was = dup(2);
    assert_int_equal(dup2(fileno(file), 2), 2);
    refusal_log_tell(&log_state, now_us, all);
    assert_int_equal(dup2(was, 2), 2);
    (void)close(was);
    rewind(file);
    size_t n = fread(text, 1, sizeof(text) - 1, file);
    text[n] = '\0';
    (void)fclose(file);
    return text;
}

static void what_is_left_out_is_said_alone(void **state)
{
    (void)state;
    for (int i = 0; i < 18; i++) {
        (void)prints("host a at 192.0.2.1:1", "host disabled", "is disabled");
    }
    (void)prints("192.0.2.2:1", "tls", "garbage");
    (void)prints("192.0.2.2:2", "tls", "garbage");
    (void)prints("192.0.2.3:2", "tls", "garbage");
    assert_string_equal(told(false), ""); /* it may go on */
    now_us += 61 * PSC_US_PER_S;
    const char *text = told(false);
    assert_non_null(strstr(text, "17 more refusals were not logged: the same "
                                 "of host a at 192.0.2.1 (host disabled)\n"));
    assert_non_null(strstr(text, "1 more refusal was not logged: the same of "
                                 "192.0.2.2 (tls)\n"));
    assert_null(strstr(text, "192.0.2.3"));
    assert_string_equal(told(true), "");

    /* At the end, and when it comes again, at once. */
    (void)prints("192.0.2.2:1", "tls", "garbage");
    (void)prints("192.0.2.2:1", "tls", "garbage");
    assert_non_null(strstr(told(true), "1 more refusal was not logged"));
}

static void what_is_beyond_the_bound_is_said_too(void **state)
{
    (void)state;
    char peer[64];
    for (int i = 0; i < 205; i++) {
        (void)snprintf(peer, sizeof(peer), "192.0.2.%d:1", i);
        (void)prints(peer, "tls", "garbage");
    }
    assert_int_equal(log_state.lines, 200);
    assert_non_null(strstr(told(false),
                           "5 more refusals were not logged: there were more "
                           "than 200 at once or 5 a second\n"));
    assert_string_equal(told(true), "");
}

static void nobody_fills_the_disk(void **state)
{
    (void)state;
    char peer[64];
    for (int i = 0; i < 86400; i++) {
        (void)snprintf(peer, sizeof(peer), "[2001:db8::%x]:1", i);
        (void)prints(peer, "tls", "garbage");
        now_us += PSC_US_PER_S / 100;
    }
    /* 864 s */
    assert_in_range(log_state.lines, 864 * 5, 864 * 5 + 201);
    assert_int_equal(log_state.suppressed > 0, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_same_words_of_a_peer_come_once_a_minute,
                               setup),
        cmocka_unit_test_setup(other_words_and_other_hosts_are_told, setup),
        cmocka_unit_test_setup(what_is_left_out_is_said_alone, setup),
        cmocka_unit_test_setup(what_is_beyond_the_bound_is_said_too, setup),
        cmocka_unit_test_setup(nobody_fills_the_disk, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
