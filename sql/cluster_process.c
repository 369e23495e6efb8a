/* The processes of a cluster, found in /proc.
 *
 * postmaster.pid alone proves nothing: its pid may long be another process.
 * Every server process has the cluster as working directory, so that is what
 * is asked. When a postmaster is killed its busy backends live on for a
 * while, and no new postmaster may start beside them. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/file.h"
#include "sql/cluster.h"

enum {
    PIDS_MAX = 1024,
    PATIENCE_MS = 3000, /* before SIGKILL, and again after it */
    LOOK_MS = 10,
    PID_FILE_MAX_BYTES = 8192,
    PID_FILE_SOCKET_LINE = 5,
};

static bool is_postgres(pid_t pid)
{
    char path[64];
    char name[32] = "";
    (void)snprintf(path, sizeof(path), "/proc/%ld/comm", (long)pid);
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        return false;
    }
    bool read = fgets(name, sizeof(name), f) != NULL;
    (void)fclose(f);
    return read && strncmp(name, "postgres", strlen("postgres")) == 0;
}

/* Is @pid a server process that works in the directory @dir? */
static bool belongs(pid_t pid, const struct stat *dir)
{
    char path[64];
    struct stat st;
    (void)snprintf(path, sizeof(path), "/proc/%ld/cwd", (long)pid);
    return stat(path, &st) == 0 && st.st_dev == dir->st_dev &&
           st.st_ino == dir->st_ino && is_postgres(pid);
}

size_t cluster_processes(const struct cluster *c, pid_t *pids, size_t cap)
{
    struct stat dir;
    size_t n = 0;
    DIR *proc = opendir("/proc");
    if (proc == NULL) {
        return 0;
    }
    if (stat(c->dir, &dir) == 0) {
        const struct dirent *entry;
        while (n < cap && (entry = readdir(proc)) != NULL) {
            if (!isdigit((unsigned char)entry->d_name[0])) {
                continue;
            }
            pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
            if (belongs(pid, &dir)) {
                pids[n++] = pid;
            }
        }
    }
    (void)closedir(proc);
    return n;
}

pid_t cluster_postmaster(const struct cluster *c, char *socket_dir)
{
    char path[PATH_MAX];
    struct psc_buf text;
    struct stat dir = {0};
    pid_t pid = 0;
    psc_buf_init(&text, PID_FILE_MAX_BYTES);
    if (psc_path_join(path, sizeof(path), c->dir, "postmaster.pid") == 0 &&
        stat(c->dir, &dir) == 0 && psc_file_read(path, &text, NULL) == 0) {
        psc_buf_u8(&text, '\0');
    }
    if (psc_buf_error(&text) == PSC_OK && text.len > 0) {
        char *save = NULL;
        char *line = strtok_r((char *)text.data, "\n", &save);
        pid = line != NULL ? (pid_t)strtol(line, NULL, 10) : 0;
        for (int i = 1; i < PID_FILE_SOCKET_LINE && line != NULL; i++) {
            line = strtok_r(NULL, "\n", &save);
        }
        if (socket_dir != NULL) {
            (void)snprintf(socket_dir, PATH_MAX, "%s",
                           line != NULL ? line : "");
        }
    }
    psc_buf_fini(&text);
    return pid > 0 && belongs(pid, &dir) ? pid : 0;
}

static void pause_ms(long ms)
{
    struct timespec pause = {.tv_sec = ms / 1000,
                             .tv_nsec = ms % 1000 * 1000000};
    (void)nanosleep(&pause, NULL);
}

/* Send @signal to all; how many were there. */
static size_t signal_all(const struct cluster *c, int signal)
{
    pid_t pids[PIDS_MAX];
    size_t n = cluster_processes(c, pids, PIDS_MAX);
    for (size_t i = 0; i < n; i++) {
        (void)kill(pids[i], signal);
    }
    return n;
}

/* Wait until none is left. */
static bool wait_gone(const struct cluster *c)
{
    pid_t pid;
    int64_t deadline_us = psc_clock_mono_us() + PATIENCE_MS * PSC_US_PER_MS;
    while (cluster_processes(c, &pid, 1) != 0) {
        if (psc_clock_mono_us() >= deadline_us) {
            return false;
        }
        pause_ms(LOOK_MS);
    }
    return true;
}

int cluster_end_processes(const struct cluster *c, int signal,
                          struct psc_error *err)
{
    if (signal_all(c, signal) != 0 && !wait_gone(c)) {
        (void)signal_all(c, SIGKILL);
        if (!wait_gone(c)) {
            return psc_error_set(err, PSC_DATABASE,
                                 "processes of the PostgreSQL in %s cannot be "
                                 "ended",
                                 c->dir);
        }
    }
    return PSC_OK;
}

bool cluster_has_pid_file(const struct cluster *c)
{
    char path[PATH_MAX];
    return psc_path_join(path, sizeof(path), c->dir, "postmaster.pid") == 0 &&
           access(path, F_OK) == 0;
}

void cluster_remove_pid_file(const struct cluster *c)
{
    char path[PATH_MAX];
    if (psc_path_join(path, sizeof(path), c->dir, "postmaster.pid") == 0) {
        (void)unlink(path);
    }
}
