/* Tables for tests of what SQL makes of stored samples, and how its answers
 * are compared. Beside chunk_db.h. */
#ifndef PSC_TESTS_STORED_DB_H
#define PSC_TESTS_STORED_DB_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/stored.h"

/* A timestamptz as microseconds since 1970. */
#define AT_US(column) "(extract(epoch FROM " column ") * 1000000)::bigint"

/* The rows of table stored as arguments: x.r, x.k, x.a. */
#define STORED_ROWS                                                            \
    "(SELECT array_agg(data ORDER BY i) AS r, array_agg(kind ORDER BY i) AS "  \
    "k,"                                                                       \
    " array_agg(at ORDER BY i) AS a FROM stored) x"

/* Make the temporary table stored (i int, data bytea, kind smallint, at
 * timestamptz), or empty it. */
void stored_db_begin(void);

/* Add a row. @data NULL: a row without the table; @kind NULL likewise. */
void stored_db_put(int i, const struct psc_bytes *data, const char *kind,
                   int64_t at_us);

int64_t stored_db_number(const PGresult *r, int row, int column);

/* Make *@value what is shown of column @i of a tag; false: NULL. */
bool stored_db_tag(uint8_t flags, int i, int64_t *value);

/* Columns from @column on are a tag's: of @flags, else NULL. */
void stored_db_check_tag(const PGresult *r, int row, int column, uint8_t flags,
                         const int64_t *values);

/* A counter's value, as it should be shown. */
double stored_db_counter(uint8_t flags, int64_t value);

void stored_db_check_counter(const PGresult *r, int row, int column,
                             uint8_t flags, int64_t value);

#endif
