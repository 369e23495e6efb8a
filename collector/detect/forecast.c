/* What a slope will be over the time that is left.
 *
 * The textbook interval of a slope assumes errors that do not depend on each
 * other and a rate that stays. Neither holds, so it covers little. Here the
 * windows are cut into blocks, and the spread s of the k rates from each block
 * to the next stands for all that makes rates differ (batch means; Schmeiser
 * 1982, Operations Research 30, 556-568). The mean rate of m blocks to come
 * then differs from the mean of these k by Student's t times
 *
 *   s * sqrt(1 / k + 1 / m)
 *
 * in nine of ten cases. That a rate may turn into another one which the k did
 * not show yet is added: up to DRIFT of it, in full only where much more time
 * is left than was seen. tests/unit/test_forecast.c tells how often the truth
 * is within. */
#include "collector/detect/forecast.h"

#include <math.h>

#define BLOCK_WINDOWS 2 /* without seasons; else a block is all of them */
#define BLOCKS_LEAST  3
#define BLOCKS_MOST   TREND_MAX
#define DRIFT         0.35

/* Student's t: 5 % lie above, by degrees of freedom. */
static double student(uint32_t freedom)
{
    static const double t[] = {6.314, 2.920, 2.353, 2.132, 2.015,
                               1.943, 1.895, 1.860, 1.833, 1.812};
    const uint32_t most = sizeof t / sizeof t[0];

    return t[(freedom < most ? freedom : most) - 1];
}

/* The rates from each block of @length windows, counted back from the newest,
 * to the next. Returns how many. */
static uint32_t block_rates(const struct trend_points *p, uint32_t length,
                            double rate[BLOCKS_MOST])
{
    uint32_t blocks = p->n / length;
    uint32_t start = p->n - blocks * length;
    double x_before = 0;
    double y_before = 0;

    for (uint32_t i = 0; i < blocks; i++) {
        double x = 0;
        double y = 0;
        for (uint32_t j = 0; j < length; j++) {
            x += p->x[start + i * length + j] / length;
            y += p->y[start + i * length + j] / length;
        }
        if (i > 0) {
            rate[i - 1] = (y - y_before) / (x - x_before);
        }
        x_before = x;
        y_before = y;
    }
    return blocks > 0 ? blocks - 1 : 0;
}

/* How far the mean rate of @left windows to come may be off, as far as the
 * blocks show. */
static double block_error(const struct trend_points *p, uint32_t period,
                          double left)
{
    double rate[BLOCKS_MOST];
    uint32_t length = period > 1 ? period : BLOCK_WINDOWS;
    double mean = 0;
    double spread = 0;

    length = p->n / length < BLOCKS_LEAST ? 1 : length;
    uint32_t k = block_rates(p, length, rate);
    if (k < 2) {
        return 0;
    }
    for (uint32_t i = 0; i < k; i++) {
        mean += rate[i] / k;
    }
    for (uint32_t i = 0; i < k; i++) {
        spread += (rate[i] - mean) * (rate[i] - mean) / (k - 1);
    }
    double m = fmax(left / length, 1);
    return student(k - 1) * sqrt(spread * (1.0 / k + 1 / m));
}

void forecast_slopes(const struct trend_points *p, uint32_t period, double room,
                     struct forecast *f)
{
    f->slope = trend_sen(p, period);
    double left = f->slope > 0 ? fmax(room, 0) / f->slope : INFINITY;
    double unseen = left < INFINITY ? left / (left + p->n) : 1;
    double error =
        hypot(block_error(p, period, left), DRIFT * unseen * fabs(f->slope));

    f->lowest = f->slope - error;
    f->highest = f->slope + error;
}

int64_t forecast_time(double per_window, double room, int64_t window_us,
                      int64_t at_us)
{
    if (per_window <= 0) {
        return 0;
    }
    double left_us = fmax(room, 0) / per_window * (double)window_us;
    if (left_us >= (double)FORECAST_MAX_US) {
        return 0;
    }
    return at_us + (int64_t)left_us;
}
