/* Everything together: start, the periodic tick, signals, stop.
 *
 * Start, blocking: database (started if it is ours), schema, CA. Then on the
 * loop: links, names of the registry; and when these are here, the listener,
 * the metrics and the worker.
 *
 * Stop: no new connections -> the unit in flight ends (or is abandoned after a
 * while) -> sessions are told and flushed -> links close -> the loop is empty.
 * All within two seconds. */
#include "collector/collector.h"

#include <inttypes.h>
#include <libpq-fe.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "collector/ca.h"
#include "collector/ingest.h"
#include "collector/listener.h"
#include "collector/metrics.h"
#include "collector/reload.h"
#include "collector/revive.h"
#include "collector/session.h"
#include "collector/store.h"
#include "collector/sweep.h"
#include "collector/worker.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "sql/migrate.h"
#include "sql/module.h"

enum {
    TICK_MS = 2000,
    ABANDON_MS = 600, /* a unit that is still in flight at the stop */
    RETRY_S = 2,
    METRICS_MAX_BYTES = 64 * 1024,
    N_SIGNALS = 3,
    SHA256_HEX_BYTES = 2 * PSC_SHA256_BYTES + 1,
    TRIM_SESSIONS = 500, /* gone: worth giving memory back */
};

struct collector {
    int argc;
    char **argv;
    struct options *options;
    struct psc_error *err; /* of collector_run() */
    int rc;                /* likewise */
    uv_loop_t loop;
    uv_signal_t signal[N_SIGNALS];
    uv_timer_t tick, abandon;
    char *conninfo; /* owned */
    struct metrics metrics;
    struct ca ca;
    struct store store;
    struct ingest ingest;
    struct sessions sessions;
    struct sweep sweep;
    struct revive revive;
    unsigned most_sessions; /* since memory was given back last */
    struct listener listener;
    bool listening;
    struct metrics_server *server;
    struct worker *worker;
    struct store_load load;
    struct store_poll poll;
    bool poll_busy;
    int64_t registry_epoch; /* 0: not known yet */
    uint64_t reconnects;    /* as counted in metrics */
    bool stopping, store_stopping, sessions_stopped, store_stopped;
};

static void stop(struct collector *c);

/* ---- before the loop ---- */

/* Each connection is a descriptor: take all that we may have. */
static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
        limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* As many as are asked for, and have a descriptor. */
static unsigned max_connections(const struct options *o)
{
    struct rlimit limit;
    unsigned max = (unsigned)o->max_connections;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 ||
        limit.rlim_cur == RLIM_INFINITY ||
        limit.rlim_cur >= max + SESSIONS_SPARE_FILES) {
        return max;
    }
    unsigned files = (unsigned)limit.rlim_cur;
    unsigned most = files > 2 * SESSIONS_SPARE_FILES
                        ? files - SESSIONS_SPARE_FILES
                        : files / 2;
    if (most < max) {
        psc_log_info("at most %u connections, since this process may have %u "
                     "file descriptors (max_connections = %u)",
                     most, files, max);
    }
    return most < max ? most : max;
}

/* Bring the schema up to date. */
static int prepare_schema(struct collector *c, struct psc_error *err)
{
    int rc = PSC_OK;
    if (c->options->migrate) {
        char *owner = NULL;
        rc = database_conninfo(&c->options->database, DATABASE_OWNER, &owner,
                               err);
        rc = rc == PSC_OK ? migrate_run(owner, NULL, err) : rc;
        free(owner);
        if (rc == PSC_OK) {
            module_use(&c->options->database);
        }
    }
    if (rc == PSC_OK) {
        rc = database_conninfo(&c->options->database, DATABASE_WRITER,
                               &c->conninfo, err);
    }
    return rc;
}

/* Claim the database for the CA @sha256 ("": only ask); @known becomes the one
 * that it belongs to. */
static int claim_ca(PGconn *conn, const char *sha256, bool replace,
                    char known[SHA256_HEX_BYTES], struct psc_error *err)
{
    const char *values[] = {sha256, replace ? "yes" : "no"};
    PGresult *res = PQexecParams(conn, "SELECT poolscope_api.ca_claim($1, $2)",
                                 2, NULL, values, NULL, NULL, 0);
    int rc = PSC_OK;
    if (PQresultStatus(res) == PGRES_TUPLES_OK) {
        (void)snprintf(known, SHA256_HEX_BYTES, "%s", PQgetvalue(res, 0, 0));
    } else {
        /* A server that dies now is waited for, like one that is not there. */
        rc = PQstatus(conn) == CONNECTION_OK ? PSC_DATABASE : PSC_CONNECTION;
        rc = psc_error_set(err, rc, "note our CA: %s", PQerrorMessage(conn));
    }
    PQclear(res);
    return rc;
}

static int refuse_ca(const char *known, struct psc_error *err)
{
    return psc_error_set(err, PSC_CONFIG,
                         "this database belongs to the CA %s; copy that "
                         "collector's pki_dir, or run with --replace-ca to "
                         "found a new one",
                         known);
}

/* Open our CA, or make it if the database belongs to none yet. A fleet has one
 * CA: tokens name it, and agents trust no other. */
static int prepare_ca(struct collector *c, PGconn *conn, struct psc_error *err)
{
    const struct options *o = c->options;
    char known[SHA256_HEX_BYTES] = "";
    char hex[SHA256_HEX_BYTES];
    char pem[4096];
    int rc = claim_ca(conn, "", false, known, err);
    bool bound = known[0] != '\0' && !o->replace_ca;
    if (rc == PSC_OK && bound &&
        (psc_path_join(pem, sizeof(pem), o->pki_dir, "ca.pem") != 0 ||
         access(pem, F_OK) != 0)) {
        return refuse_ca(known, err);
    }
    if (rc == PSC_OK && c->ca.ctx == NULL) {
        rc = ca_open(&c->ca, o->pki_dir, o->names, err);
    }
    for (unsigned i = 0; rc == PSC_OK && i < PSC_SHA256_BYTES; i++) {
        (void)snprintf(hex + 2 * (size_t)i, 3, "%02x", c->ca.sha256[i]);
    }
    if (rc == PSC_OK && c->ca.key != NULL) {
        rc = claim_ca(conn, hex, o->replace_ca, known, err);
    }
    bool other = rc == PSC_OK && known[0] != '\0' && strcmp(known, hex) != 0;
    return other && !o->replace_ca ? refuse_ca(known, err) : rc;
}

static int check_schema(struct collector *c, struct psc_error *err)
{
    PGconn *conn = PQconnectdb(c->conninfo);
    int rc =
        PQstatus(conn) == CONNECTION_OK
            ? migrate_check(conn, err)
            : psc_error_set(err, PSC_CONNECTION, "%s", PQerrorMessage(conn));
    if (rc == PSC_OK) {
        rc = prepare_ca(c, conn, err);
    }
    PQfinish(conn);
    return rc;
}

/* A server that is not there yet is waited for; SIGTERM ends the process as it
 * does by default, until the loop runs. */
static int prepare_database(struct collector *c, struct psc_error *err)
{
    for (;;) {
        free(c->conninfo);
        c->conninfo = NULL;
        int rc = prepare_schema(c, err);
        rc = rc == PSC_OK ? check_schema(c, err) : rc;
        if (rc != PSC_CONNECTION) {
            return rc;
        }
        psc_log_warn("waiting for the database: %s", err->msg);
        (void)sleep(RETRY_S);
    }
}

static int prepare(struct collector *c, struct psc_error *err)
{
    struct options *o = c->options;
    int rc = database_options_resolve(&o->database, err);
    if (rc == PSC_OK) {
        rc = options_resolve(o, err);
    }
    return rc == PSC_OK ? prepare_database(c, err) : rc;
}

/* ---- the tick ---- */

static uint64_t resident_bytes(void)
{
    size_t rss = 0;
    return uv_resident_set_memory(&rss) == 0 ? rss : 0;
}

static void refresh_metrics(struct collector *c)
{
    struct metrics *m = &c->metrics;
    const struct decode_shared *d = &c->sessions.decode;
    uint64_t reconnects = store_reconnects(&c->store);
    metrics_add(m, reconnects, reconnects - c->reconnects);
    c->reconnects = reconnects;
    metrics_set(m, table_bytes, c->sessions.table_bytes);
    metrics_set(m, registry_names, d->tags.keys.count + d->counters.keys.count);
    metrics_set(m, registry_bytes,
                registry_bytes(&d->tags) + registry_bytes(&d->counters));
    metrics_set(m, database_up, store_up(&c->store) ? 1 : 0);
    metrics_set(m, resident_bytes, resident_bytes());
}

static void on_disabled(struct store_poll *r, int64_t host_id)
{
    struct collector *c = r->user;
    sessions_disable(&c->sessions, host_id);
}

static void on_polled(struct store_poll *r,
                      const struct pglink_failure *failure)
{
    struct collector *c = r->user;
    c->poll_busy = false;
    if (failure != NULL) {
        if (failure->err.code != PSC_CLOSED) {
            psc_log_warn("polling the database: %s", failure->err.msg);
        }
        return;
    }
    if (c->registry_epoch != 0 && r->registry_epoch != c->registry_epoch) {
        psc_log_info("the registry has forgotten names: asking anew");
        ingest_forget_ids(&c->ingest);
    }
    c->registry_epoch = r->registry_epoch;
    if (r->settle_span_us > 0) {
        c->sessions.decode.settle_span_us = r->settle_span_us;
    }
}

static void poll_database(struct collector *c)
{
    if (c->poll_busy) {
        return;
    }
    psc_buf_reset(&c->poll.metrics);
    metrics_json(&c->metrics, &c->poll.metrics);
    if (psc_buf_error(&c->poll.metrics) != PSC_OK) {
        return;
    }
    c->poll_busy = true;
    c->poll.user = c;
    c->poll.on_disabled = on_disabled;
    c->poll.on_done = on_polled;
    store_poll(&c->store, &c->poll);
}

/* After a crowd of connections has gone, the C library would keep their memory
 * for the next one. */
static void trim_memory(struct collector *c)
{
    unsigned n = c->sessions.n;
    if (n + TRIM_SESSIONS < c->most_sessions) {
        (void)malloc_trim(0);
        c->most_sessions = n;
    } else if (n > c->most_sessions) {
        c->most_sessions = n;
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct collector *c = timer->data;
    trim_memory(c);
    struct psc_error err = {.msg = ""};
    int64_t now_us = psc_clock_wall_us();
    registry_day(&c->sessions.decode.tags, now_us);
    registry_day(&c->sessions.decode.counters, now_us);
    sweep_tick(&c->sweep, &c->sessions);
    refusal_log_tell(&c->sessions.log, psc_clock_mono_us(), false);
    refresh_metrics(c);
    revive_tick(&c->revive, store_up(&c->store), c->options->database.data_dir);
    poll_database(c);
    sessions_flush_heartbeats(&c->sessions);
    if (ca_refresh(&c->ca, now_us, &err) != PSC_OK) {
        psc_log_error("renewing our certificate: %s", err.msg);
        c->ca.server_renew_us = now_us + 3600 * PSC_US_PER_S;
    }
}

/* ---- signals ---- */

/* SIGHUP: the configuration and the certificates as they are now. Sessions
 * stay, and keep what they began with. */
static void reload(struct collector *c)
{
    struct psc_error err = {.msg = ""};
    enum psc_log_level level;
    struct options *o = c->options;
    if (reload_options(c->argc, c->argv, o, &err) != PSC_OK) {
        psc_log_error("nothing is read again: %s", err.msg);
        return;
    }
    if (psc_log_level_parse(o->log_level, &level)) {
        psc_log_init("poolscope-collector", level);
    }
    c->sessions.max = max_connections(o);
    c->ingest.settings.commit_interval_us = o->commit_interval_us;
    c->ingest.settings.max_pending_bytes = o->max_pending_bytes;
    if (ca_reload(&c->ca, o->names, &err) != PSC_OK) {
        psc_log_error("the certificates are not read again: %s", err.msg);
        return;
    }
    psc_log_info("configuration and certificates are read again");
}

static void on_signal(uv_signal_t *handle, int signum)
{
    struct collector *c = handle->data;
    if (signum == SIGHUP) {
        reload(c);
    } else {
        psc_log_info("stopping");
        stop(c);
    }
}

static int start_handles(struct collector *c)
{
    static const int signals[N_SIGNALS] = {SIGTERM, SIGINT, SIGHUP};
    int rc = uv_timer_init(&c->loop, &c->tick);
    rc = rc == 0 ? uv_timer_init(&c->loop, &c->abandon) : rc;
    c->tick.data = c;
    c->abandon.data = c;
    for (unsigned i = 0; rc == 0 && i < N_SIGNALS; i++) {
        c->signal[i].data = c;
        rc = uv_signal_init(&c->loop, &c->signal[i]);
        rc = rc == 0 ? uv_signal_start(&c->signal[i], on_signal, signals[i])
                     : rc;
    }
    return rc == 0 ? uv_timer_start(&c->tick, on_tick, TICK_MS, TICK_MS) : rc;
}

/* ---- the end ---- */

static void maybe_end(struct collector *c)
{
    if (!c->sessions_stopped || !c->store_stopped) {
        return;
    }
    uv_close((uv_handle_t *)&c->tick, NULL);
    uv_close((uv_handle_t *)&c->abandon, NULL);
    for (unsigned i = 0; i < N_SIGNALS; i++) {
        uv_close((uv_handle_t *)&c->signal[i], NULL);
    }
}

static struct collector *of_store(struct store *s)
{
    return (struct collector *)((char *)s - offsetof(struct collector, store));
}

static void on_store_stopped(struct store *s)
{
    struct collector *c = of_store(s);
    c->store_stopped = true;
    maybe_end(c);
}

static void stop_store(struct collector *c)
{
    if (!c->store_stopping) {
        c->store_stopping = true;
        store_stop(&c->store, on_store_stopped);
    }
}

static void on_sessions_stopped(struct sessions *all)
{
    struct collector *c =
        (struct collector *)((char *)all -
                             offsetof(struct collector, sessions));
    c->sessions_stopped = true;
    maybe_end(c);
}

static void on_ingest_stopped(struct ingest *in)
{
    struct collector *c =
        (struct collector *)((char *)in - offsetof(struct collector, ingest));
    sessions_stop(&c->sessions, on_sessions_stopped);
    stop_store(c);
}

static void on_abandon(uv_timer_t *timer)
{
    struct collector *c = timer->data;
    psc_log_info("abandoning the unit in flight: agents send it again");
    stop_store(c);
}

static void stop(struct collector *c)
{
    if (c->stopping) {
        return;
    }
    c->stopping = true;
    if (c->listening) {
        listener_stop(&c->listener);
    }
    if (c->worker != NULL) {
        worker_interrupt(c->worker);
    }
    (void)uv_timer_stop(&c->tick);
    (void)uv_timer_start(&c->abandon, on_abandon, ABANDON_MS, 0);
    ingest_stop(&c->ingest, on_ingest_stopped);
}

static void fail(struct collector *c, int rc)
{
    c->rc = rc;
    stop(c);
}

/* ---- serving ---- */

static int write_port_file(struct collector *c, int metrics_port,
                           struct psc_error *err)
{
    char text[64];
    if (c->options->port_file == NULL) {
        return PSC_OK;
    }
    (void)snprintf(text, sizeof(text), "%d\n%d\n", c->listener.port,
                   metrics_port);
    struct psc_bytes bytes = {(const uint8_t *)text, strlen(text)};
    return psc_file_write(c->options->port_file, bytes, 0644, err);
}

static int serve(struct collector *c, struct psc_error *err)
{
    const struct options *o = c->options;
    int metrics_port = 0;
    int rc = listener_start(&c->listener, &c->loop, o->listen, o->shared_port,
                            &c->sessions, err);
    c->listening = rc == PSC_OK;
    if (rc == PSC_OK && strcmp(o->metrics, "off") != 0) {
        rc = metrics_server_start(&c->server, &c->metrics, o->metrics,
                                  &metrics_port, err);
    }
    if (rc == PSC_OK && o->worker) {
        rc = worker_start(&c->worker, c->conninfo, &c->metrics, err);
    }
    if (rc == PSC_OK) {
        rc = write_port_file(c, metrics_port, err);
    }
    if (rc == PSC_OK) {
        char metrics[32] = "no metrics";
        if (c->server != NULL) {
            (void)snprintf(metrics, sizeof(metrics), "metrics on port %d",
                           metrics_port);
        }
        psc_log_info("listening on port %d as %s; %s", c->listener.port,
                     o->name, metrics);
    }
    return rc;
}

/* The registry's names are here: agents may come. */
static void on_loaded(struct store_load *r,
                      const struct pglink_failure *failure)
{
    struct collector *c = r->user;
    int rc = PSC_OK;
    if (c->stopping) {
        return;
    }
    if (failure != NULL) {
        rc = psc_error_set(c->err, PSC_DATABASE, "reading the registry: %s",
                           failure->err.msg);
    } else {
        rc = serve(c, c->err);
    }
    if (rc != PSC_OK) {
        fail(c, rc);
    }
}

static void on_reconnect(void *user)
{
    struct ingest *ingest = user;
    ingest_reconnected(ingest);
}

static int start(struct collector *c)
{
    const struct options *o = c->options;
    struct decode_shared *d = &c->sessions.decode;
    const struct store_settings store = {
        .conninfo = c->conninfo,
        .collector = o->name,
        .tags = &d->tags,
        .counters = &d->counters,
        .on_reconnect = on_reconnect,
        .user = &c->ingest,
    };
    const struct ingest_settings ingest = {
        .store = &c->store,
        .tags = &d->tags,
        .counters = &d->counters,
        .metrics = &c->metrics,
        .events = &session_ingest_events,
        .commit_interval_us = o->commit_interval_us,
        .max_pending_bytes = o->max_pending_bytes,
    };
    int rc = sessions_init(&c->sessions, &c->loop, &c->store, &c->ingest,
                           &c->ca, &c->metrics, max_connections(o),
                           (unsigned)o->max_handshakes);
    registry_day(&d->tags, psc_clock_wall_us());
    registry_day(&d->counters, psc_clock_wall_us());
    if (rc == PSC_OK) {
        rc = ingest_start(&c->ingest, &c->loop, &ingest);
    }
    if (rc == PSC_OK) {
        rc = start_handles(c) == 0 ? PSC_OK : PSC_IO;
    }
    if (rc == PSC_OK) {
        rc = store_start(&c->store, &c->loop, &store);
    }
    if (rc == PSC_OK) {
        c->load.user = c;
        c->load.on_done = on_loaded;
        c->load.tags = &d->tags;
        c->load.counters = &d->counters;
        store_load(&c->store, &c->load);
    }
    return rc;
}

static int run_loop(struct collector *c)
{
    int rc = start(c);
    if (rc != PSC_OK) {
        /* Memory or handles at the very start: nothing to unwind in order. */
        return psc_error_set(c->err, rc, "cannot start: %s", psc_strerror(rc));
    }
    (void)uv_run(&c->loop, UV_RUN_DEFAULT);
    metrics_server_stop(c->server);
    worker_stop(c->worker);
    sessions_fini(&c->sessions);
    store_free(&c->store);
    return c->rc;
}

int collector_run(int argc, char **argv, struct options *options,
                  struct psc_error *err)
{
    struct collector *c = calloc(1, sizeof(*c));
    if (c == NULL || uv_loop_init(&c->loop) != 0) {
        free(c);
        return psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    c->argc = argc;
    c->argv = argv;
    c->options = options;
    c->err = err;
    psc_buf_init(&c->poll.metrics, METRICS_MAX_BYTES);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN); /* until the loop takes it */
    raise_file_limit();
    int rc = prepare(c, err);
    if (rc == PSC_OK) {
        rc = run_loop(c);
    }
    if (rc == PSC_OK) {
        psc_log_info("stopped");
    }
    psc_buf_fini(&c->poll.metrics);
    (void)uv_loop_close(&c->loop);
    ca_close(&c->ca);
    free(c->conninfo);
    free(c);
    return rc;
}
