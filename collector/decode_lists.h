/* The record lists of a wire batch as the JSON that the store takes. */
#ifndef PSC_COLLECTOR_DECODE_LISTS_H
#define PSC_COLLECTOR_DECODE_LISTS_H

#include "collector/decode.h"

/* Fill drivers, events, sources and aliases of @s from @in: each a JSON
 * array, or empty when @in has no such list. @shift_us is to be added to the
 * wall clock of the batch, @now_us is the collector's. A list that is bad or
 * too long is cut there and counted. */
void decode_lists(struct decode_shared *s, const struct wire_batch *in,
                  int64_t shift_us, int64_t now_us);

/* The labels of a hello as a JSON object appended to @out. */
void decode_labels(struct psc_bytes labels, struct psc_buf *out);

#endif
