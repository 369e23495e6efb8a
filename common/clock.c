/* The clocks, from libuv and the C library. */
#include "common/clock.h"

#include <uv.h>

#ifndef _WIN32
#include <time.h>
#endif

int64_t psc_clock_wall_us(void)
{
    uv_timeval64_t now;
    if (uv_gettimeofday(&now) != 0) {
        return 0;
    }
    return now.tv_sec * PSC_US_PER_S + now.tv_usec;
}

int64_t psc_clock_mono_us(void)
{
    return (int64_t)(uv_hrtime() / 1000);
}

int64_t psc_clock_boot_us(void)
{
#ifdef CLOCK_BOOTTIME
    /* uv_uptime() has seconds only. */
    struct timespec now;
    if (clock_gettime(CLOCK_BOOTTIME, &now) == 0) {
        return now.tv_sec * PSC_US_PER_S + now.tv_nsec / 1000;
    }
#endif
    return psc_clock_mono_us();
}
