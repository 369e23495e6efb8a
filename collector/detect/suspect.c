/* The tests of one series. Each exists because of a benign behaviour that
 * passes the others; docs/detection.md lists them with their thresholds. */
#include "collector/detect/suspect.h"

#include <math.h>

#define FAST_FOLLOW   6    /* windows a follower needs */
#define FOLLOW_Z      1.8  /* and its trend */
#define NOT_SLOWING   0.75 /* late half's slope over the early half's */
#define FAST_SCATTER  8.0  /* growth over scatter */
#define SLOW_SCATTER  8.0
#define FAST_OF_TOTAL (1 / 8192.0) /* growth over the host's memory */
#define FAST_GAPS     2.0          /* windows that may be missing */
#define STILL_RISING  0.25         /* of the slope: the leak's part of a ring */
#define DAILY_SHARE   0.35         /* of the mean day: a day's least growth */
#define LAST_DAY      0.6          /* of any day: the last day's least */
#define LAST_OF_THREE 0.85         /* if only three days show */
#define SLOW_SHORT    12           /* windows, once a week has been seen */
#define SLOW_WEEK     28
#define SLOW_ABOVE    0.25 /* of all earlier swing: above the peak */
#define ONSETS_FAST   1.5  /* windows apart in lockstep */
#define ONSETS_SLOW   4.0
#define LOCKSTEP      0.95 /* correlation of levels, known onsets */
#define LOCKSTEP_REST 0.5  /* of what the line leaves, unknown onsets */
#define REST_NOTHING  0.02 /* scatter over growth: the line leaves nothing */

static double highest(const struct trend_points *p, uint32_t from, uint32_t to)
{
    double top = -1;

    for (uint32_t i = from; i < to; i++) {
        top = fmax(top, p->y[i]);
    }
    return top;
}

static bool rising(const struct trend_points *p, uint32_t i, uint32_t lag,
                   double least)
{
    return i >= lag && p->y[i] - p->y[i - lag] > least * lag;
}

/* Where growth began: back from the newest floor while it rises at a fair
 * share of the slope, over one step or over two. */
static void find_fast_onset(const struct trend_points *p, struct suspect *out)
{
    uint32_t i = p->n - 1;

    while (rising(p, i, 1, STILL_RISING * out->slope) ||
           rising(p, i, 2, 2 * STILL_RISING * out->slope)) {
        i--;
    }
    double line = p->x[p->n - 1] - (p->y[p->n - 1] - p->y[i]) / out->slope;
    out->onset = fmin(fmax(line, p->x[i]), p->x[i] + 2);
    out->base = p->y[i];
    out->onset_known = i > 0;
}

static bool keeps_pace(const struct trend_points *tail)
{
    struct trend_points early = *tail;
    struct trend_points late;

    early.n = tail->n / 2 + 1;
    trend_tail(tail, early.n, &late);
    return trend_sen(&late, 1) >= NOT_SLOWING * trend_sen(&early, 1);
}

static bool rises_throughout(const struct trend_points *tail)
{
    uint32_t rises = 0;

    for (uint32_t i = 1; i < tail->n; i++) {
        rises += rising(tail, i, 1, series_band(tail->y[i])) ? 1 : 0;
    }
    return rises + 2 >= tail->n; /* one step may not */
}

bool suspect_fast(const struct detect_settings *settings, double total_bytes,
                  const struct series *s, const struct trend_points *p,
                  struct suspect *out)
{
    struct trend_points tail;

    trend_tail(p, FAST_WINDOWS, &tail);
    double band = series_band(s->floor);
    *out = (struct suspect){.slope = trend_sen(&tail, 1)};
    if (tail.n < FAST_FOLLOW || out->slope <= 0) {
        return false;
    }
    find_fast_onset(p, out);
    out->onset_known = out->onset_known || s->fast_seen > p->n;
    if (!out->onset_known) {
        trend_tail(p, FAST_WINDOWS_NEW, &tail);
        out->slope = trend_sen(&tail, 1);
    }
    out->windows = out->onset_known ? FAST_WINDOWS : FAST_WINDOWS_NEW;
    out->z = trend_kendall(&tail, 1, band);
    if (out->z < FOLLOW_Z) {
        return false;
    }
    uint32_t start = p->n - tail.n;
    double span = tail.x[tail.n - 1] - tail.x[0];
    double before = fmax((double)s->peak, highest(p, 0, start));
    out->growth = out->slope * span;
    out->scatter = trend_scatter(&tail, out->slope, 1);
    out->leads = (s->flags & (SERIES_RECLAIMABLE | SERIES_GONE)) == 0 &&
                 tail.n == out->windows && span < tail.n + FAST_GAPS &&
                 out->z >= settings->fast_z && rises_throughout(&tail) &&
                 keeps_pace(&tail) &&
                 out->growth >= FAST_SCATTER * out->scatter &&
                 out->growth >= settings->min_growth_share * tail.y[0] &&
                 out->growth >= FAST_OF_TOTAL * total_bytes &&
                 tail.y[tail.n - 1] > before + band;
    out->windows = tail.n;
    return true;
}

/* Means of whole days, counted back from the newest window. */
static uint32_t day_means(const struct trend_points *tail, double *day)
{
    uint32_t days = tail->n / SLOW_DAY;
    uint32_t start = tail->n - days * SLOW_DAY;

    for (uint32_t d = 0; d < days; d++) {
        day[d] = 0;
        for (uint32_t i = 0; i < SLOW_DAY; i++) {
            day[d] += tail->y[start + d * SLOW_DAY + i] / SLOW_DAY;
        }
    }
    return days;
}

/* Every day brings its share (a step does not), the last about as much as any
 * and the last two as much as any two (warm-up and plateaus do not). */
static bool grows_daily(const struct trend_points *tail)
{
    double day[TREND_MAX / SLOW_DAY];
    uint32_t days = day_means(tail, day);

    if (days < 3) {
        return false;
    }
    double mean = (day[days - 1] - day[0]) / (days - 1);
    double last = day[days - 1] - day[days - 2];
    double last_two = day[days - 1] - day[days - 3];
    double share = days > 3 ? LAST_DAY : LAST_OF_THREE;
    for (uint32_t d = 1; d < days; d++) {
        double one = day[d] - day[d - 1];
        double two = d > 1 ? day[d] - day[d - 2] : 0;
        if (one < DAILY_SHARE * mean || last < share * one ||
            last_two < NOT_SLOWING * two) {
            return false;
        }
    }
    return mean > 0;
}

/* Above the highest floor seen before, by a share of the swing before. */
static bool above_record(const struct series *s, const struct trend_points *p,
                         uint32_t start)
{
    double before = fmax((double)s->slow_peak, highest(p, 0, start));
    double trough = (double)s->slow_trough;
    double top = highest(p, p->n - SLOW_DAY, p->n);

    for (uint32_t i = 0; i < start; i++) {
        trough = fmin(trough, p->y[i]);
    }
    double margin = fmax(series_band(top), SLOW_ABOVE * (before - trough));
    return before < 0 || top > before + margin;
}

static void find_slow_onset(const struct trend_points *p, struct suspect *out)
{
    uint32_t i = p->n - 1;

    while (i > 0 &&
           (i < SLOW_DAY ? rising(p, i, 1, STILL_RISING * out->slope)
                         : rising(p, i, SLOW_DAY, STILL_RISING * out->slope))) {
        i--;
    }
    out->onset_known = i >= SLOW_DAY;
    out->onset = p->x[i];
    out->base = p->y[i];
}

static bool leads_slowly(const struct detect_settings *settings,
                         const struct series *s, const struct trend_points *p,
                         const struct trend_points *tail, struct suspect *out)
{
    double span = tail->x[tail->n - 1] - tail->x[0];
    double slope = trend_sen(tail, SLOW_DAY);
    double growth = slope * span;
    double z = trend_kendall(tail, SLOW_DAY, series_band(tail->y[0]));
    double scatter = trend_scatter(tail, slope, SLOW_DAY);

    if (span >= tail->n + FAST_GAPS || z < settings->slow_z ||
        slope * SLOW_DAY < settings->min_bytes_per_day ||
        growth < settings->min_growth_share * tail->y[0] ||
        growth < SLOW_SCATTER * scatter || !grows_daily(tail) ||
        !above_record(s, p, p->n - tail->n)) {
        return false;
    }
    out->slope = slope;
    out->z = z;
    out->scatter = scatter;
    out->growth = growth;
    out->windows = tail->n;
    return true;
}

bool suspect_slow(const struct detect_settings *settings,
                  const struct series *s, const struct trend_points *p,
                  struct suspect *out)
{
    struct trend_points tail;

    *out = (struct suspect){.windows = SLOW_SHORT};
    if (p->n < SLOW_SHORT || p->y[p->n - 1] <= p->y[0]) {
        return false;
    }
    trend_tail(p, SLOW_SHORT, &tail);
    out->slope = trend_sen(&tail, SLOW_DAY);
    out->z = trend_kendall(&tail, SLOW_DAY, series_band(tail.y[0]));
    if (out->slope <= 0 || out->z < FOLLOW_Z) {
        return false;
    }
    if ((s->flags & (SERIES_RECLAIMABLE | SERIES_GONE)) == 0) {
        out->leads =
            (p->n == SERIES_SLOW && leads_slowly(settings, s, p, p, out)) ||
            (s->slow_seen >= SLOW_WEEK + SLOW_SHORT &&
             leads_slowly(settings, s, p, &tail, out));
    }
    find_slow_onset(p, out);
    return true;
}

static void subtract_line(struct trend_points *p, double slope)
{
    for (uint32_t i = 0; i < p->n; i++) {
        p->y[i] -= slope * (p->x[i] - p->x[0]);
    }
}

static bool is_line(const struct suspect *s, const struct trend_points *p,
                    uint32_t period)
{
    return trend_scatter(p, s->slope, period) <=
           REST_NOTHING * s->slope * (p->x[p->n - 1] - p->x[0]);
}

bool suspect_lockstep(const struct suspect *a, const struct trend_points *pa,
                      const struct suspect *b, const struct trend_points *pb,
                      uint32_t period)
{
    double apart = period == 1 ? ONSETS_FAST : ONSETS_SLOW;

    if (a->onset_known != b->onset_known) {
        return false;
    }
    if (a->onset_known && fabs(a->onset - b->onset) > apart) {
        return false;
    }
    if (trend_correlation(pa, pb) < LOCKSTEP) {
        return false;
    }
    if (a->onset_known || (is_line(a, pa, period) && is_line(b, pb, period))) {
        return true;
    }
    struct trend_points rest_a = *pa;
    struct trend_points rest_b = *pb;
    subtract_line(&rest_a, a->slope);
    subtract_line(&rest_b, b->slope);
    return trend_correlation(&rest_a, &rest_b) >= LOCKSTEP_REST;
}
