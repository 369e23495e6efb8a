/* What a collector would make of an agent's table, names included: to compare
 * with what the agent had. */
#ifndef PSC_TESTS_LIB_DECODED_H
#define PSC_TESTS_LIB_DECODED_H

#include "common/map.h"
#include "proto/grid.h"
#include "proto/names.h"

struct decoded {
    struct psc_map names; /* key to position; refs are positions too */
    struct name_chain chain;
    struct grid grid;
    struct grid_changes changes; /* of the last part */
};

void decoded_init(struct decoded *d, uint32_t columns, uint32_t max_entries,
                  size_t max_key_bytes);
void decoded_fini(struct decoded *d);

/* Apply a part; @first: of a sample. Returns 0, or what a collector would
 * refuse it with; a key that comes twice is PSC_FORMAT here, since no agent
 * sends that. */
PSC_MUST_CHECK int decoded_apply(struct decoded *d, const struct columns *in,
                                 bool first, struct psc_error *err);

#endif
