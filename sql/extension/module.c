/* The PostgreSQL module poolscope_chunk: chunks read by the server itself. This
 * file is what its functions stand on. */
#include "sql/extension/module.h"

#include <common/cryptohash.h>
#include <common/sha2.h>
#include <funcapi.h>
#include <math.h>
#include <miscadmin.h>
#include <stdarg.h>

PG_MODULE_MAGIC;

/* The server's own SHA-256. */
static bool sha256(const void *data, size_t len,
                   uint8_t out[CHUNK_DIGEST_BYTES])
{
    pg_cryptohash_ctx *ctx = pg_cryptohash_create(PG_SHA256);
    bool good = ctx != NULL && pg_cryptohash_init(ctx) == 0 &&
                pg_cryptohash_update(ctx, data, len) == 0 &&
                pg_cryptohash_final(ctx, out, CHUNK_DIGEST_BYTES) == 0;

    pg_cryptohash_free(ctx);
    return good;
}

static const struct chunk_digest server_digest = {.sha256 = sha256};

struct rows rows_begin(FunctionCallInfo fcinfo, int columns)
{
    InitMaterializedSRF(fcinfo, 0);
    const ReturnSetInfo *info = (const ReturnSetInfo *)fcinfo->resultinfo;
    if (info->setDesc->natts != columns) {
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                        errmsg("chunk: the function was declared with %d "
                               "columns, it has %d",
                               info->setDesc->natts, columns)));
    }
    return (struct rows){.store = info->setResult, .desc = info->setDesc};
}

void rows_put(const struct rows *rows, Datum *values, bool *nulls)
{
    CHECK_FOR_INTERRUPTS();
    tuplestore_putvalues(rows->store, rows->desc, values, nulls);
}

struct psc_bytes module_bytes(FunctionCallInfo fcinfo, int i)
{
    const bytea *b = PG_GETARG_BYTEA_PP(i);

    return (struct psc_bytes){(const uint8_t *)VARDATA_ANY(b),
                              VARSIZE_ANY_EXHDR(b)};
}

void module_damaged(const char *fmt, ...)
{
    char text[200];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    ereport(ERROR,
            (errcode(ERRCODE_DATA_CORRUPTED), errmsg("chunk: %s", text)));
}

void module_open(struct chunk *c, struct psc_bytes head, uint32_t columns)
{
    struct psc_error err;
    int rc = chunk_open(c, head, &server_digest, &err);

    if (rc != PSC_OK) {
        ereport(ERROR,
                (errcode(rc == PSC_FORMAT ? ERRCODE_DATA_CORRUPTED
                                          : ERRCODE_FEATURE_NOT_SUPPORTED),
                 errmsg("%s", err.msg)));
    }
    if (columns != 0 && c->columns != columns) {
        module_damaged("it has %s", columns == 1 ? "tags, not counters"
                                                 : "counters, not tags");
    }
}

void module_block(struct chunk_block *b, const struct chunk *c,
                  const struct chunk_slice *slice, struct psc_bytes data,
                  struct psc_bytes levels)
{
    struct psc_error err;

    if (chunk_block_open(b, c, slice, data, levels, &err) != PSC_OK) {
        ereport(ERROR,
                (errcode(ERRCODE_DATA_CORRUPTED), errmsg("%s", err.msg)));
    }
}

void module_block_of(struct chunk_block *b, const struct chunk *c,
                     FunctionCallInfo fcinfo)
{
    const int32 block = PG_GETARG_INT32(3);
    struct chunk_slice slice;

    if (block < 0 || (uint32_t)block >= c->n_blocks) {
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("chunk: it has no such block")));
    }
    if (chunk_slice(c, (uint32_t)block, &slice) != PSC_OK) {
        module_damaged("bad index");
    }
    module_block(b, c, &slice, module_bytes(fcinfo, 2),
                 module_bytes(fcinfo, 1));
}

void module_clock(struct chunk_clock *clock, const struct chunk *c)
{
    if (chunk_clock_read(clock, c, NULL) != PSC_OK) {
        module_damaged("bad times");
    }
}

Datum module_time(int64_t us)
{
    const int64_t days = POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE;
    TimestampTz t = us - days * USECS_PER_DAY;

    if (!IS_VALID_TIMESTAMP(t)) {
        module_damaged("a time that the server does not know");
    }
    return TimestampTzGetDatum(t);
}

static double as_double(int64_t bits)
{
    double real;

    memcpy(&real, &bits, sizeof(real));
    return real;
}

void module_tag(uint8_t flags, const int64_t values[TABLE_COLUMNS_MAX],
                Datum out[TAG_DATUMS], bool nulls[TAG_DATUMS])
{
    for (unsigned i = 0; i < TAG_DATUMS; i++) {
        int64_t v = values[i];
        nulls[i] = (flags >> i & 1) == 0;
        if (!nulls[i] && (flags & ENTRY_REAL) != 0) {
            double real = as_double(v);
            nulls[i] = !(fabs(real) < (double)CHUNK_VALUE_LIMIT);
            v = nulls[i] ? 0 : (int64_t)rint(real);
        }
        out[i] = Int64GetDatum(v);
    }
}

Datum module_counter(uint8_t flags, int64_t value)
{
    bool real = (flags & ENTRY_REAL) != 0;

    return Float8GetDatum(real ? as_double(value) : (double)value);
}
