/* A simulated host for the tests of detection: values as functions of time
 * and of a seed go in, what detection tells is kept. */
#ifndef PSC_TESTS_DETECT_SIM_H
#define PSC_TESTS_DETECT_SIM_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "collector/detect/detect.h"
#include "proto/table.h"

#define SIM_TOLD_MAX 1024
#define SIM_START_US INT64_C(1700006400000000) /* a whole slow window */
#define SIM_SECOND   INT64_C(1000000)
#define SIM_DAY      86400.0
#define MB           1e6

struct sim {
    struct detect_host *host;
    int64_t at_us, interval_us;
    double room, total;
    struct detect_finding told[SIM_TOLD_MAX];
    uint32_t n_told;
    bool mute; /* feed history again: nobody is told */
};

/* splitmix64: the same numbers everywhere. */
static inline uint64_t sim_random(uint64_t *seed)
{
    uint64_t z = (*seed += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline double sim_uniform(uint64_t *seed, double low, double high)
{
    return low + (high - low) * (double)(sim_random(seed) >> 11) * 0x1p-53;
}

static inline double sim_normal(uint64_t *seed)
{
    double u = sim_uniform(seed, 1e-12, 1);

    return sqrt(-2 * log(u)) * cos(6.283185307179586 * sim_uniform(seed, 0, 1));
}

static inline void sim_told(void *user, const struct detect_finding *f)
{
    struct sim *sim = user;

    if (sim->n_told < SIM_TOLD_MAX) {
        sim->told[sim->n_told++] = *f;
    }
}

/* Returns false without memory. */
static inline bool sim_init(struct sim *sim, double interval_s)
{
    struct detect_settings settings;

    memset(sim, 0, sizeof *sim);
    detect_settings_default(&settings);
    sim->interval_us = (int64_t)(interval_s * (double)SIM_SECOND);
    sim->at_us = SIM_START_US - sim->interval_us;
    sim->room = 20e9;
    sim->total = 24e9;
    return detect_host_new(&settings, &sim->host) == 0;
}

static inline void sim_fini(struct sim *sim)
{
    detect_host_free(sim->host);
}

/* Seconds since the start, of the snapshot that sim_begin() began. */
static inline double sim_time(const struct sim *sim)
{
    return (double)(sim->at_us - SIM_START_US) / (double)SIM_SECOND;
}

static inline void sim_begin(struct sim *sim)
{
    sim->at_us += sim->interval_us;
    detect_begin(sim->host, sim->at_us, sim->interval_us);
}

static inline int sim_end(struct sim *sim)
{
    detect_room(sim->host, (int64_t)sim->room, (int64_t)sim->total);
    return detect_end(sim->host, sim->mute ? NULL : sim_told, sim);
}

/* The first telling of @change, or NULL. */
static inline const struct detect_finding *sim_first(const struct sim *sim,
                                                     enum detect_change change)
{
    for (uint32_t i = 0; i < sim->n_told; i++) {
        if (sim->told[i].change == change) {
            return &sim->told[i];
        }
    }
    return NULL;
}

static inline uint32_t sim_count(const struct sim *sim,
                                 enum detect_change change)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < sim->n_told; i++) {
        n += sim->told[i].change == change ? 1 : 0;
    }
    return n;
}

#endif
