/* Parsing helpers: cursors stop at their ends, escapes are whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "agent/text.h"

static struct text of(const char *s)
{
    return text_of(s, strlen(s));
}

static void text_u64_refuses_what_does_not_fit(void **state)
{
    (void)state;
    uint64_t v = 7;
    struct text t = of(" 18446744073709551615 x");
    assert_true(text_u64(&t, &v));
    assert_true(v == UINT64_MAX);
    t = of("18446744073709551616");
    assert_false(text_u64(&t, &v));
    t = of("-1");
    assert_false(text_u64(&t, &v));
    t = of("");
    assert_false(text_u64(&t, &v));
}

static void text_word_ends_at_the_end(void **state)
{
    (void)state;
    struct text t = of("  ab\tc ");
    struct text w;
    assert_true(text_word(&t, &w));
    assert_true(text_equal(&w, "ab"));
    assert_true(text_word(&t, &w));
    assert_true(text_equal(&w, "c"));
    assert_false(text_word(&t, &w));
}

static void text_product_saturates(void **state)
{
    (void)state;
    assert_true(text_product(1ULL << 40, 1ULL << 40) == INT64_MAX);
    assert_true(text_product(UINT64_MAX, 1) == INT64_MAX);
    assert_int_equal(text_product(3, 4096), 12288);
}

static void text_put_escaped_never_cuts_an_escape(void **state)
{
    (void)state;
    char data[8];
    struct text_out out = {data, 0, 6};
    text_put_escaped(&out, of("a\\\x01zz"));
    assert_int_equal(out.len, 5);
    assert_memory_equal(data, "a\\x5C", 5);
}

static void text_put_json_escapes(void **state)
{
    (void)state;
    struct psc_buf b;
    psc_buf_init(&b, 256);
    text_put_json(&b, of("a\"b\\c\n\xff"));
    static const char WANT[] = "\"a\\\"b\\\\c\\u000a\\\\xFF\"";
    assert_int_equal(b.len, sizeof(WANT) - 1);
    assert_memory_equal(b.data, WANT, b.len);
    psc_buf_fini(&b);
}

static int count_lines(void *ctx, struct text line)
{
    (void)line;
    return ++*(int *)ctx == 3 ? 9 : 0;
}

static void text_lines_stops_when_told(void **state)
{
    (void)state;
    int n = 0;
    assert_int_equal(text_lines(of("a\n\nb"), count_lines, &n), 9);
    n = -10;
    assert_int_equal(text_lines(of("a\n\nb"), count_lines, &n), 0);
    assert_int_equal(n, -7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_u64_refuses_what_does_not_fit),
        cmocka_unit_test(text_word_ends_at_the_end),
        cmocka_unit_test(text_product_saturates),
        cmocka_unit_test(text_put_escaped_never_cuts_an_escape),
        cmocka_unit_test(text_put_json_escapes),
        cmocka_unit_test(text_lines_stops_when_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
