/* Rows into chunks: what does not fit, damage, and memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "collector/settle_pack.h"
#include "common/clock.h"
#include "tests/lib/fault.h"
#include "tests/lib/fresh.h"

enum { TAGS = 60, ROWS = 50, DAMAGED = 4000 };

#define HOUR_US (3600 * PSC_US_PER_S)

/* A row, to be packed again and again. */
struct kept {
    bool keyframe;
    struct psc_buf data;
};

static struct settle_row row_of(const struct kept *k, int64_t n)
{
    static const uint8_t boot[16];
    return (struct settle_row){.n = n,
                               .at_us = n * PSC_US_PER_S,
                               .wall_us = n * PSC_US_PER_S,
                               .boot = boot,
                               .keyframe = k->keyframe,
                               .data = psc_buf_bytes(&k->data)};
}

static void keep(struct kept *k, struct fresh_table *t, int64_t n,
                 bool keyframe)
{
    k->keyframe = fresh_pack(t, n * PSC_US_PER_S, keyframe);
    psc_buf_init(&k->data, 1 << 24);
    psc_buf_append(&k->data, t->data.data, t->data.len);
    assert_int_equal(psc_buf_error(&k->data), PSC_OK);
}

static void make_rows(struct kept rows[ROWS])
{
    struct fresh_host h;
    fresh_host_init(&h, 1, TAGS, 1, false);
    for (int i = 0; i < ROWS; i++) {
        for (int t = 0; t < TAGS; t++) {
            struct fresh_cell *c = &h.tags.now[t];
            c->flags = TAG_BYTES;
            if ((i + t) % 3 == 0) {
                c->present = (i + t) % 21 != 0;
                c->values[COL_BYTES] = c->present ? rand() % 100000 : 0;
            }
        }
        keep(&rows[i], &h.tags, i + 1, i == 30);
    }
    fresh_host_fini(&h);
}

static void free_rows(struct kept rows[ROWS])
{
    for (int i = 0; i < ROWS; i++) {
        psc_buf_fini(&rows[i].data);
    }
}

static int pack(struct settle_pack *p, const struct kept rows[ROWS])
{
    int rc = PSC_OK;
    settle_pack_begin(p, HOUR_US);
    for (int i = 0; rc == PSC_OK && i < ROWS; i++) {
        struct settle_row row = row_of(&rows[i], i + 1);
        rc = settle_pack_row(p, &row, NULL);
    }
    return rc == PSC_OK ? settle_pack_cut(p, NULL) : rc;
}

/* More entries than a chunk may have: nearly each row has others. */
static void too_many_entries_begin_another_chunk(void **state)
{
    (void)state;
    enum { IDS = 100000, PART = 20000 };
    struct fresh_host h;
    struct settle_pack p;
    fresh_host_init(&h, 1, IDS, 1, false);
    settle_pack_init(&p, TABLE_COLUMNS_MAX, IDS);
    settle_pack_begin(&p, HOUR_US);
    for (int i = 0; i < IDS / PART; i++) {
        struct kept k;
        for (int t = 0; t < IDS; t++) {
            h.tags.now[t] = (struct fresh_cell){.present = t / PART == i,
                                                .flags = TAG_BYTES};
        }
        keep(&k, &h.tags, i + 1, true);
        struct settle_row row = row_of(&k, i + 1);
        assert_int_equal(settle_pack_row(&p, &row, NULL), PSC_OK);
        psc_buf_fini(&k.data);
    }
    assert_int_equal(settle_pack_cut(&p, NULL), PSC_OK);
    assert_int_equal(p.n_chunks, 2);
    assert_int_equal(p.n_snapshots, IDS / PART);
    assert_int_equal(p.n_from, 4);
    assert_int_equal(p.n_to, 5);
    settle_pack_fini(&p);
    fresh_host_fini(&h);
}

static void the_first_row_is_a_keyframe(void **state)
{
    (void)state;
    struct kept rows[ROWS];
    struct settle_pack p;
    make_rows(rows);
    settle_pack_init(&p, TABLE_COLUMNS_MAX, TAGS + 1);
    settle_pack_begin(&p, HOUR_US);
    struct settle_row row = row_of(&rows[1], 2);
    assert_int_equal(settle_pack_row(&p, &row, NULL), PSC_NEED_KEYFRAME);
    free_rows(rows);
    settle_pack_fini(&p);
}

static void ids_are_noted(void **state)
{
    (void)state;
    struct kept rows[ROWS];
    struct settle_pack p;
    make_rows(rows);
    settle_pack_init(&p, TABLE_COLUMNS_MAX, TAGS + 1);
    assert_int_equal(pack(&p, rows), PSC_OK);
    assert_true(p.cap_seen >= 1);
    assert_int_equal(p.seen[0] & 1, 0); /* nobody's entry */
    /* Of the first row, in which every third is present but one in 21. */
    for (uint32_t id = 1; id <= TAGS; id++) {
        bool first = (id - 1) % 3 == 0 && (id - 1) % 21 != 0;
        assert_int_equal(p.seen[id / 64] >> id % 64 & 1, first);
    }
    free_rows(rows);
    settle_pack_fini(&p);
}

static void damage_is_told(void **state)
{
    (void)state;
    struct kept rows[ROWS];
    struct settle_pack p;
    unsigned n_bad = 0;
    make_rows(rows);
    settle_pack_init(&p, TABLE_COLUMNS_MAX, TAGS + 1);
    for (int i = 0; i < DAMAGED; i++) {
        struct psc_buf *b = &rows[rand() % ROWS].data;
        uint8_t *byte = &b->data[(size_t)rand() % b->len];
        uint8_t was = *byte;
        size_t len = b->len;
        *byte = (uint8_t)rand();
        b->len -= rand() % 4 == 0 ? (size_t)rand() % b->len : 0;
        int rc = pack(&p, rows);
        assert_true(rc == PSC_OK || rc == PSC_FORMAT || rc == PSC_LIMIT ||
                    rc == PSC_UNSUPPORTED);
        n_bad += rc != PSC_OK;
        *byte = was;
        b->len = len;
    }
    assert_true(n_bad > DAMAGED / 4);
    assert_int_equal(pack(&p, rows), PSC_OK);
    free_rows(rows);
    settle_pack_fini(&p);
}

static void out_of_memory_is_survived(void **state)
{
    (void)state;
    struct kept rows[ROWS];
    bool done = false;
    unsigned long n;
    make_rows(rows);
    for (n = 1; !done; n++) {
        struct settle_pack p;
        settle_pack_init(&p, TABLE_COLUMNS_MAX, TAGS + 1);
        fault_fail_at(n);
        int rc = pack(&p, rows);
        done = fault_allocations() < n;
        fault_fail_at(0);
        assert_int_equal(rc, done ? PSC_OK : PSC_NOMEM);
        assert_int_equal(pack(&p, rows), PSC_OK);
        assert_int_equal(p.n_snapshots, ROWS);
        settle_pack_fini(&p);
    }
    assert_true(n > 20);
    free_rows(rows);
}

static void a_steady_packer_allocates_nothing(void **state)
{
    (void)state;
    struct kept rows[ROWS];
    struct settle_pack p;
    make_rows(rows);
    settle_pack_init(&p, TABLE_COLUMNS_MAX, TAGS + 1);
    for (int i = 0; i < 3; i++) {
        fault_fail_at(0);
        assert_int_equal(pack(&p, rows), PSC_OK);
    }
    assert_int_equal(fault_allocations(), 0);
    free_rows(rows);
    settle_pack_fini(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(too_many_entries_begin_another_chunk),
        cmocka_unit_test(the_first_row_is_a_keyframe),
        cmocka_unit_test(ids_are_noted),
        cmocka_unit_test(damage_is_told),
        cmocka_unit_test(out_of_memory_is_survived),
        cmocka_unit_test(a_steady_packer_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
