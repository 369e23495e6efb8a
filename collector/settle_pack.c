/* Rows into chunks.
 *
 * A chunk's first snapshot states every live entry, the following ones what
 * their rows changed. A row that is a keyframe states everything again, which
 * costs the writer nothing where values are equal. What does not fit the chunk
 * in hand begins another one. */
#include "collector/settle_pack.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "proto/stored.h"

enum {
    SEEN_MAX = 1 << 26, /* ids; the registry has a lower limit */
    WORD_BITS = 64,
};
#define ARRAY_MAX_BYTES ((size_t)512 * 1024 * 1024)

static const enum pgarray_type types[SETTLE_COLUMNS] = {
    [SETTLE_SPAN_AT] = PGARRAY_TIMESTAMPTZ,
    [SETTLE_N_FROM] = PGARRAY_INT8,
    [SETTLE_N_TO] = PGARRAY_INT8,
    [SETTLE_AT_FROM] = PGARRAY_TIMESTAMPTZ,
    [SETTLE_AT_TO] = PGARRAY_TIMESTAMPTZ,
    [SETTLE_SNAPSHOTS] = PGARRAY_INT4,
    [SETTLE_HEAD] = PGARRAY_BYTEA,
    [SETTLE_LEVELS] = PGARRAY_BYTEA,
    [SETTLE_DATA] = PGARRAY_BYTEA,
};

void settle_pack_init(struct settle_pack *p, uint32_t columns,
                      uint32_t max_entries)
{
    *p = (struct settle_pack){.n_chunks = 0};
    grid_init(&p->grid, columns, max_entries, NULL);
    grid_changes_init(&p->changes, NULL);
    chunk_writer_init(&p->writer, columns, &chunk_openssl);
    for (unsigned i = 0; i < SETTLE_COLUMNS; i++) {
        psc_buf_init(&p->column[i], ARRAY_MAX_BYTES);
    }
}

void settle_pack_fini(struct settle_pack *p)
{
    grid_fini(&p->grid);
    grid_changes_fini(&p->changes);
    chunk_writer_fini(&p->writer);
    for (unsigned i = 0; i < SETTLE_COLUMNS; i++) {
        psc_buf_fini(&p->column[i]);
    }
    free(p->seen);
}

void settle_pack_taken(struct settle_pack *p)
{
    for (unsigned i = 0; i < SETTLE_COLUMNS; i++) {
        pgarray_begin(&p->column[i], types[i]);
    }
    p->n_chunks = 0;
    p->n_snapshots = 0;
    p->bytes = 0;
}

void settle_pack_begin(struct settle_pack *p, int64_t span_us)
{
    p->span_us = span_us;
    grid_clear(&p->grid);
    chunk_writer_reset(&p->writer);
    settle_pack_taken(p);
}

static int64_t span_of(const struct settle_pack *p, int64_t at_us)
{
    int64_t since = at_us - PSC_YEAR_2000_US;
    int64_t within = since % p->span_us;
    return at_us - (within < 0 ? within + p->span_us : within);
}

bool settle_pack_splits(const struct settle_pack *p, int64_t at_us)
{
    return p->writer.n_moments > 0 && span_of(p, at_us) != p->span_at_us;
}

/* ---- a snapshot into the chunk in hand ---- */

static int note_seen(struct settle_pack *p, uint32_t id)
{
    uint32_t word = id / WORD_BITS;
    if (word >= p->cap_seen) {
        uint32_t cap = (word + 1) * 2;
        uint64_t *seen = realloc(p->seen, cap * sizeof(*seen));
        if (seen == NULL) {
            return PSC_NOMEM;
        }
        memset(seen + p->cap_seen, 0, (cap - p->cap_seen) * sizeof(*seen));
        p->seen = seen;
        p->cap_seen = cap;
    }
    p->seen[word] |= UINT64_C(1) << id % WORD_BITS;
    return PSC_OK;
}

/* Entries that are nobody's have no id. A counter that is no number is taken
 * for absent. */
static inline int put_entry(struct settle_pack *p, uint32_t i)
{
    const struct grid_entry *e = &p->grid.entries[i];
    const int64_t *values = grid_values(&p->grid, i);

    if (e->ref == 0) {
        return PSC_OK;
    }
    if (p->grid.columns == 1 && (e->flags & ENTRY_REAL) != 0) {
        double v;
        memcpy(&v, values, sizeof(v));
        if (!isfinite(v)) {
            return chunk_writer_gone(&p->writer, e->ref);
        }
    }
    return chunk_writer_put(&p->writer, e->ref, e->flags, values);
}

static int put_all(struct settle_pack *p, bool note)
{
    int rc = PSC_OK;
    chunk_writer_keyframe(&p->writer);
    for (uint32_t i = 0; rc == PSC_OK && i < p->grid.n; i++) {
        const struct grid_entry *e = &p->grid.entries[i];
        if (!e->live) {
            continue;
        }
        rc = put_entry(p, i);
        if (rc == PSC_OK && note && e->ref < SEEN_MAX) {
            rc = note_seen(p, e->ref);
        }
    }
    return rc;
}

static int put_changes(struct settle_pack *p)
{
    const struct grid_changes *c = &p->changes;
    int rc = PSC_OK;
    for (uint32_t i = 0; rc == PSC_OK && i < c->n_gone; i++) {
        rc = chunk_writer_gone(&p->writer, p->grid.entries[c->gone[i]].ref);
    }
    for (uint32_t i = 0; rc == PSC_OK && i < c->n_changed; i++) {
        rc = put_entry(p, c->changed[i]);
    }
    return rc;
}

/* Add the grid as it is. On failure the chunk in hand is as it was. */
static int add_snapshot(struct settle_pack *p, const struct settle_row *row)
{
    bool first = p->writer.n_moments == 0;
    int rc = chunk_writer_snapshot(&p->writer, row->n, row->at_us, row->wall_us,
                                   row->boot);
    if (rc != PSC_OK) {
        return rc;
    }
    rc = first || row->keyframe ? put_all(p, first) : put_changes(p);
    if (rc != PSC_OK) {
        chunk_writer_drop(&p->writer);
        return rc;
    }
    if (first) {
        p->span_at_us = span_of(p, row->at_us);
        p->n_from = row->n;
        p->at_from_us = row->at_us;
        p->at_to_us = row->at_us;
    }
    p->n_to = row->n;
    p->at_from_us = row->at_us < p->at_from_us ? row->at_us : p->at_from_us;
    p->at_to_us = row->at_us > p->at_to_us ? row->at_us : p->at_to_us;
    return PSC_OK;
}

/* ---- chunks ---- */

static void put_chunk(struct settle_pack *p, uint32_t snapshots,
                      const struct chunk_sections *c)
{
    pgarray_time(&p->column[SETTLE_SPAN_AT], p->span_at_us);
    pgarray_int64(&p->column[SETTLE_N_FROM], p->n_from);
    pgarray_int64(&p->column[SETTLE_N_TO], p->n_to);
    pgarray_time(&p->column[SETTLE_AT_FROM], p->at_from_us);
    pgarray_time(&p->column[SETTLE_AT_TO], p->at_to_us);
    pgarray_int32(&p->column[SETTLE_SNAPSHOTS], (int32_t)snapshots);
    pgarray_bytes(&p->column[SETTLE_HEAD], c->head.data, c->head.len);
    pgarray_bytes(&p->column[SETTLE_LEVELS], c->levels.data, c->levels.len);
    pgarray_bytes(&p->column[SETTLE_DATA], c->data.data, c->data.len);
    p->n_chunks++;
    p->n_snapshots += snapshots;
    p->bytes += c->head.len + c->levels.len + c->data.len;
}

static int finish_chunk(struct settle_pack *p, struct psc_error *err)
{
    struct chunk_sections sections;
    uint32_t snapshots = p->writer.n_moments;
    if (snapshots == 0) {
        return PSC_OK;
    }
    int rc = chunk_writer_finish(&p->writer, &sections);
    if (rc == PSC_OK) {
        put_chunk(p, snapshots, &sections);
        for (unsigned i = 0; rc == PSC_OK && i < SETTLE_COLUMNS; i++) {
            rc = psc_buf_error(&p->column[i]);
        }
    }
    return rc == PSC_OK ? PSC_OK
                        : psc_error_set(err, rc, "a chunk cannot be made: %s",
                                        psc_strerror(rc));
}

int settle_pack_cut(struct settle_pack *p, struct psc_error *err)
{
    int rc = finish_chunk(p, err);
    for (unsigned i = 0; rc == PSC_OK && i < SETTLE_COLUMNS; i++) {
        pgarray_end(&p->column[i]);
    }
    return rc;
}

int settle_pack_add(struct settle_pack *p, const struct settle_row *row,
                    struct psc_error *err)
{
    int rc = PSC_OK;
    if (settle_pack_splits(p, row->at_us)) {
        rc = finish_chunk(p, err);
    }
    if (rc != PSC_OK) {
        return rc;
    }
    rc = add_snapshot(p, row);
    if (rc == PSC_LIMIT && p->writer.n_moments > 0) {
        rc = finish_chunk(p, err);
        rc = rc == PSC_OK ? add_snapshot(p, row) : rc;
    }
    return rc == PSC_OK ? PSC_OK
                        : psc_error_set(err, rc,
                                        "it does not go into a chunk: "
                                        "%s",
                                        psc_strerror(rc));
}

int settle_pack_row(struct settle_pack *p, const struct settle_row *row,
                    struct psc_error *err)
{
    int rc = stored_apply(&p->grid, row->data, row->keyframe, &p->changes, err);
    return rc == PSC_OK ? settle_pack_add(p, row, err) : rc;
}
