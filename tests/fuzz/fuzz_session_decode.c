/* Frames of a session, from the envelope to what would reach the database:
 * everything in a batch must be fit for SQL. Input: frames of a 2-byte
 * big-endian length each, batches of one stream. */
#include <assert.h>
#include <jansson.h>
#include <math.h>
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
    bool canonical = false;
    psc_buf_init(&out, 65536);
    for (uint32_t i = 0; i < r->keys.count; i++) {
        struct psc_bytes key = registry_key(r, i);
        psc_buf_reset(&out);
        bool good = tags ? sanitise_tag_key(key, &out, &canonical)
                         : sanitise_counter_key(key, &out, &canonical);
        assert(good && canonical);
    }
    psc_buf_fini(&out);
}

static void check_batch(const struct batch *b)
{
    assert(b->at_us <= NOW);
    for (uint32_t i = 0; i < b->tags.n * TABLE_COLUMNS_MAX; i++) {
        assert(b->tags.values[i] >= 0 && b->tags.values[i] <= (int64_t)1 << 60);
    }
    for (uint32_t i = 0; i < b->counters.n; i++) {
        assert(isfinite(b->counters.reals[i]));
    }
    check_json(b->drivers);
    check_json(b->events);
    check_json(b->sources);
    check_json(b->aliases);
}

struct setting {
    struct decode_shared shared;
    struct decode decode;
    struct wire_decoder wire;
    struct registry_quota quota;
    struct clock_offset clock;
};

static void take_frame(struct setting *s, struct psc_bytes frame)
{
    static const uint8_t zero[16];
    struct wire_message m;
    struct psc_error err;
    if (wire_decode(&s->wire, frame, &m, &err) != PSC_OK ||
        m.type != WIRE_BATCH || decode_apply(&s->decode, &m.batch, &err) != 0 ||
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
        check_batch(b);
        free(b);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct setting s;
    memset(&s, 0, sizeof(s));
    if (decode_shared_init(&s.shared) != PSC_OK) {
        return 0;
    }
    decode_init(&s.decode, &s.quota);
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
        data += len;
        size -= len;
    }
    check_keys(&s.shared.tags, true);
    check_keys(&s.shared.counters, false);
    wire_decoder_fini(&s.wire);
    decode_fini(&s.decode);
    decode_shared_fini(&s.shared);
    return 0;
}
