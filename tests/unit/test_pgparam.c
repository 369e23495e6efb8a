/* Arrays in PostgreSQL's binary form, written and read back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "collector/pgparam.h"

/* A result of one field, which is @len bytes of @data. */
static PGresult *result_of(const void *data, size_t len)
{
    char name[] = "x";
    PGresAttDesc column = {.name = name, .format = 1};
    char copy[256];
    PGresult *res = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    assert_non_null(res);
    assert_true(len < sizeof(copy));
    memcpy(copy, data, len);
    assert_int_equal(PQsetResultAttrs(res, 1, &column), 1);
    assert_int_equal(PQsetvalue(res, 0, 0, copy, (int)len), 1);
    return res;
}

static void an_array_has_the_servers_form(void **state)
{
    (void)state;
    static const uint8_t expected[] = {
        0, 0, 0, 1, 0, 0, 0, 1, 0,    0,    0,    17,   0, 0, 0, 3, 0, 0,
        0, 1, 0, 0, 0, 2, 7, 8, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 9};
    struct psc_buf b;
    psc_buf_init(&b, 1024);
    pgarray_begin(&b, PGARRAY_BYTEA);
    size_t opened = pgarray_open(&b);
    psc_buf_u8(&b, 7);
    psc_buf_u8(&b, 8);
    pgarray_close(&b, opened);
    pgarray_null(&b);
    pgarray_bytes(&b, "\x09", 1);
    pgarray_end(&b);
    assert_int_equal(psc_buf_error(&b), PSC_OK);
    assert_int_equal(b.len, sizeof(expected));
    assert_memory_equal(b.data, expected, sizeof(expected));
    pgarray_begin(&b, PGARRAY_INT2);
    pgarray_end(&b); /* none: no dimension */
    assert_int_equal(b.len, 12);
    psc_buf_fini(&b);
}

static void an_array_that_does_not_fit_says_so(void **state)
{
    (void)state;
    static const uint8_t big[64];
    struct psc_buf b;
    psc_buf_init(&b, 40);
    pgarray_begin(&b, PGARRAY_BYTEA);
    size_t opened = pgarray_open(&b);
    psc_buf_append(&b, big, sizeof(big));
    pgarray_close(&b, opened);
    opened = pgarray_open(&b); /* after the failure, too */
    pgarray_close(&b, opened);
    pgarray_time_or_null(&b, 0);
    pgarray_end(&b);
    assert_int_equal(psc_buf_error(&b), PSC_LIMIT);
    psc_buf_fini(&b);
}

/* A server that lies, or is cut short, costs elements and no more. */
static void what_is_read_ends_with_its_bytes(void **state)
{
    (void)state;
    struct psc_buf b;
    psc_buf_init(&b, 1024);
    pgarray_begin(&b, PGARRAY_TEXT);
    pgarray_bytes(&b, "stored", 6);
    pgarray_null(&b);
    pgarray_bytes(&b, "retry", 5);
    pgarray_end(&b);
    for (size_t len = 0; len <= b.len; len++) {
        PGresult *res = result_of(b.data, len);
        struct pgarray_reader r;
        struct psc_bytes text;
        pgarray_reader_init(&r, res, 0, 0);
        bool first = pgarray_next_bytes(&r, &text);
        assert_int_equal(first, len >= 30);
        assert_true(!first || memcmp(text.data, "stored", 6) == 0);
        assert_false(pgarray_next_bytes(&r, &text));
        assert_int_equal(pgarray_next_bytes(&r, &text), len == b.len);
        assert_int_equal(text.len, len == b.len ? 5 : 0);
        assert_false(pgarray_next_bytes(&r, &text));
        PQclear(res);
    }
    PGresult *res = result_of(b.data, b.len);
    struct pgarray_reader r;
    int32_t number;
    pgarray_reader_init(&r, res, 0, 0);
    assert_false(pgarray_next_int32(&r, &number)); /* six bytes are none */
    assert_false(pgarray_next_int32(&r, &number));
    PQclear(res);
    psc_buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_array_has_the_servers_form),
        cmocka_unit_test(an_array_that_does_not_fit_says_so),
        cmocka_unit_test(what_is_read_ends_with_its_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
