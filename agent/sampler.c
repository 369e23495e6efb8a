/* Absolute ticks on the boot clock. */
#include "agent/sampler.h"

#include <string.h>

/* The first tick after @now_us. */
static int64_t tick_after(const struct sampler *s, int group, int64_t now_us)
{
    int64_t interval = s->interval_us[group];
    int64_t phase = (int64_t)(s->seed % (uint64_t)interval);
    int64_t since = (now_us - phase) % interval;
    if (since < 0) {
        since += interval;
    }
    return now_us - since + interval;
}

uint64_t sampler_seed(const char *host)
{
    /* FNV-1a, then mixed: the low bits of similar names must differ. */
    uint64_t h = 14695981039346656037u;
    for (; *host != '\0'; host++) {
        h = (h ^ (uint8_t)*host) * 1099511628211u;
    }
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdu;
    h ^= h >> 33;
    return h == 0 ? 1 : h;
}

void sampler_init(struct sampler *s, uint64_t seed,
                  const int64_t interval_us[SAMPLER_GROUPS], int64_t now_us)
{
    memset(s, 0, sizeof(*s));
    s->seed = seed;
    for (int g = 0; g < SAMPLER_GROUPS; g++) {
        s->interval_us[g] = interval_us[g];
        s->next_us[g] = now_us;
    }
}

void sampler_set_intervals(struct sampler *s,
                           const int64_t interval_us[SAMPLER_GROUPS],
                           int64_t now_us)
{
    for (int g = 0; g < SAMPLER_GROUPS; g++) {
        if (s->interval_us[g] != interval_us[g]) {
            s->interval_us[g] = interval_us[g];
            s->next_us[g] = tick_after(s, g, now_us);
        }
    }
}

int64_t sampler_next(const struct sampler *s)
{
    int64_t next = s->next_us[0];
    for (int g = 1; g < SAMPLER_GROUPS; g++) {
        next = s->next_us[g] < next ? s->next_us[g] : next;
    }
    return next;
}

unsigned sampler_due(struct sampler *s, int64_t now_us)
{
    unsigned due = 0;
    uint64_t missed = 0;
    for (int g = 0; g < SAMPLER_GROUPS; g++) {
        if (s->next_us[g] > now_us) {
            if (s->next_us[g] - now_us > s->interval_us[g]) {
                /* The clock went back, as in a machine restored from a
                 * snapshot. */
                s->next_us[g] = tick_after(s, g, now_us);
            }
            continue;
        }
        due |= 1u << g;
        uint64_t late =
            (uint64_t)(now_us - s->next_us[g]) / (uint64_t)s->interval_us[g];
        missed = late > missed ? late : missed;
        s->next_us[g] = tick_after(s, g, now_us);
    }
    s->missed += missed;
    return due;
}

uint64_t sampler_take_missed(struct sampler *s)
{
    uint64_t missed = s->missed;
    s->missed = 0;
    return missed;
}
