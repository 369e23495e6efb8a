/* Samples of simulated hosts into batches.
 *
 * Happy path: position_advance() brings the host's values from one snapshot to
 * the next by the changes in between, and puts what changes into the shared
 * tables, beside what was sent before; table_encode() finds what differs. What
 * does not change is zeros on both sides, so that it costs no unpacking. Names
 * are put into the tables only when some must be sent.
 *
 * Failures: memory, or what on_batch() says. */
#include "tests/bench/fleetsim/encode.h"

#include <stdlib.h>
#include <string.h>

#include "proto/record.h"

enum {
    TAGS_BUDGET_BYTES = 96 << 10, /* as the agent has it */
    FRAME_MAX_BYTES = 1000 << 10,
    KEYFRAME_FACTOR = 4,
};

#define SECOND_US 1000000LL

/* --- setting up --- */

/* A table whose values come from elsewhere. */
static int make_table(struct table *t, uint32_t columns, uint32_t n)
{
    table_init(t, columns, n, (size_t)n * TRUTH_KEY_MAX);
    t->cap = n;
    t->entries = calloc(n, sizeof(*t->entries));
    t->now = calloc((size_t)n * columns, sizeof(*t->now));
    t->sent = calloc((size_t)n * columns, sizeof(*t->sent));
    bool made = t->entries != NULL && t->now != NULL && t->sent != NULL;
    return made ? PSC_OK : PSC_NOMEM;
}

int encoder_init(struct encoder *e, const struct truth *t, int64_t keyframes_us)
{
    uint32_t n = t->s.n_tags;
    *e = (struct encoder){.truth = t, .keyframes_us = keyframes_us};
    table_writer_init(&e->tag_writer, FRAME_MAX_BYTES);
    table_writer_init(&e->counter_writer, FRAME_MAX_BYTES);
    psc_buf_init(&e->frame, 2 * FRAME_MAX_BYTES);
    psc_buf_init(&e->drivers, FRAME_MAX_BYTES);
    int rc = make_table(&e->tags, TABLE_COLUMNS_MAX, n);
    if (rc == PSC_OK) {
        rc = make_table(&e->counters, 1, t->s.n_counters);
    }
    e->scratch = malloc((n + 1) * sizeof(*e->scratch));
    e->touched = malloc(n * sizeof(*e->touched));
    e->is_touched = calloc(n, 1);
    e->was_live = malloc(n);
    if (rc != PSC_OK || e->scratch == NULL || e->touched == NULL ||
        e->is_touched == NULL || e->was_live == NULL) {
        encoder_fini(e);
        return PSC_NOMEM;
    }
    return PSC_OK;
}

void encoder_fini(struct encoder *e)
{
    table_fini(&e->tags);
    table_fini(&e->counters);
    table_writer_fini(&e->tag_writer);
    table_writer_fini(&e->counter_writer);
    psc_buf_fini(&e->frame);
    psc_buf_fini(&e->drivers);
    free(e->scratch);
    free(e->touched);
    free(e->is_touched);
    free(e->was_live);
}

/* --- lending them to the tables --- */

static int name_tags(struct encoder *e, const struct position *p,
                     const struct truth_host *h)
{
    struct psc_map *names = &e->tags.names;
    int rc = PSC_OK;
    psc_map_clear(names);
    for (uint32_t i = 0; i < p->n && rc == PSC_OK; i++) {
        uint8_t key[TRUTH_KEY_MAX];
        size_t len = truth_tag_key(h, p->words[i], key);
        uint32_t index;
        rc = psc_map_add(names, key, len, &index);
    }
    return rc;
}

static int name_counters(struct encoder *e, const struct truth_host *h)
{
    struct psc_map *names = &e->counters.names;
    int rc = PSC_OK;
    psc_map_clear(names);
    for (uint32_t i = 0; i < e->truth->s.n_counters && rc == PSC_OK; i++) {
        uint8_t key[TRUTH_KEY_MAX];
        size_t len = truth_counter_key(h, i, key);
        uint32_t index;
        rc = psc_map_add(names, key, len, &index);
    }
    return rc;
}

/* @n_sent: entries that the collector knows. */
static int lend_tags(struct encoder *e, const struct position *p,
                     const struct truth_host *h, uint32_t n_sent)
{
    struct table *t = &e->tags;
    if (p->n > n_sent) {
        int rc = name_tags(e, p, h);
        if (rc != PSC_OK) {
            return rc;
        }
    }
    t->names.count = p->n; /* a delta without new names reads none */
    t->n_live = 0;
    t->n_encoded = n_sent;
    t->complete = true;
    uint8_t flags = truth_tag_flags(h, 0);
    for (uint32_t i = 0; i < p->n; i++) {
        if (!h->windows) {
            flags = h->truth->slab_flags[p->words[i]];
        }
        t->entries[i] = (struct table_entry){
            .flags = flags,
            .put_flags = flags,
            .live = p->live[i] != 0,
            .sent_live = i < n_sent && e->was_live[i] != 0,
        };
        t->n_live += p->live[i];
    }
    return PSC_OK;
}

static int lend_counters(struct encoder *e, const struct truth_host *h,
                         bool keyframe)
{
    struct table *t = &e->counters;
    int rc = keyframe ? name_counters(e, h) : PSC_OK;
    t->names.count = e->truth->s.n_counters;
    t->n_live = t->names.count;
    t->n_encoded = t->names.count;
    t->complete = true;
    for (uint32_t i = 0; i < t->names.count; i++) {
        uint8_t flags = truth_counter_flags(i);
        t->entries[i] = (struct table_entry){
            .flags = flags,
            .put_flags = flags,
            .live = true,
            .sent_live = true,
        };
    }
    return rc;
}

/* --- batches --- */

static void list_drivers(struct encoder *e, const struct encode_order *o)
{
    psc_buf_reset(&e->drivers);
    record_list_begin(&e->drivers);
    for (uint32_t i = 0; i < e->truth->s.n_drivers; i++) {
        struct truth_driver d;
        truth_driver(o->host, o->boot, i, &d);
        int64_t booted_us = o->wall_us - o->boot_us;
        struct driver_record r = {
            .name = {(uint8_t *)d.name, strlen(d.name)},
            .version = {(uint8_t *)d.version, strlen(d.version)},
            .sha256 = {d.sha256, sizeof(d.sha256)},
            .loaded_at_us = booted_us - booted_us % SECOND_US,
            .loaded_matches_file = 1,
        };
        record_put_driver(&e->drivers, &r);
    }
}

static int emit(struct encoder *e, struct encode_order *o,
                struct wire_batch *batch)
{
    struct wire_message m = {.type = WIRE_BATCH, .batch = *batch};
    psc_buf_reset(&e->frame);
    wire_encode(&m, &e->frame);
    int rc = psc_buf_error(&e->frame);
    if (rc == PSC_OK) {
        rc = o->on_batch(o->user, psc_buf_bytes(&e->frame));
    }
    o->bytes += e->frame.len;
    o->seq++;
    return rc;
}

static int emit_last(struct encoder *e, const struct position *p,
                     struct encode_order *o, bool keyframe,
                     struct wire_batch *batch)
{
    uint32_t next = 0;
    int rc = table_encode(&e->counters, keyframe, p->base_seq, FRAME_MAX_BYTES,
                          &next, &e->counter_writer, &batch->counters);
    if (rc != PSC_OK) {
        return rc;
    }
    batch->has_counters = true;
    if (o->with_drivers) {
        list_drivers(e, o);
        rc = psc_buf_error(&e->drivers);
        batch->drivers = psc_buf_bytes(&e->drivers);
    }
    return rc == PSC_OK ? emit(e, o, batch) : rc;
}

static int emit_all(struct encoder *e, const struct position *p,
                    struct encode_order *o, bool keyframe)
{
    uint32_t next = 0;
    uint32_t part = 0;
    for (;;) {
        struct wire_batch batch = {
            .seq = o->seq,
            .wall_us = o->wall_us,
            .boottime_us = o->boot_us,
            .part = part++,
            .has_tags = true,
        };
        memcpy(batch.boot_id, o->boot->id, sizeof(batch.boot_id));
        int rc = table_encode(&e->tags, keyframe, p->base_seq,
                              keyframe ? TAGS_BUDGET_BYTES : FRAME_MAX_BYTES,
                              &next, &e->tag_writer, &batch.tags);
        if (rc != PSC_OK) {
            return rc;
        }
        if (next == 0) {
            return emit_last(e, p, o, keyframe, &batch);
        }
        batch.more = true;
        rc = emit(e, o, &batch);
        if (rc != PSC_OK) {
            return rc;
        }
    }
}

static bool keyframe_due(const struct encoder *e, const struct position *p,
                         int64_t wall_us)
{
    return p->keyframe_span != wall_us / e->keyframes_us ||
           p->delta_bytes > KEYFRAME_FACTOR * p->keyframe_bytes;
}

static void note_taken(const struct encoder *e, struct position *p,
                       const struct encode_order *o, bool keyframe)
{
    p->known = true;
    p->k = o->k;
    p->boot = o->boot->number;
    p->base_seq = o->seq - 1;
    if (keyframe) {
        p->keyframe_bytes = o->bytes;
        p->delta_bytes = 0;
        p->keyframe_span = o->wall_us / e->keyframes_us;
    } else {
        p->delta_bytes += o->bytes;
    }
}

/* The tables' rows for the sample that @p now has. */
static int lend(struct encoder *e, struct position *p,
                const struct encode_order *o, bool keyframe, uint32_t n_sent)
{
    memcpy(e->counters.now, p->counters,
           e->truth->s.n_counters * sizeof(*p->counters));
    if (keyframe) {
        position_compact(p);
        position_unpack(p, e->tags.now);
    }
    int rc = lend_tags(e, p, o->host, keyframe ? 0 : n_sent);
    return rc == PSC_OK ? lend_counters(e, o->host, keyframe) : rc;
}

int encoder_take(struct encoder *e, struct position *p, struct encode_order *o)
{
    uint32_t n_sent = p->known ? p->n : 0;
    struct position_step step = {
        .host = o->host,
        .boot = o->boot,
        .k = o->k,
        .now = e->tags.now,
        .sent = e->tags.sent,
        .touched = e->touched,
        .is_touched = e->is_touched,
        .scratch = e->scratch,
    };
    memcpy(e->was_live, p->live, n_sent);
    if (p->known) {
        memcpy(e->counters.sent, p->counters,
               e->truth->s.n_counters * sizeof(*p->counters));
    }
    o->bytes = 0;
    bool keyframe = !position_advance(p, &step) || o->keyframe ||
                    keyframe_due(e, p, o->wall_us);
    o->changed = keyframe ? 0 : step.changed;
    o->values = keyframe ? 0 : step.values;
    p->known = false; /* until all has gone well */
    int rc = lend(e, p, o, keyframe, n_sent);
    if (rc == PSC_OK) {
        rc = emit_all(e, p, o, keyframe);
    }
    position_clear(&step);
    if (keyframe) {
        memset(e->tags.now, 0, p->n * POSITION_ROW_BYTES);
        memset(e->tags.sent, 0, p->n * POSITION_ROW_BYTES);
    }
    if (rc == PSC_OK) {
        note_taken(e, p, o, keyframe);
    }
    return rc;
}
