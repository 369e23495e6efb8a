/* Trend statistics over a few window values: Mann-Kendall with ties and
 * seasons, Theil-Sen slope, scatter about the line, correlation. Pure, no
 * allocation; docs/detection.md gives the formulas and their sources.
 *
 * A season is a window's number modulo @period; with period 1 there is one
 * season. Only values of one season are compared with each other, so a cycle
 * of @period windows is no trend. */
#ifndef PSC_DETECT_TREND_H
#define PSC_DETECT_TREND_H

#include <stdint.h>

#define TREND_MAX 20

struct trend_points {
    uint32_t n;          /* at most TREND_MAX, oldest first */
    double x[TREND_MAX]; /* window numbers, rising, perhaps with gaps */
    double y[TREND_MAX]; /* values */
};

/* The median of @v[0..n), n > 0. Reorders @v. */
double trend_median(double *v, uint32_t n);

/* Mann-Kendall: the standard score of S with continuity correction, positive
 * for a rise. Values within @band of each other count as neither rise nor
 * fall; equal values also lower the variance. 0 without evidence. */
double trend_kendall(const struct trend_points *p, uint32_t period,
                     double band);

/* Theil-Sen: the median slope over all pairs of one season, per window.
 * 0 if there is no pair. */
double trend_sen(const struct trend_points *p, uint32_t period);

/* Root mean square of the residuals about the line of @slope that runs
 * through the median of each season. */
double trend_scatter(const struct trend_points *p, double slope,
                     uint32_t period);

/* Pearson's correlation of the last values of both, as many as the shorter
 * one has. 0 if either is constant. */
double trend_correlation(const struct trend_points *a,
                         const struct trend_points *b);

/* The last @n points of @p (all if it has fewer). */
void trend_tail(const struct trend_points *p, uint32_t n,
                struct trend_points *tail);

/* The points of @p whose window number is at least @x. */
void trend_since(const struct trend_points *p, double x,
                 struct trend_points *since);

#endif
