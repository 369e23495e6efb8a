/* The session's pure parts: which states follow which, and what is made of a
 * peer's texts and numbers. test_decode.c has what becomes of batches. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collector/decode_lists.h"
#include "collector/sanitise.h"
#include "collector/session.h"
#include "common/clock.h"

#define NOW (1800000000LL * PSC_US_PER_S)

static struct psc_bytes text(const char *s)
{
    struct psc_bytes b = {(const uint8_t *)s, strlen(s)};
    return b;
}

#define BYTES(literal)                                                         \
    ((struct psc_bytes){(const uint8_t *)(literal), sizeof(literal) - 1})

static struct psc_buf out;

static const char *taken(void)
{
    psc_buf_u8(&out, '\0');
    assert_int_equal(psc_buf_error(&out), PSC_OK);
    out.len = 0;
    return (const char *)out.data;
}

/* ---- states ---- */

static void states_follow_the_diagram(void **state)
{
    (void)state;
    assert_true(session_may_change(SESSION_HANDSHAKE, SESSION_FIRST_FRAME));
    assert_true(session_may_change(SESSION_FIRST_FRAME, SESSION_CLAIMING));
    assert_true(session_may_change(SESSION_FIRST_FRAME, SESSION_ENROLLING));
    assert_true(session_may_change(SESSION_CLAIMING, SESSION_READY));
    assert_false(session_may_change(SESSION_FIRST_FRAME, SESSION_READY));
    assert_false(session_may_change(SESSION_ENROLLING, SESSION_READY));
    assert_false(session_may_change(SESSION_READY, SESSION_CLAIMING));
    for (unsigned s = 0; s < SESSION_STATES; s++) {
        enum session_state from = (enum session_state)s;
        assert_true(session_may_change(from, SESSION_CLOSING) ==
                    (from != SESSION_CLOSING));
        assert_false(session_may_change(SESSION_CLOSING, from));
        assert_string_not_equal(session_state_name(from), "?");
    }
}

/* ---- texts ---- */

static void tags_become_canonical(void **state)
{
    (void)state;
    static const struct {
        struct psc_bytes in;
        const char *out;
        bool canonical;
    } cases[] = {
        {BYTES("kmalloc-64"), "kmalloc-64", true},
        {BYTES("Abc "), "Abc ", true},
        {BYTES("a\\x20b"), "a\\x20b", true},
        {BYTES("a\\x2b"), "a\\x5Cx2b", false}, /* lower case is not it */
        {BYTES("a\\"), "a\\x5C", false},
        {BYTES("\0\xff\n"), "\\x00\\xFF\\x0A", false},
        {BYTES("\xc3\xa9"), "\\xC3\\xA9", false},
        {BYTES(""), "", true},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        bool canonical = sanitise_tag_text(cases[i].in, &out);
        assert_string_equal(taken(), cases[i].out);
        assert_int_equal(canonical, cases[i].canonical);
        /* What it makes is canonical. */
        assert_true(sanitise_tag_text(text(cases[i].out), &out));
        assert_string_equal(taken(), cases[i].out);
    }
}

static void texts_become_utf8(void **state)
{
    (void)state;
    static const struct {
        struct psc_bytes in;
        const char *out;
    } cases[] = {
        {BYTES("caf\xc3\xa9 \xf0\x9f\x98\x80"), "caf\xc3\xa9 \xf0\x9f\x98\x80"},
        {BYTES("\xc0\x80"), "\\xC0\\x80"},                   /* overlong */
        {BYTES("\xed\xa0\x80"), "\\xED\\xA0\\x80"},          /* surrogate */
        {BYTES("\xf4\x90\x80\x80"), "\\xF4\\x90\\x80\\x80"}, /* too large */
        {BYTES("\xe2\x82"), "\\xE2\\x82"},                   /* cut off */
        {BYTES("a\0b\x7f\xc2\x85"), "a\\x00b\\x7F\\xC2\\x85"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        bool clean = sanitise_text(cases[i].in, &out);
        assert_int_equal(clean, i == 0);
        assert_string_equal(taken(), cases[i].out);
    }
}

static void json_is_safe(void **state)
{
    (void)state;
    sanitise_json_string(&out, BYTES("a\"b\\\0\n\xff\xc3\xa9"), 100);
    assert_string_equal(taken(), "\"a\\\"b\\\\  \xef\xbf\xbd\xc3\xa9\"");
    sanitise_json_string(&out, text("abcdef"), 3);
    assert_string_equal(taken(), "\"abc\"");
    sanitise_json_object(&out, text("{ \"a\": [1, 2] }"));
    assert_string_equal(taken(), "{\"a\":[1,2]}");
    sanitise_json_object(&out, text(""));
    assert_string_equal(taken(), "{}");
    static const char *const bad[] = {
        "[1]", "nonsense", "{\"a\":\"\\u0000\"}", "{\"a\":1e999}", "{",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        sanitise_json_object(&out, text(bad[i]));
        assert_memory_equal(taken(), "{\"text\":\"", 9);
    }
    char deep[4096];
    memset(deep, '[', sizeof(deep));
    struct psc_bytes bytes = {(const uint8_t *)deep, sizeof(deep)};
    sanitise_json_object(&out, bytes);
    assert_memory_equal(taken(), "{\"text\":\"[[", 11);
}

static void rows_are_bounded(void **state)
{
    (void)state;
    enum { ALL = TAG_ALLOCS | TAG_FREES | TAG_OUTSTANDING | TAG_BYTES };
    static const struct {
        uint8_t flags;
        int64_t in[4], out[4];
    } cases[] = {
        {ALL, {7, 3, 4, 99}, {7, 3, 4, 99}},
        {ALL, {3, 7, -4, -1}, {3, 3, 0, 0}},
        {ALL,
         {INT64_MAX, 5, INT64_MAX - 5, INT64_MAX},
         {SANITISE_COUNT_MAX, SANITISE_COUNT_MAX - SANITISE_BYTES_MAX,
          SANITISE_BYTES_MAX, SANITISE_BYTES_MAX}},
        {ALL, {INT64_MIN, INT64_MIN, 0, 0}, {0, 0, 0, 0}},
        {TAG_OUTSTANDING | TAG_BYTES,
         {0, 0, INT64_MAX, 1},
         {0, 0, SANITISE_BYTES_MAX, 1}},
        {TAG_OUTSTANDING, {0, 0, -1, 0}, {0, 0, 0, 0}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t row[4];
        memcpy(row, cases[i].in, sizeof(row));
        assert_int_equal(sanitise_row_fits(4, cases[i].flags, row), i == 0);
        sanitise_tag_row(cases[i].flags, row);
        assert_memory_equal(row, cases[i].out, sizeof(row));
        assert_true(sanitise_row_fits(4, cases[i].flags, row));
    }
    int64_t counter = INT64_MIN;
    assert_true(sanitise_row_fits(1, ENTRY_REAL, &counter));
    sanitise_counter_row(ENTRY_REAL, &counter);
    assert_int_equal(counter, INT64_MIN);
    assert_false(sanitise_row_fits(1, 0, &counter));
    sanitise_counter_row(0, &counter);
    assert_int_equal(counter, -STORED_VALUE_MAX);
    assert_true(sanitise_row_fits(1, 0, &counter));
}

static void times_are_bounded(void **state)
{
    (void)state;
    assert_true(sanitise_is_time(NOW, NOW));
    assert_false(sanitise_is_time(0, NOW));
    assert_false(sanitise_is_time(NOW + 2LL * 86400 * PSC_US_PER_S, NOW));
}

static void labels_become_an_object(void **state)
{
    (void)state;
    struct psc_buf labels;
    psc_buf_init(&labels, 4096);
    psc_buf_string(&labels, "rack", 4);
    psc_buf_string(&labels, "7\"", 2);
    psc_buf_string(&labels, "a", 1);
    psc_buf_string(&labels, "", 0);
    psc_buf_varint(&labels, 1000); /* a length that is not there */
    decode_labels(psc_buf_bytes(&labels), &out);
    assert_string_equal(taken(), "{\"rack\":\"7\\\"\",\"a\":\"\"}");
    psc_buf_fini(&labels);
}

int main(void)
{
    psc_buf_init(&out, 65536);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(states_follow_the_diagram),
        cmocka_unit_test(tags_become_canonical),
        cmocka_unit_test(texts_become_utf8),
        cmocka_unit_test(json_is_safe),
        cmocka_unit_test(rows_are_bounded),
        cmocka_unit_test(times_are_bounded),
        cmocka_unit_test(labels_become_an_object),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    psc_buf_fini(&out);
    return rc;
}
