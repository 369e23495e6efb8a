/* What the head of a chunk tells: its snapshots, and where an entry lies. */
#include "sql/extension/module.h"

#include <utils/memutils.h>
#include <utils/uuid.h>

PG_FUNCTION_INFO_V1(poolscope_chunk_snapshots);
PG_FUNCTION_INFO_V1(poolscope_chunk_find);

/* chunk_snapshots(head): i, n, at, wall_at, boot_id. */
Datum poolscope_chunk_snapshots(PG_FUNCTION_ARGS)
{
    enum { COLUMNS = 5 };
    struct rows rows = rows_begin(fcinfo, COLUMNS);
    struct chunk c;
    struct chunk_times t;
    bool nulls[COLUMNS] = {false};

    module_open(&c, module_bytes(fcinfo, 0), 0);
    for (chunk_times_init(&t, &c); chunk_times_next(&t);) {
        pg_uuid_t boot;
        memcpy(boot.data, c.boots + (size_t)t.boot * CHUNK_BOOT_BYTES,
               sizeof(boot.data));
        Datum values[COLUMNS] = {Int32GetDatum((int32)t.snapshot),
                                 Int64GetDatum(t.n), module_time(t.at_us),
                                 module_time(t.wall_us), UUIDPGetDatum(&boot)};
        rows_put(&rows, values, nulls);
    }
    if (t.failed) {
        module_damaged("bad times");
    }
    return (Datum)0;
}

/* chunk_find(head, id): levels_from, levels_length, data_from, data_length, or
 * no row. Counted from 1, for substr(). */
Datum poolscope_chunk_find(PG_FUNCTION_ARGS)
{
    enum { COLUMNS = 4 };
    struct rows rows = rows_begin(fcinfo, COLUMNS);
    const int32 id = PG_GETARG_INT32(1);
    struct chunk c;
    struct chunk_slice slice;
    bool nulls[COLUMNS] = {false};

    module_open(&c, module_bytes(fcinfo, 0), 0);
    int rc = id > 0 ? chunk_find(&c, (uint32_t)id, &slice) : PSC_MISSING;
    if (rc == PSC_MISSING) {
        return (Datum)0;
    }
    /* No bytea is larger than 1 GB. */
    if (rc != PSC_OK || slice.levels_at + slice.levels_len > MaxAllocSize ||
        slice.data_at + slice.data_len > MaxAllocSize) {
        module_damaged("bad index");
    }
    Datum values[COLUMNS] = {Int32GetDatum((int32)slice.levels_at + 1),
                             Int32GetDatum((int32)slice.levels_len),
                             Int32GetDatum((int32)slice.data_at + 1),
                             Int32GetDatum((int32)slice.data_len)};
    rows_put(&rows, values, nulls);
    return (Datum)0;
}
