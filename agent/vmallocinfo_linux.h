/* /proc/vmallocinfo: the areas of the vmalloc space and who asked for them.
 * Pure parser of its lines. */
#ifndef PSC_AGENT_VMALLOCINFO_LINUX_H
#define PSC_AGENT_VMALLOCINFO_LINUX_H

#include "agent/text.h"

struct vmalloc_area {
    struct text caller; /* the function, without offset */
    struct text module; /* without brackets; empty: the kernel itself */
    uint64_t bytes;     /* of its pages, else its size less the guard page */
};

/* Parse a line. False for what is none. An area without a caller gets its
 * kind as one ("vm_map_ram", "unpurged vm_area"). */
bool vmallocinfo_parse(struct text line, uint64_t page_bytes,
                       struct vmalloc_area *area);

/* Append the canonical text, "caller" or "caller [module]". What compilers
 * add to a function's name (.constprop.0) is cut off. */
void vmallocinfo_tag(const struct vmalloc_area *area, struct text_out *out);

#endif
