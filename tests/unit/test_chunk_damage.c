/* Damaged chunks: no byte can be flipped and no section cut without the reader
 * telling so; and with checksums that let everything pass, as in bytes made
 * with intent, it stays within its limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>

#include "tests/unit/chunk_pair.h"

#define SLAB (TAG_OUTSTANDING | TAG_BYTES)
#define POOL (TAG_ALLOCS | TAG_FREES | TAG_OUTSTANDING | TAG_BYTES)

enum { SECTIONS = 3, SECTION_MAX_BYTES = 2048 };

/* Sections that may be damaged. */
struct copy {
    uint8_t bytes[SECTIONS][SECTION_MAX_BYTES];
    size_t len[SECTIONS];
};

static bool no_sha256(const void *data, size_t len,
                      uint8_t out[CHUNK_DIGEST_BYTES])
{
    (void)data;
    (void)len;
    memset(out, 0, CHUNK_DIGEST_BYTES);
    return true;
}

static bool broken_sha256(const void *data, size_t len,
                          uint8_t out[CHUNK_DIGEST_BYTES])
{
    (void)data;
    (void)len;
    (void)out;
    return false;
}

static const struct chunk_digest blind = {.sha256 = no_sha256};
static const struct chunk_digest broken = {.sha256 = broken_sha256};

/* A chunk with a bit of everything. */
static void make(struct copy *copy, const struct chunk_digest *digest)
{
    struct run r;
    struct chunk_writer w;
    run_init(&r, TABLE_COLUMNS_MAX, 24, 40);
    for (uint32_t s = 0; s < r.snapshots; s++) {
        r.boots[s] = s > 15;
        r.n[s] += s > 9;
        for (uint32_t id = 1; id <= r.ids; id++) {
            if (id % 11 == 3 && s % 7 == 2) {
                continue;
            }
            int64_t v = id % 4 == 0 ? 9 : s * id;
            set(&r, s, id, id % 3 == 0 ? SLAB : POOL, 1000 + 3 * v, 2 * v,
                1000 + v, id % 2 == 0 ? 64 * v : v / 20 * 4096);
        }
    }
    chunk_writer_init(&w, TABLE_COLUMNS_MAX, digest);
    struct chunk_sections out;
    assert_int_equal(feed(&w, &r, 100), PSC_OK);
    assert_int_equal(chunk_writer_finish(&w, &out), PSC_OK);
    const struct psc_bytes sections[SECTIONS] = {out.head, out.levels,
                                                 out.data};
    for (unsigned i = 0; i < SECTIONS; i++) {
        assert_in_range(sections[i].len, 1, SECTION_MAX_BYTES);
        memcpy(copy->bytes[i], sections[i].data, sections[i].len);
        copy->len[i] = sections[i].len;
    }
    chunk_writer_fini(&w);
    run_fini(&r);
}

/* Part of a section, in memory of its own so that reading beyond it is seen;
 * what a section lacks is lacking in the slice. */
static struct psc_bytes slice_of(const struct copy *copy, unsigned section,
                                 size_t at, size_t len)
{
    size_t has = copy->len[section];
    size_t from = at < has ? at : has;
    size_t n = len < has - from ? len : has - from;
    uint8_t *bytes = malloc(n > 0 ? n : 1);
    assert_non_null(bytes);
    memcpy(bytes, copy->bytes[section] + from, n);
    return (struct psc_bytes){bytes, n};
}

static int read_block(const struct chunk *c, const struct copy *copy,
                      const struct chunk_slice *slice)
{
    struct chunk_block b;
    struct chunk_entry e;
    struct psc_bytes levels =
        slice_of(copy, 1, slice->levels_at, slice->levels_len);
    struct psc_bytes data = slice_of(copy, 2, slice->data_at, slice->data_len);
    int rc = chunk_block_open(&b, c, slice, data, levels, NULL);
    for (uint32_t i = 0; rc == PSC_OK && i < b.n; i++) {
        uint32_t points = 0;
        for (chunk_entry_open(&e, &b, i); chunk_next(&e);) {
            assert_true(++points <= c->snapshots);
            assert_true(e.snapshot < c->snapshots);
        }
        rc = e.failed ? PSC_FORMAT : PSC_OK;
    }
    free((void *)levels.data);
    free((void *)data.data);
    return rc;
}

/* Read all there is. Returns the first error. */
static int read_copy(const struct copy *copy, const struct chunk_digest *digest)
{
    struct chunk c;
    struct chunk_times t;
    struct chunk_slice slice;
    struct psc_bytes head = slice_of(copy, 0, 0, SIZE_MAX);
    int rc = chunk_open(&c, head, digest, NULL);
    if (rc == PSC_OK) {
        for (chunk_times_init(&t, &c); chunk_times_next(&t);) {
            assert_true(t.boot < c.n_boots && t.snapshot < c.snapshots);
        }
        rc = t.failed ? PSC_FORMAT : PSC_OK;
    }
    for (uint32_t i = 0; rc == PSC_OK && i < c.n_blocks; i++) {
        rc = chunk_slice(&c, i, &slice);
        if (rc == PSC_OK) {
            rc = read_block(&c, copy, &slice);
        }
    }
    free((void *)head.data);
    return rc;
}

static void every_flipped_bit_is_noticed(void **state)
{
    (void)state;
    static struct copy copy;
    make(&copy, &chunk_openssl);
    assert_int_equal(read_copy(&copy, &chunk_openssl), PSC_OK);
    for (unsigned section = 0; section < SECTIONS; section++) {
        for (size_t i = 0; i < copy.len[section]; i++) {
            for (unsigned bit = 1; bit < 256;
                 bit = bit == 128 ? 255 : bit * 2) {
                copy.bytes[section][i] ^= (uint8_t)bit;
                assert_int_not_equal(read_copy(&copy, &chunk_openssl), PSC_OK);
                copy.bytes[section][i] ^= (uint8_t)bit;
            }
        }
    }
    assert_int_equal(read_copy(&copy, &chunk_openssl), PSC_OK);
}

static void every_cut_is_noticed(void **state)
{
    (void)state;
    static struct copy copy;
    make(&copy, &chunk_openssl);
    for (unsigned section = 0; section < SECTIONS; section++) {
        const size_t len = copy.len[section];
        for (size_t cut = 0; cut < len; cut++) {
            copy.len[section] = cut;
            assert_int_not_equal(read_copy(&copy, &chunk_openssl), PSC_OK);
        }
        copy.len[section] = len;
    }
}

static void sections_of_another_chunk_are_noticed(void **state)
{
    (void)state;
    static struct copy copy, other;
    struct run r;
    struct chunk_writer w;
    struct chunk_sections out;
    make(&copy, &chunk_openssl);
    /* The same levels and data at other times. */
    run_init(&r, TABLE_COLUMNS_MAX, 1, 1);
    set(&r, 0, 1, SLAB, 0, 0, 1, 1);
    chunk_writer_init(&w, TABLE_COLUMNS_MAX, &chunk_openssl);
    for (unsigned i = 0; i < 2; i++) {
        r.at_us[0] += 1;
        out = round_trip(&w, &r, 1);
        struct copy *to = i == 0 ? &copy : &other;
        memcpy(to->bytes[0], out.head.data, to->len[0] = out.head.len);
        memcpy(to->bytes[1], out.levels.data, to->len[1] = out.levels.len);
        memcpy(to->bytes[2], out.data.data, to->len[2] = out.data.len);
        assert_int_equal(read_copy(to, &chunk_openssl), PSC_OK);
    }
    memcpy(copy.bytes[2], other.bytes[2], other.len[2]);
    assert_int_equal(copy.len[2], other.len[2]);
    assert_int_not_equal(read_copy(&copy, &chunk_openssl), PSC_OK);
    chunk_writer_fini(&w);
    run_fini(&r);
}

/* As if somebody had made the checksums fit. */
static void any_bytes_are_survived(void **state)
{
    (void)state;
    static struct copy copy;
    unsigned passed = 0, failed = 0;
    uint64_t seed = 88172645463325252u;
    make(&copy, &blind);
    const struct copy good = copy;
    assert_int_equal(read_copy(&copy, &blind), PSC_OK);
    for (unsigned i = 0; i < 40000; i++) {
        unsigned flips = 1 + i % 5;
        for (unsigned f = 0; f < flips; f++) {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            unsigned section = (unsigned)(seed >> 40) % SECTIONS;
            size_t at = (size_t)(seed >> 8 & 0xffffff) % copy.len[section];
            copy.bytes[section][at] = (uint8_t)seed;
        }
        int rc = read_copy(&copy, &blind);
        *(rc == PSC_OK ? &passed : &failed) += 1;
        copy = good;
    }
    print_message("%u read, %u refused\n", passed, failed);
    assert_true(passed > 0 && failed > 0);
}

static void a_digest_that_fails_is_told(void **state)
{
    (void)state;
    static struct copy copy;
    uint8_t boot[CHUNK_BOOT_BYTES] = {0};
    struct chunk_writer w;
    struct chunk_sections out;
    make(&copy, &chunk_openssl);
    assert_int_equal(read_copy(&copy, &broken), PSC_UNSUPPORTED);
    chunk_writer_init(&w, 1, &broken);
    assert_int_equal(chunk_writer_snapshot(&w, 0, 0, 0, boot), PSC_OK);
    assert_int_equal(chunk_writer_finish(&w, &out), PSC_UNSUPPORTED);
    chunk_writer_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(every_cut_is_noticed),
        cmocka_unit_test(sections_of_another_chunk_are_noticed),
        cmocka_unit_test(any_bytes_are_survived),
        cmocka_unit_test(a_digest_that_fails_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
