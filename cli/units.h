/* Numbers as people read them: bytes, rates, spans and ages with units; and
 * the times that people type. Pure. */
#ifndef PSC_CLI_UNITS_H
#define PSC_CLI_UNITS_H

#include <stdint.h>

#include "common/error.h"

/* A short text, returned by value so that it can stand in a printf call. */
struct unit_text {
    char text[64];
};

/* "512 B", "1.50 KiB", "97.7 MiB": three significant digits. */
struct unit_text unit_bytes(double bytes);

/* Bytes a day: "22.1 GiB/day". */
struct unit_text unit_bytes_per_day(double bytes);

/* "5,246". */
struct unit_text unit_count(int64_t n);

/* A span of time with its two largest units, rounded: "45 s", "3 min",
 * "2 h 10 min", "25 h", from 48 h on "3 d 4 h". Negative spans read like
 * positive ones. */
struct unit_text unit_span(int64_t us);

/* A moment seen from @now_us, rounded: "just now", "in 12 min", "1.5 h ago",
 * "in 25 h", "3.2 d ago". */
struct unit_text unit_ago(int64_t at_us, int64_t now_us);

/* A running clock: "0:10", "1:02:03". */
struct unit_text unit_clock(int64_t us);

/* Read a point in time (microseconds since 1970, UTC): "now"; "15m", "2h",
 * "3d" (so long before @now_us); or ISO 8601 such as "2026-03-02",
 * "2026-03-02 14:00", "2026-03-02T14:00:05Z", "…+02:00"; without a zone it is
 * UTC, as all that is shown. */
PSC_MUST_CHECK int unit_time_parse(const char *text, int64_t now_us,
                                   int64_t *at_us, struct psc_error *err);

/* Read bytes per second: "256K", "1M/s". At least 1. */
PSC_MUST_CHECK int unit_rate_parse(const char *text, int64_t *bytes_per_s,
                                   struct psc_error *err);

#endif
