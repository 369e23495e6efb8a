/* What tests of readers in SQL share. */
#include "tests/lib/stored_db.h"

/* cmocka.h needs these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sql/codec/chunk.h"
#include "tests/lib/chunk_db.h"

void stored_db_begin(void)
{
    chunk_db_run("DROP TABLE IF EXISTS pg_temp.stored;"
                 "CREATE TEMP TABLE stored (i int, data bytea, kind smallint,"
                 " at timestamptz);"
                 "ALTER TABLE stored ALTER data SET STORAGE MAIN");
}

void stored_db_put(int i, const struct psc_bytes *data, const char *kind,
                   int64_t at_us)
{
    char number[16], at[32];
    (void)snprintf(number, sizeof(number), "%d", i);
    (void)snprintf(at, sizeof(at), "%lld", (long long)at_us);
    const char *values[] = {
        number, data != NULL ? (const char *)data->data : NULL, kind, at};
    const int lengths[] = {0, data != NULL ? (int)data->len : 0, 0, 0};
    const int formats[] = {0, 1, 0, 0};
    PGresult *result = PQexecParams(
        chunk_db.conn,
        "INSERT INTO stored VALUES ($1, $2, $3, '1970-01-01 00:00+00'"
        "::timestamptz + $4::bigint * interval '1 microsecond')",
        4, NULL, values, lengths, formats, 0);
    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        fail_msg("%s", PQerrorMessage(chunk_db.conn));
    }
    PQclear(result);
}

static double as_double(int64_t bits)
{
    double real;
    memcpy(&real, &bits, sizeof(real));
    return real;
}

int64_t stored_db_number(const PGresult *r, int row, int column)
{
    return strtoll(PQgetvalue(r, row, column), NULL, 10);
}

bool stored_db_tag(uint8_t flags, int i, int64_t *value)
{
    bool has = (flags >> i & 1) != 0;

    if (has && (flags & ENTRY_REAL) != 0) {
        double real = as_double(*value);
        has = fabs(real) < (double)CHUNK_VALUE_LIMIT;
        *value = has ? (int64_t)rint(real) : 0;
    }
    return has;
}

void stored_db_check_tag(const PGresult *r, int row, int column, uint8_t flags,
                         const int64_t *values)
{
    for (int i = 0; i < TABLE_COLUMNS_MAX; i++) {
        int64_t v = values[i];
        bool has = stored_db_tag(flags, i, &v);
        assert_int_equal(PQgetisnull(r, row, column + i), !has);
        assert_true(!has || stored_db_number(r, row, column + i) == v);
    }
}

double stored_db_counter(uint8_t flags, int64_t value)
{
    return (flags & ENTRY_REAL) != 0 ? as_double(value) : (double)value;
}

void stored_db_check_counter(const PGresult *r, int row, int column,
                             uint8_t flags, int64_t value)
{
    double shown = strtod(PQgetvalue(r, row, column), NULL);
    double real = stored_db_counter(flags, value);

    assert_true((shown == real && signbit(shown) == signbit(real)) ||
                (isnan(shown) && isnan(real)));
}
