/* The option table, and the command line. */
#include "collector/options.h"

#include <libpq-fe.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collector/listener.h"
#include "collector/metrics.h"
#include "common/file.h"
#include "common/log.h"

#define FIELD(field) offsetof(struct options, field)

const struct psc_option collector_options[] = {
    {"collector", "listen", PSC_OPT_STRING, FIELD(listen), "0.0.0.0:7443", 0, 0,
     "ADDRESS:PORT", "where agents connect to; port 0 takes a free one"},
    {"collector", "shared_port", PSC_OPT_BOOL, FIELD(shared_port), "no", 0, 0,
     NULL,
     "other collectors of this machine listen there too, each with a\n"
     "name of its own; the kernel spreads the agents over them"},
    DATABASE_OPTIONS("collector", struct options, database),
    {"collector", "pki_dir", PSC_OPT_STRING, FIELD(pki_dir), NULL, 0, 0, "DIR",
     "the CA and our server certificate, made there when missing\n"
     "(default: pki in the data directory)"},
    {"collector", "replace_ca", PSC_OPT_BOOL, FIELD(replace_ca), "no", 0, 0,
     NULL,
     "take over a database that belongs to another CA: agents that\n"
     "enrolled with that one have to enrol again"},
    {"collector", "names", PSC_OPT_STRING, FIELD(names), NULL, 0, 0, "LIST",
     "DNS names and addresses, with commas, under which agents reach\n"
     "this collector (default: the host's name and localhost)"},
    {"collector", "name", PSC_OPT_STRING, FIELD(name), NULL, 0, 0, "TEXT",
     "of this collector in the database (default: host name and port)"},
    {"collector", "metrics", PSC_OPT_STRING, FIELD(metrics), "127.0.0.1:9743",
     0, 0, "ADDRESS:PORT",
     "Prometheus metrics, on a loopback address; \"off\" for none"},
    {"collector", "commit_interval", PSC_OPT_DURATION,
     FIELD(commit_interval_us), "200ms", 1000, 60000000, "TIME",
     "samples of all hosts are stored together this often"},
    {"collector", "max_connections", PSC_OPT_INT, FIELD(max_connections),
     "20000", 1, 1000000, "NUMBER",
     "hosts at once; more are told to come again later"},
    {"collector", "max_handshakes", PSC_OPT_INT, FIELD(max_handshakes), "256",
     8, 1000000, "NUMBER", "at once; further connections wait their turn"},
    {"collector", "max_pending", PSC_OPT_SIZE, FIELD(max_pending_bytes), "64M",
     1 << 20, 1LL << 40, "BYTES",
     "memory for samples that wait for the database; beyond it agents\n"
     "are not read from until there is room"},
    {"collector", "migrate", PSC_OPT_BOOL, FIELD(migrate), "yes", 0, 0, NULL,
     "bring the database's schema up to date at start"},
    {"collector", "worker", PSC_OPT_BOOL, FIELD(worker), "yes", 0, 0, NULL,
     "housekeeping and leak detection in this process too"},
    {"collector", "log_level", PSC_OPT_STRING, FIELD(log_level), "info", 0, 0,
     "LEVEL", "error, warn, info or debug"},
    {"collector", "port_file", PSC_OPT_STRING, FIELD(port_file), NULL, 0, 0,
     "FILE",
     "write the port that we listen on, and in a second line that of\n"
     "the metrics, when we are ready"},
    {.name = NULL, .offset = FIELD(places)},
};

/* Flags that are no options; returns whether argv[i] was one. */
static bool take_command(const char *arg, struct command_line *line)
{
    static const struct {
        const char *flag;
        enum command command;
    } commands[] = {
        {"--check", COMMAND_CHECK},
        {"--version", COMMAND_VERSION},
        {"--help", COMMAND_HELP},
        {"-h", COMMAND_HELP},
    };
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(arg, commands[i].flag) == 0) {
            line->command = commands[i].command;
            return true;
        }
    }
    return false;
}

/* --config FILE or --config=FILE, wherever it stands. */
static int find_config(int argc, char **argv, struct command_line *line,
                       struct psc_error *err)
{
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--config=", 9) == 0) {
            line->config = argv[i] + 9;
        } else if (strcmp(argv[i], "--config") == 0) {
            if (i + 1 == argc) {
                return psc_error_set(err, PSC_CONFIG, "--config needs a file");
            }
            line->config = argv[i + 1];
        }
    }
    return PSC_OK;
}

static int take_argument(int argc, char **argv, int *i, struct options *options,
                         struct command_line *line, struct psc_error *err)
{
    int known = 0;
    if (take_command(argv[*i], line) ||
        strncmp(argv[*i], "--config=", 9) == 0) {
        ++*i;
        return PSC_OK;
    }
    if (strcmp(argv[*i], "--config") == 0) {
        *i += 2;
        return PSC_OK;
    }
    int rc =
        psc_config_arg(collector_options, options, argc, argv, i, &known, err);
    if (rc == PSC_OK && !known) {
        rc = psc_error_set(err, PSC_CONFIG, "%s: unknown (try --help)",
                           argv[*i]);
    }
    return rc;
}

int options_read(int argc, char **argv, struct options *options,
                 struct command_line *line, struct psc_error *err)
{
    *line = (struct command_line){.command = COMMAND_RUN};
    int rc = find_config(argc, argv, line, err);
    if (rc == PSC_OK && line->config != NULL) {
        rc = psc_config_load(collector_options, options, line->config, err);
    }
    for (int i = 1; rc == PSC_OK && i < argc;) {
        rc = take_argument(argc, argv, &i, options, line, err);
    }
    return rc;
}

static int check_log_level(const struct options *o, struct psc_error *err)
{
    enum psc_log_level level;
    return psc_log_level_parse(o->log_level, &level)
               ? PSC_OK
               : psc_error_set(err, PSC_CONFIG,
                               "log_level = %s: expected error, warn, info or "
                               "debug",
                               o->log_level);
}

static int check_listen(const struct options *o, struct psc_error *err)
{
    struct sockaddr_storage addr;
    int port;
    return listener_resolve(o->listen, &addr, &port, err);
}

static int check_metrics(const struct options *o, struct psc_error *err)
{
    struct sockaddr_storage addr;
    int port;
    return strcmp(o->metrics, "off") == 0
               ? PSC_OK
               : metrics_resolve(o->metrics, &addr, &port, err);
}

/* DNS names, perhaps with "*", and addresses, with commas. */
static int check_names(const struct options *o, struct psc_error *err)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789._-:*";
    for (const char *at = o->names; at != NULL && *at != '\0';) {
        at += strspn(at, " \t");
        size_t len = strcspn(at, ",");
        size_t good = strspn(at, allowed);
        good += strspn(at + good, " \t");
        if (len == 0 || good != len) {
            return psc_error_set(err, PSC_CONFIG,
                                 "names: \"%.*s\" is neither a DNS name nor "
                                 "an address (commas go between them)",
                                 (int)(len < 100 ? len : 100), at);
        }
        at += at[len] == ',' ? len + 1 : len;
    }
    return PSC_OK;
}

/* Their default names would be the same. */
static int check_shared_port(const struct options *o, struct psc_error *err)
{
    return o->shared_port && o->name == NULL
               ? psc_error_set(err, PSC_CONFIG,
                               "shared_port = yes: give this collector a name "
                               "that none of the others has")
               : PSC_OK;
}

/* Whether libpq understands the DSN; nothing is contacted. */
static int check_dsn(const struct options *o, struct psc_error *err)
{
    char *why = NULL;
    int rc = PSC_OK;
    if (o->database.dsn == NULL) {
        return PSC_OK;
    }
    if (o->database.data_dir != NULL) {
        return psc_error_set(err, PSC_CONFIG, "give data or dsn, not both");
    }
    PQconninfoOption *parsed = PQconninfoParse(o->database.dsn, &why);
    if (parsed == NULL) {
        rc = psc_error_set(err, PSC_CONFIG, "dsn: %s",
                           why != NULL ? why : "out of memory");
    }
    PQconninfoFree(parsed);
    PQfreemem(why);
    return rc;
}

/* The default goes with whatever max_connections is. */
static int check_handshakes(const struct options *o, struct psc_error *err)
{
    return o->max_handshakes > o->max_connections &&
                   psc_config_is_given(collector_options, o, "max_handshakes")
               ? psc_error_set(err, PSC_CONFIG,
                               "max_handshakes = %lld: must not be above "
                               "max_connections, which is %lld",
                               (long long)o->max_handshakes,
                               (long long)o->max_connections)
               : PSC_OK;
}

int options_check(const struct options *options, struct psc_error *err)
{
    static const struct {
        const char *name;
        int (*check)(const struct options *o, struct psc_error *err);
    } checks[] = {
        {"log_level", check_log_level},
        {"listen", check_listen},
        {"shared_port", check_shared_port},
        {"metrics", check_metrics},
        {"names", check_names},
        {"dsn", check_dsn},
        {"max_handshakes", check_handshakes},
    };
    int rc = PSC_OK;
    for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
        struct psc_error why = {.msg = ""};
        int more = checks[i].check(options, &why);
        rc = psc_config_judge(collector_options, options, checks[i].name, more,
                              &why, rc, err);
    }
    return rc;
}

static int set_text(char **field, const char *text, struct psc_error *err)
{
    *field = strdup(text);
    return *field != NULL ? PSC_OK
                          : psc_error_set(err, PSC_NOMEM, "out of memory");
}

static int default_pki_dir(struct options *options, struct psc_error *err)
{
    char data[4000];
    char path[4096];
    int rc = PSC_OK;
    if (options->database.data_dir != NULL) {
        (void)snprintf(data, sizeof(data), "%s", options->database.data_dir);
    } else {
        rc = database_default_dir(data, sizeof(data), err);
    }
    if (rc == PSC_OK && psc_path_join(path, sizeof(path), data, "pki") != 0) {
        rc = psc_error_set(err, PSC_LIMIT, "the path of pki_dir is too long");
    }
    return rc == PSC_OK ? set_text(&options->pki_dir, path, err) : rc;
}

int options_resolve(struct options *options, struct psc_error *err)
{
    char host[200] = "localhost";
    char text[512];
    int rc = PSC_OK;
    (void)gethostname(host, sizeof(host) - 1);
    if (options->pki_dir == NULL) {
        rc = default_pki_dir(options, err);
    }
    if (rc == PSC_OK && options->names == NULL) {
        (void)snprintf(text, sizeof(text), "%s,localhost,127.0.0.1,::1", host);
        rc = set_text(&options->names, text, err);
    }
    if (rc == PSC_OK && options->name == NULL) {
        const char *port = strrchr(options->listen, ':');
        if (strcmp(port, ":0") == 0) {
            (void)snprintf(text, sizeof(text), "%s:%ld", host, (long)getpid());
        } else {
            (void)snprintf(text, sizeof(text), "%s%s", host, port);
        }
        rc = set_text(&options->name, text, err);
    }
    return rc;
}
