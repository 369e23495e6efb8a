/* The small things of common/: buffers, readers, maps, CRC, files, errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/buf.h"
#include "common/crc32c.h"
#include "common/error.h"
#include "common/file.h"
#include "common/map.h"
#include "tests/lib/temp.h"

static void buf_stops_at_its_maximum_and_stays_failed(void **state)
{
    (void)state;
    struct psc_buf b;
    psc_buf_init(&b, 10);
    psc_buf_append(&b, "0123456789", 10);
    assert_int_equal(psc_buf_error(&b), PSC_OK);
    psc_buf_u8(&b, 'x');
    assert_int_equal(psc_buf_error(&b), PSC_LIMIT);
    psc_buf_reset(&b);
    psc_buf_u8(&b, 'x');
    assert_int_equal(psc_buf_error(&b), PSC_OK);
    assert_int_equal(b.len, 1);
    psc_buf_fini(&b);
}

static void numbers_survive_the_round_trip(void **state)
{
    (void)state;
    static const int64_t values[] = {
        0,   1,     -1,        63,        64,        -64, 127,
        128, 16384, INT32_MAX, INT32_MIN, INT64_MAX, -2,  INT64_MIN};
    struct psc_buf b;
    psc_buf_init(&b, 4096);
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        psc_buf_svarint(&b, values[i]);
        psc_buf_varint(&b, (uint64_t)values[i]);
    }
    struct psc_reader r;
    psc_reader_init(&r, psc_buf_bytes(&b));
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        assert_int_equal(psc_read_svarint(&r), values[i]);
        assert_int_equal(psc_read_varint(&r), (uint64_t)values[i]);
    }
    assert_int_equal(psc_reader_left(&r), 0);
    assert_false(r.failed);
    psc_buf_fini(&b);
}

static void reader_refuses_what_does_not_fit(void **state)
{
    (void)state;
    static const uint8_t too_long[] = {0x05, 'a', 'b'};
    static const uint8_t overlong[] = {0xff, 0xff, 0xff, 0xff, 0xff,
                                       0xff, 0xff, 0xff, 0xff, 0x02};
    struct psc_reader r;
    psc_reader_init(&r, (struct psc_bytes){too_long, sizeof(too_long)});
    assert_int_equal(psc_read_string(&r).len, 0);
    assert_true(r.failed);
    psc_reader_init(&r, (struct psc_bytes){overlong, sizeof(overlong)});
    assert_int_equal(psc_read_varint(&r), 0);
    assert_true(r.failed);
    psc_reader_init(&r, (struct psc_bytes){NULL, 0});
    assert_int_equal(psc_read_u8(&r), 0);
    assert_true(r.failed);
}

static void map_gives_dense_indices_and_keeps_them(void **state)
{
    (void)state;
    enum { KEYS = 5000 };
    struct psc_map m;
    psc_map_init(&m, KEYS, 1 << 20);
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < KEYS; i++) {
            char key[32];
            int len = snprintf(key, sizeof(key), "key-%u", i);
            uint32_t index = 0;
            assert_int_equal(psc_map_add(&m, key, (size_t)len, &index), 0);
            assert_int_equal(index, i);
            assert_int_equal(psc_map_find(&m, key, (size_t)len), i);
            assert_int_equal(psc_map_key(&m, i).len, len);
        }
    }
    uint32_t index = 0;
    assert_int_equal(psc_map_add(&m, "one more", 8, &index), PSC_LIMIT);
    assert_int_equal(psc_map_find(&m, "one more", 8), PSC_MAP_NONE);
    psc_map_clear(&m);
    assert_int_equal(psc_map_find(&m, "key-1", 5), PSC_MAP_NONE);
    assert_int_equal(psc_map_add(&m, "", 0, &index), 0);
    assert_int_equal(index, 0);
    assert_int_equal(psc_map_find(&m, "", 0), 0);
    psc_map_fini(&m);
}

/* RFC 3720 appendix B.4: test vectors. */
static void crc32c_matches_the_rfc(void **state)
{
    (void)state;
    uint8_t bytes[32];
    memset(bytes, 0, sizeof(bytes));
    assert_int_equal(psc_crc32c(0, bytes, sizeof(bytes)), 0x8a9136aa);
    memset(bytes, 0xff, sizeof(bytes));
    assert_int_equal(psc_crc32c(0, bytes, sizeof(bytes)), 0x62a8ab43);
    for (uint8_t i = 0; i < 32; i++) {
        bytes[i] = i;
    }
    assert_int_equal(psc_crc32c(0, bytes, sizeof(bytes)), 0x46dd794e);
    uint32_t in_parts = psc_crc32c(0, bytes, 5);
    assert_int_equal(psc_crc32c(in_parts, bytes + 5, 27), 0x46dd794e);
}

static void error_prefix_keeps_the_cause(void **state)
{
    (void)state;
    struct psc_error err;
    assert_int_equal(psc_error_set(&err, PSC_IO, "disk %d is gone", 3), PSC_IO);
    assert_int_equal(psc_error_prefix(&err, "spool"), PSC_IO);
    assert_string_equal(err.msg, "spool: disk 3 is gone");
}

static void error_is_one_line(void **state)
{
    (void)state;
    struct psc_error err;
    assert_int_equal(psc_error_set(&err, PSC_DATABASE, "%s",
                                   "connecting failed: No such file\n"
                                   "\tIs the server running?\n"),
                     PSC_DATABASE);
    assert_string_equal(err.msg, "connecting failed: No such file; "
                                 "Is the server running?");
    assert_int_equal(psc_error_set(&err, PSC_IO, "\n"), PSC_IO);
    assert_string_equal(err.msg, "");
    assert_int_equal(psc_error_set(&err, PSC_IO, "a\nb\n\nc"), PSC_IO);
    assert_string_equal(err.msg, "a; b; c");
    char many[2 * sizeof(err.msg)]; /* longer as one line */
    for (size_t i = 0; i < sizeof(many); i++) {
        many[i] = i % 2 == 0 ? 'x' : '\n';
    }
    many[sizeof(err.msg) - 2] = '\0';
    assert_int_equal(psc_error_set(&err, PSC_IO, "%s", many), PSC_IO);
    assert_in_range(strlen(err.msg), sizeof(err.msg) - 3, sizeof(err.msg) - 1);
}

static void file_is_replaced_as_a_whole(void **state)
{
    (void)state;
    const char *dir = temp_dir();
    char path[4096];
    assert_int_equal(psc_path_join(path, sizeof(path), dir, "a/b"), 0);
    struct psc_error err;
    assert_int_equal(psc_dir_make(path, 0700, &err), 0);
    assert_int_equal(psc_dir_make(path, 0700, &err), 0);
    assert_int_equal(psc_path_join(path, sizeof(path), dir, "a/b/f"), 0);

    struct psc_buf b;
    psc_buf_init(&b, 16);
    assert_int_equal(psc_file_read(path, &b, &err), PSC_MISSING);
    for (int round = 0; round < 2; round++) {
        const char *text = round == 0 ? "first" : "second";
        struct psc_bytes data = {(const uint8_t *)text, strlen(text)};
        assert_int_equal(psc_file_write(path, data, 0600, &err), 0);
        psc_buf_reset(&b);
        assert_int_equal(psc_file_read(path, &b, &err), 0);
        assert_int_equal(b.len, data.len);
        assert_memory_equal(b.data, text, b.len);
    }
    struct psc_bytes big = {(const uint8_t *)"0123456789abcdefg", 17};
    assert_int_equal(psc_file_write(path, big, 0600, &err), 0);
    psc_buf_reset(&b);
    assert_int_equal(psc_file_read(path, &b, &err), PSC_LIMIT);
    psc_buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buf_stops_at_its_maximum_and_stays_failed),
        cmocka_unit_test(numbers_survive_the_round_trip),
        cmocka_unit_test(reader_refuses_what_does_not_fit),
        cmocka_unit_test(map_gives_dense_indices_and_keeps_them),
        cmocka_unit_test(crc32c_matches_the_rfc),
        cmocka_unit_test(error_prefix_keeps_the_cause),
        cmocka_unit_test(error_is_one_line),
        cmocka_unit_test(file_is_replaced_as_a_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
