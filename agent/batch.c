/* From a sample to batches in the spool.
 *
 * Happy path of a steady tick: deltas of tags and counters, one frame, one
 * append. A keyframe whose tags do not fit one part goes in several; counters,
 * drivers, events and source states ride in the last. What can fail: a delta
 * that cannot be told (then a keyframe of the same sample), memory. After any
 * failure the tables are ahead of the stream, so a keyframe is next, and the
 * events, which no later sample would repeat, stay where they are. */
#include "agent/batch.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/crc32c.h"
#include "common/log.h"

#define DAY_US (86400 * 1000000LL)

enum {
    TAGS_BUDGET_BYTES = 96 << 10, /* a slow link passes it within 30 s */
    FRAME_MAX_BYTES = SPOOL_PAYLOAD_MAX_BYTES - 4096, /* the rest: fields */
    KEYFRAME_FACTOR = 4, /* as many bytes of deltas end a keyframe's life */
    DELTA_BYTES = 2048,  /* of a column; those of a busy host fit */
    PARTS_MAX = 64,
};

/* One sample on its way. */
struct take {
    struct batcher *b;
    struct collect *c;
    const struct batch_time *time;
    bool keyframe;
    bool has_tags, has_counters;
    uint64_t missed;
    uint32_t part;
    uint32_t next_tag; /* as table_encode() has it */
};

/* Room for usual deltas from the start, so that none has to allocate. Where
 * this fails they grow as they are written: encoding begins with a reset. */
static void make_room(struct table_writer *w)
{
    struct psc_buf *columns[] = {&w->names, &w->gaps, &w->gone, &w->values};
    for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++) {
        (void)!psc_buf_reserve(columns[i], DELTA_BYTES);
    }
}

void batcher_init(struct batcher *b, struct spool *spool,
                  const uint8_t boot_id[16])
{
    memset(b, 0, sizeof(*b));
    b->spool = spool;
    memcpy(b->boot_id, boot_id, sizeof(b->boot_id));
    b->budget_bytes = TAGS_BUDGET_BYTES;
    table_writer_init(&b->tags, FRAME_MAX_BYTES);
    table_writer_init(&b->counters, FRAME_MAX_BYTES);
    make_room(&b->tags);
    make_room(&b->counters);
    psc_buf_init(&b->frame, SPOOL_PAYLOAD_MAX_BYTES);
    b->want_keyframe = true;
    b->states_due = true;
}

void batcher_fini(struct batcher *b)
{
    table_writer_fini(&b->tags);
    table_writer_fini(&b->counters);
    psc_buf_fini(&b->frame);
}

void batcher_want_keyframe(struct batcher *b)
{
    b->want_keyframe = true;
}

bool batcher_wants_keyframe(const struct batcher *b, int64_t wall_us)
{
    return b->want_keyframe || spool_wants_keyframe(b->spool, wall_us) ||
           b->delta_bytes > b->keyframe_bytes * KEYFRAME_FACTOR;
}

static bool half_dead(const struct table *t)
{
    return t->n_live < t->names.count / 2;
}

/* --- inventories: sent when they change, and whenever they may be lost --- */

static void note_change(const struct psc_buf *list, uint32_t *crc, bool *due)
{
    uint32_t now = psc_crc32c(0, list->data, list->len);
    if (now != *crc) {
        *crc = now;
        *due = true;
    }
}

static void note_inventories(struct take *t, unsigned due)
{
    struct batcher *b = t->b;
    struct sample *s = &t->c->sample;
    if ((due & 1u << SOURCE_DRIVERS) != 0 && t->c->inventory_whole) {
        note_change(&s->drivers, &b->drivers_crc, &b->drivers_due);
        note_change(&s->aliases, &b->aliases_crc, &b->aliases_due);
    }
    b->states_due = b->states_due || t->c->states_changed;
    t->c->states_changed = false;
    if (b->dropped != b->spool->dropped || t->time->wall_us >= b->refresh_us) {
        b->dropped = b->spool->dropped;
        b->refresh_us = t->time->wall_us + DAY_US;
        b->drivers_due = b->aliases_due = b->states_due = true;
    }
}

/* Put @list into the batch if it is due and fits. */
static struct psc_bytes ride(const struct psc_buf *list, bool *due,
                             size_t *room)
{
    struct psc_bytes none = {NULL, 0};
    if (!*due || list->len == 0 || list->error != PSC_OK) {
        *due = false;
        return none;
    }
    if (list->len > *room) {
        return none; /* with the next batch */
    }
    *room -= list->len;
    *due = false;
    return psc_buf_bytes(list);
}

/* --- parts --- */

static size_t columns_size(const struct columns *c)
{
    return c->names.len + c->gaps.len + c->gone.len + c->values.len;
}

static void log_taken(const struct spool *s, uint64_t seq, bool keyframe)
{
    char hex[2 * SPOOL_STREAM_BYTES + 1];
    for (unsigned i = 0; i < SPOOL_STREAM_BYTES; i++) {
        (void)snprintf(hex + (size_t)2 * i, 3, "%02x", s->stream[i]);
    }
    psc_log_debug("took batch %s %" PRIu64 "%s", hex, seq,
                  keyframe ? " keyframe" : "");
}

static int emit(struct take *t, struct wire_batch *batch)
{
    struct batcher *b = t->b;
    struct wire_message message = {.type = WIRE_BATCH, .batch = *batch};
    psc_buf_reset(&b->frame);
    wire_encode(&message, &b->frame);
    int rc = psc_buf_error(&b->frame);
    if (rc != PSC_OK) {
        return rc;
    }
    bool first = t->keyframe && t->part == 0;
    uint32_t flags =
        (first ? SPOOL_KEYFRAME : 0u) | (batch->more ? SPOOL_MORE : 0u);
    rc = spool_append(b->spool, psc_buf_bytes(&b->frame), flags,
                      t->time->wall_us, t->time->mono_us);
    if (rc != PSC_OK) {
        return rc;
    }
    b->tags_seq = batch->has_tags ? batch->seq : b->tags_seq;
    b->counters_seq = batch->has_counters ? batch->seq : b->counters_seq;
    if (t->keyframe) {
        b->keyframe_bytes = (first ? 0 : b->keyframe_bytes) + b->frame.len;
        b->delta_bytes = 0;
    } else {
        b->delta_bytes += b->frame.len;
    }
    if (psc_log_enabled(PSC_LOG_DEBUG)) {
        log_taken(b->spool, batch->seq, first);
    }
    t->part++;
    return PSC_OK;
}

static struct wire_batch begin_part(const struct take *t)
{
    struct wire_batch batch = {
        .seq = spool_next_seq(t->b->spool),
        .wall_us = t->time->wall_us,
        .boottime_us = t->time->boot_us,
        .part = t->part,
    };
    memcpy(batch.boot_id, t->b->boot_id, sizeof(batch.boot_id));
    return batch;
}

/* Encode the counters into @batch, or, if there is no room beside its tags,
 * into a part of their own after it. */
static int add_counters(struct take *t, struct wire_batch *batch)
{
    struct batcher *b = t->b;
    struct table *counters = &t->c->sample.counters;
    size_t events = t->c->sample.events.len;
    size_t used = batch->has_tags ? columns_size(&batch->tags) : 0;
    for (int attempt = 0; attempt < 2; attempt++) {
        uint32_t next = 0;
        size_t room = FRAME_MAX_BYTES - events - used;
        int rc = table_encode(counters, t->keyframe, b->counters_seq, room,
                              &next, &b->counters, &batch->counters);
        if (rc == PSC_OK && next == 0) {
            batch->has_counters = true;
            return PSC_OK;
        }
        if (!t->keyframe || (rc != PSC_OK && rc != PSC_LIMIT) || used == 0) {
            return rc == PSC_OK ? PSC_LIMIT : rc;
        }
        batch->more = true;
        rc = emit(t, batch);
        if (rc != PSC_OK) {
            return rc;
        }
        *batch = begin_part(t);
        used = 0;
    }
    return PSC_LIMIT;
}

static int emit_last(struct take *t, struct wire_batch *batch)
{
    struct batcher *b = t->b;
    struct sample *s = &t->c->sample;
    if (t->has_counters) {
        int rc = add_counters(t, batch);
        if (rc != PSC_OK) {
            return rc;
        }
    }
    size_t room = FRAME_MAX_BYTES;
    room -= batch->has_tags ? columns_size(&batch->tags) : 0;
    room -= batch->has_counters ? columns_size(&batch->counters) : 0;
    batch->missed_ticks = t->missed;
    bool events_due = s->n_events > 0;
    batch->events = ride(&s->events, &events_due, &room);
    batch->sources = ride(&t->c->states, &b->states_due, &room);
    batch->drivers = ride(&s->drivers, &b->drivers_due, &room);
    batch->aliases = ride(&s->aliases, &b->aliases_due, &room);
    return emit(t, batch);
}

static int emit_all(struct take *t)
{
    struct batcher *b = t->b;
    for (;;) {
        struct wire_batch batch = begin_part(t);
        if (t->has_tags) {
            int rc = table_encode(&t->c->sample.tags, t->keyframe, b->tags_seq,
                                  b->budget_bytes, &t->next_tag, &b->tags,
                                  &batch.tags);
            if (rc != PSC_OK) {
                return rc;
            }
            batch.has_tags = true;
        }
        if (t->next_tag == 0) {
            return emit_last(t, &batch);
        }
        batch.more = true;
        int rc = t->part + 2 < PARTS_MAX ? emit(t, &batch) : PSC_LIMIT;
        if (rc != PSC_OK) {
            return rc;
        }
    }
}

int batcher_take(struct batcher *b, struct collect *c, unsigned due,
                 uint64_t missed, const struct batch_time *time)
{
    struct take t = {.b = b, .c = c, .time = time, .missed = missed};
    note_inventories(&t, due);
    t.keyframe = batcher_wants_keyframe(b, time->wall_us) ||
                 half_dead(&c->sample.tags) || half_dead(&c->sample.counters);
    t.has_tags = t.keyframe || (due & 1u << SOURCE_TAGS) != 0;
    t.has_counters = t.keyframe || (due & 1u << SOURCE_COUNTERS) != 0;
    b->want_keyframe = true; /* until all has gone well */
    int rc = emit_all(&t);
    if ((rc == PSC_NEED_KEYFRAME || rc == PSC_LIMIT) && !t.keyframe) {
        t.keyframe = t.has_tags = t.has_counters = true;
        t.part = 0;
        t.next_tag = 0;
        rc = emit_all(&t);
    }
    if (rc != PSC_OK) {
        psc_log_error("a sample is lost: %s", psc_strerror(rc));
        b->drivers_due = b->aliases_due = b->states_due = true;
        collect_keep_events(c);
        return rc;
    }
    b->want_keyframe = false;
    return PSC_OK;
}
