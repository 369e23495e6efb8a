/* The sampler's ticks: absolute, without drift or pile-up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "agent/sampler.h"

#define S_US 1000000LL
#define M_US (60 * S_US)

enum {
    TAGS = 1 << SAMPLER_TAGS,
    COUNTERS = 1 << SAMPLER_COUNTERS,
    DRIVERS = 1 << SAMPLER_DRIVERS,
};

static const int64_t usual[SAMPLER_GROUPS] = {M_US, M_US, 60 * M_US};

static void sampler_starts_at_once_then_on_the_grid(void **state)
{
    (void)state;
    struct sampler s;
    sampler_init(&s, 0, usual, 1234567);
    assert_int_equal(sampler_next(&s), 1234567);
    assert_int_equal(sampler_due(&s, 1234567), TAGS | COUNTERS | DRIVERS);
    assert_int_equal(sampler_next(&s), M_US);
    assert_int_equal(sampler_due(&s, M_US - 1), 0);
    assert_int_equal(sampler_due(&s, M_US), TAGS | COUNTERS);
    assert_int_equal(sampler_take_missed(&s), 0);
}

static void sampler_does_not_drift(void **state)
{
    (void)state;
    struct sampler s;
    sampler_init(&s, 0, usual, 0);
    (void)sampler_due(&s, 0);
    /* Each tick is noticed late; the grid stays. */
    for (int64_t i = 1; i < 10000; i++) {
        assert_int_equal(sampler_next(&s), i * M_US);
        int64_t late = (i * 7919) % (M_US / 2);
        unsigned due = sampler_due(&s, i * M_US + late);
        assert_int_equal(due, i % 60 == 0 ? TAGS | COUNTERS | DRIVERS
                                          : TAGS | COUNTERS);
    }
    assert_int_equal(sampler_take_missed(&s), 0);
}

static void sampler_counts_what_a_suspend_swallows(void **state)
{
    (void)state;
    struct sampler s;
    sampler_init(&s, 0, usual, 0);
    (void)sampler_due(&s, 0);
    /* Eight hours of sleep: one sample, no pile-up. */
    int64_t wake = 8 * 60 * M_US + 30 * S_US;
    assert_int_equal(sampler_due(&s, wake), TAGS | COUNTERS | DRIVERS);
    assert_int_equal(sampler_due(&s, wake), 0);
    assert_int_equal(sampler_next(&s), wake + 30 * S_US);
    assert_int_equal(sampler_take_missed(&s), 8 * 60 - 1);
    assert_int_equal(sampler_take_missed(&s), 0);
}

static void sampler_keeps_several_intervals(void **state)
{
    (void)state;
    const int64_t intervals[SAMPLER_GROUPS] = {5 * S_US, 2 * S_US, 10 * S_US};
    struct sampler s;
    sampler_init(&s, 0, intervals, 0);
    (void)sampler_due(&s, 0);
    unsigned n[SAMPLER_GROUPS] = {0};
    for (int64_t now = sampler_next(&s); now <= 100 * S_US;
         now = sampler_next(&s)) {
        unsigned due = sampler_due(&s, now);
        for (unsigned g = 0; g < SAMPLER_GROUPS; g++) {
            n[g] += due >> g & 1u;
            assert_int_equal((due >> g & 1u) != 0, now % intervals[g] == 0);
        }
    }
    assert_int_equal(n[SAMPLER_TAGS], 20);
    assert_int_equal(n[SAMPLER_COUNTERS], 50);
    assert_int_equal(n[SAMPLER_DRIVERS], 10);
}

static void sampler_spreads_hosts(void **state)
{
    (void)state;
    /* 1000 hosts that boot at once: no tenth of the minute gets more than
     * twice its share; groups of one host tick together all the same. */
    unsigned tenths[10] = {0};
    for (int i = 0; i < 1000; i++) {
        char host[32];
        (void)snprintf(host, sizeof(host), "web-%04d.example", i);
        struct sampler s;
        uint64_t seed = sampler_seed(host);
        assert_int_equal(seed, sampler_seed(host));
        assert_int_not_equal(seed, 0);
        sampler_init(&s, seed, usual, 0);
        (void)sampler_due(&s, 0);
        int64_t next = sampler_next(&s);
        assert_in_range(next, 1, M_US);
        tenths[(next - 1) / (M_US / 10)]++;
        assert_int_equal((s.next_us[SAMPLER_DRIVERS] - next) % M_US, 0);
    }
    for (int i = 0; i < 10; i++) {
        assert_in_range(tenths[i], 50, 200);
    }
}

static void sampler_takes_new_intervals(void **state)
{
    (void)state;
    struct sampler s;
    sampler_init(&s, 0, usual, 0);
    (void)sampler_due(&s, 0);
    const int64_t fast[SAMPLER_GROUPS] = {10 * S_US, M_US, 60 * M_US};
    sampler_set_intervals(&s, fast, 25 * S_US);
    assert_int_equal(sampler_next(&s), 30 * S_US);
    assert_int_equal(sampler_due(&s, 30 * S_US), TAGS);
    assert_int_equal(s.next_us[SAMPLER_COUNTERS], M_US);
}

static void sampler_survives_a_clock_set_back(void **state)
{
    (void)state;
    struct sampler s;
    sampler_init(&s, 0, usual, 500 * M_US);
    (void)sampler_due(&s, 500 * M_US);
    /* A machine restored from a snapshot. */
    assert_int_equal(sampler_due(&s, 10 * M_US), 0);
    assert_int_equal(sampler_next(&s), 11 * M_US);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sampler_starts_at_once_then_on_the_grid),
        cmocka_unit_test(sampler_does_not_drift),
        cmocka_unit_test(sampler_counts_what_a_suspend_swallows),
        cmocka_unit_test(sampler_keeps_several_intervals),
        cmocka_unit_test(sampler_spreads_hosts),
        cmocka_unit_test(sampler_takes_new_intervals),
        cmocka_unit_test(sampler_survives_a_clock_set_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
