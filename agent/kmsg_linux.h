/* The kernel log: records of /dev/kmsg, and what they say about exhausted
 * memory, put together into events. Pure: records in, events out; the only
 * time is that of the records.
 *
 * Some failures are one line, others a dump of a hundred. Dumps of two CPUs
 * interleave: where records name their caller (CONFIG_PRINTK_CALLER) lines go
 * to the dump of the same caller; elsewhere to the one that still lacks such a
 * line, told apart by process name and time, the oldest first.
 *
 * Events come in the order in which they began, so that their positions only
 * ascend: the collector takes what is not above the last one for told. */
#ifndef PSC_AGENT_KMSG_LINUX_H
#define PSC_AGENT_KMSG_LINUX_H

#include "agent/text.h"

struct kmsg_record {
    uint64_t seq;
    int64_t at_us;       /* since boot, suspended time not counted */
    struct text caller;  /* "T123", "C0"; may be empty */
    struct text message; /* bytes other than ASCII are \xHH, so is a newline */
};

/* Parse "6,339,5140900,-,caller=T1;text". False for continuation lines. */
bool kmsg_parse(struct text line, struct kmsg_record *out);

#define KERNEL_DUMPS_MAX     8       /* open at once */
#define KERNEL_DUMP_ROWS     10      /* of each table, the largest */
#define KERNEL_DUMP_MODULES  4       /* named by the call trace */
#define KERNEL_DUMP_QUIET_US 2000000 /* after which a dump is over */

enum kernel_event_kind {
    KERNEL_NONE, /* a free place */
    KERNEL_SLAB_FAILURE,
    KERNEL_PAGE_FAILURE,
    KERNEL_VMAP_FAILURE,
    KERNEL_OOM,
    KERNEL_UNLOAD_LEAK,
    KERNEL_LOST, /* no failure: records that were overwritten before */
};
const char *kernel_event_name(enum kernel_event_kind kind);

/* Strings are cut to fit and always end in NUL; empty or -1: not told. */
struct kernel_slab_row {
    char name[48];
    int64_t used_bytes, total_bytes;
};
struct kernel_site_row {
    char site[128]; /* "mm/slub.c:12 func:f" as printed */
    int64_t bytes, calls;
};

struct kernel_dump {
    enum kernel_event_kind kind;
    uint64_t seq;           /* of its first record */
    int64_t at_us, last_us; /* first and last record */
    char caller[24];
    char message[256];                     /* the first line */
    char comm[32];                         /* process that failed to allocate */
    char gfp[128];                         /* flags as printed */
    char cache[64];                        /* slab failure */
    char module[64];                       /* unload leak */
    char site[128];                        /* unload leak: "FILE:LINE func:F" */
    char modules[KERNEL_DUMP_MODULES][64]; /* named by the call trace */
    char killed[32];
    int64_t order, node, cpu, object_bytes, size_bytes;
    int64_t slab_reclaimable_pages, slab_unreclaimable_pages, free_pages;
    int64_t killed_pid, killed_total_bytes, killed_anon_bytes;
    int64_t n_allocated_bytes; /* unload leak */
    int64_t n_records;         /* lost */
    bool in_cgroup;            /* the limit of a memory cgroup was hit */
    bool complete; /* no more lines to come; waits for those before it */
    /* Tables: rows may come as long as the flag is set. */
    bool in_slabs, in_sites, had_slabs, had_sites;
    uint32_t n_slabs, n_sites;
    struct kernel_slab_row slabs[KERNEL_DUMP_ROWS];
    struct kernel_site_row sites[KERNEL_DUMP_ROWS];
};

typedef void (*kernel_event_fn)(void *ctx, const struct kernel_dump *dump);

struct kernel_dumps {
    struct kernel_dump open[KERNEL_DUMPS_MAX];
    kernel_event_fn on_event; /* a dump is complete; called in this module's
                                 functions only */
    void *ctx;
};

void kernel_dumps_init(struct kernel_dumps *d, kernel_event_fn on_event,
                       void *ctx);

/* @n records from @seq on, before one of @at_us, were lost: an event as well.
 */
void kernel_dumps_lost(struct kernel_dumps *d, uint64_t seq, int64_t at_us,
                       uint64_t n);

/* Take a record. */
void kernel_dumps_feed(struct kernel_dumps *d, const struct kmsg_record *r);

/* Give out the dumps that are complete, or had no line since
 * @now_us - KERNEL_DUMP_QUIET_US; with INT64_MAX all of them. */
void kernel_dumps_flush(struct kernel_dumps *d, int64_t now_us);

/* The lowest sequence number that an open dump began at, or @next. */
uint64_t kernel_dumps_position(const struct kernel_dumps *d, uint64_t next);

/* Append what is known of a dump as a JSON object. */
void kernel_dump_json(const struct kernel_dump *dump, struct psc_buf *out);

#endif
