/* Record lists: what is written is read, and no bytes break a reader. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "proto/record.h"
#include "tests/lib/fault.h"

enum { LIST_MAX_BYTES = 1 << 16 };

static struct psc_bytes text(const char *s)
{
    return (struct psc_bytes){(const uint8_t *)s, strlen(s)};
}

static void assert_text(struct psc_bytes got, const char *wanted)
{
    assert_int_equal(got.len, strlen(wanted));
    if (got.len > 0) {
        assert_memory_equal(got.data, wanted, got.len);
    }
}

static struct driver_record some_driver(const uint8_t *sha256)
{
    return (struct driver_record){
        .name = text("ice"),
        .version = text("1.9.11"),
        .company = text(""),
        .product = text("E810"),
        .path = text("/lib/modules/ice.ko"),
        .srcversion = text("0DB1E2C3"),
        .sha256 = {sha256, sha256 != NULL ? 32 : 0},
        .tags = text("ice_a ice_b"),
        .link_time_us = -1,
        .loaded_at_us = 1767225600000000,
        .size_bytes = 1400832,
        .loaded_matches_file = sha256 != NULL ? 1 : -1,
    };
}

static void drivers_round_trip(void **state)
{
    (void)state;
    uint8_t sha256[32] = {7};
    struct psc_buf list;
    psc_buf_init(&list, LIST_MAX_BYTES);
    record_list_begin(&list);
    struct driver_record in = some_driver(NULL);
    record_put_driver(&list, &in);
    in = some_driver(sha256);
    record_put_driver(&list, &in);
    assert_int_equal(psc_buf_error(&list), PSC_OK);

    struct record_reader r;
    struct driver_record out;
    record_reader_init(&r, psc_buf_bytes(&list));
    assert_true(record_next_driver(&r, &out));
    assert_int_equal(out.sha256.len, 0);
    assert_int_equal(out.loaded_matches_file, -1);
    assert_true(record_next_driver(&r, &out));
    assert_text(out.name, "ice");
    assert_text(out.version, "1.9.11");
    assert_text(out.company, "");
    assert_text(out.product, "E810");
    assert_text(out.path, "/lib/modules/ice.ko");
    assert_text(out.srcversion, "0DB1E2C3");
    assert_int_equal(out.sha256.len, 32);
    assert_text(out.tags, "ice_a ice_b");
    assert_int_equal(out.link_time_us, -1);
    assert_int_equal(out.loaded_at_us, 1767225600000000);
    assert_int_equal(out.size_bytes, 1400832);
    assert_int_equal(out.loaded_matches_file, 1);
    assert_false(record_next_driver(&r, &out));
    assert_true(record_reader_ok(&r));
    psc_buf_fini(&list);
}

static void events_sources_and_aliases_round_trip(void **state)
{
    (void)state;
    struct psc_buf list;
    psc_buf_init(&list, LIST_MAX_BYTES);
    struct record_reader r;

    record_list_begin(&list);
    struct event_record event = {.position = UINT64_MAX,
                                 .at_us = INT64_MIN,
                                 .source = text("kernel"),
                                 .event_id = text("oom_kill"),
                                 .message = text("Out of memory"),
                                 .details = text("{\"pid\":1}")};
    record_put_event(&list, &event);
    record_reader_init(&r, psc_buf_bytes(&list));
    struct event_record e;
    assert_true(record_next_event(&r, &e));
    assert_true(e.position == UINT64_MAX);
    assert_true(e.at_us == INT64_MIN);
    assert_text(e.source, "kernel");
    assert_text(e.event_id, "oom_kill");
    assert_text(e.message, "Out of memory");
    assert_text(e.details, "{\"pid\":1}");
    assert_false(record_next_event(&r, &e));
    assert_true(record_reader_ok(&r));

    psc_buf_reset(&list);
    record_list_begin(&list);
    struct source_record source = {.name = text("slabinfo"),
                                   .state = SOURCE_UNAVAILABLE,
                                   .message = text("needs root")};
    record_put_source(&list, &source);
    record_reader_init(&r, psc_buf_bytes(&list));
    struct source_record s;
    assert_true(record_next_source(&r, &s));
    assert_text(s.name, "slabinfo");
    assert_int_equal(s.state, SOURCE_UNAVAILABLE);
    assert_text(s.message, "needs root");

    psc_buf_reset(&list);
    record_list_begin(&list);
    struct alias_record alias = {
        .pool = 3, .tag = text("kmalloc-64"), .names = text("a b\\x20c")};
    record_put_alias(&list, &alias);
    record_reader_init(&r, psc_buf_bytes(&list));
    struct alias_record a;
    assert_true(record_next_alias(&r, &a));
    assert_int_equal(a.pool, 3);
    assert_text(a.tag, "kmalloc-64");
    assert_text(a.names, "a b\\x20c");
    psc_buf_fini(&list);
}

static void a_long_record_gets_a_long_length(void **state)
{
    (void)state;
    static char message[40000];
    memset(message, 'm', sizeof(message) - 1);
    struct psc_buf list;
    psc_buf_init(&list, LIST_MAX_BYTES);
    record_list_begin(&list);
    struct event_record in = {.message = text(message)};
    record_put_event(&list, &in);
    struct record_reader r;
    struct event_record out;
    record_reader_init(&r, psc_buf_bytes(&list));
    assert_true(record_next_event(&r, &out));
    assert_text(out.message, message);
    psc_buf_fini(&list);
}

static void fields_of_newer_writers_are_skipped(void **state)
{
    (void)state;
    static const uint8_t list[] = "\1\x05\3abc\0";
    struct record_reader r;
    struct source_record s;
    record_reader_init(&r, (struct psc_bytes){list, sizeof(list) - 1});
    assert_false(record_next_source(&r, &s)); /* a field is cut off */
    assert_false(record_reader_ok(&r));

    static const uint8_t good[] = "\1"
                                  "\x09\3abc\0\1!??"
                                  "\x04\1x\3\0";
    record_reader_init(&r, (struct psc_bytes){good, sizeof(good) - 1});
    assert_true(record_next_source(&r, &s));
    assert_text(s.name, "abc");
    assert_text(s.message, "!");
    assert_true(record_next_source(&r, &s));
    assert_int_equal(s.state, SOURCE_FAILING);
    assert_false(record_next_source(&r, &s));
    assert_true(record_reader_ok(&r));
}

static void no_bytes_are_an_empty_list(void **state)
{
    (void)state;
    struct record_reader r;
    struct event_record e;
    record_reader_init(&r, (struct psc_bytes){NULL, 0});
    assert_false(record_next_event(&r, &e));
    assert_true(record_reader_ok(&r));
}

static void bad_lists_are_noticed(void **state)
{
    (void)state;
    static const char *const lists[] = {
        "\2",                                         /* version */
        "\1\x05",                                     /* cut off */
        "\1\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", /* 2^64 - 1 bytes */
        "\1\x80",                                     /* varint cut off */
        "\1\x03\1x\x09",                              /* state and message */
        "\1\x04\1x\x04\x80",
    };
    for (unsigned i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        struct record_reader r;
        struct source_record s;
        record_reader_init(&r, text(lists[i]));
        assert_false(record_next_source(&r, &s));
        assert_false(record_reader_ok(&r));
        assert_false(record_next_source(&r, &s));
    }
    /* A record without any field. */
    struct record_reader r;
    struct alias_record a;
    record_reader_init(&r, (struct psc_bytes){(const uint8_t *)"\1\0", 2});
    assert_false(record_next_alias(&r, &a));
    assert_false(record_reader_ok(&r));
}

/* Every prefix of a good list reads as a shorter list or as a bad one. */
static void a_cut_list_never_reads_too_far(void **state)
{
    (void)state;
    uint8_t sha256[32] = {7};
    struct psc_buf list;
    psc_buf_init(&list, LIST_MAX_BYTES);
    record_list_begin(&list);
    struct driver_record in = some_driver(sha256);
    record_put_driver(&list, &in);
    record_put_driver(&list, &in);
    for (size_t len = 0; len < list.len; len++) {
        struct record_reader r;
        struct driver_record out;
        record_reader_init(&r, (struct psc_bytes){list.data, len});
        unsigned n = 0;
        while (record_next_driver(&r, &out)) {
            n++;
        }
        bool whole = len <= 1 || len == 1 + (list.len - 1) / 2;
        assert_int_equal(record_reader_ok(&r), whole);
        assert_true(n < 2);
    }
    psc_buf_fini(&list);
}

static void failures_to_write_stick(void **state)
{
    (void)state;
    struct driver_record in = some_driver(NULL);
    for (unsigned long n = 1; n <= 3; n++) {
        struct psc_buf list;
        psc_buf_init(&list, LIST_MAX_BYTES);
        fault_fail_at(n);
        record_list_begin(&list);
        record_put_driver(&list, &in);
        fault_fail_at(0);
        assert_int_equal(psc_buf_error(&list), n <= 2 ? PSC_NOMEM : PSC_OK);
        psc_buf_fini(&list);
    }
    for (size_t max = 0; max < 90; max++) {
        struct psc_buf list;
        psc_buf_init(&list, max);
        record_list_begin(&list);
        record_put_driver(&list, &in);
        int rc = psc_buf_error(&list);
        assert_true(rc == PSC_LIMIT || list.len <= max);
        psc_buf_fini(&list);
    }
}

static void states_have_names(void **state)
{
    (void)state;
    assert_string_equal(source_state_name(SOURCE_OK), "ok");
    assert_string_equal(source_state_name(SOURCE_FAILING), "failing");
    assert_string_equal(source_state_name((enum source_state)9), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drivers_round_trip),
        cmocka_unit_test(events_sources_and_aliases_round_trip),
        cmocka_unit_test(a_long_record_gets_a_long_length),
        cmocka_unit_test(fields_of_newer_writers_are_skipped),
        cmocka_unit_test(no_bytes_are_an_empty_list),
        cmocka_unit_test(bad_lists_are_noticed),
        cmocka_unit_test(a_cut_list_never_reads_too_far),
        cmocka_unit_test(failures_to_write_stick),
        cmocka_unit_test(states_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
