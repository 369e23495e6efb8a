/* What the agent can be told: the table of the section [agent] of its
 * configuration file and of its command line, and what follows from it. */
#ifndef PSC_AGENT_OPTIONS_H
#define PSC_AGENT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/config.h"
#include "common/error.h"

#define OPTIONS_DEFAULT_PORT   "7443"
#define OPTIONS_MAX_COLLECTORS 16u
#define OPTIONS_LABELS_MAX     64u /* pairs, as the wire allows */

struct options {
    char *collector; /* host[:port], … in the order of preference */
    char *state_dir;
    int64_t interval_us;         /* between tag snapshots */
    int64_t counter_interval_us; /* between counter samples */
    int64_t driver_interval_us;  /* between inventories */
    bool jitter;                 /* spread the fleet's ticks */
    int64_t spool_max_bytes;
    int64_t spool_sync_us;
    char *token;      /* for enrolment, or NULL */
    char *token_file; /* a file with it, or NULL */
    char *role;
    char *region;
    char *labels; /* name=value, … */
    char *host;   /* instead of the system's name, or NULL */
    char *log_level;
    char *root;            /* a recorded tree instead of this host's; "" */
    int64_t top_processes; /* how many to report by each order */
    struct psc_config_places places;
};

/* Terminated by a NULL name. */
extern const struct psc_option agent_options[];

/* One collector of the list. */
struct endpoint {
    char host[256];
    char port[6];
};

/* Split "host:port, [address]:port, host" into @out of @cap. Returns
 * PSC_CONFIG and says what is wrong. */
PSC_MUST_CHECK int agent_options_endpoints(const char *text,
                                           struct endpoint *out, unsigned cap,
                                           unsigned *count,
                                           struct psc_error *err);

/* Append "name=value, …" to @out as the length-prefixed strings that the hello
 * carries. */
PSC_MUST_CHECK int agent_options_labels(const char *text, struct psc_buf *out,
                                        struct psc_error *err);

/* Check what the table alone cannot. @need_collector: a running agent must
 * have one. */
PSC_MUST_CHECK int agent_options_check(const struct options *o,
                                       bool need_collector,
                                       struct psc_error *err);

/* For --check: whether the files are there that a first start needs. */
PSC_MUST_CHECK int agent_options_check_files(const struct options *o,
                                             struct psc_error *err);

/* The enrolment token, from the option or its file, appended to @out with
 * blanks around it removed; empty if none is configured. */
PSC_MUST_CHECK int agent_options_token(const struct options *o,
                                       struct psc_buf *out,
                                       struct psc_error *err);

/* What the command line asks for. */
enum command {
    COMMAND_RUN,
    COMMAND_ONCE,  /* --once: take one sample of each source, print it */
    COMMAND_CHECK, /* --check */
    COMMAND_ENROL, /* --enrol TOKEN */
    COMMAND_HELP,
    COMMAND_VERSION,
};

struct command_line {
    enum command command;
    const char *config; /* --config FILE, or NULL; points into argv */
    bool json;          /* --print=json */
    const char *enrol;  /* the token of --enrol; points into argv */
};

/* Read the configuration file that @argv names, then the options of @argv
 * over it, into @conf (which holds the defaults). Returns PSC_CONFIG for bad
 * usage. The same call re-reads all of it. */
PSC_MUST_CHECK int agent_options_read(int argc, char **argv,
                                      struct options *conf,
                                      struct command_line *line,
                                      struct psc_error *err);

#endif
