/* /proc/allocinfo (Linux 6.10 and newer with CONFIG_MEM_ALLOC_PROFILING): what
 * each line of the kernel's source has allocated. Pure parser of its lines. */
#ifndef PSC_AGENT_ALLOCINFO_LINUX_H
#define PSC_AGENT_ALLOCINFO_LINUX_H

#include "agent/text.h"

struct alloc_site {
    uint64_t bytes, calls;
    struct text file;   /* without the line */
    struct text module; /* without brackets; empty: the kernel itself */
    struct text function;
};

/* Parse a line of version 1.0, 2.0 or of the builds that had no head. False
 * for the heads and whatever is no site. */
bool allocinfo_parse(struct text line, struct alloc_site *site);

/* Append the canonical text, "FILE func:NAME" or "FILE [MODULE] func:NAME":
 * as the kernel prints it, without the line, so that it survives a rebuild. */
void allocinfo_tag(const struct alloc_site *site, struct text_out *out);

#endif
