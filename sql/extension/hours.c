/* Statistics of hours. */
#include "sql/extension/hours.h"

#include <utils/fmgrprotos.h>
#include <utils/numeric.h>

TimestampTz hour_of(TimestampTz at)
{
    if (TIMESTAMP_NOT_FINITE(at)) {
        return at;
    }
    TimestampTz rest = at % USECS_PER_HOUR;
    return at - (rest < 0 ? rest + USECS_PER_HOUR : rest);
}

bool sample_make(struct sample *s, uint32_t columns, uint8_t flags,
                 const int64_t *values)
{
    Datum out[TAG_DATUMS];
    bool lacks[TAG_DATUMS];

    if (columns == 1) {
        s->value = DatumGetFloat8(module_counter(flags, values[0]));
        return module_counts(s->value);
    }
    module_tag(flags, values, out, lacks);
    s->has_bytes = !lacks[COL_BYTES];
    s->bytes = DatumGetInt64(out[COL_BYTES]);
    s->has_outstanding = !lacks[COL_OUTSTANDING];
    s->outstanding = DatumGetInt64(out[COL_OUTSTANDING]);
    return true;
}

static void add_bytes(struct hour *h, int64_t bytes, uint32_t weight)
{
    if (!h->has_bytes || bytes < h->least) {
        h->least = bytes;
    }
    if (!h->has_bytes || bytes > h->greatest) {
        h->greatest = bytes;
    }
    h->has_bytes = true;
    h->sum += (int128)bytes * weight;
}

static void add_value(struct hour *h, double value, uint32_t weight)
{
    if (h->n == 0 || value < h->least_value) {
        h->least_value = value;
    }
    if (h->n == 0 || value > h->greatest_value) {
        h->greatest_value = value;
    }
    h->sum_value += value * weight;
}

void hour_add(struct hour *h, const struct sample *s, const struct span *span)
{
    const uint32_t weight = span->end - span->from;

    if (h->n == 0) {
        *h = (struct hour){.n = 0};
    }
    if (h->n == 0 || span->from < h->from) {
        h->from = span->from;
        h->first_at = span->first_at;
        h->first = *s;
    }
    if (h->n == 0 || span->end > h->end) {
        h->end = span->end;
        h->last_at = span->last_at;
        h->last = *s;
    }
    if (s->has_bytes) {
        add_bytes(h, s->bytes, weight);
    }
    add_value(h, s->value, weight);
    h->n += weight;
}

/* @v as the server's numeric. */
static Datum exact(int128 v)
{
    enum { DIGITS = 40 };
    char text[DIGITS + 2];
    char *at = text + sizeof(text) - 1;
    bool minus = v < 0;
    uint128 rest = minus ? -(uint128)v : (uint128)v;

    if (v >= INT64_MIN && v <= INT64_MAX) {
        return NumericGetDatum(int64_to_numeric((int64)v));
    }
    *at = '\0';
    for (; rest > 0; rest /= 10) {
        *--at = (char)('0' + (int)(rest % 10));
    }
    if (minus) {
        *--at = '-';
    }
    return DirectFunctionCall3(numeric_in, CStringGetDatum(at),
                               ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
}

void hour_put(const struct rows *rows, const struct hour *h, uint32_t id,
              uint32_t columns)
{
    if (h->n == 0) {
        return;
    }
    Datum values[HOUR_TAG_COLUMNS] = {
        TimestampTzGetDatum(hour_of(h->first_at)),
        Int32GetDatum((int32)id),
        Int64GetDatum(h->n),
        TimestampTzGetDatum(h->first_at),
        TimestampTzGetDatum(h->last_at),
    };
    bool nulls[HOUR_TAG_COLUMNS] = {false};
    unsigned i = 5;
    if (columns == 1) {
        values[i++] = Float8GetDatum(h->first.value);
        values[i++] = Float8GetDatum(h->last.value);
        values[i++] = Float8GetDatum(h->least_value);
        values[i++] = Float8GetDatum(h->greatest_value);
        values[i] = Float8GetDatum(h->sum_value);
        rows_put(rows, values, nulls);
        return;
    }
    nulls[i] = !h->first.has_bytes;
    values[i++] = Int64GetDatum(h->first.bytes);
    nulls[i] = !h->last.has_bytes;
    values[i++] = Int64GetDatum(h->last.bytes);
    nulls[i] = nulls[i + 1] = nulls[i + 2] = !h->has_bytes;
    values[i++] = Int64GetDatum(h->least);
    values[i++] = Int64GetDatum(h->greatest);
    values[i++] = exact(h->sum);
    nulls[i] = !h->last.has_outstanding;
    values[i] = Int64GetDatum(h->last.outstanding);
    rows_put(rows, values, nulls);
}
