/* When to sample: pure arithmetic on the boot clock, which counts suspended
 * time.
 *
 * Ticks are absolute: those of a group are all moments t with
 * t % interval == phase, so nothing drifts. The phase comes from the host's
 * name, so a fleet that boots at once does not sample at once; groups whose
 * intervals divide each other tick together. After a suspend or a stall there
 * is one late sample, and the ticks without one are counted as missed. */
#ifndef PSC_AGENT_SAMPLER_H
#define PSC_AGENT_SAMPLER_H

#include <stdbool.h>
#include <stdint.h>

enum sampler_group {
    SAMPLER_TAGS,
    SAMPLER_COUNTERS,
    SAMPLER_DRIVERS,
    SAMPLER_GROUPS,
};

struct sampler {
    int64_t interval_us[SAMPLER_GROUPS];
    int64_t next_us[SAMPLER_GROUPS]; /* boot clock */
    uint64_t seed;                   /* of the phase; 0: none */
    uint64_t missed;                 /* ticks since sampler_take_missed() */
};

/* A stable number from a host's name, for the phase. Never 0. */
uint64_t sampler_seed(const char *host);

/* All groups are due at @now_us, then at their ticks. @seed 0: no jitter. */
void sampler_init(struct sampler *s, uint64_t seed,
                  const int64_t interval_us[SAMPLER_GROUPS], int64_t now_us);

/* Other intervals from the next ticks on. */
void sampler_set_intervals(struct sampler *s,
                           const int64_t interval_us[SAMPLER_GROUPS],
                           int64_t now_us);

/* The moment of the next tick of any group. */
int64_t sampler_next(const struct sampler *s);

/* The groups whose tick has come by @now_us, as bits 1 << group (0: none),
 * and move them to their first tick after it. */
unsigned sampler_due(struct sampler *s, int64_t now_us);

/* Ticks that no sample was taken for, since the last call. */
uint64_t sampler_take_missed(struct sampler *s);

#endif
