/* The sample: keys that are too long, lists that begin by themselves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "agent/sample.h"

static void sample_refuses_long_keys(void **state)
{
    (void)state;
    struct sample s;
    sample_init(&s);
    table_begin(&s.tags);
    table_begin(&s.counters);
    char text[TABLE_KEY_MAX_BYTES + 1];
    memset(text, 'a', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    struct tag_values v = {.flags = TAG_BYTES, .bytes = 1};
    assert_int_equal(sample_tag(&s, POOL_SLAB, text, SAMPLE_TAG_MAX_BYTES, &v),
                     0);
    assert_int_equal(
        sample_tag(&s, POOL_SLAB, text, SAMPLE_TAG_MAX_BYTES + 1, &v),
        PSC_LIMIT);
    assert_int_equal(sample_counter(&s, text, "", 1), PSC_LIMIT);
    assert_int_equal(sample_counter_real(&s, "load", "", 0.5), 0);
    double d;
    memcpy(&d, table_values(&s.counters, 0), sizeof(d));
    assert_true(d == 0.5);
    assert_int_equal(s.counters.entries[0].put_flags, ENTRY_REAL);
    sample_fini(&s);
}

static void sample_begins_its_lists(void **state)
{
    (void)state;
    struct sample s;
    sample_init(&s);
    struct event_record e;
    memset(&e, 0, sizeof(e));
    e.position = 3;
    assert_int_equal(sample_event(&s, &e), 0);
    assert_int_equal(sample_event(&s, &e), 0);
    assert_int_equal(s.n_events, 2);
    struct record_reader in;
    record_reader_init(&in, psc_buf_bytes(&s.events));
    assert_true(record_next_event(&in, &e));
    assert_true(record_next_event(&in, &e));
    assert_false(record_next_event(&in, &e));
    assert_true(record_reader_ok(&in));
    /* The next tick's first event starts over. */
    s.n_events = 0;
    size_t len = s.events.len;
    assert_int_equal(sample_event(&s, &e), 0);
    assert_true(s.events.len < len);
    sample_fini(&s);
}

static void sample_keeps_events_when_one_does_not_fit(void **state)
{
    (void)state;
    struct sample s;
    sample_init(&s);
    static uint8_t text[200 * 1024];
    struct event_record e = {.position = 7};
    assert_int_equal(sample_event(&s, &e), 0);
    e.details.data = text;
    e.details.len = sizeof(text);
    assert_int_equal(sample_event(&s, &e), 0);
    assert_int_equal(sample_event(&s, &e), PSC_LIMIT);
    assert_int_equal(s.n_events, 2);
    assert_false(sample_has_room(&s, 2, 64 * 1024));
    assert_true(sample_has_room(&s, 2, 1024));
    struct record_reader in;
    record_reader_init(&in, psc_buf_bytes(&s.events));
    assert_true(record_next_event(&in, &e));
    assert_true(record_next_event(&in, &e));
    assert_false(record_next_event(&in, &e));
    assert_true(record_reader_ok(&in));
    sample_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sample_refuses_long_keys),
        cmocka_unit_test(sample_begins_its_lists),
        cmocka_unit_test(sample_keeps_events_when_one_does_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
