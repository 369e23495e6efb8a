/* The uplink against a scripted collector on loopback TLS: what is taken
 * arrives exactly once and in order, whatever the collector does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "agent/batch.h"
#include "agent/uplink.h"
#include "common/clock.h"
#include "common/file.h"
#include "tests/lib/certs.h"
#include "tests/lib/temp.h"

enum {
    STREAMS_MAX = 8,
    SESSIONS_MAX = 64,
    TEST_TIMEOUT_MS = 20000,
    HOST_ID = 42,
};

/* --- a collector --- */

struct stored {
    uint8_t stream[16];
    uint64_t cursor;  /* newest seq that is stored */
    uint64_t n;       /* batches stored */
    uint64_t skipped; /* seqs that never came */
};

struct session {
    struct psc_conn conn;
    struct fake *fake;
    bool live;           /* until on_close */
    struct stored *open; /* after Open */
    bool fresh;          /* no batch since Cursor */
    bool deaf;           /* after NEED_KEYFRAME, until Open */
    uint64_t seq;        /* of the last batch */
    uint64_t sample_seq; /* of the first part of its sample */
    struct table tags;
    uint64_t tags_seq;
};

struct fake {
    uv_loop_t *loop;
    uv_tcp_t listener;
    SSL_CTX *ctx;
    char port[8];
    struct session *sessions[SESSIONS_MAX];
    unsigned n_sessions;
    struct stored stored[STREAMS_MAX];
    unsigned n_streams;
    unsigned n_batches, n_duplicates, n_opens, n_hellos, n_heartbeats;
    uint64_t dropped_told;
    /* the script */
    bool silent;               /* never answers a Hello */
    bool hold_acks;            /* stores, but does not say so */
    unsigned cut_every;        /* cut the connection after so many batches */
    uint64_t refuse_once;      /* NEED_KEYFRAME at this seq */
    uint64_t refuse_always;    /* likewise, each time */
    enum wire_refusal refusal; /* of every Hello and Enrol */
    uint64_t retry_after_us;
    uint64_t cursor_ahead; /* added to the first Cursor */
    uint64_t false_ack;    /* acknowledge so much more, once */
    struct certs *certs;   /* to enrol and renew */
    int64_t issue_valid_s;
    unsigned n_enrols, n_renews;
};

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

/* The collector's rules for a batch. */
static void fake_batch(struct session *s, const struct wire_batch *b)
{
    struct fake *f = s->fake;
    struct psc_error err = {.msg = ""};
    assert_non_null(s->open);
    if (s->deaf) {
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
        assert_int_equal(table_apply(&s->tags, &b->tags, b->part == 0, &err),
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
}

static void fake_refuse(struct session *s)
{
    struct wire_message m = {.type = WIRE_REFUSAL};
    m.refusal.code = s->fake->refusal;
    m.refusal.reason = "scripted";
    m.refusal.retry_after_us = s->fake->retry_after_us;
    fake_send(s, &m);
    psc_conn_close(&s->conn, NULL);
}

static void fake_issue(struct session *s, struct psc_bytes request)
{
    struct fake *f = s->fake;
    X509 *cert = NULL;
    struct psc_error err = {.msg = ""};
    assert_int_equal(psc_ca_issue_host(f->certs->ca, f->certs->ca_key, request,
                                       HOST_ID, "host", f->issue_valid_s, &cert,
                                       &err),
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
            fake_refuse(s);
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
            fake_refuse(s);
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
    table_fini(&s->tags);
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
    table_init(&s->tags, TABLE_COLUMNS_MAX, TABLE_MAX_TAGS,
               TABLE_MAX_TAG_KEY_BYTES, false);
    struct psc_conn_limits limits = {.handshake_us = 5000000,
                                     .idle_us = 10000000,
                                     .max_frame_bytes = PSC_FRAME_MAX_BYTES,
                                     .max_queue_bytes = PSC_FRAME_MAX_BYTES};
    struct psc_error err = {.msg = ""};
    s->live = psc_conn_accept(&s->conn, listener, f->ctx, &session_events,
                              &limits, s, &err) == PSC_OK;
    f->sessions[f->n_sessions++] = s;
}

static void fake_start(struct fake *f, uv_loop_t *loop, struct certs *certs)
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

static void fake_stop(struct fake *f)
{
    uv_close((uv_handle_t *)&f->listener, NULL);
    for (unsigned i = 0; i < f->n_sessions; i++) {
        if (f->sessions[i]->live) {
            psc_conn_close(&f->sessions[i]->conn, NULL);
        }
    }
}

static void fake_free(struct fake *f)
{
    for (unsigned i = 0; i < f->n_sessions; i++) {
        free(f->sessions[i]);
    }
    SSL_CTX_free(f->ctx);
}

/* --- an agent --- */

static uint32_t n_samples, n_tags = 20;

static int steps_open(const struct source_env *env, void **state,
                      struct psc_error *err)
{
    (void)env;
    (void)err;
    *state = NULL;
    return PSC_OK;
}

static int steps_collect(void *state, struct sample *out, struct psc_error *err)
{
    (void)state;
    (void)err;
    n_samples++;
    for (unsigned i = 0; i < n_tags; i++) {
        char name[16];
        int n = snprintf(name, sizeof(name), "t%u", i);
        struct tag_values v = {.flags = TAG_BYTES,
                               .bytes = n_samples * (i + 1)};
        (void)sample_tag(out, POOL_SLAB, name, (size_t)n, &v);
    }
    return PSC_OK;
}

static const struct source source_steps = {.name = "steps",
                                           .group = SOURCE_TAGS,
                                           .open = steps_open,
                                           .collect = steps_collect};
static const struct source *const steps[] = {&source_steps, NULL};

struct bench {
    uv_loop_t loop;
    uv_timer_t timeout, take;
    unsigned to_take; /* batches that `take` shall still produce */
    struct certs certs;
    struct fake fake, second;
    const char *state_dir;
    struct options options;
    struct host_facts facts;
    struct identity identity;
    struct collect collect;
    struct spool spool;
    struct batcher batcher;
    struct uplink uplink;
    struct uplink_pace pace;
    unsigned n_wants, n_stopped;
    char collectors[128];
    char token[PSC_TOKEN_TEXT_BYTES];
};

static struct bench bench;

static void on_timeout(uv_timer_t *timer)
{
    (void)timer;
    fail_msg("timed out in state %s", uplink_state_name(bench.uplink.state));
}

static void on_want_keyframe(void *user)
{
    struct bench *b = user;
    b->n_wants++;
    batcher_want_keyframe(&b->batcher);
}

static void on_stopped(void *user)
{
    struct bench *b = user;
    b->n_stopped++;
    uplink_fini(&b->uplink);
}

static void take_one(struct bench *b)
{
    struct batch_time time = {psc_clock_wall_us(), psc_clock_boot_us(),
                              psc_clock_mono_us()};
    collect_run(&b->collect, 1u << SOURCE_TAGS);
    assert_int_equal(
        batcher_take(&b->batcher, &b->collect, 1u << SOURCE_TAGS, 0, &time),
        PSC_OK);
    uplink_kick(&b->uplink);
}

static void take(struct bench *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        take_one(b);
    }
}

static void on_take(uv_timer_t *timer)
{
    struct bench *b = timer->data;
    if (b->to_take > 0) {
        b->to_take--;
        take_one(b);
    }
}

static void open_bench_spool(struct bench *b)
{
    struct psc_error err = {.msg = ""};
    struct spool_options o = {
        .dir = b->state_dir,
        .max_bytes = 64 << 20,
        .segment_bytes = 8192,
        .memory_bytes = SPOOL_MEMORY_BYTES,
        .fs = &spool_fs_uv,
    };
    assert_int_equal(spool_open(&b->spool, &o, &err), PSC_OK);
    batcher_init(&b->batcher, &b->spool, b->facts.boot_id);
}

static void write_identity(struct bench *b, int64_t valid_s)
{
    struct host_certs host;
    certs_host(&b->certs, HOST_ID, valid_s, &host);
    char both[16384];
    int n = snprintf(both, sizeof(both), "%s%s", host.key_pem, host.pem);
    temp_write(temp_path(b->state_dir, "identity.pem"), both, (unsigned long)n);
    temp_write(temp_path(b->state_dir, "ca.pem"), b->certs.ca_pem,
               strlen(b->certs.ca_pem));
    host_certs_fini(&host);
}

static void load_identity(struct bench *b)
{
    struct psc_error err = {.msg = ""};
    assert_int_equal(identity_init(&b->identity, b->state_dir, &err), PSC_OK);
}

static struct bench *bench_init(int64_t valid_s)
{
    struct bench *b = &bench;
    memset(b, 0, sizeof(*b));
    struct psc_error err = {.msg = ""};
    assert_int_equal(uv_loop_init(&b->loop), 0);
    certs_init(&b->certs);
    b->state_dir = temp_dir();
    if (valid_s != 0) {
        write_identity(b, valid_s);
    }
    load_identity(b);
    fake_start(&b->fake, &b->loop, &b->certs);
    fake_start(&b->second, &b->loop, &b->certs);
    struct source_env env = {.root = ""};
    assert_int_equal(collect_init(&b->collect, steps, &env, &err), PSC_OK);
    open_bench_spool(b);
    b->pace = (struct uplink_pace){.backoff_min_ms = 10,
                                   .backoff_max_ms = 50,
                                   .refused_ms = 300,
                                   .heartbeat_ms = 50,
                                   .idle_ms = 1000,
                                   .handshake_ms = 3000};
    (void)snprintf(b->collectors, sizeof(b->collectors), "127.0.0.1:%.5s",
                   b->fake.port);
    b->options.collector = b->collectors;
    b->options.labels = "rack=r7";
    b->options.interval_us = 1000000;
    (void)snprintf(b->facts.name, sizeof(b->facts.name), "host");
    (void)snprintf(b->facts.os, sizeof(b->facts.os), "linux");
    assert_int_equal(uv_timer_init(&b->loop, &b->timeout), 0);
    assert_int_equal(
        uv_timer_start(&b->timeout, on_timeout, TEST_TIMEOUT_MS, 0), 0);
    assert_int_equal(uv_timer_init(&b->loop, &b->take), 0);
    b->take.data = b;
    assert_int_equal(uv_timer_start(&b->take, on_take, 1, 1), 0);
    return b;
}

static void start(struct bench *b)
{
    struct uplink_settings settings = {
        .loop = &b->loop,
        .spool = &b->spool,
        .identity = &b->identity,
        .options = &b->options,
        .facts = &b->facts,
        .pace = &b->pace,
        .on_want_keyframe = on_want_keyframe,
        .on_stopped = on_stopped,
        .user = b,
    };
    struct psc_error err = {.msg = ""};
    assert_int_equal(uplink_init(&b->uplink, &settings, &err), PSC_OK);
    uplink_start(&b->uplink);
}

static void turn(struct bench *b)
{
    (void)uv_run(&b->loop, UV_RUN_ONCE);
}

static void stop(struct bench *b)
{
    int64_t begin = psc_clock_mono_us();
    unsigned before = b->n_stopped;
    uplink_stop(&b->uplink);
    while (b->n_stopped == before) {
        turn(b);
    }
    assert_true(psc_clock_mono_us() - begin < 1000000);
}

static void bench_fini(struct bench *b)
{
    stop(b);
    fake_stop(&b->fake);
    fake_stop(&b->second);
    uv_close((uv_handle_t *)&b->timeout, NULL);
    uv_close((uv_handle_t *)&b->take, NULL);
    (void)uv_run(&b->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&b->loop), 0);
    fake_free(&b->fake);
    fake_free(&b->second);
    batcher_fini(&b->batcher);
    collect_fini(&b->collect);
    spool_close(&b->spool);
    identity_fini(&b->identity);
    certs_fini(&b->certs);
}

static uint64_t acked(const struct bench *b)
{
    return spool_acked(&b->spool, b->spool.stream);
}

/* Run until all that was taken is acknowledged. */
static void drain(struct bench *b)
{
    while (b->to_take > 0 || acked(b) < b->spool.last_seq) {
        turn(b);
    }
}

static void run_ms(struct bench *b, int64_t ms)
{
    int64_t end = psc_clock_mono_us() + ms * 1000;
    while (psc_clock_mono_us() < end) {
        turn(b);
    }
}

/* --- the cases --- */

static void uplink_delivers_backlog_and_live(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    take(b, 300); /* more than the window */
    start(b);
    drain(b);
    b->to_take = 50;
    drain(b);
    assert_int_equal(b->fake.n_streams, 1);
    assert_int_equal(b->fake.stored[0].n, 350);
    assert_int_equal(b->fake.stored[0].skipped, 0);
    assert_int_equal(b->fake.n_duplicates, 0);
    assert_int_equal(b->fake.n_hellos, 1);
    assert_int_equal(b->spool.n_segments, 1);
    run_ms(b, 150);
    assert_true(b->fake.n_heartbeats > 0);
    bench_fini(b);
}

static void uplink_asks_for_a_keyframe_without_backlog(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    start(b);
    while (b->uplink.state != UPLINK_LIVE) {
        turn(b);
    }
    assert_int_equal(b->n_wants, 1);
    b->to_take = 20;
    drain(b);
    /* Cut, and nothing waits: the next batch begins anew. */
    psc_conn_close(&b->fake.sessions[0]->conn, NULL);
    while (b->n_wants < 2) {
        turn(b);
    }
    b->to_take = 20;
    drain(b);
    assert_int_equal(b->fake.stored[0].n, 40);
    assert_int_equal(b->fake.n_duplicates, 0);
    bench_fini(b);
}

static void uplink_resends_after_cuts(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    b->fake.cut_every = 37;
    take(b, 100);
    start(b);
    b->to_take = 400;
    drain(b);
    assert_int_equal(b->fake.stored[0].n, 500);
    assert_int_equal(b->fake.stored[0].skipped, 0);
    assert_true(b->fake.n_hellos > 10);
    assert_int_equal(b->spool.dropped, 0);
    bench_fini(b);
}

static void uplink_bounds_what_is_in_flight(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    b->fake.hold_acks = true;
    take(b, 600);
    start(b);
    run_ms(b, 300);
    assert_int_equal(b->fake.n_batches, UPLINK_WINDOW_BATCHES);
    b->fake.hold_acks = false;
    send_ack(b->fake.sessions[0], b->fake.stored[0].cursor);
    drain(b);
    assert_int_equal(b->fake.stored[0].n, 600);
    assert_int_equal(b->fake.n_hellos, 1);
    bench_fini(b);
}

static void uplink_sends_large_samples_whole(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    b->batcher.budget_bytes = 32 * 1024;
    n_tags = 30000; /* a keyframe in many parts, larger than the window */
    take(b, 3);
    batcher_want_keyframe(&b->batcher);
    take(b, 1);
    assert_true(b->spool.bytes > 2 * UPLINK_WINDOW_BYTES);
    b->fake.cut_every = 17;
    start(b);
    drain(b);
    n_tags = 20;
    assert_int_equal(b->fake.stored[0].n, b->spool.last_seq);
    assert_int_equal(b->fake.stored[0].skipped, 0);
    bench_fini(b);
}

static void uplink_starts_over_when_asked(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    b->fake.refuse_once = 60;
    take(b, 100);
    start(b);
    drain(b);
    assert_int_equal(b->fake.stored[0].n, 100);
    assert_int_equal(b->fake.n_opens, 2);
    assert_int_equal(b->fake.n_hellos, 1);
    bench_fini(b);
}

static void uplink_skips_what_nobody_can_decode(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    take(b, 400);
    assert_true(b->spool.n_segments > 2);
    b->fake.refuse_always = b->spool.segments[0].last_seq;
    start(b);
    drain(b);
    assert_int_equal(b->fake.stored[0].n + b->fake.stored[0].skipped, 400);
    assert_int_equal(b->fake.stored[0].skipped, 1);
    assert_int_equal(b->spool.dropped, 1);
    assert_int_equal(b->fake.n_hellos, 1);
    bench_fini(b);
}

static void uplink_honours_lasting_refusals(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    b->fake.refusal = WIRE_REFUSAL_DISABLED;
    take(b, 10);
    start(b);
    run_ms(b, 250);
    assert_int_equal(b->fake.n_hellos, 1); /* slowly */
    run_ms(b, 250);
    assert_int_equal(b->fake.n_hellos, 2);
    b->fake.refusal = 0;
    drain(b);
    assert_int_equal(b->fake.stored[0].n, 10);
    bench_fini(b);
}

static void uplink_waits_as_long_as_told(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    b->fake.refusal = WIRE_REFUSAL_BUSY;
    b->fake.retry_after_us = 400 * 1000;
    start(b);
    run_ms(b, 350);
    assert_int_equal(b->fake.n_hellos, 1);
    b->fake.retry_after_us = 0;
    run_ms(b, 350);
    assert_true(b->fake.n_hellos > 3);
    bench_fini(b);
}

static void uplink_sends_older_streams_first(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    for (int i = 0; i < 3; i++) {
        take(b, 40);
        batcher_fini(&b->batcher);
        spool_close(&b->spool);
        open_bench_spool(b);
    }
    take(b, 40);
    start(b);
    drain(b);
    assert_int_equal(b->fake.n_streams, 4);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(b->fake.stored[i].n, 40);
        assert_int_equal(b->fake.stored[i].skipped, 0);
    }
    assert_memory_equal(b->fake.stored[3].stream, b->spool.stream, 16);
    assert_int_equal(b->fake.n_hellos, 1);
    assert_int_equal(b->fake.n_opens, 4);
    assert_int_equal(b->spool.dropped, 0);
    bench_fini(b);
}

static void uplink_leaves_a_stream_that_is_ahead(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    take(b, 10);
    b->fake.cursor_ahead = 20;
    start(b);
    while (b->uplink.state != UPLINK_LIVE) {
        turn(b);
    }
    b->to_take = 10;
    drain(b);
    assert_int_equal(b->fake.n_streams, 2);
    assert_int_equal(b->fake.stored[1].n, 10);
    assert_int_equal(b->fake.stored[1].skipped, 0);
    bench_fini(b);
}

static void uplink_opens_again_after_dropping(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    b->fake.hold_acks = true;
    start(b);
    b->to_take = 300;
    while (b->fake.n_batches < UPLINK_WINDOW_BATCHES) {
        turn(b);
    }
    b->spool.o.max_bytes = 16 * 1024; /* two segments */
    take(b, 600);
    assert_true(b->spool.dropped > 0);
    b->fake.hold_acks = false;
    send_ack(b->fake.sessions[0], b->fake.stored[0].cursor);
    drain(b);
    assert_int_equal(b->fake.stored[0].n + b->fake.stored[0].skipped,
                     b->spool.last_seq);
    assert_true(b->fake.stored[0].skipped > 0);
    assert_true(b->fake.dropped_told >= b->fake.stored[0].skipped);
    assert_int_equal(b->fake.n_hellos, 1);
    assert_int_equal(b->fake.n_opens, 2);
    bench_fini(b);
}

static void uplink_turns_to_the_next_collector(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    (void)snprintf(b->collectors, sizeof(b->collectors),
                   "127.0.0.1:1, 127.0.0.1:%.5s", b->second.port);
    take(b, 10);
    start(b);
    drain(b);
    assert_int_equal(b->second.stored[0].n, 10);
    /* It keeps to the one that works. */
    psc_conn_close(&b->second.sessions[0]->conn, NULL);
    b->to_take = 10;
    run_ms(b, 50);
    drain(b);
    assert_int_equal(b->second.n_hellos, 2);
    assert_int_equal(b->second.stored[0].n, 20);
    assert_int_equal(b->uplink.current, 1);

    /* A new configuration takes it elsewhere. */
    (void)snprintf(b->collectors, sizeof(b->collectors), "127.0.0.1:%.5s",
                   b->fake.port);
    struct psc_error err = {.msg = ""};
    assert_int_equal(uplink_reload(&b->uplink, &err), PSC_OK);
    b->to_take = 10;
    while (b->fake.n_hellos == 0) {
        turn(b);
    }
    drain(b);
    assert_int_equal(b->fake.n_hellos, 1);
    bench_fini(b);
}

static void uplink_notices_a_dead_peer(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    b->fake.silent = true;
    (void)snprintf(b->collectors, sizeof(b->collectors),
                   "127.0.0.1:%.5s, 127.0.0.1:%.5s", b->fake.port,
                   b->second.port);
    take(b, 10);
    int64_t begin = psc_clock_mono_us();
    start(b);
    drain(b);
    int64_t took_ms = (psc_clock_mono_us() - begin) / 1000;
    assert_in_range(took_ms, b->pace.idle_ms / 2, b->pace.idle_ms * 3);
    assert_int_equal(b->second.stored[0].n, 10);
    bench_fini(b);
}

static void uplink_ends_with_a_lying_collector(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    take(b, 10);
    b->fake.false_ack = 1000;
    start(b);
    drain(b);
    assert_int_equal(b->fake.n_hellos, 2);
    assert_int_equal(b->fake.stored[0].n, 10);
    bench_fini(b);
}

static void make_token(struct bench *b, uint8_t ca_byte)
{
    struct psc_token token;
    memset(token.secret, 5, sizeof(token.secret));
    memcpy(token.ca_sha256, b->certs.ca_sha256, sizeof(token.ca_sha256));
    token.ca_sha256[0] ^= ca_byte;
    psc_token_format(&token, b->token);
    b->options.token = b->token;
}

static void uplink_enrols_first(void **state)
{
    (void)state;
    struct bench *b = bench_init(0);
    make_token(b, 0);
    take(b, 10);
    start(b);
    drain(b);
    assert_int_equal(b->fake.n_enrols, 1);
    assert_int_equal(b->fake.stored[0].n, 10);
    assert_int_equal(b->identity.host_id, HOST_ID);
    struct stat st;
    assert_int_equal(stat(temp_path(b->state_dir, "identity.pem"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_not_equal(stat(temp_path(b->state_dir, "pending.pem"), &st), 0);
    bench_fini(b);
}

static void uplink_keeps_the_secret_from_strangers(void **state)
{
    (void)state;
    struct bench *b = bench_init(0);
    make_token(b, 1); /* another CA's */
    start(b);
    run_ms(b, 200);
    assert_true(b->fake.n_sessions > 0);
    assert_int_equal(b->fake.n_enrols, 0);
    bench_fini(b);
}

static void uplink_keeps_trying_to_enrol(void **state)
{
    (void)state;
    struct bench *b = bench_init(0);
    start(b); /* no token yet */
    run_ms(b, 100);
    assert_int_equal(b->fake.n_sessions, 0);
    make_token(b, 0);
    b->fake.refusal = WIRE_REFUSAL_TOKEN;
    while (b->fake.n_enrols < 2) {
        turn(b);
    }
    b->fake.refusal = 0;
    take(b, 10);
    drain(b);
    assert_int_equal(b->fake.stored[0].n, 10);
    bench_fini(b);
}

static void uplink_renews_its_certificate(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    b->identity.not_before_us -= 3600 * 1000000LL * 3; /* older than it is */
    start(b);
    while (b->fake.n_renews == 0 || b->uplink.ctx != NULL) {
        turn(b);
    }
    assert_false(identity_renew_due(&b->identity, psc_clock_wall_us()));
    assert_int_equal(b->fake.n_hellos, 1); /* the session goes on */
    b->to_take = 10;
    drain(b);
    psc_conn_close(&b->fake.sessions[0]->conn, NULL);
    b->to_take = 10;
    run_ms(b, 50);
    drain(b);
    assert_int_equal(b->fake.stored[0].n, 20);
    bench_fini(b);
}

static void uplink_renews_after_expiry(void **state)
{
    (void)state;
    struct bench *b = bench_init(-3600);
    take(b, 10);
    start(b);
    drain(b);
    assert_int_equal(b->fake.n_renews, 1);
    assert_int_equal(b->fake.n_hellos, 1);
    assert_int_equal(b->fake.stored[0].n, 10);
    bench_fini(b);
}

static void backoff_doubles_within_bounds(void **state)
{
    (void)state;
    const struct uplink_pace *p = &uplink_default_pace;
    for (unsigned round = 0; round < 40; round++) {
        int64_t full = round < 6 ? 1000LL << round : 60000;
        assert_int_equal(uplink_backoff_ms(p, round, 0), full / 2);
        for (uint32_t r = 1; r < 100; r++) {
            int64_t ms = uplink_backoff_ms(p, round, r * 40503u);
            assert_in_range(ms, full / 2, full);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uplink_delivers_backlog_and_live),
        cmocka_unit_test(uplink_asks_for_a_keyframe_without_backlog),
        cmocka_unit_test(uplink_resends_after_cuts),
        cmocka_unit_test(uplink_bounds_what_is_in_flight),
        cmocka_unit_test(uplink_sends_large_samples_whole),
        cmocka_unit_test(uplink_starts_over_when_asked),
        cmocka_unit_test(uplink_skips_what_nobody_can_decode),
        cmocka_unit_test(uplink_honours_lasting_refusals),
        cmocka_unit_test(uplink_waits_as_long_as_told),
        cmocka_unit_test(uplink_sends_older_streams_first),
        cmocka_unit_test(uplink_leaves_a_stream_that_is_ahead),
        cmocka_unit_test(uplink_opens_again_after_dropping),
        cmocka_unit_test(uplink_turns_to_the_next_collector),
        cmocka_unit_test(uplink_notices_a_dead_peer),
        cmocka_unit_test(uplink_ends_with_a_lying_collector),
        cmocka_unit_test(uplink_enrols_first),
        cmocka_unit_test(uplink_keeps_the_secret_from_strangers),
        cmocka_unit_test(uplink_keeps_trying_to_enrol),
        cmocka_unit_test(uplink_renews_its_certificate),
        cmocka_unit_test(uplink_renews_after_expiry),
        cmocka_unit_test(backoff_doubles_within_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
