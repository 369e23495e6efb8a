/* What the tests of chunks share: a run of snapshots as a plain array, which
 * is fed to a writer and compared with what a reader shows of the result.
 * Included by the test_chunk*.c after CMocka. */
#ifndef PSC_TESTS_CHUNK_PAIR_H
#define PSC_TESTS_CHUNK_PAIR_H

#include <stdlib.h>
#include <string.h>

#include "sql/codec/chunk.h"
#include "sql/codec/chunk_writer.h"

#define UNUSED __attribute__((unused))

/* One entry at one snapshot. */
struct cell {
    bool present;
    uint8_t flags;
    int64_t values[TABLE_COLUMNS_MAX];
};

struct run {
    uint32_t columns, snapshots, ids;
    struct cell *cells; /* ids of them a snapshot; id i + 1 at i */
    int64_t *n, *at_us, *wall_us;
    uint8_t *boots; /* the first byte of each snapshot's boot id */
};

static UNUSED void run_init(struct run *r, uint32_t columns, uint32_t snapshots,
                            uint32_t ids)
{
    *r = (struct run){.columns = columns, .snapshots = snapshots, .ids = ids};
    r->cells = calloc((size_t)snapshots * ids + 1, sizeof(*r->cells));
    r->n = calloc(snapshots, sizeof(*r->n));
    r->at_us = calloc(snapshots, sizeof(*r->at_us));
    r->wall_us = calloc(snapshots, sizeof(*r->wall_us));
    r->boots = calloc(snapshots, 1);
    assert_non_null(r->cells);
    assert_non_null(r->n);
    assert_non_null(r->at_us);
    assert_non_null(r->wall_us);
    assert_non_null(r->boots);
    for (uint32_t s = 0; s < snapshots; s++) {
        r->n[s] = 100 + s;
        r->at_us[s] = INT64_C(1767225600000000) + s * INT64_C(60000000);
        r->wall_us[s] = r->at_us[s] + 1500;
    }
}

static UNUSED void run_fini(struct run *r)
{
    free(r->cells);
    free(r->n);
    free(r->at_us);
    free(r->wall_us);
    free(r->boots);
}

static struct cell *cell(struct run *r, uint32_t snapshot, uint32_t id)
{
    return &r->cells[(size_t)snapshot * r->ids + id - 1];
}

static UNUSED void set(struct run *r, uint32_t snapshot, uint32_t id,
                       uint8_t flags, int64_t a, int64_t b, int64_t c,
                       int64_t d)
{
    *cell(r, snapshot, id) =
        (struct cell){.present = true, .flags = flags, .values = {a, b, c, d}};
}

/* Feed snapshot @s: everything if it is a keyframe, else what changed. */
static int feed_snapshot(struct chunk_writer *w, struct run *r, uint32_t s,
                         bool keyframe)
{
    uint8_t boot[CHUNK_BOOT_BYTES] = {r->boots[s], 0xb0};
    int rc =
        chunk_writer_snapshot(w, r->n[s], r->at_us[s], r->wall_us[s], boot);
    if (rc == PSC_OK && keyframe) {
        chunk_writer_keyframe(w);
    }
    for (uint32_t id = 1; rc == PSC_OK && id <= r->ids; id++) {
        const struct cell *now = cell(r, s, id);
        const struct cell *before = s > 0 ? cell(r, s - 1, id) : NULL;
        bool was = before != NULL && before->present;
        if (now->present &&
            (keyframe || !was || memcmp(now, before, sizeof(*now)) != 0)) {
            rc = chunk_writer_put(w, id, now->flags, now->values);
        } else if (!now->present && was && !keyframe) {
            rc = chunk_writer_gone(w, id);
        }
    }
    return rc;
}

/* Every @keyframes-th snapshot is a keyframe, the first one anyway. */
static UNUSED int feed(struct chunk_writer *w, struct run *r,
                       uint32_t keyframes)
{
    int rc = PSC_OK;

    for (uint32_t s = 0; rc == PSC_OK && s < r->snapshots; s++) {
        rc = feed_snapshot(w, r, s, s % keyframes == 0);
    }
    return rc;
}

/* What a reader must show of @c: columns that flags lack are 0, and
 * outstanding is allocs less frees. */
static struct cell expected(const struct run *r, const struct cell *c)
{
    struct cell e = *c;
    const unsigned both = TAG_ALLOCS | TAG_FREES;

    if (!c->present) {
        return (struct cell){.present = false};
    }
    for (unsigned i = 0; i < TABLE_COLUMNS_MAX; i++) {
        bool has = r->columns == 1 ? i == 0 : (c->flags >> i & 1) != 0;
        e.values[i] = has ? c->values[i] : 0;
    }
    if (r->columns > 1 && (c->flags & ENTRY_REAL) == 0 &&
        (c->flags & both) == both && (c->flags & TAG_OUTSTANDING) != 0) {
        e.values[COL_OUTSTANDING] =
            c->values[COL_ALLOCS] - c->values[COL_FREES];
    }
    return e;
}

/* Lay the points of one entry into @shown, a cell a snapshot. */
static void lay(const struct chunk_block *b, uint32_t i, struct cell *shown,
                uint32_t snapshots)
{
    struct chunk_entry e;
    uint32_t next = 0;
    struct cell now = {.present = false};

    for (chunk_entry_open(&e, b, i); chunk_next(&e);) {
        assert_true(e.snapshot >= next || e.snapshot == 0);
        for (; next < e.snapshot; next++) {
            if (now.present) {
                assert_false(shown[next].present);
                shown[next] = now;
            }
        }
        now.present = e.present;
        now.flags = e.flags;
        memcpy(now.values, e.values, sizeof(now.values));
    }
    assert_false(e.failed);
    for (; next < snapshots; next++) {
        if (now.present) {
            assert_false(shown[next].present);
            shown[next] = now;
        }
    }
}

static void check_entry(struct run *r, const struct chunk *c,
                        const struct chunk_sections *in, uint32_t id)
{
    struct cell *shown = calloc(r->snapshots + 1u, sizeof(*shown));
    struct chunk_slice slice;
    struct chunk_block b;
    assert_non_null(shown);
    int rc = chunk_find(c, id, &slice);
    assert_true(rc == PSC_OK || rc == PSC_MISSING);
    if (rc == PSC_OK) {
        assert_int_equal(
            chunk_block_at(&b, c, slice.block, in->data, in->levels, NULL),
            PSC_OK);
        for (uint32_t i = chunk_block_find(&b, id); i < b.n && b.ids[i] == id;
             i++) {
            lay(&b, i, shown, r->snapshots);
        }
    }
    for (uint32_t s = 0; s < r->snapshots; s++) {
        struct cell must = expected(r, cell(r, s, id));
        assert_int_equal(shown[s].present, must.present);
        assert_memory_equal(&shown[s].values, &must.values,
                            sizeof(must.values));
        assert_true(!must.present || shown[s].flags == must.flags);
    }
    free(shown);
}

/* The levels alone say what was there at the start. */
static void check_levels(struct run *r, const struct chunk *c,
                         const struct chunk_sections *in)
{
    uint32_t present = 0, n = 0;

    for (uint32_t at = 0; at < c->n_blocks; at++) {
        struct chunk_slice slice;
        struct chunk_block b;
        assert_int_equal(chunk_slice(c, at, &slice), PSC_OK);
        struct psc_bytes levels = {in->levels.data + slice.levels_at,
                                   slice.levels_len};
        assert_int_equal(chunk_block_open(&b, c, &slice,
                                          (struct psc_bytes){NULL, 0}, levels,
                                          NULL),
                         PSC_OK);
        n += b.n;
        for (uint32_t i = 0; i < b.n; i++) {
            struct cell must = expected(r, cell(r, 0, b.ids[i]));
            if (b.present[i]) {
                present++;
                assert_int_equal(b.flags[i], must.flags);
                assert_true(b.levels[i] ==
                            must.values[r->columns == 1 ? 0 : COL_BYTES]);
            }
        }
    }
    assert_int_equal(n, c->n_entries);
    for (uint32_t id = 1; id <= r->ids; id++) {
        present -= cell(r, 0, id)->present;
    }
    assert_int_equal(present, 0);
}

static void check_times(const struct run *r, const struct chunk *c)
{
    struct chunk_times t;
    chunk_times_init(&t, c);
    for (uint32_t s = 0; s < r->snapshots; s++) {
        assert_true(chunk_times_next(&t));
        assert_int_equal(t.snapshot, s);
        assert_true(t.n == r->n[s]);
        assert_true(t.at_us == r->at_us[s]);
        assert_true(t.wall_us == r->wall_us[s]);
        assert_int_equal(c->boots[t.boot * CHUNK_BOOT_BYTES], r->boots[s]);
    }
    assert_false(chunk_times_next(&t));
    assert_false(t.failed);
}

/* What @in shows is @r, no more and no less. */
static UNUSED void check_sections(struct run *r,
                                  const struct chunk_sections *in)
{
    struct chunk c;
    struct psc_error err;
    assert_int_equal(chunk_open(&c, in->head, &chunk_openssl, &err), PSC_OK);
    assert_int_equal(c.columns, r->columns);
    assert_int_equal(c.snapshots, r->snapshots);
    check_times(r, &c);
    check_levels(r, &c, in);
    for (uint32_t id = 1; id <= r->ids; id++) {
        check_entry(r, &c, in, id);
    }
}

static UNUSED struct chunk_sections round_trip(struct chunk_writer *w,
                                               struct run *r,
                                               uint32_t keyframes)
{
    struct chunk_sections out;
    assert_int_equal(feed(w, r, keyframes), PSC_OK);
    assert_int_equal(chunk_writer_finish(w, &out), PSC_OK);
    check_sections(r, &out);
    return out;
}

#endif
