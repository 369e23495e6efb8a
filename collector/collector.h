/* The collector as a whole: what main() runs after it has read the options. */
#ifndef PSC_COLLECTOR_COLLECTOR_H
#define PSC_COLLECTOR_COLLECTOR_H

#include "collector/options.h"
#include "common/error.h"

/* Serve until SIGTERM or SIGINT. @line tells which file SIGHUP reads again for
 * its log level; argv's wins. Returns 0 after an orderly end. */
PSC_MUST_CHECK int collector_run(int argc, char **argv, struct options *options,
                                 struct psc_error *err);

#endif
