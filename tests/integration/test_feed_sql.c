/* What detection reads: who has advanced since it last looked, fresh rows in
 * pages and over slots, and the chunks of a host. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "proto/stored.h"
#include "tests/lib/store.h"
#include "tests/lib/tiers.h"

#define MINUTE_US (60 * PSC_US_PER_S)
#define START_US  (INT64_C(1790000000) * PSC_US_PER_S)

static const uint8_t table[100];

static void store(long long host, int64_t n, int slot, size_t bytes)
{
    const struct tier_sample s = {
        .host_id = host,
        .n = n,
        .at_us = START_US + n * MINUTE_US,
        .slot = slot,
        .tags_kind = STORED_DELTA,
        .tags = {table, bytes},
    };
    tier_store(test_store.owner, &s);
}

/* Hosts that the poll from *@horizon names, and its own horizon. */
static const char *poll_hosts(char horizon[32])
{
    char sql[512];
    (void)snprintf(sql, sizeof(sql),
                   "SELECT string_agg(host_id || ':' || n, ' ' ORDER BY "
                   "host_id) || '/' || min(horizon::text) FROM "
                   "poolscope_api.feed_hosts(%s)",
                   horizon[0] != '\0' ? horizon : "NULL");
    const char *text = test_sql_text(test_store.writer, sql);
    const char *slash = strchr(text, '/');
    if (slash != NULL) {
        (void)snprintf(horizon, 32, "'%s'::xid", slash + 1);
    }
    return text;
}

static void expect_named(char horizon[32], long long host, int n)
{
    char name[64];
    (void)snprintf(name, sizeof(name), "%lld:%d", host, n);
    assert_non_null(strstr(poll_hosts(horizon), name));
}

/* While anybody on this server is writing, those that were named are named
 * again. */
static void expect_nobody(char horizon[32])
{
    for (int i = 0; poll_hosts(horizon)[0] != '\0'; i++) {
        assert_in_range(i, 0, 200);
        (void)usleep(50000);
    }
}

static void a_poll_names_those_who_were_written_since_the_last(void **state)
{
    (void)state;
    char horizon[32] = "";
    long long a = test_host_enrol(test_store.writer, "a");
    long long b = test_host_enrol(test_store.writer, "b");
    (void)test_session_claim(test_store.writer, a);
    (void)test_session_claim(test_store.writer, b);
    store(a, 1, 0, 1);
    store(b, 1, 0, 1);
    expect_named(horizon, a, 1);
    store(b, 2, 0, 1);
    expect_named(horizon, b, 2);
    expect_nobody(horizon);

    /* One that began before a poll and ends after it is not missed. */
    PGconn *other = test_database_connect(&test_store.db, DATABASE_OWNER);
    test_sql(other, "BEGIN");
    (void)test_sql_textf(other,
                         "UPDATE poolscope_data.ingest_cursor SET n = 2 "
                         "WHERE host_id = %lld RETURNING n",
                         a);
    store(b, 3, 0, 1);
    expect_named(horizon, b, 3);
    test_sql(other, "COMMIT");
    PQfinish(other);
    expect_named(horizon, a, 2);
    expect_nobody(horizon);
}

static const char *rows(const char *hosts, const char *ns, const char *within,
                        int max_bytes)
{
    return test_sql_textf(
        test_store.writer,
        "SELECT coalesce(string_agg(host_id || ':' || n, ' ' ORDER BY i), '') "
        "FROM poolscope_api.fresh_rows('%s', '%s', %s, %d) WITH ORDINALITY "
        "AS r(host_id, n, at, boot_id, tags_kind, tags, counters_kind, "
        "counters, i)",
        hosts, ns, within, max_bytes);
}

static void rows_come_in_order_and_in_pages(void **state)
{
    (void)state;
    char hosts[64];
    char expected[256];
    long long a = test_host_enrol(test_store.writer, "c");
    long long b = test_host_enrol(test_store.writer, "d");
    (void)test_session_claim(test_store.writer, a);
    (void)test_session_claim(test_store.writer, b);
    (void)snprintf(hosts, sizeof(hosts), "{%lld,%lld}", b, a);
    test_sql(test_store.owner,
             "UPDATE poolscope_data.fresh_slot SET opened_at = now() - "
             "interval '2 hours', closed_at = now() - interval '1 hour', "
             "present = false WHERE slot = 0; "
             "UPDATE poolscope_data.fresh_slot SET opened_at = now() - "
             "interval '1 hour', present = true WHERE slot = 3");
    for (int64_t n = 1; n <= 6; n++) {
        store(a, n, n <= 3 ? 0 : 3, 100);
        store(b, n, n <= 4 ? 0 : 3, 100);
    }
    (void)snprintf(expected, sizeof(expected),
                   "%lld:3 %lld:4 %lld:2 %lld:3 %lld:5 %lld:6 %lld:4 %lld:5 "
                   "%lld:6",
                   b, b, a, a, b, b, a, a, a);
    assert_string_equal(rows(hosts, "{2,1}", "NULL", 10000), expected);
    /* 250 bytes are reached with the third row. */
    (void)snprintf(expected, sizeof(expected), "%lld:3 %lld:4 %lld:2", b, b, a);
    assert_string_equal(rows(hosts, "{2,1}", "NULL", 250), expected);
    (void)snprintf(expected, sizeof(expected), "%lld:3 %lld:5", a, b);
    assert_string_equal(rows(hosts, "{4,2}", "NULL", 150), expected);
    assert_string_equal(rows(hosts, "{6,6}", "NULL", 10000), "");
    /* What was closed an hour ago is not looked into. */
    (void)snprintf(expected, sizeof(expected), "%lld:6 %lld:4 %lld:5 %lld:6", b,
                   a, a, a);
    assert_string_equal(rows(hosts, "{5,1}", "600000000", 10000), expected);
}

static void put_chunk(struct tier_table *t, long long host, int64_t n_from,
                      int64_t n_to)
{
    const uint8_t boot[CHUNK_BOOT_BYTES] = {1};
    const int64_t values[TABLE_COLUMNS_MAX] = {0, 0, 1, 4096};
    for (int64_t n = n_from; n <= n_to; n++) {
        int64_t at_us = START_US + n * MINUTE_US;
        assert_int_equal(
            chunk_writer_snapshot(&t->chunk, n, at_us, at_us, boot), PSC_OK);
        assert_int_equal(chunk_writer_put(&t->chunk, 1, 12, values), PSC_OK);
    }
    const struct tier_chunk c = {
        .host_id = host,
        .span_us = START_US + n_from * MINUTE_US,
        .n_from = n_from,
        .n_to = n_to,
        .at_from_us = START_US + n_from * MINUTE_US,
        .at_to_us = START_US + n_to * MINUTE_US,
        .snapshots = (int)(n_to - n_from + 1),
    };
    tier_store_chunk(test_store.owner, &t->chunk, &c);
}

static const char *chunks(long long host, int after, int to, int since,
                          int max_bytes)
{
    return test_sql_textf(
        test_store.writer,
        "SELECT coalesce(string_agg(n_to::text, ' ' ORDER BY i), '') FROM "
        "poolscope_api.chunk_rows(%lld, 'tags', %d, %d, 'epoch'::timestamptz "
        "+ %lld * interval '1 us', %d) WITH ORDINALITY AS c(n_to, head, "
        "levels, data, i)",
        host, after, to, (long long)(START_US + since * MINUTE_US), max_bytes);
}

static void chunks_come_in_order_from_where_they_are_wanted(void **state)
{
    (void)state;
    struct tier_table t;
    long long host = test_host_enrol(test_store.writer, "e");
    tier_table_init(&t, TABLE_COLUMNS_MAX);
    put_chunk(&t, host, 11, 20);
    put_chunk(&t, host, 1, 10);
    put_chunk(&t, host, 21, 30);
    tier_table_fini(&t);
    assert_string_equal(chunks(host, 0, 30, 0, 100000), "10 20 30");
    assert_string_equal(chunks(host, 0, 30, 0, 1), "10");
    assert_string_equal(chunks(host, 10, 30, 0, 100000), "20 30");
    assert_string_equal(chunks(host, 15, 29, 0, 100000), "20");
    assert_string_equal(chunks(host, 0, 30, 20, 100000), "20 30");
    assert_string_equal(chunks(host + 1, 0, 30, 0, 100000), "");
    tier_settled(test_store.owner, host, 30, 12);
    assert_string_equal(
        test_sql_textf(test_store.writer,
                       "SELECT seen_n || ' ' || tags_n || ' ' || counters_n "
                       "FROM poolscope_api.feed_begin(%lld)",
                       host),
        "0 30 12");
    assert_string_equal(test_sql_text(test_store.writer,
                                      "SELECT seen_n || ' ' || tags_n FROM "
                                      "poolscope_api.feed_begin(0)"),
                        "0 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_poll_names_those_who_were_written_since_the_last),
        cmocka_unit_test(rows_come_in_order_and_in_pages),
        cmocka_unit_test(chunks_come_in_order_from_where_they_are_wanted),
    };
    return cmocka_run_group_tests(tests, test_store_begin, test_store_end);
}
