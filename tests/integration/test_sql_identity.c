/* Identity, inventories and findings in SQL: tokens, names, certificates,
 * disabled hosts, drivers that come and go, the life of a finding. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "tests/lib/store.h"

/* ------------------------------------------------------------- identity */

static const char *enrol(const char *secret, const char *host, const char *key)
{
    return test_sql_textf(
        test_store.writer,
        "SELECT result FROM poolscope_api.enrol(sha256('%s'), '%s', "
        "'linux', sha256('%s'), now(), now() + interval '90 days')",
        secret, host, key);
}

static void tokens_are_used_up(void **state)
{
    (void)state;
    test_sql(test_store.writer,
             "SELECT poolscope_api.token_create(sha256('secret'), 2, "
             "'1 day', 'two hosts')");
    assert_string_equal(enrol("guess", "t1", "k1"), "token");
    assert_string_equal(enrol("secret", "t1", "k1"), "ok");
    assert_string_equal(enrol("secret", "t1", "k1"), "ok"); /* lost answer */
    assert_string_equal(enrol("secret", "t1", "k2"), "name_taken");
    assert_string_equal(test_sql_text(test_store.writer,
                                      "SELECT uses_left FROM "
                                      "poolscope_api.token_list() "
                                      "WHERE note = 'two hosts'"),
                        "1");
    assert_string_equal(enrol("secret", "t2", "k2"), "ok");
    assert_string_equal(enrol("secret", "t3", "k3"), "token");
    assert_string_equal(enrol("secret", "t2", "k2"), "ok");
    assert_string_equal(
        test_sql_text(test_store.writer,
                      "SELECT state FROM poolscope_api.token_list() "
                      "WHERE note = 'two hosts'"),
        "used");
}

static void revoked_and_expired_tokens_are_refused(void **state)
{
    (void)state;
    const char *id = test_sql_text(
        test_store.writer,
        "SELECT poolscope_api.token_create(sha256('r'), 5, '1 day', "
        "'revoked')");
    assert_string_equal(test_sql_textf(test_store.writer,
                                       "SELECT poolscope_api.token_revoke(%s)",
                                       id),
                        "t");
    assert_string_equal(enrol("r", "r1", "k"), "token");
    test_sql(test_store.writer,
             "SELECT poolscope_api.token_create(sha256('e'), 5, "
             "'-1 second', 'expired')");
    assert_string_equal(enrol("e", "r1", "k"), "token");
    assert_string_equal(
        test_sql_text(test_store.writer,
                      "SELECT poolscope_api.token_revoke(12345)"),
        "f");
}

static void a_name_is_enrolled_anew_only_when_allowed(void **state)
{
    (void)state;
    test_sql(test_store.writer,
             "SELECT poolscope_api.token_create(sha256('many'), 9, "
             "'1 day', 'many')");
    assert_string_equal(enrol("many", "again", "old"), "ok");
    const char *id = test_sql_text(
        test_store.reader,
        "SELECT host_id FROM poolscope.host WHERE host = 'again'");
    assert_string_equal(enrol("many", "again", "new"), "name_taken");
    test_sql(test_store.writer, "SELECT poolscope_api.host_reenrol('again')");
    assert_string_equal(enrol("many", "again", "new"), "ok");
    assert_string_equal(enrol("many", "again", "third"), "name_taken");
    assert_string_equal(test_sql_text(test_store.reader,
                                      "SELECT host_id FROM poolscope.host "
                                      "WHERE host = 'again'"),
                        id);
    assert_string_equal(
        test_sql_textf(test_store.writer,
                       "SELECT result FROM poolscope_api.renew(%s, now() - "
                       "interval '1 minute', now() + interval '90 days')",
                       id),
        "old_certificate");
}

static void certificates_older_than_the_enrolment_are_void(void **state)
{
    (void)state;
    test_sql(test_store.writer,
             "SELECT poolscope_api.token_create(sha256('k'), 2, "
             "'1 day', 'k')");
    assert_string_equal(enrol("k", "keys", "one"), "ok");
    const char *id =
        test_sql_text(test_store.reader,
                      "SELECT host_id FROM poolscope.host WHERE host = 'keys'");
    static const char claim[] =
        "SELECT result FROM poolscope_api.session_claim(%s, 'c', "
        "now() + interval '%s', '{}')";
    assert_string_equal(
        test_sql_textf(test_store.writer, claim, id, "1 second"), "ok");
    assert_string_equal(test_sql_textf(test_store.writer, claim, id, "-1 hour"),
                        "old_certificate");
    assert_string_equal(
        test_sql_textf(test_store.writer, claim, "424242", "1 second"),
        "unknown");
    assert_string_equal(
        test_sql_textf(
            test_store.writer,
            "SELECT result || ' ' || host FROM poolscope_api.renew(%s, "
            "now(), now() + interval '91 days')",
            id),
        "ok keys");
    assert_string_equal(test_sql_text(test_store.reader,
                                      "SELECT certificate_expires > now() + "
                                      "interval '90 days' FROM poolscope.host "
                                      "WHERE host = 'keys'"),
                        "t");
}

static void disabled_hosts_are_polled_and_refused(void **state)
{
    (void)state;
    long long id = test_host_enrol(test_store.writer, "disabled");
    assert_string_equal(
        test_sql_text(test_store.writer,
                      "SELECT poolscope_api.host_disable('nobody')"),
        "f");
    test_sql(test_store.writer,
             "SELECT poolscope_api.host_disable('disabled')");
    assert_string_equal(
        test_sql_textf(
            test_store.writer,
            "SELECT %lld = ANY (disabled) FROM poolscope_api.poll('c1', "
            "'{\"sessions\": 3}')",
            id),
        "t");
    assert_string_equal(
        test_sql_textf(test_store.writer,
                       "SELECT result FROM poolscope_api.session_claim(%lld, "
                       "'c', now(), '{}')",
                       id),
        "disabled");
    assert_string_equal(test_sql_text(test_store.reader,
                                      "SELECT status FROM poolscope.host "
                                      "WHERE host = 'disabled'"),
                        "disabled");
    assert_string_equal(
        test_sql_text(test_store.reader,
                      "SELECT metrics ->> 'sessions' FROM "
                      "poolscope.collector WHERE collector = 'c1'"),
        "3");
    test_sql(test_store.writer, "SELECT poolscope_api.host_enable('disabled')");
    assert_true(test_session_claim(test_store.writer, id) > 0);
}

/* ----------------------------------------------------------- inventories */

static void inventories_keep_what_stays(void **state)
{
    (void)state;
    long long id = test_host_enrol(test_store.writer, "drivers");
    struct test_batch b = {
        .host_id = id,
        .session = test_session_claim(test_store.writer, id),
        .seq = 1,
        .at_us = psc_clock_wall_us(),
        .drivers = "[{\"driver\": \"ext4\", \"srcversion\": \"A\"}, "
                   "{\"driver\": \"ice\", \"version\": \"1.0\"}, "
                   "{\"driver\": \"gone\"}]",
    };
    assert_string_equal(test_batch_store(test_store.writer, &b), "stored");
    b.seq = 2;
    b.drivers = "[{\"driver\": \"ext4\", \"srcversion\": \"A\"}, "
                "{\"driver\": \"ice\", \"version\": \"1.1\"}]";
    assert_string_equal(test_batch_store(test_store.writer, &b), "stored");
    b.seq = 3;
    assert_string_equal(test_batch_store(test_store.writer, &b), "stored");
    assert_string_equal(
        test_sql_textf(
            test_store.reader,
            "SELECT string_agg(driver || version || CASE WHEN seen_to IS "
            "NULL THEN '' ELSE '-' END, ' ' ORDER BY driver, version) "
            "FROM poolscope.driver WHERE host_id = %lld",
            id),
        "ext4 gone- ice1.0- ice1.1");
    assert_string_equal(
        test_sql_text(test_store.reader,
                      "SELECT hosts || '/' || leaking_hosts FROM "
                      "poolscope.driver_version "
                      "WHERE driver = 'ice' AND version = '1.1'"),
        "1/0");
}

/* -------------------------------------------------------------- findings */

static const char *finding(long long host, const char *change, int tag,
                           const char *detected, const char *updated,
                           const char *exhaustion)
{
    return test_sql_textf(
        test_store.writer,
        "SELECT poolscope_api.finding_write(%lld, '%s', '{%d}', "
        "'%s'::timestamptz - interval '1 hour', '%s', '%s', 1000000, "
        "5e6, 100, %s, NULL, NULL, 0.9, 'words', '{\"z\": 4}')",
        host, change, tag, detected, detected, updated, exhaustion);
}

static void findings_open_change_and_resolve(void **state)
{
    (void)state;
    long long host = test_host_enrol(test_store.writer, "leaker");
    int tag = test_tag_id(test_store.writer, "vmalloc", "grab [ice]");
    static const char t0[] = "2026-03-01T00:00Z";
    static const char soon[] = "'2026-03-02T00:00Z'";
    const char *id = finding(host, "opened", tag, t0, t0, "NULL");
    assert_string_equal(finding(host, "opened", tag, t0, t0, "NULL"), id);
    assert_string_equal(
        finding(host, "changed", tag, t0, "2026-03-01T01:00Z", soon), id);
    assert_string_equal(
        test_sql_textf(
            test_store.reader,
            "SELECT concat_ws(' ', state, severity, tag, tags, cause_kind, "
            "cause, scope, bytes_per_day, exhaustion_host) "
            "FROM poolscope.leak WHERE leak_id = %s",
            id),
        "open critical grab [ice] {\"grab [ice]\"} driver ice host 5000000 "
        "leaker");
    assert_string_equal(
        finding(host, "resolved", tag, t0, "2026-03-01T02:00Z", "NULL"), id);
    /* A restarted collector replays what it had said. */
    assert_string_equal(finding(host, "opened", tag, t0, t0, "NULL"), id);
    assert_string_equal(
        test_sql_textf(test_store.reader,
                       "SELECT state FROM poolscope.leak WHERE leak_id = %s",
                       id),
        "resolved");
    assert_string_equal(finding(host, "opened", tag, "2026-03-01T05:00Z",
                                "2026-03-01T05:00Z", "NULL"),
                        id);
    assert_string_equal(
        test_sql_textf(test_store.reader,
                       "SELECT string_agg(kind, ' ' ORDER BY at, kind) FROM "
                       "poolscope.leak_event WHERE leak_id = %s",
                       id),
        "opened changed resolved reopened");
    (void)finding(host, "resolved", tag, t0, "2026-03-01T06:00Z", "NULL");
    const char *later = finding(host, "opened", tag, "2026-03-09T00:00Z",
                                "2026-03-09T00:00Z", "NULL");
    assert_string_not_equal(later, id);
    assert_string_equal(
        test_sql_textf(test_store.writer,
                       "SELECT leak_id FROM poolscope_api.findings_open(%lld)",
                       host),
        later);
}

/* Changes @from to @to of one finding, a minute apart, each of another rate. */
static void change(long long host, int tag, int from, int to)
{
    (void)test_sql_textf(
        test_store.writer,
        "SELECT count(poolscope_api.finding_write(%lld, 'changed', '{%d}', "
        "'2026-03-01T00:00Z', '2026-03-01T01:00Z', '2026-03-01T01:00Z'"
        "::timestamptz + i * interval '1 minute', 1000000 + i, 1e6 + i, 100, "
        "'2026-07-01T00:00Z', '2026-06-01T00:00Z', '2026-08-01T00:00Z', 0.9, "
        "'it grows', '{}')) FROM generate_series(%d, %d) i",
        host, tag, from, to);
}

static void every_change_is_an_event(void **state)
{
    (void)state;
    static const char count[] =
        "SELECT count(*) || ' ' || count(*) FILTER (WHERE kind = 'changed') "
        "FROM poolscope.leak_event WHERE leak_id = %s";
    long long host = test_host_enrol(test_store.writer, "changing");
    int tag = test_tag_id(test_store.writer, "vmalloc", "change [ice]");
    const char *id = finding(host, "opened", tag, "2026-03-01T01:00Z",
                             "2026-03-01T01:00Z", "NULL");
    change(host, tag, 1, 2);
    assert_string_equal(test_sql_textf(test_store.reader, count, id), "3 2");
    assert_string_equal(
        test_sql_textf(test_store.reader,
                       "SELECT string_agg(details::text, '; ' ORDER BY at) "
                       "FROM poolscope.leak_event WHERE leak_id = %s AND "
                       "at = '2026-03-01T01:02Z'",
                       id),
        "{\"bytes_per_day\": 1000002, \"bytes_per_day_before\": 1000001}");
    change(host, tag, 2, 2); /* said again */
    assert_string_equal(test_sql_textf(test_store.reader, count, id), "3 2");
    change(host, tag, 3, 250);
    assert_string_equal(test_sql_textf(test_store.reader, count, id),
                        "201 200");
}

static void what_is_over_has_no_forecast(void **state)
{
    (void)state;
    long long host = test_host_enrol(test_store.writer, "over");
    int tag = test_tag_id(test_store.writer, "vmalloc", "over [ice]");
    const char *id = finding(host, "opened", tag, "2026-03-01T01:00Z",
                             "2026-03-01T01:00Z", "NULL");
    change(host, tag, 1, 1);
    (void)test_sql_textf(
        test_store.writer,
        "SELECT poolscope_api.finding_write(%lld, 'resolved', '{%d}', "
        "'2026-03-01T00:00Z', '2026-03-01T01:00Z', '2026-03-01T03:00Z', "
        "12, 1e6, 101, NULL, NULL, NULL, 0.9, 'it grew', '{\"past\": 1}')",
        host, tag);
    assert_string_equal(
        test_sql_textf(
            test_store.reader,
            "SELECT state || ' ' || summary || ' ' || evidence || ' ' || "
            "num_nulls(exhaustion_host, exhaustion_at, exhaustion_earliest, "
            "exhaustion_latest) || ' ' || bytes_per_day || ' ' || "
            "hosts_leaking FROM poolscope.leak WHERE leak_id = %s",
            id),
        "resolved it grew {\"past\": 1} 4 1000001 0");
    assert_string_equal(
        test_sql_textf(
            test_store.reader,
            "SELECT state || ' ' || bytes || ' ' || room_bytes || ' ' || "
            "num_nulls(exhaustion_at, exhaustion_earliest, exhaustion_latest) "
            "FROM poolscope.leak_host WHERE leak_id = %s",
            id),
        "resolved 12 101 3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_used_up),
        cmocka_unit_test(revoked_and_expired_tokens_are_refused),
        cmocka_unit_test(a_name_is_enrolled_anew_only_when_allowed),
        cmocka_unit_test(certificates_older_than_the_enrolment_are_void),
        cmocka_unit_test(disabled_hosts_are_polled_and_refused),
        cmocka_unit_test(inventories_keep_what_stays),
        cmocka_unit_test(findings_open_change_and_resolve),
        cmocka_unit_test(every_change_is_an_event),
        cmocka_unit_test(what_is_over_has_no_forecast),
    };
    return cmocka_run_group_tests(tests, test_store_begin, test_store_end);
}
