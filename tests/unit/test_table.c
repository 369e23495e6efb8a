/* The snapshot codec: what an encoder packs, a decoder shows, at every tick
 * and whatever happened. test_table_random.c drives it at
 * random, test_table_hostile.c with the bytes of bad peers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "proto/table.h"
#include "proto/wire.h"
#include "tests/lib/fault.h"
#include "tests/unit/table_pair.h"

#define SLAB (TAG_OUTSTANDING | TAG_BYTES)
#define POOL (TAG_ALLOCS | TAG_FREES | TAG_OUTSTANDING | TAG_BYTES)

static void put(struct pair *p, const char *key, uint8_t flags, int64_t a,
                int64_t b, int64_t c, int64_t d)
{
    int64_t values[TABLE_COLUMNS_MAX] = {a, b, c, d};
    assert_int_equal(table_put(&p->from, 0, key, strlen(key), flags, values),
                     PSC_OK);
}

static void put_slab(struct pair *p, const char *key, int64_t outstanding,
                     int64_t bytes)
{
    put(p, key, SLAB, 0, 0, outstanding, bytes);
}

static void send_delta(struct pair *p)
{
    assert_int_equal(send(p, false, BUDGET), 1);
}

static void send_keyframe(struct pair *p)
{
    assert_int_equal(send(p, true, BUDGET), 1);
}

/* Tick @tick of a host with @n slab caches of which every @step-th moves. */
static void tick_slab(struct pair *p, int n, int step, int tick)
{
    table_begin(&p->from);
    for (int i = 0; i < n; i++) {
        char key[32];
        (void)snprintf(key, sizeof(key), "%ccache-%d", POOL_SLAB, i * 37);
        int64_t moved = i % step == 0 ? tick : 0;
        put_slab(p, key, 1000 + i + moved * (i % 7 - 3),
                 (64 + i) * 4096LL + moved * (i % 3) * 8192);
    }
}

static void a_delta_says_only_what_changed(void **state)
{
    (void)state;
    struct pair p;
    start(&p, TABLE_COLUMNS_MAX);
    tick_slab(&p, 300, 30, 0);
    send_keyframe(&p);
    assert_int_equal(p.to.changes.n_changed, 300);
    tick_slab(&p, 300, 30, 1);
    send_delta(&p);
    assert_int_equal(p.to.changes.n_changed,
                     9); /* one of ten moved by 0 and 0 */
    assert_int_equal(p.to.changes.n_gone, 0);
    assert_int_equal(p.last.names.len, 0);
    assert_true(packed_bytes(&p.last) < 40);
    tick_slab(&p, 300, 30, 1);
    send_delta(&p);
    assert_int_equal(p.to.changes.n_changed, 0);
    assert_int_equal(packed_bytes(&p.last), 0);
    stop(&p);
}

static void a_frame_of_ten_changed_tags_is_under_100_bytes(void **state)
{
    (void)state;
    struct pair p;
    start(&p, TABLE_COLUMNS_MAX);
    tick_slab(&p, 300, 27, 0);
    send_keyframe(&p);
    tick_slab(&p, 300, 27, 3);
    send_delta(&p);
    assert_int_equal(p.to.changes.n_changed, 10);
    struct wire_message m = {.type = WIRE_BATCH};
    m.batch = (struct wire_batch){.seq = 4711,
                                  .wall_us = 1767225600000000,
                                  .boottime_us = 864000000000,
                                  .boot_id = {1, 2, 3},
                                  .has_tags = true,
                                  .tags = p.last};
    struct psc_buf out;
    psc_buf_init(&out, BUDGET);
    wire_encode(&m, &out);
    assert_int_equal(psc_buf_error(&out), PSC_OK);
    print_message("ten changed tags: %zu bytes packed, frame %zu\n",
                  packed_bytes(&p.last), out.len);
    assert_true(out.len < 100);
    psc_buf_fini(&out);
    stop(&p);
}

static void a_steady_tick_allocates_nothing(void **state)
{
    (void)state;
    struct pair p;
    start(&p, TABLE_COLUMNS_MAX);
    tick_slab(&p, 300, 3, 0);
    send_keyframe(&p);
    tick_slab(&p, 300, 3, 1);
    send_delta(&p);
    fault_fail_at(0);
    for (int tick = 2; tick < 100; tick++) {
        tick_slab(&p, 300, 3, tick);
        send_delta(&p);
    }
    /* Nor does a keyframe when nothing has vanished. */
    tick_slab(&p, 300, 3, 100);
    send_keyframe(&p);
    assert_int_equal(fault_allocations(), 0);
    stop(&p);
}

static void differences_of_any_integers_round_trip(void **state)
{
    (void)state;
    static const int64_t values[] = {
        0,
        1,
        -1,
        63,
        64,
        -64,
        -65,
        4095,
        4096,
        -4096,
        12345678,
        INT64_MAX,
        INT64_MIN,
        INT64_MAX,
        -2,
        INT64_MIN,
        INT64_MIN,
        1LL << 62,
        -(1LL << 62),
        0,
        INT64_MIN + 1,
        4096LL << 50,
        -(4096LL << 50),
        0x7fffffffffff0000,
    };
    enum { N = sizeof(values) / sizeof(values[0]) };
    struct pair p;
    start(&p, TABLE_COLUMNS_MAX);
    for (unsigned i = 0; i < N; i++) {
        for (unsigned j = 0; j < N; j++) {
            table_begin(&p.from);
            put(&p, "a", TAG_ALLOCS | TAG_FREES | TAG_BYTES, values[i],
                values[j], 0, values[i]);
            put(&p, "b", POOL, values[j], values[i], 99, values[j]);
            put(&p, "c", SLAB, 0, 0, values[i], values[(i + j) % N]);
            assert_int_equal(send(&p, i + j == 0, BUDGET), 1);
        }
    }
    stop(&p);
}

static int64_t bits_of(double x)
{
    int64_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

static void reals_round_trip_and_stay_short(void **state)
{
    (void)state;
    static const double values[] = {
        0.0,      -0.0, 1.0,    0.5,           12.25,     1e300, -1e-300,
        INFINITY, NAN,  4096.0, 3.14159265358, 5e-324,    100.0, 100.5,
        101.0,    0.1,  0.2,    0.3,           -INFINITY, 0.0,
    };
    struct pair p;
    start(&p, 1);
    for (unsigned i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        table_begin(&p.from);
        put(&p, "load1", ENTRY_REAL, bits_of(values[i]), 0, 0, 0);
        assert_int_equal(send(&p, i == 0, BUDGET), 1);
        assert_true(p.last.values.len <= 9);
    }
    table_begin(&p.from);
    put(&p, "load1", ENTRY_REAL, bits_of(2.5), 0, 0, 0);
    send_delta(&p);
    table_begin(&p.from);
    put(&p, "load1", ENTRY_REAL, bits_of(2.75), 0, 0, 0);
    send_delta(&p);
    assert_int_equal(p.last.values.len, 2);
    stop(&p);
}

static void outstanding_is_derived_and_wraps(void **state)
{
    (void)state;
    struct pair p;
    start(&p, TABLE_COLUMNS_MAX);
    table_begin(&p.from);
    put(&p, "Fred", POOL, 5, 7, 12345, 64);
    put(&p, "Wrap", POOL, INT64_MIN, 1, 0, 64);
    send_keyframe(&p);
    assert_int_equal(grid_values(&p.to.grid, 0)[COL_OUTSTANDING], -2);
    assert_int_equal(grid_values(&p.to.grid, 1)[COL_OUTSTANDING], INT64_MAX);
    stop(&p);
}

static void columns_that_an_entry_has_not_are_zero(void **state)
{
    (void)state;
    struct pair p;
    start(&p, TABLE_COLUMNS_MAX);
    table_begin(&p.from);
    put(&p, "a", TAG_BYTES, 1, 2, 3, 4);
    send_keyframe(&p);
    assert_int_equal(grid_values(&p.to.grid, 0)[COL_ALLOCS], 0);
    assert_int_equal(grid_values(&p.to.grid, 0)[COL_OUTSTANDING], 0);
    assert_int_equal(grid_values(&p.to.grid, 0)[COL_BYTES], 4);
    stop(&p);
}

static void equal_keys_of_one_sample_are_summed(void **state)
{
    (void)state;
    struct pair p;
    start(&p, TABLE_COLUMNS_MAX);
    for (int tick = 0; tick < 3; tick++) {
        table_begin(&p.from);
        put(&p, "a", POOL, 10, 4, 0, 100);
        put(&p, "b", POOL, 1, 1, 0, 1);
        put(&p, "a", POOL, 20, 1, 0, 200);
        assert_int_equal(send(&p, tick == 0, BUDGET), 1);
    }
    assert_int_equal(p.to.names.count, 2);
    const int64_t *a = grid_values(&p.to.grid, 0);
    assert_int_equal(a[COL_ALLOCS], 30);
    assert_int_equal(a[COL_FREES], 5);
    assert_int_equal(a[COL_OUTSTANDING], 25);
    assert_int_equal(a[COL_BYTES], 300);
    stop(&p);

    start(&p, 1);
    table_begin(&p.from);
    put(&p, "r", ENTRY_REAL, bits_of(0.25), 0, 0, 0);
    put(&p, "r", ENTRY_REAL, bits_of(1.5), 0, 0, 0);
    send_keyframe(&p);
    assert_int_equal(grid_values(&p.to.grid, 0)[0], bits_of(1.75));
    stop(&p);
}

static void a_sum_has_what_all_its_parts_have(void **state)
{
    (void)state;
    struct pair p;
    start(&p, TABLE_COLUMNS_MAX);
    table_begin(&p.from);
    put(&p, "a", SLAB | ENTRY_RECLAIMABLE, 0, 0, 3, 100);
    put(&p, "a", TAG_BYTES, 0, 0, 0, 50);
    send_keyframe(&p);
    assert_int_equal(p.to.grid.entries[0].flags, TAG_BYTES);
    assert_int_equal(grid_values(&p.to.grid, 0)[COL_OUTSTANDING], 0);
    assert_int_equal(grid_values(&p.to.grid, 0)[COL_BYTES], 150);
    stop(&p);
}

static void vanishing_and_coming_back_are_changes(void **state)
{
    (void)state;
    struct pair p;
    start(&p, TABLE_COLUMNS_MAX);
    table_begin(&p.from);
    put_slab(&p, "a", 1, 4096);
    put_slab(&p, "b", 0, 0);
    send_keyframe(&p);
    table_begin(&p.from);
    put_slab(&p, "a", 1, 4096);
    send_delta(&p);
    assert_int_equal(p.to.changes.n_gone, 1);
    assert_int_equal(p.to.changes.gone[0], 1);
    assert_int_equal(p.to.grid.n_live, 1);
    table_begin(&p.from);
    put_slab(&p, "a", 1, 4096);
    put_slab(&p, "b", 0, 0);
    send_delta(&p);
    assert_int_equal(p.to.changes.n_gone, 0);
    assert_int_equal(p.to.changes.n_changed, 1);
    assert_int_equal(p.to.changes.changed[0], 1);
    assert_true(p.to.grid.entries[1].live);
    stop(&p);
}

static void a_delta_may_bring_new_names(void **state)
{
    (void)state;
    struct pair p;
    start(&p, TABLE_COLUMNS_MAX);
    table_begin(&p.from);
    put_slab(&p, "kmalloc-8", 1, 4096);
    send_keyframe(&p);
    table_begin(&p.from);
    put_slab(&p, "kmalloc-8", 1, 4096);
    put_slab(&p, "kmalloc-16", 2, 8192);
    put(&p, "x\xff\x01", SLAB | ENTRY_RECLAIMABLE, 0, 0, 3, 4);
    send_delta(&p);
    assert_int_equal(p.to.changes.n_changed, 2);
    assert_int_equal(p.to.grid.entries[2].flags, SLAB | ENTRY_RECLAIMABLE);
    stop(&p);
}

/* A name that was put in a sample which was never encoded. */
static void a_sample_may_be_thrown_away(void **state)
{
    (void)state;
    struct pair p;
    start(&p, TABLE_COLUMNS_MAX);
    table_begin(&p.from);
    put_slab(&p, "a", 1, 1);
    send_keyframe(&p);
    table_begin(&p.from);
    put_slab(&p, "a", 9, 9);
    put_slab(&p, "b", 2, 2);
    table_begin(&p.from);
    put_slab(&p, "a", 1, 1);
    send_delta(&p);
    assert_int_equal(p.to.changes.n_changed, 0);
    table_begin(&p.from);
    put_slab(&p, "b", 3, 3);
    send_delta(&p);
    assert_int_equal(p.to.changes.n_changed, 1);
    assert_int_equal(p.to.changes.n_gone, 1);
    stop(&p);
}

static void a_held_source_keeps_its_entries(void **state)
{
    (void)state;
    struct pair p;
    start(&p, 1);
    int64_t v = 5;
    table_begin(&p.from);
    assert_int_equal(table_put(&p.from, 1, "one", 3, 0, &v), PSC_OK);
    assert_int_equal(table_put(&p.from, 2, "two", 3, 0, &v), PSC_OK);
    send_keyframe(&p);
    for (int tick = 0; tick < 3; tick++) {
        table_begin(&p.from);
        table_hold(&p.from, 2);
        v++;
        assert_int_equal(table_put(&p.from, 1, "one", 3, 0, &v), PSC_OK);
        send_delta(&p);
        assert_int_equal(p.to.changes.n_changed, 1);
        assert_int_equal(p.to.grid.n_live, 2);
    }
    table_begin(&p.from); /* neither put nor held */
    send_delta(&p);
    assert_int_equal(p.to.changes.n_gone, 2);
    table_begin(&p.from); /* nothing left to hold */
    table_hold(&p.from, 2);
    send_delta(&p);
    assert_int_equal(p.to.grid.n_live, 0);
    stop(&p);
}

static void a_keyframe_forgets_what_vanished(void **state)
{
    (void)state;
    struct pair p;
    start(&p, TABLE_COLUMNS_MAX);
    tick_slab(&p, 100, 3, 0);
    send_keyframe(&p);
    tick_slab(&p, 40, 3, 1);
    send_delta(&p);
    assert_int_equal(p.from.names.count, 100);
    tick_slab(&p, 40, 3, 2);
    send_keyframe(&p);
    assert_int_equal(p.from.names.count, 40);
    tick_slab(&p, 100, 3, 3);
    send_delta(&p);
    assert_int_equal(p.to.grid.n_live, 100);
    stop(&p);
}

static void a_keyframe_goes_in_parts(void **state)
{
    (void)state;
    struct pair p;
    start(&p, TABLE_COLUMNS_MAX);
    tick_slab(&p, 400, 3, 0);
    int parts = send(&p, true, TABLE_BUDGET_MIN_BYTES);
    assert_true(parts > 5);
    tick_slab(&p, 400, 30, 1);
    assert_int_equal(send(&p, false, TABLE_BUDGET_MIN_BYTES), 1);
    stop(&p);
}

static void a_delta_over_its_budget_asks_for_a_keyframe(void **state)
{
    (void)state;
    struct pair p;
    start(&p, TABLE_COLUMNS_MAX);
    tick_slab(&p, 400, 1, 0);
    send_keyframe(&p);
    tick_slab(&p, 400, 1, 1000000);
    assert_int_equal(send(&p, false, TABLE_BUDGET_MIN_BYTES), -PSC_LIMIT);
    assert_true(send(&p, true, TABLE_BUDGET_MIN_BYTES) > 1);
    stop(&p);
}

static void a_delta_that_cannot_tell_asks_for_a_keyframe(void **state)
{
    (void)state;
    struct pair p;
    start(&p, TABLE_COLUMNS_MAX);
    table_begin(&p.from);
    put_slab(&p, "a", 1, 1);
    assert_int_equal(send(&p, false, BUDGET), -PSC_NEED_KEYFRAME);
    send_keyframe(&p);
    table_begin(&p.from);
    put(&p, "a", POOL, 5, 1, 0, 9);
    assert_int_equal(send(&p, false, BUDGET), -PSC_NEED_KEYFRAME);
    send_keyframe(&p);
    assert_int_equal(p.to.grid.entries[0].flags, POOL);
    assert_int_equal(grid_values(&p.to.grid, 0)[COL_OUTSTANDING], 4);
    stop(&p);
}

static void churn_never_fills_the_dictionary(void **state)
{
    (void)state;
    struct pair p;
    start(&p, 1);
    unsigned keyframes = 0;
    for (int tick = 0; tick < 200; tick++) {
        table_begin(&p.from);
        for (int i = 0; i < 50; i++) {
            char key[32];
            (void)snprintf(key, sizeof(key), "rss %d", tick * 10 + i);
            put(&p, key, 0, i, 0, 0, 0);
        }
        int rc = send(&p, false, BUDGET);
        if (rc == -PSC_NEED_KEYFRAME) {
            keyframes++;
            rc = send(&p, true, BUDGET);
        }
        assert_int_equal(rc, 1);
    }
    assert_int_equal(p.from.refused, 0);
    assert_in_range(keyframes, 2, 20);
    stop(&p);
}

static void puts_beyond_the_limits_are_refused_and_counted(void **state)
{
    (void)state;
    struct table t;
    table_init(&t, 1, 2, 64);
    char long_key[TABLE_KEY_MAX_BYTES + 1];
    memset(long_key, 'x', sizeof(long_key));
    int64_t v = 1;
    table_begin(&t);
    assert_int_equal(table_put(&t, 0, "a", 1, 0, &v), PSC_OK);
    assert_int_equal(table_put(&t, 0, "", 0, 0, &v), PSC_LIMIT);
    assert_int_equal(table_put(&t, 0, long_key, sizeof(long_key), 0, &v),
                     PSC_LIMIT);
    assert_int_equal(table_put(&t, 0, long_key, 100, 0, &v), PSC_LIMIT);
    assert_int_equal(table_put(&t, 0, "b", 1, 0, &v), PSC_OK);
    assert_int_equal(table_put(&t, 0, "c", 1, 0, &v), PSC_LIMIT);
    assert_int_equal(table_put(&t, 0, "a", 1, 0, &v), PSC_OK);
    assert_int_equal(t.refused, 4);
    assert_int_equal(t.n_live, 2);
    assert_int_equal(table_values(&t, 0)[0], 2);
    table_fini(&t);
}

static void assert_bytes(struct psc_bytes got, const char *hex)
{
    char text[256] = "";
    assert_true(got.len * 2 < sizeof(text));
    for (size_t i = 0; i < got.len; i++) {
        (void)snprintf(text + 2 * i, 3, "%02x", got.data[i]);
    }
    assert_string_equal(text, hex);
}

/* What docs/protocol.md shows; it must hold as long as version 1 is spoken. */
static void the_documented_example_holds(void **state)
{
    (void)state;
    struct pair p;
    start(&p, TABLE_COLUMNS_MAX);
    table_begin(&p.from);
    put_slab(&p, "\3kmalloc-64", 320, 20480);
    put_slab(&p, "\3kmalloc-96", 42, 4096);
    send_keyframe(&p);
    assert_bytes(p.last.names, "0c000b036b6d616c6c6f632d36340c09023936");
    assert_bytes(p.last.gaps, "1c0000");
    assert_bytes(p.last.gone, "");
    assert_bytes(p.last.values, "8005155405");
    table_begin(&p.from);
    put_slab(&p, "\3kmalloc-96", 40, 4096);
    put(&p, "\3dentry", SLAB | ENTRY_RECLAIMABLE, 0, 0, 21, 8292);
    send_delta(&p);
    assert_bytes(p.last.names, "2c010664656e747279");
    assert_bytes(p.last.gaps, "0c0503");
    assert_bytes(p.last.gone, "00");
    assert_bytes(p.last.values, "032a908302");
    stop(&p);
}

/* --- no memory --- */

/* One life of a pair, in which any step may run out of memory and is then
 * tried again. Returns whether one did. */
static bool live_through(struct pair *p)
{
    bool failed = false;
    for (int tick = 0; tick < 6; tick++) {
        int n = tick % 2 == 0 ? 150 : 40;
        bool again;
        do {
            again = false;
            table_begin(&p->from);
            for (int i = 0; i < n; i++) {
                char key[32];
                (void)snprintf(key, sizeof(key), "key %d of %d", i, tick / 2);
                int64_t values[TABLE_COLUMNS_MAX] = {0, 0, i,
                                                     (int64_t)tick * i};
                again |= table_put(&p->from, 0, key, strlen(key), SLAB,
                                   values) != PSC_OK;
            }
            failed |= again;
        } while (again);
        bool keyframe = tick % 3 == 0;
        uint32_t next = 0;
        int rc =
            table_encode(&p->from, keyframe, 1, BUDGET, &next, &p->w, &p->last);
        if (rc != PSC_OK) {
            failed = true;
            next = 0;
            assert_int_equal(rc, PSC_NOMEM);
            rc =
                table_encode(&p->from, true, 1, BUDGET, &next, &p->w, &p->last);
        }
        assert_int_equal(rc, PSC_OK);
        rc = decoded_apply(&p->to, &p->last, true, NULL);
        if (rc != PSC_OK) {
            failed = true;
            assert_int_equal(rc, PSC_NOMEM);
            assert_false(p->to.grid.complete);
            next = 0;
            assert_int_equal(
                table_encode(&p->from, true, 1, BUDGET, &next, &p->w, &p->last),
                PSC_OK);
            assert_int_equal(decoded_apply(&p->to, &p->last, true, NULL),
                             PSC_OK);
        }
        assert_same(&p->from, &p->to);
    }
    return failed;
}

static void every_failed_allocation_is_survived(void **state)
{
    (void)state;
    unsigned long n = 1;
    bool failed = true;
    for (; failed; n++) {
        struct pair p;
        start(&p, TABLE_COLUMNS_MAX);
        fault_fail_at(n);
        failed = live_through(&p);
        fault_fail_at(0);
        stop(&p);
    }
    print_message("%lu allocations failed in turn\n", n - 2);
    assert_true(n > 20);
}

static void pools_have_names(void **state)
{
    (void)state;
    for (int i = POOL_PAGED; i <= POOL_PAGES; i++) {
        enum pool pool = POOL_PAGES;
        assert_true(pool_parse(pool_name((enum pool)i), &pool));
        assert_int_equal(pool, i);
    }
    enum pool pool = POOL_SLAB;
    assert_false(pool_parse("?", &pool));
    assert_string_equal(pool_name((enum pool)0), "?");
    assert_string_equal(pool_name((enum pool)77), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_delta_says_only_what_changed),
        cmocka_unit_test(a_frame_of_ten_changed_tags_is_under_100_bytes),
        cmocka_unit_test(a_steady_tick_allocates_nothing),
        cmocka_unit_test(differences_of_any_integers_round_trip),
        cmocka_unit_test(reals_round_trip_and_stay_short),
        cmocka_unit_test(outstanding_is_derived_and_wraps),
        cmocka_unit_test(columns_that_an_entry_has_not_are_zero),
        cmocka_unit_test(equal_keys_of_one_sample_are_summed),
        cmocka_unit_test(a_sum_has_what_all_its_parts_have),
        cmocka_unit_test(vanishing_and_coming_back_are_changes),
        cmocka_unit_test(a_delta_may_bring_new_names),
        cmocka_unit_test(a_sample_may_be_thrown_away),
        cmocka_unit_test(a_held_source_keeps_its_entries),
        cmocka_unit_test(a_keyframe_forgets_what_vanished),
        cmocka_unit_test(a_keyframe_goes_in_parts),
        cmocka_unit_test(a_delta_over_its_budget_asks_for_a_keyframe),
        cmocka_unit_test(a_delta_that_cannot_tell_asks_for_a_keyframe),
        cmocka_unit_test(churn_never_fills_the_dictionary),
        cmocka_unit_test(puts_beyond_the_limits_are_refused_and_counted),
        cmocka_unit_test(the_documented_example_holds),
        cmocka_unit_test(every_failed_allocation_is_survived),
        cmocka_unit_test(pools_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
