/* The chunk writer without memory: each allocation of writing a chunk fails in
 * turn, the chunk can be gone on with, and once all buffers have grown nothing
 * is allocated any more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>

#include "tests/lib/fault.h"
#include "tests/unit/chunk_pair.h"

#define POOL (TAG_ALLOCS | TAG_FREES | TAG_OUTSTANDING | TAG_BYTES)

static void make(struct run *r)
{
    run_init(r, TABLE_COLUMNS_MAX, 70, 200);
    for (uint32_t s = 0; s < r->snapshots; s++) {
        r->boots[s] = (uint8_t)(s / 20);
        for (uint32_t id = 1; id <= r->ids; id++) {
            if ((s + id) % 50 != 0) {
                int64_t v = (int64_t)id * (s / (1 + id % 9));
                set(r, s, id, POOL, 3 * v, 2 * v, v, 32 * v);
            }
        }
    }
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    struct run r;
    make(&r);
    unsigned long n = 1;
    for (bool done = false; !done; n++) {
        struct chunk_writer w;
        struct chunk_sections out;
        chunk_writer_init(&w, TABLE_COLUMNS_MAX, &chunk_openssl);
        fault_fail_at(n);
        int rc = feed(&w, &r, 30);
        if (rc == PSC_OK) {
            rc = chunk_writer_finish(&w, &out);
        }
        done = fault_allocations() < n;
        fault_fail_at(0);
        assert_int_equal(rc, done ? PSC_OK : PSC_NOMEM);
        if (done) {
            check_sections(&r, &out);
        }
        chunk_writer_fini(&w);
    }
    print_message("%lu allocations\n", n - 2);
    assert_true(n > 10);
    run_fini(&r);
}

/* Feed snapshot @s as a keyframe, and whatever fails once more. */
static void feed_stubbornly(struct chunk_writer *w, struct run *r, uint32_t s)
{
    const uint8_t boot[CHUNK_BOOT_BYTES] = {r->boots[s]};
    int rc;

    do {
        rc =
            chunk_writer_snapshot(w, r->n[s], r->at_us[s], r->wall_us[s], boot);
    } while (rc == PSC_NOMEM);
    assert_int_equal(rc, PSC_OK);
    chunk_writer_keyframe(w);
    for (uint32_t id = 1; id <= r->ids; id++) {
        const struct cell *c = cell(r, s, id);
        while (c->present && (rc = chunk_writer_put(w, id, c->flags,
                                                    c->values)) == PSC_NOMEM) {
        }
        assert_int_equal(rc, PSC_OK);
    }
}

static void what_failed_can_be_done_again(void **state)
{
    (void)state;
    struct run r;
    make(&r);
    for (unsigned long n = 1; n < 60; n++) {
        struct chunk_writer w;
        struct chunk_sections out;
        chunk_writer_init(&w, TABLE_COLUMNS_MAX, &chunk_openssl);
        fault_fail_at(n);
        for (uint32_t s = 0; s < r.snapshots; s++) {
            feed_stubbornly(&w, &r, s);
        }
        int rc = chunk_writer_finish(&w, &out);
        if (rc == PSC_NOMEM) {
            rc = chunk_writer_finish(&w, &out);
        }
        assert_int_equal(rc, PSC_OK);
        fault_fail_at(0);
        check_sections(&r, &out);
        chunk_writer_fini(&w);
    }
    run_fini(&r);
}

static bool no_sha256(const void *data, size_t len,
                      uint8_t out[CHUNK_DIGEST_BYTES])
{
    (void)data;
    (void)len;
    memset(out, 0, CHUNK_DIGEST_BYTES);
    return true;
}

static void a_steady_writer_allocates_nothing(void **state)
{
    (void)state;
    /* What OpenSSL allocates is its own affair. */
    static const struct chunk_digest none = {.sha256 = no_sha256};
    struct run r;
    struct chunk_writer w;
    struct chunk_sections out;
    make(&r);
    chunk_writer_init(&w, TABLE_COLUMNS_MAX, &none);
    for (unsigned i = 0; i < 3; i++) {
        fault_fail_at(0);
        assert_int_equal(feed(&w, &r, 30), PSC_OK);
        assert_int_equal(chunk_writer_finish(&w, &out), PSC_OK);
    }
    assert_int_equal(fault_allocations(), 0);
    chunk_writer_fini(&w);
    run_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(what_failed_can_be_done_again),
        cmocka_unit_test(a_steady_writer_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
