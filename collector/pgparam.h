/* Parameters of statements in PostgreSQL's binary form, and results from it.
 * Pure. */
#ifndef PSC_COLLECTOR_PGPARAM_H
#define PSC_COLLECTOR_PGPARAM_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "collector/pglink_io.h"
#include "common/buf.h"

/* The parameters of one statement; filled in order, then sent. */
struct pgparams {
    struct pglink_param param[PGLINK_PARAMS_MAX];
    uint8_t scalar[PGLINK_PARAMS_MAX][8]; /* what param[] points into */
    unsigned n;
};

void pgparam_null(struct pgparams *p);
void pgparam_bool(struct pgparams *p, bool v);
void pgparam_int32(struct pgparams *p, int32_t v);
void pgparam_int64(struct pgparams *p, int64_t v);
void pgparam_double(struct pgparams *p, double v);
/* Microseconds since 1970, cut to what PostgreSQL can store. */
void pgparam_time(struct pgparams *p, int64_t us);
/* The same, where 0 means none. */
void pgparam_time_or_null(struct pgparams *p, int64_t us);
/* Borrowed until the statement is sent; NULL is SQL NULL. */
void pgparam_text(struct pgparams *p, const char *text);
void pgparam_bytes(struct pgparams *p, const void *data, size_t len);
void pgparam_uuid(struct pgparams *p, const uint8_t uuid[16]);
/* An array that was built in @b. */
void pgparam_array(struct pgparams *p, const struct psc_buf *b);

/* Arrays of one dimension: begin, put each element, end. Elements may be
 * NULL. Errors are sticky in @b. */
enum pgarray_type {
    PGARRAY_BYTEA = 17,
    PGARRAY_INT8 = 20,
    PGARRAY_INT2 = 21,
    PGARRAY_INT4 = 23,
    PGARRAY_TEXT = 25,
    PGARRAY_TIMESTAMPTZ = 1184,
    PGARRAY_UUID = 2950,
};
void pgarray_begin(struct psc_buf *b, enum pgarray_type type);
void pgarray_null(struct psc_buf *b);
void pgarray_int16(struct psc_buf *b, int16_t v);
void pgarray_int32(struct psc_buf *b, int32_t v);
void pgarray_int64(struct psc_buf *b, int64_t v);
void pgarray_time(struct psc_buf *b, int64_t us);
void pgarray_time_or_null(struct psc_buf *b, int64_t us); /* 0: NULL */
/* Of text, bytea or uuid. */
void pgarray_bytes(struct psc_buf *b, const void *data, size_t len);
/* One of text or bytea whose bytes are appended to @b in between. Returns what
 * pgarray_close() wants. */
size_t pgarray_open(struct psc_buf *b);
void pgarray_close(struct psc_buf *b, size_t opened);
void pgarray_end(struct psc_buf *b);

/* Results in binary; 0, "" or false for NULL and for what does not fit. */
int64_t pgresult_int64(const PGresult *res, int row, int col);
int32_t pgresult_int32(const PGresult *res, int row, int col);
double pgresult_double(const PGresult *res, int row, int col);
bool pgresult_bool(const PGresult *res, int row, int col);
const char *pgresult_text(const PGresult *res, int row, int col);
int64_t pgresult_time(const PGresult *res, int row, int col);
/* Of bytea; borrowed from the result. */
struct psc_bytes pgresult_bytes(const PGresult *res, int row, int col);
/* Its 16 bytes, borrowed from the result; @none for what is not as long. */
const uint8_t *pgresult_uuid(const PGresult *res, int row, int col,
                             const uint8_t *none);

/* An array in binary: @n elements, read one by one from @in. */
struct pgarray_reader {
    struct psc_bytes in; /* what is left */
    uint32_t n;          /* elements of the whole array */
};
void pgarray_reader_init(struct pgarray_reader *r, const PGresult *res, int row,
                         int col);
/* The next element: false for NULL, or when there is none. */
bool pgarray_next_int32(struct pgarray_reader *r, int32_t *v);
bool pgarray_next_int64(struct pgarray_reader *r, int64_t *v);
bool pgarray_next_double(struct pgarray_reader *r, double *v);
/* Of text or bytea; borrowed from the result. */
bool pgarray_next_bytes(struct pgarray_reader *r, struct psc_bytes *v);

#endif
