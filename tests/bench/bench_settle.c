/* What settling costs: microseconds of CPU a snapshot, told apart by process,
 * bytes of chunks and of WAL. First of packing alone, then with a database.
 *
 *   bench-settle [HOSTS] [SNAPSHOTS] [TAGS] [CHANGED PER MILLE]
 *
 * Rates and sizes of change are heavy-tailed over tags, as in bench_chunk.c.
 * All hosts have the same rows, which no part of it profits from. */
#include <math.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "collector/settle.h"
#include "collector/settle_pack.h"
#include "common/clock.h"
#include "tests/lib/database.h"
#include "tests/lib/fresh.h"

enum { PACK_ROUNDS = 50, SQL_BYTES = 1024, MINUTES = 60 };

#define HOUR_US (3600 * PSC_US_PER_S)

struct scale {
    unsigned hosts, snapshots, tags, per_mille;
};

/* A stored row, kept. */
struct kept {
    int64_t n, at_us;
    bool keyframe;
    struct psc_buf data;
};

static uint64_t seed = 88172645463325252u;

static double uniform(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return ((double)(seed >> 11) + 0.5) / 9007199254740992.0;
}

static double gauss(void)
{
    return sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform());
}

/* ---- a host ---- */

struct tag {
    double rate, moves;
    int64_t size;
};

static void make_tags(struct tag *tag, struct fresh_cell *now,
                      const struct scale *s)
{
    double sum = 0;
    for (unsigned i = 0; i < s->tags; i++) {
        tag[i] = (struct tag){.rate = exp(1.6 * gauss()),
                              .moves = 3 + 2 * gauss(),
                              .size = INT64_C(32) << (seed % 8)};
        sum += tag[i].rate;
    }
    for (unsigned i = 0; i < s->tags; i++) {
        tag[i].rate *= (double)s->per_mille / 1000 * s->tags / sum;
        int64_t objects = (int64_t)exp(6 + 2.5 * gauss()) + 1;
        now[i] = (struct fresh_cell){
            .present = true,
            .flags = TAG_ALLOCS | TAG_FREES | TAG_OUTSTANDING | TAG_BYTES,
            .values = {objects * 9, objects * 8, objects,
                       objects * tag[i].size}};
    }
}

static void change_tags(const struct tag *tag, struct fresh_cell *now,
                        const struct scale *s)
{
    for (unsigned i = 0; i < s->tags; i++) {
        if (uniform() >= tag[i].rate) {
            continue;
        }
        int64_t *v = now[i].values;
        int64_t allocs = (int64_t)exp(tag[i].moves + 0.8 * gauss()) + 1;
        int64_t more = (int64_t)(gauss() * sqrt((double)allocs));
        more = v[COL_OUTSTANDING] + more < 0 ? 0 : more;
        v[COL_ALLOCS] += allocs;
        v[COL_FREES] += allocs - more;
        v[COL_OUTSTANDING] += more;
        v[COL_BYTES] += more * tag[i].size;
    }
}

static int64_t span_start(void)
{
    int64_t now_us = psc_clock_wall_us();
    return now_us - now_us % HOUR_US - 2 * HOUR_US;
}

/* @s->snapshots within an hour, and the first of the next one. */
static struct kept *make_rows(const struct scale *s, PGconn *owner)
{
    struct kept *rows = calloc(s->snapshots + 1, sizeof(*rows));
    struct tag *tag = calloc(s->tags, sizeof(*tag));
    struct fresh_host h;
    if (rows == NULL || tag == NULL) {
        abort();
    }
    fresh_host_init(&h, 1, s->tags, 0, false);
    make_tags(tag, h.tags.now, s);
    for (unsigned i = 0; i <= s->snapshots; i++) {
        int64_t at_us = span_start() + HOUR_US / s->snapshots * i;
        fresh_store(owner, &h, at_us, 0, true, false, false);
        rows[i] = (struct kept){
            .n = h.n, .at_us = at_us, .keyframe = h.tags.deltas == 0};
        psc_buf_init(&rows[i].data, 1 << 24);
        psc_buf_append(&rows[i].data, h.tags.data.data, h.tags.data.len);
        change_tags(tag, h.tags.now, s);
    }
    fresh_host_fini(&h);
    free(tag);
    return rows;
}

/* ---- packing ---- */

static double cpu_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void must(int rc, const struct psc_error *err)
{
    if (rc != PSC_OK) {
        fprintf(stderr, "%s\n", err->msg);
        exit(1);
    }
}

static void pack_once(struct settle_pack *p, const struct kept *rows,
                      unsigned n)
{
    static const uint8_t boot[16];
    struct psc_error err = {.msg = ""};
    settle_pack_begin(p, HOUR_US);
    for (unsigned i = 0; i < n; i++) {
        struct settle_row row = {.n = rows[i].n,
                                 .at_us = rows[i].at_us,
                                 .wall_us = rows[i].at_us,
                                 .boot = boot,
                                 .keyframe = rows[i].keyframe,
                                 .data = psc_buf_bytes(&rows[i].data)};
        must(settle_pack_row(p, &row, &err), &err);
    }
    must(settle_pack_cut(p, &err), &err);
}

static void bench_pack(const struct scale *s, const struct kept *rows)
{
    struct settle_pack p;
    settle_pack_init(&p, TABLE_COLUMNS_MAX, TABLE_MAX_TAGS);
    pack_once(&p, rows, s->snapshots);
    double start_us = cpu_us();
    for (unsigned i = 0; i < PACK_ROUNDS; i++) {
        pack_once(&p, rows, s->snapshots);
    }
    double used_us = cpu_us() - start_us;
    size_t in = 0;
    for (unsigned i = 0; i < s->snapshots; i++) {
        in += rows[i].data.len;
    }
    printf("packing       %.1f us a snapshot\n",
           used_us / PACK_ROUNDS / s->snapshots);
    printf("a chunk       head %zu, levels %zu, data %zu bytes: %.3f a cell, "
           "%.2f a change; rows %zu\n",
           p.column[SETTLE_HEAD].len - 24, p.column[SETTLE_LEVELS].len - 24,
           p.column[SETTLE_DATA].len - 24,
           (double)p.bytes / s->snapshots / s->tags,
           (double)p.bytes / s->snapshots / s->tags * 1000 / s->per_mille, in);
    settle_pack_fini(&p);
}

/* ---- with a database ---- */

/* CPU time of a process: fields 14 and 15, counted behind its name. */
static double backend_us(int pid)
{
    char path[64], line[SQL_BYTES] = "";
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    FILE *f = fopen(path, "re");
    if (f != NULL) {
        (void)!fgets(line, sizeof(line), f);
        (void)fclose(f);
    }
    double ticks = 0;
    char *rest = strrchr(line, ')');
    char *save = NULL;
    char *field = rest != NULL ? strtok_r(rest + 1, " ", &save) : NULL;
    for (int i = 3; field != NULL && i <= 15; i++) {
        ticks += i >= 14 ? strtod(field, NULL) : 0;
        field = strtok_r(NULL, " ", &save);
    }
    return ticks * 1e6 / (double)sysconf(_SC_CLK_TCK);
}

static void copy_host(PGconn *owner, const struct scale *s)
{
    (void)test_sql_textf(
        owner,
        "INSERT INTO poolscope_data.fresh SELECT h, n, at, wall_at, first_seq, "
        "seq, boot_id, stream, slot, tags_kind, counters_kind, tags, counters "
        "FROM poolscope_data.fresh, generate_series(2, %u) h ORDER BY n, h",
        s->hosts);
    (void)test_sql_textf(
        owner,
        "INSERT INTO poolscope_data.ingest_cursor (host_id, n, first_at, "
        "last_at, tags_at, tags_n) SELECT h, n, first_at, last_at, tags_at, "
        "tags_n FROM poolscope_data.ingest_cursor, generate_series(2, %u) h",
        s->hosts);
    test_sql(owner, "ANALYZE poolscope_data.fresh, "
                    "poolscope_data.ingest_cursor");
}

static void settle_all(PGconn *writer, struct metrics *m)
{
    static atomic_bool stop;
    struct psc_error err = {.msg = ""};
    struct settle *s = settle_new(m, &stop);
    bool more = true;
    while (more) {
        must(settle_pass(s, writer, &more, &err), &err);
    }
    settle_free(s);
}

static void bench_database(PGconn *owner, PGconn *writer)
{
    static struct metrics m;
    static const char lsn[] = "SELECT pg_current_wal_insert_lsn() - '0/0'";
    int pid = PQbackendPID(writer);
    long long wal = test_sql_int(owner, lsn);
    double own_us = cpu_us(), server_us = backend_us(pid);
    int64_t start_us = psc_clock_mono_us();
    settle_all(writer, &m);
    double took_us = (double)(psc_clock_mono_us() - start_us);
    own_us = cpu_us() - own_us;
    server_us = backend_us(pid) - server_us;
    wal = test_sql_int(owner, lsn) - wal;
    double n = (double)atomic_load(&m.settled_snapshots);
    printf("settling      %.0f snapshots in %.0f chunks: collector %.1f us, "
           "PostgreSQL %.1f us, %.1f us passed, %.0f bytes of WAL a snapshot "
           "(chunks have %.0f)\n",
           n, (double)atomic_load(&m.settled_chunks), own_us / n, server_us / n,
           took_us / n, (double)wal / n,
           (double)atomic_load(&m.settled_bytes) / n);
}

static unsigned argument(int argc, char **argv, int i, unsigned otherwise)
{
    return argc > i ? (unsigned)strtoul(argv[i], NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
    struct scale s = {.hosts = argument(argc, argv, 1, 100),
                      .snapshots = argument(argc, argv, 2, MINUTES),
                      .tags = argument(argc, argv, 3, 3000),
                      .per_mille = argument(argc, argv, 4, 200)};
    struct test_database db;
    test_database_migrated(&db, false);
    PGconn *owner = test_database_connect(&db, DATABASE_OWNER);
    PGconn *writer = test_database_connect(&db, DATABASE_WRITER);
    struct kept *rows = make_rows(&s, owner);
    bench_pack(&s, rows);
    copy_host(owner, &s);
    bench_database(owner, writer);
    PQfinish(owner);
    PQfinish(writer);
    for (unsigned i = 0; i <= s.snapshots; i++) {
        psc_buf_fini(&rows[i].data);
    }
    free(rows);
    return 0;
}
