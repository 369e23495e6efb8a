/* The snapshot codec's decoder against peers that lie: bad bytes are refused,
 * leave the table within its limits, and are forgotten at the next keyframe. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "proto/table.h"
#include "tests/lib/decoded.h"

enum { BUDGET = 1 << 20, N_SLABS = 60 };
#define SLAB (TAG_OUTSTANDING | TAG_BYTES)

struct hostile {
    const char *what;
    int code; /* expected; 0: fine */
    bool keyframe;
    struct psc_bytes names, gaps, gone, values;
};
#define B(text)                                                                \
    {                                                                          \
        (const uint8_t *)(text), sizeof(text) - 1                              \
    }

/* Applied to a table of "aa" and "bb" (slab tags), "bb" absent. */
static const struct hostile hostiles[] = {
    {"nothing", 0, false, {0}, {0}, {0}, {0}},
    {"a good change", 0, false, {0}, B("\x1c\x00"), {0}, B("\x02\x02")},
    {"a gap past the end",
     PSC_FORMAT,
     false,
     {0},
     B("\x1c\x02"),
     {0},
     B("\x02\x02")},
    {"a huge gap",
     PSC_FORMAT,
     false,
     {0},
     B("\x1c\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
     {0},
     B("\x02\x02")},
    {"a gap that wraps 32 bits",
     PSC_FORMAT,
     false,
     {0},
     B("\x1c\x80\x80\x80\x80\x10"),
     {0},
     B("\x02\x02")},
    {"a varint of eleven bytes",
     PSC_FORMAT,
     false,
     {0},
     B("\x1c\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"),
     {0},
     B("\x02")},
    {"a varint of more than 64 bits",
     PSC_FORMAT,
     false,
     {0},
     B("\x1c\x00"),
     {0},
     B("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02\x02")},
    {"a gap cut short", PSC_FORMAT, false, {0}, B("\x1c\x80"), {0}, B("\x02")},
    {"pages beyond 64 bits",
     PSC_FORMAT,
     false,
     {0},
     B("\x18\x00"),
     {0},
     B("\x85\x80\x80\x80\x80\x80\x80\x20")},
    {"pages that just fit",
     0,
     false,
     {0},
     B("\x18\x00"),
     {0},
     B("\xff\xff\xff\xff\xff\xff\xff\x0f")},
    {"values missing", PSC_FORMAT, false, {0}, B("\x1c\x00"), {0}, B("\x02")},
    {"values left over",
     PSC_FORMAT,
     false,
     {0},
     B("\x1c\x00"),
     {0},
     B("\x02\x02\x02")},
    {"values without gaps", PSC_FORMAT, false, {0}, {0}, {0}, B("\x02")},
    {"a head with unknown bits",
     PSC_FORMAT,
     false,
     {0},
     B("\x3c\x00"),
     {0},
     B("\x02\x02")},
    {"a column that slabs have not",
     PSC_FORMAT,
     false,
     {0},
     B("\x11\x00"),
     {0},
     B("\x02")},
    {"an absent entry that vanishes",
     PSC_FORMAT,
     false,
     {0},
     {0},
     B("\x01"),
     {0}},
    {"an entry that vanishes twice",
     PSC_FORMAT,
     false,
     {0},
     {0},
     B("\x00\x00"),
     {0}},
    {"a vanishing past the end", PSC_FORMAT, false, {0}, {0}, B("\x02"), {0}},
    {"vanished and changed",
     PSC_FORMAT,
     false,
     {0},
     B("\x1c\x00"),
     B("\x00"),
     B("\x02\x02")},
    {"a good name", 0, false, B("\x0c\x00\x02zz"), {0}, {0}, {0}},
    {"a name with a NUL", 0, false, B("\x0c\x00\x03z\0z"), {0}, {0}, {0}},
    {"an empty name", PSC_FORMAT, false, B("\x0c\x00\x00"), {0}, {0}, {0}},
    {"a known name",
     PSC_FORMAT,
     false,
     B("\x0c\x00\x02"
       "aa"),
     {0},
     {0},
     {0}},
    {"a name by prefix alone",
     PSC_FORMAT,
     false,
     B("\x0c\x02\x00"),
     {0},
     {0},
     {0}},
    {"a prefix of more than there is",
     PSC_FORMAT,
     false,
     B("\x0c\x03\x01x"),
     {0},
     {0},
     {0}},
    {"a name cut short", PSC_FORMAT, false, B("\x0c\x00\x05zz"), {0}, {0}, {0}},
    {"a name of 2^63 bytes",
     PSC_FORMAT,
     false,
     B("\x0c\x00\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01z"),
     {0},
     {0},
     {0}},
    {"a keyframe with a prefix of nothing",
     PSC_FORMAT,
     true,
     B("\x0c\x01\x01z"),
     {0},
     {0},
     {0}},
    {"a keyframe that says gone",
     PSC_FORMAT,
     true,
     B("\x0c\x00\x01z"),
     {0},
     B("\x00"),
     {0}},
    {"a keyframe of more than the table takes",
     PSC_LIMIT,
     true,
     B("\0\0\1a\0\0\1b\0\0\1c\0\0\1d\0\0\1e"),
     {0},
     {0},
     {0}},
    {"an empty keyframe", 0, true, {0}, {0}, {0}, {0}},
};

static const struct columns base_keyframe = {
    .keyframe = true,
    .names = B("\x0c\x00\x02"
               "aa"
               "\x0c\x00\x02"
               "bb"),
    .gaps = B("\x1c\x00"),
    .values = B("\x04\x04"),
};

static void hostile_bytes_are_refused(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof(hostiles) / sizeof(hostiles[0]); i++) {
        const struct hostile *h = &hostiles[i];
        struct decoded t;
        decoded_init(&t, TABLE_COLUMNS_MAX, 4, 4096);
        assert_int_equal(decoded_apply(&t, &base_keyframe, true, NULL), PSC_OK);
        assert_int_equal(t.grid.n_live, 1);
        struct columns in = {.keyframe = h->keyframe,
                             .names = h->names,
                             .gaps = h->gaps,
                             .gone = h->gone,
                             .values = h->values};
        struct psc_error err = {.code = 0};
        int rc = decoded_apply(&t, &in, true, &err);
        if (rc != h->code) {
            print_error("%s: %d %s\n", h->what, rc, err.msg);
        }
        assert_int_equal(rc, h->code);
        if (rc != PSC_OK) {
            in = (struct columns){.keyframe = false};
            assert_int_equal(t.changes.n_changed + t.changes.n_gone, 0);
            assert_int_equal(decoded_apply(&t, &in, true, NULL),
                             PSC_NEED_KEYFRAME);
            assert_int_equal(decoded_apply(&t, &base_keyframe, true, NULL),
                             PSC_OK);
            assert_int_equal(t.grid.n_live, 1);
        }
        decoded_fini(&t);
    }
}

static void a_delta_before_any_keyframe_is_refused(void **state)
{
    (void)state;
    struct decoded t;
    decoded_init(&t, TABLE_COLUMNS_MAX, 4, 4096);
    struct columns in = {.keyframe = false};
    assert_int_equal(decoded_apply(&t, &in, true, NULL), PSC_NEED_KEYFRAME);
    in.keyframe = true; /* a later part without its first one */
    assert_int_equal(decoded_apply(&t, &in, false, NULL), PSC_NEED_KEYFRAME);
    decoded_fini(&t);
}

static uint64_t seed = 1234567;

static uint32_t any(uint32_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 32) % below;
}

static void fill(struct table *t, int tick)
{
    table_begin(t);
    for (int i = 0; i < N_SLABS; i++) {
        char key[32];
        int len = snprintf(key, sizeof(key), "cache-%d", i * 37);
        int64_t moved = i % 3 == 0 ? tick : 0;
        int64_t values[TABLE_COLUMNS_MAX] = {0, 0, moved * i, moved * 4096};
        assert_int_equal(table_put(t, 0, key, (size_t)len, SLAB, values),
                         PSC_OK);
    }
}

/* Flip a bit of one of the columns in @w. */
static void damage(struct table_writer *w)
{
    struct psc_buf *columns[] = {&w->names, &w->gaps, &w->gone, &w->values};
    struct psc_buf *hit = columns[any(4)];

    if (hit->len > 0) {
        hit->data[any((uint32_t)hit->len)] ^= (uint8_t)(1u << any(8));
    }
}

static void random_damage_never_breaks_a_decoder(void **state)
{
    (void)state;
    struct table from;
    struct decoded to;
    struct table_writer w;
    table_init(&from, TABLE_COLUMNS_MAX, N_SLABS, 4096);
    decoded_init(&to, TABLE_COLUMNS_MAX, N_SLABS, 4096);
    table_writer_init(&w, BUDGET);
    unsigned refused = 0;
    for (int tick = 0; tick < 5000; tick++) {
        fill(&from, tick);
        bool keyframe = !to.grid.complete || tick % 10 == 0;
        uint32_t next = 0;
        struct columns columns;
        assert_int_equal(
            table_encode(&from, keyframe, 1, BUDGET, &next, &w, &columns),
            PSC_OK);
        damage(&w);
        int rc = decoded_apply(&to, &columns, true, NULL);
        refused += rc != PSC_OK;
        assert_int_equal(to.grid.complete, rc == PSC_OK);
        assert_true(to.grid.n <= to.grid.cap);
        assert_true(to.grid.n_live <= to.grid.n);
    }
    assert_true(refused > 100);
    table_fini(&from);
    decoded_fini(&to);
    table_writer_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_bytes_are_refused),
        cmocka_unit_test(a_delta_before_any_keyframe_is_refused),
        cmocka_unit_test(random_damage_never_breaks_a_decoder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
