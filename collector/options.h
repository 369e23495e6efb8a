/* The collector's options and its command line. */
#ifndef PSC_COLLECTOR_OPTIONS_H
#define PSC_COLLECTOR_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/config.h"
#include "common/error.h"
#include "sql/database.h"

struct options {
    struct database_options database;
    char *listen;
    char *pki_dir;
    char *names;
    char *name;
    char *metrics;
    char *log_level;
    char *port_file;
    int64_t commit_interval_us;
    int64_t max_connections;
    int64_t max_handshakes;
    int64_t max_pending_bytes;
    bool migrate;
    bool replace_ca;
    bool worker;
    bool shared_port;
    struct psc_config_places places;
};

/* Section [collector]; ends with a NULL name. */
extern const struct psc_option collector_options[];

enum command {
    COMMAND_RUN,
    COMMAND_CHECK,
    COMMAND_VERSION,
    COMMAND_HELP,
};

struct command_line {
    enum command command;
    const char *config; /* --config; NULL: none */
};

/* Parse the configuration file that argv names, then argv, which wins.
 * @options holds the defaults. */
PSC_MUST_CHECK int options_read(int argc, char **argv, struct options *options,
                                struct command_line *line,
                                struct psc_error *err);

/* Whether all values make sense, without touching anything. */
PSC_MUST_CHECK int options_check(const struct options *options,
                                 struct psc_error *err);

/* Fill what the options left open: pki_dir, names and name. */
PSC_MUST_CHECK int options_resolve(struct options *options,
                                   struct psc_error *err);

#endif
