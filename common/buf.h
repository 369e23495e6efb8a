/* A growable byte buffer that is born with a maximum.
 *
 * Failure is sticky: build a message unchecked, then test once with
 * psc_buf_error(). A failed buffer ignores further appends. */
#ifndef PSC_COMMON_BUF_H
#define PSC_COMMON_BUF_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

/* Bytes that somebody else owns. */
struct psc_bytes {
    const uint8_t *data; /* may be NULL when len is 0 */
    size_t len;
};

struct psc_buf {
    uint8_t *data; /* owned; NULL until the first append */
    size_t len;    /* bytes in use */
    size_t cap;    /* bytes allocated */
    size_t max;    /* never grows beyond this many bytes */
    int error;     /* 0, PSC_NOMEM or PSC_LIMIT; sticky until reset */
};

/* An empty buffer that may grow to @max_bytes. Allocates nothing. */
void psc_buf_init(struct psc_buf *b, size_t max_bytes);

/* Free what @b holds; @b may be initialised again. */
void psc_buf_fini(struct psc_buf *b);

/* Forget contents and error, keep the memory. */
void psc_buf_reset(struct psc_buf *b);

/* Make room for @more further bytes. Returns 0, PSC_NOMEM or PSC_LIMIT. */
int psc_buf_reserve(struct psc_buf *b, size_t more);

void psc_buf_append(struct psc_buf *b, const void *data, size_t len);
void psc_buf_u8(struct psc_buf *b, uint8_t v);
void psc_buf_be32(struct psc_buf *b, uint32_t v);
void psc_buf_printf(struct psc_buf *b, const char *fmt, ...) PSC_PRINTF(2, 3);

/* LEB128 base-128 varint (as in protobuf), 1 to 10 bytes. */
void psc_buf_varint(struct psc_buf *b, uint64_t v);

/* Zigzag-mapped signed varint (as protobuf's sint64). */
void psc_buf_svarint(struct psc_buf *b, int64_t v);

/* Length-prefixed bytes: varint length, then the bytes. */
void psc_buf_string(struct psc_buf *b, const void *data, size_t len);

/* Drop the first @n bytes (@n <= len) and move the rest to the front. */
void psc_buf_consume(struct psc_buf *b, size_t n);

/* Overwrite the contents with zeros, then reset (for secrets). */
void psc_buf_wipe(struct psc_buf *b);

/* Returns 0 or the sticky error. */
PSC_MUST_CHECK int psc_buf_error(const struct psc_buf *b);

static inline struct psc_bytes psc_buf_bytes(const struct psc_buf *b)
{
    struct psc_bytes bytes = {b->data, b->len};
    return bytes;
}

/* A reader over bytes that never runs past their end: once something does
 * not fit, `failed` stays set and every read returns 0 or empty. */
struct psc_reader {
    const uint8_t *at;
    const uint8_t *end;
    int failed;
};

void psc_reader_init(struct psc_reader *r, struct psc_bytes bytes);
uint8_t psc_read_u8(struct psc_reader *r);
uint64_t psc_read_varint(struct psc_reader *r);
int64_t psc_read_svarint(struct psc_reader *r);
struct psc_bytes psc_read_string(struct psc_reader *r);

static inline size_t psc_reader_left(const struct psc_reader *r)
{
    return (size_t)(r->end - r->at);
}

#endif
