/* fleetsim: the command line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "tests/bench/fleetsim/export.h"
#include "tests/bench/fleetsim/fleet.h"
#include "tests/bench/fleetsim/verify.h"

enum { EXIT_USAGE = 2 };

static int simulate(const struct sim_options *o, struct psc_error *err)
{
    struct fleet *f = calloc(1, sizeof(*f));
    if (f == NULL) {
        return psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    int rc = fleet_run(f, o, err);
    if (rc == PSC_OK) {
        rc = fleet_report(f, err);
        fleet_fini(f);
    }
    free(f);
    return rc;
}

static int run(const struct sim_options *o, enum sim_command command,
               struct psc_error *err)
{
    bool good = true;
    int rc = PSC_OK;
    switch (command) {
    case SIM_HELP: sim_options_help(); break;
    case SIM_VERSION: (void)puts("fleetsim " PSC_VERSION); break;
    case SIM_ENTROPY: rc = fleet_print_entropy(o, err); break;
    case SIM_EXPORT: rc = export_serve(o, err); break;
    case SIM_OPENMETRICS: rc = export_openmetrics(o, err); break;
    case SIM_VERIFY: rc = verify_run(o, &good, err); break;
    case SIM_RUN: rc = simulate(o, err); break;
    }
    if (rc == PSC_OK && !good) {
        rc = psc_error_set(err, PSC_FORMAT,
                           "the database differs from the truth");
    }
    return rc;
}

int main(int argc, char **argv)
{
    struct sim_options options;
    struct psc_error err = {.msg = ""};
    enum sim_command command;
    enum psc_log_level level = PSC_LOG_WARN;
    memset(&options, 0, sizeof(options));
    psc_log_init("fleetsim", level);
    int rc = sim_options_read(argc, argv, &options, &command, &err);
    int status = EXIT_USAGE;
    if (rc == PSC_OK) {
        (void)psc_log_level_parse(options.log_level, &level);
        psc_log_init("fleetsim", level);
        rc = run(&options, command, &err);
        status = rc == PSC_CONFIG ? EXIT_USAGE : EXIT_FAILURE;
    }
    if (rc != PSC_OK) {
        psc_log_error("%s", err.msg[0] == '\0' ? psc_strerror(rc) : err.msg);
    }
    psc_config_fini(sim_options_table, &options);
    return rc == PSC_OK ? EXIT_SUCCESS : status;
}
