/* The floor under any agent's cost: a loop that reads the files the agent
 * reads, once an interval, and does nothing with them. tests/bench/agent runs
 * it beside the agent and measures both from outside.
 *
 *   bench-agent-floor INTERVAL_MS PHASE_MS FILE...
 *
 * Reads at whole multiples of the interval on the boot clock (as the agent
 * does without jitter), PHASE_MS later, until it is killed. Files stay open
 * between rounds. Two FILEs stand for more: "processes" for the stat file of
 * each process and the size of its fd folder, with kernel threads in one round
 * of 16 only, as in the agent; "all-processes" for the same with the kernel
 * threads each time. */
#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    FILES_MAX = 1024,
    PIDS_MAX = 65536, /* beyond it, kernel threads are read each time */
    KERNEL_THREAD_ROUNDS = 16,
    BUFFER_BYTES = 32 * 1024,
};

struct floor {
    int fds[FILES_MAX];
    unsigned n_fds;
    int proc_fd;         /* -1: no processes */
    bool all_each_round; /* kernel threads too */
    unsigned round;
};

static char buffer[BUFFER_BYTES];
static unsigned char is_kernel_thread[PIDS_MAX / 8];

static void read_all(int fd)
{
    off_t at = 0;
    ssize_t n;
    while ((n = pread(fd, buffer, sizeof(buffer), at)) > 0) {
        at += n;
    }
}

/* A kernel thread has the virtual size 0, the 23rd field. */
static bool looks_like_kernel_thread(ssize_t len)
{
    if (len <= 0 || len >= BUFFER_BYTES) {
        return false;
    }
    buffer[len] = '\0';
    const char *at = strrchr(buffer, ')');
    for (int field = 2; at != NULL && field < 23; field++) {
        at = strchr(at + 1, ' ');
    }
    return at != NULL && strncmp(at, " 0 ", 3) == 0;
}

static void read_process(struct floor *f, const char *name)
{
    unsigned long pid = strtoul(name, NULL, 10);
    unsigned char bit = (unsigned char)(1u << pid % 8);
    bool known = pid < PIDS_MAX && (is_kernel_thread[pid / 8] & bit) != 0;
    if (known && !f->all_each_round &&
        (f->round + pid) % KERNEL_THREAD_ROUNDS != 0) {
        return;
    }
    char path[64];
    (void)snprintf(path, sizeof(path), "%.20s/stat", name);
    int fd = openat(f->proc_fd, path, O_RDONLY);
    if (fd < 0) {
        return;
    }
    ssize_t len = read(fd, buffer, 1024);
    (void)close(fd);
    if (known) {
        return;
    }
    if (pid < PIDS_MAX && looks_like_kernel_thread(len)) {
        is_kernel_thread[pid / 8] |= bit;
        return;
    }
    struct stat st;
    (void)snprintf(path, sizeof(path), "%.20s/fd", name);
    (void)fstatat(f->proc_fd, path, &st, 0);
}

static void read_processes(struct floor *f, DIR *dir)
{
    rewinddir(dir);
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (e->d_name[0] >= '1' && e->d_name[0] <= '9') {
            read_process(f, e->d_name);
        }
    }
}

static void open_file(struct floor *f, const char *path)
{
    if (strcmp(path, "processes") == 0 || strcmp(path, "all-processes") == 0) {
        f->proc_fd = open("/proc", O_RDONLY | O_DIRECTORY);
        f->all_each_round = *path == 'a';
        return;
    }
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    if (fd < 0) {
        fprintf(stderr, "bench-agent-floor: cannot open %s\n", path);
    } else if (f->n_fds < FILES_MAX) {
        (void)lseek(fd, 0, SEEK_END); /* /dev/kmsg: what is new only */
        f->fds[f->n_fds++] = fd;
    }
}

/* Until the next multiple of the interval and the phase. */
static void wait_for_round(int64_t interval_ms, int64_t phase_ms)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_BOOTTIME, &t);
    int64_t now_ms = t.tv_sec * 1000LL + t.tv_nsec / 1000000;
    int64_t at_ms =
        ((now_ms - phase_ms) / interval_ms + 1) * interval_ms + phase_ms;
    t.tv_sec = at_ms / 1000;
    t.tv_nsec = at_ms % 1000 * 1000000;
    (void)clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &t, NULL);
}

int main(int argc, char **argv)
{
    static struct floor f = {.proc_fd = -1};
    long interval_ms = argc > 3 ? strtol(argv[1], NULL, 10) : 0;
    long phase_ms = argc > 3 ? strtol(argv[2], NULL, 10) : 0;
    if (interval_ms < 1 || phase_ms < 0) {
        fprintf(stderr, "usage: %s INTERVAL_MS PHASE_MS FILE...\n", argv[0]);
        return 2;
    }
    for (int i = 3; i < argc; i++) {
        open_file(&f, argv[i]);
    }
    DIR *dir = f.proc_fd >= 0 ? fdopendir(f.proc_fd) : NULL;
    for (;; f.round++) {
        wait_for_round(interval_ms, phase_ms);
        for (unsigned i = 0; i < f.n_fds; i++) {
            read_all(f.fds[i]);
        }
        if (dir != NULL) {
            read_processes(&f, dir);
        }
    }
}
