/* What people see: tables that line up and are cut, plots, patterns, single
 * values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <locale.h>

#include "cli/listing.h"
#include "cli/plot.h"
#include "cli/query.h"
#include "cli/top.h"
#include "common/clock.h"

static char text[65536];

/* Open a stream into `text`; fclose() ends it. */
static FILE *into_text(void)
{
    FILE *out = fmemopen(text, sizeof text, "w");

    assert_non_null(out);
    return out;
}

static void listing_lines_up_and_cuts(void **state)
{
    struct listing g;
    (void)state;
    listing_init(&g);
    listing_column(&g, "TAG", false, LISTING_CUT);
    listing_column(&g, "BYTES", true, LISTING_WHOLE);
    listing_add(&g, "a-rather-long-name-of-a-tag", LISTING_PLAIN);
    listing_add(&g, "12 MiB", LISTING_PLAIN);
    listing_add(&g, "f\033[2Jlp\n", LISTING_RED);
    listing_add(&g, "1 B", LISTING_PLAIN);
    FILE *out = into_text();
    assert_int_equal(listing_print(&g, out, 24, 0, false), 0);
    fclose(out);
    assert_string_equal(text, "TAG                BYTES\n"
                              "a-rather-long-n~  12 MiB\n"
                              "f?[2Jlp?             1 B\n");
    out = into_text();
    assert_int_equal(listing_print(&g, out, 0, 1, true), 0);
    fclose(out);
    assert_non_null(strstr(text, "\033[1mTAG"));
    assert_non_null(strstr(text, "a-rather-long-name-of-a-tag  12 MiB\n"));
    assert_null(strstr(text, "lp"));
    listing_fini(&g);
}

static void listing_counts_columns_of_utf8(void **state)
{
    (void)state;
    if (!setlocale(LC_CTYPE, "C.UTF-8")) {
        skip();
    }
    assert_int_equal(listing_text_width("größe"), 5);
    assert_int_equal(listing_text_width("\xff\xfe"), 2);
    assert_int_equal(listing_text_width("漢"), 2);
}

/* What does not fit is left out, not cut in the middle of a number. */
static void listing_leaves_out_whole_columns(void **state)
{
    struct listing g;
    (void)state;
    listing_init(&g);
    listing_column(&g, "HOST", false, LISTING_CUT);
    listing_column(&g, "BYTES", true, LISTING_WHOLE);
    listing_column(&g, "RUNS OUT", true, LISTING_WHOLE);
    listing_add(&g, "db-1", LISTING_PLAIN);
    listing_add(&g, "12.0 MiB", LISTING_PLAIN);
    listing_add(&g, "", LISTING_PLAIN);
    FILE *out = into_text();
    assert_int_equal(listing_print(&g, out, 21, 0, false), 0);
    fclose(out);
    assert_string_equal(text, "HOST     BYTES\ndb-1  12.0 MiB\n");
    out = into_text();
    assert_int_equal(listing_print(&g, out, 24, 0, false), 0);
    fclose(out);
    assert_string_equal(text, "HOST     BYTES  RUNS OUT\ndb-1  12.0 MiB\n");
    listing_fini(&g);
}

/* Of a path the end tells; a message is read in full. */
static void listing_shortens_as_columns_ask(void **state)
{
    struct listing g;
    (void)state;
    listing_init(&g);
    listing_column(&g, "COUNTER", false, LISTING_WHOLE);
    listing_column(&g, "INSTANCE", false, LISTING_TAIL);
    listing_column(&g, "MESSAGE", false, LISTING_BELOW);
    listing_add(&g, "node_oom", LISTING_PLAIN);
    listing_add(&g, "/system.slice/nginx.service", LISTING_PLAIN);
    listing_add(&g, "out of memory: killed 17", LISTING_PLAIN);
    FILE *out = into_text();
    assert_int_equal(listing_print(&g, out, 24, 0, false), 0);
    fclose(out);
    assert_string_equal(text, "COUNTER   INSTANCE\n"
                              "node_oom  ~nginx.service\n"
                              "    out of memory:\n"
                              "    killed 17\n");
    out = into_text();
    assert_int_equal(listing_print(&g, out, 65, 0, false), 0);
    fclose(out);
    assert_non_null(strstr(text, "nginx.service  out of memory: killed 17\n"));
    listing_fini(&g);
}

static void listing_survives_narrow_terminals(void **state)
{
    struct listing g;
    (void)state;
    listing_init(&g);
    listing_column(&g, "HOST", false, LISTING_CUT);
    listing_column(&g, "ONE", true, LISTING_WHOLE);
    listing_column(&g, "TWO", true, LISTING_WHOLE);
    for (int i = 0; i < 3; i++) {
        listing_add(&g, "0123456789012345678901234567890123456789",
                    LISTING_PLAIN);
    }
    for (int width = 1; width < 60; width++) {
        FILE *out = into_text();
        assert_int_equal(listing_print(&g, out, width, 0, false), 0);
        fclose(out);
        for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
            assert_true(strlen(line) <= (size_t)width);
        }
    }
    listing_fini(&g);
}

static void plot_draws_a_ramp(void **state)
{
    struct plot_point points[100];
    struct plot p = {.points = points,
                     .n = 100,
                     .from_us = 0,
                     .to_us = 99 * PSC_US_PER_S,
                     .width = 51,
                     .height = 5,
                     .bytes = true};
    (void)state;
    for (int i = 0; i < 100; i++) {
        points[i].at_us = i * PSC_US_PER_S;
        points[i].value = i * 1048576.0;
    }
    FILE *out = into_text();
    plot_print(&p, out);
    fclose(out);
    assert_non_null(strstr(text, "99.0 MiB |"));
    assert_non_null(strstr(text, "0 B |***"));
    assert_null(strpbrk(text, "\xe2"));
    p.utf8 = true;
    out = into_text();
    plot_print(&p, out);
    fclose(out);
    assert_non_null(strstr(text, "│"));
    assert_non_null(strstr(text, "\xe2\xa0")); /* some braille */
}

/* One value has one label, its own. */
static void plot_labels_what_is_constant(void **state)
{
    const struct plot_point same[] = {{0, 4096}, {PSC_US_PER_S, 4096}};
    struct plot p = {.points = same,
                     .n = 2,
                     .to_us = PSC_US_PER_S,
                     .width = 40,
                     .height = 14,
                     .bytes = true};
    (void)state;
    FILE *out = into_text();
    plot_print(&p, out);
    fclose(out);
    const char *label = strstr(text, "4.00 KiB |*");
    assert_non_null(label);
    assert_null(strstr(label + strlen("4.00 KiB"), "KiB"));
    label = strstr(text, "KiB");
    assert_memory_equal(label, "KiB |*", 6);
}

static void plot_survives_odd_points(void **state)
{
    const struct plot_point same[] = {{0, 5}, {0, 5}, {0, 5}};
    const struct plot_point outside[] = {{-100, -1e300}, {500, 1e300}};
    struct plot p = {.points = same,
                     .n = 3,
                     .to_us = 1,
                     .width = 1,
                     .height = 1,
                     .utf8 = true};
    (void)state;
    FILE *out = into_text();
    plot_print(&p, out);
    p.points = outside;
    p.n = 2;
    p.width = 100000;
    p.height = 100000;
    plot_print(&p, out);
    p.n = 0;
    plot_print(&p, out);
    fclose(out);
}

static const char *shown(const char *value, enum show show)
{
    query_show(text, sizeof text, value, show, 10801 * PSC_US_PER_S);
    return text;
}

static void query_shows_units(void **state)
{
    (void)state;
    assert_string_equal(shown("1536", SHOW_BYTES), "1.50 KiB");
    assert_string_equal(shown("1536", SHOW_DELTA), "+1.50 KiB");
    assert_string_equal(shown("-1536", SHOW_DELTA), "-1.50 KiB");
    assert_string_equal(shown("1048576", SHOW_PER_DAY), "1.00 MiB/day");
    assert_string_equal(shown("5246", SHOW_COUNT), "5,246");
    assert_string_equal(shown("5246.0", SHOW_VALUE), "5,246");
    assert_string_equal(shown("0.25", SHOW_VALUE), "0.25");
    assert_string_equal(shown("1970-01-01 00:00:01+00", SHOW_AGO), "3 h ago");
    assert_string_equal(shown("1970-01-01 02:00:01+02", SHOW_TIME),
                        "1970-01-01 00:00:01 UTC");
    assert_string_equal(shown("infinity", SHOW_AGO), "infinity");
    assert_string_equal(shown("", SHOW_BYTES), "");
}

static void query_times_go_both_ways(void **state)
{
    char out[48];
    (void)state;
    query_time_text(out, 86400 * PSC_US_PER_S + 250000);
    assert_string_equal(out, "1970-01-02T00:00:00.250000Z");
    assert_int_equal(query_time_us("1970-01-02 00:00:00.25+00"),
                     86400 * PSC_US_PER_S + 250000);
    assert_int_equal(query_time_us(""), 0);
}

static void patterns_become_like(void **state)
{
    struct psc_error err;
    char out[32];
    (void)state;
    assert_int_equal(query_like(out, sizeof out, "kmalloc-*_?%\\", &err), 0);
    assert_string_equal(out, "kmalloc-%\\__\\%\\\\");
    assert_int_equal(query_like(out, sizeof out,
                                "0123456789012345678901234567890123456789",
                                &err),
                     PSC_LIMIT);
}

static void patterns_match(void **state)
{
    (void)state;
    assert_true(top_match("*", "", 0));
    assert_true(top_match("kmalloc-*", "kmalloc-64", 10));
    assert_true(top_match("*-cg-*k", "kmalloc-cg-1k", 13));
    assert_true(top_match("fil?", "filp", 4));
    assert_false(top_match("fil?", "fil", 3));
    assert_false(top_match("filp", "filp2", 5));
    assert_false(top_match("", "x", 1));
    assert_true(top_match("a*b*c", "aXbXbXc", 7));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(listing_lines_up_and_cuts),
        cmocka_unit_test(listing_counts_columns_of_utf8),
        cmocka_unit_test(listing_leaves_out_whole_columns),
        cmocka_unit_test(listing_shortens_as_columns_ask),
        cmocka_unit_test(listing_survives_narrow_terminals),
        cmocka_unit_test(plot_draws_a_ramp),
        cmocka_unit_test(plot_labels_what_is_constant),
        cmocka_unit_test(plot_survives_odd_points),
        cmocka_unit_test(query_shows_units),
        cmocka_unit_test(query_times_go_both_ways),
        cmocka_unit_test(patterns_become_like),
        cmocka_unit_test(patterns_match),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
