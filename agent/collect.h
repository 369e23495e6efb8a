/* Runs the sources: one tick's groups into the sample, with an eye on what each
 * source costs and whether it can run at all.
 *
 * A source that takes more than COLLECT_SLOW_US of CPU is sampled every k-th
 * tick only, and its last values are held in between. One that cannot run is
 * tried again at each tick of the drivers' group. When the state of any source
 * changes, `states` is a fresh list of records for the collector. */
#ifndef PSC_AGENT_COLLECT_H
#define PSC_AGENT_COLLECT_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/sample.h"
#include "agent/source.h"
#include "common/error.h"

#define COLLECT_SLOW_US     50000 /* of CPU for one collection */
#define COLLECT_MAX_SOURCES 32u

struct collect_slot {
    const struct source *source;
    void *state; /* the source's; valid while `open` */
    bool open;
    enum source_state health; /* as last told */
    char message[192];        /* with it */
    int64_t cost_us;          /* CPU of the last collection */
    unsigned n_slow;          /* collections over the limit in a row */
    unsigned every;           /* sampled at every so many ticks; 1: all */
    unsigned skipped;         /* ticks since it was sampled */
    unsigned n_runs;          /* collections that went well */
};

struct collect {
    struct sample sample;
    struct source_env env; /* its `shared` is owned */
    struct collect_slot slots[COLLECT_MAX_SOURCES];
    unsigned n_slots;
    int64_t (*cpu_us)(void); /* CPU time of this process; for tests */
    struct psc_buf states;   /* a record list of all sources */
    bool states_changed;     /* since collect_states_taken() */
    bool inventory_whole;    /* no source failed in the last inventory */
    bool events_kept;        /* the sample's events go with the next batch */
    char spool_trouble[192]; /* "" while the spool's disk works */
};

/* Open all of @sources (NULL-terminated; at most COLLECT_MAX_SOURCES). What
 * @env points to is borrowed. */
PSC_MUST_CHECK int collect_init(struct collect *c,
                                const struct source *const *sources,
                                const struct source_env *env,
                                struct psc_error *err);
void collect_fini(struct collect *c);

/* Fill c->sample from the sources of the groups in @due (bits 1 <<
 * enum source_group; events always) and hold the values of the others. */
void collect_run(struct collect *c, unsigned due);

/* The batch with what collect_run() gave has failed. The next values replace
 * these, but events come only once: the sample keeps them for the next batch,
 * and their sources are not asked for more meanwhile. */
void collect_keep_events(struct collect *c);

/* The spool's disk has what collect_run() gave: make the sources' positions
 * durable. */
void collect_commit(struct collect *c);

/* Report the spool's trouble (NULL: none) as the state of a source "spool". */
void collect_set_spool(struct collect *c, const char *trouble);

#endif
