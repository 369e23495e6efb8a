/* All entries of a chunk at one snapshot: the run's first, from the levels
 * alone, its last, or any other. */
#include "sql/extension/module.h"

#include <miscadmin.h>

PG_FUNCTION_INFO_V1(poolscope_chunk_levels);
PG_FUNCTION_INFO_V1(poolscope_chunk_counter_levels);
PG_FUNCTION_INFO_V1(poolscope_chunk_end);
PG_FUNCTION_INFO_V1(poolscope_chunk_counter_end);
PG_FUNCTION_INFO_V1(poolscope_chunk_state);

/* Columns of the results; a counter has the same ones at both ends. */
enum {
    LEVEL_COLUMNS = 3,
    END_COLUMNS = 2 + TAG_DATUMS,
    COUNTER_COLUMNS = 2,
};

struct walk {
    struct rows rows;
    struct chunk c;
    struct psc_bytes levels, data; /* whole sections; data NULL: the start */
    uint32_t snapshot;             /* the one that is shown */
    uint32_t last_id;              /* of which there was a row; 0: none */
};

/* An entry that is present: only one of an id may be. */
static void claim(struct walk *w, uint32_t id)
{
    if (id <= w->last_id) {
        module_damaged("an id has two entries at one snapshot");
    }
    w->last_id = id;
}

static void put_counter(const struct walk *w, const struct chunk_block *b,
                        uint32_t i, int64_t value)
{
    Datum values[COUNTER_COLUMNS] = {Int32GetDatum((int32)b->ids[i]),
                                     module_counter(b->flags[i], value)};
    bool nulls[COUNTER_COLUMNS] = {false};

    rows_put(&w->rows, values, nulls);
}

static void put_start(struct walk *w, const struct chunk_block *b, uint32_t i)
{
    if (!b->present[i]) {
        return;
    }
    claim(w, b->ids[i]);
    if (w->c.columns == 1) {
        put_counter(w, b, i, b->levels[i]);
        return;
    }
    const int64_t all[TABLE_COLUMNS_MAX] = {[COL_BYTES] = b->levels[i]};
    Datum out[TAG_DATUMS];
    bool lacks[TAG_DATUMS];
    module_tag(b->flags[i], all, out, lacks);
    Datum values[LEVEL_COLUMNS] = {Int32GetDatum((int32)b->ids[i]),
                                   Int32GetDatum(b->flags[i]), out[COL_BYTES]};
    bool nulls[LEVEL_COLUMNS] = {false, false, lacks[COL_BYTES]};
    rows_put(&w->rows, values, nulls);
}

static void put_state(struct walk *w, const struct chunk_block *b, uint32_t i)
{
    struct chunk_entry e;
    int64_t then[TABLE_COLUMNS_MAX];
    bool present = false;

    CHECK_FOR_INTERRUPTS();
    for (chunk_entry_open(&e, b, i);
         chunk_next(&e) && e.snapshot <= w->snapshot;) {
        memcpy(then, e.values, sizeof(then));
        present = e.present;
    }
    if (e.failed) {
        module_damaged("bad data of id %u", (unsigned)b->ids[i]);
    }
    if (!present) {
        return;
    }
    claim(w, b->ids[i]);
    if (w->c.columns == 1) {
        put_counter(w, b, i, then[0]);
        return;
    }
    Datum values[END_COLUMNS] = {Int32GetDatum((int32)b->ids[i]),
                                 Int32GetDatum(b->flags[i])};
    bool nulls[END_COLUMNS] = {false};
    module_tag(b->flags[i], then, values + 2, nulls + 2);
    rows_put(&w->rows, values, nulls);
}

/* Part of a section. */
static struct psc_bytes part(struct psc_bytes section, size_t at, size_t len,
                             const char *name)
{
    if (at > section.len || len > section.len - at) {
        module_damaged("the %s are cut off", name);
    }
    return (struct psc_bytes){section.data + at, len};
}

/* Every block. The sections must end where the index says. */
static void walk(struct walk *w)
{
    struct chunk_slice slice = {.block = 0};
    struct chunk_block b;
    uint32_t last_id = 0;

    for (uint32_t at = 0; at < w->c.n_blocks; at++) {
        CHECK_FOR_INTERRUPTS();
        if (chunk_slice(&w->c, at, &slice) != PSC_OK ||
            slice.first_id <= last_id) {
            module_damaged("bad index");
        }
        struct psc_bytes data = {NULL, 0};
        if (w->data.data != NULL) {
            data = part(w->data, slice.data_at, slice.data_len, "data");
        }
        module_block(
            &b, &w->c, &slice, data,
            part(w->levels, slice.levels_at, slice.levels_len, "levels"));
        for (uint32_t i = 0; i < b.n; i++) {
            (w->data.data != NULL ? put_state : put_start)(w, &b, i);
        }
        last_id = b.ids[b.n - 1];
    }
    if (slice.levels_at + slice.levels_len != w->levels.len ||
        slice.data_at + slice.data_len < w->data.len) {
        module_damaged("there is more than the index says");
    }
}

static void put_all(FunctionCallInfo fcinfo, uint32_t columns, int result,
                    bool end)
{
    struct walk w = {.rows = rows_begin(fcinfo, result)};

    module_open(&w.c, module_bytes(fcinfo, 0), columns);
    w.levels = module_bytes(fcinfo, 1);
    w.snapshot = w.c.snapshots - 1;
    if (end) {
        w.data = module_bytes(fcinfo, 2);
    }
    walk(&w);
}

/* chunk_levels(head, levels): id, flags, bytes. */
Datum poolscope_chunk_levels(PG_FUNCTION_ARGS)
{
    put_all(fcinfo, TABLE_COLUMNS_MAX, LEVEL_COLUMNS, false);
    return (Datum)0;
}

/* chunk_counter_levels(head, levels): id, value. */
Datum poolscope_chunk_counter_levels(PG_FUNCTION_ARGS)
{
    put_all(fcinfo, 1, COUNTER_COLUMNS, false);
    return (Datum)0;
}

/* chunk_end(head, levels, data): id, flags, allocs, frees, outstanding,
 * bytes. */
Datum poolscope_chunk_end(PG_FUNCTION_ARGS)
{
    put_all(fcinfo, TABLE_COLUMNS_MAX, END_COLUMNS, true);
    return (Datum)0;
}

/* chunk_counter_end(head, levels, data): id, value. */
Datum poolscope_chunk_counter_end(PG_FUNCTION_ARGS)
{
    put_all(fcinfo, 1, COUNTER_COLUMNS, true);
    return (Datum)0;
}

/* chunk_state(head, levels, data, i): the columns of chunk_end(). */
Datum poolscope_chunk_state(PG_FUNCTION_ARGS)
{
    const int32 i = PG_GETARG_INT32(3);
    struct walk w = {.rows = rows_begin(fcinfo, END_COLUMNS)};

    module_open(&w.c, module_bytes(fcinfo, 0), TABLE_COLUMNS_MAX);
    if (i < 0 || (uint32_t)i >= w.c.snapshots) {
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("chunk: it has no such snapshot")));
    }
    w.levels = module_bytes(fcinfo, 1);
    w.data = module_bytes(fcinfo, 2);
    w.snapshot = (uint32_t)i;
    walk(&w);
    return (Datum)0;
}
