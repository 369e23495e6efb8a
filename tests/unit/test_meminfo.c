/* Memory counters, and the residual: each page subtracted once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/stat.h>

#include "agent/meminfo_linux.h"
#include "agent/sources_linux.h"
#include "tests/lib/source_run.h"
#include "tests/lib/temp.h"

enum { KB = 1024 };

static struct meminfo parse(const char *text)
{
    struct meminfo m;
    memset(&m, 0, sizeof(m));
    struct text rest = text_of(text, strlen(text));
    struct text line;
    while (text_until(&rest, "\n", &line)) {
        meminfo_line(&m, line);
    }
    return m;
}

static int64_t residual(const char *text, struct page_counts p)
{
    struct meminfo m = parse(text);
    return unaccounted_bytes(&m, &p, 4096, m.value[MEM_TOTAL]) / KB;
}

#define BASE                                                                   \
    "MemTotal: 100000 kB\nMemFree: 50000 kB\nBuffers: 1000 kB\n"               \
    "Cached: 9000 kB\nAnonPages: 10000 kB\nActive: 12000 kB\n"                 \
    "Inactive: 8000 kB\nUnevictable: 0 kB\nSReclaimable: 2000 kB\n"            \
    "SUnreclaim: 3000 kB\nKernelStack: 500 kB\nPageTables: 400 kB\n"

static void residual_is_what_is_left(void **state)
{
    (void)state;
    struct page_counts none = {0};
    assert_int_equal(residual(BASE, none),
                     100000 - 50000 - 20000 - 5000 - 500 - 400);
}

static void residual_counts_no_page_twice(void **state)
{
    (void)state;
    struct page_counts none = {0};
    int64_t base = residual(BASE, none);
    /* Stacks are vmalloc'd; Shmem is cached; swap cache is on the LRU. */
    assert_int_equal(
        residual(BASE "Percpu: 0 kB\nVmallocUsed: 700 kB\nShmem: 5000 kB\n"
                      "SwapCached: 3000 kB\n",
                 none),
        base - 200);
    /* Address space, not pages: kernels without Percpu. */
    assert_int_equal(residual(BASE "VmallocUsed: 7000 kB\n", none), base);
    /* Hugetlb covers all sizes, the pages of one size do not. */
    assert_int_equal(residual(BASE "HugePages_Total: 2\nHugepagesize: 2048 "
                                   "kB\n",
                              none),
                     base - 4096);
    assert_int_equal(residual(BASE "HugePages_Total: 2\nHugepagesize: 2048 "
                                   "kB\nHugetlb: 8192 kB\n",
                              none),
                     base - 8192);
    /* zswap on zsmalloc. */
    struct page_counts z = {.zspages = 100};
    assert_int_equal(residual(BASE "Zswap: 300 kB\n", z), base - 400);
}

static void residual_knows_the_cpus_own_lists(void **state)
{
    (void)state;
    struct page_counts none = {0};
    struct page_counts p = {.cpu_free = 25, .isolated = 10, .memmap = 5};
    assert_int_equal(residual(BASE, p), residual(BASE, none) - 160);
}

static void residual_knows_balloons(void **state)
{
    (void)state;
    struct page_counts none = {0};
    int64_t base = residual(BASE, none);
    struct meminfo m = parse(BASE "Balloon: 6000 kB\n");
    struct page_counts p = {0};
    assert_int_equal(unaccounted_bytes(&m, &p, 4096, 100000LL * KB) / KB,
                     base - 6000);
    /* MemTotal shrank by it. */
    assert_int_equal(unaccounted_bytes(&m, &p, 4096, 106000LL * KB) / KB, base);
}

static void residual_is_never_negative(void **state)
{
    (void)state;
    struct page_counts p = {.cpu_free = UINT32_MAX};
    assert_int_equal(residual(BASE, p), 0);
    struct page_counts none = {0};
    assert_int_equal(residual("MemTotal: 1 kB\nCached: 9223372036854775807 "
                              "kB\nAnonPages: 99999999999999999 kB\n",
                              none),
                     0);
}

static void zoneinfo_sums_pagesets_only(void **state)
{
    (void)state;
    static const char *const LINES[] = {
        "Node 0, zone   Normal",
        "  pages free     1000",
        "              count:    77",
        "  pagesets",
        "    cpu: 0",
        "              count:    5",
        "    cpu: 1",
        "   count:    6",
        "Node 1, zone   Normal",
        "   count:    100",
    };
    struct page_counts p = {0};
    for (size_t i = 0; i < sizeof(LINES) / sizeof(LINES[0]); i++) {
        zoneinfo_line(&p, text_of(LINES[i], strlen(LINES[i])));
    }
    assert_int_equal(p.cpu_free, 11);
}

static void memory_has_the_names_of_node_exporter(void **state)
{
    (void)state;
    struct source_run r;
    assert_int_equal(
        source_run_begin(&r, &source_memory, "proc-linux-6.12", NULL), 0);
    assert_int_equal(source_run_collect(&r), 0);
    static const struct {
        const char *name;
        int64_t value;
    } WANT[] = {
        {"node_memory_SUnreclaim_bytes", 120000LL * KB},
        {"node_memory_Active_anon_bytes", 1300000LL * KB},
        {"node_memory_HugePages_Total", 4},
        {"poolscope_vm_overcommit_memory", 2},
        {"node_vmstat_slabs_scanned", 291},
        {"node_vmstat_allocstall_normal", 2},
        {"node_vmstat_pgscan_direct", 7},
        {"node_vmstat_oom_kill", 1},
        {"node_vmstat_pgfault", -1},
        {"node_filefd_allocated", 9472},
        {"node_filefd_maximum", 1634512},
        {"node_inodes_allocated", 86123},
        {"node_sockstat_TCP_mem", 144},
        {"node_sockstat_TCP_mem_bytes", 144LL * 4096},
        {"node_sockstat_sockets_used", 512},
        {"node_processes_max_threads", 127415},
    };
    for (size_t i = 0; i < sizeof(WANT) / sizeof(WANT[0]); i++) {
        assert_int_equal(source_run_counter(&r, WANT[i].name, ""),
                         WANT[i].value);
    }
    int64_t unaccounted =
        source_run_counter(&r, "poolscope_memory_unaccounted_bytes", "");
    source_run_end(&r);
    assert_int_equal(
        source_run_begin(&r, &source_pages, "proc-linux-6.12", NULL), 0);
    assert_int_equal(source_run_collect(&r), 0);
    uint8_t flags;
    const int64_t *v = source_run_tag(&r, POOL_PAGES, "unaccounted", &flags);
    assert_non_null(v);
    assert_int_equal(v[COL_BYTES], unaccounted);
    assert_true(unaccounted > 0);
    assert_int_equal(flags, TAG_BYTES);
    source_run_end(&r);
}

/* Sources of one collection see the same moment, whatever changes meanwhile. */
static void memory_is_read_once_a_tick(void **state)
{
    (void)state;
    const char *root = temp_dir();
    static const char *const TEXT[] = {
        "MemTotal: 1000 kB\nMemFree: 10 kB\nSReclaimable: 0 kB\n",
        "MemTotal: 1000 kB\nMemFree: 999 kB\nSReclaimable: 0 kB\n"};
    assert_int_equal(mkdir(temp_path(root, "proc"), 0700), 0);
    const char *path = temp_path(root, "proc/meminfo");
    static const struct source *const sources[] = {&source_pages,
                                                   &source_memory};
    struct source_env env = {.root = root};
    void *states[2];
    struct sample sample;
    struct psc_error err;
    sample_init(&sample);
    assert_int_equal(source_shared_new(&env.shared), 0);
    temp_write(path, TEXT[0], strlen(TEXT[0]));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(sources[i]->open(&env, &states[i], &err), 0);
    }
    for (int tick = 0; tick < 2; tick++) {
        table_begin(&sample.tags);
        table_begin(&sample.counters);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(sources[i]->collect(states[i], &sample, &err), 0);
            temp_write(path, TEXT[1], strlen(TEXT[1]));
        }
        uint32_t free_bytes =
            psc_map_find(&sample.counters.names, "node_memory_MemFree_bytes\0",
                         sizeof("node_memory_MemFree_bytes"));
        assert_int_equal(*table_values(&sample.counters, free_bytes),
                         (tick == 0 ? 10 : 999) * 1024);
        assert_int_equal(table_values(&sample.tags, 0)[COL_BYTES],
                         (tick == 0 ? 990 : 1) * 1024);
    }
    for (int i = 0; i < 2; i++) {
        sources[i]->close(states[i]);
    }
    source_shared_free(env.shared);
    sample_fini(&sample);
}

static void memory_needs_only_meminfo(void **state)
{
    (void)state;
    struct source_run r;
    assert_int_equal(
        source_run_begin(&r, &source_memory, "proc-linux-2.6.32", NULL), 0);
    assert_int_equal(source_run_collect(&r), 0);
    assert_int_equal(source_run_counter(&r, "node_memory_Slab_bytes", ""),
                     200000LL * KB);
    source_run_end(&r);
    assert_int_equal(
        source_run_begin(&r, &source_memory, "proc-linux-7.0", NULL),
        PSC_MISSING);
    source_run_end(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(residual_is_what_is_left),
        cmocka_unit_test(residual_counts_no_page_twice),
        cmocka_unit_test(residual_knows_the_cpus_own_lists),
        cmocka_unit_test(residual_knows_balloons),
        cmocka_unit_test(residual_is_never_negative),
        cmocka_unit_test(zoneinfo_sums_pagesets_only),
        cmocka_unit_test(memory_has_the_names_of_node_exporter),
        cmocka_unit_test(memory_is_read_once_a_tick),
        cmocka_unit_test(memory_needs_only_meminfo),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
