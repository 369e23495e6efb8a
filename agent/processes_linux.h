/* Processes: what /proc/PID/stat says of one, the list of them from one
 * collection to the next, and who stands out. Pure. */
#ifndef PSC_AGENT_PROCESSES_LINUX_H
#define PSC_AGENT_PROCESSES_LINUX_H

#include "agent/text.h"
#include "common/error.h"

#define PROCESS_NAME_BYTES 16
#define PROCESSES_MAX      65536u
#define PROCESSES_TOP_MAX  100u
#define PROGRAMS_MAX       (3 * PROCESSES_TOP_MAX)

struct process_stat {
    uint32_t pid;
    struct text name; /* without parentheses; any bytes */
    bool kernel_thread;
    uint64_t threads, start_ticks, virtual_bytes, rss_pages;
};

/* Parse the text of a stat file. Names may hold blanks and parentheses. */
bool process_stat_parse(struct text all, struct process_stat *out);

struct process {
    uint32_t pid;
    uint8_t name_len;
    char name[PROCESS_NAME_BYTES];
    bool kernel_thread;   /* has no memory and no files of its own */
    bool seen_before;     /* not only in this collection */
    uint8_t selected;     /* by how many of the orders */
    uint64_t start_ticks; /* with pid: who it is */
    int64_t rss_bytes, virtual_bytes, threads, open_files;
    /* Growth is measured from rss_then, which is 1 to 2 windows old. */
    int64_t rss_then, rss_mark;
};

/* Two lists in order of pid, the last collection's and this one's. */
struct process_list {
    struct process *now, *then;
    uint32_t n_now, n_then, cap; /* cap: of both */
    uint32_t cursor;             /* in then: all before it have lower pids */
    uint32_t collection;         /* counts them */
    /* The programs of the selected processes, each once: an index into now. */
    uint32_t programs[PROGRAMS_MAX];
    uint32_t n_programs;
};

void process_list_init(struct process_list *l);
void process_list_fini(struct process_list *l);

/* Start a collection. */
void process_list_begin(struct process_list *l);

/* What the last collection knew of @pid, or NULL. Pids must ascend within a
 * collection. Valid until the next begin. */
const struct process *process_list_then(struct process_list *l, uint32_t pid);

/* Add a process whose pid is above all others of this collection: what @stat
 * says, with the history of @then (may be NULL, or another process that had
 * the pid). @out is the new one. Returns 0, PSC_NOMEM, or PSC_LIMIT. */
PSC_MUST_CHECK int process_list_add(struct process_list *l,
                                    const struct process_stat *stat,
                                    uint64_t page_bytes,
                                    const struct process *then,
                                    struct process **out);

/* Carry one over unread (a kernel thread). */
PSC_MUST_CHECK int process_list_keep(struct process_list *l,
                                     const struct process *then);

/* Mark (`selected`) the @top processes by resident memory, by growth and by
 * open files, and list their programs. A process of its first collection counts
 * only if that is the list's first one too: short-lived ones would fill the
 * dictionaries. */
void process_list_select(struct process_list *l, uint32_t top);

/* Whether @p runs one of the listed programs (has its name). */
bool process_list_has_program(const struct process_list *l,
                              const struct process *p);

#endif
