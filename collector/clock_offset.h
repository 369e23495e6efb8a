/* When a batch was taken, on the collector's clock. Pure: time comes in.
 *
 * An agent tells two clocks of its own with everything it sends: the wall
 * clock, which may be wrong or jump, and the time since boot, which only runs.
 * What a message shows is "collector's now less time since boot" = when the
 * host booted, plus the delay on the way. The smallest value seen is the best
 * one; it may rise slowly, for clocks that drift apart. */
#ifndef PSC_COLLECTOR_CLOCK_OFFSET_H
#define PSC_COLLECTOR_CLOCK_OFFSET_H

#include <stdbool.h>
#include <stdint.h>

struct clock_offset {
    bool known;         /* something has been observed */
    int64_t boot_us;    /* collector's time at which the host booted */
    int64_t updated_us; /* collector's time of the last observation */
    int64_t wall_us;    /* to add to the host's wall clock of this boot */
    int64_t earlier_us; /* likewise for earlier boots */
};

/* @earlier_known: @earlier_us is what an earlier session measured last;
 * otherwise the present wall clock stands for earlier ones too. */
void clock_offset_init(struct clock_offset *c, bool earlier_known,
                       int64_t earlier_us);

/* A message that was sent at @boottime_us and @wall_us of the host's clocks
 * has arrived at @now_us of the collector's. Any values are taken. */
void clock_offset_observe(struct clock_offset *c, int64_t now_us,
                          int64_t wall_us, int64_t boottime_us);

/* The collector's time of a capture in the host's present boot: never later
 * than @now_us. Something must have been observed. */
int64_t clock_offset_at(const struct clock_offset *c, int64_t now_us,
                        int64_t boottime_us);

/* The same for a capture in an earlier boot, by its wall clock: never later
 * than the present boot's start. */
int64_t clock_offset_earlier_at(const struct clock_offset *c, int64_t now_us,
                                int64_t wall_us);

#endif
