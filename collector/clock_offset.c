/* The offset between a host's clocks and the collector's. */
#include "collector/clock_offset.h"

#include <assert.h>

#include "common/clock.h"

/* The estimate rises by at most so much per second: twice what a bad quartz
 * drifts, and still only 0.7 s an hour. */
enum { SLEW_US_PER_S = 200 };

/* Clocks beyond this (some 4,500 years) are lies; cut, so that no sum of a
 * few of them can overflow. */
#define CLOCK_MAX_US ((int64_t)1 << 57)

static int64_t clamp(int64_t us)
{
    return us > CLOCK_MAX_US    ? CLOCK_MAX_US
           : us < -CLOCK_MAX_US ? -CLOCK_MAX_US
                                : us;
}

static int64_t earlier_of(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

void clock_offset_init(struct clock_offset *c, bool earlier_known,
                       int64_t earlier_us)
{
    *c = (struct clock_offset){
        .earlier_us = earlier_known ? clamp(earlier_us) : INT64_MIN,
    };
}

void clock_offset_observe(struct clock_offset *c, int64_t now_us,
                          int64_t wall_us, int64_t boottime_us)
{
    int64_t boot_us = now_us - clamp(boottime_us);
    if (c->known) {
        int64_t passed_us = now_us - c->updated_us;
        int64_t rise_us =
            passed_us > 0 ? passed_us / PSC_US_PER_S * SLEW_US_PER_S : 0;
        if (boot_us > c->boot_us + rise_us) {
            boot_us = c->boot_us + rise_us;
        }
    }
    /* A short while rounds to no rise at all: let it add up. */
    if (!c->known || boot_us != c->boot_us) {
        c->updated_us = now_us;
    }
    c->known = true;
    c->boot_us = boot_us;
    c->wall_us = boot_us + clamp(boottime_us) - clamp(wall_us);
}

int64_t clock_offset_at(const struct clock_offset *c, int64_t now_us,
                        int64_t boottime_us)
{
    assert(c->known);
    return earlier_of(c->boot_us + clamp(boottime_us), now_us);
}

int64_t clock_offset_earlier_at(const struct clock_offset *c, int64_t now_us,
                                int64_t wall_us)
{
    assert(c->known);
    int64_t offset_us = c->earlier_us != INT64_MIN ? c->earlier_us : c->wall_us;
    int64_t at_us = clamp(wall_us) + offset_us;
    return earlier_of(earlier_of(at_us, c->boot_us), now_us);
}
