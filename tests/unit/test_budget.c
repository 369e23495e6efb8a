/* What one host may have written beside its samples. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "collector/budget.h"
#include "common/clock.h"

#define HOUR (3600 * PSC_US_PER_S)
#define NOW  (77 * HOUR)

static void a_budget_empties_and_fills_up_again(void **state)
{
    (void)state;
    struct budget b;
    memset(&b, 0, sizeof(b));
    unsigned n = 0;
    while (budget_take(&b, BUDGET_EVENTS, 1, NOW)) {
        n++;
    }
    assert_int_equal(n, budget_burst(BUDGET_EVENTS));
    n = 0;
    while (budget_take(&b, BUDGET_EVENTS, 1, NOW + HOUR)) {
        n++;
    }
    assert_int_equal(n, 2400);
    assert_true(budget_take(&b, BUDGET_EVENTS, budget_burst(BUDGET_EVENTS),
                            NOW + 100 * HOUR));
    assert_true(budget_take(&b, BUDGET_DRIVERS, 4096, NOW));
    assert_false(budget_take(&b, BUDGET_TEXTS, UINT32_MAX, NOW));
}

static void a_boot_counts_once(void **state)
{
    (void)state;
    struct budget b;
    uint8_t id[16] = {0};
    memset(&b, 0, sizeof(b));
    for (int i = 0; i < 1000; i++) {
        assert_true(budget_take_boot(&b, id, NOW));
    }
    for (unsigned i = 1; i < budget_burst(BUDGET_BOOTS); i++) {
        memcpy(id, &i, sizeof(i));
        assert_true(budget_take_boot(&b, id, NOW));
    }
    memset(id, 0xff, sizeof(id));
    assert_false(budget_take_boot(&b, id, NOW));
    assert_true(budget_take_boot(&b, b.boot_id, NOW));
}

static void what_was_dropped_is_told_once_an_hour(void **state)
{
    (void)state;
    struct budget b;
    uint64_t dropped;
    memset(&b, 0, sizeof(b));
    assert_int_equal(budget_tell(&b, NOW, &dropped), -1);
    assert_true(budget_take(&b, BUDGET_DRIVERS, 50000, NOW));
    assert_false(budget_take(&b, BUDGET_DRIVERS, 300, NOW));
    assert_int_equal(budget_tell(&b, NOW, &dropped), BUDGET_DRIVERS);
    assert_int_equal(dropped, 300);
    assert_false(budget_take(&b, BUDGET_DRIVERS, 300, NOW));
    assert_false(budget_take(&b, BUDGET_DRIVERS, 300, NOW));
    assert_int_equal(budget_tell(&b, NOW + 1, &dropped), -1);
    assert_int_equal(budget_tell(&b, NOW + HOUR, &dropped), BUDGET_DRIVERS);
    assert_int_equal(dropped, 600);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_budget_empties_and_fills_up_again),
        cmocka_unit_test(a_boot_counts_once),
        cmocka_unit_test(what_was_dropped_is_told_once_an_hour),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
