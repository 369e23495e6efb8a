/* Merged slab caches: the links of /sys/kernel/slab as aliases of a tag. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/sources_linux.h"
#include "tests/lib/source_run.h"
#include "tests/lib/temp.h"

static const char SLAB[] =
    "pid_3 1 1 64 1 1 : tunables 0 0 0 : slabdata 1 1 0\n"
    "alone 1 1 64 1 1 : tunables 0 0 0 : slabdata 1 1 0\n";

/* Links cannot be in a recorded tree: their targets have colons. */
static const char *make_tree(void)
{
    const char *root = temp_dir();
    static const char *const DIRS[] = {"proc", "sys", "sys/kernel",
                                       "sys/kernel/slab",
                                       "sys/kernel/slab/:0000064"};
    for (size_t i = 0; i < sizeof(DIRS) / sizeof(DIRS[0]); i++) {
        assert_int_equal(mkdir(temp_path(root, DIRS[i]), 0700), 0);
    }
    temp_write(temp_path(root, "proc/slabinfo"), SLAB, strlen(SLAB));
    static const char *const LINKS[] = {"pid_3", "L2TP!IP", "two words"};
    for (size_t i = 0; i < sizeof(LINKS) / sizeof(LINKS[0]); i++) {
        const char *slab = temp_path(root, "sys/kernel/slab");
        assert_int_equal(symlink(":0000064", temp_path(slab, LINKS[i])), 0);
    }
    return root;
}

static void slab_aliases_follow_links(void **state)
{
    (void)state;
    struct source_run r;
    assert_int_equal(
        source_run_begin(&r, &source_slab_aliases, make_tree(), NULL), 0);
    assert_int_equal(source_run_collect(&r), 0);
    struct record_reader in;
    struct alias_record a;
    record_reader_init(&in, psc_buf_bytes(&r.sample.aliases));
    assert_true(record_next_alias(&in, &a));
    assert_int_equal(a.pool, POOL_SLAB);
    assert_int_equal(a.tag.len, 3);
    assert_memory_equal(a.tag.data, "pid", 3);
    char names[64] = {0};
    assert_true(a.names.len < sizeof(names));
    memcpy(names, a.names.data, a.names.len);
    assert_non_null(strstr(names, "L2TP/IP"));
    assert_non_null(strstr(names, "two\\x20words"));
    assert_int_equal(a.names.len, strlen("L2TP/IP two\\x20words"));
    assert_false(record_next_alias(&in, &a));
    assert_true(record_reader_ok(&in));
    source_run_end(&r);
}

static void slab_aliases_need_slub(void **state)
{
    (void)state;
    struct source_run r;
    assert_int_equal(
        source_run_begin(&r, &source_slab_aliases, "proc-linux-2.6.32", NULL),
        PSC_MISSING);
    assert_non_null(strstr(r.err.msg, "SLUB"));
    source_run_end(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slab_aliases_follow_links),
        cmocka_unit_test(slab_aliases_need_slub),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
