/* One entry of a chunk over the run: a row for each snapshot that has it. */
#include "sql/extension/module.h"

#include <miscadmin.h>

PG_FUNCTION_INFO_V1(poolscope_chunk_points);
PG_FUNCTION_INFO_V1(poolscope_chunk_counter_points);

enum { TAG_COLUMNS = 3 + TAG_DATUMS, COUNTER_COLUMNS = 3 };

struct points {
    struct rows rows;
    const struct chunk *c;
    uint8_t taken[CHUNK_SNAPSHOTS_MAX / 8]; /* snapshots that have a row */
};

/* An entry's state from one of its points on. */
struct state {
    bool present;
    int64_t values[TABLE_COLUMNS_MAX];
};

static void put(struct points *p, const struct chunk_times *t, uint8_t flags,
                const struct state *s)
{
    Datum values[TAG_COLUMNS] = {Int64GetDatum(t->n), module_time(t->at_us)};
    bool nulls[TAG_COLUMNS] = {false};
    uint8_t *taken = &p->taken[t->snapshot / 8];
    const unsigned bit = 1u << t->snapshot % 8;
    if ((*taken & bit) != 0) {
        module_damaged("an id has two entries at one snapshot");
    }
    *taken = (uint8_t)(*taken | bit);
    if (p->c->columns == 1) {
        values[2] = module_counter(flags, s->values[0]);
    } else {
        values[2] = Int32GetDatum(flags);
        module_tag(flags, s->values, values + 3, nulls + 3);
    }
    rows_put(&p->rows, values, nulls);
}

/* All snapshots that have entry @index of @b. */
static void put_entry(struct points *p, const struct chunk_block *b,
                      uint32_t index)
{
    struct chunk_times t;
    struct chunk_entry e;
    struct state now = {.present = false};

    chunk_entry_open(&e, b, index);
    bool more = chunk_next(&e);
    for (chunk_times_init(&t, p->c); chunk_times_next(&t);) {
        CHECK_FOR_INTERRUPTS();
        if (more && e.snapshot == t.snapshot) {
            now.present = e.present;
            memcpy(now.values, e.values, sizeof(now.values));
            more = chunk_next(&e);
        }
        if (now.present) {
            put(p, &t, b->flags[index], &now);
        }
    }
    if (e.failed) {
        module_damaged("bad data of id %u", (unsigned)b->ids[index]);
    }
    if (t.failed) {
        module_damaged("bad times");
    }
}

static void put_points(FunctionCallInfo fcinfo, uint32_t columns)
{
    struct points p = {.rows = rows_begin(fcinfo, columns == 1 ? COUNTER_COLUMNS
                                                               : TAG_COLUMNS)};
    const int32 id = PG_GETARG_INT32(3);
    struct chunk c;
    struct chunk_slice slice;
    struct chunk_block b;

    module_open(&c, module_bytes(fcinfo, 0), columns);
    p.c = &c;
    int rc = id > 0 ? chunk_find(&c, (uint32_t)id, &slice) : PSC_MISSING;
    if (rc == PSC_MISSING) {
        return;
    }
    if (rc != PSC_OK) {
        module_damaged("bad index");
    }
    module_block(&b, &c, &slice, module_bytes(fcinfo, 2),
                 module_bytes(fcinfo, 1));
    for (uint32_t i = chunk_block_find(&b, (uint32_t)id);
         i < b.n && b.ids[i] == (uint32_t)id; i++) {
        put_entry(&p, &b, i);
    }
}

/* chunk_points(head, levels, data, id), the slices that chunk_find() names: n,
 * at, flags, allocs, frees, outstanding, bytes. */
Datum poolscope_chunk_points(PG_FUNCTION_ARGS)
{
    put_points(fcinfo, TABLE_COLUMNS_MAX);
    return (Datum)0;
}

/* chunk_counter_points(head, levels, data, id): n, at, value. */
Datum poolscope_chunk_counter_points(PG_FUNCTION_ARGS)
{
    put_points(fcinfo, 1);
    return (Datum)0;
}
