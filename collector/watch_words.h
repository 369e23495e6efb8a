/* A finding in words for people, and in numbers for machines: the summary and
 * the evidence of table leak. The evidence holds the whole finding, so that
 * detection goes on from it after a restart. Pure. */
#ifndef PSC_COLLECTOR_WATCH_WORDS_H
#define PSC_COLLECTOR_WATCH_WORDS_H

#include "collector/detect/detect.h"
#include "common/buf.h"

/* Names of the finding's tags, as "slab filp", in its order. */
struct watch_names {
    char tag[DETECT_TAGS_MAX][160];
};

/* One or a few sentences with a final NUL, appended to @out. */
void watch_summary(const struct detect_finding *f,
                   const struct watch_names *names, struct psc_buf *out);

/* A JSON object with a final NUL, appended to @out: the facts under names that
 * tell their units, and under "state" the whole finding for
 * watch_evidence_read(). Returns 0, PSC_NOMEM or PSC_LIMIT. */
PSC_MUST_CHECK int watch_evidence(const struct detect_finding *f,
                                  const struct watch_names *names,
                                  struct psc_buf *out);

/* The finding back from its evidence. Returns false if it is not one. */
bool watch_evidence_read(const char *json, struct detect_finding *f);

#endif
