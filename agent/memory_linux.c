/* Source memory: counters of the whole host under node_exporter's names, from
 * meminfo, vmstat (slab, reclaim and failure fields), file-nr, inode-nr and
 * sockstat; the limits that forecasts need, and whether that of committed
 * memory binds (poolscope_vm_overcommit_memory: 2 means that it does); and the
 * residual of meminfo_linux.h as poolscope_memory_unaccounted_bytes.
 *
 * Only meminfo must exist. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/counters_linux.h"
#include "agent/host_memory_linux.h"
#include "agent/sources_linux.h"

enum memory_file {
    FILE_FILES,
    FILE_INODES,
    FILE_SOCKETS,
    FILE_OVERCOMMIT,
    FILE_COUNT
};

static const char *const PATHS[FILE_COUNT] = {
    [FILE_FILES] = "/proc/sys/fs/file-nr",
    [FILE_INODES] = "/proc/sys/fs/inode-nr",
    [FILE_SOCKETS] = "/proc/net/sockstat",
    [FILE_OVERCOMMIT] = "/proc/sys/vm/overcommit_memory",
};

struct memory {
    struct host_memory *memory;
    struct proc_file files[FILE_COUNT]; /* fd -1: not there */
    int64_t pid_max, threads_max;       /* limits, read once; 0: unknown */
    struct sample *out;                 /* during a collection */
};

static int on_meminfo(void *ctx, struct text line)
{
    struct memory *s = ctx;
    counters_meminfo_line(s->out, line);
    return 0;
}

static int on_vmstat(void *ctx, struct text line)
{
    struct memory *s = ctx;
    counters_vmstat_line(s->out, line);
    return 0;
}

static int on_files(void *ctx, struct text line)
{
    struct memory *s = ctx;
    counters_file_nr(s->out, line);
    return 0;
}

static int on_inodes(void *ctx, struct text line)
{
    struct memory *s = ctx;
    counters_inode_nr(s->out, line);
    return 0;
}

static int on_sockets(void *ctx, struct text line)
{
    struct memory *s = ctx;
    counters_sockstat_line(s->out, line, s->memory->page_bytes);
    return 0;
}

static int on_overcommit(void *ctx, struct text line)
{
    struct memory *s = ctx;
    counters_overcommit(s->out, line);
    return 0;
}

static const text_line_fn HANDLERS[FILE_COUNT] = {
    [FILE_FILES] = on_files,
    [FILE_INODES] = on_inodes,
    [FILE_SOCKETS] = on_sockets,
    [FILE_OVERCOMMIT] = on_overcommit,
};

static void put_limits(struct memory *s)
{
    if (s->pid_max > 0) {
        (void)!sample_counter(s->out, "node_processes_max_processes", "",
                              s->pid_max);
    }
    if (s->threads_max > 0) {
        (void)!sample_counter(s->out, "node_processes_max_threads", "",
                              s->threads_max);
    }
}

static int memory_collect(void *state, struct sample *out,
                          struct psc_error *err)
{
    struct memory *s = state;
    s->out = out;
    int rc = host_memory_read(s->memory, out, err);
    if (rc != 0) {
        return rc;
    }
    (void)text_lines(text_of_buf(&s->memory->meminfo_text), on_meminfo, s);
    (void)text_lines(text_of_buf(&s->memory->vmstat_text), on_vmstat, s);
    for (size_t i = 0; i < FILE_COUNT; i++) {
        if (s->files[i].fd < 0) {
            continue;
        }
        rc = proc_file_lines(&s->files[i], HANDLERS[i], s, err);
        if (rc != 0) {
            return rc;
        }
    }
    put_limits(s);
    return sample_counter(out, "poolscope_memory_unaccounted_bytes", "",
                          s->memory->unaccounted_bytes);
}

static void memory_close(void *state)
{
    struct memory *s = state;
    for (size_t i = 0; i < FILE_COUNT; i++) {
        proc_file_close(&s->files[i]);
    }
    host_memory_put(s->memory);
    free(s);
}

static int64_t read_limit(const char *root, const char *path)
{
    char text[32];
    uint64_t v = 0;
    if (proc_read_value(root, path, text, sizeof(text))) {
        struct text t = text_of(text, strlen(text));
        (void)text_u64(&t, &v);
    }
    return text_clamp(v);
}

static int memory_open(const struct source_env *env, void **state,
                       struct psc_error *err)
{
    struct memory *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    for (size_t i = 0; i < FILE_COUNT; i++) {
        s->files[i].fd = -1;
    }
    int rc = host_memory_get(env, &s->memory, err);
    if (rc != 0) {
        memory_close(s);
        return rc;
    }
    for (size_t i = 0; i < FILE_COUNT; i++) {
        (void)!proc_file_open(&s->files[i], env->root, PATHS[i], "", NULL);
    }
    s->pid_max = read_limit(env->root, "/proc/sys/kernel/pid_max");
    s->threads_max = read_limit(env->root, "/proc/sys/kernel/threads-max");
    *state = s;
    return 0;
}

const struct source source_memory = {
    .name = "memory",
    .help = "counters of the host: meminfo, vmstat, files, inodes, sockets",
    .group = SOURCE_COUNTERS,
    .open = memory_open,
    .collect = memory_collect,
    .close = memory_close,
};
