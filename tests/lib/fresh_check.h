/* Settles hosts, and compares what is settled of them with what was stored
 * (fresh.h). */
#ifndef PSC_TESTS_FRESH_CHECK_H
#define PSC_TESTS_FRESH_CHECK_H

#include "tests/lib/fresh.h"

/* The chunks of @h hold its rows up to host_settle's numbers, all of them once,
 * bit by bit as they were, and nothing else. Fails the running test if not. */
void fresh_check(PGconn *owner, const struct fresh_host *h);

/* Up to which n a table is settled. */
int64_t fresh_settled(PGconn *owner, const struct fresh_host *h, bool tags);

/* Settle all that is due, as a process that has just started would. Returns
 * the hosts that could not be settled. */
unsigned fresh_settle(PGconn *writer);

#endif
