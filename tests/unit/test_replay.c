/* Detection fed from chunks finds what it found when their samples were fresh:
 * random hosts whose tags grow, vanish, come back and change their columns,
 * with boots, impossible times and samples that lack a table. Seeded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/detect/host.h"
#include "collector/watch_rows.h"
#include "common/clock.h"
#include "tests/lib/tiers.h"

enum {
    SEEDS = 24,
    SAMPLES = 700,
    IDS = 60,
    COUNTERS = 8,
    AVAILABLE = 3, /* ids of counters */
    TOTAL = 5,
    TOLD_MAX = 512,
    LEAK_FROM = 100,
    LEAK_TO = 450,
    UNKNOWN_ID = 7,
};

#define MINUTE_US (60 * PSC_US_PER_S)
#define START_US  (INT64_C(1790000000) * PSC_US_PER_S)
#define MIB       (INT64_C(1) << 20)

struct cell {
    bool present;
    uint8_t flags;
    int64_t values[TABLE_COLUMNS_MAX];
};

struct row {
    uint8_t *data; /* owned */
    size_t len;
    enum stored_kind kind;
};

struct sample {
    int64_t n, at_us;
    uint8_t boot[CHUNK_BOOT_BYTES];
    struct cell tags[IDS], counters[COUNTERS];
    struct row tags_row, counters_row;
};

struct told {
    struct detect_finding finding[TOLD_MAX];
    uint32_t n;
};

static struct sample sample[SAMPLES];
static uint64_t seed;

static uint32_t below(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)((seed >> 33) % n);
}

/* ---- a random host ---- */

static void move_tag(struct cell *c, uint32_t id, uint32_t s)
{
    static const uint8_t flags[] = {15, 12, 12 | ENTRY_RECLAIMABLE, 8, 11, 7};
    if (!c->present && (s == 0 ? below(3) == 0 : below(40) != 0)) {
        return;
    }
    if (!c->present && id % 5 == 0 && s > SAMPLES / 3) {
        return; /* it went for good */
    }
    if (!c->present) {
        c->present = true;
        c->flags = flags[id < 4 ? 1 : below(sizeof(flags))];
        c->values[COL_ALLOCS] = below(100000);
        c->values[COL_BYTES] = (int64_t)below(4000) * 4096;
    } else if (id > 3 && below(150) == 0) {
        *c = (struct cell){.present = false};
        return;
    }
    if (id < 4 && s >= LEAK_FROM && s < LEAK_TO) {
        c->values[COL_BYTES] += (int64_t)id * 8 * MIB;
    } else if (below(4) == 0) {
        c->values[COL_ALLOCS] += below(50);
        c->values[COL_FREES] = c->values[COL_ALLOCS] / 2;
        c->values[COL_BYTES] += ((int64_t)below(21) - 10) * 4096;
        c->values[COL_BYTES] = llabs(c->values[COL_BYTES]);
    }
    c->values[COL_OUTSTANDING] = c->values[COL_ALLOCS] - c->values[COL_FREES];
}

static void move_counter(struct cell *c, uint32_t id, uint32_t s)
{
    double value = (double)below(1000000) / 7;
    if (id == AVAILABLE || id == TOTAL) {
        value = (double)(30000 * MIB);
        value -= id == AVAILABLE ? (double)s * (double)(20 * MIB) : 0;
        c->present = below(s > 20 ? 50 : 3) != 0;
        c->flags = id == AVAILABLE ? ENTRY_REAL : 0;
    } else {
        c->present = below(20) != 0;
        c->flags = ENTRY_REAL;
    }
    c->values[0] = (int64_t)value;
    if ((c->flags & ENTRY_REAL) != 0) {
        memcpy(&c->values[0], &value, sizeof(value));
    }
    if (!c->present) {
        *c = (struct cell){.present = false};
    }
}

static void set_row(struct row *row, struct psc_bytes bytes, bool keyframe)
{
    row->kind = keyframe ? STORED_KEYFRAME : STORED_DELTA;
    row->len = bytes.len;
    row->data = malloc(bytes.len);
    assert_non_null(row->data);
    memcpy(row->data, bytes.data, bytes.len);
}

static void make_row(struct tier_table *t, struct row *row, struct cell *cells,
                     uint32_t n, bool keyframe)
{
    tier_begin(t);
    for (uint32_t i = 0; i < n; i++) {
        if (cells[i].present) {
            tier_put(t, (int32_t)i + 1, cells[i].flags, cells[i].values);
        }
    }
    struct psc_bytes bytes = tier_row(t, &keyframe);
    set_row(row, bytes, keyframe);
}

static void make_sample(struct tier_table *tags, struct tier_table *counters,
                        uint32_t s)
{
    struct sample *now = &sample[s];
    const struct sample *before = s > 0 ? now - 1 : NULL;
    *now = before != NULL ? *before : (struct sample){.boot = {0xb0}};
    now->tags_row = (struct row){.kind = STORED_NONE};
    now->counters_row = (struct row){.kind = STORED_NONE};
    now->n = s == 0 ? 7 : before->n + 1 + (below(9) == 0 ? below(4) : 0);
    now->at_us = START_US + s * (2 * MINUTE_US) + below(PSC_US_PER_S);
    if (below(s == 0 ? 3 : 150) == 0) {
        now->at_us += below(2) == 0 ? 20 * 365 * DAY_US : -40 * 365 * DAY_US;
    }
    if (below(250) == 0) {
        now->boot[1]++;
    }
    if (s == 0 || below(30) != 0) {
        for (uint32_t i = 0; i < IDS; i++) {
            move_tag(&now->tags[i], i + 1, s);
        }
        make_row(tags, &now->tags_row, now->tags, IDS,
                 s == 0 || below(40) == 0);
    }
    if (s == 0 || below(10) != 0) {
        for (uint32_t i = 0; i < COUNTERS; i++) {
            move_counter(&now->counters[i], i + 1, s);
        }
        make_row(counters, &now->counters_row, now->counters, COUNTERS,
                 s == 0 || below(40) == 0);
    }
}

static void make_host(uint64_t from)
{
    struct tier_table tags, counters;
    seed = from;
    tier_table_init(&tags, TABLE_COLUMNS_MAX);
    tier_table_init(&counters, 1);
    for (uint32_t s = 0; s < SAMPLES; s++) {
        make_sample(&tags, &counters, s);
    }
    tier_table_fini(&tags);
    tier_table_fini(&counters);
}

static void free_host(void)
{
    for (uint32_t s = 0; s < SAMPLES; s++) {
        free(sample[s].tags_row.data);
        free(sample[s].counters_row.data);
    }
}

/* ---- detection ---- */

static int learn(void *arg, const uint32_t *ids, uint32_t n,
                 struct psc_error *err)
{
    struct watch_rows *r = arg;
    (void)err;
    if (r->tag == NULL) {
        r->tag = calloc(IDS + 1, sizeof(*r->tag));
        assert_non_null(r->tag);
        r->cap_tags = IDS + 1;
    }
    for (uint32_t i = 0; i < n; i++) {
        assert_in_range(ids[i], 1, IDS);
        r->tag[ids[i]].asked = true;
        r->tag[ids[i]].known = ids[i] != UNKNOWN_ID;
        r->tag[ids[i]].pool = POOL_SLAB;
    }
    return PSC_OK;
}

static void on_told(void *user, const struct detect_finding *f)
{
    struct told *told = user;
    assert_in_range(told->n, 0, TOLD_MAX - 1);
    told->finding[told->n++] = *f;
}

struct subject {
    struct watch_rows rows;
    struct watch_view view;
    struct told *told;
};

static void begin(struct subject *d)
{
    struct detect_settings settings;
    detect_settings_default(&settings);
    watch_rows_init(&d->rows);
    d->rows.learn = learn;
    d->rows.arg = &d->rows;
    d->rows.available_id = AVAILABLE;
    d->rows.total_id = TOTAL;
    d->rows.latest_us = START_US + SAMPLES * 2 * MINUTE_US + MINUTE_US;
    watch_view_init(&d->view);
    d->view.interval_us = 2 * MINUTE_US;
    assert_int_equal(detect_host_new(&settings, &d->view.detect), PSC_OK);
    d->told = calloc(1, sizeof(*d->told));
    assert_non_null(d->told);
}

static void end(struct subject *d)
{
    watch_view_fini(&d->view);
    watch_rows_fini(&d->rows);
    free(d->told);
}

static struct watch_sample as_sample(struct subject *d, int64_t at_us,
                                     const uint8_t *boot)
{
    return (struct watch_sample){
        .at_us = at_us, .boot_id = boot, .emit = on_told, .user = d->told};
}

static struct psc_bytes bytes_of(const struct row *row)
{
    return (struct psc_bytes){row->data, row->len};
}

static void feed_counters(struct subject *d, const struct sample *s)
{
    struct psc_error err;
    if (s->counters_row.kind != STORED_NONE) {
        assert_int_equal(
            watch_rows_counters(&d->rows, &d->view, bytes_of(&s->counters_row),
                                s->counters_row.kind == STORED_KEYFRAME, &err),
            PSC_OK);
    }
}

static void feed_tags(struct subject *d, const struct sample *s)
{
    struct psc_error err;
    struct watch_sample as = as_sample(d, s->at_us, s->boot);
    if (s->tags_row.kind != STORED_NONE) {
        assert_int_equal(
            watch_rows_tags(&d->rows, &d->view, &as, bytes_of(&s->tags_row),
                            s->tags_row.kind == STORED_KEYFRAME, &err),
            PSC_OK);
    }
}

/* ---- chunks ---- */

static void put_cells(struct chunk_writer *w, const struct sample *s,
                      const struct cell *cells, uint32_t n)
{
    assert_int_equal(
        chunk_writer_snapshot(w, s->n, s->at_us, s->at_us + 5, s->boot),
        PSC_OK);
    chunk_writer_keyframe(w);
    for (uint32_t i = 0; i < n; i++) {
        if (cells[i].present) {
            assert_int_equal(
                chunk_writer_put(w, i + 1, cells[i].flags, cells[i].values),
                PSC_OK);
        }
    }
}

/* One table's samples up to @to as chunks of random length, open at the first
 * snapshot. */
struct tape {
    bool tags;
    uint32_t at, to; /* indices of samples */
    struct chunk_writer writer;
    struct replay replay;
    bool open;  /* there is a snapshot to be taken */
    bool whole; /* the first one of its chunk */
};

static bool tape_next(struct tape *t);

static void tape_fill(struct tape *t)
{
    struct chunk_sections out;
    struct psc_error err;
    static const uint32_t room[] = {AVAILABLE, TOTAL};
    uint32_t n = 0;
    uint32_t want = 1 + below(120);
    for (; t->at < t->to && n < want; t->at++) {
        const struct sample *s = &sample[t->at];
        enum stored_kind kind =
            t->tags ? s->tags_row.kind : s->counters_row.kind;
        if (kind != STORED_NONE) {
            put_cells(&t->writer, s, t->tags ? s->tags : s->counters,
                      t->tags ? IDS : COUNTERS);
            n++;
        }
    }
    if (n == 0) {
        return;
    }
    assert_int_equal(chunk_writer_finish(&t->writer, &out), PSC_OK);
    assert_int_equal(replay_open(&t->replay, out.head, out.levels, out.data,
                                 t->tags ? NULL : room, t->tags ? 0 : 2, &err),
                     PSC_OK);
    t->whole = true;
    t->open = tape_next(t);
}

static bool tape_next(struct tape *t)
{
    bool more = replay_next(&t->replay);
    assert_int_equal(t->replay.rc, PSC_OK);
    return more;
}

static void tape_init(struct tape *t, bool tags, uint32_t to)
{
    *t = (struct tape){.tags = tags, .to = to};
    replay_init(&t->replay);
    chunk_writer_init(&t->writer, tags ? TABLE_COLUMNS_MAX : 1, &chunk_openssl);
    tape_fill(t);
}

static void tape_fini(struct tape *t)
{
    replay_fini(&t->replay);
    chunk_writer_fini(&t->writer);
}

static void replay_counters(struct subject *d, struct tape *t)
{
    watch_rows_room(&d->rows, &d->view, &t->replay);
    t->open = tape_next(t);
    if (!t->open) {
        tape_fill(t);
    }
}

static void replay_tags(struct subject *d, struct tape *t)
{
    struct psc_error err;
    struct watch_sample as = as_sample(d, t->replay.at_us, t->replay.boot);
    assert_int_equal(
        watch_rows_replay(&d->rows, &d->view, &as, &t->replay, t->whole, &err),
        PSC_OK);
    t->whole = false;
    t->open = tape_next(t);
    if (!t->open) {
        assert_int_equal(watch_rows_replayed(&d->rows, &d->view, &t->replay),
                         PSC_OK);
        tape_fill(t);
    }
}

/* A sample whose row is a keyframe, from @from on; at the end if none is. */
static uint32_t keyframe_from(uint32_t from, bool tags)
{
    while (from < SAMPLES &&
           (tags ? sample[from].tags_row.kind
                 : sample[from].counters_row.kind) != STORED_KEYFRAME) {
        from++;
    }
    return from;
}

/* The same host from chunks up to some sample, then from rows. */
static void feed_settled(struct subject *d)
{
    struct tape tags, counters;
    tape_init(&tags, true, keyframe_from(below(SAMPLES), true));
    tape_init(&counters, false, keyframe_from(below(SAMPLES), false));
    for (uint32_t s = 0; s < SAMPLES; s++) {
        if (s >= counters.to) {
            feed_counters(d, &sample[s]);
        } else if (counters.open && counters.replay.n == sample[s].n) {
            replay_counters(d, &counters);
        }
        if (s >= tags.to) {
            feed_tags(d, &sample[s]);
        } else if (tags.open && tags.replay.n == sample[s].n) {
            replay_tags(d, &tags);
        }
    }
    assert_false(tags.open);
    assert_false(counters.open);
    tape_fini(&tags);
    tape_fini(&counters);
}

/* ---- comparing ---- */

static float settled(float min, int64_t last)
{
    return isnan(min) ? (float)last : min;
}

static void same_float(float a, float b)
{
    assert_true((isnan(a) && isnan(b)) || a == b);
}

/* A minimum that is not known yet is what the series holds. */
static void same_series(const struct series *a, const struct series *b)
{
    assert_int_equal(a->last, b->last);
    assert_int_equal(a->flags, b->flags);
    same_float(settled(a->fast_min, a->last), settled(b->fast_min, b->last));
    same_float(settled(a->slow_min, a->last), settled(b->slow_min, b->last));
    same_float(a->floor, b->floor);
    same_float(a->peak, b->peak);
    same_float(a->slow_peak, b->slow_peak);
    assert_int_equal(a->fast_seen, b->fast_seen);
    assert_int_equal(a->n_slow, b->n_slow);
    assert_memory_equal(a->slow, b->slow, a->n_slow * sizeof(a->slow[0]));
    assert_int_equal(a->mover == SERIES_STILL, b->mover == SERIES_STILL);
}

static void same_state(const struct detect_host *a, const struct detect_host *b)
{
    assert_int_equal(a->n_series, b->n_series);
    for (uint32_t i = 0; i < a->n_series; i++) {
        const struct series *other = host_find(b, a->series[i].id);
        assert_non_null(other);
        same_series(&a->series[i], other);
    }
    assert_int_equal(a->at_us, b->at_us);
    assert_int_equal(a->fast.samples, b->fast.samples);
    assert_int_equal(a->fast.n_x, b->fast.n_x);
    assert_int_equal(a->n_movers, b->n_movers);
    assert_int_equal(a->n_findings, b->n_findings);
    assert_true(a->room_bytes == b->room_bytes);
    assert_true(a->total_bytes == b->total_bytes);
}

static void same_told(const struct told *a, const struct told *b)
{
    assert_int_equal(a->n, b->n);
    for (uint32_t i = 0; i < a->n; i++) {
        const struct detect_finding *x = &a->finding[i];
        const struct detect_finding *y = &b->finding[i];
        assert_int_equal(x->change, y->change);
        assert_int_equal(x->key, y->key);
        assert_int_equal(x->n_tags, y->n_tags);
        assert_memory_equal(x->tags, y->tags, x->n_tags * sizeof(x->tags[0]));
        assert_int_equal(x->onset_us, y->onset_us);
        assert_int_equal(x->detected_us, y->detected_us);
        assert_int_equal(x->updated_us, y->updated_us);
        assert_int_equal(x->bytes, y->bytes);
        assert_int_equal(x->room_bytes, y->room_bytes);
        assert_int_equal(x->exhaustion_us, y->exhaustion_us);
        assert_true(x->bytes_per_day == y->bytes_per_day);
        assert_true(x->confidence == y->confidence);
    }
}

static void chunks_give_what_fresh_rows_gave(void **state)
{
    uint32_t told = 0;
    (void)state;
    for (uint64_t i = 1; i <= SEEDS; i++) {
        struct subject fresh, settled_one;
        make_host(i * UINT64_C(0x9e3779b97f4a7c15));
        begin(&fresh);
        for (uint32_t s = 0; s < SAMPLES; s++) {
            feed_counters(&fresh, &sample[s]);
            feed_tags(&fresh, &sample[s]);
        }
        begin(&settled_one);
        feed_settled(&settled_one);
        same_told(fresh.told, settled_one.told);
        same_state(fresh.view.detect, settled_one.view.detect);
        assert_true(detect_host_series(fresh.view.detect) > IDS / 2);
        assert_null(host_find(fresh.view.detect, UNKNOWN_ID));
        told += fresh.told->n;
        end(&fresh);
        end(&settled_one);
        free_host();
    }
    print_message("%u findings told\n", told);
    assert_true(told > SEEDS);
}

/* What a damaged row would have said is lost, and what vanished with it is
 * noticed at the next keyframe. */
static void a_damaged_row_costs_what_comes_before_the_next_keyframe(
    void **state)
{
    (void)state;
    struct tier_table t;
    struct subject d;
    struct cell cells[3] = {{true, 12, {0, 0, 1, 4096}},
                            {true, 12, {0, 0, 1, 8192}},
                            {true, 12, {0, 0, 1, 8192}}};
    struct sample s = {.n = 1, .at_us = START_US};
    struct psc_error err;
    struct watch_sample as;
    begin(&d);
    as = as_sample(&d, START_US, s.boot);
    tier_table_init(&t, TABLE_COLUMNS_MAX);
    make_row(&t, &s.tags_row, cells, 3, true);
    feed_tags(&d, &s);
    free(s.tags_row.data);

    cells[1].present = false;
    make_row(&t, &s.tags_row, cells, 3, false);
    struct psc_bytes cut = {s.tags_row.data, s.tags_row.len - 1};
    assert_int_equal(watch_rows_tags(&d.rows, &d.view, &as, cut, false, &err),
                     PSC_FORMAT);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(watch_rows_tags(&d.rows, &d.view, &as,
                                         bytes_of(&s.tags_row), false, &err),
                         PSC_NEED_KEYFRAME);
    }
    free(s.tags_row.data);
    assert_int_equal(host_find(d.view.detect, 2)->last, 8192);

    cells[0].values[COL_BYTES] = 12288;
    make_row(&t, &s.tags_row, cells, 3, true);
    feed_tags(&d, &s);
    free(s.tags_row.data);
    assert_int_equal(host_find(d.view.detect, 1)->last, 12288);
    assert_int_equal(host_find(d.view.detect, 2)->last, 0);
    assert_int_equal(host_find(d.view.detect, 3)->last, 8192);
    tier_table_fini(&t);
    end(&d);
}

/* No bytes make a replay do worse than fail. */
static void damage_is_refused(void **state)
{
    (void)state;
    struct chunk_sections out;
    struct tape t;
    seed = 77;
    make_host(seed);
    tape_init(&t, true, 0);
    for (uint32_t s = 0; s < 60; s++) {
        if (sample[s].tags_row.kind != STORED_NONE) {
            put_cells(&t.writer, &sample[s], sample[s].tags, IDS);
        }
    }
    assert_int_equal(chunk_writer_finish(&t.writer, &out), PSC_OK);
    for (size_t at = 0; at < out.data.len; at += 7) {
        struct psc_error err;
        uint8_t *byte = t.writer.data.data + at;
        *byte ^= 0x10;
        assert_int_equal(replay_open(&t.replay, out.head, out.levels, out.data,
                                     NULL, 0, &err),
                         PSC_FORMAT);
        *byte ^= 0x10;
        struct psc_bytes cut = {out.data.data, at};
        assert_int_equal(
            replay_open(&t.replay, out.head, out.levels, cut, NULL, 0, &err),
            PSC_FORMAT);
    }
    tape_fini(&t);
    free_host();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_give_what_fresh_rows_gave),
        cmocka_unit_test(
            a_damaged_row_costs_what_comes_before_the_next_keyframe),
        cmocka_unit_test(damage_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
