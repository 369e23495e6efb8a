/* The three clocks, each in microseconds. Portable: libuv and the C library
 * underneath. */
#ifndef PSC_COMMON_CLOCK_H
#define PSC_COMMON_CLOCK_H

#include <stdint.h>

#define PSC_US_PER_MS 1000LL
#define PSC_US_PER_S  1000000LL
/* 2000-01-01 UTC: what PostgreSQL counts its times from. */
#define PSC_YEAR_2000_US (946684800 * PSC_US_PER_S)

/* Wall clock, microseconds since 1970-01-01 UTC. May jump. */
int64_t psc_clock_wall_us(void);

/* Monotonic clock that does not count suspended time. For timeouts. */
int64_t psc_clock_mono_us(void);

/* Time since boot, suspended time included. For what batches carry. */
int64_t psc_clock_boot_us(void);

#endif
