/* Allocation sites: version 1.0, 2.0 and the builds without a head. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "agent/allocinfo_linux.h"
#include "agent/sources_linux.h"
#include "tests/lib/source_run.h"

static const char DRM[] = "drivers/gpu/drm/drm_gem.c [drm] func:drm_gem_create";

static void allocinfo_refuses_what_is_no_site(void **state)
{
    (void)state;
    static const char *const LINES[] = {
        "",
        "allocinfo - version: 1.0",
        "#     <size>  <calls> <tag info>",
        "1 2",
        "1 2 a.c:x func:f",
        "1 2 :5 func:f",
        "1 2 a.c:5",
        "1 2 a.c:5 func:",
        "-1 2 a.c:5 func:f",
    };
    struct alloc_site site;
    for (size_t i = 0; i < sizeof(LINES) / sizeof(LINES[0]); i++) {
        assert_false(
            allocinfo_parse(text_of(LINES[i], strlen(LINES[i])), &site));
    }
}

static void expect_drm(const char *tree)
{
    struct source_run r;
    assert_int_equal(source_run_begin(&r, &source_allocinfo, tree, NULL), 0);
    assert_int_equal(source_run_collect(&r), 0);
    uint8_t flags;
    const int64_t *v = source_run_tag(&r, POOL_ALLOC, DRM, &flags);
    assert_non_null(v);
    assert_int_equal(v[COL_BYTES], 114688);
    assert_int_equal(v[COL_OUTSTANDING], 28);
    assert_int_equal(flags, TAG_OUTSTANDING | TAG_BYTES);
    assert_int_equal(r.sample.tags.n_live, 2);
    source_run_end(&r);
}

static void allocinfo_reads_every_version(void **state)
{
    (void)state;
    expect_drm("proc-linux-6.10-early");
    expect_drm("proc-linux-7.0");
}

static void allocinfo_sums_lines_of_a_function(void **state)
{
    (void)state;
    struct source_run r;
    assert_int_equal(
        source_run_begin(&r, &source_allocinfo, "proc-linux-6.12", NULL), 0);
    assert_int_equal(source_run_collect(&r), 0);
    const int64_t *v =
        source_run_tag(&r, POOL_ALLOC,
                       "drivers/net/ethernet/intel/ice/ice_txrx.c [ice] "
                       "func:ice_setup_rx_ring",
                       NULL);
    assert_non_null(v);
    assert_int_equal(v[COL_OUTSTANDING], 528);
    assert_int_equal(v[COL_BYTES], 4194304 + 131072);
    assert_null(
        source_run_tag(&r, POOL_ALLOC, "init/main.c func:do_initcalls", NULL));
    source_run_end(&r);
}

static void allocinfo_says_which_kernel_has_it(void **state)
{
    (void)state;
    struct source_run r;
    assert_int_equal(
        source_run_begin(&r, &source_allocinfo, "proc-linux-5.15", NULL),
        PSC_MISSING);
    assert_non_null(strstr(r.err.msg, "CONFIG_MEM_ALLOC_PROFILING"));
    source_run_end(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocinfo_refuses_what_is_no_site),
        cmocka_unit_test(allocinfo_reads_every_version),
        cmocka_unit_test(allocinfo_sums_lines_of_a_function),
        cmocka_unit_test(allocinfo_says_which_kernel_has_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
