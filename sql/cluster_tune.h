/* How much of the machine the embedded server may have. It is a guest: the
 * machine may have other work, and a small fleet needs little. */
#ifndef PSC_SQL_CLUSTER_TUNE_H
#define PSC_SQL_CLUSTER_TUNE_H

#include <stdint.h>

struct cluster_tuning {
    unsigned shared_buffers_mb;
    unsigned max_wal_mb, min_wal_mb;
};

/* @memory_bytes of the machine, @disk_bytes of the file system that the
 * cluster is on; 0: unknown, and taken for little. Pure. */
struct cluster_tuning cluster_tune(uint64_t memory_bytes, uint64_t disk_bytes);

/* Of the machine, or of the container if that is less; 0: unknown. */
uint64_t cluster_memory_bytes(void);

/* Of the file system that @path is on; 0: unknown. */
uint64_t cluster_disk_bytes(const char *path);

#endif
