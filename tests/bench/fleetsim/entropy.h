/* How much information the simulated samples have, so that no store looks good
 * because its data is poor. */
#ifndef PSC_TESTS_BENCH_FLEETSIM_ENTROPY_H
#define PSC_TESTS_BENCH_FLEETSIM_ENTROPY_H

#include "tests/bench/fleetsim/truth.h"

/* Bits, estimated from differences between snapshots that follow each other.
 * A difference counts as its class (sign and number of bits) by that class's
 * empirical entropy, and the bits below the leading one as they are. `fleet`
 * has one distribution for all tags, `tag` one for each tag, which is what a
 * coder that adapts to each tag could reach without further knowledge. */
struct entropy {
    uint64_t cells;
    double changed;                  /* share of the cells that do */
    double change_fleet, change_tag; /* bits a cell: whether it changes */
    double column_fleet[4];          /* bits a change, by column */
    double column_tag[4];
    double cell_fleet, cell_tag; /* bits a cell, all told */
};

/* Over @hosts hosts and @snapshots each. Returns 0 or PSC_NOMEM. */
PSC_MUST_CHECK int entropy_measure(const struct truth *t, uint32_t hosts,
                                   uint32_t snapshots, struct entropy *out);

#endif
