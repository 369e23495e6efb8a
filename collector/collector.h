/* The collector as a whole: what main() runs after it has read the options. */
#ifndef PSC_COLLECTOR_COLLECTOR_H
#define PSC_COLLECTOR_COLLECTOR_H

#include "collector/options.h"
#include "common/error.h"

/* Serve until SIGTERM or SIGINT. @argv is read again on SIGHUP, with the file
 * that it names. @options is completed by defaults. Returns 0 after an orderly
 * end. */
PSC_MUST_CHECK int collector_run(int argc, char **argv, struct options *options,
                                 struct psc_error *err);

#endif
