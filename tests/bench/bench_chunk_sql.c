/* What reading samples in SQL takes, by the module and by PL/pgSQL: one tag
 * over a day and over 30 days, as pool_history does; a whole host at the end of
 * a chunk, as pool_now does, and at its start; rows of the fresh tier. Hourly
 * chunks of 3,000 tags, of which one in five changes at each of 60 snapshots,
 * in a table that stores them as they are. Everything is in memory. Prints the
 * least of some rounds, in milliseconds of the server's processor. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "tests/lib/chunk_db.h"
#include "tests/lib/stored_db.h"

enum {
    TAGS = 3000,
    SNAPSHOTS = 60,
    CHUNKS = 720,
    ONE_IN = 5, /* changes */
    FRESH_ROWS = 90,
    KEYFRAME_EVERY = 64,
    ROUNDS = 5,
    FLAGS = TAG_ALLOCS | TAG_FREES | TAG_OUTSTANDING | TAG_BYTES,
};

#define MINUTE_US (60 * INT64_C(1000000))

static int64_t values[TAGS][TABLE_COLUMNS_MAX];

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

static void must(int rc)
{
    assert_int_equal(rc, PSC_OK);
}

/* Write hour @hour. Returns its bytes. */
static size_t write_chunk(struct chunk_writer *w, uint32_t hour)
{
    static const uint8_t boot[CHUNK_BOOT_BYTES] = {1};
    struct chunk_sections out;

    for (uint32_t s = 0; s < SNAPSHOTS; s++) {
        int64_t n = (int64_t)hour * SNAPSHOTS + s;
        int64_t at =
            INT64_C(1767225600000000) + n * MINUTE_US + (int64_t)(any() % 4000);
        must(chunk_writer_snapshot(w, n, at, at + 1500, boot));
        for (uint32_t i = 0; i < TAGS; i++) {
            bool moves = any() % ONE_IN == 0 || n == 0;
            if (moves) {
                move(i);
            }
            if (moves || s == 0) {
                must(chunk_writer_put(w, i * 5 + 1, FLAGS, values[i]));
            }
        }
    }
    must(chunk_writer_finish(w, &out));
    chunk_db_store(TABLE_COLUMNS_MAX, &out);
    return out.head.len + out.levels.len + out.data.len;
}

static void write_chunks(void)
{
    struct chunk_writer w;
    size_t bytes = 0;

    chunk_writer_init(&w, TABLE_COLUMNS_MAX, &chunk_openssl);
    for (uint32_t hour = 0; hour < CHUNKS; hour++) {
        bytes += write_chunk(&w, hour);
    }
    chunk_writer_fini(&w);
    chunk_db_run("CREATE TABLE public.chunks (LIKE chunk INCLUDING STORAGE,"
                 " hour int GENERATED ALWAYS AS IDENTITY PRIMARY KEY);"
                 "INSERT INTO chunks SELECT * FROM chunk; DROP TABLE chunk");
    chunk_db_run("VACUUM ANALYZE chunks");
    printf("%d chunks of %d tags x %d snapshots, %zu bytes each\n", CHUNKS,
           TAGS, SNAPSHOTS, bytes / CHUNKS);
}

/* --- rows of the fresh tier --- */

static void encode(struct table *t, bool keyframe, struct table_writer *w,
                   struct columns *out)
{
    uint32_t next = 0;

    table_begin(t);
    for (uint32_t i = 0; i < TAGS; i++) {
        char key[16];
        int len = snprintf(key, sizeof(key), "%c%u", POOL_SLAB, (unsigned)i);
        must(table_put(t, 0, key, (size_t)len, FLAGS, values[i]));
    }
    must(table_encode(t, keyframe, 1, 1 << 20, &next, w, out));
    assert_int_equal(next, 0);
}

static void write_row(int i, bool keyframe, const struct columns *c)
{
    const struct grid_part part = {c->gone, c->gaps, c->values};
    struct psc_buf row;

    psc_buf_init(&row, 1 << 20);
    stored_begin(&row, keyframe ? TAGS : 0);
    for (uint32_t tag = 0; keyframe && tag < TAGS; tag++) {
        stored_name(&row, FLAGS, tag * 5 + 1);
    }
    stored_numbers(&row, &part);
    must(psc_buf_error(&row));
    const struct psc_bytes data = {row.data, row.len};
    stored_db_put(i, &data, keyframe ? "2" : "1",
                  INT64_C(1767225600000000) + i * MINUTE_US);
    psc_buf_fini(&row);
}

static void write_rows(void)
{
    struct table t;
    struct table_writer w;
    struct columns c;

    table_init(&t, TABLE_COLUMNS_MAX, TAGS, TABLE_MAX_TAG_KEY_BYTES);
    table_writer_init(&w, 1 << 20);
    stored_db_begin();
    for (int i = 0; i < FRESH_ROWS; i++) {
        for (uint32_t tag = 0; tag < TAGS; tag++) {
            if (any() % ONE_IN == 0) {
                move(tag);
            }
        }
        bool keyframe = i % KEYFRAME_EVERY == 0;
        encode(&t, keyframe, &w, &c);
        write_row(i, keyframe, &c);
    }
    table_writer_fini(&w);
    table_fini(&t);
    chunk_db_run("CREATE TABLE public.arrays AS SELECT x.* FROM " STORED_ROWS
                 "; ALTER TABLE arrays ALTER r SET STORAGE EXTERNAL;"
                 "ANALYZE arrays");
    printf("%d rows of %d tags, %lld bytes\n", FRESH_ROWS, TAGS,
           test_sql_int(chunk_db.conn, "SELECT sum(length(data)) FROM stored"));
}

/* --- measuring --- */

/* How long the server's process has worked so far. */
static int64_t server_us(void)
{
    clockid_t clock;
    struct timespec t;

    assert_int_equal(clock_getcpuclockid(PQbackendPID(chunk_db.conn), &clock),
                     0);
    assert_int_equal(clock_gettime(clock, &t), 0);
    return t.tv_sec * PSC_US_PER_S + t.tv_nsec / 1000;
}

/* The least milliseconds of @sql, which counts its rows, in @schema. */
static void measure_one(const char *schema, const char *sql)
{
    int64_t least_us = INT64_MAX;
    long long rows = 0;

    chunk_db_run(strcmp(schema, CHUNK_DB_MODULE) == 0
                     ? "SET search_path = " CHUNK_DB_MODULE ", public"
                     : "SET search_path = " CHUNK_DB_MIGRATED ", public");
    for (int round = 0; round < ROUNDS; round++) {
        int64_t from_us = server_us();
        rows = test_sql_int(chunk_db.conn, sql);
        int64_t took_us = server_us() - from_us;
        least_us = took_us < least_us ? took_us : least_us;
    }
    printf("%12.2f %10lld", (double)least_us / 1e3, rows);
}

static void measure(const char *what, const char *sql)
{
    printf("%-34s", what);
    if (chunk_db.has_module) {
        measure_one(CHUNK_DB_MODULE, sql);
    }
    measure_one(CHUNK_DB_MIGRATED, sql);
    printf("\n");
    (void)fflush(stdout);
}

#define POINTS(hours)                                                          \
    "SELECT count(p.bytes) FROM chunks c, chunk_find(c.head, 7501) f,"         \
    " chunk_points(c.head, substr(c.levels, f.levels_from, f.levels_length),"  \
    " substr(c.data, f.data_from, f.data_length), 7501) p"                     \
    " WHERE c.hour <= " #hours

#define HOURS(hours, of_block)                                                 \
    "SELECT count(p.n) FROM chunks c, chunk_blocks(c.head) b,"                 \
    " chunk_tag_hours(c.head, substr(c.levels, b.levels_from,"                 \
    "  b.levels_length), substr(c.data, b.data_from, b.data_length), b.block)" \
    " p WHERE c.hour <= " #hours of_block

#define STORED(call) "SELECT count(*) FROM arrays x, stored_" call

static void measure_stored(void)
{
    measure("stored_tags_state of 60 rows",
            STORED("tags_state(x.r[:60], x.k[:60])"));
    measure("stored_tags_state of 1 row",
            STORED("tags_state(x.r[:1], x.k[:1])"));
    measure("stored_tag_points of 90 rows",
            STORED("tag_points(x.r, x.k, 7501)"));
    measure("stored_tag_points of the last id",
            STORED("tag_points(x.r, x.k, 14996)"));
    measure("stored_tag_hours of 60 rows",
            STORED("tag_hours(x.r[:60], x.k[:60], x.a[:60])"));
    measure("stored_tag_hours of 90 rows", STORED("tag_hours(x.r, x.k, x.a)"));
}

int main(void)
{
    (void)chunk_db_begin(NULL);
    write_chunks();
    write_rows();
    printf("%-34s%s%12s %10s\n", "milliseconds",
           chunk_db.has_module ? "           C       rows" : "", "PL/pgSQL",
           "rows");
    measure("a tag over 24 chunks", POINTS(24));
    measure("a tag over 720 chunks", POINTS(720));
    measure("chunk_end of one",
            "SELECT count(e.bytes) FROM chunks c,"
            " chunk_end(c.head, c.levels, c.data) e WHERE c.hour = 500");
    measure("chunk_levels of one", "SELECT count(e.bytes) FROM chunks c,"
                                   " chunk_levels(c.head, c.levels) e"
                                   " WHERE c.hour = 500");
    measure("chunk_snapshots of one",
            "SELECT count(*) FROM chunks c, chunk_snapshots(c.head) s"
            " WHERE c.hour = 500");
    measure("chunk_blocks of 24", "SELECT count(*) FROM chunks c,"
                                  " chunk_blocks(c.head) b WHERE c.hour <= 24");
    measure("hours of a tag over 24 chunks",
            HOURS(24, " AND 7501 BETWEEN b.first_id AND b.last_id"));
    measure("hours of a whole chunk", HOURS(1, ""));
    measure_stored();
    return chunk_db_end(NULL);
}
