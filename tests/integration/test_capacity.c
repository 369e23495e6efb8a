/* `poolscope capacity` and `retention`: what is told follows from what is
 * stored, and from how long it is kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "tests/lib/store.h"

static char out[16384];

static int cli(const char *args)
{
    return test_store_cli(args, out, sizeof(out));
}

static void has(const char *part)
{
    if (strstr(out, part) == NULL) {
        fail_msg("no '%s' in:\n%s", part, out);
    }
}

/* A number of one tier, -1 for null. */
static double told(const char *tier, const char *name)
{
    double value = -1;
    assert_int_equal(cli("capacity --json"), 0);
    json_t *all = json_loads(out, 0, NULL);
    assert_non_null(all);
    size_t i;
    json_t *row;
    json_array_foreach(all, i, row)
    {
        if (strcmp(json_string_value(json_object_get(row, "tier")), tier) ==
                0 &&
            !json_is_null(json_object_get(row, name))) {
            value = json_number_value(json_object_get(row, name));
        }
    }
    json_decref(all);
    return value;
}

static void retention_is_shown_and_set(void **state)
{
    (void)state;
    assert_int_equal(cli("retention show"), 0);
    has("points");
    has("2 years");
    assert_int_equal(cli("retention set points '10 days'"), 0);
    has("10 days");
    assert_string_equal(test_sql_text(test_store.reader,
                                      "SELECT value FROM poolscope.setting "
                                      "WHERE name = 'retention_points'"),
                        "10 days");
    assert_int_equal(cli("retention set points 1s"), 1);
    has("at least one hour");
    assert_int_equal(cli("retention set weeks '10 days'"), 1);
    has("no setting");
    assert_int_equal(cli("retention set points"), 2);
}

static void settle_span_divides_an_hour(void **state)
{
    static const char *const good[] = {"10 minutes", "1 minute", "1 hour"};
    static const char *const bad[] = {"7 minutes", "2 hours", "10 seconds"};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        (void)test_sql_textf(
            test_store.writer,
            "SELECT poolscope_api.setting_set('settle_span', '%s')", good[i]);
        snprintf(out, sizeof(out),
                 "SELECT poolscope_api.setting_set('settle_span', '%s')",
                 bad[i]);
        PGresult *r = PQexec(test_store.writer, out);
        assert_int_equal(PQresultStatus(r), PGRES_FATAL_ERROR);
        PQclear(r);
    }
}

/* Two hosts' whole yesterday, a megabyte each. */
static void fill(void)
{
    test_sql(
        test_store.owner,
        "INSERT INTO poolscope_data.tag_chunk "
        "SELECT h, s, i * 60, i * 60 + 59, s, s + interval '59 minutes', 60, "
        "    '\\x01', '\\x02', (SELECT string_agg(sha256((h * 1000000 + i "
        "        * 10000 + x)::text::bytea), '') "
        "        FROM generate_series(1, 1365) x) "
        "FROM unnest(ARRAY[1, 2]) h, generate_series(0, 23) i, "
        "LATERAL (SELECT date_trunc('day', now(), 'UTC') "
        "         - interval '1 day' + i * interval '1 hour') t(s)");
}

static void capacity_follows_from_a_day(void **state)
{
    (void)state;
    assert_int_equal(cli("capacity"), 0);
    has("what will come cannot be told");
    (void)test_session_claim(test_store.writer,
                             test_host_enrol(test_store.writer, "alpha"));
    (void)test_session_claim(test_store.writer,
                             test_host_enrol(test_store.writer, "beta"));
    fill();
    (void)test_sql_text(test_store.writer, "SELECT poolscope_api.setting_set("
                                           "'retention_points', '10 days')");

    double day = told("samples", "host_day_bytes");
    assert_true(day > 1.0e6 && day < 1.4e6);
    assert_true(told("samples", "bytes") > 2.0e6);
    assert_true(told("samples", "day_bytes") > 1.99 * day);
    double full = told("samples", "full_bytes");
    assert_true(full > 19.9 * day && full < 20.1 * day);
    assert_true(told("hours", "host_day_bytes") < 0);
    assert_int_equal(cli("capacity"), 0);
    has("when as much is there as is kept");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(retention_is_shown_and_set),
        cmocka_unit_test(settle_span_divides_an_hour),
        cmocka_unit_test(capacity_follows_from_a_day),
    };
    return cmocka_run_group_tests(tests, test_store_begin, test_store_end);
}
