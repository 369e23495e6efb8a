/* Enrolment.
 *
 * Happy path: on_open sends Enrol, on_frame takes the Certificate and writes
 * it, on_close reports. What can fail: the token's text, the connection, the
 * pinned CA (before the secret is sent), a refusal, writing the files. */
#include "agent/enrol.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"

#define SECOND_US 1000000LL

enum { REQUEST_MAX_BYTES = 16 << 10 };

static void on_open(struct psc_conn *c)
{
    struct enrol *e = c->user;
    struct psc_buf der;
    struct psc_buf frame;
    psc_buf_init(&der, REQUEST_MAX_BYTES);
    psc_buf_init(&frame, REQUEST_MAX_BYTES << 1);
    struct psc_error err = {.msg = ""};
    int rc = identity_request(e->identity, e->host, &der, &err);
    if (rc == PSC_OK) {
        struct wire_message m = {.type = WIRE_ENROL};
        m.enrol.secret.data = e->token.secret;
        m.enrol.secret.len = sizeof(e->token.secret);
        m.enrol.request = psc_buf_bytes(&der);
        m.enrol.host = e->host;
        m.enrol.os = e->os;
        wire_encode(&m, &frame);
        rc = psc_buf_error(&frame);
        if (rc == PSC_OK) {
            rc = psc_conn_send(c, psc_buf_bytes(&frame));
        }
        if (rc != PSC_OK) {
            (void)psc_error_set(&err, rc, "enrolment: %s", psc_strerror(rc));
        }
    }
    psc_buf_fini(&der);
    psc_buf_wipe(&frame);
    psc_buf_fini(&frame);
    if (rc != PSC_OK) {
        psc_conn_close(c, &err);
    }
}

static void take_answer(struct enrol *e, const struct wire_message *m,
                        struct psc_error *err)
{
    if (m->type == WIRE_CERTIFICATE) {
        err->code = identity_accept(e->identity, m->certificate.certificate,
                                    m->certificate.ca, err);
        if (err->code == PSC_OK) {
            psc_log_info("enrolled as %s", m->certificate.host);
        }
    } else if (m->type == WIRE_REFUSAL) {
        e->result.refusal = m->refusal.code;
        e->result.retry_after_us = (int64_t)m->refusal.retry_after_us;
        (void)psc_error_set(err, PSC_REFUSED, "refused: %s (%s)",
                            m->refusal.reason,
                            wire_refusal_name(m->refusal.code));
    } else {
        (void)psc_error_set(err, PSC_FORMAT,
                            "the collector answered something else");
    }
}

static void on_frame(struct psc_conn *c, struct psc_bytes frame)
{
    struct enrol *e = c->user;
    struct wire_message m;
    struct psc_error err = {.msg = ""};
    if (e->answered) {
        return;
    }
    err.code = wire_decode(&e->decoder, frame, &m, &err);
    if (err.code == PSC_OK) {
        take_answer(e, &m, &err);
    }
    e->answered = true;
    e->result.err = err;
    psc_conn_close(c, NULL);
}

static void on_close(struct psc_conn *c, const struct psc_error *reason)
{
    struct enrol *e = c->user;
    if (!e->answered) {
        e->result.err = *reason;
    }
    SSL_CTX_free(e->ctx);
    e->ctx = NULL;
    wire_decoder_fini(&e->decoder);
    OPENSSL_cleanse(&e->token, sizeof(e->token));
    struct enrol_result result = e->result;
    e->on_done(e->user, &result);
}

static const struct psc_conn_events events = {
    .on_open = on_open,
    .on_frame = on_frame,
    .on_close = on_close,
};

static const struct psc_conn_limits limits = {
    .handshake_us = 15 * SECOND_US,
    .idle_us = 25 * SECOND_US,
    .max_frame_bytes = 128 << 10,
    .max_queue_bytes = 64 << 10,
};

int enrol_start(struct enrol *e, uv_loop_t *loop, struct identity *identity,
                const struct endpoint *endpoint, const char *token,
                const char *host, const char *os,
                void (*on_done)(void *user, const struct enrol_result *result),
                void *user, struct psc_error *err)
{
    memset(e, 0, sizeof(*e));
    e->identity = identity;
    e->on_done = on_done;
    e->user = user;
    (void)snprintf(e->host, sizeof(e->host), "%s", host);
    (void)snprintf(e->os, sizeof(e->os), "%s", os);
    int rc = psc_token_parse(token, &e->token, err);
    if (rc != PSC_OK) {
        return rc;
    }
    struct psc_tls_settings settings = {.verify = PSC_TLS_VERIFY_PIN};
    memcpy(settings.pin, e->token.ca_sha256, sizeof(settings.pin));
    rc = psc_tls_ctx_new(&settings, &e->ctx, err);
    if (rc != PSC_OK) {
        return rc;
    }
    wire_decoder_init(&e->decoder);
    rc = psc_conn_connect(&e->conn, loop, endpoint->host, endpoint->port, NULL,
                          e->ctx, &events, &limits, e, err);
    if (rc != PSC_OK) {
        SSL_CTX_free(e->ctx);
        wire_decoder_fini(&e->decoder);
    }
    return rc;
}

void enrol_cancel(struct enrol *e)
{
    psc_conn_close(&e->conn, NULL);
}
