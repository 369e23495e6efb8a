/* Chunks by block: where the blocks are, and the hours of one. */
#include "sql/extension/hours.h"

#include <miscadmin.h>
#include <utils/memutils.h>

PG_FUNCTION_INFO_V1(poolscope_chunk_blocks);
PG_FUNCTION_INFO_V1(poolscope_chunk_tag_hours);
PG_FUNCTION_INFO_V1(poolscope_chunk_counter_hours);

/* chunk_blocks(head): block, first_id, last_id, levels_from, levels_length,
 * data_from, data_length. */
Datum poolscope_chunk_blocks(PG_FUNCTION_ARGS)
{
    enum { COLUMNS = 7 };
    const struct rows rows = rows_begin(fcinfo, COLUMNS);
    struct chunk c;
    struct chunk_slice slice, next = {.block = 0};
    bool nulls[COLUMNS] = {false};

    module_open(&c, module_bytes(fcinfo, 0), 0);
    for (uint32_t i = 0; i <= c.n_blocks; i++) {
        slice = next;
        bool more = i < c.n_blocks;
        /* No bytea is larger than 1 GB. */
        if (more && (chunk_slice(&c, i, &next) != PSC_OK ||
                     next.levels_at + next.levels_len > MaxAllocSize ||
                     next.data_at + next.data_len > MaxAllocSize)) {
            module_damaged("bad index");
        }
        if (i == 0) {
            continue;
        }
        Datum values[COLUMNS] = {
            Int32GetDatum((int32)slice.block),
            Int32GetDatum((int32)slice.first_id),
            Int32GetDatum(more ? (int32)next.first_id - 1 : INT32_MAX),
            Int32GetDatum((int32)slice.levels_at + 1),
            Int32GetDatum((int32)slice.levels_len),
            Int32GetDatum((int32)slice.data_at + 1),
            Int32GetDatum((int32)slice.data_len)};
        rows_put(&rows, values, nulls);
    }
    return (Datum)0;
}

/* --- hours --- */

struct hours {
    struct rows rows;
    struct chunk c;
    struct chunk_block b;
    TimestampTz *ats;     /* by snapshot */
    uint32_t *runs;       /* the same */
    uint32_t *run_ends;   /* by run: the first snapshot behind it */
    struct hour *tallies; /* of one id, by run */
    uint32_t n_runs;
    uint8_t taken[CHUNK_SNAPSHOTS_MAX / 8]; /* snapshots that have the id */
};

static void take_times(struct hours *h)
{
    const uint32_t n = h->c.snapshots;
    struct chunk_times t;

    h->ats = palloc(n * sizeof(*h->ats));
    h->runs = palloc(n * sizeof(*h->runs));
    h->run_ends = palloc(n * sizeof(*h->run_ends));
    for (chunk_times_init(&t, &h->c); chunk_times_next(&t);) {
        const uint32_t s = t.snapshot;
        h->ats[s] = DatumGetTimestampTz(module_time(t.at_us));
        if (s == 0 || hour_of(h->ats[s]) != hour_of(h->ats[s - 1])) {
            h->n_runs++;
        }
        h->runs[s] = h->n_runs - 1;
        h->run_ends[h->runs[s]] = s + 1;
    }
    if (t.failed) {
        module_damaged("bad times");
    }
    h->tallies = palloc0(h->n_runs * sizeof(*h->tallies));
}

/* The entry's id is there at snapshots @from to @end - 1. */
static void claim(struct hours *h, uint32_t from, uint32_t end)
{
    for (uint32_t s = from; s < end; s++) {
        const unsigned bit = 1u << s % 8;
        if ((h->taken[s / 8] & bit) != 0) {
            module_damaged("an id has two entries at one snapshot");
        }
        h->taken[s / 8] = (uint8_t)(h->taken[s / 8] | bit);
    }
}

/* The same sample at these snapshots, run by run. */
static void count(struct hours *h, const struct sample *sample, uint32_t from,
                  uint32_t end)
{
    while (from < end) {
        uint32_t run = h->runs[from];
        uint32_t stop = Min(end, h->run_ends[run]);
        const struct span span = {from, stop, h->ats[from], h->ats[stop - 1]};
        hour_add(&h->tallies[run], sample, &span);
        from = stop;
    }
}

static void take_entry(struct hours *h, uint32_t i, bool alone)
{
    const uint32_t columns = h->c.columns;
    struct chunk_entry e;
    struct sample sample = {.value = 0};
    bool present = false, counts = false;
    uint32_t from = 0;

    CHECK_FOR_INTERRUPTS();
    chunk_entry_open(&e, &h->b, i);
    for (bool more = true; more;) {
        more = chunk_next(&e);
        uint32_t to = more ? e.snapshot : h->c.snapshots;
        if (present && !alone) {
            claim(h, from, to);
        }
        if (present && counts) {
            count(h, &sample, from, to);
        }
        from = to;
        present = e.present;
        counts =
            more && present && sample_make(&sample, columns, e.flags, e.values);
    }
    if (e.failed) {
        module_damaged("bad data of id %u", (unsigned)h->b.ids[i]);
    }
}

/* Entries of one id, from @i on. Returns how many they are. */
static uint32_t take_id(struct hours *h, uint32_t i)
{
    const uint32_t id = h->b.ids[i];
    uint32_t end = i + 1;

    while (end < h->b.n && h->b.ids[end] == id) {
        end++;
    }
    memset(h->taken, 0, end - i > 1 ? sizeof(h->taken) : 0);
    for (uint32_t entry = i; entry < end; entry++) {
        take_entry(h, entry, end - i == 1);
    }
    for (uint32_t run = 0; run < h->n_runs; run++) {
        hour_put(&h->rows, &h->tallies[run], id, h->c.columns);
        h->tallies[run].n = 0;
    }
    return end - i;
}

static void put_hours(FunctionCallInfo fcinfo, uint32_t columns)
{
    struct hours h = {.rows =
                          rows_begin(fcinfo, columns == 1 ? HOUR_COUNTER_COLUMNS
                                                          : HOUR_TAG_COLUMNS)};
    const int32 block = PG_GETARG_INT32(3);
    struct chunk_slice slice;

    module_open(&h.c, module_bytes(fcinfo, 0), columns);
    if (block < 0 || (uint32_t)block >= h.c.n_blocks) {
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("chunk: it has no such block")));
    }
    if (chunk_slice(&h.c, (uint32_t)block, &slice) != PSC_OK) {
        module_damaged("bad index");
    }
    module_block(&h.b, &h.c, &slice, module_bytes(fcinfo, 2),
                 module_bytes(fcinfo, 1));
    take_times(&h);
    for (uint32_t i = 0; i < h.b.n;) {
        i += take_id(&h, i);
    }
}

/* chunk_tag_hours(head, levels, data, block), the slices that chunk_blocks()
 * names: the columns of stored_tag_hours(). */
Datum poolscope_chunk_tag_hours(PG_FUNCTION_ARGS)
{
    put_hours(fcinfo, TABLE_COLUMNS_MAX);
    return (Datum)0;
}

/* chunk_counter_hours(head, levels, data, block): those of
 * stored_counter_hours(). */
Datum poolscope_chunk_counter_hours(PG_FUNCTION_ARGS)
{
    put_hours(fcinfo, 1);
    return (Datum)0;
}
