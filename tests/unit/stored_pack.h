/* Packs a run (chunk_pair.h) as rows of the fresh tier, into stored_db.h's
 * table: an agent's encoder makes the columns, here they become stored tables,
 * as a collector does it. Included after chunk_random.h. */
#ifndef PSC_TESTS_STORED_PACK_H
#define PSC_TESTS_STORED_PACK_H

#include <math.h>
#include <stdio.h>

#include "proto/stored.h"
#include "tests/lib/stored_db.h"

enum { PACK_MAX_BYTES = 1 << 20, PACK_KEY_BYTES = 6, PACK_ROWS_MAX = 512 };

struct packer {
    struct table table; /* the agent's */
    struct table_writer writer;
    struct grid grid; /* of what was packed */
    struct grid_changes changes;
    char key[PACK_KEY_BYTES + 1]; /* the last one of the dictionary */
};

static void packer_init(struct packer *p, uint32_t columns)
{
    *p = (struct packer){.key = ""};
    table_init(&p->table, columns, TABLE_MAX_COUNTERS,
               TABLE_MAX_COUNTER_KEY_BYTES);
    table_writer_init(&p->writer, PACK_MAX_BYTES);
    grid_init(&p->grid, columns, TABLE_MAX_COUNTERS, NULL);
    grid_changes_init(&p->changes, NULL);
}

static void packer_fini(struct packer *p)
{
    table_fini(&p->table);
    table_writer_fini(&p->writer);
    grid_fini(&p->grid);
    grid_changes_fini(&p->changes);
}

/* Entries that the registry would not have: stored as nobody's. */
static bool is_nobody(uint32_t id)
{
    return id % 13 == 5;
}

/* Ids are stored so many times as large. */
static uint32_t id_step = 1;

/* Snapshot @s as the agent's encoder packs it. */
static bool encode(struct packer *p, struct run *r, uint32_t s, bool keyframe,
                   struct columns *out)
{
    uint32_t next = 0;

    table_begin(&p->table);
    for (uint32_t id = 1; id <= r->ids; id++) {
        const struct cell *c = cell(r, s, id);
        char key[PACK_KEY_BYTES + 1];
        (void)snprintf(key, sizeof(key), "%c%05u", POOL_SLAB, (unsigned)id);
        if (c->present) {
            assert_int_equal(table_put(&p->table, 0, key, PACK_KEY_BYTES,
                                       c->flags, c->values),
                             PSC_OK);
        }
    }
    int rc = PSC_NEED_KEYFRAME;
    if (!keyframe) {
        rc = table_encode(&p->table, false, 1, PACK_MAX_BYTES, &next,
                          &p->writer, out);
    }
    keyframe = rc != PSC_OK;
    if (keyframe) {
        rc = table_encode(&p->table, true, 0, PACK_MAX_BYTES, &next, &p->writer,
                          out);
    }
    assert_int_equal(rc, PSC_OK);
    assert_int_equal(next, 0);
    return keyframe;
}

/* Names as ids. Returns how many; appends to @out if it is not NULL. */
static uint32_t pack_names(struct packer *p, struct psc_bytes names,
                           struct psc_buf *out)
{
    struct psc_reader in;
    uint32_t n = 0;

    psc_reader_init(&in, names);
    for (; psc_reader_left(&in) > 0; n++) {
        uint8_t flags = psc_read_u8(&in);
        uint8_t shared = psc_read_u8(&in);
        struct psc_bytes rest = psc_read_string(&in);
        assert_int_equal(shared + rest.len, PACK_KEY_BYTES);
        if (out != NULL) {
            memcpy(p->key + shared, rest.data, rest.len);
            uint32_t id = (uint32_t)strtoul(p->key + 1, NULL, 10);
            stored_name(out, flags, is_nobody(id) ? 0 : id * id_step);
        }
    }
    assert_false(in.failed);
    return n;
}

/* Everything that is known so far, as a row of its own. */
static void restate(struct packer *p, struct psc_buf *out)
{
    struct psc_buf gaps, values;
    psc_buf_init(&gaps, PACK_MAX_BYTES);
    psc_buf_init(&values, PACK_MAX_BYTES);
    grid_pack(&p->grid, NULL, &gaps, &values);
    const struct grid_part part = {.gaps = {gaps.data, gaps.len},
                                   .values = {values.data, values.len}};
    psc_buf_reset(out);
    stored_begin(out, p->grid.n);
    for (uint32_t i = 0; i < p->grid.n; i++) {
        stored_name(out, p->grid.entries[i].flags, p->grid.entries[i].ref);
    }
    stored_numbers(out, &part);
    assert_int_equal(psc_buf_error(out), PSC_OK);
    psc_buf_fini(&gaps);
    psc_buf_fini(&values);
}

/* Make @out the row of snapshot @s. Returns its kind; @how: at least so much
 * of a keyframe. */
static enum stored_kind pack(struct packer *p, struct run *r, uint32_t s,
                             enum stored_kind how, bool restated,
                             struct psc_buf *out)
{
    struct columns columns;
    bool keyframe = encode(p, r, s, how == STORED_KEYFRAME, &columns);
    const struct grid_part part = {columns.gone, columns.gaps, columns.values};

    psc_buf_reset(out);
    stored_begin(out, pack_names(p, columns.names, NULL));
    (void)pack_names(p, columns.names, out);
    stored_numbers(out, &part);
    assert_int_equal(psc_buf_error(out), PSC_OK);
    assert_int_equal(stored_apply(&p->grid,
                                  (struct psc_bytes){out->data, out->len},
                                  keyframe, &p->changes, NULL),
                     PSC_OK);
    if (restated) {
        restate(p, out);
    }
    return keyframe || restated ? STORED_KEYFRAME : STORED_DELTA;
}

/* Which snapshot each row is of, from row 1 on; of none without a table. */
struct packed {
    int n;
    int snapshot_of[PACK_ROWS_MAX + 1];
};

static void pack_row(struct packed *packed, int snapshot,
                     const struct psc_buf *b, const char *kind, int64_t at_us)
{
    const struct psc_bytes data = {b != NULL ? b->data : NULL,
                                   b != NULL ? b->len : 0};
    assert_in_range(++packed->n, 1, PACK_ROWS_MAX);
    packed->snapshot_of[packed->n] = snapshot;
    stored_db_put(packed->n, b != NULL ? &data : NULL, kind, at_us);
}

/* Rows without the table come in between. */
static void pack_others(struct packed *packed)
{
    while (below(8) == 0) {
        const char *kinds[] = {"0", "1", NULL};
        pack_row(packed, -1, NULL, kinds[below(3)], 0);
    }
}

/* The whole run, keyframes now and then. */
static UNUSED void pack_all(struct run *r, struct packed *packed)
{
    struct packer p;
    struct psc_buf row;
    char kind[8];

    packed->n = 0;
    stored_db_begin();
    psc_buf_init(&row, PACK_MAX_BYTES);
    packer_init(&p, r->columns);
    for (uint32_t s = 0; s < r->snapshots; s++) {
        bool keyframe = s == 0 || below(30) == 0;
        pack_others(packed);
        (void)snprintf(kind, sizeof(kind), "%d",
                       (int)pack(&p, r, s,
                                 keyframe ? STORED_KEYFRAME : STORED_DELTA,
                                 below(20) == 0, &row));
        pack_row(packed, (int)s, &row, kind, r->at_us[s]);
    }
    pack_others(packed);
    packer_fini(&p);
    psc_buf_fini(&row);
}

/* What a reader of rows must show of @id at @s; one of chunks also shows
 * those that are nobody's. */
static UNUSED struct cell shown(struct run *r, uint32_t s, uint32_t id,
                                bool rows)
{
    struct cell c = expected(r, cell(r, s, id));

    c.present = c.present && !(rows && is_nobody(id)) &&
                (r->columns > 1 ||
                 fabs(stored_db_counter(c.flags, c.values[0])) <= 1e300);
    return c;
}

#endif
