/* pghosts_look_up() off the loop: in a thread of its own, which nobody waits
 * for, since a resolver may take its time and cannot be interrupted. */
#ifndef PSC_COLLECTOR_LOOKUP_IO_H
#define PSC_COLLECTOR_LOOKUP_IO_H

#include <uv.h>

#include "common/error.h"

struct lookup;

/* Begin; @conninfo is copied. @on_done fires once, on the loop, unless the
 * lookup is abandoned before: with the new connection string, which is the
 * callee's to free(), or NULL and @err. Returns 0, PSC_NOMEM or PSC_IO, then
 * without a callback. */
PSC_MUST_CHECK int lookup_start(struct lookup **lookup, uv_loop_t *loop,
                                const char *conninfo,
                                void (*on_done)(void *user, char *conninfo,
                                                const struct psc_error *err),
                                void *user);

/* No callback any more. @lookup frees itself. */
void lookup_abandon(struct lookup *lookup);

#endif
