/* Frames of a session, from the envelope to what would reach the database:
 * everything in a batch must be fit for SQL, and who reads the rows must have
 * what the session has. Input: frames of a 2-byte
 * big-endian length each, batches of one stream. */
#include <assert.h>
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "collector/decode.h"
#include "collector/sanitise.h"
#include "common/clock.h"
#include "proto/wire.h"

#define NOW (1800000000LL * PSC_US_PER_S)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_json(const char *text)
{
    if (text != NULL) {
        json_t *json = json_loads(text, 0, NULL);
        assert(json_is_array(json));
        json_decref(json);
    }
}

static void check_keys(const struct registry *r, bool tags)
{
    struct psc_buf out;
    psc_buf_init(&out, 65536);
    for (uint32_t i = 0; i < r->keys.count; i++) {
        struct psc_bytes key = registry_key(r, i);
        psc_buf_reset(&out);
        bool good = tags ? sanitise_tag_key(key, &out)
                         : sanitise_counter_key(key, &out);
        assert(good && out.len == key.len);
        assert(memcmp(out.data, key.data, key.len) == 0);
    }
    psc_buf_fini(&out);
}

/* A reader of the rows of one table. */
struct reader {
    struct grid grid;
    struct grid_changes changes;
};

struct setting {
    struct decode_shared shared;
    struct decode decode;
    struct wire_decoder wire;
    struct registry_quota quota;
    struct clock_offset clock;
    struct reader tags, counters;
};

/* A reader has what the session has, bounded; ids are indices + 1. */
static void check_same(const struct grid *had, const struct grid *got)
{
    assert(had->n == got->n && had->n_live == got->n_live);
    for (uint32_t i = 0; i < had->n; i++) {
        const struct grid_entry *e = &had->entries[i];
        int64_t row[TABLE_COLUMNS_MAX] = {0};
        size_t bytes = had->columns * sizeof(row[0]);
        memcpy(row, grid_values(had, i), bytes);
        (had->columns == 1 ? sanitise_counter_row : sanitise_tag_row)(e->flags,
                                                                      row);
        assert(got->entries[i].ref ==
               (e->ref == REGISTRY_NONE ? 0 : e->ref + 1));
        assert(got->entries[i].flags == e->flags);
        assert(got->entries[i].live == e->live);
        assert(e->ref == REGISTRY_NONE ||
               memcmp(row, grid_values(got, i), bytes) == 0);
    }
}

static void check_twins(const struct grid *g, uint32_t n_refs)
{
    uint8_t *seen = calloc(n_refs + 1, 1);
    assert(seen != NULL);
    for (uint32_t i = 0; i < g->n; i++) {
        uint32_t id = g->entries[i].ref;
        assert(id <= n_refs && (id == 0 || seen[id] == 0));
        seen[id] = 1;
    }
    free(seen);
}

static void read_table(const struct batch_table *t,
                       const struct decode_chain *had, uint32_t n_refs,
                       struct reader *to)
{
    struct psc_buf row;
    struct psc_error err;
    if (t->kind == STORED_NONE) {
        assert(t->packed_bytes == 0 && t->n_names == 0);
        return;
    }
    psc_buf_init(&row, 64 << 20);
    stored_begin(&row, t->n_names);
    for (uint32_t i = 0; i < t->n_names; i++) {
        stored_name(&row, t->name_flags[i], t->local[i] + 1);
    }
    psc_buf_append(&row, t->packed, t->packed_bytes);
    assert(psc_buf_error(&row) == PSC_OK);
    int rc = stored_apply(&to->grid, psc_buf_bytes(&row),
                          t->kind == STORED_KEYFRAME, &to->changes, &err);
    assert(rc == PSC_OK);
    check_same(&had->grid, &to->grid);
    check_twins(&to->grid, n_refs);
    psc_buf_fini(&row);
}

static void check_batch(struct setting *s, const struct batch *b)
{
    assert(b->at_us <= NOW);
    read_table(&b->tags, &s->decode.tags, s->shared.tags.keys.count, &s->tags);
    read_table(&b->counters, &s->decode.counters, s->shared.counters.keys.count,
               &s->counters);
    check_json(b->drivers);
    check_json(b->events);
    check_json(b->sources);
    check_json(b->aliases);
}

static void take_frame(struct setting *s, struct psc_bytes frame)
{
    static const uint8_t zero[16];
    struct wire_message m;
    struct psc_error err;
    if (wire_decode(&s->wire, frame, &m, &err) != PSC_OK ||
        m.type != WIRE_BATCH ||
        decode_apply(&s->decode, &s->shared, &m.batch, &err) != PSC_OK ||
        m.batch.more) {
        return;
    }
    const struct decode_facts facts = {
        .stream = zero,
        .boot_id = zero,
        .clock = &s->clock,
        .now_us = NOW,
    };
    struct batch *b;
    if (decode_take(&s->decode, &s->shared, &facts, &m.batch, &b) == PSC_OK) {
        check_batch(s, b);
        free(b);
    }
}

static void init_reader(struct reader *r, uint32_t columns, uint32_t max)
{
    grid_init(&r->grid, columns, max, NULL);
    grid_changes_init(&r->changes, NULL);
}

static void fini_reader(struct reader *r)
{
    grid_fini(&r->grid);
    grid_changes_fini(&r->changes);
}

static void check_nothing_seen(const struct decode_seen *seen)
{
    for (uint32_t i = 0; i < seen->cap / 64; i++) {
        assert(seen->bits[i] == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct setting s;
    memset(&s, 0, sizeof(s));
    decode_shared_init(&s.shared);
    decode_init(&s.decode, &s.quota);
    init_reader(&s.tags, TABLE_COLUMNS_MAX, TABLE_MAX_TAGS);
    init_reader(&s.counters, 1, TABLE_MAX_COUNTERS);
    wire_decoder_init(&s.wire);
    clock_offset_init(&s.clock, false, 0);
    clock_offset_observe(&s.clock, NOW, NOW, 0);
    while (size >= 2) {
        size_t len = (size_t)data[0] << 8 | data[1];
        data += 2;
        size -= 2;
        len = len < size ? len : size;
        struct psc_bytes frame = {data, len};
        take_frame(&s, frame);
        check_nothing_seen(&s.shared.seen);
        data += len;
        size -= len;
    }
    check_keys(&s.shared.tags, true);
    check_keys(&s.shared.counters, false);
    wire_decoder_fini(&s.wire);
    fini_reader(&s.tags);
    fini_reader(&s.counters);
    decode_fini(&s.decode);
    decode_shared_fini(&s.shared);
    return 0;
}
