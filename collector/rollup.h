/* Summaries on their way: from the chunks of a day to its hours, from the days
 * of a month to these. The worker's thread calls it. */
#ifndef PSC_COLLECTOR_ROLLUP_H
#define PSC_COLLECTOR_ROLLUP_H

#include <libpq-fe.h>
#include <stdatomic.h>

#include "collector/summary.h"

struct metrics;

struct rollup {
    struct metrics *metrics;       /* borrowed */
    const atomic_bool *stop;       /* borrowed: ends a pass early */
    struct summary tags, counters; /* reused */
    struct psc_buf snapshots;      /* scratch */
};

void rollup_init(struct rollup *r, struct metrics *metrics,
                 const atomic_bool *stop);
void rollup_fini(struct rollup *r);

/* Make what is due, one after the other, until monotonic @until_us. *@more: it
 * was not all. What is damaged is logged and left for a day. Returns 0, or
 * PSC_CONNECTION, PSC_DATABASE or PSC_NOMEM, told in @err. */
PSC_MUST_CHECK int rollup_pass(struct rollup *r, PGconn *conn, int64_t until_us,
                               bool *more, struct psc_error *err);

#endif
