/* The worker: a thread with a blocking connection of its own that keeps house
 * (partitions, retention, slots), settles samples into chunks, and watches for
 * leaks. Ingest never waits
 * for it, and it shares nothing with the loop but atomics. */
#ifndef PSC_COLLECTOR_WORKER_H
#define PSC_COLLECTOR_WORKER_H

#include "collector/metrics.h"
#include "common/error.h"

struct worker;

/* Start the thread. @conninfo is copied, @metrics borrowed. */
PSC_MUST_CHECK int worker_start(struct worker **worker, const char *conninfo,
                                struct metrics *metrics, struct psc_error *err);

/* Tell it to stop: ends its sleep and cancels its query. */
void worker_interrupt(struct worker *worker);

/* Wait for its end, and free it. NULL is fine. */
void worker_stop(struct worker *worker);

#endif
