/* What a peer sends, made fit for the database: valid UTF-8 without control
 * bytes, canonical tags, JSON that PostgreSQL takes, sums that cannot
 * overflow. Pure. Nothing of a batch reaches SQL but through here. */
#ifndef PSC_COLLECTOR_SANITISE_H
#define PSC_COLLECTOR_SANITISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "proto/stored.h"
#include "proto/table.h"

/* Append the canonical form of a tag's text: printable ASCII, where a byte
 * beyond it, or a backslash that does not begin \xHH, is written \xHH.
 * Returns whether the text was canonical already. */
bool sanitise_tag_text(struct psc_bytes text, struct psc_buf *out);

/* Append valid UTF-8: a byte that belongs to no character, and a control
 * character, become \xHH. Returns whether nothing had to be changed. */
bool sanitise_text(struct psc_bytes text, struct psc_buf *out);

/* A key of the tag table (pool, text) or the counter table (name, NUL,
 * instance) as the registry has it. Returns false for a key that cannot be
 * one. */
bool sanitise_tag_key(struct psc_bytes key, struct psc_buf *out);
bool sanitise_counter_key(struct psc_bytes key, struct psc_buf *out);

/* Append @text as a JSON string, at most @max_bytes of it. */
void sanitise_json_string(struct psc_buf *out, struct psc_bytes text,
                          size_t max_bytes);

/* Append a JSON object: @text if it is one that PostgreSQL takes, otherwise
 * {"text": …}; empty text gives {}. */
void sanitise_json_object(struct psc_buf *out, struct psc_bytes text);

/* The values of an entry, bounded: a tag's so that the fleet's sums fit a
 * bigint, from 0 to 256 TiB of bytes and as many objects outstanding, and
 * counts to 2^60; integers of counters to STORED_VALUE_MAX. Doubles stay as
 * they are. */
#define SANITISE_BYTES_MAX ((int64_t)1 << 48)
#define SANITISE_COUNT_MAX ((int64_t)1 << 60)
void sanitise_tag_row(uint8_t flags, int64_t *row);
void sanitise_counter_row(uint8_t flags, int64_t *row);

/* Whether bounding would leave a row of @columns as it is. */
static inline bool sanitise_row_fits(uint32_t columns, uint8_t flags,
                                     const int64_t *row)
{
    if ((flags & ENTRY_REAL) != 0) {
        return true;
    }
    if (columns == 1) {
        return row[0] >= -STORED_VALUE_MAX && row[0] <= STORED_VALUE_MAX;
    }
    /* Negative ones are large ones without a sign. */
    return (uint64_t)row[COL_ALLOCS] <= SANITISE_COUNT_MAX &&
           (uint64_t)row[COL_FREES] <= SANITISE_COUNT_MAX &&
           (uint64_t)row[COL_OUTSTANDING] <= SANITISE_BYTES_MAX &&
           (uint64_t)row[COL_BYTES] <= SANITISE_BYTES_MAX;
}

/* A time that may be stored as one: 2000 until the day after @now_us. */
bool sanitise_is_time(int64_t at_us, int64_t now_us);

#endif
