/* Where a Linux host's memory is: parsers of /proc/meminfo, /proc/vmstat and
 * /proc/zoneinfo, and the unaccounted residual. Pure, but for meminfo_read().
 *
 * Unaccounted is MemTotal less everything that some counter of the kernel
 * explains, each page once:
 *   free       MemFree, and the pages on the CPUs' own free lists (zoneinfo),
 *              which the kernel counts as neither free nor used
 *   users      the greater of (all LRU lists + isolated pages) and (Buffers +
 *              Cached + AnonPages): each is a lower bound of the same pages.
 *              Shmem is in Cached, swap cache on the LRU, so both once
 *   slab       SReclaimable + SUnreclaim, and KReclaimable's other part
 *   kernel     the greater of VmallocUsed and KernelStack (stacks are
 *              vmalloc'd), PageTables, SecPageTables, Percpu, Bounce,
 *              WritebackTmp, memory maps
 *   others     huge pages, zswap or zsmalloc, poisoned pages, the balloon as
 *              far as MemTotal did not shrink by it
 * Kernels before 5.3 tell no usable VmallocUsed (known by no Percpu line):
 * there vmalloc'd memory is part of the residual. What remains are pages from
 * the page allocator that nobody counts: pipe and socket buffers, drivers'
 * rings, and leaks of them. A constant offset (early allocations) does not
 * matter: its growth does. Never negative. */
#ifndef PSC_AGENT_MEMINFO_LINUX_H
#define PSC_AGENT_MEMINFO_LINUX_H

#include "agent/procfile_linux.h"
#include "agent/text.h"

/* The fields of meminfo that the agent computes with. */
#define MEM_FIELDS(X)                                                          \
    X(MEM_TOTAL, "MemTotal")                                                   \
    X(MEM_FREE, "MemFree")                                                     \
    X(MEM_BUFFERS, "Buffers")                                                  \
    X(MEM_CACHED, "Cached")                                                    \
    X(MEM_ACTIVE, "Active")                                                    \
    X(MEM_INACTIVE, "Inactive")                                                \
    X(MEM_UNEVICTABLE, "Unevictable")                                          \
    X(MEM_ANON, "AnonPages")                                                   \
    X(MEM_KRECLAIMABLE, "KReclaimable")                                        \
    X(MEM_SRECLAIMABLE, "SReclaimable")                                        \
    X(MEM_SUNRECLAIM, "SUnreclaim")                                            \
    X(MEM_STACK, "KernelStack")                                                \
    X(MEM_PAGE_TABLES, "PageTables")                                           \
    X(MEM_SEC_PAGE_TABLES, "SecPageTables")                                    \
    X(MEM_BOUNCE, "Bounce")                                                    \
    X(MEM_WRITEBACK_TMP, "WritebackTmp")                                       \
    X(MEM_VMALLOC, "VmallocUsed")                                              \
    X(MEM_PERCPU, "Percpu")                                                    \
    X(MEM_CORRUPTED, "HardwareCorrupted")                                      \
    X(MEM_ZSWAP, "Zswap")                                                      \
    X(MEM_BALLOON, "Balloon")                                                  \
    X(MEM_HUGETLB, "Hugetlb")                                                  \
    X(MEM_HUGE_TOTAL, "HugePages_Total")                                       \
    X(MEM_HUGE_SIZE, "Hugepagesize")

enum mem_field {
#define MEM_FIELD_ENUM(field, name) field,
    MEM_FIELDS(MEM_FIELD_ENUM)
#undef MEM_FIELD_ENUM
        MEM_FIELD_COUNT
};

struct meminfo {
    int64_t value[MEM_FIELD_COUNT]; /* bytes (HUGE_TOTAL: pages); 0: absent */
    uint32_t present;               /* bit of each field that was there */
};

/* A line "Name:  123 kB". False for anything else; @value is in bytes if
 * @in_bytes. */
bool meminfo_parse(struct text line, struct text *name, int64_t *value,
                   bool *in_bytes);

/* Put what a line says into @m, which began as zeros. */
void meminfo_line(struct meminfo *m, struct text line);

/* Read a whole meminfo. */
PSC_MUST_CHECK int meminfo_read(struct meminfo *m, const struct proc_file *f,
                                struct psc_error *err);

/* A line "name 123" of vmstat. */
bool vmstat_parse(struct text line, struct text *name, uint64_t *value);

/* Pages that only vmstat and zoneinfo tell of; begins as zeros. */
struct page_counts {
    uint64_t isolated; /* taken off the LRU for a moment */
    uint64_t zspages;  /* of zsmalloc: zram, zswap */
    uint64_t memmap;   /* memory maps made at run time */
    uint64_t cpu_free; /* on the CPUs' own free lists */
    bool in_pagesets;  /* zoneinfo: within a zone's list of CPUs */
};
void vmstat_line(struct page_counts *p, struct text line);
void zoneinfo_line(struct page_counts *p, struct text line);

/* The residual. @highest_total_bytes is the greatest MemTotal seen so far. */
int64_t unaccounted_bytes(const struct meminfo *m, const struct page_counts *p,
                          uint64_t page_bytes, int64_t highest_total_bytes);

#endif
