/* libpq on libuv.
 *
 * Happy path: WAITING (no delay) -> RESOLVING (only if there are names) ->
 * CONNECTING -> PREPARING -> READY; jobs go out as "statements, sync" and come
 * back as "results, sync".
 *
 * Failures: a refused statement aborts its job's transaction and ends the job
 * with the server's words; the link stays. A lost connection, a server that
 * says nothing for the statement timeout and a bit, or one that is shutting
 * down: the connection is dropped, all jobs are kept and sent again after the
 * next successful connect. The delay doubles from 100 ms to its cap. */
#include "collector/pglink_io.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/lookup_io.h"
#include "collector/pgconnect.h"
#include "collector/pghosts.h"
#include "common/clock.h"

enum {
    FIRST_DELAY_MS = 100,
    CONNECT_MS = 10000,
    WATCHDOG_MARGIN_MS = 5000,
    LOG_INTERVAL_S = 30,
    BINARY = 1,
};

struct pglink_watch {
    uv_poll_t poll;
    struct pglink *link;
    int fd;
};

static void connect_now(struct pglink *l);
static void pump(struct pglink *l);
static void read_results(struct pglink *l);

static const char *const state_names[] = {
    [PGLINK_STOPPED] = "stopped",     [PGLINK_WAITING] = "waiting",
    [PGLINK_RESOLVING] = "resolving", [PGLINK_CONNECTING] = "connecting",
    [PGLINK_PREPARING] = "preparing", [PGLINK_READY] = "ready",
    [PGLINK_CLOSING] = "closing",
};

static void set_state(struct pglink *l, enum pglink_state state)
{
    psc_log_debug("database link %s: %s -> %s", l->settings.name,
                  state_names[l->state], state_names[state]);
    l->state = state;
}

/* ---- handles ---- */

static void maybe_fire_stopped(struct pglink *l)
{
    if (l->state == PGLINK_CLOSING && !l->timer_open && l->n_watches == 0) {
        set_state(l, PGLINK_STOPPED);
        if (l->on_stopped != NULL) {
            l->on_stopped(l);
        }
    }
}

static void on_watch_closed(uv_handle_t *handle)
{
    struct pglink_watch *w = handle->data;
    struct pglink *l = w->link;
    free(w);
    l->n_watches--;
    maybe_fire_stopped(l);
}

static void drop_watch(struct pglink *l)
{
    if (l->watch != NULL) {
        uv_close((uv_handle_t *)&l->watch->poll, on_watch_closed);
        l->watch = NULL;
    }
}

static void drop_connection(struct pglink *l)
{
    drop_watch(l);
    PQfinish(l->conn);
    l->conn = NULL;
    l->unsent = l->head;
    l->n_in_flight = 0;
    l->broken = false;
}

static void on_timer(uv_timer_t *timer);

static void arm(struct pglink *l, uint64_t ms)
{
    (void)uv_timer_start(&l->timer, on_timer, ms, 0);
}

/* Drop the connection, keep the jobs, try again later. */
static void fail(struct pglink *l, const char *why)
{
    bool was_up = l->state == PGLINK_READY;
    uint64_t suppressed;
    if (was_up ||
        psc_log_limit_pass(&l->log_limit, psc_clock_mono_us(),
                           LOG_INTERVAL_S * PSC_US_PER_S, &suppressed)) {
        psc_log_warn("database link %s: %s; trying again", l->settings.name,
                     why);
    }
    drop_connection(l);
    set_state(l, PGLINK_WAITING);
    arm(l, (uint64_t)(l->delay_us / PSC_US_PER_MS));
    l->delay_us = 2 * l->delay_us < l->settings.reconnect_max_us
                      ? 2 * l->delay_us
                      : l->settings.reconnect_max_us;
    if (was_up && l->settings.on_down != NULL) {
        l->settings.on_down(l);
    }
}

/* The first line of libpq's message. */
static void fail_by_libpq(struct pglink *l, const char *action)
{
    char why[400];
    const char *text = PQerrorMessage(l->conn);
    size_t len = strcspn(text, "\n");
    (void)snprintf(why, sizeof(why), "%s: %.*s", action,
                   (int)(len < 300 ? len : 300),
                   len > 0 ? text : "no message from libpq");
    fail(l, why);
}

static void on_timer(uv_timer_t *timer)
{
    struct pglink *l = timer->data;

    switch (l->state) {
    case PGLINK_WAITING: connect_now(l); break;
    case PGLINK_CONNECTING: fail(l, "no connection in time"); break;
    case PGLINK_PREPARING:
    case PGLINK_READY:
        if (l->broken) {
            fail_by_libpq(l, "sending");
        } else if (l->n_in_flight > 0 || l->preparing > 0) {
            fail(l, "the server does not answer");
        }
        break;
    case PGLINK_RESOLVING: /* the resolver ends by itself */
    case PGLINK_STOPPED:
    case PGLINK_CLOSING: break;
    }
}

static uint64_t watchdog_ms(const struct pglink *l)
{
    return (uint64_t)(l->settings.statement_us / PSC_US_PER_MS) +
           WATCHDOG_MARGIN_MS;
}

/* Sending failed where no callback may fire: go on from the loop. libpq may
 * have closed the socket, and whoever opens one next in this turn of the loop
 * gets its number: that must not be watched any more. */
static void mark_broken(struct pglink *l)
{
    drop_watch(l);
    l->broken = true;
    arm(l, 0);
}

static void on_poll(uv_poll_t *poll, int status, int events);

/* Watch the connection's present socket, which may have changed. */
static int watch(struct pglink *l, int events)
{
    int fd = PQsocket(l->conn);
    if (l->watch != NULL && l->watch->fd != fd) {
        drop_watch(l);
    }
    if (fd < 0) {
        return PSC_CONNECTION;
    }
    if (l->watch == NULL) {
        struct pglink_watch *w = calloc(1, sizeof(*w));
        if (w == NULL) {
            return PSC_NOMEM;
        }
        w->link = l;
        w->fd = fd;
        if (uv_poll_init(l->loop, &w->poll, fd) != 0) {
            free(w);
            return PSC_IO;
        }
        w->poll.data = w;
        l->watch = w;
        l->n_watches++;
    }
    return uv_poll_start(&l->watch->poll, events, on_poll) == 0 ? PSC_OK
                                                                : PSC_IO;
}

/* ---- connecting ---- */

static void connect_to(struct pglink *l, const char *conninfo)
{
    l->conn = pgconnect_start("poolscope-collector", conninfo);
    if (l->conn == NULL) {
        fail(l, "out of memory");
        return;
    }
    set_state(l, PGLINK_CONNECTING);
    if (PQstatus(l->conn) == CONNECTION_BAD ||
        watch(l, UV_WRITABLE) != PSC_OK) {
        fail_by_libpq(l, "connecting");
        return;
    }
    arm(l, CONNECT_MS);
}

static void on_looked_up(void *user, char *conninfo,
                         const struct psc_error *err)
{
    struct pglink *l = user;
    l->lookup = NULL;
    if (conninfo != NULL) {
        free(l->resolved);
        l->resolved = conninfo;
    } else if (l->resolved == NULL) {
        fail(l, err->msg);
        return;
    }
    connect_to(l, l->resolved);
}

static void connect_now(struct pglink *l)
{
    if (!l->has_names) {
        connect_to(l, l->settings.conninfo);
        return;
    }
    set_state(l, PGLINK_RESOLVING);
    if (lookup_start(&l->lookup, l->loop, l->settings.conninfo, on_looked_up,
                     l) != PSC_OK) {
        fail(l, "out of memory");
    }
}

/* One round trip sets the timeouts and prepares every statement. */
static int send_preparation(struct pglink *l)
{
    char sql[400];
    long long statement_ms = l->settings.statement_us / PSC_US_PER_MS;
    (void)snprintf(sql, sizeof(sql),
                   "SELECT set_config('statement_timeout', '%lld', false), "
                   "set_config('lock_timeout', '%lld', false), "
                   "set_config('idle_in_transaction_session_timeout', "
                   "'60000', false), "
                   "set_config('synchronous_commit', 'on', false), "
                   "set_config('client_encoding', 'UTF8', false)",
                   statement_ms, statement_ms / 2);
    if (PQsetnonblocking(l->conn, 1) != 0 || !PQenterPipelineMode(l->conn) ||
        !PQsendQueryParams(l->conn, sql, 0, NULL, NULL, NULL, NULL, 0)) {
        return PSC_CONNECTION;
    }
    for (const struct pglink_statement *s = l->settings.statements;
         s->name != NULL; s++) {
        if (!PQsendPrepare(l->conn, s->name, s->sql, 0, NULL)) {
            return PSC_CONNECTION;
        }
    }
    return PQpipelineSync(l->conn) ? PSC_OK : PSC_CONNECTION;
}

/* Notices of the server are of no use to anybody here. */
static void on_notice(void *arg, const PGresult *result)
{
    (void)arg;
    (void)result;
}

static void start_preparing(struct pglink *l)
{
    (void)PQsetNoticeReceiver(l->conn, on_notice, NULL);
    set_state(l, PGLINK_PREPARING);
    l->preparing = 1;
    if (send_preparation(l) != PSC_OK || PQflush(l->conn) < 0 ||
        watch(l, UV_READABLE | UV_WRITABLE) != PSC_OK) {
        fail_by_libpq(l, "preparing");
        return;
    }
    arm(l, watchdog_ms(l));
}

static void continue_connecting(struct pglink *l)
{
    /* libpq may close this socket and open another within the call. */
    (void)uv_poll_stop(&l->watch->poll);
    PostgresPollingStatusType status = PQconnectPoll(l->conn);
    int rc = PSC_OK;
    switch (status) {
    case PGRES_POLLING_READING: rc = watch(l, UV_READABLE); break;
    case PGRES_POLLING_WRITING: rc = watch(l, UV_WRITABLE); break;
    case PGRES_POLLING_OK: start_preparing(l); return;
    default: rc = PSC_CONNECTION; break;
    }
    if (rc != PSC_OK) {
        fail_by_libpq(l, "connecting");
    }
}

/* ---- jobs ---- */

int pglink_send(struct pglink *l, const char *name, unsigned n,
                const struct pglink_param *params)
{
    const char *values[PGLINK_PARAMS_MAX];
    int lengths[PGLINK_PARAMS_MAX];
    int formats[PGLINK_PARAMS_MAX];

    assert(n <= PGLINK_PARAMS_MAX && l->unsent != NULL);
    for (unsigned i = 0; i < n; i++) {
        values[i] = params[i].data;
        lengths[i] = params[i].len;
        formats[i] = params[i].binary ? BINARY : 0;
    }
    if (!PQsendQueryPrepared(l->conn, name, (int)n, values, lengths, formats,
                             BINARY)) {
        return PSC_CONNECTION;
    }
    l->unsent->n_sent++;
    return PSC_OK;
}

static int send_job(struct pglink *l, struct pglink_job *job)
{
    job->n_sent = 0;
    job->n_results = 0;
    job->failed = false;
    int rc = job->on_send(job, l);
    if (rc == PSC_OK && !PQpipelineSync(l->conn)) {
        rc = PSC_CONNECTION;
    }
    return rc;
}

/* Send what may be sent, and see that the socket is watched for the rest. */
static void pump(struct pglink *l)
{
    if (l->state != PGLINK_READY || l->broken) {
        return;
    }
    while (l->unsent != NULL && l->n_in_flight < l->settings.depth) {
        if (send_job(l, l->unsent) != PSC_OK) {
            mark_broken(l);
            return;
        }
        if (l->n_in_flight == 0) {
            arm(l, watchdog_ms(l));
        }
        l->unsent = l->unsent->next;
        l->n_in_flight++;
    }
    int left = PQflush(l->conn);
    if (left < 0 || watch(l, left > 0 ? UV_READABLE | UV_WRITABLE
                                      : UV_READABLE) != PSC_OK) {
        mark_broken(l);
    }
}

void pglink_submit(struct pglink *l, struct pglink_job *job)
{
    job->next = NULL;
    if (l->tail != NULL) {
        l->tail->next = job;
    } else {
        l->head = job;
    }
    l->tail = job;
    if (l->unsent == NULL) {
        l->unsent = job;
    }
    if (!l->dispatching) {
        pump(l);
    }
}

static void unlink_job(struct pglink *l, struct pglink_job *job)
{
    struct pglink_job **at = &l->head;
    struct pglink_job *previous = NULL;
    while (*at != job) {
        previous = *at;
        at = &(*at)->next;
    }
    *at = job->next;
    if (l->tail == job) {
        l->tail = previous;
    }
    if (l->unsent == job) {
        l->unsent = job->next;
    }
    job->next = NULL;
}

bool pglink_withdraw(struct pglink *l, struct pglink_job *job)
{
    for (struct pglink_job *j = l->unsent; j != NULL; j = j->next) {
        if (j == job) {
            unlink_job(l, job);
            return true;
        }
    }
    return false;
}

/* The head job's sync has come: its transaction has ended. */
static void end_job(struct pglink *l)
{
    struct pglink_job *job = l->head;
    unlink_job(l, job);
    l->n_in_flight--;
    arm(l, watchdog_ms(l)); /* for the next one; idle, it does nothing */
    job->on_done(job, job->failed ? &job->failure : NULL);
}

/* Refusals that speak of this server process or this connection, not of the
 * job: shutdown, crash, recovery, too many connections. Prepared statements
 * that are lost, or older than the schema, are told from a job that cannot be
 * done by preparing them anew once. */
static bool refuses_connection(struct pglink_job *job, const char *sqlstate)
{
    if (strcmp(sqlstate, "26000") == 0 || strcmp(sqlstate, "0A000") == 0) {
        bool first = !job->prepared_anew;
        job->prepared_anew = true;
        return first;
    }
    return strncmp(sqlstate, "57P", 3) == 0 ||
           strncmp(sqlstate, "08", 2) == 0 || strcmp(sqlstate, "25006") == 0;
}

static void note_failure(struct pglink_job *job, const PGresult *res)
{
    const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
    const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
    struct pglink_failure *f = &job->failure;
    job->failed = true;
    (void)snprintf(f->sqlstate, sizeof(f->sqlstate), "%s",
                   state != NULL ? state : "");
    f->index = job->n_results;
    (void)psc_error_set(&f->err, PSC_DATABASE, "%s (%s)",
                        text != NULL ? text : "the server refused",
                        f->sqlstate);
}

/* One result of the pipeline. Returns false when the connection is gone. */
static bool take_job_result(struct pglink *l, const PGresult *res)
{
    ExecStatusType status = PQresultStatus(res);
    struct pglink_job *job = l->head;

    if (l->n_in_flight == 0) {
        fail(l, "the server answered what was not asked");
        return false;
    }
    if (status == PGRES_PIPELINE_SYNC) {
        end_job(l);
        return l->conn != NULL;
    }
    arm(l, watchdog_ms(l));
    if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK) {
        if (job->on_result != NULL) {
            job->on_result(job, job->n_results, res);
        }
        job->n_results++;
        return l->conn != NULL;
    }
    if (!job->failed && status != PGRES_PIPELINE_ABORTED) {
        const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
        if (state == NULL || refuses_connection(job, state)) {
            fail_by_libpq(l, "the server ended the connection");
            return false;
        }
        note_failure(job, res);
    }
    job->n_results++;
    return true;
}

static bool take_preparation(struct pglink *l, const PGresult *res)
{
    ExecStatusType status = PQresultStatus(res);
    if (status == PGRES_PIPELINE_SYNC) {
        l->preparing = 0;
        l->n_connects++;
        l->delay_us = FIRST_DELAY_MS * PSC_US_PER_MS;
        set_state(l, PGLINK_READY);
        psc_log_info("database link %s: connected", l->settings.name);
        if (l->settings.on_up != NULL) {
            l->settings.on_up(l);
        }
        return l->conn != NULL;
    }
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
        fail_by_libpq(l, "preparing statements");
        return false;
    }
    return true;
}

/* Take every result that is here. A NULL ends one statement's results; two in
 * a row say that there is nothing more. */
static void read_results(struct pglink *l)
{
    bool ended = false;
    while (l->conn != NULL && !PQisBusy(l->conn)) {
        PGresult *res = PQgetResult(l->conn);
        if (res == NULL) {
            if (ended) {
                return;
            }
            ended = true;
            continue;
        }
        ended = false;
        bool go_on = l->state == PGLINK_PREPARING ? take_preparation(l, res)
                                                  : take_job_result(l, res);
        PQclear(res);
        if (!go_on) {
            return;
        }
    }
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct pglink_watch *w = poll->data;
    struct pglink *l = w->link;

    if (l->watch != w) {
        return; /* closing; another one has taken over */
    }
    if (l->state == PGLINK_CONNECTING) {
        continue_connecting(l);
        return;
    }
    l->dispatching = true;
    /* What an error is, libpq learns by reading. */
    if ((events & UV_READABLE) != 0 || status < 0) {
        if (!PQconsumeInput(l->conn)) {
            drop_watch(l); /* as in mark_broken() */
            /* What had arrived before the end still counts. */
            read_results(l);
            if (l->conn != NULL) {
                fail_by_libpq(l, "connection lost");
            }
        } else {
            read_results(l);
        }
    }
    l->dispatching = false;
    if (l->state == PGLINK_PREPARING && l->conn != NULL) {
        int left = PQflush(l->conn);
        if (left < 0 || watch(l, left > 0 ? UV_READABLE | UV_WRITABLE
                                          : UV_READABLE) != PSC_OK) {
            fail_by_libpq(l, "preparing");
        }
    } else if (l->conn != NULL && PQstatus(l->conn) == CONNECTION_BAD) {
        fail_by_libpq(l, "connection lost");
    } else {
        pump(l);
    }
}

/* ---- start and stop ---- */

int pglink_start(struct pglink *l, uv_loop_t *loop,
                 const struct pglink_settings *settings)
{
    assert(settings->depth >= 1);
    *l = (struct pglink){
        .settings = *settings,
        .loop = loop,
        .delay_us = FIRST_DELAY_MS * PSC_US_PER_MS,
        .has_names = pghosts_has_names(settings->conninfo),
    };
    if (uv_timer_init(loop, &l->timer) != 0) {
        return PSC_IO;
    }
    l->timer.data = l;
    l->timer_open = true;
    set_state(l, PGLINK_WAITING);
    arm(l, 0);
    return PSC_OK;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct pglink *l = handle->data;
    l->timer_open = false;
    maybe_fire_stopped(l);
}

void pglink_stop(struct pglink *l, void (*on_stopped)(struct pglink *link))
{
    assert(l->state != PGLINK_STOPPED && l->state != PGLINK_CLOSING);
    l->on_stopped = on_stopped;
    if (l->lookup != NULL) {
        lookup_abandon(l->lookup);
        l->lookup = NULL;
    }
    free(l->resolved);
    l->resolved = NULL;
    drop_connection(l);
    set_state(l, PGLINK_CLOSING);
    uv_close((uv_handle_t *)&l->timer, on_timer_closed);

    struct pglink_failure closed = {.sqlstate = ""};
    (void)psc_error_set(&closed.err, PSC_CLOSED, "the link is stopped");
    while (l->head != NULL) {
        struct pglink_job *job = l->head;
        unlink_job(l, job);
        job->on_done(job, &closed);
    }
}
