/* When a room is used up: from the slope of what grows, with an interval that
 * is meant to hold the truth in nine of ten cases. Pure. */
#ifndef PSC_DETECT_FORECAST_H
#define PSC_DETECT_FORECAST_H

#include <stdint.h>

#include "collector/detect/trend.h"

/* Further away than this is not in sight. */
#define FORECAST_MAX_US (INT64_C(3650) * 86400 * 1000000)

/* Slopes in units of y per window. */
struct forecast {
    double slope;           /* over all points */
    double lowest, highest; /* mean slope to expect until the room is used up */
};

/* The slopes of @p, which has @period seasons, where @room is left, in units
 * of y. */
void forecast_slopes(const struct trend_points *p, uint32_t period, double room,
                     struct forecast *f);

/* When growth of @per_window in @window_us uses up @room from @at_us on: the
 * time, or 0 if that is not in sight. Never before @at_us. */
int64_t forecast_time(double per_window, double room, int64_t window_us,
                      int64_t at_us);

#endif
