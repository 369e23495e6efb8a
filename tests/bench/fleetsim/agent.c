/* A simulated agent's connections.
 *
 * Happy path: on_timer() connects, on_open() says hello (agent_stream.c), and
 * so on until all is sent. Every failure comes to on_close(), which decides
 * when to try again, as the product's agent would. */
#include "tests/bench/fleetsim/agent.h"

#include <assert.h>
#include <inttypes.h>
#include <openssl/x509.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "agent/uplink.h"
#include "common/clock.h"
#include "common/log.h"
#include "tests/bench/fleetsim/truth_hash.h"

enum { QUEUE_MAX_BYTES = 4 << 20 };

static const char *const state_names[SIM_STATES] = {
    "waiting", "connecting", "hello", "opening", "live", "closing", "done",
};

#define TO(state) (1u << SIM_##state)

static const unsigned allowed[SIM_STATES] = {
    [SIM_WAITING] = TO(CONNECTING) | TO(DONE),
    [SIM_CONNECTING] = TO(HELLO) | TO(CLOSING) | TO(WAITING),
    [SIM_HELLO] = TO(OPENING) | TO(CLOSING),
    [SIM_OPENING] = TO(LIVE) | TO(CLOSING),
    [SIM_LIVE] = TO(OPENING) | TO(CLOSING),
    [SIM_CLOSING] = TO(WAITING) | TO(DONE),
};

void sim_agent_set_state(struct sim_agent *a, enum sim_state state)
{
    assert((allowed[a->state] & 1u << state) != 0);
    psc_log_debug("host %u: %s -> %s", a->host.number, state_names[a->state],
                  state_names[state]);
    a->fleet->n_live += state == SIM_LIVE ? 1 : 0;
    a->fleet->n_live -= a->state == SIM_LIVE ? 1 : 0;
    a->state = state;
}

static void on_timer(uv_timer_t *timer);

void sim_agent_sleep(struct sim_agent *a, int64_t us)
{
    uint64_t ms = us > 0 ? (uint64_t)(us + 999) / 1000 : 0;
    (void)uv_timer_start(&a->timer, on_timer, ms, 0);
}

void sim_agent_close(struct sim_agent *a, int code, const char *text)
{
    struct psc_error reason = {.msg = ""};
    (void)psc_error_set(&reason, code, "%s", text);
    (void)uv_timer_stop(&a->timer);
    sim_agent_set_state(a, SIM_CLOSING);
    psc_conn_close(&a->conn, &reason);
}

/* --- the end --- */

static void be_done(struct sim_agent *a)
{
    (void)uv_timer_stop(&a->timer);
    sim_agent_set_state(a, SIM_DONE);
    uv_close((uv_handle_t *)&a->timer, NULL);
    fleet_agent_done(a->fleet);
}

bool sim_agent_is_done(struct sim_agent *a)
{
    while (fleet_due_us(a->fleet, &a->host, a->next_k) != INT64_MAX &&
           !truth_taken(&a->host, a->next_k)) {
        a->next_k++;
        a->new_life = true;
    }
    return a->fleet->cut ||
           (a->n_sent == 0 &&
            fleet_due_us(a->fleet, &a->host, a->next_k) == INT64_MAX);
}

void sim_agent_finish(struct sim_agent *a, bool now)
{
    if (a->state == SIM_DONE || a->state == SIM_CLOSING) {
        return;
    }
    if (now || sim_agent_is_done(a)) {
        if (a->state == SIM_WAITING) {
            be_done(a);
        } else {
            sim_agent_close(a, PSC_CLOSED, "the simulation ends");
        }
        return;
    }
    bool holds_back =
        a->state == SIM_WAITING ? a->wake_us != 0 : a->state == SIM_LIVE;
    a->wake_us = 0;
    if (holds_back) {
        sim_agent_sleep(a, 0); /* deliver it now */
    }
}

/* --- connecting --- */

/* OpenSSL asks for the certificate: the context is everybody's. */
static int on_certificate_asked(SSL *ssl, void *arg)
{
    (void)arg;
    struct psc_tls *tls = SSL_get_app_data(ssl);
    struct psc_conn *conn =
        (void *)((char *)tls - offsetof(struct psc_conn, tls));
    struct sim_agent *a = conn->user;
    const struct state_identity *id =
        &a->fleet->state.identities[a->host.number];
    const uint8_t *at = id->cert;
    X509 *cert = d2i_X509(NULL, &at, id->cert_len);
    at = id->key;
    EVP_PKEY *key = d2i_AutoPrivateKey(NULL, &at, id->key_len);
    int ok = cert != NULL && key != NULL && SSL_use_certificate(ssl, cert) &&
             SSL_use_PrivateKey(ssl, key);
    X509_free(cert);
    EVP_PKEY_free(key);
    return ok;
}

static void on_open(struct psc_conn *c)
{
    struct sim_agent *a = c->user;
    SSL_certs_clear(c->tls.ssl); /* shown; 10,000 of them take memory */
    a->fleet->stats.resumed += SSL_session_reused(c->tls.ssl) == 1 ? 1 : 0;
    a->fleet->stats.sessions++;
    a->beat_us = psc_clock_mono_us();
    sim_agent_set_state(a, SIM_HELLO);
    sim_agent_say_hello(a);
}

static void on_frame(struct psc_conn *c, struct psc_bytes frame)
{
    sim_agent_frame(c->user, frame);
}

static void on_drained(struct psc_conn *c)
{
    sim_agent_pump(c->user);
}

static int64_t pause_us(struct sim_agent *a)
{
    uint64_t random =
        hash_draw(a->host.key, DRAW_STREAM, a->round, (uint64_t)uv_hrtime());
    int64_t pause_ms = a->retry_ms;
    if (pause_ms > 0) {
        pause_ms += pause_ms * (int64_t)(random % 1000) / 10000;
    } else {
        pause_ms =
            uplink_backoff_ms(&uplink_default_pace, a->round, (uint32_t)random);
    }
    a->round++;
    int64_t away_us = a->wake_us - psc_clock_wall_us();
    return away_us > 0 ? away_us : pause_ms * 1000;
}

static void on_close(struct psc_conn *c, const struct psc_error *reason)
{
    struct sim_agent *a = c->user;
    (void)uv_timer_stop(&a->timer);
    if (a->state != SIM_CLOSING) {
        psc_log_info("host %u: %s", a->host.number, reason->msg);
        a->fleet->stats.drops++;
        a->dropped_us =
            a->dropped_us != 0 ? a->dropped_us : psc_clock_mono_us();
        a->behind_us = a->behind_us != 0 ? a->behind_us : a->dropped_us;
        sim_agent_set_state(a, SIM_CLOSING);
    }
    if (sim_agent_is_done(a)) {
        be_done(a);
        return;
    }
    sim_agent_set_state(a, SIM_WAITING);
    sim_agent_sleep(a, pause_us(a));
}

static const struct psc_conn_events events = {
    .on_open = on_open,
    .on_frame = on_frame,
    .on_drained = on_drained,
    .on_close = on_close,
};

static void connect_now(struct sim_agent *a)
{
    struct fleet *f = a->fleet;
    const struct psc_conn_limits limits = {
        .handshake_us = uplink_default_pace.handshake_ms * 1000,
        .idle_us = uplink_default_pace.idle_ms * 1000,
        .max_frame_bytes = 128 << 10,
        .max_queue_bytes = QUEUE_MAX_BYTES,
    };
    struct psc_error err = {.msg = ""};
    a->retry_ms = 0;
    a->wake_us = 0;
    f->stats.tries++;
    SSL_CTX_set_cert_cb(f->ctx, on_certificate_asked, NULL);
    sim_agent_set_state(a, SIM_CONNECTING);
    int rc = psc_conn_connect(&a->conn, &f->loop, f->collector.host,
                              f->collector.port, f->collector.host, f->ctx,
                              &events, &limits, a, &err);
    if (rc != PSC_OK) {
        psc_log_error("host %u: %s", a->host.number, err.msg);
        sim_agent_set_state(a, SIM_WAITING);
        sim_agent_sleep(a, pause_us(a));
        return;
    }
    psc_conn_keep_session(&a->conn, &a->session);
}

static void on_timer(uv_timer_t *timer)
{
    struct sim_agent *a = timer->data;
    if (a->state == SIM_LIVE || a->state == SIM_OPENING) {
        sim_agent_pump(a);
    } else if (a->state == SIM_WAITING && sim_agent_is_done(a)) {
        be_done(a);
    } else if (a->state == SIM_WAITING) {
        connect_now(a);
    }
}

void sim_agent_drop(struct sim_agent *a)
{
    if (a->state == SIM_LIVE || a->state == SIM_OPENING) {
        a->fleet->stats.drops++;
        a->dropped_us = psc_clock_mono_us();
        a->behind_us = a->behind_us != 0 ? a->behind_us : a->dropped_us;
        sim_agent_close(a, PSC_CLOSED, "a storm");
    }
}

/* --- the whole --- */

int sim_agent_init(struct sim_agent *a, struct fleet *f, uint32_t number,
                   struct psc_error *err)
{
    *a = (struct sim_agent){.fleet = f, .state = SIM_WAITING};
    truth_host_init(&a->host, &f->truth, number);
    int rc = position_init(&a->position, &a->host);
    if (rc != PSC_OK) {
        return psc_error_set(err, rc, "no memory for host %u", number);
    }
    (void)uv_timer_init(&f->loop, &a->timer);
    a->timer.data = a;
    a->next_k = f->run->first;
    a->booted_us = psc_clock_wall_us();
    while (!truth_taken(&a->host, a->next_k)) {
        a->next_k++;
    }
    sim_agent_begin_life(a);
    return PSC_OK;
}

void sim_agent_fini(struct sim_agent *a)
{
    position_fini(&a->position);
    SSL_SESSION_free(a->session);
    free(a->sent);
    a->session = NULL;
    a->sent = NULL;
}

void sim_agent_start(struct sim_agent *a, uint64_t delay_ms)
{
    /* Not before the host has booted. */
    int64_t booted_us = state_boot_us(&a->fleet->state, &a->host, &a->boot);
    int64_t left_us = booted_us - psc_clock_wall_us();
    int64_t delay_us = (int64_t)delay_ms * 1000;
    sim_agent_sleep(a, left_us > delay_us ? left_us : delay_us);
}
