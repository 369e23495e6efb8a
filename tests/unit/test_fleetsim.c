/* The truth of the fleet simulator: asked at random it says what stepping
 * through says, and it looks like pools. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/fleetsim/entropy.h"
#include "tests/bench/fleetsim/export.h"
#include "tests/bench/fleetsim/stats.h"

enum { TAGS = 700, COUNTERS = 20, SNAPSHOTS = 400 };

static struct truth_settings settings(void)
{
    struct truth_settings s = {
        .seed = 7,
        .n_tags = TAGS,
        .n_counters = COUNTERS,
        .n_drivers = 12,
        .change = 0.2,
        .windows = 0.5,
        .silent = 0.3,
        .slow = 0.2,
        .reboot_every = 150,
        .interval_us = 60000000,
        .n_leaks = 1,
    };
    s.leaks[0] = (struct truth_leak){1 << 20, 0.3};
    return s;
}

static void make_truth(struct truth *t, const struct truth_settings *s)
{
    struct psc_error err;
    assert_int_equal(truth_init(t, s, &err), PSC_OK);
}

static void random_access_equals_step_by_step(void **state)
{
    (void)state;
    struct truth_settings s = settings();
    struct truth t;
    make_truth(&t, &s);
    for (uint32_t host = 0; host < 4; host++) {
        struct truth_host h;
        truth_host_init(&h, &t, host);
        for (uint32_t slot = 0; slot < TAGS; slot += 3) {
            uint32_t word = truth_word(&h, slot);
            int64_t now[TABLE_COLUMNS_MAX], at[TABLE_COLUMNS_MAX];
            uint64_t number = UINT64_MAX;
            for (uint64_t k = 0; k < SNAPSHOTS; k++) {
                struct truth_boot boot;
                truth_boot_at(&h, k, &boot);
                if (boot.number != number || truth_tag_changes(&h, word, k)) {
                    truth_tag_change(&h, &boot, word, k, now);
                }
                number = boot.number;
                truth_tag_at(&h, &boot, word, k, at);
                assert_memory_equal(now, at, sizeof(now));
            }
        }
    }
    truth_fini(&t);
}

static void the_quick_way_finds_the_same_changes(void **state)
{
    (void)state;
    struct truth_settings s = settings();
    struct truth t;
    struct truth_host h;
    uint16_t words[TAGS];
    uint32_t found[TAGS + 1];
    make_truth(&t, &s);
    truth_host_init(&h, &t, 3);
    for (uint32_t i = 0; i < TAGS; i++) {
        words[i] = (uint16_t)truth_word(&h, i);
    }
    for (uint64_t k = 0; k < SNAPSHOTS; k++) {
        uint32_t n = truth_tags_changing(&h, words, TAGS, k, found);
        uint32_t next = 0;
        for (uint32_t i = 0; i < TAGS; i++) {
            if (truth_tag_changes(&h, words[i], k)) {
                assert_true(next < n);
                assert_int_equal(found[next++], i);
            }
        }
        assert_int_equal(next, n);
    }
    truth_fini(&t);
}

static void boots_follow_each_other(void **state)
{
    (void)state;
    struct truth_settings s = settings();
    struct truth t;
    make_truth(&t, &s);
    unsigned n_boots = 0;
    for (uint32_t host = 0; host < 20; host++) {
        struct truth_host h;
        struct truth_boot boot, before = {.number = UINT64_MAX};
        truth_host_init(&h, &t, host);
        for (uint64_t k = 0; k < 3000; k++) {
            truth_boot_at(&h, k, &boot);
            assert_true(boot.first <= k);
            if (k > 0 && boot.number == before.number) {
                assert_int_equal(boot.first, before.first);
                assert_memory_equal(boot.id, before.id, sizeof(boot.id));
            } else {
                assert_int_equal(boot.first, k);
                n_boots++;
            }
            before = boot;
        }
    }
    assert_in_range(n_boots, 20 * 3000 / 150 - 20, 20 * 3000 / 150 + 40);
    truth_fini(&t);
}

static void values_are_those_of_pools(void **state)
{
    (void)state;
    struct truth_settings s = settings();
    struct truth t;
    make_truth(&t, &s);
    s.reboot_every = 0;
    unsigned rose = 0, fell = 0;
    for (uint32_t host = 0; host < 10; host++) {
        struct truth_host h;
        truth_host_init(&h, &t, host);
        for (uint32_t slot = 1; slot < TAGS; slot += 7) {
            uint32_t word = truth_word(&h, slot);
            struct truth_boot boot = {.first = 0};
            int64_t before[TABLE_COLUMNS_MAX] = {0}, now[TABLE_COLUMNS_MAX];
            for (uint64_t k = 0; k < 1000; k++) {
                truth_tag_at(&h, &boot, word, k, now);
                assert_true(now[COL_BYTES] >= 0);
                assert_true(now[COL_OUTSTANDING] >= 0);
                if (h.windows) {
                    assert_true(now[COL_ALLOCS] >= before[COL_ALLOCS]);
                    assert_true(now[COL_FREES] >= before[COL_FREES]);
                    assert_int_equal(now[COL_OUTSTANDING],
                                     now[COL_ALLOCS] - now[COL_FREES]);
                } else {
                    assert_int_equal(now[COL_BYTES] % 4096, 0);
                }
                rose += now[COL_BYTES] > before[COL_BYTES] ? 1 : 0;
                fell += now[COL_BYTES] < before[COL_BYTES] ? 1 : 0;
                memcpy(before, now, sizeof(before));
            }
        }
    }
    assert_true(fell * 10 > rose * 7 && rose * 10 > fell * 7);
    truth_fini(&t);
}

static void cells_change_as_often_as_asked(void **state)
{
    (void)state;
    static const double shares[] = {0.05, 0.2, 0.5, 1};
    for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
        struct truth_settings s = settings();
        struct truth t;
        struct entropy e;
        s.change = shares[i];
        s.n_tags = 3000;
        make_truth(&t, &s);
        assert_int_equal(entropy_measure(&t, 2, 200, &e), PSC_OK);
        assert_true(e.changed > 0.85 * shares[i]);
        assert_true(e.changed < 1.1 * shares[i]);
        assert_true(e.cell_tag <= e.cell_fleet);
        assert_true(e.cell_fleet > 5 * shares[i]);
        truth_fini(&t);
    }
}

static void shares_of_the_hosts_are_as_asked(void **state)
{
    (void)state;
    struct truth_settings s = settings();
    struct truth t;
    make_truth(&t, &s);
    unsigned n_windows = 0, n_silent = 0, n_slow = 0, n_leaking = 0;
    for (uint32_t host = 0; host < 1000; host++) {
        struct truth_host h;
        truth_host_init(&h, &t, host);
        n_windows += h.windows ? 1 : 0;
        n_silent += h.silent ? 1 : 0;
        n_slow += h.slow ? 1 : 0;
        n_leaking += h.leaks;
    }
    assert_in_range(n_windows, 450, 550);
    assert_in_range(n_silent, 250, 350);
    assert_in_range(n_slow, 150, 250);
    assert_in_range(n_leaking, 250, 350);
    truth_fini(&t);
}

static void a_leak_grows_as_told(void **state)
{
    (void)state;
    struct truth_settings s = settings();
    struct truth t;
    s.reboot_every = 0;
    make_truth(&t, &s);
    unsigned n_leaking = 0;
    for (uint32_t host = 0; host < 50; host++) {
        struct truth_host h;
        struct truth_boot boot;
        struct truth_driver d;
        int64_t from[TABLE_COLUMNS_MAX], to[TABLE_COLUMNS_MAX];
        truth_host_init(&h, &t, host);
        truth_boot_at(&h, 0, &boot);
        truth_tag_at(&h, &boot, truth_word(&h, 1), 0, from);
        truth_tag_at(&h, &boot, truth_word(&h, 1), 6000, to);
        int64_t mib = (to[COL_BYTES] - from[COL_BYTES]) >> 20;
        truth_driver(&h, &boot, 0, &d);
        bool leaks = (h.leaks & 1) != 0;
        assert_string_equal(d.version, leaks ? "6.6.6" : "6.6.5");
        assert_true(leaks ? mib >= 80 && mib <= 140 : mib < 50);
        n_leaking += leaks ? 1 : 0;
    }
    assert_in_range(n_leaking, 7, 25);
    truth_fini(&t);
}

static void memory_falls_by_what_leaks(void **state)
{
    (void)state;
    struct truth_settings s = settings();
    struct truth t;
    s.reboot_every = 0;
    s.leaks[0].bytes_per_hour = INT64_C(8) << 30;
    make_truth(&t, &s);
    for (uint32_t host = 0; host < 50; host++) {
        struct truth_host h;
        struct truth_boot boot;
        truth_host_init(&h, &t, host);
        truth_boot_at(&h, 0, &boot);
        int64_t total = truth_counter_at(&h, &boot, TRUTH_TOTAL, 0);
        int64_t least = total, most = 0;
        for (uint64_t k = 0; k < 10000; k += 7) {
            int64_t left = truth_counter_at(&h, &boot, TRUTH_AVAILABLE, k);
            assert_int_equal(truth_counter_at(&h, &boot, TRUTH_TOTAL, k),
                             total);
            least = left < least ? left : least;
            most = left > most ? left : most;
        }
        assert_true(least > 0 && most < total);
        assert_true((h.leaks & 1) != 0 ? least == truth_ram(&h) >> 6
                                       : least > total / 4);
    }
    truth_fini(&t);
}

static void names_are_all_different(void **state)
{
    (void)state;
    struct truth_settings s = settings();
    struct truth t;
    make_truth(&t, &s);
    for (uint32_t host = 0; host < 6; host++) {
        struct truth_host h;
        struct psc_map names;
        psc_map_init(&names, TAGS + COUNTERS, 1 << 20);
        truth_host_init(&h, &t, host);
        for (uint32_t i = 0; i < TAGS + COUNTERS; i++) {
            uint8_t key[TRUTH_KEY_MAX];
            uint32_t index;
            size_t len = i < TAGS ? truth_tag_key(&h, truth_word(&h, i), key)
                                  : truth_counter_key(&h, i - TAGS, key);
            assert_int_equal(psc_map_add(&names, key, len, &index), PSC_OK);
            assert_int_equal(index, i);
        }
        psc_map_fini(&names);
    }
    truth_fini(&t);
}

static void expect_line(const struct psc_buf *page, const char *name,
                        const char *labels, int64_t value, const char *time)
{
    char line[256];
    (void)snprintf(line, sizeof(line), "%s{instance=\"x\",%s} %" PRId64 "%s\n",
                   name, labels, value, time);
    assert_non_null(strstr((const char *)page->data, line));
}

static void pages_show_the_truth(void **state)
{
    (void)state;
    struct truth_settings s = settings();
    struct truth t;
    make_truth(&t, &s);
    for (uint32_t host = 0; host < 6; host++) {
        struct truth_host h;
        struct truth_boot boot;
        struct psc_buf page;
        const uint64_t k = 200;
        unsigned n_lines = COUNTERS, found = 0;
        truth_host_init(&h, &t, host);
        truth_boot_at(&h, k, &boot);
        psc_buf_init(&page, 4 << 20);
        export_snapshot(&h, k, "x", 1700000000500000, &page);
        psc_buf_u8(&page, '\0');
        assert_int_equal(psc_buf_error(&page), PSC_OK);
        for (uint32_t slot = 0; slot < TAGS; slot++) {
            uint32_t word = truth_word(&h, slot);
            uint8_t key[TRUTH_KEY_MAX];
            char labels[160];
            int64_t v[TABLE_COLUMNS_MAX];
            if (!truth_tag_present(&h, word, k)) {
                continue;
            }
            size_t len = truth_tag_key(&h, word, key);
            (void)snprintf(labels, sizeof(labels), "pool=\"%s\",tag=\"%.*s\"",
                           pool_name((enum pool)key[0]), (int)len - 1,
                           (const char *)key + 1);
            truth_tag_at(&h, &boot, word, k, v);
            n_lines += h.windows ? 3 : 2;
            if (slot % 16 == 0) {
                const char *at = " 1700000000.500";
                expect_line(
                    &page, h.windows ? "pool_frees_total" : "pool_objects",
                    labels, v[h.windows ? COL_FREES : COL_OUTSTANDING], at);
                expect_line(&page, "pool_bytes", labels, v[COL_BYTES], at);
            }
        }
        for (const char *at = (char *)page.data; *at != '\0'; at++) {
            found += *at == '\n' ? 1 : 0;
        }
        assert_int_equal(found, n_lines);
        psc_buf_fini(&page);
    }
    truth_fini(&t);
}

static void times_are_sorted_into_buckets(void **state)
{
    (void)state;
    struct times *t = calloc(1, sizeof(*t));
    assert_non_null(t);
    assert_int_equal(times_share(t, 0.5), 0);
    for (int64_t us = 1; us <= 1000; us++) {
        times_add(t, us * 1000);
    }
    assert_in_range(times_share(t, 0.5), 500000, 532000);
    assert_in_range(times_share(t, 0.99), 990000, 1000000);
    assert_int_equal(times_share(t, 1), 1000000);
    free(t);
}

static void figures_of_a_span_leave_out_what_was_before(void **state)
{
    (void)state;
    struct stats *all = calloc(2, sizeof(*all));
    assert_non_null(all);
    all->samples = 5;
    times_add(&all->ack, 9000000);
    all[1] = all[0];
    all->samples = 7;
    times_add(&all->ack, 1000);
    times_add(&all->ack, 2000);
    stats_since(all, &all[1]);
    assert_int_equal(all->samples, 2);
    assert_int_equal(all->ack.n, 2);
    assert_in_range(times_share(&all->ack, 1), 2000, 2200);
    free(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_access_equals_step_by_step),
        cmocka_unit_test(the_quick_way_finds_the_same_changes),
        cmocka_unit_test(boots_follow_each_other),
        cmocka_unit_test(values_are_those_of_pools),
        cmocka_unit_test(cells_change_as_often_as_asked),
        cmocka_unit_test(shares_of_the_hosts_are_as_asked),
        cmocka_unit_test(a_leak_grows_as_told),
        cmocka_unit_test(memory_falls_by_what_leaks),
        cmocka_unit_test(names_are_all_different),
        cmocka_unit_test(pages_show_the_truth),
        cmocka_unit_test(times_are_sorted_into_buckets),
        cmocka_unit_test(figures_of_a_span_leave_out_what_was_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
