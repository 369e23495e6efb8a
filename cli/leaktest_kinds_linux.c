/* The kinds of kernel memory that a leak test can hold. See the header.
 *
 * Each kind makes one object after the other and can drop them all. What it
 * makes dies with the process that made it, whatever kills that, except
 * System V message queues: those have keys that the parent knows, so that it
 * removes what a killed worker leaves; and where the kernel allows it they
 * live in an IPC namespace of the test's own, which goes with its last
 * process. */
#include "cli/leaktest_kinds_linux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

/* File descriptors that a worker needs for itself. */
#define FILES_SPARE 64

int leak_holder_init(struct leak_holder *h, const struct leak_limits *limits)
{
    memset(h, 0, sizeof *h);
    h->spare[0] = -1;
    h->spare[1] = -1;
    h->base = limits->base;
    h->cap_ids = (size_t)limits->worker_ids;
    h->ids = calloc(h->cap_ids, sizeof *h->ids);
    return h->ids ? 0 : PSC_NOMEM;
}

void leak_holder_fini(struct leak_holder *h)
{
    free(h->ids);
    h->ids = NULL;
}

static int keep(struct leak_holder *h, int64_t id)
{
    if (h->n_ids == h->cap_ids) {
        return ENOSPC;
    }
    h->ids[h->n_ids++] = id;
    return 0;
}

static void forget_all(struct leak_holder *h)
{
    h->n_ids = 0;
    h->made = 0;
    h->room = 0;
}

/* Whether @error says that the kernel has no such thing, rather than that
 * something is short. */
static bool is_absent(int error)
{
    return error == ENOSYS || error == EAFNOSUPPORT || error == EINVAL ||
           error == EOPNOTSUPP || error == EPROTONOSUPPORT || error == ENODEV;
}

static int absent(struct psc_error *err, const char *what)
{
    int error = errno;

    return psc_error_set(err,
                         is_absent(error) ? PSC_UNSUPPORTED : PSC_PERMISSION,
                         "%s: %s", what, strerror(error));
}

/* A number in a file under /proc/sys, or @otherwise. */
static int64_t setting(const char *path, int64_t otherwise)
{
    FILE *f = fopen(path, "re");
    char line[64];
    char *end = line;
    long long value = 0;

    if (f && fgets(line, sizeof line, f)) {
        value = strtoll(line, &end, 10);
    }
    if (f) {
        fclose(f);
    }
    return end == line ? otherwise : value;
}

/* --- kinds that are open files --- */

/* Limits of a kind that needs @fds file descriptors an object. @fd is one
 * that the caller could make, and is closed; or -1: it could not. */
static int file_limits(struct leak_limits *limits, int fds, int fd,
                       const char *what, struct psc_error *err)
{
    struct rlimit files;

    if (fd < 0) {
        return absent(err, what);
    }
    close(fd);
    if (getrlimit(RLIMIT_NOFILE, &files) != 0) {
        return absent(err, "the limit of open files");
    }
    int64_t room = files.rlim_max < (1 << 20) ? (int64_t)files.rlim_max
                                              : (int64_t)(1 << 20);
    limits->worker_objects = (room - FILES_SPARE) / fds;
    limits->worker_ids = limits->worker_objects * fds;
    limits->total_objects =
        (setting("/proc/sys/fs/file-max", INT64_MAX) / 10 * 9) / fds;
    limits->total_why = "nine tenths of /proc/sys/fs/file-max";
    if (limits->worker_objects < 1) {
        return psc_error_set(err, PSC_LIMIT,
                             "the limit of open files (ulimit -Hn) is too low");
    }
    return 0;
}

static int keep_file(struct leak_holder *h, int fd)
{
    int error = fd < 0 ? errno : keep(h, fd);

    if (error == 0) {
        h->made++;
    } else if (fd >= 0) {
        close(fd);
    }
    return error;
}

static void drop_files(struct leak_holder *h)
{
    for (size_t i = 0; i < h->n_ids; i++) {
        close((int)h->ids[i]);
    }
    for (int i = 0; i < 2; i++) {
        if (h->spare[i] >= 0) {
            close(h->spare[i]);
            h->spare[i] = -1;
        }
    }
    forget_all(h);
}

static int open_file(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static int file_prepare(struct leak_limits *limits, struct psc_error *err)
{
    return file_limits(limits, 1, open_file(), "open /dev/null", err);
}

static int file_make(struct leak_holder *h)
{
    return keep_file(h, open_file());
}

static int eventfd_prepare(struct leak_limits *limits, struct psc_error *err)
{
    return file_limits(limits, 1, eventfd(0, EFD_CLOEXEC), "eventfd", err);
}

static int eventfd_make(struct leak_holder *h)
{
    return keep_file(h, eventfd(0, EFD_CLOEXEC));
}

static int open_timerfd(void)
{
    return timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
}

static int timerfd_prepare(struct leak_limits *limits, struct psc_error *err)
{
    return file_limits(limits, 1, open_timerfd(), "timerfd", err);
}

static int timerfd_make(struct leak_holder *h)
{
    return keep_file(h, open_timerfd());
}

static int open_socket(void)
{
    return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static int socket_prepare(struct leak_limits *limits, struct psc_error *err)
{
    return file_limits(limits, 1, open_socket(), "a Unix socket", err);
}

static int socket_make(struct leak_holder *h)
{
    return keep_file(h, open_socket());
}

/* --- pipes, empty and full --- */

static int pipe_prepare(struct leak_limits *limits, struct psc_error *err)
{
    int ends[2] = {-1, -1};

    if (pipe2(ends, O_CLOEXEC) == 0) {
        close(ends[1]);
    }
    int rc = file_limits(limits, 2, ends[0], "a pipe", err);
    int64_t pages = setting("/proc/sys/fs/pipe-user-pages-soft", 0);
    if (rc == 0 && geteuid() != 0 && pages > 0) {
        /* Beyond it pipes come out smaller, and the rate would be wrong. */
        limits->total_objects = pages / 16;
        limits->total_why = "/proc/sys/fs/pipe-user-pages-soft";
    }
    return rc;
}

static int pipe_make(struct leak_holder *h)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) != 0) {
        return errno;
    }
    int error = h->n_ids + 2 > h->cap_ids ? ENOSPC : 0;
    if (error != 0) {
        close(ends[0]);
        close(ends[1]);
        return error;
    }
    h->ids[h->n_ids++] = ends[0];
    h->ids[h->n_ids++] = ends[1];
    h->made++;
    return 0;
}

/* The page allocator's memory: an object is one page of data in a pipe that
 * nobody reads. Only one pipe is open for writing at a time. */
static int pages_prepare(struct leak_limits *limits, struct psc_error *err)
{
    int64_t page = sysconf(_SC_PAGESIZE);
    int64_t pipe_pages =
        geteuid() == 0 ? setting("/proc/sys/fs/pipe-max-size", 65536) / page
                       : 2;
    int rc = pipe_prepare(limits, err);

    if (rc != 0) {
        return rc;
    }
    limits->worker_ids = limits->worker_objects * 2;
    limits->worker_objects = limits->worker_ids * pipe_pages;
    limits->total_objects = INT64_MAX;
    limits->total_why = "";
    return 0;
}

/* Go on to a new pipe, as large as is allowed. */
static int next_pipe(struct leak_holder *h)
{
    int64_t page = sysconf(_SC_PAGESIZE);
    int ends[2];

    if (h->spare[1] >= 0) {
        close(h->spare[1]); /* the data stay while the other end is open */
        h->spare[1] = -1;
    }
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
        return errno;
    }
    int error = keep(h, ends[0]);
    if (error != 0) {
        close(ends[0]);
        close(ends[1]);
        return error;
    }
    h->spare[1] = ends[1];
    (void)fcntl(ends[1], F_SETPIPE_SZ,
                (int)setting("/proc/sys/fs/pipe-max-size", 65536));
    h->room = fcntl(ends[1], F_GETPIPE_SZ) / page;
    return 0;
}

static int pages_make(struct leak_holder *h)
{
    static const char page[65536];
    size_t len = (size_t)sysconf(_SC_PAGESIZE);

    if (h->room <= 0) {
        int error = next_pipe(h);
        if (error != 0) {
            return error;
        }
    }
    ssize_t written =
        write(h->spare[1], page, len < sizeof page ? len : sizeof page);
    if (written < 0) {
        return errno;
    }
    h->room--;
    h->made++;
    return 0;
}

/* --- POSIX timers --- */

static int make_timer(timer_t *timer)
{
    struct sigevent event = {.sigev_notify = SIGEV_NONE};

    return timer_create(CLOCK_MONOTONIC, &event, timer);
}

static int timer_prepare(struct leak_limits *limits, struct psc_error *err)
{
    struct rlimit pending;
    timer_t timer;

    if (make_timer(&timer) != 0) {
        return absent(err, "POSIX timers");
    }
    timer_delete(timer);
    if (getrlimit(RLIMIT_SIGPENDING, &pending) != 0) {
        return absent(err, "the limit of pending signals");
    }
    /* Each timer counts as a pending signal of its user. */
    limits->total_objects = pending.rlim_cur < (1 << 22)
                                ? (int64_t)pending.rlim_cur - 256
                                : (int64_t)(1 << 22);
    limits->total_why = "the limit of pending signals (ulimit -i)";
    limits->worker_objects = 50000;
    limits->worker_ids = limits->worker_objects;
    if (limits->total_objects < 1) {
        return psc_error_set(err, PSC_LIMIT, "%s is too low",
                             limits->total_why);
    }
    return 0;
}

static int timer_make(struct leak_holder *h)
{
    timer_t timer;

    if (make_timer(&timer) != 0) {
        return errno;
    }
    int error = keep(h, (int64_t)(intptr_t)timer);
    if (error != 0) {
        timer_delete(timer);
        return error;
    }
    h->made++;
    return 0;
}

static void timer_drop(struct leak_holder *h)
{
    for (size_t i = 0; i < h->n_ids; i++) {
        timer_delete((timer_t)(intptr_t)h->ids[i]);
    }
    forget_all(h);
}

/* --- keys --- */

#define KEY_PAYLOAD_BYTES 16
/* Keys in one keyring: beyond a few ten thousand its own size overflows. */
#define KEYRING_KEYS 4096

static long add_key(const char *type, const char *description,
                    const void *payload, size_t len, long keyring)
{
    return syscall(SYS_add_key, type, description, payload, len, keyring);
}

/* The keys hang on a session keyring of this process's own, so that they go
 * when it ends. */
static int own_keyring(void)
{
    return syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 ? errno
                                                                      : 0;
}

static int keys_prepare(struct leak_limits *limits, struct psc_error *err)
{
    bool root = geteuid() == 0;
    int64_t keys = setting(root ? "/proc/sys/kernel/keys/root_maxkeys"
                                : "/proc/sys/kernel/keys/maxkeys",
                           -1);
    int64_t bytes = setting(root ? "/proc/sys/kernel/keys/root_maxbytes"
                                 : "/proc/sys/kernel/keys/maxbytes",
                            -1);

    if (keys < 0 || bytes < 0) {
        return psc_error_set(err, PSC_UNSUPPORTED,
                             "this kernel has no key retention service "
                             "(CONFIG_KEYS)");
    }
    /* A key's charge: description with its NUL, payload, and the link. */
    int64_t charged = bytes / (12 + KEY_PAYLOAD_BYTES + 4);
    limits->total_objects = (keys < charged ? keys : charged) / 10 * 9;
    limits->total_why = root ? "the quota in /proc/sys/kernel/keys/root_max*"
                             : "the quota in /proc/sys/kernel/keys/max*";
    limits->worker_objects = limits->total_objects;
    limits->worker_ids = limits->total_objects / KEYRING_KEYS + 2;
    return 0;
}

static int key_make(struct leak_holder *h)
{
    char name[32];
    char payload[KEY_PAYLOAD_BYTES] = "poolscope";

    if (h->room <= 0) {
        int error = h->n_ids == 0 ? own_keyring() : 0;
        snprintf(name, sizeof name, "psc%zu", h->n_ids);
        long ring = error != 0 ? -1
                               : add_key("keyring", name, NULL, 0,
                                         KEY_SPEC_SESSION_KEYRING);
        if (ring < 0) {
            return error != 0 ? error : errno;
        }
        error = keep(h, ring);
        if (error != 0) {
            return error;
        }
        h->room = KEYRING_KEYS;
    }
    snprintf(name, sizeof name, "psc%08llx", (unsigned long long)h->made);
    if (add_key("user", name, payload, sizeof payload,
                (long)h->ids[h->n_ids - 1]) < 0) {
        return errno;
    }
    h->room--;
    h->made++;
    return 0;
}

static void key_drop(struct leak_holder *h)
{
    for (size_t i = 0; i < h->n_ids; i++) {
        (void)syscall(SYS_keyctl, KEYCTL_CLEAR, (int)h->ids[i]);
        (void)syscall(SYS_keyctl, KEYCTL_UNLINK, (int)h->ids[i],
                      KEY_SPEC_SESSION_KEYRING);
    }
    forget_all(h);
}

/* --- System V messages --- */

/* With the kernel's header of 48 bytes a message is 512 bytes. */
#define MESSAGE_BYTES   464
#define QUEUE_BYTES_OWN (256L * 1024 * 1024)
#define QUEUES_MAX      16384

/* The key of the @i-th queue; @base carries the parent's process id. */
static key_t queue_key(int64_t base, int64_t i)
{
    return (key_t)(base + i);
}

static int64_t queue_bytes(void)
{
    int64_t bytes = setting("/proc/sys/kernel/msgmnb", 16384);

    return bytes > QUEUE_BYTES_OWN ? QUEUE_BYTES_OWN : bytes;
}

static int msgqueue_prepare(struct leak_limits *limits, struct psc_error *err)
{
    /* In a namespace of our own the limits are ours to raise, and the
     * kernel removes the queues when the last of our processes ends. */
    if (unshare(CLONE_NEWIPC) == 0) {
        FILE *f = fopen("/proc/sys/kernel/msgmnb", "we");
        if (f) {
            fprintf(f, "%ld\n", QUEUE_BYTES_OWN);
            fclose(f);
        }
    }
    int probe = msgget(IPC_PRIVATE, 0600);
    if (probe < 0) {
        return absent(err, "System V message queues");
    }
    msgctl(probe, IPC_RMID, NULL);
    int64_t queues = setting("/proc/sys/kernel/msgmni", 16) / 10 * 9;
    queues = queues > QUEUES_MAX ? QUEUES_MAX : queues;
    limits->worker_ids = queues + 1;
    limits->total_objects = queues * (queue_bytes() / MESSAGE_BYTES);
    limits->total_why = "/proc/sys/kernel/msgmni and msgmnb";
    limits->worker_objects = limits->total_objects;
    limits->base = 0x50000000 | (int64_t)(getpid() & 0xfff) << 16;
    return 0;
}

static int msgqueue_make(struct leak_holder *h)
{
    struct {
        long type;
        char text[MESSAGE_BYTES];
    } message = {.type = 1};

    if (h->room <= 0) {
        int queue = msgget(queue_key(h->base, (int64_t)h->n_ids),
                           IPC_CREAT | IPC_EXCL | 0600);
        int error = queue < 0 ? errno : keep(h, queue);
        if (error != 0) {
            return error;
        }
        h->room = queue_bytes() / MESSAGE_BYTES;
    }
    if (msgsnd((int)h->ids[h->n_ids - 1], &message, sizeof message.text,
               IPC_NOWAIT) != 0) {
        return errno;
    }
    h->room--;
    h->made++;
    return 0;
}

static void msgqueue_drop(struct leak_holder *h)
{
    for (size_t i = 0; i < h->n_ids; i++) {
        msgctl((int)h->ids[i], IPC_RMID, NULL);
    }
    forget_all(h);
}

static void msgqueue_sweep(const struct leak_limits *limits)
{
    for (int64_t i = 0; i < limits->worker_ids; i++) {
        int queue = msgget(queue_key(limits->base, i), 0);
        if (queue >= 0) {
            msgctl(queue, IPC_RMID, NULL);
        }
    }
}

const struct leak_kind leak_kinds[] = {
    {"file", "open files: the same one again and again", "filp, lsm_file_cache",
     2800, 200, false, file_prepare, file_make, drop_files, NULL},
    {"pipe", "pipes without data",
     "kmalloc-cg-1k, inode_cache, filp, dentry, kmalloc-cg-192", 1400, 2300,
     false, pipe_prepare, pipe_make, drop_files, NULL},
    {"pages", "the page allocator: data in pipes that nobody reads",
     "unaccounted (pool pages): no slab cache and no line of meminfo", 4096,
     4096, true, pages_prepare, pages_make, drop_files, NULL},
    {"eventfd", "eventfds", "filp, dentry, kmalloc-64", 2800, 480, false,
     eventfd_prepare, eventfd_make, drop_files, NULL},
    {"socket", "Unix stream sockets",
     "UNIX-STREAM, sock_inode_cache, filp, dentry", 2800, 2400, false,
     socket_prepare, socket_make, drop_files, NULL},
    {"timer", "POSIX timers (few: each counts as a pending signal)",
     "posix_timers_cache", 4000, 350, false, timer_prepare, timer_make,
     timer_drop, NULL},
    {"timerfd", "timers that are files", "filp, dentry, kmalloc-256", 2800, 650,
     false, timerfd_prepare, timerfd_make, drop_files, NULL},
    {"key", "keys in a keyring of its own", "key_jar, kmalloc-32, kmalloc-64",
     4000, 400, false, keys_prepare, key_make, key_drop, NULL},
    {"msgqueue", "messages in System V message queues",
     "msg_msg-512 or kmalloc-cg-512", 4000, 520, false, msgqueue_prepare,
     msgqueue_make, msgqueue_drop, msgqueue_sweep},
    {.name = NULL},
};

const struct leak_kind *leak_kind_find(const char *name)
{
    for (const struct leak_kind *kind = leak_kinds; kind->name; kind++) {
        if (strcmp(kind->name, name) == 0) {
            return kind;
        }
    }
    return NULL;
}
