/* Run one program to its end.
 *
 * The parent reads the pipe until the program closes it, then reaps the
 * child; both within the time allowed. Nothing between fork() and exec() but
 * plain system calls. */
#include "sql/process.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"

enum {
    CHILD_CANNOT_BECOME = 124,
    CHILD_CANNOT_ENTER = 125,
    CHILD_CANNOT_RUN = 126,
    POLL_MS = 100,
};

static char *const environment[] = {
    "PATH=/usr/local/bin:/usr/bin:/bin",
    "HOME=/",
    "LC_ALL=C.UTF-8",
    NULL,
};

static void become(const struct account *as)
{
    if (as == NULL || as->uid == geteuid()) {
        return;
    }
    if (setgroups(1, &as->gid) != 0 || setgid(as->gid) != 0 ||
        setuid(as->uid) != 0) {
        _exit(CHILD_CANNOT_BECOME);
    }
}

/* In the child; does not return. In a session of its own, so that Ctrl-C does
 * not reach a server that it starts; killed when @parent dies. */
static void run(const struct process *p, int out_fd, pid_t parent)
{
    (void)setsid();
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    for (int s = 1; s < NSIG; s++) {
        (void)signal(s, SIG_DFL);
    }
    int null_fd = open("/dev/null", O_RDONLY);
    if (null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0 ||
        dup2(out_fd, STDOUT_FILENO) < 0 || dup2(out_fd, STDERR_FILENO) < 0) {
        _exit(CHILD_CANNOT_RUN);
    }
    (void)close_range(STDERR_FILENO + 1, ~0U, 0);
    (void)umask(077);
    become(p->as); /* which would clear the next */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) {
        _exit(CHILD_CANNOT_RUN);
    }
    if (chdir(p->dir != NULL ? p->dir : "/") != 0) {
        _exit(CHILD_CANNOT_ENTER);
    }
    execve(p->argv[0], (char *const *)(uintptr_t)p->argv, environment);
    _exit(CHILD_CANNOT_RUN);
}

/* Read until the other end is closed. Returns false when time is up. */
static bool drain(int fd, struct psc_buf *output, int64_t deadline_us)
{
    char chunk[1024];
    for (;;) {
        if (psc_clock_mono_us() >= deadline_us) {
            return false;
        }
        struct pollfd pfd = {.fd = fd, .events = POLLIN};
        if (poll(&pfd, 1, POLL_MS) <= 0) {
            continue;
        }
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return true;
        }
        if (output != NULL) {
            psc_buf_append(output, chunk, (size_t)n);
        }
    }
}

/* Reap @pid, by force once time is up. Returns its wait status. */
static int reap(pid_t pid, int64_t deadline_us, bool *timed_out)
{
    int status = 0;
    for (;;) {
        pid_t done = waitpid(pid, &status, *timed_out ? 0 : WNOHANG);
        if (done == pid || (done < 0 && errno != EINTR)) {
            return status;
        }
        if (!*timed_out && psc_clock_mono_us() >= deadline_us) {
            *timed_out = true;
            (void)kill(pid, SIGKILL);
        }
        struct timespec pause = {.tv_nsec = 2000000};
        (void)nanosleep(&pause, NULL);
    }
}

static int judge(const struct process *p, int status, int *exit_code,
                 struct psc_error *err)
{
    const char *who = p->as != NULL ? p->as->name : "this user";
    *exit_code =
        WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    switch (*exit_code) {
    case CHILD_CANNOT_BECOME:
        return psc_error_set(err, PSC_PERMISSION, "cannot become user %s", who);
    case CHILD_CANNOT_ENTER:
        return psc_error_set(err, PSC_PERMISSION, "user %s cannot enter %s",
                             who, p->dir);
    case CHILD_CANNOT_RUN:
        return psc_error_set(err, PSC_IO, "cannot run %s", p->argv[0]);
    default: return PSC_OK;
    }
}

int process_run(const struct process *p, int *exit_code, struct psc_error *err)
{
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC) != 0) {
        return psc_error_set(err, PSC_IO, "pipe: %s", strerror(errno));
    }
    pid_t self = getpid();
    pid_t pid = fork();
    if (pid < 0) {
        int saved = errno;
        (void)close(pipe_fds[0]);
        (void)close(pipe_fds[1]);
        return psc_error_set(err, PSC_IO, "fork: %s", strerror(saved));
    }
    if (pid == 0) {
        run(p, pipe_fds[1], self);
    }
    (void)close(pipe_fds[1]);
    int64_t deadline_us = psc_clock_mono_us() + p->timeout_s * PSC_US_PER_S;
    bool timed_out = !drain(pipe_fds[0], p->output, deadline_us);
    (void)close(pipe_fds[0]);
    if (timed_out) {
        (void)kill(pid, SIGKILL);
    }
    int status = reap(pid, deadline_us, &timed_out);
    if (timed_out) {
        return psc_error_set(err, PSC_TIMEOUT, "%s did not end within %d s",
                             p->argv[0], p->timeout_s);
    }
    return judge(p, status, exit_code, err);
}
