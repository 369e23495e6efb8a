/* Processes: who they are, who grows, and that they come and go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "agent/processes_linux.h"
#include "agent/sources_linux.h"
#include "tests/lib/source_run.h"

static const char STAT[] =
    "812 (a) b(1) S 1 812 812 0 -1 4194560 1200 0 3 0 15 9 0 0 20 0 4 0 3100 "
    "620000000 51200 18446744073709551615 1 1\n";

static void process_stat_parses_any_name(void **state)
{
    (void)state;
    struct process_stat s;
    assert_true(process_stat_parse(text_of(STAT, strlen(STAT)), &s));
    assert_int_equal(s.pid, 812);
    assert_true(text_equal(&s.name, "a) b(1"));
    assert_int_equal(s.threads, 4);
    assert_int_equal(s.start_ticks, 3100);
    assert_int_equal(s.virtual_bytes, 620000000);
    assert_int_equal(s.rss_pages, 51200);
    assert_false(s.kernel_thread);
}

static void process_stat_refuses_every_prefix(void **state)
{
    (void)state;
    struct process_stat s;
    const char *rss = strstr(STAT, "51200");
    for (size_t n = 0; n < (size_t)(rss - STAT); n++) {
        assert_false(process_stat_parse(text_of(STAT, n), &s));
    }
}

/* Add a process of @mib to the collection under way. */
static struct process *add(struct process_list *l, uint32_t pid, uint64_t start,
                           uint64_t mib)
{
    struct process_stat s = {
        .pid = pid,
        .name = text_of("p", 1),
        .threads = 1,
        .start_ticks = start,
        .rss_pages = mib * 256,
    };
    struct process *p;
    const struct process *then = process_list_then(l, pid);
    assert_int_equal(process_list_add(l, &s, 4096, then, &p), 0);
    return p;
}

static void process_list_finds_growth(void **state)
{
    (void)state;
    struct process_list l;
    process_list_init(&l);
    for (uint64_t i = 0; i < 40; i++) {
        process_list_begin(&l);
        (void)add(&l, 10, 1, 500);
        (void)add(&l, 20, 1, 400);
        (void)add(&l, 30, 1, 10 + i);
        process_list_select(&l, 1);
    }
    assert_int_equal(l.now[0].selected, 1); /* the largest */
    assert_int_equal(l.now[1].selected, 0);
    assert_int_equal(l.now[2].selected, 1); /* the growing */
    assert_true(l.now[2].rss_bytes - l.now[2].rss_then >= 16 << 20);
    process_list_fini(&l);
}

static void process_list_leaves_out_newcomers(void **state)
{
    (void)state;
    struct process_list l;
    process_list_init(&l);
    process_list_begin(&l);
    (void)add(&l, 10, 1, 5);
    process_list_select(&l, 5);
    assert_int_equal(l.now[0].selected, 1); /* of the first collection */
    process_list_begin(&l);
    (void)add(&l, 10, 1, 5);
    (void)add(&l, 11, 9, 500);
    process_list_select(&l, 5);
    assert_int_equal(l.now[0].selected, 1);
    assert_int_equal(l.now[1].selected, 0);
    /* The pid is the same, the process another. */
    process_list_begin(&l);
    (void)add(&l, 10, 77, 900);
    (void)add(&l, 11, 9, 500);
    process_list_select(&l, 5);
    assert_int_equal(l.now[0].selected, 0);
    assert_int_equal(l.now[0].rss_then, l.now[0].rss_bytes);
    assert_int_equal(l.now[1].selected, 1);
    process_list_fini(&l);
}

static void process_list_grows_while_it_keeps(void **state)
{
    (void)state;
    struct process_list l;
    process_list_init(&l);
    for (int round = 0; round < 3; round++) {
        process_list_begin(&l);
        for (uint32_t pid = 1; pid <= 1000u * (uint32_t)(round + 1); pid++) {
            const struct process *then = process_list_then(&l, pid);
            if (then != NULL && pid % 2 == 0) {
                assert_int_equal(process_list_keep(&l, then), 0);
            } else {
                (void)add(&l, pid, pid, pid);
            }
        }
    }
    assert_int_equal(l.n_now, 3000);
    for (uint32_t i = 0; i < l.n_now; i++) {
        assert_int_equal(l.now[i].pid, i + 1);
    }
    process_list_fini(&l);
}

static void processes_are_summed_by_name(void **state)
{
    (void)state;
    struct source_run r;
    assert_int_equal(
        source_run_begin(&r, &source_processes, "proc-linux-6.12", NULL), 0);
    assert_int_equal(source_run_collect(&r), 0);
    assert_int_equal(source_run_counter(&r, "process_resident_memory_bytes",
                                        "nginx: worker (1"),
                     (51200 + 1000) * 4096);
    assert_int_equal(
        source_run_counter(&r, "process_instances", "nginx: worker (1"), 2);
    assert_int_equal(
        source_run_counter(&r, "process_open_fds", "my\\x5Csql d\\x01"), 14);
    assert_int_equal(
        source_run_counter(&r, "process_threads", "my\\x5Csql d\\x01"), 38);
    /* A kernel thread. */
    assert_int_equal(source_run_counter(&r, "process_threads", "kthreadd"), -1);
    assert_int_equal(source_run_counter(&r, "node_processes_pids", ""), 6);
    source_run_end(&r);
}

static void processes_count_our_own_files(void **state)
{
    (void)state;
    struct source_run r;
    assert_int_equal(source_run_begin(&r, &source_processes, "", NULL), 0);
    r.env.top_processes = 100;
    assert_int_equal(source_run_collect(&r), 0);
    assert_true(source_run_counter(&r, "node_processes_pids", "") > 1);
    assert_true(source_run_counter(&r, "node_processes_threads", "") > 1);
    source_run_end(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(process_stat_parses_any_name),
        cmocka_unit_test(process_stat_refuses_every_prefix),
        cmocka_unit_test(process_list_finds_growth),
        cmocka_unit_test(process_list_leaves_out_newcomers),
        cmocka_unit_test(process_list_grows_while_it_keeps),
        cmocka_unit_test(processes_are_summed_by_name),
        cmocka_unit_test(processes_count_our_own_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
