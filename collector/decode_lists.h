/* The record lists of a wire batch as the JSON that the store takes. */
#ifndef PSC_COLLECTOR_DECODE_LISTS_H
#define PSC_COLLECTOR_DECODE_LISTS_H

#include "collector/decode.h"

/* Fill drivers, events, sources and aliases of @s from @in: each a JSON
 * array, or empty when @in has no such list. @shift_us is to be added to the
 * wall clock of the batch, @facts say what time it is. A list that is bad or
 * too long is cut there and counted, and so is what is beyond @budget (NULL:
 * without bound). */
void decode_lists(struct decode_shared *s, const struct wire_batch *in,
                  int64_t shift_us, const struct decode_facts *facts,
                  struct budget *budget);

/* The labels of a hello as a JSON object appended to @out. */
void decode_labels(struct psc_bytes labels, struct psc_buf *out);

#endif
