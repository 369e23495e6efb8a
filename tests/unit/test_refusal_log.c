/* Which refusals are worth a line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

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
    assert_true(prints("host id 7 at 192.0.2.1:1", "disabled", "is disabled"));
    assert_true(prints("host id 8 at 192.0.2.1:1", "disabled", "is disabled"));
    assert_false(prints("host id 8 at 192.0.2.1:2", "disabled", "is disabled"));
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
        cmocka_unit_test_setup(nobody_fills_the_disk, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
