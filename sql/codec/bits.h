/* The bit streams of a chunk: whole numbers, codes and parameters, highest bit
 * first. README.md gives them bit by bit.
 *
 * A writer's caller reserves room before a run of puts, so that a put is a few
 * instructions. A reader never runs past its end: what lies beyond reads as
 * zeros, and bits_bad() tells afterwards. */
#ifndef PSC_SQL_CODEC_BITS_H
#define PSC_SQL_CODEC_BITS_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/buf.h"

/* For what is done with every number: only in its caller's registers is a
 * stream fast. */
#define BITS_INLINE static inline __attribute__((always_inline))

enum {
    BITS_AT_ONCE = 56,     /* the most that one put or peek handles */
    CODE_ZEROS_MAX = 32,   /* a code begins with no more zeros */
    CODE_MAX_BITS = 96,    /* the longest code: 32 zeros and 64 bits */
    PARAMS_MAX_BITS = 15,  /* the longest parameters */
    BITS_SLACK_BYTES = 16, /* more than a put writes beyond its end */
};

/* How a list of numbers is coded. */
enum params_mode {
    PARAMS_ZERO = 0,     /* all are 0, nothing is stored */
    PARAMS_DEFAULT = 1,  /* as the block says */
    PARAMS_UNSIGNED = 2, /* codes */
    PARAMS_SIGNED = 3,   /* codes, a sign after each that is not 0 */
};
struct params {
    uint8_t mode;  /* enum params_mode */
    uint8_t k;     /* of the codes, below 64 */
    uint8_t shift; /* the numbers are multiples of 2 to this, below 64 */
};

/* Numbers come as they like, so no branch depends on a sign; but where the
 * next one begins should be guessed, not waited for, so branches do depend on
 * lengths. */

/* Bits in @v, 0 in 0. */
BITS_INLINE unsigned bits_length(uint64_t v)
{
    return 64 - (unsigned)__builtin_clzll(v | 1) - (v == 0);
}

/* The magnitude of @v, if it is @negative. */
BITS_INLINE uint64_t bits_magnitude(uint64_t v, bool negative)
{
    return (v ^ (0 - (uint64_t)negative)) + negative;
}

/* --- writing --- */

struct bits_out {
    struct psc_buf *buf; /* borrowed; its len is right after bits_align() */
    uint8_t *at;         /* in it, where the next whole byte goes */
    uint64_t acc;        /* bits not yet in a whole byte, at the top */
    unsigned used;       /* how many those are, below 8 */
};

/* Start at the end of @buf, with room for @bits bits. Sticky in the buffer. */
PSC_MUST_CHECK static inline int bits_out_init(struct bits_out *o,
                                               struct psc_buf *buf, size_t bits)
{
    int rc = psc_buf_reserve(buf, bits / 8 + BITS_SLACK_BYTES);

    *o = (struct bits_out){.buf = buf};
    if (rc == PSC_OK) {
        o->at = buf->data + buf->len;
    }
    return rc;
}

/* Make room for @bits further bits. Sticky in the buffer. */
PSC_MUST_CHECK static inline int bits_reserve(struct bits_out *o, size_t bits)
{
    o->buf->len = (size_t)(o->at - o->buf->data);
    int rc = psc_buf_reserve(o->buf, bits / 8 + BITS_SLACK_BYTES);
    if (rc == PSC_OK) {
        o->at = o->buf->data + o->buf->len;
    }
    return rc;
}

/* Put the low @n (at most BITS_AT_ONCE) bits of @v, which has no others. */
BITS_INLINE void bits_put(struct bits_out *o, uint64_t v, unsigned n)
{
    unsigned used = o->used + n; /* below 64 */
    uint64_t acc = o->acc | v << (63 - used) << 1;
    uint64_t big = htobe64(acc);

    memcpy(o->at, &big, sizeof(big));
    o->at += used / 8;
    o->acc = acc << (used & ~7u);
    o->used = used & 7u;
}

/* The same for any @n up to 65. */
static inline void bits_put_wide(struct bits_out *o, uint64_t v, unsigned n)
{
    if (n > 32) {
        bits_put(o, v >> 32, n - 32);
        n = 32;
        v &= UINT32_MAX;
    }
    bits_put(o, v, n);
}

static inline void bits_put_zeros(struct bits_out *o, size_t n)
{
    for (; n > BITS_AT_ONCE; n -= BITS_AT_ONCE) {
        bits_put(o, 0, BITS_AT_ONCE);
    }
    bits_put(o, 0, (unsigned)n);
}

/* Put @v as a code: where it has up to @k bits, a one and k bits, else as many
 * zeros as it has more, and itself. Then the @n (0 or 1) bits of @sign. */
BITS_INLINE void bits_put_code(struct bits_out *o, uint64_t v, unsigned k,
                               unsigned sign, unsigned n)
{
    unsigned length = bits_length(v);
    unsigned zeros = length > k ? length - k : 0;
    v |= (uint64_t)(zeros == 0) << k;
    length = k + zeros + (zeros == 0);
    if (zeros + length + n <= BITS_AT_ONCE) {
        bits_put(o, v << n | sign, zeros + length + n);
    } else {
        bits_put(o, 0, zeros);
        bits_put_wide(o, v, length);
        bits_put(o, sign, n);
    }
}

/* Put the 64-bit number @v by @p, whose mode is not PARAMS_DEFAULT. */
BITS_INLINE void bits_put_number(struct bits_out *o, uint64_t v,
                                 struct params p)
{
    if (p.mode == PARAMS_ZERO) {
        return;
    }
    bool has_sign = (p.mode == PARAMS_SIGNED) & (v != 0);
    bool negative = has_sign & (v >> 63 != 0);
    bits_put_code(o, bits_magnitude(v, negative) >> p.shift, p.k, negative,
                  has_sign);
}

static inline void bits_put_params(struct bits_out *o, struct params p)
{
    bits_put(o, p.mode, 2);
    if (p.mode >= PARAMS_UNSIGNED) {
        bits_put(o, p.k, 6);
        bits_put(o, p.shift > 0, 1);
        bits_put(o, p.shift, p.shift > 0 ? 6 : 0);
    }
}

/* Fill the last byte with zeros, and set the buffer's length. */
static inline void bits_align(struct bits_out *o)
{
    bits_put(o, 0, (8 - o->used) % 8);
    o->buf->len = (size_t)(o->at - o->buf->data);
}

/* --- reading --- */

struct bits_in {
    const uint8_t *data; /* borrowed */
    size_t len;          /* bytes */
    uint64_t at;         /* the next bit; beyond `end` something was wrong */
    uint64_t end;        /* bits that belong to this reader */
};

static inline void bits_in_init(struct bits_in *b, struct psc_bytes bytes)
{
    *b = (struct bits_in){
        .data = bytes.data, .len = bytes.len, .end = (uint64_t)bytes.len * 8};
}

static inline bool bits_bad(const struct bits_in *b)
{
    return b->at > b->end;
}

static inline void bits_fail(struct bits_in *b)
{
    b->at = b->end + 1;
}

/* The next BITS_AT_ONCE bits or more, at the top. */
BITS_INLINE uint64_t bits_peek(const struct bits_in *b)
{
    size_t byte = (size_t)(b->at / 8);
    uint64_t v = 0;

    if (byte + 8 <= b->len) {
        memcpy(&v, b->data + byte, sizeof(v));
        v = be64toh(v);
    } else {
        for (unsigned i = 0; i < 8 && byte + i < b->len; i++) {
            v |= (uint64_t)b->data[byte + i] << (56 - 8 * i);
        }
    }
    return v << (b->at % 8);
}

/* Take @n bits, at most BITS_AT_ONCE. */
static inline uint64_t bits_take(struct bits_in *b, unsigned n)
{
    if (n == 0) {
        return 0;
    }
    uint64_t v = bits_peek(b) >> (64 - n);
    b->at += n;
    return v;
}

/* The same for any @n up to 64. */
static inline uint64_t bits_take_wide(struct bits_in *b, unsigned n)
{
    uint64_t high = n > 32 ? bits_take(b, n - 32) : 0;

    return high << 32 | bits_take(b, n > 32 ? 32 : n);
}

/* Take a code, and if @has_sign and the number is not 0 a sign after it. */
BITS_INLINE uint64_t bits_take_signed(struct bits_in *b, unsigned k,
                                      bool has_sign)
{
    uint64_t v = bits_peek(b);
    unsigned zeros = (unsigned)__builtin_clzll(v | 1);
    unsigned length = k + zeros + (zeros == 0);
    bool negative;
    if (zeros + length < BITS_AT_ONCE) {
        b->at += zeros + length;
        negative = v << (zeros + length) >> 63 != 0;
        v = v << zeros >> (64 - length);
    } else if (zeros > CODE_ZEROS_MAX || k + zeros > 64) {
        bits_fail(b);
        return 0;
    } else {
        b->at += zeros;
        v = bits_take_wide(b, length);
        negative = bits_peek(b) >> 63 != 0;
    }
    v -= (uint64_t)(zeros == 0) << k;
    if (!has_sign || v == 0) {
        return v;
    }
    b->at++;
    return bits_magnitude(v, negative);
}

static inline uint64_t bits_take_code(struct bits_in *b, unsigned k)
{
    return bits_take_signed(b, k, false);
}

/* A number by @p, modulo 2^64. */
BITS_INLINE uint64_t bits_take_number(struct bits_in *b, struct params p)
{
    if (p.mode == PARAMS_ZERO) {
        return 0;
    }
    return bits_take_signed(b, p.k, p.mode == PARAMS_SIGNED) << p.shift;
}

static inline struct params bits_take_params(struct bits_in *b)
{
    struct params p = {.mode = (uint8_t)bits_take(b, 2)};

    if (p.mode >= PARAMS_UNSIGNED) {
        p.k = (uint8_t)bits_take(b, 6);
        if (bits_take(b, 1) != 0) {
            p.shift = (uint8_t)bits_take(b, 6);
        }
    }
    return p;
}

#endif
