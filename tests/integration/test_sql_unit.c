/* Units: many hosts' batches in one statement. Nearly all are stored all at
 * once, those with something odd about them one by one; what becomes of them
 * must be the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "tests/lib/store.h"

enum { UNIT_MAX = 16, BIG_TAGS = 3000 };

#define MINUTE_US (60 * PSC_US_PER_S)
#define DAY_US    (1440 * MINUTE_US)

static const char other_stream[] = "00000000-0000-0000-0000-0000000000ab";

static uint32_t any(uint32_t below)
{
    static uint32_t seed = 20261122;
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return (seed >> 4) % below;
}

/* A host whose stream is open: its first batch. */
static struct test_batch begin(const char *host)
{
    long long id = test_host_enrol(test_store.writer, host);
    struct test_batch b = {
        .host_id = id,
        .session = test_session_claim(test_store.writer, id),
        .seq = 1,
        .at_us = psc_clock_wall_us() - DAY_US,
    };
    (void)test_sql_textf(test_store.writer,
                         "SELECT poolscope_api.stream_open(%lld, %lld, "
                         "'" STORE_STREAM "', 0)",
                         b.host_id, b.session);
    return b;
}

/* The batch that follows @b, a minute later. */
static struct test_batch after(const struct test_batch *b)
{
    struct test_batch next = *b;
    next.prev_seq = b->seq;
    next.first_seq = 0;
    next.seq = b->seq + 1;
    next.at_us = b->at_us + MINUTE_US;
    return next;
}

/* "n:first-seq …" of what is stored. */
static const char *stored(const struct test_batch *b)
{
    return test_sql_textf(
        test_store.writer,
        "SELECT string_agg(n || ':' || first_seq || '-' || seq, ' ' "
        "ORDER BY n) FROM poolscope_api.stored_batches(%lld)",
        b->host_id);
}

static long long events(const struct test_batch *b, const char *event_id)
{
    return strtoll(test_sql_textf(test_store.reader,
                                  "SELECT count(*) FROM poolscope.event "
                                  "WHERE host_id = %lld AND event_id = '%s'",
                                  b->host_id, event_id),
                   NULL, 10);
}

static void a_unit_of_two_hosts_is_stored(void **state)
{
    (void)state;
    struct test_batch b[4];
    b[0] = begin("unit-a");
    b[1] = after(&b[0]);
    b[2] = begin("unit-b");
    b[3] = after(&b[2]);
    assert_string_equal(test_unit_store(test_store.writer, b, 4),
                        "{stored,stored,stored,stored}");
    assert_string_equal(stored(&b[0]), "1:1-1 2:2-2");
    assert_string_equal(stored(&b[2]), "1:1-1 2:2-2");
    for (int i = 0; i < 4; i++) { /* the boot is known now: all at once */
        b[i].prev_seq += 2;
        b[i].seq += 2;
        b[i].at_us += 2 * MINUTE_US;
        b[i].missed_ticks = 3;
    }
    assert_string_equal(test_unit_store(test_store.writer, b, 4),
                        "{stored,stored,stored,stored}");
    assert_string_equal(stored(&b[2]), "1:1-1 2:2-2 3:3-3 4:4-4");
    assert_string_equal(test_sql_textf(test_store.reader,
                                       "SELECT missed_ticks FROM "
                                       "poolscope.host WHERE host_id = %lld",
                                       b[2].host_id),
                        "6");
}

static void duplicates_in_a_unit_are_told(void **state)
{
    (void)state;
    struct test_batch b[3];
    b[0] = begin("unit-again");
    b[1] = after(&b[0]);
    b[2] = after(&b[1]);
    assert_string_equal(test_unit_store(test_store.writer, b, 2),
                        "{stored,stored}");
    assert_string_equal(test_unit_store(test_store.writer, b, 3),
                        "{duplicate,duplicate,stored}");
    assert_string_equal(test_unit_store(test_store.writer, b, 3),
                        "{duplicate,duplicate,duplicate}");
    assert_string_equal(stored(&b[0]), "1:1-1 2:2-2 3:3-3");
}

/* Nothing is stored behind what is missing, of that host. */
static void what_does_not_follow_halts_its_host_only(void **state)
{
    (void)state;
    struct test_batch b[6];
    b[0] = begin("unit-halted");
    b[1] = after(&b[0]);
    b[2] = after(&b[1]);
    b[2].prev_seq = 5;
    b[2].seq = 6;
    b[3] = after(&b[1]); /* would follow, but comes too late */
    b[4] = begin("unit-goes-on");
    b[5] = after(&b[4]);
    assert_string_equal(test_unit_store(test_store.writer, b, 6),
                        "{stored,stored,retry,retry,stored,stored}");
    assert_string_equal(stored(&b[0]), "1:1-1 2:2-2");
    assert_string_equal(stored(&b[4]), "1:1-1 2:2-2");
    assert_string_equal(test_unit_store(test_store.writer, &b[3], 1),
                        "{stored}");
}

static void an_older_session_is_superseded_within_a_unit(void **state)
{
    (void)state;
    struct test_batch b[5];
    b[0] = begin("unit-older");
    assert_string_equal(test_unit_store(test_store.writer, b, 1), "{stored}");
    b[0] = after(&b[0]);
    b[1] = after(&b[0]);
    b[2] = b[0];
    b[2].session = test_session_claim(test_store.writer, b[0].host_id);
    b[2].stream = other_stream;
    b[2].prev_seq = 0;
    b[2].seq = 1;
    (void)test_sql_textf(test_store.writer,
                         "SELECT poolscope_api.stream_open(%lld, %lld, '%s', "
                         "0)",
                         b[2].host_id, b[2].session, other_stream);
    b[3] = begin("unit-beside-older");
    b[4] = b[3];
    b[4].host_id = 999999999; /* nobody */
    assert_string_equal(test_unit_store(test_store.writer, b, 5),
                        "{superseded,superseded,stored,stored,superseded}");
    assert_string_equal(test_unit_store(test_store.writer, b, 2),
                        "{superseded,superseded}");
    assert_string_equal(stored(&b[2]), "1:1-1 2:1-1");
    assert_string_equal(stored(&b[3]), "1:1-1");
}

/* A unit that goes from one stream to another. */
static void streams_are_told_apart_within_a_unit(void **state)
{
    (void)state;
    struct test_batch b[2];
    b[0] = begin("unit-streams");
    assert_string_equal(test_unit_store(test_store.writer, b, 1), "{stored}");
    b[0] = after(&b[0]);
    b[1] = after(&b[0]);
    b[1].stream = other_stream; /* at 0 there */
    (void)test_sql_textf(test_store.writer,
                         "SELECT poolscope_api.stream_open(%lld, %lld, '%s', "
                         "0)",
                         b[1].host_id, b[1].session, other_stream);
    assert_string_equal(test_unit_store(test_store.writer, b, 2),
                        "{stored,retry}");
    b[1].prev_seq = 0;
    assert_string_equal(test_unit_store(test_store.writer, &b[1], 1),
                        "{stored}");
    assert_string_equal(stored(&b[0]), "1:1-1 2:2-2 3:3-3");
    assert_int_equal(events(&b[1], "batches_lost"), 1);
}

static void events_of_a_unit_are_stored_once(void **state)
{
    (void)state;
    struct test_batch b[2];
    b[0] = begin("unit-events");
    b[1] = after(&b[0]);
    b[0].events = "[{\"position\": 1, \"source\": \"k\", \"event_id\": \"x\"},"
                  " {\"position\": 2, \"source\": \"k\", \"event_id\": \"x\"}]";
    b[1].events = "[{\"position\": 2, \"source\": \"k\", \"event_id\": \"x\"},"
                  " {\"position\": 3, \"source\": \"k\", \"event_id\": \"x\"}]";
    assert_string_equal(test_unit_store(test_store.writer, b, 2),
                        "{stored,stored}");
    assert_int_equal(events(&b[0], "x"), 3);
    assert_string_equal(test_unit_store(test_store.writer, b, 2),
                        "{duplicate,duplicate}");
    assert_int_equal(events(&b[0], "x"), 3);
}

static void inventories_come_with_their_own_batch(void **state)
{
    (void)state;
    struct test_batch b[3];
    b[0] = begin("unit-extras");
    b[1] = after(&b[0]);
    b[2] = after(&b[1]);
    b[1].drivers = "[{\"driver\": \"e1000\", \"version\": \"1\"}]";
    b[1].sources = "[{\"name\": \"slabinfo\", \"state\": \"failing\","
                   " \"message\": \"\\\"gone\\\"\"}]";
    b[2].aliases = "[{\"pool\": \"slab\", \"tag\": \"a\", \"names\": \"b\"}]";
    assert_string_equal(test_unit_store(test_store.writer, b, 3),
                        "{stored,stored,stored}");
    assert_string_equal(
        test_sql_textf(test_store.reader,
                       "SELECT (d.seen_from = b.at) || ' ' || "
                       "(h.source_errors #>> '{slabinfo,message}') || ' ' || "
                       "a.alias FROM poolscope.driver d "
                       "JOIN poolscope.host h USING (host_id) "
                       "JOIN poolscope.tag_alias a USING (host_id), "
                       "(SELECT 'epoch'::timestamptz + %lld * interval '1 us' "
                       "AS at) b WHERE d.host_id = %lld",
                       (long long)b[1].at_us, b[0].host_id),
        "true \"gone\" b");
}

/* Its trace is a row all the same. */
static void a_batch_without_tables_leaves_its_seq(void **state)
{
    (void)state;
    struct test_batch b[2];
    b[0] = begin("unit-empty");
    b[1] = after(&b[0]);
    b[0].tags_kind = STORE_KEYFRAME;
    assert_string_equal(test_unit_store(test_store.writer, b, 2),
                        "{stored,stored}");
    b[0] = after(&b[1]);
    assert_string_equal(test_unit_store(test_store.writer, b, 1), "{stored}");
    assert_string_equal(
        test_sql_textf(test_store.owner,
                       "SELECT string_agg(concat_ws(' ', tags_kind, "
                       "counters_kind, tags IS NULL, counters IS NULL), ',' "
                       "ORDER BY n) FROM poolscope_data.fresh "
                       "WHERE host_id = %lld",
                       b[0].host_id),
        "2 0 f t,0 0 t t,0 0 t t");
    assert_string_equal(test_sql_textf(test_store.owner,
                                       "SELECT n || ' ' || tags_n FROM "
                                       "poolscope_data.ingest_cursor "
                                       "WHERE host_id = %lld",
                                       b[0].host_id),
                        "3 1");
}

static void big_rows_come_back_whole(void **state)
{
    (void)state;
    static char ids[BIG_TAGS * 8], bytes[BIG_TAGS * 16];
    size_t n_ids = 0;
    size_t n_bytes = 0;
    long long sum = 0;
    struct test_batch b = begin("unit-big");
    for (int i = 1; i <= BIG_TAGS; i++) {
        uint32_t value = any(UINT32_MAX);
        sum += value;
        n_ids += (size_t)snprintf(ids + n_ids, sizeof(ids) - n_ids, "%s%d",
                                  i == 1 ? "{" : ",", i);
        n_bytes += (size_t)snprintf(bytes + n_bytes, sizeof(bytes) - n_bytes,
                                    "%s%u", i == 1 ? "{" : ",", value);
    }
    b.tags_kind = STORE_KEYFRAME;
    (void)snprintf(ids + n_ids, sizeof(ids) - n_ids, "}");
    (void)snprintf(bytes + n_bytes, sizeof(bytes) - n_bytes, "}");
    b.tag_ids = ids;
    b.bytes = bytes;
    assert_string_equal(test_unit_store(test_store.writer, &b, 1), "{stored}");
    struct test_batch next = after(&b);
    assert_string_equal(test_unit_store(test_store.writer, &next, 1),
                        "{stored}");
    for (int n = 1; n <= 2; n++) {
        assert_string_equal(
            test_sql_textf(test_store.owner,
                           "SELECT count(*) || ' ' || sum(s.bytes) FROM "
                           "poolscope_data.fresh f, "
                           "poolscope_data.stored_tags_state(ARRAY[f.tags], "
                           "ARRAY[2::smallint]) s "
                           "WHERE f.host_id = %lld AND f.n = %d "
                           "AND octet_length(f.tags) > 15000",
                           b.host_id, n),
            test_sql_textf(test_store.owner, "SELECT '%d %lld'", BIG_TAGS,
                           sum));
    }
}

static void a_unit_as_large_as_they_come_is_stored(void **state)
{
    (void)state;
    enum { HOSTS = 512 };
    static struct test_batch b[HOSTS];
    test_sql(test_store.owner,
             "INSERT INTO poolscope_data.host (host_id, host, os) "
             "SELECT 100000 + i, 'many-' || i, 'linux' "
             "FROM generate_series(1, 512) i; "
             "SELECT poolscope_api.session_claim(host_id, 'test', now(), '{}') "
             "FROM poolscope_data.host WHERE host LIKE 'many-%'; "
             "UPDATE poolscope_data.ingest_cursor SET session = 1 "
             "WHERE host_id > 100000; "
             "SELECT poolscope_api.stream_open(host_id, 1, '" STORE_STREAM
             "', 0) FROM poolscope_data.host WHERE host LIKE 'many-%'");
    for (int turn = 1; turn <= 2; turn++) {
        for (int i = 0; i < HOSTS; i++) {
            b[i] = (struct test_batch){
                .host_id = 100001 + i,
                .session = 1,
                .prev_seq = turn - 1,
                .seq = turn,
                .at_us = psc_clock_wall_us() - DAY_US + turn,
                .counters_kind = STORE_KEYFRAME,
                .counter_ids = "{1}",
                .counter_values = "{1}",
            };
        }
        const char *outcomes = test_unit_store(test_store.writer, b, HOSTS);
        assert_int_equal(strlen(outcomes), HOSTS * strlen("stored,") + 1);
    }
    assert_int_equal(test_sql_int(test_store.owner,
                                  "SELECT count(*) FROM poolscope_data.fresh "
                                  "WHERE host_id > 100000 AND n = seq "
                                  "AND counters_kind = 2"),
                     2 * HOSTS);
}

static void the_settle_span_is_polled(void **state)
{
    (void)state;
    static const char sql[] =
        "SELECT settle_span_us FROM poolscope_api.poll('test', '{}')";
    assert_int_equal(test_sql_int(test_store.writer, sql), 60 * MINUTE_US);
    test_sql(test_store.owner, "UPDATE poolscope_data.setting SET value = "
                               "'10 min' WHERE name = 'settle_span'");
    assert_int_equal(test_sql_int(test_store.writer, sql), 10 * MINUTE_US);
    test_sql(test_store.owner, "UPDATE poolscope_data.setting SET value = "
                               "'1 hour' WHERE name = 'settle_span'");
}

/* ------------------------------------------------- one way and the other */

/* A batch behind @b, with something odd about it now and then. */
static struct test_batch odd_after(const struct test_batch *b, int64_t now_us)
{
    static const char *const boots[] = {STORE_BOOT,
                                        "00000000-0000-0000-0000-0000000000b1"};
    struct test_batch next = after(b);
    switch (any(60)) {
    case 0: next.at_us = b->at_us; break;                 /* the clock stands */
    case 1: next.at_us = b->at_us - 5 * MINUTE_US; break; /* steps back */
    case 2: next.at_us = MINUTE_US; break;                /* 1970 */
    case 3: next.at_us = now_us + 30 * DAY_US; break;
    case 4: next.at_us = now_us + 59 * MINUTE_US + MINUTE_US / 2; break;
    case 5:
    case 6: next.at_us = now_us - DAY_US; break; /* where it should be */
    case 7: next.seq += 3; break;                /* came in parts … */
    case 8:                                      /* … or others are lost */
        next.seq += 3;
        next.first_seq = next.seq;
        break;
    case 9: next.boot_id = boots[any(2)]; break;
    case 10: next.missed_ticks = any(5); break;
    default: break;
    }
    if (next.first_seq == 0) {
        next.first_seq = next.prev_seq + 1;
    }
    next.tags_kind = (int)any(3);
    next.counters_kind = (int)any(3);
    next.tag_ids = any(2) != 0 ? "{1,2}" : "{2}";
    next.bytes = any(2) != 0 ? "{4096,8192}" : "{7,9}";
    next.counter_ids = "{3}";
    next.counter_values = any(2) != 0 ? "{0.5}" : "{7}";
    return next;
}

/* All that is stored of a host, but for who it is. */
static const char *all_of(long long host_id)
{
    return test_sql_textf(
        test_store.owner,
        "SELECT jsonb_pretty(jsonb_build_object("
        "'rows', (SELECT jsonb_agg(to_jsonb(f) - 'host_id' ORDER BY n)"
        "  FROM poolscope_data.fresh f WHERE host_id = %1$lld),"
        "'cursor', (SELECT to_jsonb(c) - 'host_id' - 'session'"
        "  FROM poolscope_data.ingest_cursor c WHERE host_id = %1$lld),"
        "'streams', (SELECT jsonb_agg(seq) FROM poolscope_data.ingest_stream"
        "  WHERE host_id = %1$lld),"
        "'boots', (SELECT jsonb_agg(to_jsonb(b) - 'host_id' ORDER BY boot_id)"
        "  FROM poolscope_data.boot b WHERE host_id = %1$lld),"
        "'events', (SELECT jsonb_agg(to_jsonb(e) - 'host_id' - 'at'"
        "   ORDER BY n, event_id)"
        "  FROM poolscope_data.event e WHERE host_id = %1$lld)))",
        host_id);
}

/* What is odd about these is that they have aliases. */
static void send_one_by_one(const struct test_batch *b, int n,
                            const struct test_batch *as)
{
    for (int i = 0; i < n; i++) {
        struct test_batch alone = b[i];
        alone.host_id = as->host_id;
        alone.session = as->session;
        alone.aliases = "[]";
        assert_string_equal(test_unit_store(test_store.writer, &alone, 1),
                            "{stored}");
    }
}

/* The same batches as two hosts', compared after each unit. */
static void live(const struct test_batch *b, int n,
                 const struct test_batch *twin)
{
    for (int from = 0; from < n;) {
        int unit = 1 + (int)any(1 + any(UNIT_MAX));
        unit = unit < n - from ? unit : n - from;
        const char *outcomes =
            test_unit_store(test_store.writer, &b[from], unit);
        assert_int_equal(strlen(outcomes),
                         (size_t)unit * strlen("stored,") + 1);
        send_one_by_one(&b[from], unit, twin);
        assert_string_equal(all_of(b[0].host_id), all_of(twin->host_id));
        from += unit;
    }
}

static void it_does_not_matter_how_batches_are_stored(void **state)
{
    (void)state;
    enum { LIVES = 12, BATCHES = 60 };
    for (int i = 0; i < LIVES; i++) {
        struct test_batch b[BATCHES];
        char name[32];
        int64_t now_us = psc_clock_wall_us();
        (void)snprintf(name, sizeof(name), "twin-%d", i);
        b[0] = begin(name);
        (void)snprintf(name, sizeof(name), "other-twin-%d", i);
        struct test_batch twin = begin(name);
        b[0].at_us = i % 3 == 0 ? MINUTE_US : b[0].at_us;
        for (int k = 1; k < BATCHES; k++) {
            b[k] = odd_after(&b[k - 1], now_us);
            if (k == 1) {
                b[k].at_us = now_us - DAY_US;
            }
        }
        live(b, BATCHES, &twin);
    }
}

/* The collector's clock was days ahead, and is right again. */
static void times_that_were_ahead_hold_nothing_up(void **state)
{
    (void)state;
    struct test_batch b[3];
    b[0] = begin("unit-ahead");
    assert_string_equal(test_unit_store(test_store.writer, b, 1), "{stored}");
    (void)test_sql_textf(test_store.owner,
                         "UPDATE poolscope_data.ingest_cursor SET last_at = "
                         "now() + interval '2 days' WHERE host_id = %lld "
                         "RETURNING 1",
                         b[0].host_id);
    b[1] = after(&b[0]);
    b[2] = after(&b[1]);
    assert_string_equal(test_unit_store(test_store.writer, &b[1], 2),
                        "{stored,stored}");
    assert_int_equal(events(&b[0], "clock_stepped_back"), 1);
    assert_string_equal(
        test_sql_textf(test_store.owner,
                       "SELECT last_at = 'epoch'::timestamptz + %lld * "
                       "interval '1 us' FROM poolscope_data.ingest_cursor "
                       "WHERE host_id = %lld",
                       (long long)b[2].at_us, b[0].host_id),
        "t");
}

static void what_is_possible_comes_first(void **state)
{
    (void)state;
    struct test_batch b[3];
    b[0] = begin("unit-1970");
    b[1] = after(&b[0]);
    b[2] = after(&b[1]);
    b[0].at_us = MINUTE_US;
    assert_string_equal(test_unit_store(test_store.writer, b, 1), "{stored}");
    assert_string_equal(test_unit_store(test_store.writer, &b[1], 2),
                        "{stored,stored}");
    assert_int_equal(events(&b[0], "time_out_of_range"), 1);
    assert_string_equal(
        test_sql_textf(test_store.reader,
                       "SELECT first_seen = 'epoch'::timestamptz + %lld * "
                       "interval '1 us' FROM poolscope.host "
                       "WHERE host_id = %lld",
                       (long long)b[1].at_us, b[0].host_id),
        "t");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_unit_of_two_hosts_is_stored),
        cmocka_unit_test(duplicates_in_a_unit_are_told),
        cmocka_unit_test(what_does_not_follow_halts_its_host_only),
        cmocka_unit_test(an_older_session_is_superseded_within_a_unit),
        cmocka_unit_test(streams_are_told_apart_within_a_unit),
        cmocka_unit_test(events_of_a_unit_are_stored_once),
        cmocka_unit_test(inventories_come_with_their_own_batch),
        cmocka_unit_test(a_batch_without_tables_leaves_its_seq),
        cmocka_unit_test(big_rows_come_back_whole),
        cmocka_unit_test(a_unit_as_large_as_they_come_is_stored),
        cmocka_unit_test(the_settle_span_is_polled),
        cmocka_unit_test(times_that_were_ahead_hold_nothing_up),
        cmocka_unit_test(what_is_possible_comes_first),
        cmocka_unit_test(it_does_not_matter_how_batches_are_stored),
    };
    return cmocka_run_group_tests(tests, test_store_begin, test_store_end);
}
