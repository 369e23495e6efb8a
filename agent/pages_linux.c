/* Source pages: the tag "unaccounted" of pool pages, memory that no counter of
 * the kernel explains (meminfo_linux.h says what is subtracted). Needs nothing
 * but /proc/meminfo; without vmstat and zoneinfo it is less steady. */
#include "agent/host_memory_linux.h"
#include "agent/sources_linux.h"

static int pages_collect(void *state, struct sample *out, struct psc_error *err)
{
    struct host_memory *memory = state;
    int rc = host_memory_read(memory, out, err);
    if (rc != 0) {
        return rc;
    }
    struct tag_values v = {
        .flags = TAG_BYTES,
        .bytes = memory->unaccounted_bytes,
    };
    static const char TEXT[] = "unaccounted";
    return sample_tag(out, POOL_PAGES, TEXT, sizeof(TEXT) - 1, &v);
}

static void pages_close(void *state)
{
    host_memory_put(state);
}

static int pages_open(const struct source_env *env, void **state,
                      struct psc_error *err)
{
    struct host_memory *memory;
    int rc = host_memory_get(env, &memory, err);
    *state = memory;
    return rc;
}

const struct source source_pages = {
    .name = "pages",
    .help = "memory that nothing accounts for, from /proc/meminfo",
    .group = SOURCE_TAGS,
    .open = pages_open,
    .collect = pages_collect,
    .close = pages_close,
};
