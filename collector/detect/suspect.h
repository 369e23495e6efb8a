/* Whether one series, by its own window minima, looks like a leak. Pure. */
#ifndef PSC_DETECT_SUSPECT_H
#define PSC_DETECT_SUSPECT_H

#include <stdbool.h>
#include <stdint.h>

#include "collector/detect/detect.h"
#include "collector/detect/series.h"
#include "collector/detect/trend.h"

#define FAST_WINDOWS     10 /* eight of their nine steps must rise */
#define FAST_WINDOWS_NEW 12 /* for growth that was there at first sight */
#define SLOW_DAY         4  /* slow windows a day: seasons of the trend */

/* A series that grows: it may follow a group, and lead one if @leads. */
struct suspect {
    uint32_t series;  /* index in the host */
    bool leads;       /* passes every test by itself */
    bool onset_known; /* it was seen before it grew */
    bool taken;       /* already in a group, or judged */
    double slope;     /* bytes per window */
    double z;         /* Mann-Kendall */
    double scatter;   /* of the floors about their line, bytes */
    double growth;    /* along the line, over the windows of the test */
    double onset;     /* where the line left the level before: window number */
    double base;      /* floor at the onset */
    uint32_t windows; /* that z covers */
};

/* Judge the fast floors @p of @s. @total_bytes is the host's memory. Returns
 * false if it does not even grow. */
bool suspect_fast(const struct detect_settings *settings, double total_bytes,
                  const struct series *s, const struct trend_points *p,
                  struct suspect *out);

/* Judge the slow floors @p of @s likewise. */
bool suspect_slow(const struct detect_settings *settings,
                  const struct series *s, const struct trend_points *p,
                  struct suspect *out);

/* Whether two suspects grow together: same onset, same shape. */
bool suspect_lockstep(const struct suspect *a, const struct trend_points *pa,
                      const struct suspect *b, const struct trend_points *pb,
                      uint32_t period);

#endif
