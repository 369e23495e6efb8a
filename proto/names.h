/* Reads the packed column `names` (docs/protocol.md, Columns): the keys by
 * which a table's dictionary grows. What a key shares with the one before it
 * in the dictionary may lie in an earlier part or batch, so that the start of
 * the last one is kept from one to the next. Pure. */
#ifndef PSC_PROTO_NAMES_H
#define PSC_PROTO_NAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "proto/table.h"

/* A name may repeat at most so much of the name before it: bounds what a few
 * bytes on the wire can become in memory. */
#define NAME_SHARED_MAX_BYTES 64u

/* The start of a dictionary's last key; all zeros: there is none. */
struct name_chain {
    uint8_t len;
    uint8_t start[NAME_SHARED_MAX_BYTES];
};

struct name_reader {
    struct psc_reader in;
    struct name_chain *chain; /* borrowed */
    uint8_t flags;            /* of the name that was read */
    uint8_t key[TABLE_KEY_MAX_BYTES];
    size_t len;
};

/* How many names there are, for room; as far as the bytes make sense. */
uint32_t name_count(struct psc_bytes names);

void name_reader_init(struct name_reader *r, struct psc_bytes names,
                      struct name_chain *chain);
/* Read the next name into @r, and take note of it in the chain. Returns false
 * at the end, or when the bytes are no name: name_reader_ok() tells. */
bool name_reader_next(struct name_reader *r);

static inline bool name_reader_ok(const struct name_reader *r)
{
    return !r->in.failed;
}

static inline struct psc_bytes name_reader_key(const struct name_reader *r)
{
    struct psc_bytes key = {r->key, r->len};
    return key;
}

#endif
