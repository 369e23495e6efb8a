/* A scripted collector. */
#include "tests/lib/fake_collector.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"

static void fake_send(struct session *s, const struct wire_message *m)
{
    struct psc_buf frame;
    psc_buf_init(&frame, PSC_FRAME_MAX_BYTES);
    wire_encode(m, &frame);
    assert_int_equal(psc_buf_error(&frame), PSC_OK);
    int rc = psc_conn_send(&s->conn, psc_buf_bytes(&frame));
    assert_true(rc == PSC_OK || rc == PSC_CLOSED);
    psc_buf_fini(&frame);
}

static struct stored *find_stream(struct fake *f, const uint8_t stream[16])
{
    for (unsigned i = 0; i < f->n_streams; i++) {
        if (memcmp(f->stored[i].stream, stream, 16) == 0) {
            return &f->stored[i];
        }
    }
    assert_true(f->n_streams < STREAMS_MAX);
    struct stored *s = &f->stored[f->n_streams++];
    memcpy(s->stream, stream, 16);
    return s;
}

static void send_ack(struct session *s, uint64_t seq)
{
    struct wire_message ack = {.type = WIRE_ACK, .ack = {.seq = seq}};
    fake_send(s, &ack);
}

static void fake_refuse(struct session *s, enum wire_refusal code)
{
    struct wire_message m = {.type = WIRE_REFUSAL};
    m.refusal.code = code;
    m.refusal.reason = "scripted";
    m.refusal.retry_after_us = s->fake->retry_after_us;
    fake_send(s, &m);
    psc_conn_close(&s->conn, NULL);
}

/* The collector's rules for a batch. */
static void fake_batch(struct session *s, const struct wire_batch *b)
{
    struct fake *f = s->fake;
    struct psc_error err = {.msg = ""};
    assert_non_null(s->open);
    if (s->deaf) {
        return;
    }
    if (b->seq == f->malformed) {
        s->deaf = true; /* what has arrived behind it */
        f->n_malformed++;
        fake_refuse(s, WIRE_REFUSAL_MALFORMED);
        return;
    }
    if (b->seq == f->refuse_always || b->seq == f->refuse_once) {
        f->refuse_once = 0;
        s->deaf = true;
        struct wire_message m = {.type = WIRE_NEED_KEYFRAME,
                                 .need_keyframe = {.seq = b->seq}};
        fake_send(s, &m);
        return;
    }
    if (s->fresh) {
        assert_true(b->has_tags && b->tags.keyframe && b->part == 0);
    } else {
        assert_int_equal(b->seq, s->seq + 1);
    }
    s->fresh = false;
    s->seq = b->seq;
    if (b->has_tags) {
        if (!b->tags.keyframe) {
            assert_int_equal(b->tags.base_seq, s->tags_seq);
        }
        assert_int_equal(decoded_apply(&s->tags, &b->tags, b->part == 0, &err),
                         PSC_OK);
        s->tags_seq = b->seq;
    }
    f->n_batches++;
    struct stored *at = s->open;
    if (b->part == 0) {
        s->sample_seq = b->seq;
    }
    if (b->seq <= at->cursor) {
        f->n_duplicates++;
    } else if (!b->more) { /* a sample in parts is stored as one */
        at->skipped += s->sample_seq - at->cursor - 1;
        at->n += b->seq - s->sample_seq + 1;
        at->cursor = b->seq;
    }
    if (f->cut_every > 0 && f->n_batches % f->cut_every == 0) {
        psc_conn_close(&s->conn, NULL); /* stored, but never acknowledged */
    } else if (!f->hold_acks && !b->more) {
        send_ack(s, b->seq + f->false_ack);
        f->false_ack = 0;
    }
}

static void fake_open_stream(struct session *s, const struct wire_message *m)
{
    struct fake *f = s->fake;
    s->open = find_stream(f, m->open.stream);
    s->fresh = true;
    s->deaf = false;
    f->n_opens++;
    f->dropped_told = m->open.dropped_batches;
    struct wire_message cursor = {.type = WIRE_CURSOR};
    memcpy(cursor.cursor.stream, m->open.stream, 16);
    cursor.cursor.seq = s->open->cursor + f->cursor_ahead;
    f->cursor_ahead = 0;
    fake_send(s, &cursor);
    if (f->cut_opens) {
        psc_conn_close(&s->conn, NULL);
    }
}

static void fake_issue(struct session *s, struct psc_bytes request)
{
    struct fake *f = s->fake;
    X509 *cert = NULL;
    struct psc_error err = {.msg = ""};
    assert_int_equal(psc_ca_issue_host(f->certs->ca, f->certs->ca_key, request,
                                       FAKE_HOST_ID, "host", f->issue_valid_s,
                                       &cert, &err),
                     PSC_OK);
    struct psc_buf pem;
    psc_buf_init(&pem, 65536);
    assert_int_equal(psc_cert_to_pem(cert, &pem), PSC_OK);
    X509_free(cert);
    struct wire_message m = {.type = WIRE_CERTIFICATE};
    m.certificate.certificate = psc_buf_bytes(&pem);
    m.certificate.ca.data = (const uint8_t *)f->certs->ca_pem;
    m.certificate.ca.len = strlen(f->certs->ca_pem);
    m.certificate.host = "host";
    fake_send(s, &m);
    psc_buf_fini(&pem);
}

static void fake_message(struct session *s, const struct wire_message *m)
{
    struct fake *f = s->fake;
    struct wire_message answer = {.type = WIRE_PULSE};
    switch (m->type) {
    case WIRE_HELLO:
        f->n_hellos++;
        if (f->silent) {
            return;
        }
        if (f->refusal != 0) {
            fake_refuse(s, f->refusal);
            return;
        }
        answer.type = WIRE_WELCOME;
        answer.welcome.protocol = 1;
        answer.welcome.host = "host";
        fake_send(s, &answer);
        return;
    case WIRE_OPEN: fake_open_stream(s, m); return;
    case WIRE_BATCH: fake_batch(s, &m->batch); return;
    case WIRE_HEARTBEAT:
        f->n_heartbeats++;
        answer.pulse.wall_us = psc_clock_wall_us();
        fake_send(s, &answer);
        return;
    case WIRE_ENROL:
        f->n_enrols++;
        if (f->refusal != 0) {
            fake_refuse(s, f->refusal);
            return;
        }
        fake_issue(s, m->enrol.request);
        return;
    case WIRE_RENEW:
        f->n_renews++;
        fake_issue(s, m->renew.request);
        return;
    default: fail();
    }
}

static void on_session_frame(struct psc_conn *c, struct psc_bytes frame)
{
    struct session *s = c->user;
    struct wire_decoder decoder;
    struct wire_message m;
    struct psc_error err = {.msg = ""};
    wire_decoder_init(&decoder);
    assert_int_equal(wire_decode(&decoder, frame, &m, &err), PSC_OK);
    fake_message(s, &m);
    wire_decoder_fini(&decoder);
}

static void on_session_open(struct psc_conn *c)
{
    (void)c;
}

static void on_session_close(struct psc_conn *c, const struct psc_error *reason)
{
    (void)reason;
    struct session *s = c->user;
    s->live = false;
    decoded_fini(&s->tags);
}

static const struct psc_conn_events session_events = {
    .on_open = on_session_open,
    .on_frame = on_session_frame,
    .on_close = on_session_close,
};

static void on_connection(uv_stream_t *listener, int status)
{
    assert_int_equal(status, 0);
    struct fake *f = listener->data;
    struct session *s = calloc(1, sizeof(*s));
    assert_non_null(s);
    assert_true(f->n_sessions < SESSIONS_MAX);
    s->fake = f;
    decoded_init(&s->tags, TABLE_COLUMNS_MAX, TABLE_MAX_TAGS,
                 TABLE_MAX_TAG_KEY_BYTES);
    struct psc_conn_limits limits = {.handshake_us = 5000000,
                                     .idle_us = 10000000,
                                     .max_frame_bytes = PSC_FRAME_MAX_BYTES,
                                     .max_queue_bytes = PSC_FRAME_MAX_BYTES};
    struct psc_error err = {.msg = ""};
    s->live = psc_conn_accept(&s->conn, listener, f->ctx, &session_events,
                              &limits, s, &err) == PSC_OK;
    f->sessions[f->n_sessions++] = s;
}

void fake_start(struct fake *f, uv_loop_t *loop, struct certs *certs)
{
    memset(f, 0, sizeof(*f));
    f->loop = loop;
    f->certs = certs;
    f->issue_valid_s = 3600;
    f->ctx = certs_server_ctx(certs, PSC_TLS_VERIFY_IF_GIVEN);
    struct sockaddr_storage at;
    int len = sizeof(at);
    assert_int_equal(uv_tcp_init(loop, &f->listener), 0);
    f->listener.data = f;
    assert_int_equal(uv_ip4_addr("127.0.0.1", 0, (struct sockaddr_in *)&at), 0);
    assert_int_equal(uv_tcp_bind(&f->listener, (const struct sockaddr *)&at, 0),
                     0);
    assert_int_equal(uv_listen((uv_stream_t *)&f->listener, 16, on_connection),
                     0);
    assert_int_equal(
        uv_tcp_getsockname(&f->listener, (struct sockaddr *)&at, &len), 0);
    (void)snprintf(f->port, sizeof(f->port), "%u",
                   ntohs(((struct sockaddr_in *)&at)->sin_port));
}

void fake_stop(struct fake *f)
{
    uv_close((uv_handle_t *)&f->listener, NULL);
    for (unsigned i = 0; i < f->n_sessions; i++) {
        if (f->sessions[i]->live) {
            psc_conn_close(&f->sessions[i]->conn, NULL);
        }
    }
}

void fake_free(struct fake *f)
{
    for (unsigned i = 0; i < f->n_sessions; i++) {
        free(f->sessions[i]);
    }
    SSL_CTX_free(f->ctx);
}

void fake_ack(struct fake *f, uint64_t seq)
{
    send_ack(f->sessions[f->n_sessions - 1], seq);
}

void fake_cut(struct fake *f)
{
    psc_conn_close(&f->sessions[f->n_sessions - 1]->conn, NULL);
}
