/* A client that encodes as an agent does. */
#include "tests/lib/peer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/conn.h"
#include "common/pki.h"

enum {
    ANSWER_S = 20,
    PEM_MAX_BYTES = 65536,
    HALF_FRAME_BYTES = PSC_FRAME_MAX_BYTES / 2,
};

/* ---- identity ---- */

void peer_identity_init(struct peer_identity *id, const char *host)
{
    struct psc_error err;
    memset(id, 0, sizeof(*id));
    psc_buf_init(&id->cert, PEM_MAX_BYTES);
    psc_buf_init(&id->ca, PEM_MAX_BYTES);
    (void)snprintf(id->host, sizeof(id->host), "%s", host);
    assert_int_equal(psc_key_new(&id->key, &err), PSC_OK);
}

void peer_identity_fini(struct peer_identity *id)
{
    EVP_PKEY_free(id->key);
    SSL_CTX_free(id->ctx);
    psc_buf_fini(&id->cert);
    psc_buf_fini(&id->ca);
}

void peer_identity_show(struct peer_identity *id, const char *cert_pem)
{
    BIO *bio = BIO_new_mem_buf(cert_pem, -1);
    X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    SSL_CTX_free(id->ctx);
    id->ctx = client_ctx(NULL);
    assert_non_null(cert);
    assert_int_equal(SSL_CTX_use_certificate(id->ctx, cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(id->ctx, id->key), 1);
    X509_free(cert);
    BIO_free(bio);
}

static void keep(struct psc_buf *out, struct psc_bytes bytes)
{
    psc_buf_reset(out);
    psc_buf_append(out, bytes.data, bytes.len);
    psc_buf_u8(out, '\0');
    assert_int_equal(psc_buf_error(out), PSC_OK);
}

int peer_enrol(struct peer_identity *id, int port, const char *token)
{
    struct psc_token parsed;
    struct psc_error err;
    struct psc_buf der;
    struct client c;
    struct wire_message m = {.type = WIRE_ENROL};
    int result = -1;
    SSL_CTX *ctx = client_ctx(NULL);
    psc_buf_init(&der, PEM_MAX_BYTES);
    assert_int_equal(psc_token_parse(token, &parsed, &err), PSC_OK);
    assert_int_equal(psc_csr_new(id->key, id->host, &der, &err), PSC_OK);
    assert_true(client_open(&c, port, ctx));
    m.enrol.secret.data = parsed.secret;
    m.enrol.secret.len = sizeof(parsed.secret);
    m.enrol.request = psc_buf_bytes(&der);
    m.enrol.host = id->host;
    m.enrol.os = "linux";
    assert_true(client_send(&c, &m));
    if (client_receive(&c, &m, ANSWER_S)) {
        if (m.type == WIRE_CERTIFICATE) {
            keep(&id->cert, m.certificate.certificate);
            keep(&id->ca, m.certificate.ca);
            peer_identity_show(id, (const char *)id->cert.data);
            result = 0;
        } else if (m.type == WIRE_REFUSAL) {
            result = (int)m.refusal.code;
        }
    }
    client_close(&c);
    SSL_CTX_free(ctx);
    psc_buf_fini(&der);
    return result;
}

/* ---- sessions ---- */

bool peer_connect(struct peer *p, int port, const struct peer_identity *id)
{
    SSL_CTX *ctx = id == NULL ? client_ctx(NULL) : id->ctx;
    memset(p, 0, sizeof(*p));
    memset(p->boot_id, 0x77, sizeof(p->boot_id));
    p->interval_us = PSC_US_PER_S;
    table_init(&p->tags, 4, TABLE_MAX_TAGS, TABLE_MAX_TAG_KEY_BYTES);
    table_init(&p->counters, 1, TABLE_MAX_COUNTERS,
               TABLE_MAX_COUNTER_KEY_BYTES);
    table_writer_init(&p->tag_writer, PSC_FRAME_MAX_BYTES);
    table_writer_init(&p->counter_writer, PSC_FRAME_MAX_BYTES);
    table_begin(&p->tags);
    table_begin(&p->counters);
    bool open = client_open(&p->client, port, ctx);
    if (id == NULL) {
        SSL_CTX_free(ctx);
    }
    return open;
}

void peer_close(struct peer *p)
{
    client_close(&p->client);
    table_fini(&p->tags);
    table_fini(&p->counters);
    table_writer_fini(&p->tag_writer);
    table_writer_fini(&p->counter_writer);
}

/* Note what a message says; returns whether it is of @type. */
static bool note(struct peer *p, const struct wire_message *m,
                 enum wire_type type)
{
    if (m->type == WIRE_ACK) {
        p->acked = m->ack.seq;
    } else if (m->type == WIRE_PULSE) {
        p->n_pulses++;
    } else if (m->type == WIRE_NEED_KEYFRAME) {
        p->n_need_keyframe++;
    } else if (m->type == WIRE_REFUSAL) {
        p->refusal = (int)m->refusal.code;
        (void)snprintf(p->reason, sizeof(p->reason), "%s", m->refusal.reason);
    }
    return m->type == type;
}

/* The next message of @type; false at the end or after the time. */
static bool await(struct peer *p, enum wire_type type, struct wire_message *m,
                  int timeout_s)
{
    int64_t end_us = psc_clock_mono_us() + timeout_s * PSC_US_PER_S;
    while (psc_clock_mono_us() < end_us &&
           client_receive(&p->client, m, timeout_s)) {
        if (note(p, m, type)) {
            return true;
        }
        if (p->refusal != 0) {
            return false;
        }
    }
    return false;
}

int peer_hello(struct peer *p)
{
    struct wire_message m = {.type = WIRE_HELLO};
    m.hello.protocol_min = WIRE_PROTOCOL_MIN;
    m.hello.protocol_max = WIRE_PROTOCOL_MAX;
    m.hello.agent_version = "test";
    m.hello.os = "linux";
    m.hello.wall_us = psc_clock_wall_us() + (int64_t)p->wall_us;
    m.hello.boottime_us = psc_clock_boot_us() + (int64_t)p->boot_us;
    m.hello.interval_us = p->interval_us;
    memcpy(m.hello.boot_id, p->boot_id, sizeof(m.hello.boot_id));
    if (!client_send(&p->client, &m)) {
        return -1;
    }
    bool welcome = await(p, WIRE_WELCOME, &m, ANSWER_S);
    return welcome ? 0 : p->refusal != 0 ? p->refusal : -1;
}

uint64_t peer_open(struct peer *p, uint8_t byte)
{
    struct wire_message m = {.type = WIRE_OPEN};
    memset(m.open.stream, byte, sizeof(m.open.stream));
    assert_true(client_send(&p->client, &m));
    if (!await(p, WIRE_CURSOR, &m, ANSWER_S)) {
        fail_msg("no Cursor: %s", p->reason);
    }
    p->seq = m.cursor.seq + 1;
    p->tags_seq = 0;
    p->counters_seq = 0;
    return m.cursor.seq;
}

/* ---- batches ---- */

void peer_tag_raw(struct peer *p, const void *key, size_t len, int64_t bytes)
{
    int64_t values[4] = {0, 0, 0, bytes};
    assert_int_equal(table_put(&p->tags, 1, key, len, TAG_BYTES, values),
                     PSC_OK);
}

void peer_tag(struct peer *p, const char *tag, int64_t bytes)
{
    char key[TABLE_KEY_MAX_BYTES];
    int n = snprintf(key, sizeof(key), "%c%s", POOL_SLAB, tag);
    peer_tag_raw(p, key, (size_t)n, bytes);
}

void peer_counter(struct peer *p, const char *name, double value)
{
    int64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    assert_int_equal(
        table_put(&p->counters, 1, name, strlen(name) + 1, ENTRY_REAL, &bits),
        PSC_OK);
}

static void fill(struct peer *p, struct wire_message *m,
                 const struct wire_batch *extra)
{
    *m = (struct wire_message){.type = WIRE_BATCH};
    if (extra != NULL) {
        m->batch = *extra;
    }
    m->batch.seq = p->seq;
    m->batch.wall_us = psc_clock_wall_us() + (int64_t)p->wall_us;
    m->batch.boottime_us = psc_clock_boot_us() + (int64_t)p->boot_us;
    memcpy(m->batch.boot_id, p->boot_id, sizeof(m->batch.boot_id));
}

bool peer_batch(struct peer *p, bool keyframe, size_t budget,
                const struct wire_batch *extra)
{
    static const struct wire_batch nothing;
    struct wire_message m;
    uint32_t next = 0;
    uint32_t part = 0;
    bool sent = true;
    do {
        uint64_t base = keyframe ? 0 : p->tags_seq;
        uint32_t none = 0;
        fill(p, &m, &nothing);
        assert_int_equal(table_encode(&p->tags, keyframe, base,
                                      budget > 0 ? budget : HALF_FRAME_BYTES,
                                      &next, &p->tag_writer, &m.batch.tags),
                         PSC_OK);
        if (next == 0) { /* all else rides in the last part */
            struct columns tags = m.batch.tags;
            fill(p, &m, extra);
            m.batch.tags = tags;
            assert_int_equal(table_encode(&p->counters, keyframe,
                                          keyframe ? 0 : p->counters_seq,
                                          HALF_FRAME_BYTES / 2, &none,
                                          &p->counter_writer,
                                          &m.batch.counters),
                             PSC_OK);
            m.batch.has_counters = true;
            p->counters_seq = p->seq;
        }
        m.batch.has_tags = true;
        m.batch.part = part++;
        m.batch.more = next != 0;
        p->tags_seq = p->seq;
        sent = client_send(&p->client, &m);
        p->seq++;
    } while (next != 0 && sent);
    table_begin(&p->tags);
    table_begin(&p->counters);
    return sent;
}

bool peer_await_ack(struct peer *p, uint64_t seq, int timeout_s)
{
    struct wire_message m;
    while (p->acked < seq && p->refusal == 0) {
        if (!await(p, WIRE_ACK, &m, timeout_s)) {
            break;
        }
    }
    return p->acked >= seq;
}

int peer_await_end(struct peer *p, int timeout_s)
{
    struct wire_message m;
    int64_t end_us = psc_clock_mono_us() + timeout_s * PSC_US_PER_S;
    while (psc_clock_mono_us() < end_us) {
        if (!client_receive(&p->client, &m, timeout_s)) {
            bool timeout = errno == EAGAIN || errno == EWOULDBLOCK;
            return timeout && psc_clock_mono_us() >= end_us ? -1 : p->refusal;
        }
        (void)note(p, &m, WIRE_ACK);
    }
    return -1;
}

void peer_listen(struct peer *p, int timeout_s)
{
    struct wire_message m;
    int64_t end_us = psc_clock_mono_us() + timeout_s * PSC_US_PER_S;
    while (psc_clock_mono_us() < end_us &&
           client_receive(&p->client, &m, timeout_s)) {
        (void)note(p, &m, WIRE_ACK);
    }
}
