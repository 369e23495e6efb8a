/* The same fleet for Prometheus: each host's newest snapshot as an exporter of
 * its own would show it, to be scraped, or a history as OpenMetrics text. */
#ifndef PSC_TESTS_BENCH_FLEETSIM_EXPORT_H
#define PSC_TESTS_BENCH_FLEETSIM_EXPORT_H

#include "common/buf.h"
#include "tests/bench/fleetsim/options.h"

/* Append the series of snapshot @k: for each tag allocs, frees and bytes, on
 * Linux objects and bytes; and the counters. With the host's @name as a label
 * and a timestamp if @at_us is not 0. */
void export_snapshot(const struct truth_host *h, uint64_t k, const char *name,
                     int64_t at_us, struct psc_buf *out);

/* Serve /NUMBER for each host of the fleet in --state, whose run has begun,
 * until SIGINT or SIGTERM. */
PSC_MUST_CHECK int export_serve(const struct sim_options *o,
                                struct psc_error *err);

/* Print the snapshots of a history that ends now. */
PSC_MUST_CHECK int export_openmetrics(const struct sim_options *o,
                                      struct psc_error *err);

#endif
