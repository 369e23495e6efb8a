/* Changed entries into packed columns, for the agent's table and for a grid
 * that is stated anew. */
#include "proto/pack.h"

#include "proto/packing.h"

void pack_init(struct pack *p, uint32_t columns, uint32_t first,
               struct psc_buf *gaps, struct psc_buf *values)
{
    *p = (struct pack){
        .gaps = gaps,
        .values = values,
        .columns = columns,
        .listed = first,
        .every = HEAD_COLUMNS,
    };
}

unsigned pack_differing(uint32_t columns, uint8_t flags, const int64_t *now,
                        const int64_t *then)
{
    unsigned mask = 0;

    for (unsigned c = 0; c < columns; c++) {
        mask |= (unsigned)(now[c] != then[c]) << c;
    }
    return mask & entry_sends(columns, flags);
}

void pack_scan(struct pack *p, unsigned mask)
{
    p->any |= mask;
    p->every &= mask;
    p->some = true;
}

void pack_begin(struct pack *p)
{
    bool uniform = p->any == p->every;

    p->head = p->any | (uniform ? HEAD_UNIFORM : 0);
    p->mask_bits = uniform ? 0 : (unsigned)__builtin_popcount(p->any);
    if (p->some) {
        psc_buf_u8(p->gaps, (uint8_t)p->head);
    }
}

static uint64_t zigzag(uint64_t v)
{
    return v << 1 ^ (0 - (v >> 63));
}

/* An integer that counts bytes: whole pages as such, others at the price of
 * one bit. */
static void put_amount(struct psc_buf *out, uint64_t diff)
{
    if (diff != 0 && diff % PAGE_BYTES == 0) {
        uint64_t pages = (uint64_t)((int64_t)diff / PAGE_BYTES);
        psc_buf_varint(out, zigzag(pages) << 1 | 1);
    } else if (zigzag(diff) >> 63 == 0) {
        psc_buf_varint(out, zigzag(diff) << 1);
    } else {
        psc_buf_varint(out, AMOUNT_ESCAPE);
        psc_buf_varint(out, zigzag(diff));
    }
}

/* The bits of a real that changed: neighbours share sign and exponent, round
 * numbers end in zeros; what is between them goes as it is. */
static void put_real(struct psc_buf *out, uint64_t bits)
{
    unsigned skip = 0;
    while (skip < 7 && (bits & 0xff) == 0) {
        bits >>= 8;
        skip++;
    }
    uint8_t bytes[8];
    unsigned n = 0;
    do {
        bytes[n++] = (uint8_t)bits;
        bits >>= 8;
    } while (bits != 0);
    psc_buf_u8(out, (uint8_t)(skip << 3 | (n - 1)));
    psc_buf_append(out, bytes, n);
}

static void put_values(struct pack *p, uint8_t flags, unsigned mask,
                       const int64_t *now, const int64_t *then)
{
    for (unsigned c = 0; c < p->columns; c++) {
        if ((mask >> c & 1) == 0) {
            continue;
        }
        uint64_t diff = (uint64_t)now[c] - (uint64_t)then[c];
        if ((flags & ENTRY_REAL) != 0) {
            put_real(p->values, (uint64_t)now[c] ^ (uint64_t)then[c]);
        } else if (column_is_amount(p->columns, c)) {
            put_amount(p->values, diff);
        } else {
            psc_buf_varint(p->values, zigzag(diff));
        }
    }
}

/* The bits of @mask at the places of the bits of @of, side by side. */
static unsigned squeeze(unsigned mask, unsigned of)
{
    unsigned out = 0, n = 0;

    for (unsigned c = 0; c < TABLE_COLUMNS_MAX; c++) {
        if ((of >> c & 1) != 0) {
            out |= (mask >> c & 1) << n++;
        }
    }
    return out;
}

void pack_entry(struct pack *p, uint32_t index, uint8_t flags, unsigned mask,
                const int64_t *now, const int64_t *then)
{
    uint64_t gap = index - p->listed;

    if (p->mask_bits > 0) {
        gap = gap << p->mask_bits | squeeze(mask, p->head & HEAD_COLUMNS);
    }
    psc_buf_varint(p->gaps, gap);
    p->listed = index + 1;
    put_values(p, flags, mask, now, then);
}
