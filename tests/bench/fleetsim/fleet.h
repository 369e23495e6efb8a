/* The whole fleet in one loop: the agents, what they share, and the time. */
#ifndef PSC_TESTS_BENCH_FLEETSIM_FLEET_H
#define PSC_TESTS_BENCH_FLEETSIM_FLEET_H

#include <uv.h>

#include "agent/options.h"
#include "common/conn.h"
#include "proto/wire.h"
#include "tests/bench/fleetsim/course.h"
#include "tests/bench/fleetsim/encode.h"
#include "tests/bench/fleetsim/options.h"
#include "tests/bench/fleetsim/state.h"
#include "tests/bench/fleetsim/stats.h"

struct sim_agent;

struct fleet {
    const struct sim_options *options; /* borrowed */
    struct endpoint collector;
    uv_loop_t loop;
    uv_timer_t second, storm;
    uv_signal_t signals[4]; /* SIGINT, SIGTERM, SIGUSR1, SIGUSR2 */
    struct truth truth;
    struct state state;
    const struct state_run *run; /* the present one; in state */
    struct encoder encoder;
    struct stats stats; /* since the start */
    struct course course;
    struct wire_decoder decoder;
    struct psc_buf frame; /* of other messages than batches */
    SSL_CTX *ctx;         /* of all agents; each shows its own certificate */
    struct sim_agent *agents;
    uint32_t n, n_live, n_done;
    int64_t began_us; /* monotonic */
    int64_t ended_us; /* likewise, when the last agent was done; 0: not yet */
    int64_t stop_us;  /* wall clock: no snapshot from here on */
    bool progress;    /* show how it goes */
    bool cut;         /* the end came before all was acknowledged */
};

/* Enrol the hosts that are not yet. */
PSC_MUST_CHECK int fleet_enrol(struct fleet *f, struct psc_error *err);

/* Set up, enrol, run until the end. On success fleet_fini() is due after the
 * figures are read; on failure everything is freed. */
PSC_MUST_CHECK int fleet_run(struct fleet *f, const struct sim_options *o,
                             struct psc_error *err);
void fleet_fini(struct fleet *f);

/* When a host's snapshot @k is to be sent, by the wall clock; INT64_MAX: not
 * in this run. */
int64_t fleet_due_us(const struct fleet *f, const struct truth_host *h,
                     uint64_t k);

/* The first snapshot of this run that a host is not to send by @now_us. */
uint64_t fleet_due_end(const struct fleet *f, const struct truth_host *h,
                       int64_t now_us);

/* An agent has sent all it had, or given up at the end. */
void fleet_agent_done(struct fleet *f);

/* The figures, as a table on standard output and as JSON in --report. */
PSC_MUST_CHECK int fleet_report(const struct fleet *f, struct psc_error *err);

/* The information of the samples that these options describe. */
PSC_MUST_CHECK int fleet_print_entropy(const struct sim_options *o,
                                       struct psc_error *err);

#endif
