/* Growable byte buffers with sticky failure, and a bounded reader. */
#include "common/buf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CAPACITY_BYTES = 64 };

void psc_buf_init(struct psc_buf *b, size_t max_bytes)
{
    *b = (struct psc_buf){.max = max_bytes};
}

void psc_buf_fini(struct psc_buf *b)
{
    free(b->data);
    psc_buf_init(b, b->max);
}

void psc_buf_reset(struct psc_buf *b)
{
    b->len = 0;
    b->error = PSC_OK;
}

int psc_buf_error(const struct psc_buf *b)
{
    return b->error;
}

int psc_buf_reserve(struct psc_buf *b, size_t more)
{
    if (b->error != PSC_OK) {
        return b->error;
    }
    if (more <= b->cap - b->len) {
        return PSC_OK;
    }
    if (b->len > b->max || more > b->max - b->len) {
        b->error = PSC_LIMIT;
        return b->error;
    }
    size_t need = b->len + more;
    size_t cap = b->cap > 0 ? b->cap : FIRST_CAPACITY_BYTES;
    while (cap < need) {
        cap *= 2;
    }
    if (cap > b->max) {
        cap = b->max;
    }
    uint8_t *data = realloc(b->data, cap);
    if (data == NULL) {
        b->error = PSC_NOMEM;
        return b->error;
    }
    b->data = data;
    b->cap = cap;
    return PSC_OK;
}

void psc_buf_append(struct psc_buf *b, const void *data, size_t len)
{
    if (len == 0 || psc_buf_reserve(b, len) != PSC_OK) {
        return;
    }
    memcpy(b->data + b->len, data, len);
    b->len += len;
}

void psc_buf_u8(struct psc_buf *b, uint8_t v)
{
    psc_buf_append(b, &v, 1);
}

void psc_buf_be32(struct psc_buf *b, uint32_t v)
{
    uint8_t bytes[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16),
                        (uint8_t)(v >> 8), (uint8_t)v};
    psc_buf_append(b, bytes, sizeof(bytes));
}

void psc_buf_printf(struct psc_buf *b, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    /* One more for the NUL that vsnprintf insists on. */
    if (n < 0 || psc_buf_reserve(b, (size_t)n + 1) != PSC_OK) {
        return;
    }
    va_start(args, fmt);
    (void)vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, args);
    va_end(args);
    b->len += (size_t)n;
}

void psc_buf_varint(struct psc_buf *b, uint64_t v)
{
    uint8_t bytes[10];
    size_t n = 0;
    while (v >= 0x80) {
        bytes[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    bytes[n++] = (uint8_t)v;
    psc_buf_append(b, bytes, n);
}

void psc_buf_svarint(struct psc_buf *b, int64_t v)
{
    uint64_t u = (uint64_t)v;
    psc_buf_varint(b, (u << 1) ^ (v < 0 ? UINT64_MAX : 0));
}

void psc_buf_string(struct psc_buf *b, const void *data, size_t len)
{
    psc_buf_varint(b, len);
    psc_buf_append(b, data, len);
}

void psc_buf_consume(struct psc_buf *b, size_t n)
{
    assert(n <= b->len);
    if (n > 0) {
        memmove(b->data, b->data + n, b->len - n);
        b->len -= n;
    }
}

void psc_buf_wipe(struct psc_buf *b)
{
    volatile uint8_t *p = b->data;
    for (size_t i = 0; i < b->cap; i++) {
        p[i] = 0;
    }
    psc_buf_reset(b);
}

void psc_reader_init(struct psc_reader *r, struct psc_bytes bytes)
{
    r->at = bytes.data;
    r->end = bytes.len > 0 ? bytes.data + bytes.len : bytes.data;
    r->failed = 0;
}

static void fail(struct psc_reader *r)
{
    r->failed = 1;
    r->at = r->end;
}

uint8_t psc_read_u8(struct psc_reader *r)
{
    if (r->at == r->end) {
        fail(r);
        return 0;
    }
    return *r->at++;
}

uint64_t psc_read_varint(struct psc_reader *r)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte = psc_read_u8(r);
        if (r->failed || (shift == 63 && byte > 1)) {
            break;
        }
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            return v;
        }
    }
    fail(r);
    return 0;
}

int64_t psc_read_svarint(struct psc_reader *r)
{
    uint64_t u = psc_read_varint(r);
    return (int64_t)((u >> 1) ^ (0 - (u & 1)));
}

struct psc_bytes psc_read_string(struct psc_reader *r)
{
    struct psc_bytes none = {NULL, 0};
    uint64_t len = psc_read_varint(r);
    if (r->failed || len > psc_reader_left(r)) {
        fail(r);
        return none;
    }
    struct psc_bytes bytes = {r->at, (size_t)len};
    r->at += len;
    return bytes;
}
