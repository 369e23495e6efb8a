/* What the simulator can be told. */
#ifndef PSC_TESTS_BENCH_FLEETSIM_OPTIONS_H
#define PSC_TESTS_BENCH_FLEETSIM_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/config.h"
#include "sql/database.h"
#include "tests/bench/fleetsim/truth.h"

struct sim_options {
    char *state; /* directory */
    char *collector, *token;
    char *prefix;
    int64_t hosts, first; /* host numbers first … first + hosts - 1 */
    int64_t seed, tags, counters, drivers;
    char *change, *windows, *silent, *slow; /* shares, as text */
    int64_t reboots_us; /* between reboots of a host, on average; 0: none */
    char *leak;
    int64_t interval_us, for_us, from_us, ramp_us, storm_us, drain_us;
    int64_t snapshots, compress;
    int64_t window; /* samples under way of a host */
    int64_t keyframes_us;
    char *report, *course;
    char *listen;                     /* of --export */
    struct database_options database; /* of --verify */
    int64_t verify_hosts, verify_tags;
    char *log_level;
};

enum sim_command {
    SIM_RUN,
    SIM_VERIFY,
    SIM_ENTROPY,
    SIM_EXPORT,
    SIM_OPENMETRICS,
    SIM_HELP,
    SIM_VERSION,
};

/* Terminated by a NULL name. */
extern const struct psc_option sim_options_table[];

/* Read @argv over the defaults into @o. */
PSC_MUST_CHECK int sim_options_read(int argc, char **argv,
                                    struct sim_options *o,
                                    enum sim_command *command,
                                    struct psc_error *err);

/* The part of the options that says what the fleet is. */
PSC_MUST_CHECK int sim_options_truth(const struct sim_options *o,
                                     struct truth_settings *s,
                                     struct psc_error *err);

void sim_options_help(void);

#endif
