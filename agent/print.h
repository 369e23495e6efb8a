/* One sample for people or programs: what --once prints. */
#ifndef PSC_AGENT_PRINT_H
#define PSC_AGENT_PRINT_H

#include <stdio.h>

#include "agent/collect.h"
#include "agent/source.h"

/* Aligned columns with headings, the largest tags of each pool first. Returns
 * PSC_NOMEM or PSC_IO. */
PSC_MUST_CHECK int print_text(FILE *out, const struct collect *c,
                              const struct host_facts *facts);

/* One JSON object. Text bytes that are no printable ASCII appear as \xHH, as
 * in canonical tags. */
PSC_MUST_CHECK int print_json(FILE *out, const struct collect *c,
                              const struct host_facts *facts);

#endif
