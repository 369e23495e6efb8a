/* poolscope-agent: the command line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/agent.h"
#include "agent/options.h"
#include "agent/source.h"
#include "common/log.h"

enum { EXIT_USAGE = 2 };

static const char usage[] =
    "Usage: poolscope-agent [--config FILE] [OPTION...]\n"
    "       poolscope-agent --once [--print[=json]] [OPTION...]\n"
    "       poolscope-agent --enrol TOKEN [OPTION...]\n"
    "       poolscope-agent --check [--config FILE] [OPTION...]\n"
    "\n"
    "Samples what the kernel accounts for its memory (slab caches, vmalloc,\n"
    "allocation sites), memory counters, drivers and exhaustion events of "
    "this\n"
    "host, and ships them to a collector over TLS 1.3. What no collector has\n"
    "yet waits in a bounded spool on disk. Runs until SIGTERM or SIGINT; "
    "SIGHUP\n"
    "reads the configuration again; the log says what needs a restart.\n"
    "\n"
    "A host is enrolled once, with a token from \"poolscope token create\": "
    "by\n"
    "--enrol, or by the agent itself at its first start with --token-file.\n"
    "\n"
    "Commands:\n"
    "  --once             take one sample of each source, print it, exit\n"
    "  --print[=json]     with --once: as aligned text (default) or JSON\n"
    "  --check            check the configuration; nothing is contacted\n"
    "  --enrol TOKEN      enrol this host, exit\n"
    "  --version          print the version\n"
    "  --help             print this\n"
    "\n"
    "Options, from --config FILE (INI, section [agent]) or given here, which\n"
    "wins over the file:\n";

static const char rest[] =
    "\n"
    "Exit status: 0 success; 1 failure (said on standard error); 2 bad usage\n"
    "or configuration.\n"
    "\n"
    "Files in state_dir: identity.pem (key and certificate), ca.pem, spool/.\n"
    "Needs CAP_DAC_READ_SEARCH for /proc/slabinfo and /proc/vmallocinfo and\n"
    "CAP_SYSLOG for the kernel log; a source that cannot run is reported and\n"
    "left out.\n";

static void help(void)
{
    (void)fputs(usage, stdout);
    psc_config_help(agent_options, stdout);
    (void)fputs("\nSources:\n", stdout);
    for (const struct source *const *s = agent_sources; *s != NULL; s++) {
        (void)printf("  %-18s %s\n", (*s)->name, (*s)->help);
    }
    (void)fputs(rest, stdout);
}

static void init_log(const struct options *options,
                     const struct command_line *line)
{
    enum psc_log_level level = PSC_LOG_INFO;
    (void)psc_log_level_parse(options->log_level, &level);
    if (line->command == COMMAND_ONCE && level == PSC_LOG_INFO) {
        level = PSC_LOG_WARN; /* what is printed says how the sources are */
    }
    psc_log_init("poolscope-agent", level);
}

static int run(int argc, char **argv, struct options *options,
               const struct command_line *line, struct psc_error *err)
{
    switch (line->command) {
    case COMMAND_HELP: help(); return PSC_OK;
    case COMMAND_VERSION:
        (void)puts("poolscope-agent " PSC_VERSION);
        return PSC_OK;
    case COMMAND_CHECK: (void)puts("configuration is valid"); return PSC_OK;
    case COMMAND_ONCE: return agent_once(options, line->json, err);
    case COMMAND_ENROL: return agent_enrol(options, line->enrol, err);
    case COMMAND_RUN: break;
    }
    return agent_run(argc, argv, options, err);
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
    memset(&options, 0, sizeof(options));
    options.places.on_error = on_error;
    psc_log_init("poolscope-agent", PSC_LOG_INFO);
    int rc = psc_config_defaults(agent_options, &options, &err);
    if (rc == PSC_OK) {
        rc = agent_options_read(argc, argv, &options, &line, &err);
    }
    if (rc == PSC_OK && line.command != COMMAND_HELP &&
        line.command != COMMAND_VERSION) {
        rc = agent_options_check(&options, line.command != COMMAND_ONCE, &err);
    }
    if (rc == PSC_OK && line.command == COMMAND_CHECK) {
        rc = agent_options_check_files(&options, &err);
    }
    int status = EXIT_USAGE;
    if (rc == PSC_OK) {
        init_log(&options, &line);
        rc = run(argc, argv, &options, &line, &err);
        status = EXIT_FAILURE;
    }
    if (rc != PSC_OK) {
        psc_log_error("%s", err.msg[0] == '\0' ? psc_strerror(rc) : err.msg);
    }
    psc_config_fini(agent_options, &options);
    return rc == PSC_OK ? EXIT_SUCCESS : status;
}
