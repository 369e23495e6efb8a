/* Tables as the fresh tier keeps them: what is written is what is read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "proto/stored.h"

#define SLAB (TAG_OUTSTANDING | TAG_BYTES)
#define B(text)                                                                \
    {                                                                          \
        (const uint8_t *)(text), sizeof(text) - 1                              \
    }

struct fixture {
    struct grid grid;
    struct grid_changes changes;
    struct psc_buf row;
};

static void start(struct fixture *f)
{
    grid_init(&f->grid, TABLE_COLUMNS_MAX, 8, NULL);
    grid_changes_init(&f->changes, NULL);
    psc_buf_init(&f->row, 1 << 16);
}

static void stop(struct fixture *f)
{
    grid_fini(&f->grid);
    grid_changes_fini(&f->changes);
    psc_buf_fini(&f->row);
}

static int apply(struct fixture *f, bool keyframe)
{
    struct psc_error err;
    assert_int_equal(psc_buf_error(&f->row), PSC_OK);
    return stored_apply(&f->grid, psc_buf_bytes(&f->row), keyframe, &f->changes,
                        &err);
}

/* Entries 7 (320 outstanding, 5 pages) and 9 (42; 1 page). */
static void put_keyframe(struct fixture *f)
{
    static const struct grid_part part = {
        .gaps = B("\x1c\x00\x00"),
        .values = B("\x80\x05\x15\x54\x05"),
    };
    psc_buf_reset(&f->row);
    stored_begin(&f->row, 2);
    stored_name(&f->row, SLAB, 7);
    stored_name(&f->row, SLAB, 9);
    stored_numbers(&f->row, &part);
}

static void a_keyframe_and_a_delta_are_read(void **state)
{
    (void)state;
    struct fixture f;
    start(&f);
    put_keyframe(&f);
    assert_int_equal(apply(&f, true), PSC_OK);
    assert_int_equal(f.grid.n, 2);
    assert_int_equal(f.grid.entries[1].ref, 9);
    assert_int_equal(grid_values(&f.grid, 0)[COL_OUTSTANDING], 320);
    assert_int_equal(grid_values(&f.grid, 1)[COL_BYTES], 4096);
    static const struct grid_part part = {
        .gone = B("\x00"),
        .gaps = B("\x0c\x05\x03"),
        .values = B("\x03\x2a\x90\x83\x02"),
    };
    psc_buf_reset(&f.row);
    stored_begin(&f.row, 1);
    stored_name(&f.row, SLAB | ENTRY_RECLAIMABLE, 300);
    stored_numbers(&f.row, &part);
    assert_int_equal(apply(&f, false), PSC_OK);
    assert_int_equal(f.grid.n, 3);
    assert_int_equal(f.grid.n_live, 2);
    assert_int_equal(f.changes.n_gone, 1);
    assert_int_equal(f.changes.n_changed, 2);
    assert_int_equal(grid_values(&f.grid, 1)[COL_OUTSTANDING], 40);
    assert_int_equal(grid_values(&f.grid, 2)[COL_BYTES], 8292);
    stop(&f);
}

static void a_delta_needs_a_keyframe_before_it(void **state)
{
    (void)state;
    struct fixture f;
    start(&f);
    put_keyframe(&f);
    assert_int_equal(apply(&f, false), PSC_NEED_KEYFRAME);
    assert_int_equal(apply(&f, true), PSC_OK);
    f.row.data[0] = 2;
    assert_int_equal(apply(&f, true), PSC_UNSUPPORTED);
    f.row.data[0] = STORED_VERSION;
    assert_int_equal(apply(&f, false), PSC_NEED_KEYFRAME);
    stop(&f);
}

static void a_row_cut_anywhere_is_damage(void **state)
{
    (void)state;
    struct fixture f;
    start(&f);
    put_keyframe(&f);
    size_t whole = f.row.len;
    for (size_t len = 0; len < whole; len++) {
        f.row.len = len;
        assert_int_equal(apply(&f, true), PSC_FORMAT);
        assert_false(f.grid.complete);
    }
    f.row.len = whole;
    assert_int_equal(apply(&f, true), PSC_OK);
    stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_keyframe_and_a_delta_are_read),
        cmocka_unit_test(a_delta_needs_a_keyframe_before_it),
        cmocka_unit_test(a_row_cut_anywhere_is_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
