/* Kernel memory of control groups: pure parser of memory.stat (version 2). */
#ifndef PSC_AGENT_CGROUPS_LINUX_H
#define PSC_AGENT_CGROUPS_LINUX_H

#include "agent/text.h"

struct cgroup_memory {
    int64_t kernel; /* all of the kernel's for this group; before Linux 5.18
                       the sum of the parts */
    int64_t slab_reclaimable, slab_unreclaimable;
    int64_t percpu, stack, page_tables, vmalloc;
    int64_t sock; /* network buffers; not in kernel */
    bool has_kernel;
};

/* Put what a line of memory.stat says into @m, which began as zeros. */
void cgroup_stat_line(struct cgroup_memory *m, struct text line);

/* Call after the last line: makes up `kernel` where it is missing. */
void cgroup_stat_end(struct cgroup_memory *m);

#endif
