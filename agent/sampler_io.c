/* A timer that fires at the sampler's ticks.
 *
 * The loop's clock stands still while the machine is suspended and the boot
 * clock does not, so no sleep is longer than MAX_SLEEP_MS: a tick that fell
 * into the suspend is at most that late. */
#include "agent/sampler_io.h"

#include "common/clock.h"

enum { MAX_SLEEP_MS = 30 * 1000 };

static void arm(struct sampler_timer *t);

static void on_timer(uv_timer_t *timer)
{
    struct sampler_timer *t = timer->data;
    unsigned due = sampler_due(t->sampler, psc_clock_boot_us());
    if (due != 0) {
        t->on_tick(t->user, due);
    }
    if (!uv_is_closing((uv_handle_t *)timer)) {
        arm(t);
    }
}

static void arm(struct sampler_timer *t)
{
    int64_t wait_us = sampler_next(t->sampler) - psc_clock_boot_us();
    /* Rounded up: firing early would only arm it once more. */
    int64_t wait_ms = wait_us <= 0 ? 0 : (wait_us + 999) / 1000;
    wait_ms = wait_ms < MAX_SLEEP_MS ? wait_ms : MAX_SLEEP_MS;
    uv_update_time(t->timer.loop);
    (void)uv_timer_start(&t->timer, on_timer, (uint64_t)wait_ms, 0);
}

int sampler_timer_start(struct sampler_timer *t, uv_loop_t *loop,
                        struct sampler *sampler,
                        void (*on_tick)(void *user, unsigned due), void *user)
{
    t->sampler = sampler;
    t->on_tick = on_tick;
    t->user = user;
    if (uv_timer_init(loop, &t->timer) != 0) {
        return PSC_NOMEM;
    }
    t->timer.data = t;
    arm(t);
    return PSC_OK;
}

void sampler_timer_update(struct sampler_timer *t)
{
    arm(t);
}

void sampler_timer_stop(struct sampler_timer *t)
{
    uv_close((uv_handle_t *)&t->timer, NULL);
}
