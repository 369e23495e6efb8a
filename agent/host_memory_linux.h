/* Where the host's memory is, read once a tick for all sources that want it:
 * /proc/meminfo, vmstat and zoneinfo, and the residual (meminfo_linux.h). */
#ifndef PSC_AGENT_HOST_MEMORY_LINUX_H
#define PSC_AGENT_HOST_MEMORY_LINUX_H

#include "agent/meminfo_linux.h"
#include "agent/source.h"

struct host_memory {
    struct proc_file meminfo, vmstat, zoneinfo; /* the last two fd -1: none */
    uint64_t page_bytes;
    int64_t highest_total_bytes; /* of MemTotal, ever seen */
    bool shared;                 /* part of a struct source_shared */

    /* The last reading. */
    bool read;                   /* there is one */
    uint32_t tick;               /* generation of the sample it was for */
    struct psc_buf meminfo_text; /* the files, as they were */
    struct psc_buf vmstat_text;
    struct meminfo info;
    struct page_counts pages;
    int64_t unaccounted_bytes;
};

/* Give a source the reader: the one in @env->shared, or one of its own. The
 * file meminfo must be there; else PSC_MISSING, PSC_PERMISSION … and *@out is
 * NULL. host_memory_put() is due, and takes NULL as well. */
PSC_MUST_CHECK int host_memory_get(const struct source_env *env,
                                   struct host_memory **out,
                                   struct psc_error *err);
void host_memory_put(struct host_memory *h);

/* Read, if nobody has for this sample. What it says is valid until the next
 * sample begins. Returns 0, PSC_IO, PSC_FORMAT (no MemTotal), PSC_LIMIT or
 * PSC_NOMEM. */
PSC_MUST_CHECK int host_memory_read(struct host_memory *h,
                                    const struct sample *for_sample,
                                    struct psc_error *err);

#endif
