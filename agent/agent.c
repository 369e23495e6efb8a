/* The running agent.
 *
 * Happy path: on_tick() -> collect_run() -> batcher_take() -> the spool ->
 * uplink_kick(). SIGTERM and SIGINT: the timers stop, the uplink closes, the
 * loop runs out, the spool is closed; STOP_MS bounds it. SIGHUP: the options
 * are read into a fresh struct, checked, and swapped. */
#include "agent/agent.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "agent/batch.h"
#include "agent/collect.h"
#include "agent/enrol.h"
#include "agent/identity.h"
#include "agent/platform.h"
#include "agent/print.h"
#include "agent/sampler_io.h"
#include "agent/spool.h"
#include "agent/uplink.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"

enum { STOP_MS = 900, SIGNALS = 3, WARM_TICKS = 3 };

struct agent {
    int argc;
    char **argv; /* for SIGHUP */
    struct options *options;
    uv_loop_t loop;
    struct host_facts facts;
    struct identity identity;
    struct collect collect;
    struct spool spool;
    struct batcher batcher;
    struct uplink uplink;
    struct sampler sampler;
    struct sampler_timer ticks;
    uv_timer_t sync_timer;
    uv_timer_t stop_timer;
    uv_signal_t signals[SIGNALS];
    unsigned n_ticks;
    bool stopping;
};

static void env_of(const struct options *o, struct source_env *env)
{
    memset(env, 0, sizeof(*env));
    env->root = o->root == NULL ? "" : o->root;
    env->state_dir = o->state_dir;
    env->top_processes = (uint32_t)o->top_processes;
}

/* The name that this host enrols under. */
static const char *name_of(const struct options *o,
                           const struct host_facts *facts)
{
    return o->host != NULL && o->host[0] != '\0' ? o->host : facts->name;
}

static void intervals_of(const struct options *o, int64_t out[SAMPLER_GROUPS])
{
    out[SAMPLER_TAGS] = o->interval_us;
    out[SAMPLER_COUNTERS] = o->counter_interval_us;
    out[SAMPLER_DRIVERS] = o->driver_interval_us;
}

/* --- sampling --- */

static void on_tick(void *user, unsigned due)
{
    struct agent *a = user;
    struct batch_time time = {
        .wall_us = psc_clock_wall_us(),
        .boot_us = psc_clock_boot_us(),
        .mono_us = psc_clock_mono_us(),
    };
    if (batcher_wants_keyframe(&a->batcher, time.wall_us)) {
        due |= 1u << SOURCE_TAGS | 1u << SOURCE_COUNTERS;
    }
    collect_set_spool(&a->collect, spool_trouble(&a->spool));
    collect_run(&a->collect, due);
    uint64_t missed = sampler_take_missed(&a->sampler);
    if (batcher_take(&a->batcher, &a->collect, due, missed, &time) != PSC_OK) {
        a->sampler.missed += missed + 1;
        return;
    }
    if (a->collect.sample.n_events > 0) {
        /* A source may forget its events only when they are on disk. */
        if (spool_sync(&a->spool, time.mono_us)) {
            collect_commit(&a->collect);
        }
    }
    uplink_kick(&a->uplink);
    if (++a->n_ticks == WARM_TICKS) {
        platform_memory_trim();
    }
}

static void on_sync(uv_timer_t *timer)
{
    struct agent *a = timer->data;
    (void)spool_sync(&a->spool, psc_clock_mono_us());
}

static void on_want_keyframe(void *user)
{
    struct agent *a = user;
    batcher_want_keyframe(&a->batcher);
}

/* --- stopping --- */

static void on_uplink_stopped(void *user)
{
    struct agent *a = user;
    uplink_fini(&a->uplink);
    uv_close((uv_handle_t *)&a->stop_timer, NULL);
}

static void on_stop_late(uv_timer_t *timer)
{
    uv_stop(timer->loop);
}

static void stop(struct agent *a)
{
    if (a->stopping) {
        return;
    }
    a->stopping = true;
    sampler_timer_stop(&a->ticks);
    uv_close((uv_handle_t *)&a->sync_timer, NULL);
    for (unsigned i = 0; i < SIGNALS; i++) {
        uv_close((uv_handle_t *)&a->signals[i], NULL);
    }
    (void)uv_timer_start(&a->stop_timer, on_stop_late, STOP_MS, 0);
    uplink_stop(&a->uplink);
}

/* --- reloading --- */

/* @greet: what a hello tells has changed. */
static void apply(struct agent *a, bool greet)
{
    struct psc_error err;
    enum psc_log_level level = PSC_LOG_INFO;
    (void)psc_log_level_parse(a->options->log_level, &level);
    psc_log_init("poolscope-agent", level);
    int64_t intervals[SAMPLER_GROUPS];
    intervals_of(a->options, intervals);
    sampler_set_intervals(&a->sampler, intervals, psc_clock_boot_us());
    sampler_timer_update(&a->ticks);
    a->spool.o.max_bytes = (uint64_t)a->options->spool_max_bytes;
    uint64_t sync_ms = (uint64_t)a->options->spool_sync_us / 1000;
    (void)uv_timer_start(&a->sync_timer, on_sync, sync_ms, sync_ms);
    if (uplink_reload(&a->uplink, greet, &err) != PSC_OK) {
        psc_log_error("%s", err.msg);
    }
}

static bool same_text(const char *a, const char *b)
{
    return strcmp(a == NULL ? "" : a, b == NULL ? "" : b) == 0;
}

/* Whether the next hello will tell something else. */
static bool greets_anew(const struct options *a, const struct options *b)
{
    return !same_text(a->role, b->role) || !same_text(a->region, b->region) ||
           !same_text(a->labels, b->labels) || a->interval_us != b->interval_us;
}

/* Say what is not as @fresh has it before a restart, and keep it. */
static void keep_what_stays(const struct options *o, struct options *fresh)
{
    if (fresh->jitter != o->jitter) {
        psc_log_warn("jitter has changed: that needs a restart");
    }
    if (fresh->top_processes != o->top_processes) {
        psc_log_warn("top_processes has changed: that needs a restart");
    }
    if (!same_text(fresh->host, o->host)) {
        psc_log_warn("host has changed: the name counts when it enrols anew");
    }
    fresh->jitter = o->jitter;
    fresh->top_processes = o->top_processes;
}

static void reload(struct agent *a)
{
    struct options fresh;
    struct command_line line;
    struct psc_error err;
    memset(&fresh, 0, sizeof(fresh));
    int rc = psc_config_defaults(agent_options, &fresh, &err);
    if (rc == PSC_OK) {
        rc = agent_options_read(a->argc, a->argv, &fresh, &line, &err);
    }
    if (rc == PSC_OK) {
        rc = agent_options_check(&fresh, true, &err);
    }
    if (rc == PSC_OK && (!same_text(fresh.state_dir, a->options->state_dir) ||
                         !same_text(fresh.root, a->options->root))) {
        rc = psc_error_set(&err, PSC_CONFIG,
                           "state_dir and root change only with a restart");
    }
    if (rc != PSC_OK) {
        psc_log_error("configuration not reloaded: %s", err.msg);
        psc_config_fini(agent_options, &fresh);
        return;
    }
    bool greet = greets_anew(a->options, &fresh);
    keep_what_stays(a->options, &fresh);
    struct options old = *a->options;
    /* The sources hold on to these two. */
    char *root = fresh.root;
    char *state_dir = fresh.state_dir;
    fresh.root = old.root;
    fresh.state_dir = old.state_dir;
    old.root = root;
    old.state_dir = state_dir;
    *a->options = fresh;
    psc_config_fini(agent_options, &old);
    apply(a, greet);
    psc_log_info("configuration reloaded");
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct agent *a = handle->data;
    if (number == SIGHUP) {
        reload(a);
    } else {
        psc_log_info("stopping");
        stop(a);
    }
}

/* --- starting --- */

static int start_handles(struct agent *a)
{
    static const int numbers[SIGNALS] = {SIGTERM, SIGINT, SIGHUP};
    uint64_t sync_ms = (uint64_t)a->options->spool_sync_us / 1000;
    int status = uv_timer_init(&a->loop, &a->sync_timer);
    if (status == 0) {
        a->sync_timer.data = a;
        status = uv_timer_start(&a->sync_timer, on_sync, sync_ms, sync_ms);
    }
    if (status == 0) {
        status = uv_timer_init(&a->loop, &a->stop_timer);
        a->stop_timer.data = a;
    }
    for (unsigned i = 0; status == 0 && i < SIGNALS; i++) {
        status = uv_signal_init(&a->loop, &a->signals[i]);
        a->signals[i].data = a;
        if (status == 0) {
            status = uv_signal_start(&a->signals[i], on_signal, numbers[i]);
        }
    }
    return status;
}

static int open_spool(struct agent *a, struct psc_error *err)
{
    char dir[SPOOL_PATH_BYTES];
    int rc = psc_path_join(dir, sizeof(dir), a->options->state_dir, "spool");
    if (rc != PSC_OK) {
        return psc_error_set(err, rc, "state_dir: path is too long");
    }
    struct psc_error why;
    if (psc_dir_make(a->options->state_dir, 0700, &why) != PSC_OK ||
        psc_dir_make(dir, 0700, &why) != PSC_OK) {
        psc_log_warn("%s", why.msg); /* the spool will work in memory */
    }
    struct spool_options o = {
        .dir = dir,
        .max_bytes = (uint64_t)a->options->spool_max_bytes,
        .segment_bytes = SPOOL_SEGMENT_BYTES,
        .memory_bytes = SPOOL_MEMORY_BYTES,
        .fs = &spool_fs_uv,
    };
    return spool_open(&a->spool, &o, err);
}

/* Everything that needs no loop. */
static int open_parts(struct agent *a, struct psc_error *err)
{
    struct source_env env;
    env_of(a->options, &env);
    int rc = host_facts_read(&env, &a->facts, err);
    if (rc != PSC_OK) {
        return rc;
    }
    rc = open_spool(a, err);
    if (rc != PSC_OK) {
        return rc;
    }
    rc = identity_init(&a->identity, a->options->state_dir, err);
    if (rc != PSC_OK) {
        goto err_after_spool;
    }
    rc = collect_init(&a->collect, agent_sources, &env, err);
    if (rc != PSC_OK) {
        goto err_after_identity;
    }
    batcher_init(&a->batcher, &a->spool, a->facts.boot_id);
    return PSC_OK;

err_after_identity:
    identity_fini(&a->identity);
err_after_spool:
    spool_close(&a->spool);
    return rc;
}

static void close_parts(struct agent *a)
{
    batcher_fini(&a->batcher);
    collect_fini(&a->collect);
    identity_fini(&a->identity);
    spool_close(&a->spool);
}

static int start(struct agent *a, struct psc_error *err)
{
    const struct options *o = a->options;
    struct uplink_settings settings = {
        .loop = &a->loop,
        .spool = &a->spool,
        .identity = &a->identity,
        .options = o,
        .facts = &a->facts,
        .pace = &uplink_default_pace,
        .on_want_keyframe = on_want_keyframe,
        .on_stopped = on_uplink_stopped,
        .user = a,
    };
    int rc = uplink_init(&a->uplink, &settings, err);
    if (rc != PSC_OK) {
        return rc;
    }
    int64_t intervals[SAMPLER_GROUPS];
    intervals_of(o, intervals);
    sampler_init(&a->sampler,
                 o->jitter ? sampler_seed(name_of(o, &a->facts)) : 0, intervals,
                 psc_clock_boot_us());
    if (start_handles(a) != 0 ||
        sampler_timer_start(&a->ticks, &a->loop, &a->sampler, on_tick, a) !=
            PSC_OK) {
        return psc_error_set(err, PSC_NOMEM, "cannot start the loop");
    }
    uplink_start(&a->uplink);
    return PSC_OK;
}

int agent_run(int argc, char **argv, struct options *options,
              struct psc_error *err)
{
    static struct agent agent; /* one a process, and too large for a stack */
    struct agent *a = &agent;
    memset(a, 0, sizeof(*a));
    a->argc = argc;
    a->argv = argv;
    a->options = options;
    platform_memory_tune();
    if (uv_loop_init(&a->loop) != 0) {
        return psc_error_set(err, PSC_NOMEM, "cannot make a loop");
    }
    int rc = open_parts(a, err);
    if (rc != PSC_OK) {
        (void)uv_loop_close(&a->loop);
        return rc;
    }
    rc = start(a, err);
    if (rc == PSC_OK) {
        psc_log_info("poolscope-agent " PSC_VERSION " watches %s",
                     name_of(options, &a->facts));
        (void)uv_run(&a->loop, UV_RUN_DEFAULT);
        psc_log_info("stopped at seq %" PRIu64, a->spool.last_seq);
    }
    close_parts(a);
    /* Busy only after a stop that took too long. */
    (void)uv_loop_close(&a->loop);
    return rc;
}

/* --- one-time commands --- */

static void on_enrolled(void *user, const struct enrol_result *result)
{
    struct enrol_result *out = user;
    *out = *result;
}

static int enrol_at(const struct options *o, struct identity *identity,
                    const struct endpoint *endpoint, const char *token,
                    const struct host_facts *facts, struct psc_error *err)
{
    uv_loop_t loop;
    if (uv_loop_init(&loop) != 0) {
        return psc_error_set(err, PSC_NOMEM, "cannot make a loop");
    }
    static struct enrol operation;
    struct enrol_result result = {.err = {.code = PSC_CLOSED}};
    int rc =
        enrol_start(&operation, &loop, identity, endpoint, token,
                    name_of(o, facts), facts->os, on_enrolled, &result, err);
    if (rc == PSC_OK) {
        (void)uv_run(&loop, UV_RUN_DEFAULT);
        *err = result.err;
        rc = result.err.code;
    }
    if (rc != PSC_OK && strstr(err->msg, endpoint->host) == NULL) {
        (void)psc_error_prefix(err, "%s:%s", endpoint->host, endpoint->port);
    }
    (void)uv_loop_close(&loop);
    return rc;
}

int agent_enrol(const struct options *options, const char *token,
                struct psc_error *err)
{
    struct source_env env;
    env_of(options, &env);
    struct host_facts facts;
    struct identity identity;
    struct psc_token parsed;
    int rc = psc_token_parse(token, &parsed, err);
    memset(&parsed, 0, sizeof(parsed));
    if (rc != PSC_OK) {
        (void)psc_error_prefix(err, "--enrol");
        return rc;
    }
    rc = host_facts_read(&env, &facts, err);
    if (rc == PSC_OK) {
        rc = psc_dir_make(options->state_dir, 0700, err);
    }
    if (rc == PSC_OK) {
        rc = identity_init(&identity, options->state_dir, err);
    }
    if (rc != PSC_OK) {
        return rc;
    }
    struct endpoint list[OPTIONS_MAX_COLLECTORS];
    unsigned count;
    rc = agent_options_endpoints(options->collector, list,
                                 OPTIONS_MAX_COLLECTORS, &count, err);
    for (unsigned i = 0; i < count; i++) {
        rc = enrol_at(options, &identity, &list[i], token, &facts, err);
        if (rc == PSC_OK || rc == PSC_REFUSED) {
            break; /* the others would say the same */
        }
    }
    identity_fini(&identity);
    return rc;
}

int agent_once(const struct options *options, bool json, struct psc_error *err)
{
    struct source_env env;
    env_of(options, &env);
    env.state_dir = NULL; /* leave the agent's positions alone */
    struct host_facts facts;
    int rc = host_facts_read(&env, &facts, err);
    if (rc != PSC_OK) {
        return rc;
    }
    static struct collect collect;
    rc = collect_init(&collect, agent_sources, &env, err);
    if (rc != PSC_OK) {
        return rc;
    }
    collect_run(&collect, ~0u);
    rc = json ? print_json(stdout, &collect, &facts)
              : print_text(stdout, &collect, &facts);
    collect_fini(&collect);
    return rc == PSC_OK ? rc
                        : psc_error_set(err, rc, "print: %s", psc_strerror(rc));
}
