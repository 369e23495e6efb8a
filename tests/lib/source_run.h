/* Runs one source of the agent, on a recorded tree or on this machine, and
 * looks into the sample. */
#ifndef PSC_TESTS_SOURCE_RUN_H
#define PSC_TESTS_SOURCE_RUN_H

#include "agent/source.h"

struct source_run {
    const struct source *source;
    struct source_env env;
    void *state;
    struct sample sample;
    struct psc_error err;
};

/* Open @source on tests/data/@tree, on the absolute path @tree, or with ""
 * live. Returns what open() returned; source_run_end() is due in any case. */
int source_run_begin(struct source_run *r, const struct source *source,
                     const char *tree, const char *state_dir);

/* Take one sample into fresh lists. Returns what collect() returned. */
int source_run_collect(struct source_run *r);
void source_run_end(struct source_run *r);

/* The values of a live tag, or NULL; @flags may be NULL. */
const int64_t *source_run_tag(const struct source_run *r, enum pool pool,
                              const char *text, uint8_t *flags);

/* A live counter's value, or -1. */
int64_t source_run_counter(const struct source_run *r, const char *name,
                           const char *instance);

#endif
