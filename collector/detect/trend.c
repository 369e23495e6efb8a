/* Trend statistics. Series are short (TREND_MAX), so the plain O(n^2) forms
 * are the fastest; all working space is on the stack. */
#include "collector/detect/trend.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define PAIRS_MAX (TREND_MAX * (TREND_MAX - 1) / 2)

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

double trend_median(double *v, uint32_t n)
{
    assert(n > 0);
    qsort(v, n, sizeof *v, compare_doubles);
    return n % 2 != 0 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static bool same_season(const struct trend_points *p, uint32_t i, uint32_t j,
                        uint32_t period)
{
    return period <= 1 || fmod(p->x[j] - p->x[i], period) == 0;
}

/* n(n-1)(2n+5), the term that both the variance and its tie correction
 * are made of. */
static double variance_term(uint32_t n)
{
    double v = n;

    return v * (v - 1) * (2 * v + 5);
}

/* What point @i adds to the variance of S (times 18): its season's term if it
 * is the season's first point, less its tie's term if it is that tie's. */
static double variance_share(const struct trend_points *p, uint32_t i,
                             uint32_t period)
{
    uint32_t season = 0;
    uint32_t ties = 0;
    bool first = true;
    bool first_tie = true;

    for (uint32_t j = 0; j < p->n; j++) {
        if (!same_season(p, i, j, period)) {
            continue;
        }
        season++;
        first = first && j >= i;
        if (p->y[j] == p->y[i]) {
            ties++;
            first_tie = first_tie && j >= i;
        }
    }
    return (first ? variance_term(season) : 0) -
           (first_tie ? variance_term(ties) : 0);
}

double trend_kendall(const struct trend_points *p, uint32_t period, double band)
{
    double s = 0;
    double variance = 0;

    for (uint32_t i = 0; i < p->n; i++) {
        variance += variance_share(p, i, period);
        for (uint32_t j = i + 1; j < p->n; j++) {
            double rise = p->y[j] - p->y[i];
            if (same_season(p, i, j, period) && fabs(rise) > band) {
                s += rise > 0 ? 1 : -1;
            }
        }
    }
    variance /= 18;
    if (s == 0 || variance <= 0) {
        return 0;
    }
    return (s > 0 ? s - 1 : s + 1) / sqrt(variance);
}

double trend_sen(const struct trend_points *p, uint32_t period)
{
    double slopes[PAIRS_MAX];
    uint32_t n = 0;

    for (uint32_t i = 0; i < p->n; i++) {
        for (uint32_t j = i + 1; j < p->n; j++) {
            if (same_season(p, i, j, period) && p->x[j] > p->x[i]) {
                slopes[n++] = (p->y[j] - p->y[i]) / (p->x[j] - p->x[i]);
            }
        }
    }
    return n > 0 ? trend_median(slopes, n) : 0;
}

double trend_scatter(const struct trend_points *p, double slope,
                     uint32_t period)
{
    double sum = 0;

    for (uint32_t i = 0; i < p->n; i++) {
        double left[TREND_MAX];
        uint32_t n = 0;
        for (uint32_t j = 0; j < p->n; j++) {
            if (same_season(p, i, j, period)) {
                left[n++] = p->y[j] - slope * (p->x[j] - p->x[0]);
            }
        }
        double own = p->y[i] - slope * (p->x[i] - p->x[0]);
        double residual = own - trend_median(left, n);
        sum += residual * residual;
    }
    return p->n > 0 ? sqrt(sum / p->n) : 0;
}

double trend_correlation(const struct trend_points *a,
                         const struct trend_points *b)
{
    uint32_t n = a->n < b->n ? a->n : b->n;
    const double *u = a->y + (a->n - n);
    const double *v = b->y + (b->n - n);
    double mean_u = 0;
    double mean_v = 0;
    double uu = 0;
    double vv = 0;
    double uv = 0;

    for (uint32_t i = 0; i < n; i++) {
        mean_u += u[i] / n;
        mean_v += v[i] / n;
    }
    for (uint32_t i = 0; i < n; i++) {
        uu += (u[i] - mean_u) * (u[i] - mean_u);
        vv += (v[i] - mean_v) * (v[i] - mean_v);
        uv += (u[i] - mean_u) * (v[i] - mean_v);
    }
    return uu > 0 && vv > 0 ? uv / sqrt(uu * vv) : 0;
}

void trend_tail(const struct trend_points *p, uint32_t n,
                struct trend_points *tail)
{
    uint32_t keep = n < p->n ? n : p->n;

    tail->n = keep;
    memcpy(tail->x, p->x + (p->n - keep), keep * sizeof *p->x);
    memcpy(tail->y, p->y + (p->n - keep), keep * sizeof *p->y);
}

void trend_since(const struct trend_points *p, double x,
                 struct trend_points *since)
{
    uint32_t n = 0;

    while (n < p->n && p->x[p->n - 1 - n] >= x) {
        n++;
    }
    trend_tail(p, n, since);
}
