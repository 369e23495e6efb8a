/* State of one series. Minima are floats: 24 bits tell 4 KiB apart in a
 * level of 64 GiB, and halve the state. */
#include "collector/detect/series.h"

#include <math.h>
#include <string.h>

#define BAND_BYTES   16384.0
#define BAND_SHARE   0.0005
#define SETTLE_AFTER 4 /* windows without a rise */

void series_init(struct series *s, uint32_t id, uint8_t pool)
{
    memset(s, 0, sizeof *s);
    s->id = id;
    s->pool = pool;
    s->mover = SERIES_STILL;
    s->fast_min = NAN;
    s->slow_min = NAN;
    s->floor = NAN;
    s->peak = -1;
    s->slow_peak = -1;
    s->slow_trough = INFINITY;
}

double series_band(double level)
{
    return fmax(BAND_BYTES, BAND_SHARE * level);
}

static float lower(float min, bool held, int64_t last, int64_t bytes)
{
    float value = (float)bytes;

    if (isnan(min)) {
        return held && last < bytes ? (float)last : value;
    }
    return value < min ? value : min;
}

void series_set(struct series *s, int64_t bytes, bool fast_held, bool slow_held)
{
    s->fast_min = lower(s->fast_min, fast_held, s->last, bytes);
    s->slow_min = lower(s->slow_min, slow_held, s->last, bytes);
    s->last = bytes;
}

static void record_peak(struct series *s, const struct mover *m)
{
    if (m == NULL) {
        s->peak = fmaxf(s->peak, s->floor); /* fmaxf ignores NAN */
        return;
    }
    for (uint32_t i = 0; i < m->n; i++) {
        s->peak = fmaxf(s->peak, m->y[i]);
    }
}

void series_boot(struct series *s, const struct mover *m)
{
    if ((s->flags & SERIES_FOUND) == 0) {
        record_peak(s, m);
        for (uint32_t i = 0; i < s->n_slow; i++) {
            s->slow_peak = fmaxf(s->slow_peak, s->slow[i]);
        }
    }
    s->slow_trough = INFINITY; /* a level below this boot's is no swing */
    s->last = 0;
    s->fast_min = NAN;
    s->slow_min = NAN;
    s->floor = NAN;
    s->fast_seen = 0;
    s->slow_seen = 0;
    s->n_slow = 0;
}

static uint8_t count_up(uint8_t n)
{
    return n < UINT8_MAX ? (uint8_t)(n + 1) : n;
}

bool series_close_fast(struct series *s, struct mover *m, float *before)
{
    float now = isnan(s->fast_min) ? (float)s->last : s->fast_min;

    *before = s->floor;
    s->fast_min = NAN;
    s->fast_seen = count_up(s->fast_seen);
    if (m != NULL) {
        if (m->n == SERIES_FAST) {
            s->peak = fmaxf(s->peak, m->y[0]);
            memmove(m->y, m->y + 1, (SERIES_FAST - 1) * sizeof m->y[0]);
            m->n--;
        }
        m->y[m->n++] = now;
        s->floor = now;
        return false;
    }
    if ((double)now - (double)s->floor > series_band((double)now)) {
        s->floor = now;
        return true;
    }
    record_peak(s, NULL);
    s->floor = now;
    return false;
}

void series_drop_fast(struct series *s)
{
    s->fast_min = NAN;
}

void series_drop_slow(struct series *s)
{
    s->slow_min = NAN;
}

void series_close_slow(struct series *s)
{
    float now = isnan(s->slow_min) ? (float)s->last : s->slow_min;

    s->slow_min = NAN;
    s->slow_seen = count_up(s->slow_seen);
    if (s->n_slow == SERIES_SLOW) {
        s->slow_peak = fmaxf(s->slow_peak, s->slow[0]);
        s->slow_trough = fminf(s->slow_trough, s->slow[0]);
        memmove(s->slow, s->slow + 1, (SERIES_SLOW - 1) * sizeof s->slow[0]);
        s->n_slow--;
    }
    s->slow[s->n_slow++] = now;
}

void series_release(struct series *s, float peak)
{
    s->flags &= (uint8_t)~SERIES_FOUND;
    s->n_slow = 0;
    s->slow_seen = 0;
    s->peak = peak;
}

bool series_settle(struct series *s, const struct mover *m)
{
    if ((s->flags & SERIES_FOUND) != 0) {
        return false;
    }
    double now = (double)m->y[m->n - 1];
    bool fallen = now < (double)m->y[0];
    bool flat = m->n > SETTLE_AFTER &&
                now - (double)m->y[m->n - 1 - SETTLE_AFTER] <= series_band(now);
    if (!fallen && !flat) {
        return false;
    }
    record_peak(s, m);
    return true;
}

static void points(const float *y, uint32_t n, const double *x, uint32_t n_x,
                   struct trend_points *p)
{
    p->n = n < n_x ? n : n_x;
    for (uint32_t i = 0; i < p->n; i++) {
        p->x[i] = x[n_x - p->n + i];
        p->y[i] = (double)y[n - p->n + i];
    }
}

void mover_points(const struct mover *m, const double *x, uint32_t n_x,
                  struct trend_points *p)
{
    points(m->y, m->n, x, n_x, p);
}

void series_slow_points(const struct series *s, const double *x, uint32_t n_x,
                        struct trend_points *p)
{
    points(s->slow, s->n_slow, x, n_x, p);
}
