/* What /proc/slabinfo knows of a cache beyond the agent's tags: the cost of
 * one object's place, and places that are free. Linux only. */
#ifndef PSC_CLI_SLOTS_H
#define PSC_CLI_SLOTS_H

#include "cli/reading.h"

/* Fill slot_bytes and free_slots of the slab tags in @r. Without
 * /proc/slabinfo they stay 0. Returns 0 or PSC_NOMEM. */
PSC_MUST_CHECK int slots_fill(struct reading *r);

#endif
