/* Numbers and times as people read and write them. */
/* cmocka.h needs these first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>
#include <time.h>

#include "cli/units.h"
#include "common/clock.h"

#define HOUR_US (3600 * PSC_US_PER_S)
#define DAY_US  (24 * HOUR_US)

static void units_bytes_have_three_digits(void **state)
{
    (void)state;
    assert_string_equal(unit_bytes(0).text, "0 B");
    assert_string_equal(unit_bytes(999).text, "999 B");
    assert_string_equal(unit_bytes(1000).text, "0.98 KiB");
    assert_string_equal(unit_bytes(1536).text, "1.50 KiB");
    assert_string_equal(unit_bytes(10.25 * 1024).text, "10.2 KiB");
    assert_string_equal(unit_bytes(256 * 1024).text, "256 KiB");
    assert_string_equal(unit_bytes(-3 * 1048576.0).text, "-3.00 MiB");
    assert_string_equal(unit_bytes(9.3e18).text, "8.07 EiB");
    assert_string_equal(unit_bytes_per_day(22.1 * 1073741824).text,
                        "22.1 GiB/day");
}

static void units_counts_have_separators(void **state)
{
    (void)state;
    assert_string_equal(unit_count(0).text, "0");
    assert_string_equal(unit_count(999).text, "999");
    assert_string_equal(unit_count(5246).text, "5,246");
    assert_string_equal(unit_count(-1234567).text, "-1,234,567");
    assert_string_equal(unit_count(INT64_MIN).text,
                        "-9,223,372,036,854,775,808");
}

static void units_spans_have_two_parts(void **state)
{
    (void)state;
    assert_string_equal(unit_span(0).text, "0 s");
    assert_string_equal(unit_span(90 * PSC_US_PER_S).text, "1 min 30 s");
    assert_string_equal(unit_span(HOUR_US * 2 + 600 * PSC_US_PER_S).text,
                        "2 h 10 min");
    assert_string_equal(unit_span(DAY_US * 3 + HOUR_US * 4).text, "3 d 4 h");
    assert_string_equal(unit_span(DAY_US * 40LL + HOUR_US).text, "40 d");
    assert_string_equal(unit_span(DAY_US).text, "24 h");
    assert_string_equal(unit_span(38 * HOUR_US + HOUR_US / 2).text, "39 h");
    assert_string_equal(unit_span(HOUR_US - 1).text, "1 h");
    assert_string_equal(unit_span(2 * HOUR_US - PSC_US_PER_S).text, "2 h");
    assert_string_equal(unit_span(2 * DAY_US - PSC_US_PER_S).text, "2 d");
    assert_string_equal(unit_span(800 * DAY_US).text, "2 y 70 d");
    assert_string_equal(unit_span(INT64_MIN).text, unit_span(INT64_MAX).text);
}

static void units_ages_look_back_and_ahead(void **state)
{
    (void)state;
    assert_string_equal(unit_ago(DAY_US, DAY_US).text, "just now");
    assert_string_equal(unit_ago(0, 3 * HOUR_US + 60 * PSC_US_PER_S).text,
                        "3 h ago");
    assert_string_equal(unit_ago(2700 * PSC_US_PER_S, 0).text, "in 45 min");
    assert_string_equal(unit_ago(HOUR_US * 3 / 2, 0).text, "in 1.5 h");
    assert_string_equal(unit_ago(25 * HOUR_US, 0).text, "in 25 h");
    assert_string_equal(unit_ago(38 * HOUR_US, 0).text, "in 38 h");
    assert_string_equal(unit_ago(48 * HOUR_US - PSC_US_PER_S, 0).text,
                        "in 2 d");
    assert_string_equal(unit_ago(0, 77 * HOUR_US).text, "3.2 d ago");
    assert_string_equal(unit_ago(4 * DAY_US - PSC_US_PER_S, 0).text, "in 4 d");
    assert_string_equal(unit_ago(0, HOUR_US - PSC_US_PER_S).text, "1 h ago");
    assert_string_equal(unit_ago(0, 300 * DAY_US).text, "300 d ago");
    assert_string_equal(unit_ago(0, 1000 * DAY_US).text, "2.7 y ago");
    (void)unit_ago(INT64_MAX, 0);
    assert_string_equal(unit_clock(3723 * PSC_US_PER_S).text, "1:02:03");
    assert_string_equal(unit_clock(10 * PSC_US_PER_S).text, "0:10");
}

static int64_t parsed(const char *text)
{
    struct psc_error err;
    int64_t at_us = -1;

    assert_int_equal(unit_time_parse(text, 10 * DAY_US, &at_us, &err), 0);
    return at_us;
}

static void units_times_are_spans_or_dates(void **state)
{
    (void)state;
    assert_int_equal(parsed("now"), 10 * DAY_US);
    assert_int_equal(parsed("2h"), 10 * DAY_US - 2 * HOUR_US);
    assert_int_equal(parsed("3d"), 7 * DAY_US);
    assert_int_equal(parsed("1970-01-02T00:00:00Z"), DAY_US);
    assert_int_equal(parsed("1970-01-02 01:00:00.25+01:00"),
                     DAY_US + PSC_US_PER_S / 4);
    assert_int_equal(parsed("1970-01-01T22:00-0200"), DAY_US);
    setenv("TZ", "UTC-3", 1); /* wherever one is: UTC */
    tzset();
    assert_int_equal(parsed("1970-01-02 03:00"), DAY_US + 3 * HOUR_US);
    assert_int_equal(parsed("1970-01-02"), DAY_US);
}

static void units_times_refuse_other_text(void **state)
{
    static const char *const bad[] = {"",
                                      "soon",
                                      "2h ago",
                                      "2026-13-01",
                                      "2026-03-02T",
                                      "12:00",
                                      "2026-03-02T10:00+99",
                                      "2026-03-02T10:00Zulu",
                                      "-5m"};
    int64_t at_us;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct psc_error err;
        if (unit_time_parse(bad[i], 0, &at_us, &err) != PSC_CONFIG) {
            fail_msg("'%s' was taken", bad[i]);
        }
    }
}

static void units_rates_are_bytes_per_second(void **state)
{
    struct psc_error err;
    int64_t rate;
    (void)state;
    assert_int_equal(unit_rate_parse("256K", &rate, &err), 0);
    assert_int_equal(rate, 256 * 1024);
    assert_int_equal(unit_rate_parse("1M/s", &rate, &err), 0);
    assert_int_equal(rate, 1048576);
    assert_int_equal(unit_rate_parse("0", &rate, &err), PSC_CONFIG);
    assert_int_equal(unit_rate_parse("fast", &rate, &err), PSC_CONFIG);
    assert_int_equal(unit_rate_parse("", &rate, &err), PSC_CONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(units_bytes_have_three_digits),
        cmocka_unit_test(units_counts_have_separators),
        cmocka_unit_test(units_spans_have_two_parts),
        cmocka_unit_test(units_ages_look_back_and_ahead),
        cmocka_unit_test(units_times_are_spans_or_dates),
        cmocka_unit_test(units_times_refuse_other_text),
        cmocka_unit_test(units_rates_are_bytes_per_second),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
