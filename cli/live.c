/* The agent's sources, opened in this process. See live.h. */
#include "cli/live.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "common/clock.h"

static bool wanted(const struct source *source)
{
    /* The process and cgroup scans cost more than all the others together
     * and say nothing about tags. */
    return source->group == SOURCE_TAGS ||
           (source->group == SOURCE_COUNTERS &&
            strcmp(source->name, "memory") == 0);
}

int live_open(struct live *l, const char *root, struct psc_error *err)
{
    struct source_env env = {.root = root};

    memset(l, 0, sizeof *l);
    sample_init(&l->sample);
    for (size_t i = 0; agent_sources[i]; i++) {
        const struct source *source = agent_sources[i];
        if (!wanted(source) || l->n_sources == LIVE_SOURCES_MAX) {
            continue;
        }
        void *state = NULL;
        struct psc_error *why = &l->sources[l->n_sources].why;
        int rc = source->open(&env, &state, why);
        if (rc == PSC_NOMEM) {
            live_close(l);
            return psc_error_set(err, rc, "out of memory");
        }
        l->sources[l->n_sources].source = source;
        l->sources[l->n_sources].state = rc == 0 ? state : NULL;
        l->sources[l->n_sources].failed = rc != 0;
        l->n_sources++;
    }
    return 0;
}

void live_close(struct live *l)
{
    for (size_t i = 0; i < l->n_sources; i++) {
        if (l->sources[i].state) {
            l->sources[i].source->close(l->sources[i].state);
        }
    }
    sample_fini(&l->sample);
    l->n_sources = 0;
}

int live_read(struct live *l, struct reading *out, struct psc_error *err)
{
    table_begin(&l->sample.tags);
    table_begin(&l->sample.counters);
    for (size_t i = 0; i < l->n_sources; i++) {
        if (!l->sources[i].state) {
            continue;
        }
        l->sample.source = (uint8_t)i;
        l->sources[i].failed =
            l->sources[i].source->collect(l->sources[i].state, &l->sample,
                                          &l->sources[i].why) != 0;
    }
    reading_clear(out);
    out->at_us = psc_clock_mono_us();
    int rc = reading_take(out, &l->sample.tags);
    return rc == 0 ? 0 : psc_error_set(err, rc, "%s", psc_strerror(rc));
}

bool live_counter(const struct live *l, const char *name, int64_t *value)
{
    const struct table *counters = &l->sample.counters;
    /* The key ends in an empty instance: the name with its final NUL. */
    uint32_t i = psc_map_find(&counters->names, name, strlen(name) + 1);

    if (i == PSC_MAP_NONE ||
        counters->entries[i].generation != counters->generation) {
        return false;
    }
    *value = table_values(counters, i)[0];
    if (counters->entries[i].flags & ENTRY_REAL) {
        double real;
        memcpy(&real, value, sizeof real);
        *value = llround(real);
    }
    return true;
}

const char *live_missing(const struct live *l, const char *source)
{
    for (size_t i = 0; i < l->n_sources; i++) {
        if (strcmp(l->sources[i].source->name, source) == 0 &&
            l->sources[i].failed) {
            return l->sources[i].why.msg;
        }
    }
    return NULL;
}

void live_print_missing(const struct live *l, FILE *out)
{
    for (size_t i = 0; i < l->n_sources; i++) {
        int code = l->sources[i].why.code;
        bool absent = code == PSC_MISSING || code == PSC_UNSUPPORTED;
        if (l->sources[i].failed && !absent) {
            fprintf(out, "without %s: %s\n", l->sources[i].source->name,
                    l->sources[i].why.msg);
        }
    }
}
