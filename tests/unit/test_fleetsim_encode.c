/* What the fleet simulator encodes is what a collector decodes: the truth. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "tests/bench/fleetsim/encode.h"
#include "tests/lib/decoded.h"

enum { TAGS = 700, COUNTERS = 20, SNAPSHOTS = 400, FIRST_HOST = 5 };

#define HOUR_US INT64_C(3600000000)

static struct truth_settings settings(void)
{
    struct truth_settings s = {
        .seed = 7,
        .n_tags = TAGS,
        .n_counters = COUNTERS,
        .n_drivers = 12,
        .change = 0.2,
        .windows = 0.5,
        .silent = 0.3,
        .slow = 0.2,
        .reboot_every = 150,
        .interval_us = 60000000,
        .n_leaks = 1,
    };
    s.leaks[0] = (struct truth_leak){1 << 20, 0.3};
    return s;
}

static void make_truth(struct truth *t, const struct truth_settings *s)
{
    struct psc_error err;
    assert_int_equal(truth_init(t, s, &err), PSC_OK);
}

struct receiver {
    struct decoded tags, counters;
    struct wire_decoder decoder;
    uint64_t seq; /* of the last batch */
    unsigned n_batches, n_keyframes;
};

static int on_batch(void *user, struct psc_bytes frame)
{
    struct receiver *r = user;
    struct wire_message m;
    struct psc_error err = {.msg = ""};
    assert_int_equal(wire_decode(&r->decoder, frame, &m, &err), PSC_OK);
    assert_int_equal(m.type, WIRE_BATCH);
    assert_int_equal(m.batch.seq, r->seq + 1);
    bool keyframe = m.batch.tags.keyframe;
    if (!keyframe) {
        assert_int_equal(m.batch.tags.base_seq, r->seq);
    }
    r->seq = m.batch.seq;
    r->n_batches++;
    r->n_keyframes += keyframe && m.batch.part == 0 ? 1 : 0;
    assert_int_equal(
        decoded_apply(&r->tags, &m.batch.tags, m.batch.part == 0, &err),
        PSC_OK);
    if (m.batch.has_counters) {
        assert_int_equal(
            decoded_apply(&r->counters, &m.batch.counters, true, &err), PSC_OK);
    }
    return PSC_OK;
}

static const int64_t *row_of(const struct decoded *t, const uint8_t *key,
                             size_t len)
{
    uint32_t i = psc_map_find(&t->names, key, len);
    return i != PSC_MAP_NONE && t->grid.entries[i].live
               ? grid_values(&t->grid, i)
               : NULL;
}

static void check_received(const struct receiver *r, const struct truth_host *h,
                           uint64_t k)
{
    const struct truth_settings *s = &h->truth->s;
    struct truth_boot boot;
    uint8_t key[TRUTH_KEY_MAX];
    truth_boot_at(h, k, &boot);
    for (uint32_t slot = 0; slot < s->n_tags; slot++) {
        uint32_t word = truth_word(h, slot);
        int64_t want[TABLE_COLUMNS_MAX];
        size_t len = truth_tag_key(h, word, key);
        const int64_t *row = row_of(&r->tags, key, len);
        assert_int_equal(row != NULL, truth_tag_present(h, word, k));
        if (row != NULL) {
            truth_tag_at(h, &boot, word, k, want);
            assert_memory_equal(row, want, sizeof(want));
        }
    }
    for (uint32_t i = 0; i < s->n_counters; i++) {
        size_t len = truth_counter_key(h, i, key);
        const int64_t *row = row_of(&r->counters, key, len);
        assert_non_null(row);
        assert_int_equal(*row, truth_counter_at(h, &boot, i, k));
    }
}

static void send_one(struct encoder *e, struct position *p,
                     const struct truth_host *h, struct receiver *r, uint64_t k,
                     bool keyframe)
{
    struct truth_boot boot;
    truth_boot_at(h, k, &boot);
    struct encode_order order = {
        .host = h,
        .boot = &boot,
        .k = k,
        .seq = r->seq + 1,
        .keyframe = keyframe,
        .with_drivers = k == 0,
        .wall_us = 1700000000000000 + (int64_t)k * 60000000,
        .boot_us = 1 + (int64_t)k * 60000000,
        .on_batch = on_batch,
        .user = r,
    };
    assert_int_equal(encoder_take(e, p, &order), PSC_OK);
    assert_int_equal(order.seq, r->seq + 1);
}

/* Two hosts share one encoder, in turns; one of them goes back now and then,
 * as after a lost connection. */
static void decoded_samples_are_the_truth(void **state)
{
    (void)state;
    struct truth_settings s = settings();
    struct truth t;
    struct encoder e;
    struct position positions[2];
    struct receiver receivers[2];
    struct truth_host hosts[2];
    make_truth(&t, &s);
    assert_int_equal(encoder_init(&e, &t, HOUR_US), PSC_OK);
    memset(receivers, 0, sizeof(receivers));
    for (unsigned i = 0; i < 2; i++) {
        decoded_init(&receivers[i].tags, 4, TABLE_MAX_TAGS,
                     TABLE_MAX_TAG_KEY_BYTES);
        decoded_init(&receivers[i].counters, 1, TABLE_MAX_COUNTERS,
                     TABLE_MAX_COUNTER_KEY_BYTES);
        wire_decoder_init(&receivers[i].decoder);
        truth_host_init(&hosts[i], &t, FIRST_HOST + i);
        assert_int_equal(position_init(&positions[i], &hosts[i]), PSC_OK);
    }
    assert_int_not_equal(hosts[0].windows, hosts[1].windows);
    for (uint64_t k = 0; k < SNAPSHOTS; k++) {
        for (unsigned i = 0; i < 2; i++) {
            const struct truth_host *h = &hosts[i];
            send_one(&e, &positions[i], h, &receivers[i], k, k == 0);
            check_received(&receivers[i], h, k);
            if (i == 1 && k % 50 == 49) {
                send_one(&e, &positions[i], h, &receivers[i], k - 7, true);
                check_received(&receivers[i], h, k - 7);
                positions[i].known = k % 100 != 99;
            }
        }
    }
    for (uint32_t i = 0; i < TAGS * TABLE_COLUMNS_MAX; i++) {
        assert_int_equal(e.tags.now[i], 0); /* nothing is left for the next */
        assert_int_equal(e.tags.sent[i], 0);
    }
    assert_true(receivers[0].n_keyframes > SNAPSHOTS / 60);
    assert_true(receivers[0].n_keyframes < SNAPSHOTS / 20);
    for (unsigned i = 0; i < 2; i++) {
        decoded_fini(&receivers[i].tags);
        decoded_fini(&receivers[i].counters);
        wire_decoder_fini(&receivers[i].decoder);
        position_fini(&positions[i]);
    }
    encoder_fini(&e);
    truth_fini(&t);
}

/* A keyframe of many tags goes in parts. */
static void large_keyframes_come_in_parts(void **state)
{
    (void)state;
    struct truth_settings s = settings();
    struct truth t;
    struct encoder e;
    struct position p;
    struct truth_host h;
    struct receiver r = {.seq = 0};
    s.n_tags = 20000;
    make_truth(&t, &s);
    assert_int_equal(encoder_init(&e, &t, HOUR_US), PSC_OK);
    truth_host_init(&h, &t, 1);
    assert_int_equal(position_init(&p, &h), PSC_OK);
    decoded_init(&r.tags, 4, TABLE_MAX_TAGS, TABLE_MAX_TAG_KEY_BYTES);
    decoded_init(&r.counters, 1, TABLE_MAX_COUNTERS,
                 TABLE_MAX_COUNTER_KEY_BYTES);
    wire_decoder_init(&r.decoder);
    for (uint64_t k = 0; k < 3; k++) {
        send_one(&e, &p, &h, &r, k, false);
        check_received(&r, &h, k);
    }
    assert_true(r.n_batches > 4);
    assert_int_equal(r.n_keyframes, 1);
    decoded_fini(&r.tags);
    decoded_fini(&r.counters);
    wire_decoder_fini(&r.decoder);
    position_fini(&p);
    encoder_fini(&e);
    truth_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoded_samples_are_the_truth),
        cmocka_unit_test(large_keyframes_come_in_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
