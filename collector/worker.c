/* The worker's thread: connect, then in turns housekeeping, detection, and
 * settling.
 *
 * It is stopped by a flag, a condition for its sleep, and for its query by
 * shutting its socket, upon which libpq returns; the server ends what it was
 * doing for us because of client_connection_check_interval. A cancel request
 * would end that sooner, but waits for a server that is stuck. */
#include "collector/worker.h"

#include <fcntl.h>
#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "collector/convert.h"
#include "collector/pgconnect.h"
#include "collector/rollup.h"
#include "collector/settle.h"
#include "collector/watch.h"
#include "common/clock.h"
#include "common/log.h"

enum {
    PASS_MS = 2000,
    BEHIND_MS = 100, /* between passes when there is more to settle */
    CONNECT_STEP_MS = 100,
    CONNECT_MS = 10000,
    RETRY_MS = 2000,
};

#define MAINTAIN_US (60 * PSC_US_PER_S)
#define ROLLUP_US   (60 * PSC_US_PER_S)
#define BUDGET_US   PSC_US_PER_S /* of a pass, where there is more to do */

struct worker {
    pthread_t thread;
    char *conninfo; /* owned */
    struct metrics *metrics;
    atomic_bool stop;
    pthread_mutex_t lock; /* of its sleep */
    pthread_cond_t wake;
    int fd;                /* ours for life: a duplicate of the newest socket */
    int64_t maintain_us;   /* thread only: monotonic, when it is due */
    bool is_stuck;         /* thread only: the ring does not turn, as told */
    struct watch *watch;   /* thread only */
    struct settle *settle; /* thread only */
    struct convert convert; /* thread only */
    struct rollup rollup;   /* thread only */
    int64_t rollup_us;      /* thread only: monotonic, when it is due */
};

static void sleep_ms(struct worker *w, int64_t ms)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    (void)pthread_mutex_lock(&w->lock);
    while (!atomic_load(&w->stop) &&
           pthread_cond_timedwait(&w->wake, &w->lock, &until) == 0) {
    }
    (void)pthread_mutex_unlock(&w->lock);
}

/* ---- connecting ---- */

/* Drive PQconnectPoll() in short steps, so that a stop is noticed. */
static bool finish_connecting(struct worker *w, PGconn *conn)
{
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;
    for (int ms = 0; ms < CONNECT_MS && !atomic_load(&w->stop);
         ms += CONNECT_STEP_MS) {
        struct pollfd fd = {
            .fd = PQsocket(conn),
            .events = status == PGRES_POLLING_READING ? POLLIN : POLLOUT,
        };
        while (poll(&fd, 1, CONNECT_STEP_MS) > 0) {
            status = PQconnectPoll(conn);
            if (status == PGRES_POLLING_OK) {
                return true;
            }
            if (status == PGRES_POLLING_FAILED || atomic_load(&w->stop)) {
                return false;
            }
            fd.fd = PQsocket(conn);
            fd.events = status == PGRES_POLLING_READING ? POLLIN : POLLOUT;
        }
    }
    return false;
}

static bool run_sql(PGconn *conn, const char *sql)
{
    PGresult *res = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(res);
    PQclear(res);
    return status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK;
}

static void on_notice(void *arg, const PGresult *res)
{
    (void)arg;
    (void)res;
}

/* Let others end what @conn is doing, without touching it: libpq may close its
 * socket at any time, but never our duplicate. Returns false if it is of no
 * use, or time to stop. */
static bool publish(struct worker *w, const PGconn *conn)
{
    return dup3(PQsocket(conn), w->fd, O_CLOEXEC) >= 0 &&
           !atomic_load(&w->stop);
}

static void disconnect(struct worker *w, PGconn *conn)
{
    PQfinish(conn);
    (void)shutdown(w->fd, SHUT_RDWR); /* the duplicate would keep it open */
}

static PGconn *connect_once(struct worker *w)
{
    PGconn *conn = pgconnect_start("poolscope-worker", w->conninfo);
    if (conn != NULL && PQstatus(conn) != CONNECTION_BAD &&
        finish_connecting(w, conn) && publish(w, conn)) {
        (void)PQsetNoticeReceiver(conn, on_notice, NULL);
        if (run_sql(conn, "SET lock_timeout = '10s'") &&
            run_sql(conn, "SET statement_timeout = '5min'") &&
            run_sql(conn, "SET client_connection_check_interval = '2s'")) {
            return conn;
        }
    }
    psc_log_debug("worker: %s", PQerrorMessage(conn));
    disconnect(w, conn);
    return NULL;
}

/* ---- the work ---- */

/* Returns false when the connection is of no use any more. */
static bool maintain(struct worker *w, PGconn *conn)
{
    PGresult *res = PQexec(conn, "SELECT (m ->> 'more')::bool, m ->> 'failed' "
                                 "FROM poolscope_api.maintain('10 seconds') m");
    bool good = PQresultStatus(res) == PGRES_TUPLES_OK;
    bool more =
        good && PQntuples(res) > 0 && strcmp(PQgetvalue(res, 0, 0), "t") == 0;
    if ((!good && !atomic_load(&w->stop)) ||
        (good && PQgetisnull(res, 0, 1) == 0)) {
        struct psc_error why; /* in one line */
        (void)psc_error_set(&why, PSC_DATABASE, "%.200s",
                            good ? PQgetvalue(res, 0, 1)
                                 : PQresultErrorMessage(res));
        psc_log_warn("housekeeping: %s", why.msg);
        metrics_add(w->metrics, worker_failures, 1);
    }
    PQclear(res);
    w->maintain_us = psc_clock_mono_us() + (more ? 0 : MAINTAIN_US);
    return PQstatus(conn) == CONNECTION_OK;
}

static void tell_stuck(struct worker *w, bool is_stuck)
{
    if (is_stuck && !w->is_stuck) {
        psc_log_warn("housekeeping: no slot of fresh samples can be emptied, "
                     "the present one grows");
    } else if (w->is_stuck && !is_stuck) {
        psc_log_info("housekeeping: slots of fresh samples are emptied again");
    }
    w->is_stuck = is_stuck;
}

/* Turn the ring of fresh samples. Returns false when the connection is of no
 * use any more. */
static bool turn(struct worker *w, PGconn *conn)
{
    PGresult *res = PQexec(conn, "SELECT full_slots, stuck "
                                 "FROM poolscope_api.fresh_turn()");
    if (PQresultStatus(res) != PGRES_TUPLES_OK) {
        if (!atomic_load(&w->stop)) {
            struct psc_error why; /* in one line */
            (void)psc_error_set(&why, PSC_DATABASE, "%.200s",
                                PQresultErrorMessage(res));
            psc_log_warn("housekeeping: %s", why.msg);
            metrics_add(w->metrics, worker_failures, 1);
        }
    } else if (PQntuples(res) > 0 && PQgetisnull(res, 0, 0) == 0) {
        metrics_set(w->metrics, fresh_full,
                    strtoul(PQgetvalue(res, 0, 0), NULL, 10));
        tell_stuck(w, strcmp(PQgetvalue(res, 0, 1), "t") == 0);
    }
    PQclear(res);
    return PQstatus(conn) == CONNECTION_OK;
}

/* *@more: something is left to settle. */
static bool settle(struct worker *w, PGconn *conn, bool *more)
{
    struct psc_error err = {.msg = ""};
    int rc = settle_pass(w->settle, conn, more, &err);
    if (rc != PSC_OK && !atomic_load(&w->stop)) {
        psc_log_warn("settling: %s", err.msg);
        metrics_add(w->metrics, worker_failures, 1);
    }
    return rc != PSC_CONNECTION && PQstatus(conn) == CONNECTION_OK;
}

/* Old samples into chunks, days into summaries. *@more: something is left. */
static bool sum_up(struct worker *w, PGconn *conn, bool *more)
{
    struct psc_error err = {.msg = ""};
    int64_t until_us = psc_clock_mono_us() + BUDGET_US;
    bool old = false, due = false;
    int rc = convert_pass(&w->convert, conn, until_us, &old, &err);
    if (rc == PSC_OK && psc_clock_mono_us() >= w->rollup_us) {
        rc = rollup_pass(&w->rollup, conn, until_us, &due, &err);
        w->rollup_us = psc_clock_mono_us() + (due ? 0 : ROLLUP_US);
    }
    if (rc != PSC_OK && !atomic_load(&w->stop)) {
        psc_log_warn("summaries: %s", err.msg);
        metrics_add(w->metrics, worker_failures, 1);
    }
    *more = *more || old || due;
    return rc != PSC_CONNECTION && PQstatus(conn) == CONNECTION_OK;
}

static bool detect(struct worker *w, PGconn *conn)
{
    struct psc_error err = {.msg = ""};
    int rc = watch_pass(w->watch, conn, &err);
    if (rc != PSC_OK && !atomic_load(&w->stop)) {
        psc_log_warn("detection: %s", err.msg);
        metrics_add(w->metrics, worker_failures, 1);
    }
    return rc != PSC_CONNECTION && PQstatus(conn) == CONNECTION_OK;
}

static void work(struct worker *w, PGconn *conn)
{
    bool good = true;
    while (good && !atomic_load(&w->stop)) {
        int64_t start_us = psc_clock_mono_us();
        if (start_us >= w->maintain_us) {
            good = maintain(w, conn) && turn(w, conn);
        }
        if (good && !atomic_load(&w->stop)) {
            good = detect(w, conn);
        }
        bool more = false;
        if (good && !atomic_load(&w->stop)) {
            good = settle(w, conn, &more);
        }
        if (good && !atomic_load(&w->stop)) {
            good = sum_up(w, conn, &more);
        }
        metrics_add(w->metrics, worker_runs, 1);
        metrics_add(w->metrics, worker_us, psc_clock_mono_us() - start_us);
        if (good) {
            sleep_ms(w, more ? BEHIND_MS : PASS_MS);
        }
    }
}

static void *run(void *arg)
{
    struct worker *w = arg;
    while (!atomic_load(&w->stop)) {
        PGconn *conn = connect_once(w);
        if (conn == NULL) {
            sleep_ms(w, RETRY_MS);
            continue;
        }
        work(w, conn);
        watch_forget_connection(w->watch);
        settle_forget_connection(w->settle);
        disconnect(w, conn);
    }
    return NULL;
}

/* ---- from the loop's thread ---- */

static int init_locks(struct worker *w)
{
    pthread_condattr_t attr;
    if (pthread_condattr_init(&attr) != 0) {
        return PSC_NOMEM;
    }
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    int rc = pthread_mutex_init(&w->lock, NULL);
    rc = rc == 0 ? pthread_cond_init(&w->wake, &attr) : rc;
    (void)pthread_condattr_destroy(&attr);
    return rc == 0 ? PSC_OK : PSC_NOMEM;
}

static void release(struct worker *w)
{
    if (w->fd >= 0) {
        (void)close(w->fd);
    }
    watch_free(w->watch);
    settle_free(w->settle);
    rollup_fini(&w->rollup);
    free(w->conninfo);
    free(w);
}

int worker_start(struct worker **worker, const char *conninfo,
                 struct metrics *metrics, struct psc_error *err)
{
    struct worker *w = calloc(1, sizeof(*w));
    if (w == NULL) {
        return psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    w->metrics = metrics;
    convert_init(&w->convert, &w->stop);
    rollup_init(&w->rollup, metrics, &w->stop);
    /* Connected to nothing yet; a connection's socket takes its place. So the
     * stop of a query needs no descriptor that might not be left then. */
    w->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    w->conninfo = strdup(conninfo);
    w->watch = watch_new(metrics, &w->stop);
    w->settle = settle_new(metrics, &w->stop);
    if (w->fd < 0 || w->conninfo == NULL || w->watch == NULL ||
        w->settle == NULL || init_locks(w) != PSC_OK ||
        pthread_create(&w->thread, NULL, run, w) != 0) {
        release(w);
        return psc_error_set(err, PSC_NOMEM, "cannot start the worker");
    }
    *worker = w;
    return PSC_OK;
}

void worker_interrupt(struct worker *w)
{
    (void)pthread_mutex_lock(&w->lock);
    atomic_store(&w->stop, true);
    (void)pthread_cond_signal(&w->wake);
    (void)pthread_mutex_unlock(&w->lock);
    (void)shutdown(w->fd, SHUT_RDWR);
}

void worker_stop(struct worker *w)
{
    if (w == NULL) {
        return;
    }
    worker_interrupt(w);
    (void)pthread_join(w->thread, NULL);
    (void)pthread_cond_destroy(&w->wake);
    (void)pthread_mutex_destroy(&w->lock);
    release(w);
}
