/* Tables as the fresh tier keeps them: what is written is what is read, also
 * when rows are stated anew in between; damage and want of memory are told,
 * and forgotten at the next keyframe. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "proto/stored.h"
#include "tests/unit/table_pair.h"

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

/* Memory that fails at the n-th time it is asked for; 0: never. */
static unsigned fail_at, n_asked;

static void *resize(void *memory, size_t bytes)
{
    if (bytes == 0) {
        free(memory);
        return NULL;
    }
    return ++n_asked == fail_at ? NULL : realloc(memory, bytes);
}

static void init(struct fixture *f, uint32_t columns)
{
    grid_init(&f->grid, columns, MAX_ENTRIES, resize);
    grid_changes_init(&f->changes, resize);
    psc_buf_init(&f->row, 1 << 20);
}

static void fini(struct fixture *f)
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
    init(&f, TABLE_COLUMNS_MAX);
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
    fini(&f);
}

/* Outstanding alone changes of entry 9: nothing that is kept. */
static void a_grid_may_keep_one_column(void **state)
{
    (void)state;
    struct fixture f;
    init(&f, TABLE_COLUMNS_MAX);
    grid_init_only(&f.grid, TABLE_COLUMNS_MAX, COL_BYTES, MAX_ENTRIES, resize);
    put_keyframe(&f);
    assert_int_equal(apply(&f, true), PSC_OK);
    assert_int_equal(f.changes.n_changed, 2);
    assert_int_equal(*grid_values(&f.grid, 0), 5 * 4096);
    assert_int_equal(*grid_values(&f.grid, 1), 4096);
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
    assert_int_equal(f.changes.n_gone, 1);
    assert_int_equal(f.changes.n_changed, 1);
    assert_int_equal(f.changes.changed[0], 2);
    assert_int_equal(*grid_values(&f.grid, 0), 0);
    assert_int_equal(*grid_values(&f.grid, 1), 4096);
    assert_int_equal(*grid_values(&f.grid, 2), 8292);
    fini(&f);
}

static void a_delta_needs_a_keyframe_before_it(void **state)
{
    (void)state;
    struct fixture f;
    init(&f, TABLE_COLUMNS_MAX);
    put_keyframe(&f);
    assert_int_equal(apply(&f, false), PSC_NEED_KEYFRAME);
    assert_int_equal(apply(&f, true), PSC_OK);
    f.row.data[0] = 2;
    assert_int_equal(apply(&f, true), PSC_UNSUPPORTED);
    f.row.data[0] = STORED_VERSION;
    assert_int_equal(apply(&f, false), PSC_NEED_KEYFRAME);
    fini(&f);
}

static void a_row_cut_anywhere_is_damage(void **state)
{
    (void)state;
    struct fixture f;
    init(&f, TABLE_COLUMNS_MAX);
    put_keyframe(&f);
    size_t whole = f.row.len;
    for (size_t len = 0; len < whole; len++) {
        f.row.len = len;
        assert_int_equal(apply(&f, true), PSC_FORMAT);
        assert_false(f.grid.complete);
    }
    f.row.len = whole;
    assert_int_equal(apply(&f, true), PSC_OK);
    fini(&f);
}

static void names_are_bounded(void **state)
{
    (void)state;
    static const struct grid_part nothing = {.gone = {NULL, 0}};
    struct fixture f;
    init(&f, 1);
    f.grid.max = 2;
    psc_buf_reset(&f.row);
    stored_begin(&f.row, 3);
    for (uint32_t i = 1; i <= 3; i++) {
        stored_name(&f.row, 0, i);
    }
    stored_numbers(&f.row, &nothing);
    assert_int_equal(apply(&f, true), PSC_FORMAT);
    f.grid.max = 3;
    assert_int_equal(apply(&f, true), PSC_OK);
    psc_buf_reset(&f.row);
    stored_begin(&f.row, 1);
    stored_name(&f.row, 0, (uint32_t)INT32_MAX + 1);
    stored_numbers(&f.row, &nothing);
    assert_int_equal(apply(&f, true), PSC_FORMAT);
    psc_buf_reset(&f.row);
    stored_begin(&f.row, UINT32_MAX);
    stored_name(&f.row, 0, 1);
    assert_int_equal(apply(&f, true), PSC_FORMAT);
    fini(&f);
}

static void want_of_memory_is_survived(void **state)
{
    (void)state;
    struct fixture f;
    init(&f, TABLE_COLUMNS_MAX);
    int rc = PSC_NOMEM;
    for (unsigned n = 1; rc != PSC_OK; n++) {
        fini(&f);
        init(&f, TABLE_COLUMNS_MAX);
        put_keyframe(&f);
        fail_at = n;
        n_asked = 0;
        rc = apply(&f, true);
        fail_at = 0;
        assert_int_equal(rc, n <= 4 ? PSC_NOMEM : PSC_OK);
        assert_int_equal(f.grid.complete, rc == PSC_OK);
        assert_int_equal(apply(&f, true), PSC_OK);
        assert_int_equal(f.grid.n_live, 2);
    }
    fini(&f);
}

/* ---- at random ---- */

static uint64_t seed;

static uint32_t any(uint32_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 32) % below;
}

static void random_sample(struct table *t, uint32_t base)
{
    table_begin(t);
    for (uint32_t key = base; key < base + 60; key++) {
        if (any(20) == 0) {
            continue;
        }
        uint32_t i = psc_map_find(&t->names, &key, sizeof(key));
        int64_t row[TABLE_COLUMNS_MAX] = {0};
        for (unsigned c = 0; c < t->columns; c++) {
            int64_t v = i != PSC_MAP_NONE ? table_values(t, i)[c] : 0;
            uint32_t how = any(6);
            row[c] = how == 0 ? (int64_t)((uint64_t)any(UINT32_MAX) << any(33))
                     : how == 1
                         ? (int64_t)((uint64_t)v + (uint64_t)any(9) * 4096)
                         : v;
        }
        assert_int_equal(
            table_put(t, 0, &key, sizeof(key), (uint8_t)(key * 7 % 64), row),
            PSC_OK);
    }
}

/* Write the row of the last part, or of the whole grid that a session has. */
static void write_row(struct fixture *f, const struct decoded *had,
                      const struct columns *in, bool anew, uint32_t known)
{
    struct psc_buf gaps, values;
    struct grid_part part = {in->gone, in->gaps, in->values};
    psc_buf_init(&gaps, 1 << 20);
    psc_buf_init(&values, 1 << 20);
    if (anew) {
        grid_pack(&had->grid, NULL, &gaps, &values);
        part = (struct grid_part){.gaps = psc_buf_bytes(&gaps),
                                  .values = psc_buf_bytes(&values)};
        known = 0;
    }
    psc_buf_reset(&f->row);
    stored_begin(&f->row, had->grid.n - known);
    for (uint32_t i = known; i < had->grid.n; i++) {
        stored_name(&f->row, had->grid.entries[i].flags, i + 1);
    }
    stored_numbers(&f->row, &part);
    psc_buf_fini(&gaps);
    psc_buf_fini(&values);
}

static void assert_same_grid(const struct grid *a, const struct grid *b)
{
    assert_int_equal(a->n, b->n);
    assert_int_equal(a->n_live, b->n_live);
    for (uint32_t i = 0; i < a->n; i++) {
        assert_int_equal(b->entries[i].ref, i + 1);
        assert_int_equal(a->entries[i].flags, b->entries[i].flags);
        assert_int_equal(a->entries[i].live, b->entries[i].live);
        assert_memory_equal(grid_values(a, i), grid_values(b, i),
                            a->columns * sizeof(int64_t));
    }
}

/* A sample; returns how many rows of it were damaged on the way. */
static unsigned random_row(struct fixture *f, struct pair *p, unsigned tick)
{
    random_sample(&p->from, tick / 40);
    uint32_t known = p->to.grid.n;
    int rc = any(60) == 0 ? -PSC_NEED_KEYFRAME : send(p, false, BUDGET);
    bool keyframe = rc < 0;
    if (keyframe) {
        assert_int_equal(send(p, true, BUDGET), 1);
        known = 0;
    }
    bool damaged = any(30) == 0;
    bool anew = !f->grid.complete || any(15) == 0;
    write_row(f, &p->to, &p->last, anew, known);
    if (damaged && f->row.len > 0) {
        f->row.data[any((uint32_t)f->row.len)] ^= (uint8_t)(1u << any(8));
        rc = apply(f, keyframe || anew);
        assert_int_equal(f->grid.complete, rc == PSC_OK);
        write_row(f, &p->to, &p->last, true, 0);
        anew = true;
    }
    assert_int_equal(apply(f, keyframe || anew), PSC_OK);
    assert_same_grid(&p->to.grid, &f->grid);
    return damaged;
}

static void run_random(uint32_t columns)
{
    struct fixture f;
    struct pair p;
    unsigned damaged = 0;
    init(&f, columns);
    start(&p, columns);
    for (unsigned tick = 0; tick < 3000; tick++) {
        damaged += random_row(&f, &p, tick);
    }
    assert_true(damaged > 50);
    stop(&p);
    fini(&f);
}

static void readers_follow_what_was_sent(void **state)
{
    (void)state;
    seed = 88172645463325252u;
    run_random(TABLE_COLUMNS_MAX);
    run_random(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_keyframe_and_a_delta_are_read),
        cmocka_unit_test(a_grid_may_keep_one_column),
        cmocka_unit_test(a_delta_needs_a_keyframe_before_it),
        cmocka_unit_test(a_row_cut_anywhere_is_damage),
        cmocka_unit_test(names_are_bounded),
        cmocka_unit_test(want_of_memory_is_survived),
        cmocka_unit_test(readers_follow_what_was_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
