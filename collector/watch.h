/* The detection driver: reads what ingest has stored, host by host in the
 * order of n, feeds detect/, and writes what it finds. Runs in the worker's
 * thread over its blocking connection.
 *
 * One process of the fleet detects at a time (an advisory lock). A host's
 * state is derived: when a watch begins with a host, it restores the open
 * findings and reads the last days again, in silence up to where detection had
 * come before, here or in another process. What came since is told, however
 * late it is read. */
#ifndef PSC_COLLECTOR_WATCH_H
#define PSC_COLLECTOR_WATCH_H

#include <libpq-fe.h>
#include <stdatomic.h>

#include "collector/metrics.h"
#include "common/error.h"

struct watch;

/* @stop ends a pass early; @metrics are borrowed. NULL when out of memory. */
struct watch *watch_new(struct metrics *metrics, const atomic_bool *stop);
void watch_free(struct watch *w);

/* The connection of the last pass is about to be closed. */
void watch_forget_connection(struct watch *w);

/* Look at every host that has advanced since the last pass. Returns 0, also
 * when another process detects; PSC_DATABASE or PSC_CONNECTION when a query
 * fails, PSC_NOMEM. A host that fails is tried again a minute later (what was
 * not written is found again) and keeps no other host waiting. */
PSC_MUST_CHECK int watch_pass(struct watch *w, PGconn *conn,
                              struct psc_error *err);

#endif
