/* A budget is kept as the time at which it will be full again: taking moves
 * that into the future, and no further than emptying it would. */
#include "collector/budget.h"

#include <string.h>

#include "common/clock.h"

#define HOUR_US (3600 * PSC_US_PER_S)

static const struct {
    const char *name;
    uint32_t burst;    /* when full */
    uint32_t per_hour; /* comes back */
} kinds[BUDGET_KINDS] = {
    [BUDGET_EVENTS] = {"events", 10000, 2400},
    [BUDGET_DRIVERS] = {"drivers", 50000, 5000},
    [BUDGET_TEXTS] = {"bytes of texts", 32 << 20, 4 << 20},
    [BUDGET_BOOTS] = {"boots", 200, 60},
};

const char *budget_name(enum budget_kind kind)
{
    return kinds[kind].name;
}

uint32_t budget_burst(enum budget_kind kind)
{
    return kinds[kind].burst;
}

/* Microseconds in which @n come back. */
static int64_t refill_us(enum budget_kind kind, uint32_t n)
{
    return (int64_t)n * HOUR_US / kinds[kind].per_hour;
}

bool budget_take(struct budget *b, enum budget_kind kind, uint32_t n,
                 int64_t now_us)
{
    int64_t full_us = b->of[kind].full_us;
    full_us = full_us > now_us ? full_us : now_us;
    if (n > kinds[kind].burst ||
        full_us + refill_us(kind, n) >
            now_us + refill_us(kind, kinds[kind].burst)) {
        b->of[kind].dropped += n;
        return false;
    }
    b->of[kind].full_us = full_us + refill_us(kind, n);
    return true;
}

bool budget_take_boot(struct budget *b, const uint8_t boot_id[16],
                      int64_t now_us)
{
    bool same =
        b->boot_known && memcmp(b->boot_id, boot_id, sizeof(b->boot_id)) == 0;
    if (!same && !budget_take(b, BUDGET_BOOTS, 1, now_us)) {
        return false;
    }
    b->boot_known = true;
    memcpy(b->boot_id, boot_id, sizeof(b->boot_id));
    return true;
}

int budget_tell(struct budget *b, int64_t now_us, uint64_t *dropped)
{
    for (int kind = 0; kind < BUDGET_KINDS; kind++) {
        int64_t told_us = b->of[kind].told_us;
        if (b->of[kind].dropped > 0 &&
            (told_us == 0 || now_us - told_us >= HOUR_US)) {
            *dropped = b->of[kind].dropped;
            b->of[kind].dropped = 0;
            b->of[kind].told_us = now_us;
            return kind;
        }
    }
    return -1;
}
