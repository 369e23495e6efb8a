/* What the agent reads on Linux. */
#include "agent/sources_linux.h"

#include <stddef.h>

const struct source *const agent_sources[] = {
    &source_slabinfo,
    &source_vmallocinfo,
    &source_allocinfo,
    &source_pages,
    &source_memory,
    &source_processes,
    &source_cgroups,
    &source_modules,
    &source_slab_aliases,
    &source_kernel_log,
    NULL,
};
