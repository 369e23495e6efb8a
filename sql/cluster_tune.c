#include "sql/cluster_tune.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
    BUFFERS_MIN_MB = 64,
    BUFFERS_MAX_MB = 2048,
    WAL_MIN_MB = 512,
    WAL_MAX_MB = 8192,
    WAL_PER_BUFFERS = 4,
    SHARE = 16, /* of memory, and of the disk */
    MIN_WAL_SHARE = 8,
};

static uint64_t clamp(uint64_t v, uint64_t least, uint64_t most)
{
    return v < least ? least : v > most ? most : v;
}

/* Buffers: a sixteenth of memory. They are to hold what is changed all the time
 * (hosts' cursors, the newest pages); what is only read is in the kernel's page
 * cache as well, and memory that is never used is never taken.
 *
 * WAL: every page is logged whole when it changes for the first time after a
 * checkpoint, and each checkpoint writes every changed buffer. So they are to
 * be rare: not before the WAL is four times the buffers, or a sixteenth of the
 * disk. */
struct cluster_tuning cluster_tune(uint64_t memory_bytes, uint64_t disk_bytes)
{
    uint64_t buffers_mb =
        clamp((memory_bytes >> 20) / SHARE, BUFFERS_MIN_MB, BUFFERS_MAX_MB);
    uint64_t wal_mb = clamp((disk_bytes >> 20) / SHARE, WAL_MIN_MB, WAL_MAX_MB);
    if (wal_mb > WAL_PER_BUFFERS * buffers_mb) {
        wal_mb = clamp(WAL_PER_BUFFERS * buffers_mb, WAL_MIN_MB, wal_mb);
    }
    return (struct cluster_tuning){
        .shared_buffers_mb = (unsigned)buffers_mb,
        .max_wal_mb = (unsigned)wal_mb,
        .min_wal_mb = (unsigned)(wal_mb / MIN_WAL_SHARE),
    };
}

/* What a container may have, by the file that its own view of cgroups has. */
static uint64_t container_bytes(void)
{
    char text[32] = "";
    FILE *f = fopen("/sys/fs/cgroup/memory.max", "re");
    if (f == NULL) {
        return 0;
    }
    bool read = fgets(text, sizeof(text), f) != NULL;
    (void)fclose(f);
    return read ? strtoull(text, NULL, 10) : 0; /* "max": 0 */
}

uint64_t cluster_memory_bytes(void)
{
    long pages = sysconf(_SC_PHYS_PAGES);
    long page_bytes = sysconf(_SC_PAGESIZE);
    uint64_t machine = pages > 0 && page_bytes > 0
                           ? (uint64_t)pages * (uint64_t)page_bytes
                           : 0;
    uint64_t container = container_bytes();
    return container > 0 && container < machine ? container : machine;
}

uint64_t cluster_disk_bytes(const char *path)
{
    struct statvfs st;
    return statvfs(path, &st) == 0 ? (uint64_t)st.f_blocks * st.f_frsize : 0;
}
