/* For state*.c. */
#ifndef PSC_TESTS_BENCH_FLEETSIM_STATE_PRIVATE_H
#define PSC_TESTS_BENCH_FLEETSIM_STATE_PRIVATE_H

#include "tests/bench/fleetsim/state.h"

/* Open a file of the directory; *@file is NULL if it is to be read and not
 * there. */
PSC_MUST_CHECK int state_open_file(const struct state *s, const char *name,
                                   const char *mode, FILE **file,
                                   struct psc_error *err);

PSC_MUST_CHECK int state_read_identities(struct state *s,
                                         struct psc_error *err);

#endif
