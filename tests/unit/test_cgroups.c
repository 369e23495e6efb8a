/* Kernel memory by service, from both versions of control groups. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/cgroups_linux.h"
#include "agent/sources_linux.h"
#include "tests/lib/source_run.h"
#include "tests/lib/temp.h"

static void line(struct cgroup_memory *m, const char *text)
{
    cgroup_stat_line(m, text_of(text, strlen(text)));
}

static void cgroup_stat_makes_up_what_is_missing(void **state)
{
    (void)state;
    struct cgroup_memory m;
    memset(&m, 0, sizeof(m));
    line(&m, "slab_unreclaimable 100");
    line(&m, "slab_reclaimable 20");
    line(&m, "kernel_stack 3");
    line(&m, "sock 9999");
    line(&m, "percpu 9223372036854775807");
    line(&m, "nonsense");
    cgroup_stat_end(&m);
    assert_true(m.kernel == INT64_MAX);
    m.kernel = 0;
    m.percpu = 4;
    cgroup_stat_end(&m);
    assert_int_equal(m.kernel, 127);
    line(&m, "kernel 500");
    cgroup_stat_end(&m);
    assert_int_equal(m.kernel, 500);
}

static void cgroups_read_version_2(void **state)
{
    (void)state;
    struct source_run r;
    assert_int_equal(
        source_run_begin(&r, &source_cgroups, "proc-linux-6.12", NULL), 0);
    assert_int_equal(source_run_collect(&r), 0);
    static const char NGINX[] = "/system.slice/nginx.service";
    assert_int_equal(
        source_run_counter(&r, "cgroup_memory_kernel_bytes", NGINX), 31457280);
    assert_int_equal(
        source_run_counter(&r, "cgroup_memory_slab_unreclaimable_bytes", NGINX),
        25165824);
    assert_int_equal(source_run_counter(&r, "cgroup_memory_usage_bytes", NGINX),
                     36700160);
    assert_int_equal(source_run_counter(&r, "cgroup_memory_kernel_bytes", "/"),
                     71303168);
    source_run_end(&r);
}

static void cgroups_read_version_1(void **state)
{
    (void)state;
    struct source_run r;
    assert_int_equal(
        source_run_begin(&r, &source_cgroups, "proc-linux-5.15", NULL), 0);
    assert_int_equal(source_run_collect(&r), 0);
    assert_int_equal(source_run_counter(&r, "cgroup_memory_kernel_bytes",
                                        "/system.slice/db.service"),
                     314572800);
    assert_int_equal(source_run_counter(&r, "cgroup_memory_sock_bytes", "/"),
                     1048576);
    source_run_end(&r);
}

static void cgroups_notice_what_comes_and_goes(void **state)
{
    (void)state;
    const char *root = temp_dir();
    static const char *const DIRS[] = {"sys", "sys/fs", "sys/fs/cgroup",
                                       "sys/fs/cgroup/a"};
    for (size_t i = 0; i < sizeof(DIRS) / sizeof(DIRS[0]); i++) {
        assert_int_equal(mkdir(temp_path(root, DIRS[i]), 0700), 0);
    }
    temp_write(temp_path(root, "sys/fs/cgroup/cgroup.controllers"),
               "cpu memory\n", 11);
    const char *stat = temp_path(root, "sys/fs/cgroup/a/memory.stat");
    temp_write(stat, "kernel 5\n", 9);
    struct source_run r;
    assert_int_equal(source_run_begin(&r, &source_cgroups, root, NULL), 0);
    assert_int_equal(source_run_collect(&r), 0);
    assert_int_equal(source_run_counter(&r, "cgroup_memory_kernel_bytes", "/a"),
                     5);
    assert_int_equal(unlink(stat), 0);
    assert_int_equal(rmdir(temp_path(root, "sys/fs/cgroup/a")), 0);
    assert_int_equal(source_run_collect(&r), 0);
    assert_int_equal(source_run_counter(&r, "cgroup_memory_kernel_bytes", "/a"),
                     -1);
    /* Its absence has the tree walked anew. */
    assert_int_equal(mkdir(temp_path(root, "sys/fs/cgroup/b"), 0700), 0);
    temp_write(temp_path(root, "sys/fs/cgroup/b/memory.stat"), "kernel 6\n", 9);
    assert_int_equal(source_run_collect(&r), 0);
    assert_int_equal(source_run_counter(&r, "cgroup_memory_kernel_bytes", "/b"),
                     6);
    source_run_end(&r);
}

/* Live: a group that goes and comes back under its name, as a service that is
 * restarted, and more groups than files may stay open. */
static void cgroups_read_groups_made_anew(void **state)
{
    (void)state;
    enum { GROUPS = 60, FILES_MAX = 110 };
    struct source_run r;
    char name[64];
    (void)snprintf(name, sizeof(name), "/poolscope-test-%d", (int)getpid());
    const char *dir = temp_path("/sys/fs/cgroup/memory", name + 1);
    if (source_run_begin(&r, &source_cgroups, "", NULL) != 0 ||
        mkdir(dir, 0700) != 0) {
        source_run_end(&r);
        skip();
    }
    const char *groups[GROUPS];
    for (int i = 0; i < GROUPS; i++) {
        char child[16];
        (void)snprintf(child, sizeof(child), "%d", i);
        groups[i] = temp_path(dir, child);
        assert_int_equal(mkdir(groups[i], 0700), 0);
    }
    bool seen[3];
    for (int i = 0; i < 3; i++) {
        assert_int_equal(source_run_collect(&r), 0);
        assert_int_equal(source_run_collect(&r), 0);
        seen[i] =
            source_run_counter(&r, "cgroup_memory_usage_bytes", name) >= 0;
        for (int k = 0; k < GROUPS && i == 0; k++) {
            (void)rmdir(groups[k]);
        }
        (void)rmdir(dir);
        if (i == 0) {
            (void)mkdir(dir, 0700);
        }
    }
    int next = dup(0); /* the lowest number that is free */
    (void)close(next);
    source_run_end(&r);
    assert_true(seen[0] && seen[1] && !seen[2]);
    assert_true(next < FILES_MAX);
}

static void cgroups_say_what_they_lack(void **state)
{
    (void)state;
    struct source_run r;
    assert_int_equal(
        source_run_begin(&r, &source_cgroups, "proc-linux-2.6.32", NULL),
        PSC_MISSING);
    assert_non_null(strstr(r.err.msg, "mount cgroup2"));
    source_run_end(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cgroup_stat_makes_up_what_is_missing),
        cmocka_unit_test(cgroups_read_version_2),
        cmocka_unit_test(cgroups_read_version_1),
        cmocka_unit_test(cgroups_notice_what_comes_and_goes),
        cmocka_unit_test(cgroups_read_groups_made_anew),
        cmocka_unit_test(cgroups_say_what_they_lack),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
