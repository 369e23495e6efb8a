/* Settling: what hosts sent over a span of time becomes chunks
 * (sql/README.md, settle_…). Runs in the worker's thread over its blocking
 * connection.
 *
 * A host's table is settled by one statement that says from where to where, so
 * nothing is lost or doubled by a kill at any moment, nor by two processes
 * that settle at once: the slower one's work is thrown away. */
#ifndef PSC_COLLECTOR_SETTLE_H
#define PSC_COLLECTOR_SETTLE_H

#include <libpq-fe.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "collector/metrics.h"
#include "common/error.h"

struct settle;

/* @stop ends a pass early; @metrics are borrowed. NULL when out of memory. */
struct settle *settle_new(struct metrics *metrics, const atomic_bool *stop);
void settle_free(struct settle *s);

/* The connection of the last pass is about to be closed. */
void settle_forget_connection(struct settle *s);

/* Settle for a second what is due; *@more: something is left. Returns 0, or
 * PSC_DATABASE, PSC_CONNECTION, PSC_NOMEM: the pass ended early, and what was
 * left is looked for anew by a later one. A host whose rows cannot be settled
 * is logged and left alone for an hour. */
PSC_MUST_CHECK int settle_pass(struct settle *s, PGconn *conn, bool *more,
                               struct psc_error *err);

#endif
