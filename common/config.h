/* Configuration: one static table of options drives parsing of the INI file,
 * the command line, --help and --check. Values land in a plain struct that
 * the program owns; parse into a fresh one, validate, then swap. */
#ifndef PSC_COMMON_CONFIG_H
#define PSC_COMMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/error.h"

enum psc_option_type {
    PSC_OPT_STRING,   /* char *, owned by the struct */
    PSC_OPT_BOOL,     /* bool: yes/no, true/false, on/off, 1/0 */
    PSC_OPT_INT,      /* int64_t */
    PSC_OPT_SIZE,     /* int64_t bytes: 64M, 1G, 512K, 4096 */
    PSC_OPT_DURATION, /* int64_t microseconds: 200ms, 10s, 5m, 1h, 2d */
};

struct psc_option {
    const char *section; /* of the INI file */
    const char *name;    /* key in the file; "--name" with '-' for '_' */
    enum psc_option_type type;
    size_t offset;    /* of the field in the program's struct */
    const char *def;  /* default as text; NULL: none (NULL or 0) */
    int64_t min, max; /* inclusive bounds of numbers; 0, 0: none */
    const char *arg;  /* name of the value in --help */
    const char *help; /* one or two lines for --help */
};

/* Where values came from, as part of a program's struct: when the offset of the
 * table's end is not 0, it is this one's. */
#define PSC_CONFIG_OPTIONS_MAX 64
struct psc_config_places {
    char file[256];
    /* By the table: line of the file, -1: the command line, 0: not given. */
    int line[PSC_CONFIG_OPTIONS_MAX];
    /* If set before reading: all errors are looked for (within reason), and
     * each but the last, which is returned, goes here. */
    void (*on_error)(const char *message);
};

/* Fill @conf with the defaults of @options (terminated by a NULL name). */
PSC_MUST_CHECK int psc_config_defaults(const struct psc_option *options,
                                       void *conf, struct psc_error *err);

/* Free the strings in @conf. */
void psc_config_fini(const struct psc_option *options, void *conf);

/* Set one option from text. @where goes into the error message, such as
 * "agent.conf:12" or "--interval". */
PSC_MUST_CHECK int psc_config_set(const struct psc_option *options, void *conf,
                                  const char *section, const char *name,
                                  const char *value, const char *where,
                                  struct psc_error *err);

/* Read an INI file (inih). Unknown sections and keys are errors that name
 * file and line, and the nearest known key; so is what is given twice. */
PSC_MUST_CHECK int psc_config_load(const struct psc_option *options, void *conf,
                                   const char *path, struct psc_error *err);

/* Parse INI text from memory; @name stands for the file in messages. */
PSC_MUST_CHECK int psc_config_parse(const struct psc_option *options,
                                    void *conf, const char *text,
                                    const char *name, struct psc_error *err);

/* Whether option @name was given, and not left at its default. Needs places. */
bool psc_config_is_given(const struct psc_option *options, const void *conf,
                         const char *name);

/* One of several checks of what was read has ended with @more, explained in
 * @why; @name is the option concerned, @rc and @err are of the checks before.
 * An error gets file and line, then goes to @err (an older one to on_error, or
 * it stays the only one). Returns the new @rc. Needs places. */
PSC_MUST_CHECK int psc_config_judge(const struct psc_option *options,
                                    const void *conf, const char *name,
                                    int more, struct psc_error *why, int rc,
                                    struct psc_error *err);

/* If argv[*i] is "--name VALUE" or "--name=VALUE" of an option, set it and
 * move *@i past it; *@known says whether it was one. A bool needs no value. */
PSC_MUST_CHECK int psc_config_arg(const struct psc_option *options, void *conf,
                                  int argc, char **argv, int *i, int *known,
                                  struct psc_error *err);

/* The options part of --help: name, value, text, default. */
void psc_config_help(const struct psc_option *options, FILE *out);

/* All options with their present values as a commented INI file. */
void psc_config_print(const struct psc_option *options, const void *conf,
                      FILE *out);

/* Parse "10s", "200ms" … into microseconds; and the inverse, short. */
PSC_MUST_CHECK int psc_duration_parse(const char *text, int64_t *us);
PSC_MUST_CHECK int psc_size_parse(const char *text, int64_t *bytes);

#endif
