/* The textbook interval of a Sen slope assumes a constant rate, and real leak
 * rates drift; slopes over the last n, n/2 and n/4 windows show the drift.
 * Each is widened by its standard error from the scatter about the line, to
 * the 10 % and 90 % points of the normal distribution. */
#include "collector/detect/forecast.h"

#include <math.h>

#define NORMAL_90 1.2816

/* The least-squares standard error of a slope over @n equally spaced points
 * with residuals of @scatter. */
static double slope_error(double scatter, uint32_t n)
{
    double v = n;

    return n > 1 ? scatter * sqrt(12 / (v * v * v - v)) : 0;
}

void forecast_slopes(const struct trend_points *p, uint32_t period,
                     struct forecast *f)
{
    uint32_t least = 2 * period > 4 ? 2 * period : 4;

    f->slope = trend_sen(p, period);
    f->lowest = f->slope;
    f->highest = f->slope;
    double scatter = trend_scatter(p, f->slope, period);

    for (uint32_t part = 1; part <= 4; part *= 2) {
        uint32_t n = p->n / part > least ? p->n / part : least;
        struct trend_points tail;
        trend_tail(p, n, &tail);
        double slope = trend_sen(&tail, period);
        double error = NORMAL_90 * slope_error(scatter, tail.n);
        f->lowest = fmin(f->lowest, slope - error);
        f->highest = fmax(f->highest, slope + error);
    }
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
