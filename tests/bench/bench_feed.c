/* What the worker pays for a sample on its way from the store into detection:
 * reading its row, and telling detection of it; and the same from chunks, when
 * a process begins with a host. Hosts take turns, so that each comes with cold
 * caches, as in a fleet.
 *
 *   bench-feed [HOSTS [TAGS [PERCENT CHANGING]]] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/watch_rows.h"
#include "proto/stored.h"
#include "sql/codec/chunk_writer.h"

enum {
    KINDS = 8, /* of hosts, each with rows of its own */
    SAMPLES = 48,
    IDS = 32000,
    ROW_MAX_BYTES = 1 << 22,
};

#define MINUTE_US INT64_C(60000000)
#define START_US  (INT64_C(1700006400) * 1000000)

struct row {
    uint8_t *data;
    size_t len;
};

static struct row rows[KINDS][SAMPLES];
static uint32_t n_hosts = 1000, n_tags = 3000, percent = 20;
static uint64_t seed = 1;

static void fail(const char *what)
{
    fprintf(stderr, "bench-feed: %s failed\n", what);
    exit(1);
}

static uint32_t below(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)((seed >> 33) % n);
}

static double cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* ---- rows ---- */

static void keep(struct row *row, const struct psc_buf *b)
{
    row->data = malloc(b->len);
    row->len = b->len;
    if (row->data == NULL || psc_buf_error(b) != PSC_OK) {
        fail("a row");
    }
    memcpy(row->data, b->data, b->len);
}

static uint32_t id_of(uint32_t tag)
{
    return 1 + tag * 7919 % IDS;
}

/* A keyframe, then deltas: an encoder's work done by hand, as zigzag varints
 * of columns outstanding and bytes and of allocs and frees. */
static void put_change(struct psc_buf *gaps, struct psc_buf *values,
                       uint32_t gap, int64_t scale)
{
    psc_buf_varint(gaps, (uint64_t)gap);
    int64_t allocs = (int64_t)below(2000) * scale;
    int64_t kept = (int64_t)below(200) - 90;
    psc_buf_svarint(values, allocs);
    psc_buf_svarint(values, allocs - kept * scale);
    psc_buf_varint(
        values,
        (uint64_t)(kept * scale < 0 ? -kept * scale * 2 - 1 : kept * scale * 2)
            << 1);
}

static void make_rows(struct row *of)
{
    struct psc_buf gaps, values, row;
    psc_buf_init(&gaps, ROW_MAX_BYTES);
    psc_buf_init(&values, ROW_MAX_BYTES);
    psc_buf_init(&row, ROW_MAX_BYTES);
    for (uint32_t s = 0; s < SAMPLES; s++) {
        psc_buf_reset(&gaps);
        psc_buf_reset(&values);
        psc_buf_reset(&row);
        /* All entries send allocs, frees and bytes. */
        psc_buf_u8(&gaps, 16 | TAG_ALLOCS | TAG_FREES | TAG_BYTES);
        uint32_t gap = 0;
        for (uint32_t i = 0; i < n_tags; i++) {
            if (s > 0 && below(100) >= percent) {
                gap++;
                continue;
            }
            put_change(&gaps, &values, gap, s == 0 ? 100 : 1);
            gap = 0;
        }
        stored_begin(&row, s == 0 ? n_tags : 0);
        for (uint32_t i = 0; s == 0 && i < n_tags; i++) {
            stored_name(&row, 15, id_of(i));
        }
        const struct grid_part part = {
            .gaps = psc_buf_bytes(&gaps),
            .values = psc_buf_bytes(&values),
        };
        stored_numbers(&row, &part);
        keep(&of[s], &row);
    }
    psc_buf_fini(&gaps);
    psc_buf_fini(&values);
    psc_buf_fini(&row);
}

/* ---- detection ---- */

static int learn(void *arg, const uint32_t *ids, uint32_t n,
                 struct psc_error *err)
{
    struct watch_rows *r = arg;
    (void)err;
    for (uint32_t i = 0; i < n; i++) {
        r->tag[ids[i]] =
            (struct watch_tag){.asked = true, .known = true, .pool = POOL_SLAB};
    }
    return PSC_OK;
}

static void on_finding(void *user, const struct detect_finding *f)
{
    (void)f;
    ++*(uint64_t *)user;
}

static struct psc_bytes row_of(uint32_t host, uint32_t s)
{
    const struct row *row = &rows[host % KINDS][s];
    return (struct psc_bytes){row->data, row->len};
}

static struct watch_view *make_views(void)
{
    struct detect_settings settings;
    struct watch_view *views = calloc(n_hosts, sizeof(*views));
    detect_settings_default(&settings);
    for (uint32_t i = 0; i < n_hosts; i++) {
        if (views == NULL) {
            fail("calloc()");
        }
        watch_view_init(&views[i]);
        views[i].interval_us = MINUTE_US;
        if (detect_host_new(&settings, &views[i].detect) != PSC_OK) {
            fail("detect_host_new()");
        }
    }
    return views;
}

/* Microseconds a sample: of reading rows alone. */
static double measure_reading(struct watch_rows *r)
{
    struct psc_error err;
    struct grid *grids = calloc(n_hosts, sizeof(*grids));
    double us = 0;
    for (uint32_t s = 0; grids != NULL && s < SAMPLES; s++) {
        us = s == 1 ? cpu_us() : us;
        for (uint32_t i = 0; i < n_hosts; i++) {
            if (s == 0) {
                grid_init_only(&grids[i], TABLE_COLUMNS_MAX, COL_BYTES,
                               TABLE_MAX_TAGS, NULL);
            }
            if (stored_apply(&grids[i], row_of(i, s), s == 0, &r->changes,
                             &err) != PSC_OK) {
                fail(err.msg);
            }
        }
    }
    us = (cpu_us() - us) / (SAMPLES - 1) / n_hosts;
    for (uint32_t i = 0; grids != NULL && i < n_hosts; i++) {
        grid_fini(&grids[i]);
    }
    free(grids);
    return us;
}

static double measure_all(struct watch_rows *r, struct watch_view *views,
                          double *keyframe_us)
{
    struct psc_error err;
    uint64_t told = 0;
    double start_us = cpu_us();
    for (uint32_t s = 0; s < SAMPLES; s++) {
        if (s == 1) {
            *keyframe_us = (cpu_us() - start_us) / n_hosts;
            start_us = cpu_us();
        }
        struct watch_sample sample = {
            .at_us = START_US + s * MINUTE_US,
            .emit = on_finding,
            .user = &told,
        };
        for (uint32_t i = 0; i < n_hosts; i++) {
            if (watch_rows_tags(r, &views[i], &sample, row_of(i, s), s == 0,
                                &err) != PSC_OK) {
                fail(err.msg);
            }
        }
    }
    return (cpu_us() - start_us) / (SAMPLES - 1) / n_hosts;
}

/* The chunk of a kind of host. */
static void make_chunk(struct watch_rows *r, uint32_t kind,
                       struct chunk_writer *w, struct chunk_sections *out)
{
    const uint8_t boot[CHUNK_BOOT_BYTES] = {1};
    struct psc_error err;
    struct grid g;
    grid_init(&g, TABLE_COLUMNS_MAX, TABLE_MAX_TAGS, NULL);
    for (uint32_t s = 0; s < SAMPLES; s++) {
        int64_t at_us = START_US + s * MINUTE_US;
        int rc = stored_apply(&g, row_of(kind, s), s == 0, &r->changes, &err);
        rc = rc == PSC_OK ? chunk_writer_snapshot(w, s + 1, at_us, at_us, boot)
                          : rc;
        for (uint32_t i = 0; rc == PSC_OK && i < r->changes.n_changed; i++) {
            uint32_t at = r->changes.changed[i];
            rc = chunk_writer_put(w, g.entries[at].ref, g.entries[at].flags,
                                  grid_values(&g, at));
        }
        if (rc != PSC_OK) {
            fail("a chunk");
        }
    }
    if (chunk_writer_finish(w, out) != PSC_OK) {
        fail("chunk_writer_finish()");
    }
    grid_fini(&g);
}

static void replay_host(struct watch_rows *r, struct watch_view *view,
                        struct replay *replay, const struct chunk_sections *c)
{
    struct psc_error err;
    bool whole = true;
    if (replay_open(replay, c->head, c->levels, c->data, NULL, 0, &err) !=
        PSC_OK) {
        fail(err.msg);
    }
    for (; replay_next(replay); whole = false) {
        struct watch_sample sample = {.at_us = replay->at_us,
                                      .boot_id = replay->boot};
        if (view != NULL && watch_rows_replay(r, view, &sample, replay, whole,
                                              &err) != PSC_OK) {
            fail(err.msg);
        }
    }
    if (replay->rc != PSC_OK) {
        fail("replay_next()");
    }
}

/* Microseconds a sample: of replaying alone (@views NULL), or with detection.
 */
static double measure_replay(struct watch_rows *r, struct watch_view *views)
{
    static struct chunk_writer writer[KINDS];
    struct chunk_sections chunk[KINDS];
    struct replay replay;
    replay_init(&replay);
    for (uint32_t i = 0; i < KINDS; i++) {
        chunk_writer_init(&writer[i], TABLE_COLUMNS_MAX, &chunk_openssl);
        make_chunk(r, i, &writer[i], &chunk[i]);
    }
    double us = cpu_us();
    for (uint32_t i = 0; i < n_hosts; i++) {
        replay_host(r, views != NULL ? &views[i] : NULL, &replay,
                    &chunk[i % KINDS]);
    }
    us = (cpu_us() - us) / n_hosts / SAMPLES;
    for (uint32_t i = 0; i < KINDS; i++) {
        chunk_writer_fini(&writer[i]);
    }
    replay_fini(&replay);
    return us;
}

static void free_views(struct watch_view *views)
{
    for (uint32_t i = 0; i < n_hosts; i++) {
        watch_view_fini(&views[i]);
    }
    free(views);
}

int main(int argc, char **argv)
{
    struct watch_rows r;
    double keyframe_us = 0;
    size_t bytes = 0;
    size_t held = 0;
    n_hosts = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : n_hosts;
    n_tags = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : n_tags;
    percent = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : percent;
    for (uint32_t i = 0; i < KINDS; i++) {
        make_rows(rows[i]);
        bytes += rows[i][1].len;
    }
    watch_rows_init(&r);
    r.learn = learn;
    r.arg = &r;
    r.latest_us = START_US + SAMPLES * MINUTE_US;
    r.cap_tags = IDS + 1;
    r.tag = calloc(r.cap_tags, sizeof(*r.tag));
    if (r.tag == NULL) {
        fail("calloc()");
    }
    double reading_us = measure_reading(&r);
    struct watch_view *views = make_views();
    double all_us = measure_all(&r, views, &keyframe_us);
    size_t detect_bytes = 0;
    for (uint32_t i = 0; i < n_hosts; i++) {
        held += watch_view_bytes(&views[i]);
        detect_bytes += detect_host_bytes(views[i].detect);
    }
    free_views(views);
    double replay_us = measure_replay(&r, NULL);
    views = make_views();
    double replay_all_us = measure_replay(&r, views);
    free_views(views);
    watch_rows_fini(&r);
    printf("%u hosts of %u tags, %u %% changing, rows of %zu bytes\n", n_hosts,
           n_tags, percent, bytes / KINDS);
    printf("a sample: %.1f us reading its row, %.1f us detection (windows "
           "closed included)\n",
           reading_us, all_us - reading_us);
    printf("replayed from chunks of %d: %.1f us reading, %.1f us detection\n",
           SAMPLES, replay_us, replay_all_us - replay_us);
    printf("a first keyframe: %.1f us\n", keyframe_us);
    printf("a host: %.1f KB, %.1f of them detection's\n",
           (double)held / n_hosts / 1e3, (double)detect_bytes / n_hosts / 1e3);
    return 0;
}
