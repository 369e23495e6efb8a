/* Rows of the fresh tier: all entries after the last one, or one entry after
 * each. */
#include "sql/extension/stored_rows.h"

PG_FUNCTION_INFO_V1(poolscope_stored_tags_state);
PG_FUNCTION_INFO_V1(poolscope_stored_counters_state);
PG_FUNCTION_INFO_V1(poolscope_stored_tag_points);
PG_FUNCTION_INFO_V1(poolscope_stored_counter_points);

/* Columns of the results: @first tells which entry or row it is. */
enum { TAG_COLUMNS = 2 + TAG_DATUMS, COUNTER_COLUMNS = 2 };

static void put(const struct rows *rows, const struct grid *g, int32 first,
                uint32_t entry)
{
    const uint8_t flags = g->entries[entry].flags;
    const int64_t *now = grid_values(g, entry);
    Datum values[TAG_COLUMNS] = {Int32GetDatum(first)};
    bool nulls[TAG_COLUMNS] = {false};

    if (g->columns == 1) {
        values[1] = module_counter(flags, now[0]);
        if (!module_counts(DatumGetFloat8(values[1]))) {
            return;
        }
    } else {
        values[1] = Int32GetDatum(flags);
        module_tag(flags, now, values + 2, nulls + 2);
    }
    rows_put(rows, values, nulls);
}

static struct rows begin(FunctionCallInfo fcinfo, uint32_t columns)
{
    return rows_begin(fcinfo, columns == 1 ? COUNTER_COLUMNS : TAG_COLUMNS);
}

static void put_state(FunctionCallInfo fcinfo, uint32_t columns)
{
    const struct rows rows = begin(fcinfo, columns);
    struct stored_rows r;
    struct stored_ids ids;

    stored_rows_open(&r, fcinfo, columns);
    stored_ids_open(&ids);
    while (stored_rows_next(&r)) {
        stored_ids_update(&ids, &r);
    }
    for (uint32_t i = 0; i < r.grid.n; i++) {
        const struct grid_entry *e = &r.grid.entries[i];
        if (e->live && e->ref != 0) {
            put(&rows, &r.grid, (int32)e->ref, i);
        }
    }
}

static void put_points(FunctionCallInfo fcinfo, uint32_t columns)
{
    const struct rows rows = begin(fcinfo, columns);
    const int32 id = PG_GETARG_INT32(2);
    struct stored_rows r;
    bool known = false;
    uint32_t at = 0; /* the entry, if known */

    stored_rows_open(&r, fcinfo, columns);
    while (stored_rows_next(&r)) {
        known = known && !r.keyframe;
        for (uint32_t i = r.n_before; i < r.grid.n; i++) {
            if (r.grid.entries[i].ref != (uint32_t)id) {
                continue;
            }
            if (known && id > 0) {
                stored_damaged("id %d came twice", id);
            }
            known = id > 0;
            at = i;
        }
        if (known && r.grid.entries[at].live) {
            put(&rows, &r.grid, r.i, at);
        }
    }
}

/* stored_tags_state(rows, kinds): id, flags, allocs, frees, outstanding,
 * bytes. */
Datum poolscope_stored_tags_state(PG_FUNCTION_ARGS)
{
    put_state(fcinfo, TABLE_COLUMNS_MAX);
    return (Datum)0;
}

/* stored_counters_state(rows, kinds): id, value. */
Datum poolscope_stored_counters_state(PG_FUNCTION_ARGS)
{
    put_state(fcinfo, 1);
    return (Datum)0;
}

/* stored_tag_points(rows, kinds, id): i, flags, allocs, frees, outstanding,
 * bytes. */
Datum poolscope_stored_tag_points(PG_FUNCTION_ARGS)
{
    put_points(fcinfo, TABLE_COLUMNS_MAX);
    return (Datum)0;
}

/* stored_counter_points(rows, kinds, id): i, value. */
Datum poolscope_stored_counter_points(PG_FUNCTION_ARGS)
{
    put_points(fcinfo, 1);
    return (Datum)0;
}
