/* Counters into text, and the small server that shows them. */
#include "collector/metrics.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>

#include "collector/listener.h"
#include "collector/session.h"
#include "common/clock.h"
#include "proto/wire.h"

enum { TEXT_MAX_BYTES = 1024 * 1024 };

/* Upper bounds of the buckets. */
static const int64_t bounds_us[METRICS_BUCKETS] = {
    1000,   2000,   5000,   10000,   20000,   50000,
    100000, 200000, 500000, 1000000, 5000000, 30000000,
};

void metrics_observe(struct metrics_histogram *h, int64_t us)
{
    unsigned i = 0;
    while (i < METRICS_BUCKETS && us > bounds_us[i]) {
        i++;
    }
    atomic_fetch_add_explicit(&h->bucket[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->sum_us, us > 0 ? (unsigned long long)us : 0,
                              memory_order_relaxed);
}

void metrics_refuse(struct metrics *m, unsigned reason)
{
    unsigned i = reason < METRICS_REFUSALS ? reason : 0;
    atomic_fetch_add_explicit(&m->refused[i], 1, memory_order_relaxed);
}

const char *metrics_refusal_name(unsigned reason)
{
    switch (reason) {
    case METRICS_REFUSED_TLS: return "tls";
    case METRICS_REFUSED_TIMEOUT: return "timeout";
    case METRICS_REFUSED_FRAME: return "frame";
    case METRICS_REFUSED_FULL: return "full";
    case METRICS_REFUSED_CROWDED: return "crowded";
    default: return wire_refusal_name((enum wire_refusal)reason);
    }
}

static bool is_refusal(unsigned i)
{
    return i <= WIRE_REFUSAL_HOST_NAME || i >= METRICS_REFUSED_TLS;
}

/* ---- Prometheus ---- */

static void put_one(struct psc_buf *out, const char *name, const char *help,
                    const char *type, unsigned long long value)
{
    psc_buf_printf(out,
                   "# HELP poolscope_collector_%s %s\n"
                   "# TYPE poolscope_collector_%s %s\n"
                   "poolscope_collector_%s %llu\n",
                   name, help, name, type, name, value);
}

static void put_histogram(struct psc_buf *out, const char *name,
                          const char *help, const struct metrics_histogram *h)
{
    unsigned long long total = 0;
    psc_buf_printf(out,
                   "# HELP poolscope_collector_%s_seconds %s\n"
                   "# TYPE poolscope_collector_%s_seconds histogram\n",
                   name, help, name);
    for (unsigned i = 0; i < METRICS_BUCKETS; i++) {
        total += atomic_load(&h->bucket[i]);
        psc_buf_printf(out,
                       "poolscope_collector_%s_seconds_bucket{le=\"%g\"} "
                       "%llu\n",
                       name, (double)bounds_us[i] / 1e6, total);
    }
    total += atomic_load(&h->bucket[METRICS_BUCKETS]);
    psc_buf_printf(out,
                   "poolscope_collector_%s_seconds_bucket{le=\"+Inf\"} %llu\n"
                   "poolscope_collector_%s_seconds_sum %g\n"
                   "poolscope_collector_%s_seconds_count %llu\n",
                   name, total, name, (double)atomic_load(&h->sum_us) / 1e6,
                   name, total);
}

static void put_worker(struct psc_buf *out, const struct metrics *m)
{
    psc_buf_printf(out,
                   "# HELP poolscope_collector_worker_seconds_total time that "
                   "the worker was at work\n"
                   "# TYPE poolscope_collector_worker_seconds_total counter\n"
                   "poolscope_collector_worker_seconds_total %.6f\n",
                   (double)atomic_load(&m->worker_us) / 1e6);
    psc_buf_printf(out,
                   "# HELP poolscope_collector_settle_seconds_total time that "
                   "the worker was settling\n"
                   "# TYPE poolscope_collector_settle_seconds_total counter\n"
                   "poolscope_collector_settle_seconds_total %.6f\n",
                   (double)atomic_load(&m->settle_us) / 1e6);
}

static void put_labelled(const struct metrics *m, struct psc_buf *out)
{
    psc_buf_printf(out, "# HELP poolscope_collector_sessions sessions by "
                        "state\n"
                        "# TYPE poolscope_collector_sessions gauge\n");
    for (unsigned i = 0; i < SESSION_STATES; i++) {
        psc_buf_printf(out, "poolscope_collector_sessions{state=\"%s\"} %lld\n",
                       session_state_name((enum session_state)i),
                       (long long)atomic_load(&m->sessions[i]));
    }
    psc_buf_printf(out, "# HELP poolscope_collector_refusals_total peers "
                        "turned away by reason\n"
                        "# TYPE poolscope_collector_refusals_total counter\n");
    for (unsigned i = 0; i < METRICS_REFUSALS; i++) {
        if (is_refusal(i)) {
            psc_buf_printf(
                out, "poolscope_collector_refusals_total{reason=\"%s\"} %llu\n",
                metrics_refusal_name(i),
                (unsigned long long)atomic_load(&m->refused[i]));
        }
    }
}

void metrics_text(const struct metrics *m, struct psc_buf *out)
{
#define METRICS_COUNTER_TEXT(name, help)                                       \
    put_one(out, #name "_total", help, "counter", atomic_load(&m->name));
#define METRICS_GAUGE_TEXT(name, help)                                         \
    put_one(out, #name, help, "gauge", atomic_load(&m->name));
    METRICS_COUNTERS(METRICS_COUNTER_TEXT)
    METRICS_GAUGES(METRICS_GAUGE_TEXT)
    put_worker(out, m);
    put_labelled(m, out);
    put_histogram(out, "commit", "unit sent until committed", &m->commit);
    put_histogram(out, "ack", "sample received until acknowledged", &m->ack);
}

/* ---- JSON ---- */

void metrics_json(const struct metrics *m, struct psc_buf *out)
{
    psc_buf_printf(out, "{\"version\":\"%s\"", PSC_VERSION);
#define METRICS_JSON(name, help)                                               \
    psc_buf_printf(out, ",\"" #name "\":%llu",                                 \
                   (unsigned long long)atomic_load(&m->name));
    METRICS_COUNTERS(METRICS_JSON)
    METRICS_GAUGES(METRICS_JSON)
    psc_buf_printf(out, ",\"worker_seconds\":%.6f,\"settle_seconds\":%.6f",
                   (double)atomic_load(&m->worker_us) / 1e6,
                   (double)atomic_load(&m->settle_us) / 1e6);
    psc_buf_printf(out, ",\"sessions\":{");
    for (unsigned i = 0; i < SESSION_STATES; i++) {
        psc_buf_printf(out, "%s\"%s\":%lld", i > 0 ? "," : "",
                       session_state_name((enum session_state)i),
                       (long long)atomic_load(&m->sessions[i]));
    }
    psc_buf_printf(out, "},\"refusals\":{");
    bool first = true;
    for (unsigned i = 0; i < METRICS_REFUSALS; i++) {
        unsigned long long n = atomic_load(&m->refused[i]);
        if (is_refusal(i) && n > 0) {
            psc_buf_printf(out, "%s\"%s\":%llu", first ? "" : ",",
                           metrics_refusal_name(i), n);
            first = false;
        }
    }
    psc_buf_printf(out, "}}");
    psc_buf_u8(out, '\0');
}

/* ---- the server ---- */

struct metrics_server {
    struct MHD_Daemon *daemon;
    const struct metrics *metrics;
};

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned code,
                              struct psc_buf *text)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(
        text->len, text->data, MHD_RESPMEM_MUST_COPY);
    if (response == NULL) {
        return MHD_NO;
    }
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
                                  "text/plain; version=0.0.4; charset=utf-8");
    enum MHD_Result rc = MHD_queue_response(connection, code, response);
    MHD_destroy_response(response);
    return rc;
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *connection,
                                  const char *url, const char *method,
                                  const char *version, const char *upload,
                                  size_t *upload_size, void **state)
{
    const struct metrics_server *server = user;
    struct psc_buf text;
    unsigned code = MHD_HTTP_OK;
    (void)version;
    (void)upload;
    (void)upload_size;
    (void)state;
    psc_buf_init(&text, TEXT_MAX_BYTES);
    if (strcmp(method, "GET") != 0) {
        code = MHD_HTTP_METHOD_NOT_ALLOWED;
        psc_buf_printf(&text, "only GET\n");
    } else if (strcmp(url, "/metrics") != 0) {
        code = MHD_HTTP_NOT_FOUND;
        psc_buf_printf(&text, "try /metrics\n");
    } else {
        metrics_text(server->metrics, &text);
    }
    enum MHD_Result rc = psc_buf_error(&text) == PSC_OK
                             ? answer(connection, code, &text)
                             : MHD_NO;
    psc_buf_fini(&text);
    return rc;
}

static bool is_loopback(const struct sockaddr_storage *addr)
{
    if (addr->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)addr;
        return ntohl(in->sin_addr.s_addr) >> 24 == 127;
    }
    return IN6_IS_ADDR_LOOPBACK(
        &((const struct sockaddr_in6 *)addr)->sin6_addr);
}

int metrics_resolve(const char *listen, struct sockaddr_storage *addr,
                    int *port, struct psc_error *err)
{
    int rc = listener_resolve(listen, addr, port, err);
    if (rc == PSC_OK && !is_loopback(addr)) {
        rc = psc_error_set(err, PSC_CONFIG,
                           "metrics = %s: not a loopback address", listen);
    }
    return rc;
}

int metrics_server_start(struct metrics_server **server, struct metrics *m,
                         const char *listen, int *port, struct psc_error *err)
{
    struct sockaddr_storage addr;
    int rc = metrics_resolve(listen, &addr, port, err);
    if (rc != PSC_OK) {
        return rc;
    }
    struct metrics_server *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    s->metrics = m;
    /* By poll or epoll: with thousands of agents our descriptors have numbers
     * that select() cannot take. */
    unsigned flags = MHD_USE_AUTO_INTERNAL_THREAD |
                     (addr.ss_family == AF_INET6 ? MHD_USE_IPv6 : 0);
    s->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, s, MHD_OPTION_SOCK_ADDR,
        (struct sockaddr *)&addr, MHD_OPTION_CONNECTION_TIMEOUT, 10u,
        MHD_OPTION_CONNECTION_LIMIT, 16u, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)8192, MHD_OPTION_END);
    if (s->daemon == NULL) {
        free(s);
        return psc_error_set(err, PSC_CONNECTION,
                             "cannot serve metrics on %s: is the port taken?",
                             listen);
    }
    const union MHD_DaemonInfo *info =
        MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_BIND_PORT);
    if (info != NULL) {
        *port = info->port;
    }
    *server = s;
    return PSC_OK;
}

void metrics_server_stop(struct metrics_server *server)
{
    if (server != NULL) {
        MHD_stop_daemon(server->daemon);
        free(server);
    }
}
