/* What the agent and the collector say to each other.
 *
 * Happy path: Hello, Welcome, Open, Cursor; then batches from the spool as the
 * window allows, and acknowledgements back. When all of an older stream is
 * stored: Open of the next one. After NEED_KEYFRAME, or when the spool had to
 * drop what was not yet sent: Open again, which starts over with a keyframe.
 *
 * Every session repeats what the collector needs to decode the next batch.
 * Connections that break before that is through, however often, cost time and
 * no data. Only a collector that says it will not have these batches (Refusal
 * "malformed" to what was sent, REFUSED_MAX times without any progress) makes
 * the agent go on with the next keyframe; what lies between is counted as
 * dropped. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/uplink.h"
#include "agent/uplink_private.h"
#include "common/clock.h"
#include "common/log.h"

enum {
    QUEUE_LOW_BYTES = 32 * 1024, /* read on when so little waits to be sent */
    STUCK_MAX = 2,               /* NEED_KEYFRAME for one seq */
    REFUSED_MAX = 10,            /* "malformed" at one and the same place */
    DAY_MS = 86400 * 1000,
};

#define HOUR_US (3600 * 1000000LL)

static bool send_message(struct uplink *u, const struct wire_message *m)
{
    psc_buf_reset(&u->frame);
    wire_encode(m, &u->frame);
    int rc = psc_buf_error(&u->frame);
    if (rc == PSC_OK) {
        rc = psc_conn_send(&u->conn, psc_buf_bytes(&u->frame));
    }
    if (rc != PSC_OK) {
        uplink_close(u, rc, "cannot send");
    }
    return rc == PSC_OK;
}

/* --- the beginning --- */

static bool send_renewal(struct uplink *u)
{
    struct psc_buf der;
    psc_buf_init(&der, 16 << 10);
    struct psc_error err = {.msg = ""};
    bool sent = false;
    if (identity_request(u->s.identity, u->s.facts->name, &der, &err) ==
        PSC_OK) {
        struct wire_message m = {.type = WIRE_RENEW};
        m.renew.request = psc_buf_bytes(&der);
        sent = send_message(u, &m);
        u->renewing = sent;
    } else {
        psc_log_error("certificate renewal: %s", err.msg);
    }
    psc_buf_fini(&der);
    return sent;
}

static void send_hello(struct uplink *u)
{
    const struct host_facts *f = u->s.facts;
    const struct options *o = u->s.options;
    struct psc_buf labels;
    psc_buf_init(&labels, 64 << 10);
    struct psc_error err;
    if (agent_options_labels(o->labels, &labels, &err) != PSC_OK) {
        psc_buf_reset(&labels); /* checked at the start; cannot happen */
    }
    struct wire_message m = {.type = WIRE_HELLO};
    m.hello = (struct wire_hello){
        .protocol_min = WIRE_PROTOCOL_MIN,
        .protocol_max = WIRE_PROTOCOL_MAX,
        .agent_version = PSC_VERSION,
        .os = f->os,
        .os_version = f->os_version,
        .os_build = f->os_build,
        .boot_wall_us = f->boot_wall_us,
        .wall_us = psc_clock_wall_us(),
        .boottime_us = psc_clock_boot_us(),
        .ram_bytes = f->ram_bytes,
        .role = o->role,
        .region = o->region,
        .labels = psc_buf_bytes(&labels),
        .interval_us = (uint64_t)o->interval_us,
    };
    memcpy(m.hello.boot_id, f->boot_id, sizeof(m.hello.boot_id));
    (void)send_message(u, &m);
    psc_buf_fini(&labels);
}

void uplink_session_begin(struct uplink *u)
{
    if (identity_expired(u->s.identity, psc_clock_wall_us())) {
        psc_log_warn("the certificate has expired; asking for a new one");
        uplink_set_state(u, UPLINK_RENEWING);
        if (!send_renewal(u) && u->state == UPLINK_RENEWING) {
            uplink_close(u, PSC_IO, "cannot make a request");
        }
        return;
    }
    uplink_set_state(u, UPLINK_HELLO);
    send_hello(u);
}

void uplink_session_end(struct uplink *u)
{
    if (u->sent_any) {
        /* What is taken from now on shall need no long repetition. */
        u->s.on_want_keyframe(u->s.user);
        u->sent_any = false;
    }
    u->window_n = 0;
    u->window_bytes = 0;
    u->renewing = false;
    u->n_stuck = 0;
    u->high_seq = 0;
    spool_reader_close(&u->reader, u->s.spool);
}

/* --- streams --- */

/* Turn to the spool's oldest stream. */
static void open_stream(struct uplink *u)
{
    uint8_t front[SPOOL_STREAM_BYTES];
    uint64_t last;
    (void)spool_front(u->s.spool, front, &last);
    if (memcmp(front, u->stream, sizeof(front)) != 0) {
        memcpy(u->stream, front, sizeof(front));
        u->high_seq = 0;
        u->cursor_seq = 0;
        u->given_up_seq = 0;
        u->n_refused = 0;
        u->passed = true;
    }
    if (u->state != UPLINK_OPENING) {
        uplink_set_state(u, UPLINK_OPENING);
    }
    u->window_n = 0;
    u->window_bytes = 0;
    struct wire_message m = {.type = WIRE_OPEN};
    memcpy(m.open.stream, u->stream, sizeof(m.open.stream));
    m.open.dropped_batches = u->s.spool->dropped;
    (void)send_message(u, &m);
}

static void take_welcome(struct uplink *u, const struct wire_message *m)
{
    if (u->state != UPLINK_HELLO) {
        uplink_close(u, PSC_FORMAT, "a second Welcome");
        return;
    }
    psc_log_info("connected to %s as %s", psc_conn_peer_name(&u->conn),
                 m->welcome.host);
    open_stream(u);
}

/* No collector takes the batches from @next on: go on with the next keyframe
 * instead, for else nothing would ever arrive. Returns as spool_read() does;
 * PSC_MISSING if there is no such keyframe. */
static int skip_ahead(struct uplink *u, uint64_t next, uint64_t last,
                      bool active)
{
    struct spool *spool = u->s.spool;
    int rc = spool_reader_skip(&u->reader, spool, u->stream, next);
    if (rc != PSC_OK && (rc != PSC_MISSING || active)) {
        return rc;
    }
    u->given_up_seq = rc == PSC_OK ? u->reader.seq - 1 : last;
    uint64_t lost = spool_give_up(spool, u->stream, u->given_up_seq);
    psc_log_error("refused %u times at batch %" PRIu64 ": %" PRIu64
                  " batches are given up",
                  u->n_refused, next, lost);
    u->n_refused = 0;
    return PSC_OK;
}

/* Have the reader stand at what the collector needs for what follows @cursor.
 * Returns as spool_read() does; PSC_MISSING if nothing waits. */
static int find_start(struct uplink *u, uint64_t cursor, uint64_t last,
                      bool active)
{
    u->n_refused = cursor == u->cursor_seq ? u->n_refused : 0;
    u->cursor_seq = cursor;
    uint64_t done = cursor > u->given_up_seq ? cursor : u->given_up_seq;
    uint64_t next = done < last ? done + 1 : last + 1;
    if (u->n_refused >= REFUSED_MAX && next <= last) {
        int rc = skip_ahead(u, next, last, active);
        if (rc != PSC_MISSING) {
            return rc;
        }
    }
    int rc = spool_reader_start(&u->reader, u->s.spool, u->stream, next);
    if (rc == PSC_MISSING && active) {
        spool_reader_seek(&u->reader, u->s.spool, u->stream, next);
        u->s.on_want_keyframe(u->s.user);
    }
    u->passed = rc != PSC_OK || u->reader.seq >= next;
    return rc;
}

static void take_cursor(struct uplink *u, const struct wire_message *m)
{
    struct spool *spool = u->s.spool;
    if (u->state != UPLINK_OPENING ||
        memcmp(m->cursor.stream, u->stream, sizeof(u->stream)) != 0) {
        uplink_close(u, PSC_FORMAT, "a Cursor that was not asked for");
        return;
    }
    uint8_t front[SPOOL_STREAM_BYTES];
    uint64_t last;
    bool active = spool_front(spool, front, &last);
    if (memcmp(front, u->stream, sizeof(front)) != 0) {
        open_stream(u); /* all of it was dropped meanwhile */
        return;
    }
    if (active && m->cursor.seq > last) {
        /* This stream's numbers are used: a copy of this machine runs, or it
         * was set back. */
        psc_log_warn("the collector knows more of our stream than we do; "
                     "starting a new one");
        spool_ack(spool, u->stream, last);
        spool_new_stream(spool);
        spool_finish_front(spool);
        open_stream(u);
        return;
    }
    spool_ack(spool, u->stream, m->cursor.seq);
    int rc = find_start(u, m->cursor.seq, last, active);
    if (rc != PSC_OK && rc != PSC_MISSING) {
        uplink_close(u, rc, "cannot read the spool");
        return;
    }
    u->sent_any = false;
    u->within_sample = false;
    uplink_set_state(u, UPLINK_LIVE);
    uplink_session_pump(u);
}

/* --- batches and acknowledgements --- */

static void push_window(struct uplink *u, uint64_t seq, size_t bytes)
{
    unsigned at = (u->window_at + u->window_n) % UPLINK_RING_BATCHES;
    u->window[at].seq = seq;
    u->window[at].bytes = bytes;
    u->window_n++;
    u->window_bytes += bytes;
}

static bool window_full(const struct uplink *u)
{
    if (u->within_sample) {
        return u->window_n == UPLINK_RING_BATCHES; /* a spool gone mad */
    }
    return u->window_n >= UPLINK_WINDOW_BATCHES ||
           u->window_bytes >= UPLINK_WINDOW_BYTES;
}

/* Send one record. Returns whether to go on. */
static bool send_record(struct uplink *u, const struct spool_record *record)
{
    if (u->sent_any && record->seq != u->sent_seq + 1) {
        open_stream(u); /* what lies between was dropped */
        return false;
    }
    int rc = psc_conn_send(&u->conn, record->payload);
    if (rc == PSC_LIMIT) {
        spool_reader_seek(&u->reader, u->s.spool, u->stream, record->seq);
        return false; /* until on_drained */
    }
    if (rc != PSC_OK) {
        uplink_close(u, rc, "cannot send");
        return false;
    }
    u->within_sample = (record->flags & SPOOL_MORE) != 0;
    u->sent_any = true;
    u->sent_seq = record->seq;
    u->high_seq = record->seq > u->high_seq ? record->seq : u->high_seq;
    push_window(u, record->seq, record->payload.len);
    return true;
}

/* Nothing more to read of this stream: is it done? */
static void at_end(struct uplink *u)
{
    uint8_t front[SPOOL_STREAM_BYTES];
    uint64_t last;
    bool active = spool_front(u->s.spool, front, &last);
    if (!active && spool_acked(u->s.spool, u->stream) >= last) {
        spool_finish_front(u->s.spool);
        open_stream(u);
    }
}

void uplink_session_pump(struct uplink *u)
{
    while (u->state == UPLINK_LIVE) {
        uint8_t front[SPOOL_STREAM_BYTES];
        uint64_t last;
        (void)spool_front(u->s.spool, front, &last);
        if (memcmp(front, u->stream, sizeof(front)) != 0) {
            open_stream(u); /* it was dropped as a whole, or replaced */
            return;
        }
        if (window_full(u) || psc_conn_queued(&u->conn) > QUEUE_LOW_BYTES) {
            return;
        }
        struct spool_record record;
        int rc = spool_read(u->s.spool, &u->reader, &record);
        if (rc == PSC_MISSING) {
            at_end(u);
            return;
        }
        if (rc != PSC_OK) {
            uplink_close(u, rc, "cannot read the spool");
            return;
        }
        if (!send_record(u, &record)) {
            return;
        }
    }
}

/* The connection is good for something: the next may come at once. */
static void note_use(struct uplink *u)
{
    u->worked = true;
    u->told = 0;
    u->last_error[0] = '\0';
}

static void take_ack(struct uplink *u, uint64_t seq)
{
    if (u->state == UPLINK_OPENING) {
        return; /* of the stream before: the Cursor will tell */
    }
    if (u->state != UPLINK_LIVE || seq > u->high_seq) {
        uplink_close(u, PSC_FORMAT, "an acknowledgement of what was not sent");
        return;
    }
    while (u->window_n > 0 && u->window[u->window_at].seq <= seq) {
        u->window_bytes -= u->window[u->window_at].bytes;
        u->window_at = (u->window_at + 1) % UPLINK_RING_BATCHES;
        u->window_n--;
    }
    if (seq >= u->stuck_seq) {
        u->n_stuck = 0;
    }
    u->passed = u->passed || seq >= u->cursor_seq;
    if (seq > u->cursor_seq) {
        note_use(u);
    }
    spool_ack(u->s.spool, u->stream, seq);
    uplink_session_pump(u);
}

static void take_need_keyframe(struct uplink *u, uint64_t seq)
{
    if (u->state != UPLINK_LIVE) {
        return; /* overtaken by our Open */
    }
    u->n_stuck = seq == u->stuck_seq ? u->n_stuck + 1 : 1;
    u->stuck_seq = seq;
    psc_log_warn("the collector cannot decode batch %" PRIu64, seq);
    if (u->n_stuck > STUCK_MAX) {
        spool_skip(u->s.spool, u->stream, seq);
        u->n_stuck = 0;
    }
    open_stream(u);
}

/* --- the rest --- */

static void take_refusal(struct uplink *u, const struct wire_message *m)
{
    char text[256];
    (void)snprintf(text, sizeof(text), "refused: %.200s (%s)",
                   m->refusal.reason, wire_refusal_name(m->refusal.code));
    uint64_t retry_ms = m->refusal.retry_after_us / 1000;
    u->retry_after_ms = retry_ms < DAY_MS ? (int64_t)retry_ms : DAY_MS;
    u->refusal = m->refusal.code;
    if (u->refusal == WIRE_REFUSAL_MALFORMED && u->state == UPLINK_LIVE &&
        u->sent_any) {
        u->n_refused++; /* it may be the next batch that no collector takes */
    }
    u->worked = false;
    uplink_close(u, PSC_REFUSED, text);
}

static void take_certificate(struct uplink *u, const struct wire_message *m)
{
    if (!u->renewing) {
        uplink_close(u, PSC_FORMAT, "a Certificate that was not asked for");
        return;
    }
    u->renewing = false;
    struct psc_error err = {.msg = ""};
    int rc = identity_accept(u->s.identity, m->certificate.certificate,
                             m->certificate.ca, &err);
    if (rc != PSC_OK) {
        psc_log_error("certificate renewal: %s", err.msg);
    } else {
        psc_log_info("certificate renewed");
        SSL_CTX_free(u->ctx); /* the connection keeps its own reference */
        u->ctx = NULL;
    }
    if (u->state == UPLINK_RENEWING) {
        u->worked = rc == PSC_OK;
        uplink_close(u, rc == PSC_OK ? PSC_CLOSED : rc, err.msg);
    }
}

void uplink_session_frame(struct uplink *u, struct psc_bytes frame)
{
    if (u->state == UPLINK_CLOSING) {
        return;
    }
    struct wire_message m;
    struct psc_error err = {.msg = ""};
    int rc = wire_decode(&u->decoder, frame, &m, &err);
    if (rc != PSC_OK) {
        uplink_close(u, rc, err.msg);
        return;
    }
    switch (m.type) {
    case WIRE_WELCOME: take_welcome(u, &m); break;
    case WIRE_CURSOR: take_cursor(u, &m); break;
    case WIRE_ACK: take_ack(u, m.ack.seq); break;
    case WIRE_NEED_KEYFRAME: take_need_keyframe(u, m.need_keyframe.seq); break;
    case WIRE_REFUSAL: take_refusal(u, &m); break;
    case WIRE_CERTIFICATE: take_certificate(u, &m); break;
    case WIRE_PULSE: break; /* any byte proves life: see conn.h */
    default:
        uplink_close(u, PSC_FORMAT, "a message that collectors do not send");
        break;
    }
}

void uplink_session_heartbeat(struct uplink *u)
{
    if (u->state != UPLINK_LIVE && u->state != UPLINK_OPENING) {
        return;
    }
    if (u->state == UPLINK_LIVE && u->passed) {
        note_use(u);
    }
    if (psc_conn_queued(&u->conn) > QUEUE_LOW_BYTES) {
        return; /* a large frame on a slow way may leave no room for it */
    }
    struct wire_message m = {.type = WIRE_HEARTBEAT};
    m.heartbeat.wall_us = psc_clock_wall_us();
    m.heartbeat.boottime_us = psc_clock_boot_us();
    m.heartbeat.spool_bytes = spool_bytes(u->s.spool);
    m.heartbeat.dropped_batches = u->s.spool->dropped;
    m.heartbeat.last_seq = u->s.spool->last_seq;
    int64_t wall_us = m.heartbeat.wall_us;
    if (!send_message(u, &m)) {
        return;
    }
    if (!u->renewing && wall_us >= u->renew_after_us &&
        identity_renew_due(u->s.identity, wall_us)) {
        u->renew_after_us = wall_us + HOUR_US;
        (void)send_renewal(u);
    }
}
