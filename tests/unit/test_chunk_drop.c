/* A snapshot that is taken back leaves nothing behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "sql/codec/chunk_writer.h"

enum { IDS = 50, SNAPSHOTS = 200 };

static uint64_t seed = 88172645463325252u;

static uint32_t below(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)((seed >> 33) % n);
}

static void begin(struct chunk_writer *w, int64_t n)
{
    static const uint8_t boot[CHUNK_BOOT_BYTES];
    assert_int_equal(
        chunk_writer_snapshot(w, n, n * 60000000, n * 60000000, boot), PSC_OK);
}

/* Changes of one snapshot, the same in all of @w. */
static void change(struct chunk_writer *const *w, unsigned n_writers,
                   bool keyframe)
{
    for (unsigned i = 0; keyframe && i < n_writers; i++) {
        chunk_writer_keyframe(w[i]);
    }
    for (uint32_t id = 1; id <= IDS; id++) {
        uint32_t what = below(8);
        int64_t v[TABLE_COLUMNS_MAX] = {below(1000), 0, below(100),
                                        4096 * (int64_t)below(50)};
        for (unsigned i = 0; i < n_writers; i++) {
            if (what == 0) {
                assert_int_equal(chunk_writer_gone(w[i], id), PSC_OK);
            } else if (what < 4) {
                assert_int_equal(chunk_writer_put(w[i], id, 12, v), PSC_OK);
            }
        }
    }
}

static void assert_same(struct psc_bytes a, struct psc_bytes b)
{
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
}

static void a_dropped_snapshot_leaves_nothing(void **state)
{
    (void)state;
    struct chunk_writer plain, dropping;
    struct chunk_writer *const both[] = {&plain, &dropping};
    struct chunk_writer *const one[] = {&dropping};
    struct chunk_sections a, b;
    chunk_writer_init(&plain, TABLE_COLUMNS_MAX, &chunk_openssl);
    chunk_writer_init(&dropping, TABLE_COLUMNS_MAX, &chunk_openssl);
    for (int64_t n = 1; n <= SNAPSHOTS; n++) {
        begin(&plain, n);
        begin(&dropping, n);
        change(both, 2, n == 1 || below(10) == 0);
        if (n > 1 && below(3) == 0) {
            begin(&dropping, n + 1 + below(9));
            change(one, 1, below(2) == 0);
            chunk_writer_drop(&dropping);
        }
    }
    assert_int_equal(chunk_writer_finish(&plain, &a), PSC_OK);
    assert_int_equal(chunk_writer_finish(&dropping, &b), PSC_OK);
    assert_same(a.head, b.head);
    assert_same(a.levels, b.levels);
    assert_same(a.data, b.data);
    chunk_writer_fini(&plain);
    chunk_writer_fini(&dropping);
}

static void the_first_one_can_be_dropped(void **state)
{
    (void)state;
    struct chunk_writer w;
    struct chunk_writer *const one[] = {&w};
    struct chunk_sections s;
    struct chunk c;
    chunk_writer_init(&w, TABLE_COLUMNS_MAX, &chunk_openssl);
    begin(&w, 7);
    change(one, 1, true);
    chunk_writer_drop(&w);
    begin(&w, 3);
    assert_int_equal(chunk_writer_finish(&w, &s), PSC_OK);
    assert_int_equal(chunk_open(&c, s.head, &chunk_openssl, NULL), PSC_OK);
    assert_int_equal(c.n, 3);
    assert_int_equal(c.n_entries, 0);
    chunk_writer_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dropped_snapshot_leaves_nothing),
        cmocka_unit_test(the_first_one_can_be_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
