/* The worker processes of a leak test. See the header.
 *
 * Happy path: fork, get ready, then for each byte on the pipe make objects up
 * to the target; the pipe's end (the parent closes it, or dies) or SIGTERM
 * (also sent by the kernel when the parent dies) ends the worker, which drops
 * all first. A worker that is killed outright loses its objects with its
 * process; what outlives a process the parent sweeps. */
#include "cli/leaktest_crew_linux.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"

#define READY_TIMEOUT_US (30 * PSC_US_PER_S)
#define END_TIMEOUT_US   (60 * PSC_US_PER_S)
#define LOOK_EVERY       256 /* objects between looks at target and signal */

static volatile sig_atomic_t worker_stop;

static void on_term(int signal_number)
{
    (void)signal_number;
    worker_stop = 1;
}

int crew_init(struct crew *c, const struct leak_kind *kind,
              const struct leak_limits *limits, struct psc_error *err)
{
    memset(c, 0, sizeof *c);
    c->kind = kind;
    c->limits = limits;
    c->workers = calloc(CREW_MAX, sizeof *c->workers);
    c->slots = mmap(NULL, CREW_MAX * sizeof *c->slots, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!c->workers || c->slots == MAP_FAILED) {
        free(c->workers);
        return psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    return 0;
}

/* --- in the worker --- */

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "we");

    if (f) {
        fputs(text, f);
        fclose(f);
    }
}

/* Take the signals of a worker, be the first to go when memory runs out, and
 * let the table of open files grow now rather than in steps later. */
static void get_ready(const struct crew *c, int index, int wake, pid_t parent)
{
    struct sigaction term = {.sa_handler = on_term};
    struct rlimit files;

    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    sigaction(SIGTERM, &term, NULL);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) {
        worker_stop = 1;
    }
    for (int i = 0; i < index; i++) {
        if (c->workers[i].pid != 0) {
            close(c->workers[i].wake);
        }
    }
    write_file("/proc/self/oom_score_adj", "1000\n");
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    int64_t highest = c->limits->worker_ids + 32;
    if (highest < (int64_t)files.rlim_cur && dup2(wake, (int)highest) >= 0) {
        close((int)highest);
    }
}

/* Bring what is held to the target. */
static void follow(struct crew_slot *slot, const struct leak_kind *kind,
                   struct leak_holder *h)
{
    if (slot->target < h->made) {
        kind->drop(h);
        slot->made = h->made;
    }
    while (!worker_stop && slot->error == 0 && h->made < slot->target) {
        for (int i = 0; i < LOOK_EVERY && h->made < slot->target; i++) {
            int error = kind->make(h);
            if (error != 0) {
                slot->error = error;
                break;
            }
        }
        slot->made = h->made;
    }
}

static void work(const struct crew *c, int index, int wake, pid_t parent)
{
    struct crew_slot *slot = &c->slots[index];
    struct leak_holder h;
    char bytes[64];

    get_ready(c, index, wake, parent);
    if (leak_holder_init(&h, c->limits) != 0) {
        slot->error = ENOMEM;
        _exit(1);
    }
    slot->made = 0; /* ready: it was -1 */
    while (!worker_stop) {
        ssize_t n = read(wake, bytes, sizeof bytes);
        if (n == 0 || (n < 0 && errno != EINTR)) {
            break;
        }
        follow(slot, c->kind, &h);
    }
    c->kind->drop(&h);
    leak_holder_fini(&h);
    _exit(0);
}

/* --- in the parent --- */

static int hire_one(struct crew *c, struct psc_error *err)
{
    int ends[2];
    pid_t parent = getpid();

    if (pipe2(ends, O_CLOEXEC) != 0) {
        return psc_error_set(err, PSC_LIMIT, "pipe for a worker: %s",
                             strerror(errno));
    }
    c->slots[c->n].made = -1;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[1]);
        work(c, c->n, ends[0], parent);
    }
    close(ends[0]);
    if (pid < 0) {
        int error = errno;
        close(ends[1]);
        return psc_error_set(err, PSC_LIMIT, "worker %d: %s", c->n + 1,
                             strerror(error));
    }
    fcntl(ends[1], F_SETFL, O_NONBLOCK); /* a full pipe wakes just as well */
    c->workers[c->n].pid = pid;
    c->workers[c->n].wake = ends[1];
    c->n++;
    return 0;
}

int crew_hire(struct crew *c, int n, struct psc_error *err)
{
    int64_t until_us = psc_clock_mono_us() + READY_TIMEOUT_US;

    while (c->n < n && c->n < CREW_MAX) {
        int rc = hire_one(c, err);
        if (rc != 0) {
            return rc;
        }
    }
    for (int i = 0; i < c->n; i++) {
        while (c->slots[i].made < 0) {
            int rc = crew_check(c, err);
            if (rc != 0) {
                return rc;
            }
            if (psc_clock_mono_us() > until_us) {
                return psc_error_set(err, PSC_TIMEOUT,
                                     "worker %d does not get ready", i + 1);
            }
            usleep(1000);
        }
    }
    return 0;
}

void crew_set(struct crew *c, int64_t objects)
{
    int64_t each = c->limits->worker_objects;

    for (int i = 0; i < c->n; i++) {
        int64_t mine = objects < each ? objects : each;
        objects -= mine;
        if (c->slots[i].target != mine) {
            c->slots[i].target = mine;
            ssize_t ignored = write(c->workers[i].wake, "", 1);
            (void)ignored; /* full: there is something to read already */
        }
    }
}

int64_t crew_made(const struct crew *c)
{
    int64_t made = 0;

    for (int i = 0; i < c->n; i++) {
        made += c->slots[i].made;
    }
    return made;
}

static int name_death(struct psc_error *err, int worker, int status)
{
    if (WIFSIGNALED(status)) {
        return psc_error_set(err, PSC_CLOSED,
                             "worker %d was killed by signal %d%s: what it "
                             "held is free",
                             worker + 1, WTERMSIG(status),
                             WTERMSIG(status) == SIGKILL
                                 ? " (short of memory, or by hand)"
                                 : "");
    }
    return psc_error_set(err, PSC_CLOSED, "worker %d ended (exit status %d)",
                         worker + 1, WEXITSTATUS(status));
}

int crew_check(struct crew *c, struct psc_error *err)
{
    for (int i = 0; i < c->n; i++) {
        int status;
        if (c->slots[i].error != 0) {
            return psc_error_set(err, PSC_LIMIT, "worker %d, object %lld: %s",
                                 i + 1, (long long)c->slots[i].made + 1,
                                 strerror(c->slots[i].error));
        }
        if (c->workers[i].pid != 0 &&
            waitpid(c->workers[i].pid, &status, WNOHANG) == c->workers[i].pid) {
            c->workers[i].pid = 0;
            close(c->workers[i].wake);
            return name_death(err, i, status);
        }
    }
    return 0;
}

int crew_wait(struct crew *c, int64_t objects, int64_t timeout_us,
              const volatile int *stop, struct psc_error *err)
{
    int64_t until_us = psc_clock_mono_us() + timeout_us;

    while (crew_made(c) != objects) {
        int rc = crew_check(c, err);
        if (rc != 0) {
            return rc;
        }
        if (*stop) {
            return psc_error_set(err, PSC_CLOSED, "stopped");
        }
        if (psc_clock_mono_us() > until_us) {
            return psc_error_set(err, PSC_TIMEOUT,
                                 "the workers are too slow: %lld of %lld "
                                 "objects",
                                 (long long)crew_made(c), (long long)objects);
        }
        usleep(1000);
    }
    return 0;
}

/* Wait for one worker's end, in the end by force. */
static void see_off(struct crew_worker *worker, int64_t until_us)
{
    while (waitpid(worker->pid, NULL, WNOHANG) == 0) {
        if (psc_clock_mono_us() > until_us) {
            kill(worker->pid, SIGKILL);
            waitpid(worker->pid, NULL, 0);
            break;
        }
        usleep(2000);
    }
    worker->pid = 0;
}

void crew_fini(struct crew *c)
{
    int64_t until_us = psc_clock_mono_us() + END_TIMEOUT_US;

    for (int i = 0; i < c->n; i++) {
        if (c->workers[i].pid != 0) {
            close(c->workers[i].wake);
        }
    }
    for (int i = 0; i < c->n; i++) {
        if (c->workers[i].pid != 0) {
            see_off(&c->workers[i], until_us);
        }
    }
    if (c->kind->sweep) {
        c->kind->sweep(c->limits);
    }
    munmap(c->slots, CREW_MAX * sizeof *c->slots);
    free(c->workers);
    c->n = 0;
}
