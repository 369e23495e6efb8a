/* What SIGHUP changes: the configuration is read again, and what can be
 * changed in a running collector is. */
#ifndef PSC_COLLECTOR_RELOAD_H
#define PSC_COLLECTOR_RELOAD_H

#include "collector/options.h"

/* Read the command line and the file that it names again, into @options: the
 * log level, names, commit_interval, max_connections and max_pending. What
 * else has changed is said to need a restart. On an error (a bad
 * configuration) @options is as it was. */
PSC_MUST_CHECK int reload_options(int argc, char **argv,
                                  struct options *options,
                                  struct psc_error *err);

#endif
