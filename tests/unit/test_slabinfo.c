/* Slab caches: both allocators' rows, names folded, bytes are pages held. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/stat.h>

#include "agent/slabinfo_linux.h"
#include "agent/sources_linux.h"
#include "tests/lib/source_run.h"
#include "tests/lib/temp.h"

static void slabinfo_parses_a_row(void **state)
{
    (void)state;
    static const char LINE[] =
        "radix tree node    100    112    560    7    1 : tunables   54   27 "
        "   8 : slabdata     15     16      0 : globalstat 1 2 3";
    struct slab_row row;
    assert_true(slabinfo_parse(text_of(LINE, strlen(LINE)), &row));
    assert_true(text_equal(&row.name, "radix tree node"));
    assert_int_equal(row.active_objs, 100);
    assert_int_equal(row.num_objs, 112);
    assert_int_equal(row.pages_per_slab, 1);
    assert_int_equal(row.active_slabs, 15);
    assert_int_equal(row.num_slabs, 16);
}

static void slabinfo_refuses_what_is_no_row(void **state)
{
    (void)state;
    static const char *const LINES[] = {
        "",
        "slabinfo - version: 2.1",
        "# name <active_objs> : tunables <limit> : slabdata <active_slabs>",
        "a 1 2 3 4 : tunables 0 0 0 : slabdata 1 1 0",
        "1 2 3 4 5 : tunables 0 0 0 : slabdata 1 1 0",
        "a 1 2 3 4 5 : tunables 0 0 0 : slabdata",
        "a 1 2 3 4 99999999999999999999999 : tunables 0 : slabdata 1 1 0",
    };
    struct slab_row row;
    for (size_t i = 0; i < sizeof(LINES) / sizeof(LINES[0]); i++) {
        assert_false(slabinfo_parse(text_of(LINES[i], strlen(LINES[i])), &row));
    }
}

static void slab_names_fold(void **state)
{
    (void)state;
    static const char *const NAMES[][2] = {
        {"size-64", "kmalloc-64"},
        {"size-64(DMA)", "dma-kmalloc-64"},
        {"size-131072", "kmalloc-128k"},
        {"size-x", "size-x"},
        {"kmalloc-1024", "kmalloc-1k"},
        {"kmalloc-cg-4096", "kmalloc-cg-4k"},
        {"kmalloc-8k", "kmalloc-8k"},
        {"kmalloc-2097152", "kmalloc-2M"},
        {"kmalloc-rnd-14-192", "kmalloc-rnd-192"},
        {"kmalloc-rnd-01-2k", "kmalloc-rnd-2k"},
        {"kmalloc-rcl-96", "kmalloc-rcl-96"},
        {"dma-kmalloc-512", "dma-kmalloc-512"},
        {"nf_conntrack_ffffffff818b9000", "nf_conntrack"},
        {"nf_conntrack", "nf_conntrack"},
        {"pid_3", "pid"},
        {"pid_namespace", "pid_namespace"},
        {"bio_deadbee", "bio_deadbee"},
        {"iwl_cmd_pool:0000:04:00.0", "iwl_cmd_pool"},
        {"dentry(881:sshd.service)", "dentry"},
        {"odd(name)", "odd(name)"},
        {"a\\b\x7f", "a\\x5Cb\\x7F"},
        {"_ffffffff818b9000", "_ffffffff818b9000"},
    };
    for (size_t i = 0; i < sizeof(NAMES) / sizeof(NAMES[0]); i++) {
        char text[128];
        struct text_out out = {text, 0, sizeof(text) - 1};
        slab_name_fold(text_of(NAMES[i][0], strlen(NAMES[i][0])), &out);
        text[out.len] = '\0';
        assert_string_equal(text, NAMES[i][1]);
    }
}

static void slabinfo_sums_what_folds_alike(void **state)
{
    (void)state;
    struct source_run r;
    assert_int_equal(
        source_run_begin(&r, &source_slabinfo, "proc-linux-6.12", NULL), 0);
    assert_int_equal(source_run_collect(&r), 0);
    uint8_t flags;
    const int64_t *v = source_run_tag(&r, POOL_SLAB, "kmalloc-rnd-192", &flags);
    assert_non_null(v);
    assert_int_equal(v[COL_OUTSTANDING], 300);
    assert_int_equal(v[COL_BYTES], (10 + 5) * 4096);
    assert_int_equal(flags, TAG_OUTSTANDING | TAG_BYTES);
    v = source_run_tag(&r, POOL_SLAB, "nf_conntrack", NULL);
    assert_non_null(v);
    assert_int_equal(v[COL_OUTSTANDING], 322);
    source_run_end(&r);
}

static void slabinfo_asks_which_are_reclaimable(void **state)
{
    (void)state;
    struct source_run r;
    assert_int_equal(
        source_run_begin(&r, &source_slabinfo, "proc-linux-6.12", NULL), 0);
    assert_int_equal(source_run_collect(&r), 0);
    uint8_t flags;
    assert_non_null(source_run_tag(&r, POOL_SLAB, "dentry", &flags));
    assert_true(flags & ENTRY_RECLAIMABLE);
    assert_non_null(source_run_tag(&r, POOL_SLAB, "L2TP/IP", &flags));
    assert_true(flags & ENTRY_RECLAIMABLE);
    assert_non_null(source_run_tag(&r, POOL_SLAB, "filp", &flags));
    assert_false(flags & ENTRY_RECLAIMABLE);
    source_run_end(&r);
}

static void slabinfo_reads_the_old_allocator(void **state)
{
    (void)state;
    struct source_run r;
    assert_int_equal(
        source_run_begin(&r, &source_slabinfo, "proc-linux-2.6.32", NULL), 0);
    assert_int_equal(source_run_collect(&r), 0);
    uint8_t flags;
    const int64_t *v = source_run_tag(&r, POOL_SLAB, "dentry", &flags);
    assert_non_null(v);
    assert_int_equal(v[COL_BYTES], 77160 / 20 * 4096);
    assert_true(flags & ENTRY_RECLAIMABLE);
    assert_non_null(source_run_tag(&r, POOL_SLAB, "kmalloc-4k", NULL));
    assert_non_null(source_run_tag(&r, POOL_SLAB, "dma-kmalloc-64", NULL));
    source_run_end(&r);
}

static void slabinfo_tells_of_large_allocations(void **state)
{
    (void)state;
    const char *root = temp_dir();
    const char *proc = temp_path(root, "proc");
    assert_int_equal(mkdir(proc, 0700), 0);
    static const char SLAB[] =
        "a 1 1 4096 1 1 : tunables 0 0 0 : slabdata 10 10 0\n";
    static const char MEM[] = "MemTotal: 1000 kB\nSReclaimable: 20 kB\n"
                              "SUnreclaim: 60 kB\n";
    temp_write(temp_path(proc, "slabinfo"), SLAB, strlen(SLAB));
    temp_write(temp_path(proc, "meminfo"), MEM, strlen(MEM));
    struct source_run r;
    assert_int_equal(source_run_begin(&r, &source_slabinfo, root, NULL), 0);
    assert_int_equal(source_run_collect(&r), 0);
    const int64_t *v = source_run_tag(&r, POOL_SLAB, "kmalloc-large", NULL);
    assert_non_null(v);
    assert_int_equal(v[COL_BYTES], 40 * 1024);
    source_run_end(&r);
}

static void slabinfo_says_what_it_lacks(void **state)
{
    (void)state;
    struct source_run r;
    assert_int_equal(
        source_run_begin(&r, &source_slabinfo, "proc-linux-7.0", NULL),
        PSC_MISSING);
    assert_non_null(strstr(r.err.msg, "/proc/slabinfo"));
    source_run_end(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slabinfo_parses_a_row),
        cmocka_unit_test(slabinfo_refuses_what_is_no_row),
        cmocka_unit_test(slab_names_fold),
        cmocka_unit_test(slabinfo_sums_what_folds_alike),
        cmocka_unit_test(slabinfo_asks_which_are_reclaimable),
        cmocka_unit_test(slabinfo_reads_the_old_allocator),
        cmocka_unit_test(slabinfo_tells_of_large_allocations),
        cmocka_unit_test(slabinfo_says_what_it_lacks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
