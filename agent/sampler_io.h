/* The sampler's clockwork: a timer on the loop that follows the boot clock,
 * also through a suspend. */
#ifndef PSC_AGENT_SAMPLER_IO_H
#define PSC_AGENT_SAMPLER_IO_H

#include <uv.h>

#include "agent/sampler.h"
#include "common/error.h"

struct sampler_timer {
    struct sampler *sampler; /* borrowed */
    uv_timer_t timer;
    /* Called at each tick with the groups that are due. */
    void (*on_tick)(void *user, unsigned due);
    void *user;
};

/* Run @sampler on @loop until sampler_timer_stop(); @t must then stay valid
 * until the loop has closed its timer. */
PSC_MUST_CHECK int sampler_timer_start(
    struct sampler_timer *t, uv_loop_t *loop, struct sampler *sampler,
    void (*on_tick)(void *user, unsigned due), void *user);

/* After the sampler's intervals have changed. */
void sampler_timer_update(struct sampler_timer *t);

void sampler_timer_stop(struct sampler_timer *t);

#endif
