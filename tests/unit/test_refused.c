/* What is made of samples that the database refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "collector/refused.h"
#include "common/clock.h"

static const uint8_t stream[16] = {7};

static void sqlstates_say_whose_fault_it_is(void **state)
{
    (void)state;
    static const char *const passing[] = {"",      "08006", "40001", "40P01",
                                          "53100", "53200", "55P03", "57014",
                                          "58030", "XX001", "25P02"};
    static const char *const contents[] = {"21000", "22P02", "22003",
                                           "23514", "23505", "54000"};
    static const char *const setup[] = {"42501", "42P01", "42883", "28000",
                                        "0A000", "3F000", "P0001"};
    for (size_t i = 0; i < sizeof(passing) / sizeof(passing[0]); i++) {
        assert_int_equal(refused_kind(passing[i]), REFUSED_PASSING);
    }
    for (size_t i = 0; i < sizeof(contents) / sizeof(contents[0]); i++) {
        assert_int_equal(refused_kind(contents[i]), REFUSED_CONTENTS);
    }
    for (size_t i = 0; i < sizeof(setup) / sizeof(setup[0]); i++) {
        assert_int_equal(refused_kind(setup[i]), REFUSED_SETUP);
        assert_non_null(strstr(refused_advice(setup[i]), "migrate"));
    }
    assert_non_null(strstr(refused_advice("53100"), "disk"));
}

static enum refused_verdict strike(struct refused_host *h,
                                   enum refused_kind kind, bool odd,
                                   uint64_t seq)
{
    return refused_strike(h, kind, odd, stream, seq, 1000);
}

static void contents_are_skipped_at_the_third_strike(void **state)
{
    (void)state;
    struct refused_host h = {.strikes = 0};
    assert_int_equal(strike(&h, REFUSED_CONTENTS, true, 5), REFUSED_AGAIN);
    assert_int_equal(strike(&h, REFUSED_CONTENTS, true, 5), REFUSED_AGAIN);
    assert_int_equal(strike(&h, REFUSED_CONTENTS, true, 5), REFUSED_SKIP);
    assert_int_equal(refused_wait_us(&h, 1000), 0);
    /* Another batch begins anew. */
    assert_int_equal(strike(&h, REFUSED_CONTENTS, true, 6), REFUSED_AGAIN);
}

static void what_is_not_the_samples_fault_is_held_back(void **state)
{
    (void)state;
    struct refused_host h = {.strikes = 0};
    int64_t last_us = 0;
    assert_int_equal(strike(&h, REFUSED_SETUP, true, 5), REFUSED_AGAIN);
    assert_int_equal(strike(&h, REFUSED_SETUP, true, 5), REFUSED_AGAIN);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(strike(&h, REFUSED_SETUP, true, 5), REFUSED_HOLD);
        assert_true(refused_wait_us(&h, 1000) >= last_us);
        last_us = refused_wait_us(&h, 1000);
        assert_in_range(last_us, PSC_US_PER_S, 600 * PSC_US_PER_S);
    }
    assert_int_equal(last_us, 600 * PSC_US_PER_S);
    refused_forgive(&h);
    assert_int_equal(refused_wait_us(&h, 1000), 0);
    assert_int_equal(strike(&h, REFUSED_SETUP, true, 5), REFUSED_AGAIN);
}

/* With nobody else stored, it may be the database all the same. */
static void nothing_is_skipped_without_others(void **state)
{
    (void)state;
    struct refused_host h = {.strikes = 0};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(strike(&h, REFUSED_CONTENTS, false, 5), REFUSED_AGAIN);
    }
    assert_int_equal(strike(&h, REFUSED_CONTENTS, false, 5), REFUSED_HOLD);
    assert_int_equal(strike(&h, REFUSED_CONTENTS, true, 5), REFUSED_SKIP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sqlstates_say_whose_fault_it_is),
        cmocka_unit_test(contents_are_skipped_at_the_third_strike),
        cmocka_unit_test(what_is_not_the_samples_fault_is_held_back),
        cmocka_unit_test(nothing_is_skipped_without_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
