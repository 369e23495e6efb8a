/* Source cgroups: kernel memory by service, from control groups of version 2
 * (memory.stat) or 1 (memory.kmem.*). A group's figures include its children,
 * so groups must not be summed. Instance: the group's path, "/" is the root.
 *
 * The tree is walked every RESCAN_COLLECTIONS, or when a group has vanished;
 * in between only the groups found then are read. The files of the first few
 * groups stay open (KEPT_MAX of them: a host may have thousands), which halves
 * what reading them costs. A group that is made anew under its old name is
 * another one: its old files fail, and are opened again. */
#include "agent/cgroups_linux.h"

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
    GROUPS_MAX = 256,
    DEPTH_MAX = 8,
    GROUP_PATH_MAX_BYTES = 200,
    RESCAN_COLLECTIONS = 10,
    STAT_MAX_BYTES = 8192, /* of memory.stat: 2.5 KB on Linux 6.18 */
    KEPT_MAX = 96,         /* files that stay open */
};

/* The files of a group that are read. */
enum group_file {
    FILE_USAGE,
    FILE_KERNEL, /* version 2: memory.stat */
    FILE_SOCKETS,
    FILE_COUNT
};

void cgroup_stat_line(struct cgroup_memory *m, struct text line)
{
    struct text name;
    uint64_t v;
    if (!text_word(&line, &name) || !text_u64(&line, &v)) {
        return;
    }
    int64_t value = text_clamp(v);
    if (text_equal(&name, "kernel")) {
        m->kernel = value;
        m->has_kernel = true;
    } else if (text_equal(&name, "slab_reclaimable")) {
        m->slab_reclaimable = value;
    } else if (text_equal(&name, "slab_unreclaimable")) {
        m->slab_unreclaimable = value;
    } else if (text_equal(&name, "percpu")) {
        m->percpu = value;
    } else if (text_equal(&name, "kernel_stack")) {
        m->stack = value;
    } else if (text_equal(&name, "pagetables")) {
        m->page_tables = value;
    } else if (text_equal(&name, "vmalloc")) {
        m->vmalloc = value;
    } else if (text_equal(&name, "sock")) {
        m->sock = value;
    }
}

void cgroup_stat_end(struct cgroup_memory *m)
{
    if (m->has_kernel) {
        return;
    }
    const int64_t parts[] = {m->slab_reclaimable, m->slab_unreclaimable,
                             m->percpu,           m->stack,
                             m->page_tables,      m->vmalloc};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        bool fits = parts[i] <= INT64_MAX - m->kernel;
        m->kernel = fits ? m->kernel + parts[i] : INT64_MAX;
    }
}

struct cgroups {
    int root_fd; /* of the memory hierarchy */
    bool version2;
    bool keep; /* not in recorded trees, where a file that has been
                  deleted goes on */
    uint32_t collection;
    bool rescan;                         /* a group has vanished */
    uint32_t n;                          /* groups; the first is the root, "" */
    char (*paths)[GROUP_PATH_MAX_BYTES]; /* relative: "system.slice" */
    int kept[KEPT_MAX / FILE_COUNT][FILE_COUNT]; /* of the first groups; -1:
                                                    not open */
    struct sample *out;                          /* during a collection */
};

static void drop_kept(struct cgroups *s, uint32_t group)
{
    for (size_t i = 0; group < KEPT_MAX / FILE_COUNT && i < FILE_COUNT; i++) {
        if (s->kept[group][i] >= 0) {
            (void)close(s->kept[group][i]);
            s->kept[group][i] = -1;
        }
    }
}

struct walk {
    struct cgroups *s;
    int dir_fd;
    const char *path;
    int depth;
};

static void scan(struct cgroups *s, int dir_fd, const char *path, int depth);

static int on_entry(void *ctx, const char *name, unsigned char d_type)
{
    struct walk *w = ctx;
    struct cgroups *s = w->s;
    struct stat st;
    enum { UNKNOWN = 0, DIRECTORY = 4 };
    if (d_type == UNKNOWN &&
        fstatat(w->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISDIR(st.st_mode)) {
        d_type = DIRECTORY;
    }
    if (d_type != DIRECTORY) {
        return 0;
    }
    if (s->n == GROUPS_MAX) {
        return 1;
    }
    char path[GROUP_PATH_MAX_BYTES];
    int len = snprintf(path, sizeof(path), "%s%s%s", w->path,
                       *w->path != '\0' ? "/" : "", name);
    if (len < 0 || len >= GROUP_PATH_MAX_BYTES) {
        return 0;
    }
    if (strcmp(path, s->paths[s->n]) != 0) {
        drop_kept(s, s->n);
        memcpy(s->paths[s->n], path, (size_t)len + 1);
    }
    s->n++;
    if (w->depth < DEPTH_MAX) {
        int fd = openat(w->dir_fd, name,
                        O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0) {
            scan(s, fd, path, w->depth + 1);
            (void)close(fd);
        }
    }
    return 0;
}

static void scan(struct cgroups *s, int dir_fd, const char *path, int depth)
{
    struct walk w = {s, dir_fd, path, depth};
    (void)dir_names(dir_fd, on_entry, &w);
}

static int open_file(const struct cgroups *s, uint32_t group,
                     enum group_file file)
{
    static const char *const NAMES[2][FILE_COUNT] = {
        {"memory.usage_in_bytes", "memory.kmem.usage_in_bytes",
         "memory.kmem.tcp.usage_in_bytes"},
        {"memory.current", "memory.stat", NULL},
    };
    const char *path = s->paths[group];
    const char *name = NAMES[s->version2 ? 1 : 0][file];
    char full[GROUP_PATH_MAX_BYTES + 40];
    int n = snprintf(full, sizeof(full), "%s%s%s", path,
                     *path != '\0' ? "/" : "", name);
    if (n < 0 || (size_t)n >= sizeof(full)) {
        return -1;
    }
    return openat(s->root_fd, full, O_RDONLY | O_CLOEXEC | O_NOCTTY);
}

/* Read a file of a group. Bytes, or -1. */
static long read_group(struct cgroups *s, uint32_t group, enum group_file file,
                       char *out, size_t cap)
{
    bool keep = s->keep && group < KEPT_MAX / FILE_COUNT;
    int fd = keep ? s->kept[group][file] : -1;
    if (fd < 0) {
        fd = open_file(s, group, file);
    }
    if (fd < 0) {
        return -1;
    }
    long n = proc_read_again(fd, out, cap);
    if (keep && n >= 0) {
        s->kept[group][file] = fd;
        return n;
    }
    (void)close(fd);
    if (keep) {
        s->kept[group][file] = -1;
    }
    return n;
}

static bool read_number(struct cgroups *s, uint32_t group, enum group_file file,
                        int64_t *value)
{
    char text[32];
    long n = read_group(s, group, file, text, sizeof(text));
    if (n <= 0) {
        return false;
    }
    struct text t = text_of(text, (size_t)n);
    uint64_t v;
    if (!text_u64(&t, &v)) {
        return false;
    }
    *value = text_clamp(v);
    return true;
}

static int on_stat_line(void *ctx, struct text line)
{
    cgroup_stat_line(ctx, line);
    return 0;
}

static void put(struct cgroups *s, const char *name, const char *instance,
                int64_t value)
{
    /* One counter that does not fit costs that counter only. */
    (void)!sample_counter(s->out, name, instance, value);
}

static bool put_version2(struct cgroups *s, uint32_t group,
                         const char *instance)
{
    char text[STAT_MAX_BYTES];
    long n = read_group(s, group, FILE_KERNEL, text, sizeof(text));
    if (n <= 0) {
        return false;
    }
    struct cgroup_memory m;
    memset(&m, 0, sizeof(m));
    (void)text_lines(text_of(text, (size_t)n), on_stat_line, &m);
    cgroup_stat_end(&m);
    put(s, "cgroup_memory_kernel_bytes", instance, m.kernel);
    put(s, "cgroup_memory_slab_unreclaimable_bytes", instance,
        m.slab_unreclaimable);
    put(s, "cgroup_memory_slab_reclaimable_bytes", instance,
        m.slab_reclaimable);
    put(s, "cgroup_memory_percpu_bytes", instance, m.percpu);
    put(s, "cgroup_memory_sock_bytes", instance, m.sock);
    int64_t current;
    if (read_number(s, group, FILE_USAGE, &current)) {
        put(s, "cgroup_memory_usage_bytes", instance, current);
    }
    return true;
}

static bool put_version1(struct cgroups *s, uint32_t group,
                         const char *instance)
{
    static const char *const COUNTERS[FILE_COUNT] = {
        [FILE_USAGE] = "cgroup_memory_usage_bytes",
        [FILE_KERNEL] = "cgroup_memory_kernel_bytes",
        [FILE_SOCKETS] = "cgroup_memory_sock_bytes",
    };
    bool found = false;
    for (uint32_t i = 0; i < FILE_COUNT; i++) {
        int64_t value;
        if (read_number(s, group, (enum group_file)i, &value)) {
            put(s, COUNTERS[i], instance, value);
            found = true;
        }
    }
    return found;
}

/* Find the groups that there are now. */
static void rescan(struct cgroups *s)
{
    s->n = 1;
    s->rescan = false;
    scan(s, s->root_fd, "", 1);
    for (uint32_t i = s->n; i < KEPT_MAX / FILE_COUNT; i++) {
        drop_kept(s, i);
    }
}

static int cgroups_collect(void *state, struct sample *out,
                           struct psc_error *err)
{
    struct cgroups *s = state;
    (void)err;
    s->out = out;
    if (s->rescan || s->collection % RESCAN_COLLECTIONS == 0) {
        rescan(s);
    }
    s->collection++;
    for (uint32_t i = 0; i < s->n; i++) {
        char instance[GROUP_PATH_MAX_BYTES + 2];
        struct text_out o = {instance, 0, sizeof(instance) - 1};
        text_puts(&o, "/");
        text_put_escaped(&o, text_of(s->paths[i], strlen(s->paths[i])));
        instance[o.len] = '\0';
        bool found = s->version2 ? put_version2(s, i, instance)
                                 : put_version1(s, i, instance);
        /* The root of version 2 has no memory.stat on older kernels. */
        if (!found && i > 0) {
            s->rescan = true;
        }
    }
    return 0;
}

static void cgroups_close(void *state)
{
    struct cgroups *s = state;
    for (uint32_t i = 0; i < KEPT_MAX / FILE_COUNT; i++) {
        drop_kept(s, i);
    }
    if (s->root_fd >= 0) {
        (void)close(s->root_fd);
    }
    free(s->paths);
    free(s);
}

/* Whether "<root><dir>/<file>" is there; if so, @dir is opened. */
static bool find(struct cgroups *s, const char *root, const char *dir,
                 const char *file)
{
    char path[PROC_PATH_MAX_BYTES];
    int n = snprintf(path, sizeof(path), "%s%s", root, dir);
    if (n < 0 || (size_t)n >= sizeof(path)) {
        return false;
    }
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && faccessat(fd, file, R_OK, 0) == 0) {
        s->root_fd = fd;
        return true;
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return false;
}

/* The unified hierarchy may exist without the memory controller. */
static bool has_memory_controller(const struct cgroups *s)
{
    char text[512];
    long n =
        proc_read_small(s->root_fd, "cgroup.controllers", text, sizeof(text));
    struct text t = text_of(text, n > 0 ? (size_t)n : 0);
    while (t.end > t.at && t.end[-1] == '\n') {
        t.end--;
    }
    struct text word;
    while (text_word(&t, &word)) {
        if (text_equal(&word, "memory")) {
            return true;
        }
    }
    return false;
}

static int cgroups_open(const struct source_env *env, void **state,
                        struct psc_error *err)
{
    struct cgroups *s = calloc(1, sizeof(*s));
    if (s != NULL) {
        s->root_fd = -1;
        s->keep = env->root[0] == '\0';
        memset(s->kept, 0xff, sizeof(s->kept)); /* -1 */
        s->paths = calloc(GROUPS_MAX, GROUP_PATH_MAX_BYTES);
    }
    if (s == NULL || s->paths == NULL) {
        free(s);
        return psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    if (find(s, env->root, "/sys/fs/cgroup", "cgroup.controllers") &&
        has_memory_controller(s)) {
        s->version2 = true;
    } else {
        if (s->root_fd >= 0) {
            (void)close(s->root_fd);
            s->root_fd = -1;
        }
        if (!find(s, env->root, "/sys/fs/cgroup/memory",
                  "memory.usage_in_bytes")) {
            cgroups_close(s);
            return psc_error_set(err, PSC_MISSING,
                                 "no memory controller under "
                                 "%s/sys/fs/cgroup: mount cgroup2, or boot "
                                 "with cgroup_enable=memory",
                                 env->root);
        }
    }
    *state = s;
    return 0;
}

const struct source source_cgroups = {
    .name = "cgroups",
    .help = "kernel memory by service, from control groups (version 1 or 2)",
    .group = SOURCE_COUNTERS,
    .open = cgroups_open,
    .collect = cgroups_collect,
    .close = cgroups_close,
};
