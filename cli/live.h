/* This machine's tags, from the agent's own sources: what `top` without a
 * database and `leaktest` look at. */
#ifndef PSC_CLI_LIVE_H
#define PSC_CLI_LIVE_H

#include <stdbool.h>
#include <stdio.h>

#include "agent/source.h"
#include "cli/reading.h"

#define LIVE_SOURCES_MAX 32

struct live {
    struct sample sample;
    struct {
        const struct source *source;
        void *state;          /* NULL: could not be opened */
        struct psc_error why; /* why it is not open, or failed last time */
        bool failed;          /* the last collect() failed */
    } sources[LIVE_SOURCES_MAX];
    size_t n_sources;
};

/* Open the sources of tags and memory counters under @root ("" for the live
 * system). A source that cannot run is remembered with its reason and left
 * out. Fails only when memory is short. */
PSC_MUST_CHECK int live_open(struct live *l, const char *root,
                             struct psc_error *err);
void live_close(struct live *l);

/* Take a sample into @out (emptied first). */
PSC_MUST_CHECK int live_read(struct live *l, struct reading *out,
                             struct psc_error *err);

/* A counter of the last sample, such as "node_memory_MemAvailable_bytes".
 * Returns false if no source gave it. */
bool live_counter(const struct live *l, const char *name, int64_t *value);

/* Why a source is not there or failed, or NULL if it works or is unknown. */
const char *live_missing(const struct live *l, const char *source);

/* One line for every source that the kernel has but that gives nothing, with
 * its reason. */
void live_print_missing(const struct live *l, FILE *out);

#endif
