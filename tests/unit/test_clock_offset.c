/* Batch times on the collector's clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "collector/clock_offset.h"
#include "common/clock.h"

#define S       PSC_US_PER_S
#define HOUR    (3600 * S)
#define NOW     (1800000000LL * S) /* some day in 2027 */
#define UPTIME  (100 * HOUR)
#define UNKNOWN false, 0

static void offset_keeps_the_least_delay(void **state)
{
    (void)state;
    struct clock_offset c;
    clock_offset_init(&c, UNKNOWN);
    clock_offset_observe(&c, NOW + 3 * S, NOW, UPTIME); /* 3 s on the way */
    assert_int_equal(clock_offset_at(&c, NOW + 3 * S, UPTIME), NOW + 3 * S);
    clock_offset_observe(&c, NOW + 10 * S, NOW + 10 * S, UPTIME + 10 * S);
    assert_int_equal(clock_offset_at(&c, NOW + 10 * S, UPTIME), NOW);
    clock_offset_observe(&c, NOW + 25 * S, NOW + 20 * S, UPTIME + 20 * S);
    int64_t at = clock_offset_at(&c, NOW + 25 * S, UPTIME + 20 * S);
    assert_in_range(at - (NOW + 20 * S), 0, 20000); /* not 5 s late */
}

static void offset_follows_drift_slowly(void **state)
{
    (void)state;
    struct clock_offset c;
    clock_offset_init(&c, UNKNOWN);
    /* The host's clock loses 100 us a second; heartbeats every 10 s. */
    for (int64_t t = 0; t <= 10000 * S; t += 10 * S) {
        clock_offset_observe(&c, NOW + t, NOW + t, UPTIME + t - t / 10000);
    }
    int64_t t = 10000 * S;
    int64_t at = clock_offset_at(&c, NOW + t, UPTIME + t - t / 10000);
    assert_in_range(NOW + t - at, 0, 5000);
}

static void offset_is_never_later_than_now(void **state)
{
    (void)state;
    struct clock_offset c;
    clock_offset_init(&c, UNKNOWN);
    clock_offset_observe(&c, NOW, NOW, UPTIME);
    assert_int_equal(clock_offset_at(&c, NOW, UPTIME + HOUR), NOW);
    assert_int_equal(clock_offset_at(&c, NOW, INT64_MAX), NOW);
}

static void offset_of_backlog_is_boottime(void **state)
{
    (void)state;
    struct clock_offset c;
    clock_offset_init(&c, UNKNOWN);
    /* The wall clock is 20 years off; it does not matter. */
    clock_offset_observe(&c, NOW, NOW - 175000 * HOUR, UPTIME);
    assert_int_equal(clock_offset_at(&c, NOW, UPTIME - 72 * HOUR),
                     NOW - 72 * HOUR);
}

static void earlier_boot_goes_by_the_wall(void **state)
{
    (void)state;
    struct clock_offset c;
    clock_offset_init(&c, true, 2 * HOUR); /* measured in that boot */
    clock_offset_observe(&c, NOW, NOW, UPTIME);
    assert_int_equal(clock_offset_earlier_at(&c, NOW, NOW - 200 * HOUR),
                     NOW - 198 * HOUR);
    /* Never later than the start of this boot. */
    assert_int_equal(clock_offset_earlier_at(&c, NOW, NOW), NOW - UPTIME);
}

static void earlier_boot_without_history_uses_this_wall(void **state)
{
    (void)state;
    struct clock_offset c;
    clock_offset_init(&c, UNKNOWN);
    clock_offset_observe(&c, NOW, NOW - 3 * HOUR, UPTIME);
    assert_int_equal(clock_offset_earlier_at(&c, NOW, NOW - 303 * HOUR),
                     NOW - 300 * HOUR);
}

static void offset_takes_any_values(void **state)
{
    (void)state;
    static const int64_t odd[] = {INT64_MIN, -1, 0, 1, INT64_MAX};
    struct clock_offset c;
    for (size_t i = 0; i < 5; i++) {
        for (size_t j = 0; j < 5; j++) {
            clock_offset_init(&c, true, odd[i]);
            clock_offset_observe(&c, NOW, odd[i], odd[j]);
            clock_offset_observe(&c, NOW + S, odd[j], odd[i]);
            assert_true(clock_offset_at(&c, NOW, odd[j]) <= NOW);
            assert_true(clock_offset_earlier_at(&c, NOW, odd[i]) <= NOW);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(offset_keeps_the_least_delay),
        cmocka_unit_test(offset_follows_drift_slowly),
        cmocka_unit_test(offset_is_never_later_than_now),
        cmocka_unit_test(offset_of_backlog_is_boottime),
        cmocka_unit_test(earlier_boot_goes_by_the_wall),
        cmocka_unit_test(earlier_boot_without_history_uses_this_wall),
        cmocka_unit_test(offset_takes_any_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
