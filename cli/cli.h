/* What all commands of the program `poolscope` share: what the user asked for
 * globally, what a command is, and how its arguments are read. */
#ifndef PSC_CLI_CLI_H
#define PSC_CLI_CLI_H

#include <stdbool.h>
#include <stdio.h>

#include "common/config.h"
#include "common/error.h"
#include "sql/database.h"

enum cli_exit {
    CLI_OK = 0,
    CLI_FAILURE = 1,
    CLI_USAGE = 2,
};

enum cli_format {
    CLI_TABLE, /* for people */
    CLI_JSON,
    CLI_CSV,
};

/* Options that every command takes. */
struct cli_options {
    struct database_options database;
    bool json;
    bool csv;
    bool help;
};

struct cli {
    struct cli_options options;
    enum cli_format format;
    bool tty;   /* standard output is a terminal */
    bool color; /* colours may be used: a terminal and no NO_COLOR */
    bool utf8;  /* the locale writes UTF-8 */
    int width;  /* columns to cut tables to; 0: do not cut */
    int height; /* lines of the terminal */
};

#define CLI_WORDS_MAX 8

/* The arguments of a command that are no options. */
struct cli_words {
    const char *v[CLI_WORDS_MAX];
    int n;
};

/* Which of the options of every command a command's --help shows. */
enum cli_shown {
    CLI_SHOWN_ALL,
    CLI_SHOWN_DATABASE, /* it prints neither JSON nor CSV */
    CLI_SHOWN_JSON,     /* it asks no database and prints no CSV */
    CLI_SHOWN_NONE,     /* its own table has those that it takes */
};

struct command {
    const char *name;
    const char *synopsis; /* its arguments: "HOST POOL TAG [--since TIME]" */
    const char *summary;  /* a line for the list of commands */
    const char *text;     /* paragraphs of its --help; may be NULL */
    const struct psc_option *options; /* may be NULL */
    const char *examples;             /* lines of its --help; may be NULL */
    /* argv[0] is the command's name. Returns enum cli_exit. */
    int (*run)(struct cli *cli, const struct command *command, int argc,
               char **argv);
    enum cli_shown shown;
};

/* Read the arguments: options into @conf (defaults first) and into
 * @cli->options, the rest into @words (between @min_words and @max_words).
 * Returns -1 to go on; else the exit code, with everything said and @conf
 * freed: --help was asked for, or an error was told. On -1 the caller frees
 * @conf with psc_config_fini(). @conf may be NULL if the command has no
 * options. */
int cli_args(struct cli *cli, const struct command *command, void *conf,
             int argc, char **argv, int min_words, int max_words,
             struct cli_words *words);

/* "poolscope: <message>" on standard error. Return the exit code. */
int cli_fail(const struct psc_error *err);
int cli_failf(const char *fmt, ...) PSC_PRINTF(1, 2);

/* The same for wrong usage, with a hint to `poolscope COMMAND --help`. */
int cli_usagef(const struct command *command, const char *fmt, ...)
    PSC_PRINTF(2, 3);

/* Refuse @words, which are none of the command's: names the first one unless
 * the synopsis has it. Returns the exit code. */
int cli_no_verb(const struct command *command, const struct cli_words *words);

/* Refuse --json and --csv where @what ("token revoke") prints neither.
 * Returns -1 to go on, else the exit code. */
int cli_no_format(const struct cli *cli, const struct command *command,
                  const char *what);

/* The manual page of a command. */
void cli_help(const struct command *command, FILE *out);

/* Print @lead as it is and then the words of @text, wrapped at @width columns
 * (0: never) with @hang blanks before further lines, and a line's end. Line
 * breaks in @text stay. */
void cli_print_wrapped(FILE *out, const char *lead, const char *text, int hang,
                       int width);

/* Look at terminal, locale and environment. */
void cli_init(struct cli *cli);
void cli_fini(struct cli *cli);

/* Read one global option at argv[*i], see psc_config_arg(). */
PSC_MUST_CHECK int cli_global_arg(struct cli *cli, int argc, char **argv,
                                  int *i, int *known, struct psc_error *err);

/* The global options' part of --help. */
void cli_global_help(FILE *out);

#endif
