/* Setting up the fleet, its clocks, and its end.
 *
 * Happy path: fleet_run() -> fleet_enrol() -> the loop with all agents, until
 * the last one is done. The end comes when snapshots are no longer due (--for,
 * --snapshots, --from, a signal); agents then wait for what is not acknowledged
 * for as long as --drain says. */
#include "tests/bench/fleetsim/fleet.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "tests/bench/fleetsim/agent.h"
#include "tests/bench/fleetsim/truth_hash.h"

enum { SPARE_FILES = 64, FRAME_MAX_BYTES = 64 << 10, SIGNALS = 4 };

static const int signal_numbers[SIGNALS] = {SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

/* --- time --- */

int64_t fleet_due_us(const struct fleet *f, const struct truth_host *h,
                     uint64_t k)
{
    const struct state_run *run = f->run;
    if (k - run->first >= run->n) {
        return INT64_MAX;
    }
    int64_t due_us = state_time_us(&f->state, h, k);
    if (!run->history) {
        return due_us < f->stop_us ? due_us : INT64_MAX;
    }
    if (psc_clock_wall_us() >= f->stop_us) {
        return INT64_MAX;
    }
    if (f->options->compress == 0) {
        return 0;
    }
    return run->start_us + f->options->from_us +
           (due_us - run->start_us) / f->options->compress;
}

uint64_t fleet_due_end(const struct fleet *f, const struct truth_host *h,
                       int64_t now_us)
{
    const struct state_run *run = f->run;
    int64_t until_us = now_us < f->stop_us ? now_us : f->stop_us - 1;
    int64_t passed_us = until_us - run->start_us;
    if (run->history) {
        passed_us -= f->options->from_us;
        passed_us = f->options->compress == 0
                        ? INT64_MAX / 2
                        : passed_us * f->options->compress;
    }
    passed_us -= truth_phase_us(h);
    uint64_t n =
        passed_us < 0 ? 0 : (uint64_t)(passed_us / f->truth.s.interval_us) + 1;
    return run->first + (n < run->n ? n : run->n);
}

/* No more snapshots; @now: and no more waiting. */
static void finish(struct fleet *f, bool now)
{
    f->cut = f->cut || now;
    for (uint32_t i = 0; i < f->n; i++) {
        sim_agent_finish(&f->agents[i], now);
    }
}

static void show_progress(const struct fleet *f)
{
    const struct stats *s = &f->stats;
    int64_t passed_s = (psc_clock_mono_us() - f->began_us) / PSC_US_PER_S;
    (void)fprintf(stderr,
                  "\r%5" PRId64 " s  %u of %u agents live  %" PRIu64
                  " samples sent, %" PRIu64 " acknowledged, %" PRIu64
                  " due, %" PRIu64 " drops\033[K",
                  passed_s, f->n_live, f->n, s->samples, s->acked,
                  course_backlog(f), s->drops);
}

static void on_second(uv_timer_t *timer)
{
    struct fleet *f = timer->data;
    int64_t now_us = psc_clock_wall_us();
    state_flush(&f->state);
    course_note(f);
    if (f->progress) {
        show_progress(f);
    }
    if (now_us >= f->stop_us) {
        finish(f, now_us >= f->stop_us + f->options->drain_us);
    }
}

static void on_storm(uv_timer_t *timer)
{
    struct fleet *f = timer->data;
    if (psc_clock_wall_us() < f->stop_us) {
        psc_log_info("a storm");
        for (uint32_t i = 0; i < f->n; i++) {
            sim_agent_drop(&f->agents[i]);
        }
    }
}

/* SIGUSR1 and 2 bound the figures. Of the others the first one ends it in good
 * order, the second one at once. */
static void on_signal(uv_signal_t *signal, int number)
{
    struct fleet *f = signal->data;
    int64_t now_us = psc_clock_wall_us();
    if (number == SIGUSR1 || number == SIGUSR2) {
        (number == SIGUSR1 ? course_begin : course_end)(f);
        return;
    }
    finish(f, now_us >= f->stop_us);
    f->stop_us = now_us < f->stop_us ? now_us : f->stop_us;
}

void fleet_agent_done(struct fleet *f)
{
    if (++f->n_done < f->n) {
        return;
    }
    f->ended_us = psc_clock_mono_us();
    course_note(f);
    uv_close((uv_handle_t *)&f->second, NULL);
    uv_close((uv_handle_t *)&f->storm, NULL);
    for (unsigned i = 0; i < SIGNALS; i++) {
        uv_close((uv_handle_t *)&f->signals[i], NULL);
    }
    if (f->progress) {
        (void)fputc('\n', stderr);
    }
}

/* --- setting up --- */

static int check_files(const struct fleet *f, struct psc_error *err)
{
    struct rlimit limit;
    rlim_t need = f->n + SPARE_FILES;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return PSC_OK;
    }
    if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max < need) {
        return psc_error_set(
            err, PSC_LIMIT,
            "%u hosts need %llu file descriptors, and this process may have "
            "%llu (hard limit); run several simulators with --first, each "
            "with its own --state",
            f->n, (unsigned long long)need, (unsigned long long)limit.rlim_max);
    }
    if (limit.rlim_cur < need) {
        limit.rlim_cur = need;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
            return psc_error_set(err, PSC_LIMIT,
                                 "cannot raise the limit of file descriptors");
        }
    }
    return PSC_OK;
}

static int begin_run(struct fleet *f, struct psc_error *err)
{
    const struct sim_options *o = f->options;
    int64_t now_us = psc_clock_wall_us();
    int64_t interval_us = f->truth.s.interval_us;
    uint64_t n = o->snapshots > 0 ? (uint64_t)o->snapshots : UINT64_MAX;
    if (o->from_us > 0) {
        uint64_t all = (uint64_t)(o->from_us / interval_us);
        all = all > 0 ? all - 1 : 0; /* the last one may still come */
        n = n < all ? n : all;
    }
    int rc = state_begin_run(&f->state, now_us - o->from_us, now_us, n,
                             o->from_us > 0, err);
    f->run = f->state.runs + f->state.n_runs - 1;
    f->stop_us = INT64_MAX / 2;
    if (o->for_us > 0) {
        f->stop_us = now_us + o->for_us;
    } else if (o->snapshots > 0 && o->from_us == 0) {
        f->stop_us = now_us + (o->snapshots + 1) * interval_us;
    }
    return rc;
}

static int make_agents(struct fleet *f, struct psc_error *err)
{
    struct psc_tls_settings settings = {.verify = PSC_TLS_VERIFY_PEER,
                                        .ca_pem = (char *)f->state.ca.data};
    int rc = psc_tls_ctx_new(&settings, &f->ctx, err);
    f->agents = calloc(f->n, sizeof(*f->agents));
    if (f->agents == NULL) {
        return psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    for (uint32_t i = 0; i < f->n && rc == PSC_OK; i++) {
        rc = sim_agent_init(&f->agents[i], f, (uint32_t)f->options->first + i,
                            err);
    }
    return rc;
}

static void start_timers(struct fleet *f)
{
    uint64_t storm_ms = (uint64_t)f->options->storm_us / 1000;
    (void)uv_timer_init(&f->loop, &f->second);
    (void)uv_timer_init(&f->loop, &f->storm);
    f->second.data = f->storm.data = f;
    (void)uv_timer_start(&f->second, on_second, 1000, 1000);
    if (storm_ms > 0) {
        (void)uv_timer_start(&f->storm, on_storm, storm_ms, storm_ms);
    }
    for (unsigned i = 0; i < SIGNALS; i++) {
        (void)uv_signal_init(&f->loop, &f->signals[i]);
        f->signals[i].data = f;
        (void)uv_signal_start(&f->signals[i], on_signal, signal_numbers[i]);
    }
}

static int set_up(struct fleet *f, struct psc_error *err)
{
    const struct sim_options *o = f->options;
    struct truth_settings settings;
    unsigned count = 0;
    int rc = sim_options_truth(o, &settings, err);
    if (rc == PSC_OK) {
        rc = agent_options_endpoints(o->collector, &f->collector, 1, &count,
                                     err);
    }
    if (rc == PSC_OK && count == 0) {
        rc = psc_error_set(err, PSC_CONFIG, "--collector is empty");
    }
    if (rc == PSC_OK) {
        rc = check_files(f, err);
    }
    if (rc == PSC_OK) {
        rc = truth_init(&f->truth, &settings, err);
    }
    if (rc == PSC_OK) {
        rc = state_open(&f->state, o->state, &settings, o->prefix, err);
    }
    if (rc == PSC_OK &&
        encoder_init(&f->encoder, &f->truth, o->keyframes_us) != PSC_OK) {
        rc = psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    return rc;
}

int fleet_run(struct fleet *f, const struct sim_options *o,
              struct psc_error *err)
{
    *f = (struct fleet){.options = o, .n = (uint32_t)o->hosts};
    f->progress = isatty(STDERR_FILENO) == 1;
    (void)uv_loop_init(&f->loop);
    wire_decoder_init(&f->decoder);
    psc_buf_init(&f->frame, FRAME_MAX_BYTES);
    int rc = set_up(f, err);
    if (rc == PSC_OK) {
        rc = fleet_enrol(f, err);
    }
    if (rc == PSC_OK) {
        rc = begin_run(f, err);
    }
    if (rc == PSC_OK) {
        rc = make_agents(f, err);
    }
    if (rc == PSC_OK) {
        f->began_us = psc_clock_mono_us();
        rc = course_start(f, err);
    }
    if (rc != PSC_OK) {
        (void)uv_run(&f->loop, UV_RUN_NOWAIT);
        fleet_fini(f);
        return rc;
    }
    start_timers(f);
    uint64_t ramp_ms = (uint64_t)o->ramp_us / 1000 + 1;
    for (uint32_t i = 0; i < f->n; i++) {
        struct sim_agent *a = &f->agents[i];
        sim_agent_start(a, hash_draw(a->host.key, DRAW_PHASE, 1, 0) % ramp_ms);
    }
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
    state_flush(&f->state);
    return PSC_OK;
}

void fleet_fini(struct fleet *f)
{
    for (uint32_t i = 0; f->agents != NULL && i < f->n; i++) {
        sim_agent_fini(&f->agents[i]);
    }
    free(f->agents);
    course_fini(&f->course);
    SSL_CTX_free(f->ctx);
    encoder_fini(&f->encoder);
    state_close(&f->state);
    truth_fini(&f->truth);
    wire_decoder_fini(&f->decoder);
    psc_buf_fini(&f->frame);
    (void)uv_loop_close(&f->loop);
}
