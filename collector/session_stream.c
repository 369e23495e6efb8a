/* Streams and batches of a ready session.
 *
 * Happy path: Open -> store_stream() -> Cursor -> batches: those at or below
 * the cursor are applied to the tables only, the others go to the ingest, and
 * are acknowledged when it says that they are stored.
 *
 * Failures: a table that lacks its base -> NEED_KEYFRAME, and nothing is heard
 * until the next Open; a sample that the database refuses for good -> the
 * session ends, since later ones build on it; a jump of seq anywhere but behind
 * a Cursor, or bytes that are no table -> refused as malformed. */
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include "collector/session_private.h"
#include "common/clock.h"
#include "common/log.h"

#define SEQ_MAX ((uint64_t)INT64_MAX / 2)

/* ---- open ---- */

static void on_stream_opened(struct store_stream *r,
                             const struct pglink_failure *failure)
{
    struct session *s = r->user;
    if (!session_request_done(s)) {
        return;
    }
    if (failure != NULL) {
        psc_log_error("host %s: opening a stream failed: %s", s->host,
                      failure->err.msg);
        session_refuse(s, WIRE_REFUSAL_BUSY, "the database refuses");
        return;
    }
    if (r->answer != STORE_OK) {
        session_refuse(s, WIRE_REFUSAL_SUPERSEDED,
                       "a newer session of this host exists");
        return;
    }
    s->opening = false;
    s->cursor_asked = false;
    s->opened = true;
    s->first_batch = true;
    s->deaf = false;
    s->last_seq = 0;
    s->queued_seq = r->seq;
    s->stored_seq = r->seq;
    decode_reset(s->decode);
    if (!s->queue.paused) {
        psc_conn_resume(&s->conn);
    }
    struct wire_message m = {.type = WIRE_CURSOR};
    memcpy(m.cursor.stream, s->stream, sizeof(m.cursor.stream));
    m.cursor.seq = r->seq;
    session_send(s, &m);
}

/* All that came before must have been stored: the cursor is told once. */
static void maybe_open(struct session *s)
{
    if (!s->opening || s->cursor_asked || s->stored_seq != s->queued_seq) {
        return;
    }
    s->cursor_asked = true;
    struct store_stream *r = &s->stream_request;
    r->user = s;
    r->on_done = on_stream_opened;
    r->host_id = s->host_id;
    r->session = s->number;
    memcpy(r->stream, s->stream, sizeof(r->stream));
    r->dropped_batches = s->dropped_batches;
    s->n_requests++;
    store_stream(s->all->store, r);
}

void session_take_open(struct session *s, const struct wire_message *m)
{
    uint64_t dropped = m->open.dropped_batches;
    if (s->opening) {
        session_refuse(s, WIRE_REFUSAL_MALFORMED, "Open before the Cursor");
        return;
    }
    /* Acknowledgements of an earlier stream would be taken for this one's. */
    s->opened = false;
    s->opening = true;
    memcpy(s->stream, m->open.stream, sizeof(s->stream));
    s->dropped_batches = dropped < SEQ_MAX ? (int64_t)dropped : 0;
    psc_conn_pause(&s->conn);
    maybe_open(s);
}

/* ---- batches ---- */

static void send_ack(struct session *s, uint64_t seq)
{
    struct wire_message m = {.type = WIRE_ACK};
    m.ack.seq = seq;
    session_send(s, &m);
}

static void need_keyframe(struct session *s, uint64_t seq)
{
    struct wire_message m = {.type = WIRE_NEED_KEYFRAME};
    metrics_add(s->all->metrics, need_keyframes, 1);
    psc_log_debug("host %s: batch %" PRIu64 " needs a keyframe", s->host, seq);
    s->deaf = true;
    m.need_keyframe.seq = seq;
    session_send(s, &m);
}

/* Whether @seq may come now; refuses if not. */
static bool check_seq(struct session *s, const struct wire_batch *b)
{
    if (!s->opened) {
        session_refuse(s, WIRE_REFUSAL_MALFORMED, "a batch without Open");
        return false;
    }
    bool follows = b->seq == s->last_seq + 1;
    bool jumps = s->first_batch && b->seq > 0 && b->part == 0;
    if (b->seq > SEQ_MAX || !(follows || jumps)) {
        session_refuse(s, WIRE_REFUSAL_MALFORMED,
                       "batch %" PRIu64 " (part %u) after %" PRIu64, b->seq,
                       b->part, s->last_seq);
        return false;
    }
    if (s->first_batch && b->seq > s->queued_seq + 1) {
        metrics_add(s->all->metrics, gaps, 1);
        psc_log_info("host %s: batches %" PRIu64 " to %" PRIu64
                     " of its stream are lost",
                     s->host, s->queued_seq + 1, b->seq - 1);
    }
    s->first_batch = false;
    s->last_seq = b->seq;
    return true;
}

/* Apply @in to the session's tables, and count what that brings. */
static int apply_batch(struct session *s, const struct wire_batch *in,
                       struct psc_error *err)
{
    uint64_t dropped = s->all->decode.n_dropped_entries;
    int rc = decode_apply(s->decode, &s->all->decode, in, err);
    metrics_add(s->all->metrics, dropped_entries,
                s->all->decode.n_dropped_entries - dropped);
    size_t bytes = decode_bytes(s->decode);
    s->all->table_bytes += bytes - s->decode_bytes;
    s->decode_bytes = bytes;
    return rc;
}

/* The sample is whole and new: on its way to the store. */
static void queue_batch(struct session *s, const struct wire_batch *in)
{
    const struct decode_facts facts = {
        .host_id = s->host_id,
        .host = s->host,
        .session = s->number,
        .stream = s->stream,
        .prev_seq = s->queued_seq,
        .boot_id = s->boot_id,
        .clock = &s->clock,
        .now_us = psc_clock_wall_us(),
        .mono_us = psc_clock_mono_us(),
    };
    struct batch *b;
    uint64_t over = s->all->decode.n_over_budget;
    int rc = decode_take(s->decode, &s->all->decode, &facts, in, &b);
    metrics_add(s->all->metrics, over_budget,
                s->all->decode.n_over_budget - over);
    if (rc != PSC_OK) {
        session_refuse(s, WIRE_REFUSAL_BUSY, "out of memory");
        return;
    }
    s->queued_seq = in->seq;
    if (!ingest_add(s->all->ingest, &s->queue, b)) {
        psc_conn_pause(&s->conn);
    }
}

void session_take_batch(struct session *s, const struct wire_message *m)
{
    const struct wire_batch *in = &m->batch;
    struct psc_error err = {.msg = ""};

    if (s->deaf) {
        return;
    }
    metrics_add(s->all->metrics, batches, 1);
    if (!check_seq(s, in)) {
        return;
    }
    int rc = apply_batch(s, in, &err);
    if (rc == PSC_NEED_KEYFRAME) {
        need_keyframe(s, in->seq);
    } else if (rc == PSC_NOMEM) {
        session_refuse(s, WIRE_REFUSAL_BUSY, "out of memory");
    } else if (rc != PSC_OK) {
        session_refuse(s, WIRE_REFUSAL_MALFORMED, "batch %" PRIu64 ": %s",
                       in->seq, err.msg);
    } else if (in->more) {
        return; /* acknowledged with the last part */
    } else if (in->seq <= s->queued_seq) {
        if (in->seq <= s->stored_seq) {
            send_ack(s, in->seq);
        }
    } else {
        queue_batch(s, in);
    }
}

/* ---- what the ingest says ---- */

static struct session *session_of(struct ingest_queue *q)
{
    return (struct session *)((char *)q - offsetof(struct session, queue));
}

/* The stream is still the one that was opened last: another is opened only
 * when all before it is stored. */
static void on_stored(struct ingest_queue *q, const struct batch *b)
{
    struct session *s = session_of(q);
    s->stored_seq = b->seq;
    if (b->outcome != BATCH_REJECTED) {
        heartbeat_note_sample(&s->slot->heartbeat, b->at_us);
    }
    if (s->opened) {
        send_ack(s, b->seq);
    }
    if (s->state == SESSION_READY) {
        maybe_open(s);
    }
}

static void on_fenced(struct ingest_queue *q, enum batch_outcome why)
{
    struct session *s = session_of(q);
    if (why == BATCH_SUPERSEDED) {
        session_refuse(s, WIRE_REFUSAL_SUPERSEDED,
                       "a newer session of this host exists");
    } else if (why == BATCH_REFUSED) {
        session_refuse(s, WIRE_REFUSAL_BUSY,
                       "the database refuses this host's samples");
    } else if (why == BATCH_REJECTED) {
        session_refuse(s, WIRE_REFUSAL_BUSY, "a sample was refused");
    } else {
        session_refuse(s, WIRE_REFUSAL_BUSY,
                       "the stream does not stand where it should");
    }
}

static void on_resume(struct ingest_queue *q)
{
    struct session *s = session_of(q);
    if (!s->opening) {
        psc_conn_resume(&s->conn);
    }
}

const struct ingest_events session_ingest_events = {
    .on_stored = on_stored,
    .on_fenced = on_fenced,
    .on_resume = on_resume,
};

/* ---- heartbeats ---- */

void session_take_heartbeat(struct session *s, const struct wire_message *m)
{
    uint64_t spool = m->heartbeat.spool_bytes;
    uint64_t dropped = m->heartbeat.dropped_batches;
    int64_t now_us = psc_clock_wall_us();
    clock_offset_observe(&s->clock, now_us, m->heartbeat.wall_us,
                         m->heartbeat.boottime_us);
    s->dropped_batches =
        dropped < SEQ_MAX ? (int64_t)dropped : s->dropped_batches;
    s->slot->heartbeat.heard = (struct heartbeat_facts){
        .seen_us = now_us,
        .clock_offset_us = s->clock.wall_us,
        .spool_bytes = spool < SEQ_MAX ? (int64_t)spool : 0,
        .dropped_batches = s->dropped_batches,
    };
}

static void on_heartbeats_done(struct store_heartbeats *r,
                               const struct pglink_failure *failure)
{
    struct sessions *all = r->user;
    all->heartbeats_busy = false;
    if (failure == NULL || failure->err.code == PSC_CLOSED) {
        return;
    }
    psc_log_warn("heartbeats were refused: %s", failure->err.msg);
    for (unsigned i = 0; i < r->n; i++) {
        struct host_slot *slot = hosts_find(&all->hosts, r->host[i].host_id);
        if (slot != NULL) {
            heartbeat_forget_saved(&slot->heartbeat);
        }
    }
}

static void put_heartbeat(struct store_heartbeats *r, int64_t host_id,
                          struct heartbeat *h)
{
    heartbeat_save(h);
    r->host[r->n++] = (struct store_heartbeat){
        .host_id = host_id,
        .session = h->session,
        .seen_at_us = h->saved.seen_us,
        .clock_offset_us = h->saved.clock_offset_us,
        .spool_bytes = h->saved.spool_bytes,
        .dropped_batches = h->saved.dropped_batches,
    };
}

void sessions_flush_heartbeats(struct sessions *all)
{
    struct store_heartbeats *r = &all->heartbeats;
    const struct hosts *hosts = &all->hosts;
    if (all->heartbeats_busy || all->stopping) {
        return;
    }
    r->n = 0;
    uint32_t i = all->heartbeat_next;
    for (; i < hosts->ids.count && r->n < STORE_HEARTBEATS_MAX; i++) {
        if (heartbeat_due(&hosts->slot[i]->heartbeat)) {
            put_heartbeat(r, hosts_id(hosts, i), &hosts->slot[i]->heartbeat);
        }
    }
    all->heartbeat_next = i < hosts->ids.count ? i : 0;
    if (r->n > 0) {
        all->heartbeats_busy = true;
        r->user = all;
        r->on_done = on_heartbeats_done;
        store_heartbeats(all->store, r);
    }
}
