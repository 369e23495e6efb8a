/* Chunks: what a writer packs, a reader shows. Edges one by one, and the
 * example of sql/codec/README.md. test_chunk_random.c drives them at random,
 * test_chunk_damage.c breaks them, test_chunk_memory.c lets allocations fail.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>

#include "tests/unit/chunk_pair.h"

#define SLAB (TAG_OUTSTANDING | TAG_BYTES)
#define POOL (TAG_ALLOCS | TAG_FREES | TAG_OUTSTANDING | TAG_BYTES)

static struct chunk_writer writer;

static int start_tags(void **state)
{
    (void)state;
    chunk_writer_init(&writer, TABLE_COLUMNS_MAX, &chunk_openssl);
    return 0;
}

static int start_counters(void **state)
{
    (void)state;
    chunk_writer_init(&writer, 1, &chunk_openssl);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    chunk_writer_fini(&writer);
    return 0;
}

static void an_empty_table_has_times_only(void **state)
{
    (void)state;
    static const uint32_t snapshots[] = {1, 2, 60, CHUNK_SNAPSHOTS_MAX};
    for (unsigned i = 0; i < 4; i++) {
        struct run r;
        run_init(&r, TABLE_COLUMNS_MAX, snapshots[i], 3);
        struct chunk_sections out = round_trip(&writer, &r, 1000);
        assert_int_equal(out.data.len, 0);
        assert_int_equal(out.levels.len, 0);
        run_fini(&r);
    }
}

static void one_snapshot_is_a_chunk(void **state)
{
    (void)state;
    struct run r;
    run_init(&r, TABLE_COLUMNS_MAX, 1, 100);
    for (uint32_t id = 1; id <= 100; id += 3) {
        int64_t v = id;
        set(&r, 0, id, POOL, v * 7, v, v * 6, v * 640);
    }
    (void)round_trip(&writer, &r, 1);
    run_fini(&r);
}

static void the_longest_run_is_a_chunk(void **state)
{
    (void)state;
    struct run r;
    run_init(&r, TABLE_COLUMNS_MAX, CHUNK_SNAPSHOTS_MAX, 5);
    for (uint32_t s = 0; s < r.snapshots; s++) {
        set(&r, s, 1, SLAB, 0, 0, s, s * INT64_C(4096));     /* always */
        set(&r, s, 2, SLAB, 0, 0, 7, 4096);                  /* never */
        set(&r, s, 3, SLAB, 0, 0, s / 100, s / 1000);        /* seldom */
        set(&r, s, 4, SLAB, 0, 0, s - s / 50, s);            /* almost always */
        set(&r, s, 5, SLAB, 0, 0, s * s % 7 / 4, 1LL << 40); /* often */
    }
    (void)round_trip(&writer, &r, 500);
    uint8_t boot[CHUNK_BOOT_BYTES] = {0};
    assert_int_equal(feed(&writer, &r, 500), PSC_OK);
    assert_int_equal(chunk_writer_snapshot(&writer, 1 << 20, 0, 0, boot),
                     PSC_LIMIT);
    struct chunk_sections out;
    assert_int_equal(chunk_writer_finish(&writer, &out), PSC_OK);
    check_sections(&r, &out);
    run_fini(&r);
}

static void entries_come_and_go(void **state)
{
    (void)state;
    struct run r;
    run_init(&r, TABLE_COLUMNS_MAX, 12, 6);
    for (uint32_t s = 0; s < 12; s++) {
        if (s != 4 && s != 5) {
            set(&r, s, 1, POOL, 100 + s / 6, 10, 90 + s / 6, 8192);
        }
        if (s >= 3) {
            set(&r, s, 2, POOL, 5, 2, 3, 300);
        }
        if (s % 2 == 0) {
            set(&r, s, 3, SLAB, 0, 0, 0, 0);
        }
        if (s == 11) {
            set(&r, s, 4, SLAB, 0, 0, 1, 1);
        }
        if (s == 0) {
            set(&r, s, 5, SLAB, 0, 0, 1 << 20, 1 << 30);
        }
    }
    (void)round_trip(&writer, &r, 1);
    (void)round_trip(&writer, &r, 5);
    (void)round_trip(&writer, &r, 100);
    run_fini(&r);
}

static void other_flags_are_another_entry_of_the_same_id(void **state)
{
    (void)state;
    struct run r;
    run_init(&r, TABLE_COLUMNS_MAX, 10, 40);
    for (uint32_t s = 0; s < 10; s++) {
        for (uint32_t id = 1; id <= 40; id++) {
            uint8_t flags = s < id % 11 ? POOL : SLAB;
            if (id % 5 == 0 && s == id % 11) {
                continue; /* absent between */
            }
            if (id % 7 == 0 && s > 7) {
                flags = POOL; /* again as before */
            }
            set(&r, s, id, flags, 100 + s, s, 100, INT64_C(4096) * s);
        }
    }
    struct chunk_sections out = round_trip(&writer, &r, 4);
    struct chunk c;
    assert_int_equal(chunk_open(&c, out.head, &chunk_openssl, NULL), PSC_OK);
    assert_in_range(c.n_entries, 60, 80);
    /* No id is in two blocks: check_entry() looks into one. */
    run_fini(&r);
}

static void only_so_many_flags_an_id(void **state)
{
    (void)state;
    uint8_t boot[CHUNK_BOOT_BYTES] = {0};
    int64_t values[TABLE_COLUMNS_MAX] = {0};
    assert_int_equal(chunk_writer_snapshot(&writer, 0, 0, 0, boot), PSC_OK);
    for (unsigned flags = 0; flags < 64; flags++) {
        assert_int_equal(chunk_writer_put(&writer, 9, (uint8_t)flags, values),
                         flags < CHUNK_VARIANTS_MAX ? PSC_OK : PSC_LIMIT);
    }
    struct chunk_sections out;
    assert_int_equal(chunk_writer_finish(&writer, &out), PSC_OK);
    struct chunk c;
    assert_int_equal(chunk_open(&c, out.head, &chunk_openssl, NULL), PSC_OK);
    assert_int_equal(c.n_entries, 1); /* the last one put */
}

static void every_set_of_columns_round_trips(void **state)
{
    (void)state;
    struct run r;
    run_init(&r, TABLE_COLUMNS_MAX, 9, 64);
    for (uint32_t s = 0; s < 9; s++) {
        for (uint32_t id = 1; id <= 64; id++) {
            int64_t v = id * INT64_C(1000) + s * id % 5;
            set(&r, s, id, (uint8_t)(id - 1), v, v / 3, v - v / 3,
                v / 2 * 4096);
        }
    }
    (void)round_trip(&writer, &r, 3);
    run_fini(&r);
}

static void extreme_values_round_trip(void **state)
{
    (void)state;
    static const int64_t values[] = {
        0,
        1,
        -1,
        4096,
        -4096,
        INT32_MAX,
        INT32_MIN,
        CHUNK_VALUE_LIMIT - 1,
        -(CHUNK_VALUE_LIMIT - 1),
        1LL << 61,
        -(1LL << 61),
        0,
        4095LL << 49,
        CHUNK_VALUE_LIMIT - 1,
    };
    enum { N = sizeof(values) / sizeof(values[0]) };
    struct run r;
    run_init(&r, TABLE_COLUMNS_MAX, N * N, 3);
    for (uint32_t s = 0; s < N * N; s++) {
        int64_t v = values[s / N], o = values[s % N];
        set(&r, s, 1, SLAB, 0, 0, v, o);
        set(&r, s, 2, TAG_ALLOCS | TAG_FREES, v / 2, o / 2, 0, 0);
        set(&r, s, 3, POOL, v / 2, -o / 2, 77, o);
    }
    (void)round_trip(&writer, &r, 7);
    run_fini(&r);
}

static void values_out_of_range_are_refused(void **state)
{
    (void)state;
    uint8_t boot[CHUNK_BOOT_BYTES] = {0};
    int64_t large[TABLE_COLUMNS_MAX] = {0, 0, 0, CHUNK_VALUE_LIMIT};
    int64_t wide[TABLE_COLUMNS_MAX] = {CHUNK_VALUE_LIMIT - 1, -1};
    int64_t fine[TABLE_COLUMNS_MAX] = {CHUNK_VALUE_LIMIT - 1, 1, 0, 5};
    assert_int_equal(
        chunk_writer_snapshot(&writer, 0, CHUNK_TIME_LIMIT, 0, boot),
        PSC_LIMIT);
    assert_int_equal(
        chunk_writer_snapshot(&writer, 0, 0, CHUNK_TIME_LIMIT, boot),
        PSC_LIMIT);
    assert_int_equal(chunk_writer_snapshot(&writer, -1, 0, 0, boot), PSC_LIMIT);
    assert_int_equal(chunk_writer_snapshot(&writer, 5, 0, 0, boot), PSC_OK);
    assert_int_equal(chunk_writer_put(&writer, 1, SLAB, large), PSC_LIMIT);
    assert_int_equal(chunk_writer_put(&writer, 1, POOL, wide), PSC_LIMIT);
    assert_int_equal(chunk_writer_put(&writer, 0, POOL, fine), PSC_LIMIT);
    assert_int_equal(chunk_writer_put(&writer, 1u << 31, POOL, fine),
                     PSC_LIMIT);
    assert_int_equal(chunk_writer_put(&writer, INT32_MAX, POOL, fine), PSC_OK);
    assert_int_equal(chunk_writer_snapshot(&writer, 5, 0, 0, boot), PSC_LIMIT);
    struct chunk_sections out;
    assert_int_equal(chunk_writer_finish(&writer, &out), PSC_OK);
}

static void the_last_put_of_a_snapshot_counts(void **state)
{
    (void)state;
    uint8_t boot[CHUNK_BOOT_BYTES] = {0};
    struct run r;
    run_init(&r, TABLE_COLUMNS_MAX, 3, 4);
    set(&r, 0, 1, SLAB, 0, 0, 9, 9);
    set(&r, 0, 2, SLAB, 0, 0, 5, 5);
    set(&r, 1, 1, SLAB, 0, 0, 9, 9);
    set(&r, 2, 1, SLAB, 0, 0, 9, 9);
    set(&r, 2, 4, SLAB, 0, 0, 2, 2);
    const int64_t nine[4] = {0, 0, 9, 9}, five[4] = {0, 0, 5, 5};
    const int64_t two[4] = {0, 0, 2, 2};
    for (uint32_t s = 0; s < 3; s++) {
        assert_int_equal(chunk_writer_snapshot(&writer, r.n[s], r.at_us[s],
                                               r.wall_us[s], boot),
                         PSC_OK);
        assert_int_equal(chunk_writer_put(&writer, 1, SLAB, five), PSC_OK);
        assert_int_equal(chunk_writer_put(&writer, 1, POOL, five), PSC_OK);
        assert_int_equal(chunk_writer_gone(&writer, 1), PSC_OK);
        assert_int_equal(chunk_writer_put(&writer, 1, SLAB, nine), PSC_OK);
        assert_int_equal(chunk_writer_put(&writer, 2, SLAB, five), PSC_OK);
        if (s > 0) {
            assert_int_equal(chunk_writer_gone(&writer, 2), PSC_OK);
        }
        assert_int_equal(chunk_writer_put(&writer, 3, SLAB, five), PSC_OK);
        assert_int_equal(chunk_writer_gone(&writer, 3), PSC_OK);
        assert_int_equal(chunk_writer_gone(&writer, 77), PSC_OK);
    }
    assert_int_equal(chunk_writer_put(&writer, 4, SLAB, two), PSC_OK);
    struct chunk_sections out;
    assert_int_equal(chunk_writer_finish(&writer, &out), PSC_OK);
    check_sections(&r, &out);
    struct chunk c;
    assert_int_equal(chunk_open(&c, out.head, &chunk_openssl, NULL), PSC_OK);
    assert_int_equal(c.n_entries, 3); /* nothing of those never seen */
    run_fini(&r);
}

static void a_keyframe_ends_what_it_does_not_state(void **state)
{
    (void)state;
    struct run r;
    run_init(&r, TABLE_COLUMNS_MAX, 4, 50);
    for (uint32_t s = 0; s < 4; s++) {
        for (uint32_t id = 1; id <= 50; id++) {
            if (s < 2 || id % 2 == 0) {
                set(&r, s, id, SLAB, 0, 0, id, id);
            }
        }
    }
    (void)round_trip(&writer, &r, 1);
    (void)round_trip(&writer, &r, 2);
    r.snapshots = 3; /* the keyframe is the last snapshot */
    (void)round_trip(&writer, &r, 2);
    run_fini(&r);
}

static int64_t bits_of(double x)
{
    int64_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

static void counters_round_trip(void **state)
{
    (void)state;
    static const double reals[] = {
        0.0,    -0.0,   1.0,       0.5, 12.25,  1e300,    -1e-300, INFINITY,
        4096.0, 5e-324, -INFINITY, 0.1, 100.25, 1e15 + 1, 1e15,    0.0,
    };
    enum { N = sizeof(reals) / sizeof(reals[0]) };
    struct run r;
    run_init(&r, 1, N * N, 5);
    for (uint32_t s = 0; s < N * N; s++) {
        set(&r, s, 1, ENTRY_REAL, bits_of(reals[s / N]), 0, 0, 0);
        set(&r, s, 2, ENTRY_REAL, bits_of(reals[s % N]), 0, 0, 0);
        set(&r, s, 3, 0, (int64_t)s * 1024, 0, 0, 0);
        set(&r, s, 4, ENTRY_REAL, (int64_t)(UINT64_C(0x7ff8dead00000000) + s),
            0, 0, 0); /* NaNs */
        if (s > 20) {
            set(&r, s, 5, ENTRY_REAL, INT64_MIN + (s % 3 == 0), 0, 0, 0);
        }
    }
    (void)round_trip(&writer, &r, 50);
    run_fini(&r);
}

static void times_round_trip(void **state)
{
    (void)state;
    struct run r;
    run_init(&r, TABLE_COLUMNS_MAX, 300, 1);
    for (uint32_t s = 0; s < 300; s++) {
        r.n[s] = (int64_t)s * s + s;
        r.at_us[s] += (s * 7919) % 3000;
        r.wall_us[s] = r.at_us[s] + (s < 100 ? 0 : -123456789) + s / 7;
        r.boots[s] = (uint8_t)(s / 60 % 3); /* the first again at the end */
    }
    r.at_us[200] -= INT64_C(3600000000); /* the clock went back */
    r.n[299] = CHUNK_TIME_LIMIT - 1;
    r.at_us[299] = CHUNK_TIME_LIMIT - 1;
    r.wall_us[299] = 0;
    r.at_us[298] = -(CHUNK_TIME_LIMIT - 1);
    r.wall_us[298] = 0;
    (void)round_trip(&writer, &r, 10);
    run_fini(&r);
}

static void put_example(uint32_t s)
{
    static const int64_t allocs[] = {1000, 1010, 1010, 1013};
    static const int64_t frees[] = {900, 905, 905, 910};
    static const int64_t bytes[] = {6400, 6720, 6720, 6592};
    const int64_t pool[] = {allocs[s], frees[s], 0, bytes[s]};
    const int64_t slab[] = {0, 0, 40, s < 3 ? 8192 : 12288};
    const int64_t at =
        INT64_C(1767225600000000) + s * INT64_C(60000000) + (s == 2 ? 250 : 0);
    uint8_t boot[CHUNK_BOOT_BYTES];
    for (unsigned i = 0; i < CHUNK_BOOT_BYTES; i++) {
        boot[i] = (uint8_t)(0xa0 + i);
    }
    assert_int_equal(
        chunk_writer_snapshot(&writer, 100 + s, at, at + 1500, boot), PSC_OK);
    chunk_writer_keyframe(&writer);
    assert_int_equal(chunk_writer_put(&writer, 7, POOL, pool), PSC_OK);
    if (s != 2) {
        assert_int_equal(chunk_writer_put(&writer, 9, SLAB, slab), PSC_OK);
    }
}

/* sql/codec/README.md takes these bytes apart. */
static void the_example_of_the_manual_is_right(void **state)
{
    (void)state;
    static const uint8_t head[] = {
        0x01, 0x04, 0x00, 0x04, 0x00, 0x01, 0x00, 0x01, 0x00, 0x00, 0x00,
        0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x64, 0x00, 0x06,
        0x47, 0x48, 0x46, 0x20, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x05, 0xdc, 0x00, 0x00, 0x00, 0x00, 0x03, 0x93, 0x87, 0x00,
        0x03, 0x05, 0x04, 0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7,
        0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf, 0xf9, 0xd0, 0x31,
        0xc1, 0x00, 0xfa, 0x3e, 0xa0, 0x03, 0xd3, 0xfc, 0x8a};
    static const uint8_t levels[] = {0x0c, 0x09, 0x04, 0x3c, 0x31, 0xc2, 0xc8,
                                     0xe5, 0x00, 0xbc, 0x2d, 0xa3, 0x96};
    static const uint8_t data[] = {0x85, 0x33, 0xde, 0x25, 0x0c, 0x85, 0x41,
                                   0x30, 0x84, 0x04, 0xc0, 0x7d, 0x0c, 0x91,
                                   0x6a, 0x14, 0xaf, 0xaa, 0x31, 0x85, 0x40,
                                   0xd2, 0xce, 0x0f, 0x35};
    for (uint32_t s = 0; s < 4; s++) {
        put_example(s);
    }
    struct chunk_sections out;
    assert_int_equal(chunk_writer_finish(&writer, &out), PSC_OK);
    assert_int_equal(out.head.len, sizeof(head));
    assert_memory_equal(out.head.data, head, sizeof(head));
    assert_int_equal(out.levels.len, sizeof(levels));
    assert_memory_equal(out.levels.data, levels, sizeof(levels));
    assert_int_equal(out.data.len, sizeof(data));
    assert_memory_equal(out.data.data, data, sizeof(data));
}

static void unknown_versions_are_told(void **state)
{
    (void)state;
    uint8_t boot[CHUNK_BOOT_BYTES] = {0};
    struct chunk_sections out;
    assert_int_equal(chunk_writer_snapshot(&writer, 0, 0, 0, boot), PSC_OK);
    assert_int_equal(chunk_writer_finish(&writer, &out), PSC_OK);
    uint8_t head[128];
    assert_true(out.head.len < sizeof(head));
    memcpy(head, out.head.data, out.head.len);
    head[0] = 2;
    struct chunk c;
    struct psc_error err;
    assert_int_equal(chunk_open(&c, (struct psc_bytes){head, out.head.len},
                                &chunk_openssl, &err),
                     PSC_UNSUPPORTED);
    assert_string_equal(err.msg, "chunk: layout version 2, known is 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TAGS(test) cmocka_unit_test_setup_teardown(test, start_tags, stop)
#define COUNTERS(test)                                                         \
    cmocka_unit_test_setup_teardown(test, start_counters, stop)
        TAGS(an_empty_table_has_times_only),
        TAGS(one_snapshot_is_a_chunk),
        TAGS(the_longest_run_is_a_chunk),
        TAGS(entries_come_and_go),
        TAGS(other_flags_are_another_entry_of_the_same_id),
        TAGS(only_so_many_flags_an_id),
        TAGS(every_set_of_columns_round_trips),
        TAGS(extreme_values_round_trip),
        TAGS(values_out_of_range_are_refused),
        TAGS(the_last_put_of_a_snapshot_counts),
        TAGS(a_keyframe_ends_what_it_does_not_state),
        COUNTERS(counters_round_trip),
        TAGS(times_round_trip),
        TAGS(the_example_of_the_manual_is_right),
        TAGS(unknown_versions_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
