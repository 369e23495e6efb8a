/* Source processes: the programs of the top processes by resident memory, by
 * its growth and by open files, each summed over all processes of that name:
 * a pid means nothing on another host or tomorrow, and would fill the names
 * that a fleet knows. One stat file is read per process, and one fstat of its
 * fd folder gives the number of open files (Linux 6.2 and newer; older ones
 * have the folder's names counted, within a budget per collection).
 *
 * A process that ends while it is looked at is left out: normal. Kernel
 * threads are read again only now and then. */
#include "agent/processes_linux.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/procfile_linux.h"
#include "agent/sources_linux.h"

enum {
    KERNEL_THREAD_COLLECTIONS = 16, /* each is read once in so many */
    COUNT_BUDGET = 20000, /* names counted a collection on old kernels */
    INSTANCE_MAX_BYTES = 96,
};

struct processes {
    int proc_fd;
    uint64_t page_bytes;
    uint32_t top;
    bool size_is_count; /* st_size of a fd folder is the number of files */
    uint32_t budget;    /* names left to count in this collection */
    uint32_t *pids;     /* of this collection */
    uint32_t n_pids, cap_pids;
    struct process_list list;
};

static int on_pid(void *ctx, const char *name, unsigned char d_type)
{
    struct processes *s = ctx;
    (void)d_type;
    struct text t = text_of(name, strlen(name));
    uint64_t pid;
    if (*name < '1' || *name > '9' || !text_u64(&t, &pid) ||
        text_left(&t) > 0 || pid > INT32_MAX) {
        return 0;
    }
    if (s->n_pids == s->cap_pids) {
        uint32_t cap = s->cap_pids == 0 ? 512 : s->cap_pids * 2;
        uint32_t *grown = NULL;
        if (s->n_pids < PROCESSES_MAX) {
            grown = realloc(s->pids, cap * sizeof(*grown));
        }
        if (grown == NULL) {
            return 1; /* the rest is left out */
        }
        s->pids = grown;
        s->cap_pids = cap;
    }
    s->pids[s->n_pids++] = (uint32_t)pid;
    return 0;
}

/* /proc lists pids in ascending order; other folders do not. */
static void sort_pids(uint32_t *pids, uint32_t n)
{
    for (uint32_t gap = n / 2; gap > 0; gap /= 2) {
        for (uint32_t i = gap; i < n; i++) {
            uint32_t pid = pids[i];
            uint32_t at = i;
            for (; at >= gap && pids[at - gap] > pid; at -= gap) {
                pids[at] = pids[at - gap];
            }
            pids[at] = pid;
        }
    }
}

static int on_open_file(void *ctx, const char *name, unsigned char d_type)
{
    struct processes *s = ctx;
    (void)name;
    (void)d_type;
    return --s->budget == 0;
}

static int64_t count_names(struct processes *s, const char *path)
{
    if (s->budget == 0) {
        return 0;
    }
    int fd = openat(s->proc_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    uint32_t before = s->budget;
    (void)dir_names(fd, on_open_file, s);
    (void)close(fd);
    return before - s->budget;
}

static int64_t open_files(struct processes *s, uint32_t pid)
{
    char path[32];
    struct text_out out = {path, 0, sizeof(path) - 1};
    text_put_u64(&out, pid);
    text_puts(&out, "/fd");
    path[out.len] = '\0';
    if (!s->size_is_count) {
        return count_names(s, path);
    }
    struct stat st;
    return fstatat(s->proc_fd, path, &st, 0) == 0 ? st.st_size : 0;
}

static int look_at(struct processes *s, uint32_t pid)
{
    const struct process *then = process_list_then(&s->list, pid);
    if (then != NULL && then->kernel_thread &&
        (s->list.collection + pid) % KERNEL_THREAD_COLLECTIONS != 0) {
        return process_list_keep(&s->list, then);
    }
    char path[32];
    struct text_out out = {path, 0, sizeof(path) - 1};
    text_put_u64(&out, pid);
    text_puts(&out, "/stat");
    path[out.len] = '\0';
    char text[1024];
    long n = proc_read_small(s->proc_fd, path, text, sizeof(text));
    struct process_stat stat;
    if (n <= 0 || !process_stat_parse(text_of(text, (size_t)n), &stat) ||
        stat.pid != pid) {
        return 0;
    }
    struct process *p;
    int rc = process_list_add(&s->list, &stat, s->page_bytes, then, &p);
    if (rc == 0 && !p->kernel_thread) {
        p->open_files = open_files(s, pid);
    }
    return rc;
}

/* Under the program's name, its odd bytes as \xHH; the sample adds up. */
static void put_process(struct sample *out, const struct process *p)
{
    char instance[INSTANCE_MAX_BYTES];
    struct text_out o = {instance, 0, sizeof(instance) - 1};
    text_put_escaped(&o, text_of(p->name, p->name_len));
    instance[o.len] = '\0';
    /* One counter that does not fit costs that counter only. */
    (void)!sample_counter(out, "process_resident_memory_bytes", instance,
                          p->rss_bytes);
    (void)!sample_counter(out, "process_virtual_memory_bytes", instance,
                          p->virtual_bytes);
    (void)!sample_counter(out, "process_open_fds", instance, p->open_files);
    (void)!sample_counter(out, "process_threads", instance, p->threads);
    (void)!sample_counter(out, "process_instances", instance, 1);
}

static int processes_collect(void *state, struct sample *out,
                             struct psc_error *err)
{
    struct processes *s = state;
    s->n_pids = 0;
    s->budget = COUNT_BUDGET;
    if (dir_names(s->proc_fd, on_pid, s) < 0) {
        return proc_errno(err, "/proc", "permission to list it");
    }
    sort_pids(s->pids, s->n_pids);
    process_list_begin(&s->list);
    for (uint32_t i = 0; i < s->n_pids; i++) {
        int rc = look_at(s, s->pids[i]);
        if (rc == PSC_LIMIT) {
            break;
        }
        if (rc != 0) {
            return psc_error_set(err, rc, "out of memory");
        }
    }
    process_list_select(&s->list, s->top);
    int64_t threads = 0;
    for (uint32_t i = 0; i < s->list.n_now; i++) {
        const struct process *p = &s->list.now[i];
        threads += p->threads;
        if (!p->kernel_thread && process_list_has_program(&s->list, p)) {
            put_process(out, p);
        }
    }
    (void)!sample_counter(out, "node_processes_pids", "", s->n_pids);
    (void)!sample_counter(out, "node_processes_threads", "", threads);
    return 0;
}

static void processes_close(void *state)
{
    struct processes *s = state;
    if (s->proc_fd >= 0) {
        (void)close(s->proc_fd);
    }
    process_list_fini(&s->list);
    free(s->pids);
    free(s);
}

static int processes_open(const struct source_env *env, void **state,
                          struct psc_error *err)
{
    struct processes *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    process_list_init(&s->list);
    s->page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    s->top = env->top_processes;
    char path[PROC_PATH_MAX_BYTES];
    int n = snprintf(path, sizeof(path), "%s/proc", env->root);
    if (n < 0 || (size_t)n >= sizeof(path)) {
        free(s);
        return psc_error_set(err, PSC_LIMIT, "path too long: %s", env->root);
    }
    s->proc_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->proc_fd < 0) {
        int rc = proc_errno(err, path, "permission to list it");
        processes_close(s);
        return rc;
    }
    /* This process has files open: a kernel that counts says more than 0. */
    struct stat st;
    s->size_is_count = env->root[0] == '\0' &&
                       fstatat(s->proc_fd, "self/fd", &st, 0) == 0 &&
                       st.st_size > 0;
    *state = s;
    return 0;
}

const struct source source_processes = {
    .name = "processes",
    .help = "programs: the largest, the fastest growing, and those with most "
            "files, from /proc/PID",
    .group = SOURCE_COUNTERS,
    .open = processes_open,
    .collect = processes_collect,
    .close = processes_close,
};
