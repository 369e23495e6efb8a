/* All sources: they open or say why not, a steady tick allocates nothing, and
 * failed allocations are survived. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "agent/source.h"
#include "agent/sources_linux.h"
#include "tests/lib/fault.h"
#include "tests/lib/source_run.h"

static const char *const TREES[] = {"",
                                    "proc-linux-2.6.32",
                                    "proc-linux-5.15",
                                    "proc-linux-6.10-early",
                                    "proc-linux-6.12",
                                    "proc-linux-6.18",
                                    "proc-linux-7.0"};
enum { N_TREES = sizeof(TREES) / sizeof(TREES[0]) };

static void sources_open_or_say_why(void **state)
{
    (void)state;
    for (size_t t = 0; t < N_TREES; t++) {
        for (size_t i = 0; agent_sources[i] != NULL; i++) {
            struct source_run r;
            int rc = source_run_begin(&r, agent_sources[i], TREES[t], NULL);
            if (rc == 0) {
                assert_int_equal(source_run_collect(&r), 0);
            } else {
                assert_true(rc == PSC_MISSING || rc == PSC_PERMISSION ||
                            rc == PSC_UNSUPPORTED);
                assert_true(strlen(r.err.msg) > 10);
            }
            source_run_end(&r);
        }
    }
}

/* Inventories and events may allocate: they are rare. */
static bool steady(const struct source *s)
{
    return s->group == SOURCE_TAGS || s->group == SOURCE_COUNTERS;
}

/* Live, new processes and callers come: until it is quiet. */
static void expect_steady(struct source_run *r)
{
    unsigned long n = 1;
    for (int tries = 0; tries < 20 && n > 0; tries++) {
        assert_int_equal(source_run_collect(r), 0);
        fault_fail_at(0);
        assert_int_equal(source_run_collect(r), 0);
        n = fault_allocations();
    }
    assert_int_equal(n, 0);
}

static void sources_allocate_nothing_when_steady(void **state)
{
    (void)state;
    for (size_t t = 0; t < N_TREES; t++) {
        for (size_t i = 0; agent_sources[i] != NULL; i++) {
            struct source_run r;
            if (!steady(agent_sources[i])) {
                continue;
            }
            if (source_run_begin(&r, agent_sources[i], TREES[t], NULL) == 0) {
                expect_steady(&r);
            }
            source_run_end(&r);
        }
    }
}

/* Whether @source got through with its @n-th allocation failing. */
static bool survives(const struct source *source, unsigned long n)
{
    struct source_run r;
    memset(&r, 0, sizeof(r));
    r.source = source;
    r.env.root = PSC_TEST_DATA "/proc-linux-6.12";
    r.env.top_processes = 10;
    sample_init(&r.sample);
    fault_fail_at(n);
    int rc = source->open(&r.env, &r.state, &r.err);
    if (rc == 0) {
        rc = source_run_collect(&r);
    }
    bool failed = fault_allocations() >= n;
    fault_fail_at(0);
    assert_true(rc == 0 || rc == PSC_NOMEM || rc == PSC_MISSING);
    source_run_end(&r);
    return !failed;
}

static void sources_survive_failed_allocations(void **state)
{
    (void)state;
    for (size_t i = 0; agent_sources[i] != NULL; i++) {
        unsigned long n = 1;
        while (n < 1000 && !survives(agent_sources[i], n)) {
            n++;
        }
        assert_true(n < 1000);
    }
}

static void host_facts_are_read(void **state)
{
    (void)state;
    struct source_env env = {.root = PSC_TEST_DATA "/proc-linux-6.12"};
    struct host_facts f;
    struct psc_error err;
    assert_int_equal(host_facts_read(&env, &f, &err), 0);
    assert_string_equal(f.name, "web-17");
    assert_string_equal(f.os, "linux");
    assert_string_equal(f.os_version, "Example Linux 24 (web)");
    assert_string_equal(f.os_build, "6.12.8-generic");
    assert_int_equal(f.boot_id[0], 0x5f);
    assert_int_equal(f.boot_id[15], 0x5f);
    assert_int_equal(f.boot_wall_us, 1767225600000000);
    assert_int_equal(f.ram_bytes, 16384000ULL * 1024);
    env.root = PSC_TEST_DATA "/nowhere";
    assert_int_equal(host_facts_read(&env, &f, &err), PSC_MISSING);
    env.root = "";
    assert_int_equal(host_facts_read(&env, &f, &err), 0);
    assert_true(f.ram_bytes > 0 && f.name[0] != '\0');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sources_open_or_say_why),
        cmocka_unit_test(sources_allocate_nothing_when_steady),
        cmocka_unit_test(sources_survive_failed_allocations),
        cmocka_unit_test(host_facts_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
