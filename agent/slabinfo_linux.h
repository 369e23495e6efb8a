/* /proc/slabinfo: what each slab cache of the kernel holds. Pure parser of its
 * lines (SLUB and SLAB print the same fields) and the folding of cache names
 * that differ between hosts and kernels for the same thing. */
#ifndef PSC_AGENT_SLABINFO_LINUX_H
#define PSC_AGENT_SLABINFO_LINUX_H

#include "agent/text.h"

struct slab_row {
    struct text name; /* as the kernel prints it */
    uint64_t active_objs, num_objs, obj_size, objs_per_slab, pages_per_slab;
    uint64_t active_slabs, num_slabs;
};

/* Parse a line. False for heads, blank lines and whatever is no row. Names
 * with blanks are understood. */
bool slabinfo_parse(struct text line, struct slab_row *row);

/* Append the canonical text of cache @name to @out:
 *   size-64, size-64(DMA)        kmalloc-64, dma-kmalloc-64
 *   kmalloc-1024                 kmalloc-1k
 *   kmalloc-rnd-14-192           kmalloc-rnd-192
 *   nf_conntrack_ffffffff818b9000, pid_3, iwl_cmd_pool:0000:04:00.0
 *                                nf_conntrack, pid, iwl_cmd_pool
 *   dentry(881:sshd.service)     dentry */
void slab_name_fold(struct text name, struct text_out *out);

/* Whether a cache of this folded name is reclaimable on kernels that do not
 * tell (SLAB has no /sys/kernel/slab). */
bool slab_name_reclaimable(struct text folded);

#endif
