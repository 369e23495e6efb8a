/* `poolscope fsck`: silent about whole chunks, and names every one that is
 * damaged, wherever the damage is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/store.h"
#include "tests/lib/tiers.h"

enum { ENTRIES = 100, SNAPSHOTS = 60 };
#define MINUTE_US INT64_C(60000000)
#define HOUR_1_US INT64_C(1767225600000000) /* 2026-01-01 00:00 UTC */

static char out[16384];
static long long alpha, beta;

/* Both streams of `poolscope fsck [HOST]`; returns its exit code. */
static int fsck(const char *host)
{
    char args[64];
    snprintf(args, sizeof(args), "fsck %s", host);
    return test_store_cli(args, out, sizeof(out));
}

static void has(const char *part)
{
    if (strstr(out, part) == NULL) {
        fail_msg("no '%s' in:\n%s", part, out);
    }
}

/* A chunk that begins with sample @n at @at_us, one a minute. */
static void put_chunk(long long host_id, uint32_t columns, int64_t n,
                      int64_t at_us)
{
    static const uint8_t boot[CHUNK_BOOT_BYTES] = {1};
    struct tier_chunk c = {.host_id = host_id,
                           .span_us = at_us,
                           .n_from = n,
                           .n_to = n + SNAPSHOTS - 1,
                           .at_from_us = at_us,
                           .snapshots = SNAPSHOTS};
    struct chunk_writer w;
    chunk_writer_init(&w, columns, &chunk_openssl);
    for (int64_t i = 0; i < SNAPSHOTS; i++) {
        c.at_to_us = at_us + i * MINUTE_US;
        assert_int_equal(
            chunk_writer_snapshot(&w, n + i, c.at_to_us, c.at_to_us, boot), 0);
        for (uint32_t id = 1; id <= ENTRIES; id++) {
            int64_t values[4] = {i * id, i, i * id - i, 4096 * (i + id)};
            assert_int_equal(chunk_writer_put(&w, id, 15, values), 0);
        }
    }
    tier_store_chunk(test_store.owner, &w, &c);
    chunk_writer_fini(&w);
}

/* Three hours of both tables of a host. */
static void fill(long long host_id)
{
    for (int64_t i = 0; i < 3; i++) {
        int64_t at_us = HOUR_1_US + i * SNAPSHOTS * MINUTE_US;
        put_chunk(host_id, 4, 1 + i * SNAPSHOTS, at_us);
        put_chunk(host_id, 1, 1 + i * SNAPSHOTS, at_us);
    }
    tier_settled(test_store.owner, host_id, 180, 180);
}

/* Change alpha's chunk of tags from sample 61 on. */
static void change(const char *set)
{
    (void)test_sql_textf(test_store.owner,
                         "UPDATE poolscope_data.tag_chunk SET %s WHERE "
                         "host_id = %lld AND n_from = 61 RETURNING 1",
                         set, alpha);
}

static void store(const char *save)
{
    test_sql(test_store.owner, save);
}

static int begin(void **state)
{
    if (test_store_begin(state) != 0) {
        return -1;
    }
    alpha = test_host_enrol(test_store.writer, "alpha");
    beta = test_host_enrol(test_store.writer, "beta");
    fill(alpha);
    fill(beta);
    return 0;
}

static void fsck_passes_what_is_whole(void **state)
{
    (void)state;
    assert_int_equal(fsck(""), 0);
    has("12 chunks of 2 hosts");
    has("all whole");
    assert_int_equal(fsck("'al*'"), 0);
    has("6 chunks of 1 host");
    assert_int_equal(fsck("nobody"), 1);
}

static void fsck_names_what_is_damaged(void **state)
{
    static const struct {
        const char *set, *why;
    } damages[] = {
        {"head = overlay(head PLACING '\\x02' FROM 1)", "version"},
        {"head = set_byte(head, 20, get_byte(head, 20) # 1)", "checksum"},
        {"levels = set_byte(levels, 3, get_byte(levels, 3) # 128)", "block 0"},
        {"data = set_byte(data, octet_length(data) - 9, "
         "get_byte(data, octet_length(data) - 9) # 4)",
         "block 3"},
        {"data = substr(data, 1, octet_length(data) - 1)", "block 3"},
        {"n_to = 119", "its row says otherwise"},
        {"at_to = at_to + interval '1 microsecond'", "its times"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(damages) / sizeof(*damages); i++) {
        store("BEGIN; CREATE TEMP TABLE kept AS "
              "SELECT * FROM poolscope_data.tag_chunk WHERE n_from = 61; "
              "COMMIT");
        change(damages[i].set);
        assert_int_equal(fsck(""), 1);
        has("alpha: chunk of tags from 2026-01-01 01:00 UTC, samples 61 to 1");
        has(damages[i].why);
        has("some are damaged");
        assert_null(strstr(out, "beta"));
        store("BEGIN; DELETE FROM poolscope_data.tag_chunk "
              "WHERE n_from = 61; INSERT INTO poolscope_data.tag_chunk "
              "SELECT * FROM kept; DROP TABLE kept; COMMIT");
    }
    assert_int_equal(fsck(""), 0);
}

static void fsck_finds_samples_told_twice_or_never(void **state)
{
    (void)state;
    store("UPDATE poolscope_data.host_settle SET counters_n = 179");
    assert_int_equal(fsck("alpha"), 1);
    has("chunk of counters from 2026-01-01 02:00 UTC");
    has("goes beyond what is settled");
    store("UPDATE poolscope_data.host_settle SET counters_n = 180");

    /* Views would not look for its samples there. */
    store("UPDATE poolscope_data.counter_chunk SET span_at = span_at - "
          "interval '5 hours' WHERE n_from = 61");
    assert_int_equal(fsck("alpha"), 1);
    has("lies outside of its span");
    store("UPDATE poolscope_data.counter_chunk SET span_at = span_at + "
          "interval '5 hours' WHERE n_from = 61");
    assert_int_equal(fsck("alpha"), 0);

    put_chunk(beta, 4, 100, HOUR_1_US + 540 * MINUTE_US);
    assert_int_equal(fsck(""), 1);
    has("beta: chunk of tags from");
    has("shares samples with another");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fsck_passes_what_is_whole),
        cmocka_unit_test(fsck_names_what_is_damaged),
        cmocka_unit_test(fsck_finds_samples_told_twice_or_never),
    };
    return cmocka_run_group_tests(tests, begin, test_store_end);
}
