/* poolscope-collector: the command line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/collector.h"
#include "collector/options.h"
#include "common/log.h"

enum { EXIT_USAGE = 2 };

static const char usage[] =
    "Usage: poolscope-collector [--config FILE] [OPTION...]\n"
    "       poolscope-collector --check [--config FILE] [OPTION...]\n"
    "\n"
    "Takes the samples of poolscope agents over mutual TLS 1.3, stores them\n"
    "in PostgreSQL (each is acknowledged only when it is committed), keeps\n"
    "house there, and watches every host for leaks. Runs until SIGTERM or\n"
    "SIGINT. Any number of collectors may share one database, also on one\n"
    "machine and port.\n"
    "\n"
    "SIGHUP reads the certificates and the configuration again: log_level,\n"
    "names, commit_interval, max_connections and max_pending change at once,\n"
    "all else with a restart.\n"
    "\n"
    "Commands:\n"
    "  --check            check the configuration; nothing is contacted\n"
    "  --version          print the version\n"
    "  --help             print this\n"
    "\n"
    "Options, from --config FILE (INI, section [collector]) or given here,\n"
    "which wins over the file:\n";

static const char rest[] =
    "\n"
    "Exit status: 0 success; 1 failure (said on standard error); 2 bad usage\n"
    "or configuration.\n"
    "\n"
    "Files in pki_dir: ca.pem and ca.key (made at the first start; back the\n"
    "key up, and keep it secret), server.pem and server.key (renewed by\n"
    "itself). To use an existing PKI put ca.pem, server.pem and server.key\n"
    "there without ca.key; such a collector enrols nobody.\n"
    "\n"
    "Agents enrol with tokens from \"poolscope token create\".\n";

static void help(void)
{
    (void)fputs(usage, stdout);
    psc_config_help(collector_options, stdout);
    (void)fputs(rest, stdout);
}

static int run(int argc, char **argv, struct options *options,
               const struct command_line *line, struct psc_error *err)
{
    switch (line->command) {
    case COMMAND_HELP: help(); return PSC_OK;
    case COMMAND_VERSION:
        (void)puts("poolscope-collector " PSC_VERSION);
        return PSC_OK;
    case COMMAND_CHECK: (void)puts("configuration is valid"); return PSC_OK;
    case COMMAND_RUN: break;
    }
    return collector_run(argc, argv, options, err);
}

static void on_error(const char *message)
{
    psc_log_error("%s", message);
}

int main(int argc, char **argv)
{
    struct options options;
    struct command_line line;
    struct psc_error err = {.msg = ""};
    enum psc_log_level level = PSC_LOG_INFO;
    memset(&options, 0, sizeof(options));
    options.places.on_error = on_error;
    psc_log_init("poolscope-collector", level);
    int rc = psc_config_defaults(collector_options, &options, &err);
    if (rc == PSC_OK) {
        rc = options_read(argc, argv, &options, &line, &err);
    }
    if (rc == PSC_OK && line.command != COMMAND_HELP &&
        line.command != COMMAND_VERSION) {
        rc = options_check(&options, &err);
    }
    int status = EXIT_USAGE;
    if (rc == PSC_OK) {
        (void)psc_log_level_parse(options.log_level, &level);
        psc_log_init("poolscope-collector", level);
        rc = run(argc, argv, &options, &line, &err);
        status = EXIT_FAILURE;
    }
    if (rc != PSC_OK) {
        psc_log_error("%s", err.msg[0] == '\0' ? psc_strerror(rc) : err.msg);
    }
    psc_config_fini(collector_options, &options);
    return rc == PSC_OK ? EXIT_SUCCESS : status;
}
