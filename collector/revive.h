/* Starts the embedded PostgreSQL again when it has died under the collector:
 * killed, or ended by the kernel for want of memory. One that was stopped on
 * purpose ('poolscope database stop') stays stopped until somebody starts it.
 *
 * The start may take seconds, so it has a thread of its own, which ends by
 * itself; the links reconnect as always. */
#ifndef PSC_COLLECTOR_REVIVE_H
#define PSC_COLLECTOR_REVIVE_H

#include <stdbool.h>
#include <stdint.h>

struct revive {
    int64_t down_us; /* since when there is no connection, 0: there is one */
    int64_t next_us; /* not before */
};

/* Call it every few seconds: @up says whether the database is connected,
 * @data_dir is the embedded server's (NULL: a DSN's, which is not ours). */
void revive_tick(struct revive *r, bool up, const char *data_dir);

#endif
