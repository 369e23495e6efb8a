/* One source on its own: see source_run.h. */
#include "tests/lib/source_run.h"

#include <stdio.h>
#include <string.h>

#include "tests/lib/temp.h"

int source_run_begin(struct source_run *r, const struct source *source,
                     const char *tree, const char *state_dir)
{
    memset(r, 0, sizeof(*r));
    r->source = source;
    bool relative = tree[0] != '\0' && tree[0] != '/';
    r->env.root = relative ? temp_path(PSC_TEST_DATA, tree) : tree;
    r->env.state_dir = state_dir;
    r->env.top_processes = 10;
    sample_init(&r->sample);
    return source->open(&r->env, &r->state, &r->err);
}

int source_run_collect(struct source_run *r)
{
    table_begin(&r->sample.tags);
    table_begin(&r->sample.counters);
    psc_buf_reset(&r->sample.drivers);
    psc_buf_reset(&r->sample.aliases);
    psc_buf_reset(&r->sample.events);
    r->sample.n_events = 0;
    return r->source->collect(r->state, &r->sample, &r->err);
}

void source_run_end(struct source_run *r)
{
    if (r->state != NULL) {
        r->source->close(r->state);
    }
    sample_fini(&r->sample);
}

static uint32_t live(const struct table *t, const void *key, size_t len)
{
    uint32_t i = psc_map_find(&t->names, key, len);
    return i != PSC_MAP_NONE && t->entries[i].live ? i : PSC_MAP_NONE;
}

const int64_t *source_run_tag(const struct source_run *r, enum pool pool,
                              const char *text, uint8_t *flags)
{
    char key[TABLE_KEY_MAX_BYTES];
    size_t len = strlen(text);
    key[0] = (char)pool;
    memcpy(key + 1, text, len + 1);
    uint32_t i = live(&r->sample.tags, key, len + 1);
    if (i == PSC_MAP_NONE) {
        return NULL;
    }
    if (flags != NULL) {
        *flags = r->sample.tags.entries[i].put_flags;
    }
    return table_values(&r->sample.tags, i);
}

int64_t source_run_counter(const struct source_run *r, const char *name,
                           const char *instance)
{
    char key[TABLE_KEY_MAX_BYTES];
    size_t name_len = strlen(name);
    size_t instance_len = strlen(instance);
    memcpy(key, name, name_len + 1);
    memcpy(key + name_len + 1, instance, instance_len + 1);
    uint32_t i = live(&r->sample.counters, key, name_len + 1 + instance_len);
    return i == PSC_MAP_NONE ? -1 : table_values(&r->sample.counters, i)[0];
}
