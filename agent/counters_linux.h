/* Lines of /proc as counters, under the names that node_exporter gives them.
 * Pure: a line in, counters into the sample; a line that is not understood is
 * passed over. */
#ifndef PSC_AGENT_COUNTERS_LINUX_H
#define PSC_AGENT_COUNTERS_LINUX_H

#include "agent/sample.h"
#include "agent/text.h"

/* "Active(anon):  12 kB" is node_memory_Active_anon_bytes 12288. */
void counters_meminfo_line(struct sample *out, struct text line);

/* "slabs_scanned 291" is node_vmstat_slabs_scanned, if it tells of slabs,
 * reclaim or failure. */
void counters_vmstat_line(struct sample *out, struct text line);

/* The lines of file-nr and inode-nr. */
void counters_file_nr(struct sample *out, struct text line);
void counters_inode_nr(struct sample *out, struct text line);

/* The line of overcommit_memory: 0 a guess, 1 always, 2 never beyond
 * CommitLimit. */
void counters_overcommit(struct sample *out, struct text line);

/* "TCP: inuse 1 mem 144" is node_sockstat_TCP_inuse, node_sockstat_TCP_mem
 * and node_sockstat_TCP_mem_bytes. */
void counters_sockstat_line(struct sample *out, struct text line,
                            uint64_t page_bytes);

#endif
