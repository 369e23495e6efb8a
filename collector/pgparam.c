/* PostgreSQL's binary formats: big-endian numbers, times since 2000, arrays
 * with a header of dimensions. */
#include "collector/pgparam.h"

#include <assert.h>
#include <string.h>

#include "common/clock.h"

/* Some 6,000 years before and after 1970: well inside PostgreSQL's range. */
#define TIME_MAX_US ((int64_t)6000 * 365 * 86400 * PSC_US_PER_S)

enum { ARRAY_HEADER_BYTES = 20, EMPTY_ARRAY_BYTES = 12, UUID_BYTES = 16 };

static void store_be(uint8_t *out, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        out[i] = (uint8_t)(v >> (8 * (bytes - 1 - i)));
    }
}

static uint64_t load_be(const uint8_t *in, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes; i++) {
        v = v << 8 | in[i];
    }
    return v;
}

static uint64_t time_bits(int64_t us)
{
    int64_t cut = us > TIME_MAX_US        ? TIME_MAX_US
                  : us < -TIME_MAX_US / 2 ? -TIME_MAX_US / 2
                                          : us;
    return (uint64_t)(cut - PSC_YEAR_2000_US);
}

static uint64_t double_bits(double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof(bits));
    return bits;
}

/* ---- parameters ---- */

static void put(struct pgparams *p, const void *data, int len, bool binary)
{
    assert(p->n < PGLINK_PARAMS_MAX);
    p->param[p->n++] = (struct pglink_param){data, len, binary};
}

static void put_scalar(struct pgparams *p, uint64_t v, unsigned bytes)
{
    assert(p->n < PGLINK_PARAMS_MAX);
    uint8_t *at = p->scalar[p->n];
    store_be(at, v, bytes);
    put(p, at, (int)bytes, true);
}

void pgparam_null(struct pgparams *p)
{
    put(p, NULL, 0, false);
}

void pgparam_bool(struct pgparams *p, bool v)
{
    put_scalar(p, v ? 1 : 0, 1);
}

void pgparam_int32(struct pgparams *p, int32_t v)
{
    put_scalar(p, (uint32_t)v, 4);
}

void pgparam_int64(struct pgparams *p, int64_t v)
{
    put_scalar(p, (uint64_t)v, 8);
}

void pgparam_double(struct pgparams *p, double v)
{
    put_scalar(p, double_bits(v), 8);
}

void pgparam_time(struct pgparams *p, int64_t us)
{
    put_scalar(p, time_bits(us), 8);
}

void pgparam_time_or_null(struct pgparams *p, int64_t us)
{
    if (us == 0) {
        pgparam_null(p);
    } else {
        pgparam_time(p, us);
    }
}

void pgparam_text(struct pgparams *p, const char *text)
{
    put(p, text, 0, false);
}

void pgparam_bytes(struct pgparams *p, const void *data, size_t len)
{
    put(p, data, (int)len, true);
}

void pgparam_uuid(struct pgparams *p, const uint8_t uuid[16])
{
    put(p, uuid, 16, true);
}

void pgparam_array(struct pgparams *p, const struct psc_buf *b)
{
    put(p, b->data, (int)b->len, true);
}

/* ---- arrays ---- */

void pgarray_begin(struct psc_buf *b, enum pgarray_type type)
{
    psc_buf_reset(b);
    psc_buf_be32(b, 1); /* dimensions */
    psc_buf_be32(b, 0); /* whether there are NULLs */
    psc_buf_be32(b, (uint32_t)type);
    psc_buf_be32(b, 0); /* elements; counted in place */
    psc_buf_be32(b, 1); /* lower bound */
}

/* Room for one more element of @bytes, counted in the header. */
static uint8_t *add_element(struct psc_buf *b, size_t bytes)
{
    if (psc_buf_error(b) != PSC_OK || b->len < ARRAY_HEADER_BYTES ||
        psc_buf_reserve(b, bytes) != PSC_OK) {
        return NULL;
    }
    uint8_t *count = b->data + 12;
    store_be(count, load_be(count, 4) + 1, 4);
    uint8_t *at = b->data + b->len;
    b->len += bytes;
    return at;
}

void pgarray_null(struct psc_buf *b)
{
    uint8_t *at = add_element(b, 4);
    if (at != NULL) {
        store_be(at, UINT32_MAX, 4);
        store_be(b->data + 4, 1, 4);
    }
}

static void put_number(struct psc_buf *b, uint64_t v, unsigned bytes)
{
    uint8_t *at = add_element(b, 4 + (size_t)bytes);
    if (at != NULL) {
        store_be(at, bytes, 4);
        store_be(at + 4, v, bytes);
    }
}

void pgarray_int16(struct psc_buf *b, int16_t v)
{
    put_number(b, (uint16_t)v, 2);
}

void pgarray_int32(struct psc_buf *b, int32_t v)
{
    put_number(b, (uint32_t)v, 4);
}

void pgarray_int64(struct psc_buf *b, int64_t v)
{
    put_number(b, (uint64_t)v, 8);
}

void pgarray_time(struct psc_buf *b, int64_t us)
{
    put_number(b, time_bits(us), 8);
}

void pgarray_time_or_null(struct psc_buf *b, int64_t us)
{
    if (us == 0) {
        pgarray_null(b);
    } else {
        pgarray_time(b, us);
    }
}

void pgarray_bytes(struct psc_buf *b, const void *data, size_t len)
{
    uint8_t *at = add_element(b, 4 + len);
    if (at != NULL) {
        store_be(at, len, 4);
        if (len > 0) {
            memcpy(at + 4, data, len);
        }
    }
}

size_t pgarray_open(struct psc_buf *b)
{
    (void)add_element(b, 4);
    return b->len;
}

void pgarray_close(struct psc_buf *b, size_t opened)
{
    if (psc_buf_error(b) == PSC_OK) {
        store_be(b->data + opened - 4, b->len - opened, 4);
    }
}

void pgarray_end(struct psc_buf *b)
{
    if (b->len == ARRAY_HEADER_BYTES) { /* no element: no dimension */
        store_be(b->data, 0, 4);
        b->len = EMPTY_ARRAY_BYTES;
    }
}

/* ---- results ---- */

/* The big-endian number in a field of just @bytes; 0 for anything else. */
static uint64_t field(const PGresult *res, int row, int col, unsigned bytes)
{
    if (row >= PQntuples(res) || col >= PQnfields(res) ||
        PQgetlength(res, row, col) != (int)bytes) {
        return 0;
    }
    return load_be((const uint8_t *)PQgetvalue(res, row, col), bytes);
}

int64_t pgresult_int64(const PGresult *res, int row, int col)
{
    return (int64_t)field(res, row, col, 8);
}

int32_t pgresult_int32(const PGresult *res, int row, int col)
{
    return (int32_t)(uint32_t)field(res, row, col, 4);
}

double pgresult_double(const PGresult *res, int row, int col)
{
    uint64_t bits = field(res, row, col, 8);
    double v;
    memcpy(&v, &bits, sizeof(v));
    return v;
}

bool pgresult_bool(const PGresult *res, int row, int col)
{
    return field(res, row, col, 1) != 0;
}

const char *pgresult_text(const PGresult *res, int row, int col)
{
    if (row >= PQntuples(res) || col >= PQnfields(res)) {
        return "";
    }
    return PQgetvalue(res, row, col);
}

struct psc_bytes pgresult_bytes(const PGresult *res, int row, int col)
{
    if (row >= PQntuples(res) || col >= PQnfields(res)) {
        return (struct psc_bytes){(const uint8_t *)"", 0};
    }
    return (struct psc_bytes){(const uint8_t *)PQgetvalue(res, row, col),
                              (size_t)PQgetlength(res, row, col)};
}

const uint8_t *pgresult_uuid(const PGresult *res, int row, int col,
                             const uint8_t *none)
{
    struct psc_bytes uuid = pgresult_bytes(res, row, col);
    return uuid.len == UUID_BYTES ? uuid.data : none;
}

int64_t pgresult_time(const PGresult *res, int row, int col)
{
    if (row >= PQntuples(res) || col >= PQnfields(res) ||
        PQgetisnull(res, row, col)) {
        return 0;
    }
    int64_t us;
    if (__builtin_add_overflow(pgresult_int64(res, row, col), PSC_YEAR_2000_US,
                               &us)) {
        return 0;
    }
    return us;
}

void pgarray_reader_init(struct pgarray_reader *r, const PGresult *res, int row,
                         int col)
{
    *r = (struct pgarray_reader){.n = 0};
    if (row >= PQntuples(res) || col >= PQnfields(res) ||
        PQgetlength(res, row, col) < ARRAY_HEADER_BYTES) {
        return;
    }
    const uint8_t *data = (const uint8_t *)PQgetvalue(res, row, col);
    if (load_be(data, 4) == 1) {
        r->n = (uint32_t)load_be(data + 12, 4);
        r->in.data = data + ARRAY_HEADER_BYTES;
        r->in.len = (size_t)PQgetlength(res, row, col) - ARRAY_HEADER_BYTES;
    }
}

bool pgarray_next_bytes(struct pgarray_reader *r, struct psc_bytes *v)
{
    *v = (struct psc_bytes){NULL, 0};
    if (r->in.len < 4) {
        return false;
    }
    uint32_t len = (uint32_t)load_be(r->in.data, 4);
    r->in.data += 4;
    r->in.len -= 4;
    if (len == UINT32_MAX) {
        return false;
    }
    if (len > r->in.len) {
        r->in.len = 0;
        return false;
    }
    *v = (struct psc_bytes){r->in.data, len};
    r->in.data += len;
    r->in.len -= len;
    return true;
}

static bool next(struct pgarray_reader *r, unsigned bytes, uint64_t *v)
{
    struct psc_bytes element;
    *v = 0;
    if (!pgarray_next_bytes(r, &element)) {
        return false;
    }
    if (element.len != bytes) {
        r->in.len = 0;
        return false;
    }
    *v = load_be(element.data, bytes);
    return true;
}

bool pgarray_next_int32(struct pgarray_reader *r, int32_t *v)
{
    uint64_t bits;
    bool some = next(r, 4, &bits);
    *v = (int32_t)(uint32_t)bits;
    return some;
}

bool pgarray_next_int64(struct pgarray_reader *r, int64_t *v)
{
    uint64_t bits;
    bool some = next(r, 8, &bits);
    *v = (int64_t)bits;
    return some;
}

bool pgarray_next_double(struct pgarray_reader *r, double *v)
{
    uint64_t bits;
    bool some = next(r, 8, &bits);
    memcpy(v, &bits, sizeof(*v));
    return some;
}
