/* The host names of a connection string, looked up: libpq would ask the
 * resolver itself, and block for as long as that waits. */
#ifndef PSC_COLLECTOR_PGHOSTS_H
#define PSC_COLLECTOR_PGHOSTS_H

#include <stdbool.h>

#include "common/error.h"

/* Whether @conninfo names a host that is neither an address nor a socket
 * directory. Without a host of its own (PGHOST, a service file) it does not
 * count. */
bool pghosts_has_names(const char *conninfo);

/* The same connection string with the addresses of its hosts beside their
 * names, which TLS still verifies, in *@out (to be freed by free()). A host
 * with several addresses comes as often; of several hosts, those that cannot
 * be looked up are left out if there is another. Blocks. Returns 0;
 * PSC_CONNECTION when no host is known; PSC_CONFIG or PSC_NOMEM. */
PSC_MUST_CHECK int pghosts_look_up(const char *conninfo, char **out,
                                   struct psc_error *err);

#endif
