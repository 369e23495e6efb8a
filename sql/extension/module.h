/* What the files of this PostgreSQL module share: arguments, errors, rows.
 *
 * All functions take strings of bytes and touch nothing else: no table, no
 * state of their own. What they allocate is the server's, which frees it. An
 * error is the server's too: module_damaged() and all that may call it do not
 * return then, so nothing may be held that only a return would give back. */
#ifndef PSC_SQL_EXTENSION_MODULE_H
#define PSC_SQL_EXTENSION_MODULE_H

#include <postgres.h>

#include <fmgr.h>
#include <utils/timestamp.h>
#include <utils/tuplestore.h>

#include "sql/codec/chunk_runs.h"

/* The rows that a function returns, ready to take some. */
struct rows {
    Tuplestorestate *store;
    TupleDesc desc;
};

/* Rows of @columns columns. An error if the function was declared with
 * others. */
struct rows rows_begin(FunctionCallInfo fcinfo, int columns);

/* Add one; answers to a cancelled query. */
void rows_put(const struct rows *rows, Datum *values, bool *nulls);

/* Argument @i, a bytea; good until the function returns. */
struct psc_bytes module_bytes(FunctionCallInfo fcinfo, int i);

/* ERROR, data_corrupted, "chunk: " and printf-style words. */
void module_damaged(const char *fmt, ...) PSC_PRINTF(1, 2)
    __attribute__((noreturn));

/* Open @head; with @columns not 0 it must be a chunk of so many. */
void module_open(struct chunk *c, struct psc_bytes head, uint32_t columns);

/* Open block @slice by the bytes of its slices. */
void module_block(struct chunk_block *b, const struct chunk *c,
                  const struct chunk_slice *slice, struct psc_bytes data,
                  struct psc_bytes levels);

/* The same by the arguments (head, levels, data, block): the slices of that
 * block. */
void module_block_of(struct chunk_block *b, const struct chunk *c,
                     FunctionCallInfo fcinfo);

/* The times of all snapshots. */
void module_clock(struct chunk_clock *clock, const struct chunk *c);

/* Microseconds since 1970 as the server's timestamptz. */
Datum module_time(int64_t us);

/* Columns of a tag, or the value of a counter, from @values: struct
 * chunk_entry says which. Those that @flags lack are null. */
enum { TAG_DATUMS = 4 };
void module_tag(uint8_t flags, const int64_t values[TABLE_COLUMNS_MAX],
                Datum out[TAG_DATUMS], bool nulls[TAG_DATUMS]);
Datum module_counter(uint8_t flags, int64_t value);

/* A counter's value is as good as absent where it is not finite, or so large
 * that sums are not. */
#define COUNTER_MAX 1e300
static inline bool module_counts(double value)
{
    return value >= -COUNTER_MAX && value <= COUNTER_MAX;
}

#endif
