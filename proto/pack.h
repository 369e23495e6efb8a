/* Writes the packed columns `gaps` and `values`: which entries changed, and by
 * what. Two passes over the entries: pack_scan() says what each of them is to
 * send, pack_entry() writes it. Pure. */
#ifndef PSC_PROTO_PACK_H
#define PSC_PROTO_PACK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"

struct pack {
    struct psc_buf *gaps, *values; /* borrowed */
    uint32_t columns;              /* of the table, 1 or 4 */
    uint32_t listed;               /* the next index that has gap 0 */
    unsigned any, every;           /* columns that the entries send */
    unsigned head;                 /* of the gaps column */
    unsigned mask_bits;            /* per listed entry */
    bool some;                     /* anything is to be listed */
};

/* @first: the index that has gap 0. Appends to both buffers; test them with
 * psc_buf_error(). */
void pack_init(struct pack *p, uint32_t columns, uint32_t first,
               struct psc_buf *gaps, struct psc_buf *values);

/* Which columns of @now differ from @then, of those that an entry with @flags
 * sends. */
unsigned pack_differing(uint32_t columns, uint8_t flags, const int64_t *now,
                        const int64_t *then);

/* An entry that is to be listed sends columns @mask, perhaps none. */
void pack_scan(struct pack *p, unsigned mask);

/* All are scanned: begin to write. */
void pack_begin(struct pack *p);

/* The next entry that is listed. */
void pack_entry(struct pack *p, uint32_t index, uint8_t flags, unsigned mask,
                const int64_t *now, const int64_t *then);

#endif
