/* The simulator's command line and its help. */
#include "tests/bench/fleetsim/options.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define SECOND_US 1000000LL
#define MINUTE_US (60 * SECOND_US)
#define DAY_US    (86400 * SECOND_US)
#define YEAR_US   (366 * DAY_US)

#define FIELD(name) offsetof(struct sim_options, name)
#define ROW(name, type, def, min, max, arg, help)                              \
    {                                                                          \
        "fleetsim", #name, type, FIELD(name), def, min, max, arg, help         \
    }
#define TIME(name, def, min, max, help)                                        \
    {                                                                          \
        "fleetsim", #name, PSC_OPT_DURATION, FIELD(name##_us), def, min, max,  \
            "TIME", help                                                       \
    }

const struct psc_option sim_options_table[] = {
    ROW(state, PSC_OPT_STRING, NULL, 0, 0, "DIR",
        "identities, settings and the log of what was acknowledged; made\n"
        "when missing"),
    ROW(collector, PSC_OPT_STRING, "127.0.0.1:7443", 0, 0, "HOST:PORT",
        "where the agents connect to"),
    ROW(token, PSC_OPT_STRING, NULL, 0, 0, "TOKEN",
        "enrols hosts that are not yet (poolscope token create --uses N)"),
    ROW(hosts, PSC_OPT_INT, "10", 1, 1000000, "NUMBER", "agents to simulate"),
    ROW(first, PSC_OPT_INT, "0", 0, 100000000, "NUMBER",
        "number of the first host: several simulators, each with a\n"
        "directory of its own, make one fleet"),
    ROW(prefix, PSC_OPT_STRING, "sim", 0, 0, "TEXT",
        "hosts are called this and their number"),
    ROW(seed, PSC_OPT_INT, "1", 0, 0, "NUMBER", "everything follows from it"),
    ROW(tags, PSC_OPT_INT, "3000", TRUTH_TAGS_MIN, TRUTH_TAGS_MAX, "NUMBER",
        "tags of a host"),
    ROW(counters, PSC_OPT_INT, "60", TRUTH_COUNTERS_MIN, TRUTH_COUNTERS_MAX,
        "NUMBER", "counters of a host"),
    ROW(drivers, PSC_OPT_INT, "40", 0, TRUTH_DRIVERS_MAX, "NUMBER",
        "drivers of a host"),
    ROW(change, PSC_OPT_STRING, "0.2", 0, 0, "SHARE",
        "of a host's tags that change from one snapshot to the next"),
    ROW(windows, PSC_OPT_STRING, "0.5", 0, 0, "SHARE",
        "of the hosts that have Windows pools; the others have slab caches"),
    ROW(silent, PSC_OPT_STRING, "0", 0, 0, "SHARE",
        "of the hosts that are off half of the time, 16 snapshots or more"),
    ROW(slow, PSC_OPT_STRING, "0", 0, 0, "SHARE",
        "of the hosts that connect for every eighth snapshot only, and\n"
        "deliver the others then"),
    {"fleetsim", "reboots", PSC_OPT_DURATION, FIELD(reboots_us), NULL, 0,
     YEAR_US, "TIME",
     "between reboots of a host, on average, by the fleet's clock (none)"},
    ROW(leak, PSC_OPT_STRING, NULL, 0, 0, "LIST",
        "BYTES:SHARE, … : tag fleetsim_leak1 grows by so many bytes an hour\n"
        "on this share of the hosts, those with version 6.6.6 of driver\n"
        "fleetsim_leak1 (the others have 6.6.5), and so on; such as\n"
        "64M:0.05,1M:0.01"),
    TIME(interval, "1m", SECOND_US / 10, DAY_US, "between snapshots"),
    {"fleetsim", "for", PSC_OPT_DURATION, FIELD(for_us), NULL, SECOND_US,
     YEAR_US, "TIME", "take snapshots for so long, then end (until SIGINT)"},
    ROW(snapshots, PSC_OPT_INT, "0", 0, 0, "NUMBER",
        "end after so many snapshots of each host (0: --for says when)"),
    {"fleetsim", "from", PSC_OPT_DURATION, FIELD(from_us), NULL, SECOND_US,
     10 * YEAR_US, "TIME",
     "time compression: send what the fleet would have taken from so long\n"
     "ago until now, as agents do that come back with a full spool after\n"
     "a reboot"},
    ROW(compress, PSC_OPT_INT, "0", 0, 100000000, "FACTOR",
        "with --from: so many times as fast as it happened (0: as fast as\n"
        "the collector takes it)"),
    ROW(window, PSC_OPT_INT, "192", 1, 1024, "NUMBER",
        "samples of a host that may wait for their acknowledgement"),
    TIME(ramp, "10s", 0, DAY_US,
         "agents connect for the first time spread over so long"),
    {"fleetsim", "storm", PSC_OPT_DURATION, FIELD(storm_us), NULL, SECOND_US,
     YEAR_US, "TIME", "drop all connections at once every so often"},
    TIME(drain, "2m", 0, DAY_US,
         "wait so long for the last acknowledgements before the end"),
    TIME(keyframes, "1h", SECOND_US, YEAR_US,
         "restate every tag so often, by the samples' clock; the product's\n"
         "agent does each hour, and so does this one; the protocol allows\n"
         "less, which loads a history of long intervals sooner"),
    ROW(report, PSC_OPT_STRING, NULL, 0, 0, "FILE",
        "write the figures as JSON too"),
    ROW(course, PSC_OPT_STRING, NULL, 0, 0, "FILE",
        "write a line of figures a second as CSV; its backlog is the\n"
        "snapshots that are due and not acknowledged"),
    ROW(listen, PSC_OPT_STRING, "127.0.0.1:9464", 0, 0, "ADDRESS:PORT",
        "where --export listens"),
    DATABASE_OPTIONS("fleetsim", struct sim_options, database),
    ROW(verify_hosts, PSC_OPT_INT, "0", 0, 0, "NUMBER",
        "with --verify: compare so many hosts only, evenly spread (0: all)"),
    ROW(verify_tags, PSC_OPT_INT, "0", 0, 0, "NUMBER",
        "and of each so many tags' histories and hours (0: all)"),
    ROW(log_level, PSC_OPT_STRING, "warn", 0, 0, "LEVEL",
        "error, warn, info or debug"),
    {.name = NULL},
};

static const char usage[] =
    "Usage: fleetsim --state DIR [--token TOKEN] [OPTION...]\n"
    "       fleetsim --verify --state DIR [--data DIR | --dsn DSN] "
    "[OPTION...]\n"
    "       fleetsim --entropy | --openmetrics [OPTION...]\n"
    "       fleetsim --export --state DIR --listen ADDRESS:PORT\n"
    "\n"
    "Simulates the agents of a fleet, over real TLS connections, with the\n"
    "product's encoder, from one process. What each host has at each moment\n"
    "follows from --seed alone, so that --verify can compare everything that\n"
    "the database returns with what was sent, exactly.\n"
    "\n"
    "A second run in the same DIR goes on with the same fleet, whose settings\n"
    "(seed, tags, shares, leaks, interval) must stay the same.\n"
    "\n"
    "Commands:\n"
    "  --verify           compare the database with the truth: samples of\n"
    "                     tags and counters, present values, hours, boots and\n"
    "                     drivers; says what is missing, doubled or wrong\n"
    "  --entropy          only print how much information the samples have\n"
    "  --export           show Prometheus the fleet whose run in DIR goes on:\n"
    "                     /NUMBER is a host's newest snapshot, /0, /1, …\n"
    "  --openmetrics      print the samples of --from until now of --hosts, "
    "for\n"
    "                     promtool tsdb create-blocks-from openmetrics\n"
    "  --version          print the version\n"
    "  --help             print this\n"
    "\n"
    "Options:\n";

static const char rest[] =
    "\n"
    "Time compression (--from): what is sent is what agents send that have\n"
    "been cut off for so long and have rebooted since: batches of earlier\n"
    "boots, whose time a collector takes from their wall clock and the offset\n"
    "that it knows of the host. No clock is false, and no part of the "
    "protocol\n"
    "is left out; only the spool of an agent would be too small for months.\n"
    "So a history goes the way of late batches, and all its hosts are full of\n"
    "them at once: its figures are not those of a steady fleet. It is kept\n"
    "only if the database's retention covers it.\n"
    "\n"
    "Progress goes to standard error if that is a terminal, the figures to\n"
    "standard output. SIGINT and SIGTERM end a run in good order. SIGUSR1\n"
    "begins the figures anew, after a warm-up; SIGUSR2 ends them, while the\n"
    "run goes on.\n"
    "\n"
    "Each agent needs a file descriptor; beyond the hard limit, run several\n"
    "simulators (--first).\n"
    "\n"
    "Exit status: 0 success (--verify: complete and right); 1 failure, or\n"
    "--verify found something; 2 bad usage.\n"
    "\n"
    "Examples:\n"
    "  fleetsim --state /tmp/fleet --token \"$(poolscope token create --quiet\n"
    "      --uses 1000)\" --hosts 1000 --for 30m\n"
    "  fleetsim --state /tmp/fleet --hosts 1000 --from 30d --interval 10m\n"
    "  fleetsim --verify --state /tmp/fleet --data /var/lib/poolscope\n";

void sim_options_help(void)
{
    (void)fputs(usage, stdout);
    psc_config_help(sim_options_table, stdout);
    (void)fputs(rest, stdout);
}

int sim_options_read(int argc, char **argv, struct sim_options *o,
                     enum sim_command *command, struct psc_error *err)
{
    static const struct {
        const char *flag;
        enum sim_command command;
    } commands[] = {
        {"--verify", SIM_VERIFY},   {"--entropy", SIM_ENTROPY},
        {"--export", SIM_EXPORT},   {"--openmetrics", SIM_OPENMETRICS},
        {"--version", SIM_VERSION}, {"--help", SIM_HELP},
        {"-h", SIM_HELP},
    };
    *command = SIM_RUN;
    int rc = psc_config_defaults(sim_options_table, o, err);
    for (int i = 1; i < argc && rc == PSC_OK;) {
        int known = 0;
        for (size_t c = 0; c < sizeof(commands) / sizeof(commands[0]); c++) {
            if (strcmp(argv[i], commands[c].flag) == 0) {
                *command = commands[c].command;
                known = 1;
            }
        }
        if (known != 0) {
            i++;
            continue;
        }
        rc = psc_config_arg(sim_options_table, o, argc, argv, &i, &known, err);
        if (rc == PSC_OK && known == 0) {
            rc = psc_error_set(err, PSC_CONFIG, "%s: unknown (try --help)",
                               argv[i]);
        }
    }
    if (rc == PSC_OK && o->state == NULL &&
        (*command == SIM_RUN || *command == SIM_VERIFY ||
         *command == SIM_EXPORT)) {
        rc = psc_error_set(err, PSC_CONFIG, "--state DIR is needed");
    }
    if (rc == PSC_OK &&
        (o->prefix[0] == '\0' ||
         strspn(o->prefix, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXY"
                           "Z0123456789-") != strlen(o->prefix) ||
         strlen(o->prefix) > 20)) {
        rc = psc_error_set(err, PSC_CONFIG,
                           "--prefix: 1 to 20 letters, digits and \"-\"");
    }
    return rc;
}

static int parse_share(const char *name, const char *text, double *out,
                       struct psc_error *err)
{
    char *end;
    *out = strtod(text, &end);
    if (end == text || *end != '\0' || !(*out >= 0 && *out <= 1)) {
        return psc_error_set(err, PSC_CONFIG,
                             "--%s: \"%s\" is no share from 0 to 1", name,
                             text);
    }
    return PSC_OK;
}

static int parse_leaks(const char *text, struct truth_settings *s,
                       struct psc_error *err)
{
    char *copy = strdup(text != NULL ? text : "");
    char *left = copy;
    int rc = copy != NULL ? PSC_OK : PSC_NOMEM;
    while (rc == PSC_OK && left != NULL && *left != '\0') {
        char *item = strsep(&left, ",");
        char *colon = strchr(item, ':');
        struct truth_leak *leak = &s->leaks[s->n_leaks];
        if (colon == NULL || s->n_leaks == TRUTH_LEAKS_MAX) {
            rc = psc_error_set(err, PSC_CONFIG,
                               "--leak: \"%s\" is not BYTES:SHARE, or there "
                               "are more than %u",
                               item, TRUTH_LEAKS_MAX);
            break;
        }
        *colon = '\0';
        rc = psc_size_parse(item, &leak->bytes_per_hour);
        if (rc != PSC_OK) {
            (void)psc_error_set(err, rc, "--leak: \"%s\" is no size", item);
        } else {
            rc = parse_share("leak", colon + 1, &leak->hosts, err);
        }
        s->n_leaks++;
    }
    free(copy);
    return rc;
}

int sim_options_truth(const struct sim_options *o, struct truth_settings *s,
                      struct psc_error *err)
{
    *s = (struct truth_settings){
        .seed = (uint64_t)o->seed,
        .n_tags = (uint32_t)o->tags,
        .n_counters = (uint32_t)o->counters,
        .n_drivers = (uint32_t)o->drivers,
        .interval_us = o->interval_us,
        .reboot_every = (uint64_t)(o->reboots_us / o->interval_us),
    };
    if (o->reboots_us > 0 && s->reboot_every < 2) {
        return psc_error_set(err, PSC_CONFIG,
                             "--reboots: at least two intervals");
    }
    int rc = parse_share("change", o->change, &s->change, err);
    if (rc == PSC_OK) {
        rc = parse_share("windows", o->windows, &s->windows, err);
    }
    if (rc == PSC_OK) {
        rc = parse_share("silent", o->silent, &s->silent, err);
    }
    if (rc == PSC_OK) {
        rc = parse_share("slow", o->slow, &s->slow, err);
    }
    return rc == PSC_OK ? parse_leaks(o->leak, s, err) : rc;
}
