/* Compares what is settled of a host with what was stored of it (fresh.h). */
#ifndef PSC_TESTS_FRESH_CHECK_H
#define PSC_TESTS_FRESH_CHECK_H

#include "tests/lib/fresh.h"

/* The chunks of @h hold its rows up to host_settle's numbers, all of them once,
 * bit by bit as they were, and nothing else. Fails the running test if not. */
void fresh_check(PGconn *owner, const struct fresh_host *h);

/* Rows of a table that are settled. */
int64_t fresh_settled(PGconn *owner, const struct fresh_host *h, bool tags);

#endif
