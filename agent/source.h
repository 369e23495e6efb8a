/* One small interface in front of everything the agent can read from an
 * operating system. A source is one file (slabinfo_linux.c, pooltags_windows.c)
 * and one constant struct; sources_linux.c and sources_windows.c list them.
 *
 * A source that cannot run says why and is tried again at the drivers'
 * interval; it is never fatal. */
#ifndef PSC_AGENT_SOURCE_H
#define PSC_AGENT_SOURCE_H

#include "agent/sample.h"
#include "common/error.h"

/* Which interval drives a source. */
enum source_group {
    SOURCE_TAGS,
    SOURCE_COUNTERS,
    SOURCE_DRIVERS, /* inventories */
    SOURCE_EVENTS,  /* at every tick of any kind */
};

/* What the sources of one collection share, so that a file that several want
 * is read once a tick; each operating system has its own. */
struct source_shared;
PSC_MUST_CHECK int source_shared_new(struct source_shared **out);
void source_shared_free(struct source_shared *shared);

struct source_env {
    const char *root;       /* "" on a live host, else a recorded tree in which
                               "<root>/proc/slabinfo" … are looked for */
    const char *state_dir;  /* for positions that persist; NULL: none */
    uint32_t top_processes; /* how many to report by each order */
    struct source_shared *shared; /* outlives the sources; NULL: each of them
                                     reads for itself */
};

struct source {
    const char *name; /* "slabinfo" */
    const char *help; /* one line: what it reads and what it needs */
    enum source_group group;
    /* Make the source's state. PSC_MISSING, PSC_PERMISSION or PSC_UNSUPPORTED
     * with a message that says what would help when it cannot run here. */
    int (*open)(const struct source_env *env, void **state,
                struct psc_error *err);
    /* Write one sample. Failing means that this tick has none of it. */
    int (*collect)(void *state, struct sample *out, struct psc_error *err);
    /* Make what collect() has read durable (event positions): the spool's disk
     * has it all. NULL where there is nothing. A source of events is not asked
     * for more until the spool has taken those that it has told, so it may go
     * on as soon as they are in the sample. */
    int (*commit)(void *state, struct psc_error *err);
    void (*close)(void *state);
};

/* NULL-terminated. */
extern const struct source *const agent_sources[];

/* Facts about the host that travel in the hello. */
struct host_facts {
    char name[256];
    char os[16], os_version[128], os_build[128];
    uint8_t boot_id[16];
    int64_t boot_wall_us;
    uint64_t ram_bytes;
};
PSC_MUST_CHECK int host_facts_read(const struct source_env *env,
                                   struct host_facts *facts,
                                   struct psc_error *err);

#endif
