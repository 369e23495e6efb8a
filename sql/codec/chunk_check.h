/* Whether a chunk is whole: every checksum, every block and entry decoded to
 * its end, and what the row beside it says of it. Pure. */
#ifndef PSC_SQL_CODEC_CHUNK_CHECK_H
#define PSC_SQL_CODEC_CHUNK_CHECK_H

#include "sql/codec/chunk.h"

/* As the table's columns have it. */
struct chunk_facts {
    uint32_t columns; /* 4: tags, 1: counters */
    uint32_t snapshots;
    int64_t n_from, n_to;
    int64_t at_from_us, at_to_us; /* least and greatest time */
};

/* Returns 0, PSC_FORMAT or PSC_UNSUPPORTED; @err says what is wrong where. */
PSC_MUST_CHECK int chunk_check(const struct chunk_facts *facts,
                               struct psc_bytes head, struct psc_bytes levels,
                               struct psc_bytes data,
                               const struct chunk_digest *digest,
                               struct psc_error *err);

#endif
