/* The statistics of detection against values worked out by hand and against
 * their formulas: Mann, "Nonparametric tests against trend", Econometrica 13
 * (1945); Kendall, "Rank Correlation Methods" (1948), for the variance with
 * ties; Theil (1950) and Sen, JASA 63 (1968), for the slope; Hirsch, Slack and
 * Smith, Water Resources Research 18 (1982), for seasons. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "collector/detect/forecast.h"
#include "collector/detect/trend.h"

static struct trend_points line_of(const double *y, uint32_t n)
{
    struct trend_points p = {.n = n};

    for (uint32_t i = 0; i < n; i++) {
        p.x[i] = 100 + i;
        p.y[i] = y[i];
    }
    return p;
}

static void close_to(double value, double expected)
{
    if (fabs(value - expected) > 1e-9 * (1 + fabs(expected))) {
        fail_msg("%.12g instead of %.12g", value, expected);
    }
}

static void median_of_odd_and_even(void **state)
{
    (void)state;
    double odd[] = {9, 1, 5};
    double even[] = {4, 1, 3, 2};
    close_to(trend_median(odd, 3), 5);
    close_to(trend_median(even, 4), 2.5);
}

/* n = 4, 5, 6 all rising: S = 6, 10, 15; var = n(n-1)(2n+5)/18. */
static void kendall_of_short_rises(void **state)
{
    (void)state;
    double y[] = {1, 2, 3, 4, 5, 6};
    struct trend_points p = line_of(y, 4);
    close_to(trend_kendall(&p, 1, 0), 5 / sqrt(4 * 3 * 13 / 18.0));
    p = line_of(y, 5);
    close_to(trend_kendall(&p, 1, 0), 9 / sqrt(5 * 4 * 15 / 18.0));
    p = line_of(y, 6);
    close_to(trend_kendall(&p, 1, 0), 14 / sqrt(6 * 5 * 17 / 18.0));
}

/* 1 3 2 4: S = 5 - 1 = 4. Falling is the negative of rising. */
static void kendall_counts_falls(void **state)
{
    (void)state;
    double y[] = {1, 3, 2, 4};
    double back[] = {4, 2, 3, 1};
    struct trend_points p = line_of(y, 4);
    struct trend_points q = line_of(back, 4);
    close_to(trend_kendall(&p, 1, 0), 3 / sqrt(156 / 18.0));
    close_to(trend_kendall(&q, 1, 0), -3 / sqrt(156 / 18.0));
}

/* 1 2 2 3 3 3: S = 5 + 3 + 3 = 11; ties of 2 and 3 take 2*1*9 and 3*2*11 off
 * 6*5*17: var = (510 - 18 - 66) / 18. */
static void kendall_corrects_for_ties(void **state)
{
    (void)state;
    double y[] = {1, 2, 2, 3, 3, 3};
    struct trend_points p = line_of(y, 6);
    close_to(trend_kendall(&p, 1, 0), 10 / sqrt(426 / 18.0));
    double flat[] = {7, 7, 7, 7};
    p = line_of(flat, 4);
    close_to(trend_kendall(&p, 1, 0), 0);
}

/* Within the band of 1.5 only pairs two or more apart count: S = 3. */
static void kendall_has_a_dead_band(void **state)
{
    (void)state;
    double y[] = {1, 2, 3, 4};
    struct trend_points p = line_of(y, 4);
    close_to(trend_kendall(&p, 1, 1.5), 2 / sqrt(156 / 18.0));
    close_to(trend_kendall(&p, 1, 5), 0);
}

/* Two seasons of three values: each S = 3, var = 66/18; together 6. */
static void kendall_by_season(void **state)
{
    (void)state;
    double y[] = {10, 0, 11, 1, 12, 2};
    struct trend_points p = line_of(y, 6);
    close_to(trend_kendall(&p, 2, 0), 5 / sqrt(2 * 66 / 18.0));
    close_to(trend_sen(&p, 2), 0.5);
    close_to(trend_scatter(&p, 0.5, 2), 0);
}

/* Slopes of 0 1 9 3: 1, 4.5, 1, 8, 1, -6: median 1. One outlier of four does
 * not move it. */
static void sen_is_the_median_of_slopes(void **state)
{
    (void)state;
    double y[] = {0, 1, 9, 3};
    struct trend_points p = line_of(y, 4);
    close_to(trend_sen(&p, 1), 1);
    close_to(trend_scatter(&p, 1, 1), sqrt(49 / 4.0));
}

static void sen_knows_gaps(void **state)
{
    (void)state;
    struct trend_points p = {.n = 3, .x = {1, 2, 10}, .y = {2, 4, 20}};
    close_to(trend_sen(&p, 1), 2);
    close_to(trend_scatter(&p, 2, 1), 0);
    p.n = 1;
    close_to(trend_sen(&p, 1), 0);
}

static void correlation_of_the_common_end(void **state)
{
    (void)state;
    double a[] = {50, 1, 2, 3};
    double b[] = {2, 4, 6};
    double c[] = {6, 4, 2};
    double flat[] = {5, 5, 5};
    struct trend_points pa = line_of(a, 4);
    struct trend_points pb = line_of(b, 3);
    struct trend_points pc = line_of(c, 3);
    struct trend_points pf = line_of(flat, 3);
    close_to(trend_correlation(&pa, &pb), 1);
    close_to(trend_correlation(&pa, &pc), -1);
    close_to(trend_correlation(&pa, &pf), 0);
}

static void tail_and_since(void **state)
{
    (void)state;
    double y[] = {1, 2, 3, 4};
    struct trend_points p = line_of(y, 4);
    struct trend_points t;
    trend_tail(&p, 2, &t);
    assert_int_equal(t.n, 2);
    close_to(t.y[0], 3);
    trend_tail(&p, 9, &t);
    assert_int_equal(t.n, 4);
    trend_since(&p, 102.5, &t);
    assert_int_equal(t.n, 1);
    close_to(t.x[0], 103);
}

/* A line goes on as it is for as long as it was seen, about; a rate that
 * doubled half-way may stay or go back. */
static void forecast_spans_the_rates(void **state)
{
    (void)state;
    double line[] = {0, 2, 4, 6, 8, 10, 12, 14};
    double bent[] = {0, 1, 2, 3, 4, 6, 8, 10, 12};
    struct forecast f;
    struct trend_points p = line_of(line, 8);
    forecast_slopes(&p, 1, 0, &f);
    close_to(f.slope, 2);
    close_to(f.lowest, 2);
    close_to(f.highest, 2);
    forecast_slopes(&p, 1, 16, &f); /* as many windows to come as seen */
    close_to(f.slope, 2);
    assert_true(f.lowest > 1.5 && f.lowest < 1.8);
    assert_true(f.highest > 2.2 && f.highest < 2.5);
    forecast_slopes(&p, 1, 1e9, &f);
    assert_true(f.lowest > 1 && f.highest < 3);
    p = line_of(bent, 9);
    forecast_slopes(&p, 1, 0, &f);
    assert_true(f.slope > 1 && f.slope < 2);
    assert_true(f.highest >= 2);
    assert_true(f.lowest <= 1);
}

static void forecast_is_never_past(void **state)
{
    (void)state;
    /* 100 bytes at 10 a window of a second: ten seconds. */
    assert_int_equal(forecast_time(10, 100, 1000000, 5), 10000005);
    assert_int_equal(forecast_time(10, -100, 1000000, 5), 5);
    assert_int_equal(forecast_time(0, 100, 1000000, 5), 0);
    assert_int_equal(forecast_time(-1, 100, 1000000, 5), 0);
    assert_int_equal(forecast_time(1e-9, 1e12, 1000000, 5), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(median_of_odd_and_even),
        cmocka_unit_test(kendall_of_short_rises),
        cmocka_unit_test(kendall_counts_falls),
        cmocka_unit_test(kendall_corrects_for_ties),
        cmocka_unit_test(kendall_has_a_dead_band),
        cmocka_unit_test(kendall_by_season),
        cmocka_unit_test(sen_is_the_median_of_slopes),
        cmocka_unit_test(sen_knows_gaps),
        cmocka_unit_test(correlation_of_the_common_end),
        cmocka_unit_test(tail_and_since),
        cmocka_unit_test(forecast_spans_the_rates),
        cmocka_unit_test(forecast_is_never_past),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
