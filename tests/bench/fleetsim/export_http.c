/* A small HTTP server with a page for each simulated host.
 *
 * Failures: a host that is off, or of which no snapshot is taken yet, is
 * answered as one that cannot be scraped. */
#include <arpa/inet.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/options.h"
#include "common/clock.h"
#include "common/file.h"
#include "tests/bench/fleetsim/export.h"
#include "tests/bench/fleetsim/state.h"

enum { PAGE_MAX_BYTES = 64 << 20, CONNECTIONS_MAX = 20000, IDLE_S = 600 };

struct server {
    struct truth truth;
    struct state state;
};

/* The newest snapshot that the host has taken; UINT64_MAX: none. */
static uint64_t newest(const struct server *s, const struct truth_host *h)
{
    const struct state_run *run = &s->state.runs[s->state.n_runs - 1];
    int64_t passed_us = psc_clock_wall_us() - run->start_us - truth_phase_us(h);
    if (passed_us < 0) {
        return UINT64_MAX;
    }
    uint64_t k =
        run->first + (uint64_t)(passed_us / s->state.settings.interval_us);
    return truth_taken(h, k) ? k : UINT64_MAX;
}

static enum MHD_Result answer(struct MHD_Connection *c, unsigned status,
                              struct psc_buf *page)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(
        page->len, page->data, MHD_RESPMEM_MUST_FREE);
    if (r == NULL) {
        psc_buf_fini(page);
        return MHD_NO;
    }
    (void)MHD_add_response_header(r, "Content-Type",
                                  "text/plain; version=0.0.4");
    enum MHD_Result result = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return result;
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *c,
                                  const char *url, const char *method,
                                  const char *version, const char *data,
                                  size_t *size, void **state)
{
    const struct server *s = user;
    struct truth_host h;
    struct psc_buf page;
    uint32_t number;
    (void)method;
    (void)version;
    (void)data;
    (void)size;
    (void)state;
    psc_buf_init(&page, PAGE_MAX_BYTES);
    if (sscanf(url, "/%u", &number) != 1) {
        psc_buf_printf(&page, "/NUMBER is a host's page\n");
        return answer(c, MHD_HTTP_NOT_FOUND, &page);
    }
    truth_host_init(&h, &s->truth, number);
    uint64_t k = newest(s, &h);
    if (k == UINT64_MAX) {
        psc_buf_printf(&page, "off\n");
        return answer(c, MHD_HTTP_SERVICE_UNAVAILABLE, &page);
    }
    export_snapshot(&h, k, NULL, 0, &page);
    if (psc_buf_error(&page) != PSC_OK) {
        psc_buf_fini(&page);
        return MHD_NO;
    }
    return answer(c, MHD_HTTP_OK, &page);
}

static int start(struct server *s, const struct sim_options *o,
                 struct MHD_Daemon **daemon, struct psc_error *err)
{
    struct endpoint at;
    unsigned count = 0;
    struct sockaddr_in addr = {.sin_family = AF_INET};
    int rc = agent_options_endpoints(o->listen, &at, 1, &count, err);
    if (rc == PSC_OK &&
        (count == 0 || inet_pton(AF_INET, at.host, &addr.sin_addr) != 1)) {
        rc = psc_error_set(err, PSC_CONFIG, "--listen: no IPv4 address");
    }
    if (rc != PSC_OK) {
        return rc;
    }
    addr.sin_port = htons((uint16_t)strtoul(at.port, NULL, 10));
    *daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD, 0, NULL, NULL, on_request, s,
        MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&addr,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX, MHD_OPTION_END);
    if (*daemon == NULL) {
        rc = psc_error_set(err, PSC_CONNECTION, "cannot listen on %s",
                           o->listen);
    }
    return rc;
}

int export_serve(const struct sim_options *o, struct psc_error *err)
{
    struct server s = {.state = {.dir = NULL}};
    struct MHD_Daemon *daemon = NULL;
    sigset_t signals;
    int number;
    /* Before there are threads, which inherit it. */
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &signals, NULL);
    int rc = state_open(&s.state, o->state, NULL, NULL, err);
    if (rc == PSC_OK && s.state.n_runs == 0) {
        rc = psc_error_set(err, PSC_MISSING, "%s: no run has begun", o->state);
    }
    if (rc == PSC_OK) {
        rc = truth_init(&s.truth, &s.state.settings, err);
    }
    if (rc == PSC_OK) {
        rc = start(&s, o, &daemon, err);
    }
    if (rc == PSC_OK) {
        (void)sigwait(&signals, &number);
        MHD_stop_daemon(daemon);
    }
    truth_fini(&s.truth);
    state_close(&s.state);
    return rc;
}
