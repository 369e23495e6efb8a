/* What a peer sends, made fit for the database: valid UTF-8 without control
 * bytes, canonical tags, JSON that PostgreSQL takes, sums that cannot
 * overflow. Pure. Nothing of a batch reaches SQL but through here. */
#ifndef PSC_COLLECTOR_SANITISE_H
#define PSC_COLLECTOR_SANITISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

/* Append the canonical form of a tag's text: printable ASCII, where a byte
 * beyond it, or a backslash that does not begin \xHH, is written \xHH.
 * Returns whether the text was canonical already. */
bool sanitise_tag_text(struct psc_bytes text, struct psc_buf *out);

/* Append valid UTF-8: a byte that belongs to no character, and a control
 * character, become \xHH. Returns whether nothing had to be changed. */
bool sanitise_text(struct psc_bytes text, struct psc_buf *out);

/* A key of the tag table (pool, text) or the counter table (name, NUL,
 * instance) as the registry has it. Returns false for a key that cannot be
 * one; *@canonical says whether it is the key as it came. */
bool sanitise_tag_key(struct psc_bytes key, struct psc_buf *out,
                      bool *canonical);
bool sanitise_counter_key(struct psc_bytes key, struct psc_buf *out,
                          bool *canonical);

/* Append @text as a JSON string, at most @max_bytes of it. */
void sanitise_json_string(struct psc_buf *out, struct psc_bytes text,
                          size_t max_bytes);

/* Append a JSON object: @text if it is one that PostgreSQL takes, otherwise
 * {"text": …}; empty text gives {}. */
void sanitise_json_object(struct psc_buf *out, struct psc_bytes text);

/* Values of a tag as table.h has them, bounded so that the fleet's sums fit
 * a bigint: from 0 to 256 TiB of bytes, and counts to 2^60. */
int64_t sanitise_tag_value(unsigned column, int64_t value);

/* A time that may be stored as one: 2000 until the day after @now_us. */
bool sanitise_is_time(int64_t at_us, int64_t now_us);

#endif
