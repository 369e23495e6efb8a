/* Findings in words and as evidence, and back from it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "collector/watch_words.h"
#include "proto/table.h"

static const struct watch_names names = {
    .tag = {"slab filp", "slab \"odd\\tag\"", "slab dentry"}};

static struct detect_finding finding(void)
{
    struct detect_finding f = {
        .change = DETECT_OPENED,
        .key = 73,
        .tags = {73, 38, 100},
        .tag_bytes_per_day = {9e9, 8.5e9, 3e9},
        .n_tags = 3,
        .n_reclaimable = 1,
        .group_pool = POOL_SLAB,
        .fast = true,
        .growing = true,
        .onset_us = 1772460000000000,
        .detected_us = 1772460180000000,
        .updated_us = 1772460204000000,
        .grew_us = 1772460190000000,
        .onset_bytes = 393216,
        .bytes = 20 << 20,
        .bytes_per_day = 9e9,
        .group_bytes_per_day = 20.5e9,
        .room_bytes = 24000000000,
        .exhaustion_us = 1772540000000000,
        .earliest_us = 1772530000000000,
        .latest_us = 1772550000000000,
        .z = 3.34,
        .confidence = 0.6,
        .windows = 10,
        .window_us = 24000000,
    };
    return f;
}

static void evidence_brings_the_finding_back(void **state)
{
    (void)state;
    struct detect_finding f = finding();
    struct detect_finding again;
    struct psc_buf out;
    psc_buf_init(&out, 65536);
    assert_int_equal(watch_evidence(&f, &names, &out), 0);
    assert_true(watch_evidence_read((const char *)out.data, &again));
    assert_memory_equal(&again.tags, &f.tags, sizeof(f.tags));
    assert_int_equal(again.n_tags, f.n_tags);
    assert_int_equal(again.n_reclaimable, 1);
    assert_int_equal(again.group_pool, f.group_pool);
    assert_int_equal(again.key, f.key);
    assert_int_equal(again.detected_us, f.detected_us);
    assert_int_equal(again.latest_us, f.latest_us);
    assert_int_equal(again.onset_bytes, f.onset_bytes);
    assert_true(again.tag_bytes_per_day[1] == f.tag_bytes_per_day[1]);
    assert_true(again.z == f.z);
    assert_true(again.fast && again.growing && !again.information);
    psc_buf_fini(&out);
}

static void evidence_names_tags_and_survives_odd_numbers(void **state)
{
    (void)state;
    struct detect_finding f = finding();
    f.z = 1.0 / 0.0;
    f.tag_bytes_per_day[2] = 0.0 / 0.0;
    struct psc_buf out;
    psc_buf_init(&out, 65536);
    assert_int_equal(watch_evidence(&f, &names, &out), 0);
    json_t *j = json_loads((const char *)out.data, 0, NULL);
    assert_non_null(j);
    json_t *rates = json_object_get(j, "bytes_per_day");
    assert_true(json_real_value(json_object_get(rates, "slab filp")) == 9e9);
    assert_non_null(json_object_get(rates, "slab \"odd\\tag\""));
    assert_int_equal(json_integer_value(json_object_get(j, "windows")), 10);
    json_decref(j);
    psc_buf_fini(&out);
}

static void what_is_no_evidence_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "{", "[]", "{}", "{\"state\":[]}", "{\"state\":{\"tag_ids\":[]}}"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct detect_finding f;
        assert_false(watch_evidence_read(bad[i], &f));
    }
}

static void summary_tells_rate_room_and_windows(void **state)
{
    (void)state;
    struct detect_finding f = finding();
    struct psc_buf out;
    psc_buf_init(&out, 65536);
    watch_summary(&f, &names, &out);
    assert_int_equal(psc_buf_error(&out), 0);
    const char *text = (const char *)out.data;
    assert_non_null(strstr(text, "slab filp grows by 8.38 GiB a day"));
    assert_non_null(strstr(text, "run out at 2026-03-03"));
    assert_non_null(strstr(text, "10 windows of 24 seconds"));
    assert_non_null(strstr(text, "In step with it: slab \"odd\\tag\", and what "
                                 "the kernel can reclaim (slab dentry)."));
    assert_non_null(strstr(text, "in pool slab grow 19.1 GiB a day; what can "
                                 "be reclaimed counts"));
    assert_non_null(strstr(text, "(between 2026-03-03 09:26 UTC and "));
    psc_buf_reset(&out);
    f.latest_us = 0;
    watch_summary(&f, &names, &out);
    assert_non_null(strstr((const char *)out.data,
                           "(not before 2026-03-03 09:26 UTC, with no later "
                           "bound, as all or none"));
    psc_buf_fini(&out);
}

static void summary_of_what_is_over_is_in_the_past(void **state)
{
    (void)state;
    struct detect_finding f = finding();
    struct psc_buf out;
    f.change = DETECT_RESOLVED;
    f.growing = false;
    psc_buf_init(&out, 65536);
    watch_summary(&f, &names, &out);
    assert_int_equal(psc_buf_error(&out), 0);
    const char *text = (const char *)out.data;
    assert_non_null(strstr(text, "slab filp grew by 8.38 GiB a day"));
    assert_non_null(strstr(text, "that is over, and it holds 20.0 MiB"));
    assert_null(strstr(text, "run out"));
    assert_null(strstr(text, " grows "));
    assert_null(strstr(text, " grow "));
    psc_buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(evidence_brings_the_finding_back),
        cmocka_unit_test(evidence_names_tags_and_survives_odd_numbers),
        cmocka_unit_test(what_is_no_evidence_is_refused),
        cmocka_unit_test(summary_tells_rate_room_and_windows),
        cmocka_unit_test(summary_of_what_is_over_is_in_the_past),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
