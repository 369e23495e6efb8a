/* Forgets names of the registries that nobody uses any more: they would fill
 * it up in a collector that runs for years.
 *
 * In use is what a session's dictionary has, and what batches hold that wait
 * for the store. Once a day names go that are not, and whose id was not asked
 * for in REGISTRY_FRESH_DAYS; when a registry is nearly full, all that are
 * not, at most once an hour. Those that come back are interned as new ones
 * are. */
#ifndef PSC_COLLECTOR_SWEEP_H
#define PSC_COLLECTOR_SWEEP_H

#include "collector/session.h"

struct sweep {
    uint16_t day;     /* of the last daily one */
    int64_t tight_us; /* monotonic: of the last one for want of room */
};

/* Every few seconds. */
void sweep_tick(struct sweep *sweep, struct sessions *all);

/* Now; for tests and for the tick. Returns how many names went. */
uint32_t sweep_names(struct sessions *all, bool counters, unsigned keep_days);

#endif
