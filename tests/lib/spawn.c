/* Children of a test. */
#include "tests/lib/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"

enum { POLL_MS = 5 };

const char *spawn_program(const char *name)
{
    static char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
    assert_true(n > 0);
    path[n] = '\0';
    char *slash = strrchr(path, '/');
    assert_non_null(slash);
    size_t left = sizeof(path) - (size_t)(slash + 1 - path);
    assert_true((size_t)snprintf(slash + 1, left, "%s", name) < left);
    return path;
}

void spawn_sleep_ms(long ms)
{
    struct timespec t = {ms / 1000, (ms % 1000) * 1000000};
    while (nanosleep(&t, &t) != 0 && errno == EINTR) {
    }
}

/* In the child: never returns. */
static void become(const char *const argv[], int out_fd, int err_fd)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == 1) {
        _exit(127); /* the test died before the call above */
    }
    if (out_fd >= 0) {
        (void)dup2(out_fd, STDOUT_FILENO);
    }
    if (err_fd >= 0) {
        (void)dup2(err_fd, STDERR_FILENO);
    }
    (void)execv(argv[0], (char *const *)(uintptr_t)argv);
    (void)dprintf(STDERR_FILENO, "exec %s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

pid_t spawn(const char *log_path, const char *const argv[])
{
    int fd = -1;
    if (log_path != NULL) {
        fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        assert_true(fd >= 0);
    }
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        become(argv, fd, fd);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return pid;
}

static int exit_code(int status)
{
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int spawn_wait(pid_t pid, int timeout_s)
{
    int64_t end_us = psc_clock_mono_us() + timeout_s * PSC_US_PER_S;
    for (;;) {
        int status = 0;
        pid_t done = waitpid(pid, &status, WNOHANG);
        assert_true(done >= 0);
        if (done == pid) {
            return exit_code(status);
        }
        if (psc_clock_mono_us() > end_us) {
            (void)kill(pid, SIGKILL);
            (void)waitpid(pid, &status, 0);
            fail_msg("process %d did not end within %d s", (int)pid, timeout_s);
        }
        spawn_sleep_ms(POLL_MS);
    }
}

int spawn_stop(pid_t pid, int signal, int timeout_s)
{
    assert_int_equal(kill(pid, signal), 0);
    return spawn_wait(pid, timeout_s);
}

bool spawn_running(pid_t pid)
{
    siginfo_t info = {0};
    if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0) {
        return false;
    }
    return info.si_pid == 0;
}

int spawn_capture(const char *const argv[], char *out, size_t cap,
                  int timeout_s)
{
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        become(argv, fds[1], -1);
    }
    (void)close(fds[1]);

    int64_t end_us = psc_clock_mono_us() + timeout_s * PSC_US_PER_S;
    size_t len = 0;
    bool open = true;
    while (open && psc_clock_mono_us() < end_us) {
        struct pollfd p = {.fd = fds[0], .events = POLLIN};
        if (poll(&p, 1, 100) <= 0) {
            continue;
        }
        char chunk[4096];
        ssize_t n = read(fds[0], chunk, sizeof(chunk));
        open = n > 0;
        for (ssize_t i = 0; i < n && len + 1 < cap; i++) {
            out[len++] = chunk[i];
        }
    }
    out[len] = '\0';
    (void)close(fds[0]);
    return spawn_wait(pid, open ? 0 : timeout_s);
}

void spawn_read_line(const char *path, char *out, size_t cap, int timeout_s)
{
    int64_t end_us = psc_clock_mono_us() + timeout_s * PSC_US_PER_S;
    while (psc_clock_mono_us() < end_us) {
        FILE *f = fopen(path, "r");
        if (f != NULL) {
            char *line = fgets(out, (int)cap, f);
            (void)fclose(f);
            if (line != NULL && strchr(line, '\n') != NULL) {
                line[strcspn(line, "\n")] = '\0';
                return;
            }
        }
        spawn_sleep_ms(POLL_MS);
    }
    fail_msg("no line in %s within %d s", path, timeout_s);
}
