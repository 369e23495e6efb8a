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
    struct chunk_clock clock;
    TimestampTz *ats;     /* by snapshot */
    struct hour *tallies; /* of one id, by the hour's last snapshot */
    uint8_t taken[CHUNK_SNAPSHOTS_MAX / 8]; /* snapshots that have the id */
};

static void take_times(struct hours *h)
{
    const uint32_t n = h->c.snapshots;

    module_clock(&h->clock, &h->c);
    h->ats = palloc(n * sizeof(*h->ats));
    h->tallies = palloc(n * sizeof(*h->tallies));
    for (uint32_t i = 0; i < n; i++) {
        h->ats[i] = DatumGetTimestampTz(module_time(h->clock.at_us[i]));
        h->tallies[i].n = 0;
    }
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

/* The same sample at these snapshots, hour by hour. */
static void count(struct hours *h, const struct sample *sample, uint32_t from,
                  uint32_t end)
{
    while (from < end) {
        const uint32_t hour_end = h->clock.hour_end[from];
        uint32_t stop = Min(end, hour_end);
        const struct span span = {from, stop, h->ats[from], h->ats[stop - 1]};
        hour_add(&h->tallies[hour_end - 1], sample, &span);
        from = stop;
    }
}

/* Not by struct chunk_runs, which takes a tenth longer. */
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
    for (uint32_t s = 0; s < h->c.snapshots; s = h->clock.hour_end[s]) {
        struct hour *tally = &h->tallies[h->clock.hour_end[s] - 1];
        hour_put(&h->rows, tally, id, h->c.columns);
        tally->n = 0;
    }
    return end - i;
}

static void put_hours(FunctionCallInfo fcinfo, uint32_t columns)
{
    struct hours h;

    h.rows = rows_begin(fcinfo,
                        columns == 1 ? HOUR_COUNTER_COLUMNS : HOUR_TAG_COLUMNS);
    module_open(&h.c, module_bytes(fcinfo, 0), columns);
    module_block_of(&h.b, &h.c, fcinfo);
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
