/* What all commands share: arguments, errors, help. See cli.h. */
#include "cli/cli.h"

#include <langinfo.h>
#include <limits.h>
#include <locale.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/listing.h"
#include "common/log.h"

#define WRAP_COLUMNS 78
#define MESSAGE_MAX  2048
#define USAGE_MAX    256
/* Longer words are taken for so long. */
#define WORD_MAX_BYTES 512

static const struct psc_option global_options[] = {
    DATABASE_OPTIONS("poolscope", struct cli_options, database),
    {"poolscope", "json", PSC_OPT_BOOL, offsetof(struct cli_options, json),
     NULL, 0, 0, NULL, "print JSON for scripts"},
    {"poolscope", "csv", PSC_OPT_BOOL, offsetof(struct cli_options, csv), NULL,
     0, 0, NULL, "print CSV with a header line for scripts"},
    {"poolscope", "help", PSC_OPT_BOOL, offsetof(struct cli_options, help),
     NULL, 0, 0, NULL, "print this"},
    {.name = NULL},
};

static int env_int(const char *name)
{
    const char *text = getenv(name);
    long value = text ? strtol(text, NULL, 10) : 0;

    return value > 0 && value < 10000 ? (int)value : 0;
}

void cli_init(struct cli *cli)
{
    struct winsize size;
    const char *no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");

    memset(cli, 0, sizeof *cli);
    setlocale(LC_CTYPE, "");
    cli->utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    cli->tty = isatty(STDOUT_FILENO) == 1;
    cli->color = cli->tty && (!no_color || !*no_color) &&
                 (!term || strcmp(term, "dumb") != 0);
    if (cli->tty) {
        bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0;
        cli->width = known && size.ws_col > 0 ? size.ws_col : 80;
        cli->height = known && size.ws_row > 0 ? size.ws_row : 24;
    }
    if (env_int("COLUMNS") > 0 && (cli->tty || cli->width == 0)) {
        cli->width = env_int("COLUMNS");
    }
    psc_log_init("poolscope",
                 isatty(STDERR_FILENO) == 1 ? PSC_LOG_INFO : PSC_LOG_WARN);
    struct psc_error err;
    if (psc_config_defaults(global_options, &cli->options, &err) != 0) {
        abort(); /* the table above is wrong, or no memory at the start */
    }
}

void cli_fini(struct cli *cli)
{
    psc_config_fini(global_options, &cli->options);
}

int cli_global_arg(struct cli *cli, int argc, char **argv, int *i, int *known,
                   struct psc_error *err)
{
    int rc = psc_config_arg(global_options, &cli->options, argc, argv, i, known,
                            err);
    cli->format = cli->options.json  ? CLI_JSON
                  : cli->options.csv ? CLI_CSV
                                     : CLI_TABLE;
    return rc;
}

void cli_global_help(FILE *out)
{
    psc_config_help(global_options, out);
}

int cli_fail(const struct psc_error *err)
{
    fprintf(stderr, "poolscope: %s\n", err->msg);
    return CLI_FAILURE;
}

int cli_failf(const char *fmt, ...)
{
    char text[MESSAGE_MAX];

    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    fprintf(stderr, "poolscope: %s\n", text);
    return CLI_FAILURE;
}

int cli_usagef(const struct command *command, const char *fmt, ...)
{
    char text[MESSAGE_MAX];

    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    fprintf(stderr, "poolscope: %s\nTry 'poolscope %s%s--help'.\n", text,
            command ? command->name : "", command ? " " : "");
    return CLI_USAGE;
}

int cli_no_format(const struct cli *cli, const struct command *command,
                  const char *what)
{
    if (cli->format == CLI_TABLE) {
        return -1;
    }
    return cli_usagef(command, "%s: '%s' prints no %s",
                      cli->format == CLI_JSON ? "--json" : "--csv", what,
                      cli->format == CLI_JSON ? "JSON" : "CSV");
}

void cli_print_wrapped(FILE *out, const char *lead, const char *text, int hang,
                       int width)
{
    int column = listing_text_width(lead);
    bool first = true; /* word of its line */

    width = width > 0 ? width : INT_MAX;
    fputs(lead, out);
    while (*text) {
        size_t len = strcspn(text, " \n");
        char word[WORD_MAX_BYTES];
        snprintf(word, sizeof word, "%.*s", (int)len, text);
        int taken = listing_text_width(word);
        if (!first && len > 0 && taken >= width - column) {
            fprintf(out, "\n%*s", hang, "");
            column = hang;
            first = true;
        }
        if (len > 0) {
            fputs(first ? "" : " ", out);
            fwrite(text, 1, len, out);
            column += taken + (first ? 0 : 1);
            first = false;
        }
        text += len;
        if (*text == '\n' && text[1] != '\0') {
            fprintf(out, "\n%*s", text[1] == '\n' ? 0 : hang, "");
            column = hang;
            first = true;
        }
        text += *text ? 1 : 0;
    }
    fputc('\n', out);
}

/* "poolscope token create | list" */
static const char *usage_of(const struct command *command, char out[USAGE_MAX])
{
    snprintf(out, USAGE_MAX, "poolscope %s%s%s", command->name,
             *command->synopsis ? " " : "", command->synopsis);
    return out;
}

static bool is_shown(enum cli_shown shown, const char *option)
{
    bool database = strcmp(option, "data") == 0 || strcmp(option, "dsn") == 0;

    if (strcmp(option, "help") == 0 || shown == CLI_SHOWN_ALL) {
        return true;
    }
    return shown == CLI_SHOWN_DATABASE ? database : strcmp(option, "json") == 0;
}

static void print_shared_options(enum cli_shown shown, FILE *out)
{
    struct psc_option options[sizeof global_options / sizeof *global_options];
    size_t n = 0;

    if (shown == CLI_SHOWN_NONE) {
        return;
    }
    for (size_t i = 0; global_options[i].name; i++) {
        if (is_shown(shown, global_options[i].name)) {
            options[n++] = global_options[i];
        }
    }
    options[n] = (struct psc_option){.name = NULL};
    fputs(shown == CLI_SHOWN_ALL ? "\nOptions of every command:\n"
                                 : "\nGeneral options:\n",
          out);
    psc_config_help(options, out);
}

void cli_help(const struct command *command, FILE *out)
{
    char usage[USAGE_MAX];

    cli_print_wrapped(out, "Usage: ", usage_of(command, usage), 7,
                      WRAP_COLUMNS);
    fputc('\n', out);
    cli_print_wrapped(out, "", command->summary, 0, WRAP_COLUMNS);
    if (command->text) {
        fputc('\n', out);
        cli_print_wrapped(out, "", command->text, 0, WRAP_COLUMNS);
    }
    if (command->options) {
        fputs("\nOptions:\n", out);
        psc_config_help(command->options, out);
    }
    print_shared_options(command->shown, out);
    if (command->examples) {
        fprintf(out, "\nExamples:\n%s", command->examples);
    }
    fputs("\nExit status: 0 done, 1 failed, 2 wrong usage.\n", out);
}

/* Read argv[*i], of whatever sort. Returns 0 or an error. */
static int read_arg(struct cli *cli, const struct command *command, void *conf,
                    int argc, char **argv, int *i, struct cli_words *words,
                    struct psc_error *err)
{
    const char *arg = argv[*i];
    int known = 0;

    if (arg[0] != '-' || arg[1] == '\0') {
        if (words->n == CLI_WORDS_MAX) {
            return psc_error_set(err, PSC_CONFIG, "too many arguments");
        }
        words->v[words->n++] = arg;
        ++*i;
        return 0;
    }
    if (strcmp(arg, "-h") == 0) {
        cli->options.help = true;
        ++*i;
        return 0;
    }
    if (command->options) {
        int rc =
            psc_config_arg(command->options, conf, argc, argv, i, &known, err);
        if (rc != 0 || known) {
            return rc;
        }
    }
    int rc = cli_global_arg(cli, argc, argv, i, &known, err);
    if (rc == 0 && !known) {
        return psc_error_set(err, PSC_CONFIG, "unknown option '%s'", arg);
    }
    return rc;
}

static int read_args(struct cli *cli, const struct command *command, void *conf,
                     int argc, char **argv, struct cli_words *words,
                     struct psc_error *err)
{
    int i = 1;

    words->n = 0;
    while (i < argc) {
        if (strcmp(argv[i], "--") == 0) {
            for (i++; i < argc && words->n < CLI_WORDS_MAX; i++) {
                words->v[words->n++] = argv[i];
            }
            return i < argc
                       ? psc_error_set(err, PSC_CONFIG, "too many arguments")
                       : 0;
        }
        int rc = read_arg(cli, command, conf, argc, argv, &i, words, err);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* The word after @n others is missing: the synopsis has its name. */
static int missing_word(const struct command *command, int n)
{
    char usage[USAGE_MAX];
    const char *p = command->synopsis;

    for (; n > 0; n--) {
        p += strcspn(p, " ");
        p += *p == ' ';
    }
    if (*p < 'A' || *p > 'Z') {
        return cli_usagef(command, "say what to do: %s",
                          usage_of(command, usage));
    }
    return cli_usagef(command, "%.*s is missing: %s", (int)strcspn(p, " "), p,
                      usage_of(command, usage));
}

static int extra_word(const struct command *command, const char *word)
{
    char usage[USAGE_MAX];

    return cli_usagef(command, "'%s' is too much: %s", word,
                      usage_of(command, usage));
}

int cli_no_verb(const struct command *command, const struct cli_words *words)
{
    char usage[USAGE_MAX];
    const char *verb = words->v[0];
    size_t len = strlen(verb);

    for (const char *p = command->synopsis; (p = strstr(p, verb)); p++) {
        bool starts = p == command->synopsis || p[-1] == ' ';
        if (len > 0 && starts && (p[len] == ' ' || p[len] == '\0')) {
            return cli_usagef(command, "wrong arguments of '%s': %s", verb,
                              usage_of(command, usage));
        }
    }
    return cli_usagef(command, "no '%s' of '%s': %s", verb, command->name,
                      usage_of(command, usage));
}

int cli_args(struct cli *cli, const struct command *command, void *conf,
             int argc, char **argv, int min_words, int max_words,
             struct cli_words *words)
{
    struct psc_error err;
    int code;

    if (command->options &&
        psc_config_defaults(command->options, conf, &err) != 0) {
        return cli_fail(&err);
    }
    if (read_args(cli, command, conf, argc, argv, words, &err) != 0) {
        code = cli_usagef(command, "%s", err.msg);
    } else if (cli->options.help) {
        cli_help(command, stdout);
        code = CLI_OK;
    } else if (cli->options.json && cli->options.csv) {
        code = cli_usagef(command, "--json or --csv, not both");
    } else if (words->n < min_words) {
        code = missing_word(command, words->n);
    } else if (words->n > max_words) {
        code = extra_word(command, words->v[max_words]);
    } else {
        return -1;
    }
    if (command->options) {
        psc_config_fini(command->options, conf);
    }
    return code;
}
