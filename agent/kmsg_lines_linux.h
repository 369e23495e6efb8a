/* The lines of the kernel log that speak of exhausted memory; a part of
 * kmsg_linux.h. Pure. */
#ifndef PSC_AGENT_KMSG_LINES_LINUX_H
#define PSC_AGENT_KMSG_LINES_LINUX_H

#include "agent/kmsg_linux.h"

enum kernel_line_kind {
    LINE_HEAD,       /* begins a dump */
    LINE_CACHE,      /* "cache: NAME, object size: 64, …" */
    LINE_CPU,        /* "CPU: 0 PID: 1 Comm: x" */
    LINE_FRAME,      /* of a call trace, in a module */
    LINE_MEM_SLAB,   /* "slab_reclaimable:1 slab_unreclaimable:2" */
    LINE_MEM_FREE,   /* "free:1 free_pcp:2 free_cma:3" */
    LINE_SLAB_TABLE, /* "Unreclaimable slab info:" */
    LINE_SLAB_ROW,   /* "kmalloc-64   12KB   34KB" */
    LINE_SITE_TABLE, /* "Memory allocations:" */
    LINE_SITE_ROW,   /* "4.00 GiB 1048576 mm/x.c:12 func:f" */
    LINE_KILLED,     /* "Out of memory: Killed process 1 (x) total-vm:…" */
};

struct kernel_line {
    enum kernel_line_kind kind;
    enum kernel_event_kind head; /* of LINE_HEAD */
    struct text text;            /* all of it, without blanks in front */
    struct text name;            /* cache, comm, module, killed process, site */
    struct text gfp;             /* of heads */
    struct text module;          /* of LINE_HEAD, module unload */
    int64_t a, b, c;             /* its numbers; -1: not told */
    bool in_cgroup;
};

/* Recognise a line. False for all others. */
bool kernel_line_parse(struct text text, struct kernel_line *out);

/* Whether @dump may have such a line and lacks it. */
bool kernel_line_fits(const struct kernel_line *line,
                      const struct kernel_dump *dump);

/* Fill a new dump (zeros but for kind, message and times) from its head. */
void kernel_dump_head(struct kernel_dump *dump, const struct kernel_line *line);

/* Put a line that fits into its dump; sets complete at the last one. */
void kernel_dump_take(struct kernel_dump *dump, const struct kernel_line *line);

/* Copy as a string, cut to @cap. */
void kernel_text_copy(char *out, size_t cap, struct text in);

#endif
