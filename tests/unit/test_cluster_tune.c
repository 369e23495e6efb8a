/* How much memory and disk the embedded server takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sql/cluster_tune.h"

#define GIB (UINT64_C(1) << 30)

static void shares_are_bounded(void **state)
{
    (void)state;
    static const struct {
        uint64_t memory, disk;
        unsigned buffers_mb, max_wal_mb;
    } cases[] = {
        {0, 0, 64, 512},
        {GIB / 2, 10 * GIB, 64, 512},
        {2 * GIB, 100 * GIB, 128, 512},
        {8 * GIB, 100 * GIB, 512, 2048},
        {24 * GIB, 1000 * GIB, 1536, 6144},
        {24 * GIB, 16 * GIB, 1536, 1024}, /* a small disk */
        {1024 * GIB, 4096 * GIB, 2048, 8192},
        {UINT64_MAX, UINT64_MAX, 2048, 8192},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cluster_tuning t = cluster_tune(cases[i].memory, cases[i].disk);
        assert_int_equal(t.shared_buffers_mb, cases[i].buffers_mb);
        assert_int_equal(t.max_wal_mb, cases[i].max_wal_mb);
        assert_int_equal(t.min_wal_mb, cases[i].max_wal_mb / 8);
    }
}

static void the_machine_is_known(void **state)
{
    (void)state;
    assert_true(cluster_memory_bytes() > GIB / 16);
    assert_true(cluster_disk_bytes("/") > 0);
    assert_int_equal(cluster_disk_bytes("/no such path"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_are_bounded),
        cmocka_unit_test(the_machine_is_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
