/* The running agent: sampler, sources, spool and uplink on one loop, started
 * and stopped by signals. */
#ifndef PSC_AGENT_AGENT_H
#define PSC_AGENT_AGENT_H

#include "agent/options.h"
#include "common/error.h"

/* Run until SIGTERM or SIGINT. @options are the ones in force and are owned by
 * the caller; SIGHUP reads @argv (and the file that it names) again into them.
 * Returns 0, or what kept the agent from starting. */
PSC_MUST_CHECK int agent_run(int argc, char **argv, struct options *options,
                             struct psc_error *err);

/* Enrol with @token at the first collector that answers, then return. */
PSC_MUST_CHECK int agent_enrol(const struct options *options, const char *token,
                               struct psc_error *err);

/* Take one sample of each source and print it to standard output. */
PSC_MUST_CHECK int agent_once(const struct options *options, bool json,
                              struct psc_error *err);

#endif
