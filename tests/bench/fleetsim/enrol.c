/* Enrolling a fleet: many hosts at once, each with a key of its own.
 *
 * Happy path: a lane takes the next host without a certificate, connects with
 * the token's CA pinned, sends Enrol, keeps the Certificate, and takes the next
 * host. A lane that fails tries its host again a few times; then all stops. */
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/pki.h"
#include "tests/bench/fleetsim/fleet.h"

enum { LANES = 48, TRIES = 20, PAUSE_MS = 500 };

struct enrolling;

struct lane {
    struct enrolling *all;
    struct psc_conn conn;
    uv_timer_t timer; /* before another try */
    uint32_t number;  /* of the host */
    EVP_PKEY *key;    /* owned */
    unsigned tries;
    bool done, waits;
};

struct enrolling {
    struct fleet *fleet;
    struct psc_token token;
    SSL_CTX *ctx;
    uint32_t next; /* host that no lane has taken yet */
    struct lane lanes[LANES];
    struct psc_error err; /* why all stops, if its code is set */
};

static void begin_next(struct lane *l);

/* --- one host --- */

static void fail(struct lane *l, const struct psc_error *err)
{
    if (l->all->err.code == PSC_OK) {
        l->all->err = *err;
    }
}

static void on_open(struct psc_conn *c)
{
    struct lane *l = c->user;
    struct fleet *f = l->all->fleet;
    struct psc_error err = {.msg = ""};
    struct psc_buf der;
    char name[STATE_HOST_MAX];
    psc_buf_init(&der, 16 << 10);
    state_host_name(&f->state, l->number, name);
    int rc = psc_csr_new(l->key, name, &der, &err);
    if (rc == PSC_OK) {
        struct wire_message m = {.type = WIRE_ENROL};
        m.enrol.secret.data = l->all->token.secret;
        m.enrol.secret.len = sizeof(l->all->token.secret);
        m.enrol.request = psc_buf_bytes(&der);
        m.enrol.host = name;
        m.enrol.os = "linux";
        psc_buf_reset(&f->frame);
        wire_encode(&m, &f->frame);
        rc = psc_conn_send(c, psc_buf_bytes(&f->frame));
    }
    psc_buf_fini(&der);
    if (rc != PSC_OK) {
        psc_conn_close(c, &err);
    }
}

static int keep(struct lane *l, const struct wire_message *m,
                struct psc_error *err)
{
    struct fleet *f = l->all->fleet;
    X509 *cert = NULL;
    uint8_t *key_der = NULL, *cert_der = NULL;
    int rc = psc_cert_from_pem(m->certificate.certificate, &cert, err);
    if (rc != PSC_OK) {
        return rc;
    }
    int key_len = i2d_PrivateKey(l->key, &key_der);
    int cert_len = i2d_X509(cert, &cert_der);
    if (key_len <= 0 || cert_len <= 0) {
        rc = psc_error_set(err, PSC_NOMEM, "out of memory");
    } else {
        rc = state_add_identity(
            &f->state, l->number, (struct psc_bytes){key_der, (size_t)key_len},
            (struct psc_bytes){cert_der, (size_t)cert_len}, err);
    }
    if (rc == PSC_OK && f->state.ca.len == 0) {
        rc = state_set_ca(&f->state, m->certificate.ca, err);
    }
    OPENSSL_free(key_der);
    OPENSSL_free(cert_der);
    X509_free(cert);
    return rc;
}

static void on_frame(struct psc_conn *c, struct psc_bytes frame)
{
    struct lane *l = c->user;
    struct wire_message m;
    struct psc_error err = {.msg = ""};
    int rc = wire_decode(&l->all->fleet->decoder, frame, &m, &err);
    if (rc == PSC_OK && m.type == WIRE_CERTIFICATE) {
        rc = keep(l, &m, &err);
        l->done = rc == PSC_OK;
    } else if (rc == PSC_OK && m.type == WIRE_REFUSAL) {
        rc = psc_error_set(&err, PSC_REFUSED, "enrolment is refused: %s (%s)",
                           m.refusal.reason, wire_refusal_name(m.refusal.code));
        if (m.refusal.code == WIRE_REFUSAL_BUSY) {
            psc_conn_close(c, &err); /* again, in a while */
            return;
        }
    }
    if (rc != PSC_OK) {
        fail(l, &err);
    }
    psc_conn_close(c, NULL);
}

static void connect_lane(struct lane *l);

static void on_pause_over(uv_timer_t *timer)
{
    struct lane *l = timer->data;
    l->waits = false;
    connect_lane(l);
}

static void on_close(struct psc_conn *c, const struct psc_error *reason)
{
    struct lane *l = c->user;
    if (l->done || l->all->err.code != PSC_OK) {
        begin_next(l);
    } else if (++l->tries == TRIES) {
        fail(l, reason);
        begin_next(l);
    } else {
        psc_log_info("enrolling host %u: %s", l->number, reason->msg);
        l->waits = true;
        (void)uv_timer_start(&l->timer, on_pause_over,
                             (uint64_t)PAUSE_MS * l->tries, 0);
    }
}

static const struct psc_conn_events events = {
    .on_open = on_open,
    .on_frame = on_frame,
    .on_close = on_close,
};

static const struct psc_conn_limits limits = {
    .handshake_us = 15000000,
    .idle_us = 60000000,
    .max_frame_bytes = 128 << 10,
    .max_queue_bytes = 64 << 10,
};

static void connect_lane(struct lane *l)
{
    struct fleet *f = l->all->fleet;
    struct psc_error err = {.msg = ""};
    int rc = psc_conn_connect(&l->conn, &f->loop, f->collector.host,
                              f->collector.port, NULL, l->all->ctx, &events,
                              &limits, l, &err);
    if (rc != PSC_OK) {
        fail(l, &err);
        begin_next(l);
    }
}

static void end_lane(struct lane *l)
{
    EVP_PKEY_free(l->key);
    l->key = NULL;
    uv_close((uv_handle_t *)&l->timer, NULL);
}

/* Take the next host that has no certificate. */
static void begin_next(struct lane *l)
{
    struct enrolling *all = l->all;
    struct fleet *f = all->fleet;
    uint32_t end = (uint32_t)f->options->first + f->n;
    while (all->next < end && state_enrolled(&f->state, all->next)) {
        all->next++;
    }
    EVP_PKEY_free(l->key);
    l->key = NULL;
    if (all->next == end || all->err.code != PSC_OK) {
        end_lane(l);
        return;
    }
    struct psc_error err = {.msg = ""};
    l->number = all->next++;
    l->tries = 0;
    l->done = false;
    if (psc_key_new(&l->key, &err) != PSC_OK) {
        fail(l, &err);
        end_lane(l);
        return;
    }
    connect_lane(l);
}

/* --- all of them --- */

static int prepare(struct enrolling *all, struct psc_error *err)
{
    const char *token = all->fleet->options->token;
    if (token == NULL) {
        return psc_error_set(err, PSC_CONFIG,
                             "there are hosts that are not enrolled: --token "
                             "is needed");
    }
    int rc = psc_token_parse(token, &all->token, err);
    if (rc == PSC_OK) {
        struct psc_tls_settings settings = {.verify = PSC_TLS_VERIFY_PIN};
        memcpy(settings.pin, all->token.ca_sha256, sizeof(settings.pin));
        rc = psc_tls_ctx_new(&settings, &all->ctx, err);
    }
    return rc;
}

int fleet_enrol(struct fleet *f, struct psc_error *err)
{
    uint32_t first = (uint32_t)f->options->first, missing = 0;
    for (uint32_t i = 0; i < f->n; i++) {
        missing += state_enrolled(&f->state, first + i) ? 0 : 1;
    }
    if (missing == 0) {
        return PSC_OK;
    }
    struct enrolling *all = calloc(1, sizeof(*all));
    if (all == NULL) {
        return psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    all->fleet = f;
    all->next = first;
    int rc = prepare(all, err);
    if (rc == PSC_OK) {
        for (unsigned i = 0; i < LANES; i++) {
            struct lane *l = &all->lanes[i];
            l->all = all;
            (void)uv_timer_init(&f->loop, &l->timer);
            l->timer.data = l;
            begin_next(l);
        }
        (void)uv_run(&f->loop, UV_RUN_DEFAULT);
        (void)fflush(f->state.identity_file);
        rc = all->err.code;
        *err = all->err;
    }
    SSL_CTX_free(all->ctx);
    free(all);
    return rc;
}
