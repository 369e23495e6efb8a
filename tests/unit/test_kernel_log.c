/* Kernel log events: dumps, interleaved ones too, and where reading goes on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/kmsg_linux.h"
#include "agent/sources_linux.h"
#include "tests/lib/source_run.h"
#include "tests/lib/temp.h"

static void kmsg_parses_a_record(void **state)
{
    (void)state;
    static const char LINE[] = "4,2102,500000000,-,caller=T955,x=1;a;b\\x0ac";
    struct kmsg_record r;
    assert_true(kmsg_parse(text_of(LINE, strlen(LINE)), &r));
    assert_int_equal(r.seq, 2102);
    assert_int_equal(r.at_us, 500000000);
    assert_true(text_equal(&r.caller, "T955"));
    assert_true(text_equal(&r.message, "a;b\\x0ac"));
}

static void kmsg_refuses_what_is_no_record(void **state)
{
    (void)state;
    static const char *const LINES[] = {"",      " SUBSYSTEM=pci", "4,1;x",
                                        "4,1,2", "x,1,2,-;m",      "4,,2,-;m"};
    struct kmsg_record r;
    for (size_t i = 0; i < sizeof(LINES) / sizeof(LINES[0]); i++) {
        assert_false(kmsg_parse(text_of(LINES[i], strlen(LINES[i])), &r));
    }
}

struct event {
    char id[40];
    uint64_t position;
    json_t *details;
};

/* Take the events of the last sample; details must be good JSON. */
static size_t events_of(const struct source_run *r, struct event *out,
                        size_t cap)
{
    struct record_reader in;
    struct event_record e;
    size_t n = 0;
    record_reader_init(&in, psc_buf_bytes(&r->sample.events));
    while (record_next_event(&in, &e)) {
        assert_true(n < cap);
        (void)snprintf(out[n].id, sizeof(out[n].id), "%.*s",
                       (int)e.event_id.len, (const char *)e.event_id.data);
        out[n].position = e.position;
        out[n].details =
            json_loadb((const char *)e.details.data, e.details.len, 0, NULL);
        assert_non_null(out[n].details);
        n++;
    }
    assert_true(record_reader_ok(&in));
    return n;
}

static void free_events(struct event *events, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        json_decref(events[i].details);
    }
}

static const char *str(const struct event *e, const char *key)
{
    return json_string_value(json_object_get(e->details, key));
}

static long long num(const struct event *e, const char *key)
{
    return json_integer_value(json_object_get(e->details, key));
}

static void kernel_log_tells_callers_apart(void **state)
{
    (void)state;
    struct source_run r;
    struct event e[8] = {0};
    assert_int_equal(
        source_run_begin(&r, &source_kernel_log, "proc-linux-6.12", NULL), 0);
    assert_int_equal(source_run_collect(&r), 0);
    assert_int_equal(events_of(&r, e, 8), 4);
    assert_string_equal(e[0].id, "slab_allocation_failure");
    assert_string_equal(str(&e[0], "cache"), "kmalloc-2k");
    assert_int_equal(num(&e[0], "object_bytes"), 2048);
    assert_int_equal(e[0].position, 2103);
    assert_string_equal(e[1].id, "page_allocation_failure");
    assert_string_equal(str(&e[1], "comm"), "nginx");
    assert_int_equal(num(&e[1], "order"), 4);
    assert_int_equal(num(&e[1], "slab_unreclaimable_pages"), 519283);
    json_t *modules = json_object_get(e[1].details, "trace_modules");
    assert_int_equal(json_array_size(modules), 2);
    assert_string_equal(json_string_value(json_array_get(modules, 0)), "ice");
    json_t *site =
        json_array_get(json_object_get(e[1].details, "allocations"), 0);
    assert_int_equal(json_integer_value(json_object_get(site, "bytes")),
                     4294967296);
    assert_string_equal(e[2].id, "vmap_allocation_failure");
    assert_int_equal(num(&e[2], "size_bytes"), 8392704);
    assert_string_equal(e[3].id, "module_unload_leak");
    assert_string_equal(str(&e[3], "module"), "xt_demo");
    assert_int_equal(num(&e[3], "allocated_bytes"), 4096);
    free_events(e, 4);
    /* Nothing is told twice. */
    assert_int_equal(source_run_collect(&r), 0);
    assert_int_equal(r.sample.n_events, 0);
    source_run_end(&r);
}

static void kernel_log_untangles_dumps_without_callers(void **state)
{
    (void)state;
    struct source_run r;
    struct event e[8] = {0};
    assert_int_equal(
        source_run_begin(&r, &source_kernel_log, "proc-linux-5.15", NULL), 0);
    assert_int_equal(source_run_collect(&r), 0);
    assert_int_equal(events_of(&r, e, 8), 3);
    assert_string_equal(e[0].id, "oom_kill");
    assert_int_equal(num(&e[0], "cpu"), 0);
    assert_string_equal(str(&e[0], "killed"), "mysqld");
    assert_int_equal(num(&e[0], "killed_anon_rss_bytes"), 840000LL * 1024);
    assert_int_equal(num(&e[0], "slab_unreclaimable_pages"), 900000);
    json_t *slabs = json_object_get(e[0].details, "unreclaimable_slabs");
    assert_int_equal(json_array_size(slabs), 3);
    assert_string_equal(
        json_string_value(json_object_get(json_array_get(slabs, 0), "cache")),
        "kmalloc-2k");
    assert_string_equal(e[1].id, "page_allocation_failure");
    assert_int_equal(num(&e[1], "cpu"), 1);
    assert_int_equal(num(&e[1], "slab_unreclaimable_pages"), 900001);
    assert_string_equal(e[2].id, "slab_allocation_failure");
    assert_string_equal(str(&e[2], "cache"), "skbuff_head_cache");
    free_events(e, 3);
    source_run_end(&r);
}

/* Two trees in one: a recorded log that grows while it is read. */
static const char *make_log(const char *root, const char *text)
{
    const char *log = temp_path(root, "dev/kmsg");
    temp_write(log, text, strlen(text));
    return log;
}

#define FIRST  "4,5,1000000,-;vmap allocation for size 4096 failed: use x\n"
#define SECOND "4,6,2000000,-;vmap allocation for size 8192 failed: use x\n"
#define GAP    "4,9,3000000,-;vmap allocation for size 1 failed: use x\n"

static const char *make_tree(void)
{
    const char *root = temp_dir();
    static const char *const DIRS[] = {
        "dev", "proc", "proc/sys", "proc/sys/kernel", "proc/sys/kernel/random"};
    for (size_t i = 0; i < sizeof(DIRS) / sizeof(DIRS[0]); i++) {
        assert_int_equal(mkdir(temp_path(root, DIRS[i]), 0700), 0);
    }
    static const char BOOT[] = "5f0c8c1e-3a2b-4c5d-8e9f-0a1b2c3d4e5f\n";
    temp_write(temp_path(root, "proc/sys/kernel/random/boot_id"), BOOT,
               strlen(BOOT));
    return root;
}

static void kernel_log_goes_on_after_a_restart(void **state)
{
    (void)state;
    const char *root = make_tree();
    const char *dir = temp_dir();
    struct source_run r;
    struct event e[4] = {0};
    (void)make_log(root, FIRST);
    assert_int_equal(source_run_begin(&r, &source_kernel_log, root, dir), 0);
    assert_int_equal(source_run_collect(&r), 0);
    assert_int_equal(r.sample.n_events, 1);
    source_run_end(&r); /* never committed */
    assert_int_equal(source_run_begin(&r, &source_kernel_log, root, dir), 0);
    assert_int_equal(source_run_collect(&r), 0);
    assert_int_equal(r.sample.n_events, 1);
    assert_int_equal(r.source->commit(r.state, &r.err), 0);
    source_run_end(&r);
    (void)make_log(root, FIRST SECOND GAP);
    assert_int_equal(source_run_begin(&r, &source_kernel_log, root, dir), 0);
    assert_int_equal(source_run_collect(&r), 0);
    assert_int_equal(events_of(&r, e, 4), 3);
    assert_int_equal(num(&e[0], "size_bytes"), 8192);
    assert_string_equal(e[1].id, "records_lost");
    assert_int_equal(num(&e[1], "records"), 2);
    assert_int_equal(e[1].position, 8);
    assert_int_equal(num(&e[2], "size_bytes"), 1);
    free_events(e, 3);
    source_run_end(&r);
}

static void on_event(void *ctx, const struct kernel_dump *dump)
{
    (void)dump;
    ++*(int *)ctx;
}

static void feed(struct kernel_dumps *d, uint64_t seq, int64_t at_us,
                 const char *message)
{
    struct kmsg_record r = {seq, at_us, text_of("", 0),
                            text_of(message, strlen(message))};
    kernel_dumps_feed(d, &r);
}

/* Counts events, whose positions must ascend. */
static void on_position(void *ctx, const struct kernel_dump *dump)
{
    int64_t *told = ctx;
    assert_true(told[0] == 0 || (int64_t)dump->seq > told[1]);
    told[0]++;
    told[1] = (int64_t)dump->seq;
}

/* The collector takes a position below the last one for told. */
static void kernel_dumps_come_in_order(void **state)
{
    (void)state;
    int64_t told[2] = {0};
    struct kernel_dumps d;
    kernel_dumps_init(&d, on_position, told);
    feed(&d, 20, 1000000, "x: page allocation failure: order:0, mode:0x1");
    feed(&d, 21, 1000001, "vmap allocation for size 4096 failed: use x");
    kernel_dumps_lost(&d, 22, 1000002, 5);
    feed(&d, 27, 1000002, "vmap allocation for size 4096 failed: use x");
    assert_int_equal(told[0], 0); /* all wait for the first */
    assert_int_equal(kernel_dumps_position(&d, 28), 20);
    feed(&d, 28, 1000001 + KERNEL_DUMP_QUIET_US, "unrelated");
    assert_int_equal(told[0], 4);
    assert_int_equal(told[1], 27);
    assert_int_equal(kernel_dumps_position(&d, 29), 29);
}

static void kernel_dumps_end_when_all_is_quiet(void **state)
{
    (void)state;
    int n = 0;
    struct kernel_dumps d;
    kernel_dumps_init(&d, on_event, &n);
    feed(&d, 7, 1000000, "x: page allocation failure: order:0, mode:0x1");
    assert_int_equal(kernel_dumps_position(&d, 8), 7);
    feed(&d, 8, 1500000, "unrelated");
    assert_int_equal(n, 0);
    kernel_dumps_flush(&d, 2900000);
    assert_int_equal(n, 0);
    kernel_dumps_flush(&d, 3000000);
    assert_int_equal(n, 1);
    assert_int_equal(kernel_dumps_position(&d, 9), 9);
}

static void kernel_dumps_are_bounded(void **state)
{
    (void)state;
    int n = 0;
    struct kernel_dumps d;
    kernel_dumps_init(&d, on_event, &n);
    for (uint64_t i = 0; i < 100; i++) {
        feed(&d, i, 1, "x: page allocation failure: order:0, mode:0x1");
    }
    assert_int_equal(n, 100 - KERNEL_DUMPS_MAX);
    kernel_dumps_flush(&d, INT64_MAX);
    assert_int_equal(n, 100);
}

static void kernel_dumps_know_old_kernels(void **state)
{
    (void)state;
    int n = 0;
    struct kernel_dumps d;
    kernel_dumps_init(&d, on_event, &n);
    feed(&d, 1, 1, "java invoked oom-killer: gfp_mask=0x201da, order=0");
    feed(&d, 2, 2,
         "Out of memory: Kill process 9 (java) score 900 or sacrifice child");
    assert_int_equal(n, 0);
    feed(&d, 3, 3, "Killed process 9 (java) total-vm:10kB, anon-rss:5kB");
    assert_int_equal(n, 1);
    /* Its beginning was lost. */
    feed(&d, 4, 4,
         "Memory cgroup out of memory: Killed process 5 (a) total-vm:1kB");
    assert_int_equal(n, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kmsg_parses_a_record),
        cmocka_unit_test(kmsg_refuses_what_is_no_record),
        cmocka_unit_test(kernel_log_tells_callers_apart),
        cmocka_unit_test(kernel_log_untangles_dumps_without_callers),
        cmocka_unit_test(kernel_log_goes_on_after_a_restart),
        cmocka_unit_test(kernel_dumps_come_in_order),
        cmocka_unit_test(kernel_dumps_end_when_all_is_quiet),
        cmocka_unit_test(kernel_dumps_are_bounded),
        cmocka_unit_test(kernel_dumps_know_old_kernels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
