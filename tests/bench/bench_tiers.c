/* What the views take over both tiers, on a fleet of 3,000 tags a host, of
 * which one in five changes a minute: 24 hours in chunks, then some 90 minutes
 * of fresh rows, every host the same but for its id. With the module in
 * place; the first and the least of some rounds, in milliseconds as a client
 * sees them, and CPU time of the server, their mean.
 *
 * Arguments: hosts (1000); "plpgsql": without the module. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "proto/stored.h"
#include "tests/lib/chunk_db.h"
#include "tests/lib/tiers.h"

enum {
    TAGS = 3000,
    HOURS = 24,
    SNAPSHOTS = 60, /* an hour */
    FRESH = 90,     /* rows */
    ONE_IN = 5,     /* changes */
    ROUNDS = 5,
    FLAGS = TAG_ALLOCS | TAG_FREES | TAG_OUTSTANDING | TAG_BYTES,
};

#define MINUTE_US (60 * INT64_C(1000000))
#define HOUR_US   (60 * MINUTE_US)

static int64_t values[TAGS][TABLE_COLUMNS_MAX];
static struct tier_table tags;

static uint64_t any(void)
{
    static uint64_t seed = 88172645463325252u;
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed >> 16;
}

/* Tag @i has objects of one size. */
static void move(uint32_t i)
{
    int64_t *v = values[i];
    int64_t allocs = 1 + (int64_t)(any() % (2u << any() % 12));
    int64_t frees = allocs - (int64_t)(any() % 64) + 31;

    frees = frees < 0 ? 0 : frees;
    frees = v[COL_FREES] + frees > v[COL_ALLOCS] ? 0 : frees;
    v[COL_ALLOCS] += allocs;
    v[COL_FREES] += frees;
    v[COL_OUTSTANDING] = v[COL_ALLOCS] - v[COL_FREES];
    v[COL_BYTES] = v[COL_OUTSTANDING] * (32 << i % 8);
}

static void move_some(bool all)
{
    for (uint32_t i = 0; i < TAGS; i++) {
        if (all || any() % ONE_IN == 0) {
            move(i);
        }
    }
}

static int32_t id_of(uint32_t i)
{
    return (int32_t)i + 1; /* as make_registry() has them */
}

static void write_chunk(int64_t from_us, int64_t n)
{
    static const uint8_t boot[CHUNK_BOOT_BYTES] = {1};
    struct tier_chunk c = {.host_id = 1,
                           .span_us = from_us,
                           .n_from = n,
                           .n_to = n + SNAPSHOTS - 1,
                           .at_from_us = from_us + MINUTE_US / 2,
                           .snapshots = SNAPSHOTS};
    for (int s = 0; s < SNAPSHOTS; s++) {
        c.at_to_us = c.at_from_us + s * MINUTE_US;
        assert_int_equal(chunk_writer_snapshot(&tags.chunk, n + s, c.at_to_us,
                                               c.at_to_us + 1500, boot),
                         PSC_OK);
        move_some(n + s == 1);
        for (uint32_t i = 0; i < TAGS; i++) {
            assert_int_equal(chunk_writer_put(&tags.chunk, (uint32_t)id_of(i),
                                              FLAGS, values[i]),
                             PSC_OK);
        }
    }
    tier_store_chunk(chunk_db.conn, &tags.chunk, &c);
}

static void write_row(int64_t at_us, int64_t n)
{
    bool keyframe = at_us / HOUR_US != (at_us - MINUTE_US) / HOUR_US;
    struct tier_sample s = {.host_id = 1, .n = n, .at_us = at_us};
    move_some(false);
    tier_begin(&tags);
    for (uint32_t i = 0; i < TAGS; i++) {
        tier_put(&tags, id_of(i), FLAGS, values[i]);
    }
    s.tags = tier_row(&tags, &keyframe);
    s.tags_kind = keyframe ? STORED_KEYFRAME : STORED_DELTA;
    tier_store(chunk_db.conn, &s);
}

static void make_registry(int hosts)
{
    char sql[1024];
    (void)snprintf(
        sql, sizeof(sql),
        "INSERT INTO poolscope_data.tag (pool, tag, flags)"
        " SELECT 'slab', 'tag-' || i, 15 FROM generate_series(1, %d) i;"
        "INSERT INTO poolscope_data.host (host_id, host, os)"
        " SELECT i, 'host-' || i, 'linux' FROM generate_series(1, %d) i;"
        "INSERT INTO poolscope_data.ingest_cursor (host_id)"
        " SELECT i FROM generate_series(1, %d) i",
        TAGS, hosts, hosts);
    chunk_db_run(sql);
}

/* The others are as the first one. */
static void copy_hosts(int hosts)
{
    char sql[2048];
    (void)snprintf(
        sql, sizeof(sql),
        "INSERT INTO poolscope_data.tag_chunk SELECT i, span_at, n_from, n_to,"
        " at_from, at_to, snapshots, head, levels || '', data || ''"
        " FROM poolscope_data.tag_chunk, generate_series(2, %d) i;"
        "INSERT INTO poolscope_data.fresh SELECT i, n, at, wall_at, first_seq,"
        " seq, boot_id, stream, slot, tags_kind, counters_kind, tags, counters"
        " FROM poolscope_data.fresh, generate_series(2, %d) i;"
        "INSERT INTO poolscope_data.host_settle SELECT i, s.tags_n"
        " FROM poolscope_data.host_settle s, generate_series(2, %d) i;"
        "UPDATE poolscope_data.ingest_cursor c SET n = f.n, tags_n = f.tags_n,"
        " tags_at = f.tags_at, tags_keyframe_n = f.tags_keyframe_n"
        " FROM poolscope_data.ingest_cursor f WHERE f.host_id = 1",
        hosts, hosts, hosts);
    chunk_db_run(sql);
    chunk_db_run("VACUUM ANALYZE");
}

static void make_fleet(int hosts)
{
    int64_t now_us = psc_clock_wall_us();
    int64_t hour_us =
        (now_us - (FRESH - SNAPSHOTS) * MINUTE_US) / HOUR_US * HOUR_US;
    int64_t n = 1;
    make_registry(hosts);
    tier_table_init(&tags, TABLE_COLUMNS_MAX);
    for (int h = HOURS; h > 0; h--, n += SNAPSHOTS) {
        write_chunk(hour_us - h * HOUR_US, n);
    }
    tier_settled(chunk_db.conn, 1, n - 1, 0);
    for (int i = 0; i < FRESH; i++, n++) {
        write_row(hour_us + i * MINUTE_US + MINUTE_US / 2, n);
    }
    tier_table_fini(&tags);
    copy_hosts(hosts);
}

/* CPU time of the backend so far: fields 14 and 15, counted behind its name. */
static double cpu_ms(void)
{
    char path[64], line[1024];
    char *save = NULL;
    double ticks = 0;
    (void)snprintf(path, sizeof(path), "/proc/%d/stat",
                   PQbackendPID(chunk_db.conn));
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof(line), f));
    (void)fclose(f);
    char *rest = strrchr(line, ')');
    assert_non_null(rest);
    char *field = strtok_r(rest + 1, " ", &save);
    for (int i = 3; field != NULL && i <= 15; i++) {
        ticks += i >= 14 ? strtod(field, NULL) : 0;
        field = strtok_r(NULL, " ", &save);
    }
    return ticks * 1e3 / (double)sysconf(_SC_CLK_TCK);
}

static void measure(const char *what, const char *sql)
{
    int64_t least_us = INT64_MAX;
    int64_t first_us = 0;
    double cpu = cpu_ms();
    long long rows = 0;

    for (int round = 0; round < ROUNDS; round++) {
        int64_t from_us = psc_clock_mono_us();
        rows = test_sql_int(chunk_db.conn, sql);
        int64_t took_us = psc_clock_mono_us() - from_us;
        least_us = took_us < least_us ? took_us : least_us;
        first_us = round == 0 ? took_us : first_us;
    }
    printf("%-40s%10.1f%10.1f%10.1f%10lld\n", what, (double)first_us / 1e3,
           (double)least_us / 1e3, (cpu_ms() - cpu) / ROUNDS, rows);
    (void)fflush(stdout);
}

#define DAY "now() - interval '24 hours'"

int main(int argc, char **argv)
{
    int hosts = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 1000;
    bool module = argc < 3 || strcmp(argv[2], "plpgsql") != 0;

    assert_in_range(hosts, 1, 100000);
    (void)chunk_db_begin(NULL);
    if (module && chunk_db.has_module) {
        chunk_db_install(CHUNK_DB_MIGRATED);
    }
    make_fleet(hosts);
    /* Hosts are copies: what is remembered of one would serve all. */
    chunk_db_run("SET enable_memoize = off");
    printf("%d hosts, %s\n%-40s%10s%10s%10s%10s\n", hosts,
           module && chunk_db.has_module ? "C" : "PL/pgSQL", "milliseconds",
           "first", "least", "CPU", "rows");
    measure("pool_now of a host", "SELECT count(bytes) FROM poolscope.pool_now"
                                  " WHERE host = 'host-1'");
    measure("pool_history of a tag, a day",
            "SELECT count(bytes) FROM poolscope.pool_history('host-1', 'slab',"
            " 'tag-1500', " DAY ", now())");
    measure("pool_hour of a tag and host, a day",
            "SELECT count(mean_bytes) FROM poolscope.pool_hour WHERE"
            " host = 'host-1' AND tag = 'tag-1500' AND hour >= " DAY);
    measure("pool_hour of a host, a day",
            "SELECT count(mean_bytes) FROM poolscope.pool_hour WHERE"
            " host = 'host-1' AND hour >= " DAY);
    measure("pool_hour of a tag, all hosts, a day",
            "SELECT count(mean_bytes) FROM poolscope.pool_hour WHERE"
            " tag = 'tag-1500' AND hour >= " DAY);
    measure("fleet_growth of a day",
            "SELECT count(bytes) FROM poolscope.fleet_growth('24 hours')");
    chunk_db_run("SET client_min_messages = warning;"
                 "UPDATE poolscope_data.host_settle SET tags_n = 24 * 60;"
                 "UPDATE poolscope_data.ingest_cursor SET tags_n = 24 * 60,"
                 " tags_keyframe_n = 23 * 60 + 1, tags_at = (SELECT max(at_to)"
                 " FROM poolscope_data.tag_chunk);"
                 "TRUNCATE poolscope_data.fresh");
    measure("pool_now of a host, from its chunk",
            "SELECT count(bytes) FROM poolscope.pool_now"
            " WHERE host = 'host-1'");
    return chunk_db_end(NULL);
}
