/* The arithmetic of a leak test: which tags an object grows, and what is due
 * when. */
/* cmocka.h needs these first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "cli/leaktest_plan.h"
#include "common/clock.h"

#define OBJECTS 1000LL

/* Readings of a machine on which @tag holds bytes[i] at the i-th. */
static void put(struct reading r[LEAK_READINGS], enum pool pool,
                const char *tag, const int64_t bytes[LEAK_READINGS])
{
    for (int i = 0; i < LEAK_READINGS; i++) {
        struct reading_tag values = {.flags = TAG_BYTES, .bytes = bytes[i]};
        assert_int_equal(reading_put(&r[i], pool, tag, strlen(tag), &values),
                         0);
    }
}

/* Bytes that grow by @idle in each idle half of a round and by @busy in each
 * other half. */
static void put_steady(struct reading r[LEAK_READINGS], enum pool pool,
                       const char *tag, int64_t idle, int64_t busy)
{
    int64_t bytes[LEAK_READINGS] = {1000000};

    for (int i = 1; i < LEAK_READINGS; i++) {
        bytes[i] = bytes[i - 1] + (i % 2 == 1 ? idle : busy);
    }
    put(r, pool, tag, bytes);
}

static int setup(void **state)
{
    static struct reading r[LEAK_READINGS];

    for (int i = 0; i < LEAK_READINGS; i++) {
        reading_init(&r[i]);
    }
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    struct reading *r = *state;

    for (int i = 0; i < LEAK_READINGS; i++) {
        reading_fini(&r[i]);
    }
    return 0;
}

static void leaktest_finds_what_grows_with_objects(void **state)
{
    struct reading *r = *state;
    struct leak_plan plan;
    struct psc_error err;

    put_steady(r, POOL_SLAB, "filp", 0, 192 * OBJECTS);
    put_steady(r, POOL_SLAB, "dentry", 5000, 192 * OBJECTS + 5000);
    put_steady(r, POOL_SLAB, "kmalloc-64", 0, 64 * OBJECTS);
    put_steady(r, POOL_SLAB, "busy", 300000, 300000);
    put_steady(r, POOL_SLAB, "tiny", 0, OBJECTS);
    put_steady(r, POOL_PAGES, "unaccounted", 0, 900 * OBJECTS);
    put_steady(r, POOL_ALLOC, "fs/file.c:alloc", 0, 256 * OBJECTS);
    const int64_t once[LEAK_READINGS] = {
        0, 0, 0, 0, 9000000, 9000000, 9000000, 9000000, 9000000};
    put(r, POOL_SLAB, "burst", once);
    assert_int_equal(leak_plan_measure(&plan, r, OBJECTS, false, &err), 0);
    assert_int_equal(plan.n_shares, 4);
    assert_true(fabs(plan.object_bytes - 448) < 0.01);
    assert_true(fabs(plan.shares[0].object_bytes - 192) < 0.01);
    assert_string_equal(plan.shares[2].tag, "kmalloc-64");
    assert_true(fabs(plan.shares[2].share - 64.0 / 448) < 0.001);
    assert_string_equal(plan.shares[3].tag, "fs/file.c:alloc");
    assert_false(plan.shares[3].counted);
}

static void leaktest_counts_residual_only_when_asked(void **state)
{
    struct reading *r = *state;
    struct leak_plan plan;
    struct psc_error err;

    put_steady(r, POOL_PAGES, "unaccounted", 0, 4096 * OBJECTS);
    assert_int_equal(leak_plan_measure(&plan, r, OBJECTS, false, &err),
                     PSC_FORMAT);
    assert_int_equal(leak_plan_measure(&plan, r, OBJECTS, true, &err), 0);
    assert_int_equal(plan.n_shares, 1);
    assert_int_equal(leak_plan_held(&plan, &r[0]), 1000000);
}

static void leaktest_survives_one_bad_round(void **state)
{
    struct reading *r = *state;
    struct leak_plan plan;
    struct psc_error err;
    int64_t bytes[LEAK_READINGS] = {0};

    for (int i = 1; i < LEAK_READINGS; i++) {
        bytes[i] = bytes[i - 1] + (i % 2 == 1 ? 0 : 200 * OBJECTS);
    }
    for (int i = 5; i < LEAK_READINGS; i++) {
        bytes[i] += 50000000; /* something else, in an idle half */
    }
    put(r, POOL_SLAB, "filp", bytes);
    assert_int_equal(leak_plan_measure(&plan, r, OBJECTS, false, &err), 0);
    assert_true(fabs(plan.object_bytes - 200) < 0.01);
}

static void leaktest_counts_objects_where_pages_lag(void **state)
{
    struct reading *r = *state;
    struct leak_plan plan;
    struct psc_error err;

    for (int i = 0; i < LEAK_READINGS; i++) {
        struct reading_tag tag = {.flags = TAG_BYTES | TAG_OUTSTANDING,
                                  .bytes = 90000000, /* filled from within */
                                  .outstanding = 50000 + i / 2 * OBJECTS,
                                  .slot_bytes = 195,
                                  .free_slots = 200};
        assert_int_equal(reading_put(&r[i], POOL_SLAB, "dentry", 6, &tag), 0);
    }
    assert_int_equal(leak_plan_measure(&plan, r, OBJECTS, false, &err), 0);
    assert_true(fabs(plan.object_bytes - 195) < 0.01);
    leak_share_note_free(&plan.shares[0], &r[0]);
    assert_int_equal(plan.shares[0].free_bytes, 39000);
}

static void leaktest_due_never_drifts(void **state)
{
    struct leak_plan plan = {.object_bytes = 488};
    (void)state;
    assert_int_equal(leak_plan_due(&plan, 262144, 0, INT64_MAX), 0);
    assert_int_equal(leak_plan_due(&plan, 262144, -5, INT64_MAX), 0);
    assert_int_equal(leak_plan_due(&plan, 262144, 60 * PSC_US_PER_S, INT64_MAX),
                     262144LL * 60 / 488);
    assert_int_equal(leak_plan_due(&plan, 262144, 60 * PSC_US_PER_S, 1000),
                     1000);
    assert_int_equal(leak_plan_due(&plan, INT64_MAX, INT64_MAX, 7), 7);
}

static void leaktest_ceiling_bounds_limit(void **state)
{
    struct psc_error err;
    int64_t limit = 0;
    (void)state;
    assert_int_equal(leak_ceiling(1000000000, 25, &limit, &err), 0);
    assert_int_equal(limit, 250000000);
    limit = 5000;
    assert_int_equal(leak_ceiling(1000000000, 25, &limit, &err), 0);
    assert_int_equal(limit, 5000);
    limit = 250000001;
    assert_int_equal(leak_ceiling(1000000000, 25, &limit, &err), PSC_CONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(leaktest_finds_what_grows_with_objects,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            leaktest_counts_residual_only_when_asked, setup, teardown),
        cmocka_unit_test_setup_teardown(leaktest_survives_one_bad_round, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(leaktest_counts_objects_where_pages_lag,
                                        setup, teardown),
        cmocka_unit_test(leaktest_due_never_drifts),
        cmocka_unit_test(leaktest_ceiling_bounds_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
