/* poolscope: questions to the fleet's database, a live view of this machine,
 * administration, and a leak to test with. Each command is a row of the table
 * below; `poolscope help COMMAND` tells about it. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/commands.h"

static const struct command command_help;

static const struct command *const commands[] = {
    &command_status,   &command_hosts,    &command_top,
    &command_history,  &command_leaks,    &command_leak,
    &command_events,   &command_counters, &command_drivers,
    &command_psql,     &command_fsck,     &command_retention,
    &command_capacity, &command_token,    &command_host,
    &command_migrate,  &command_upgrade,  &command_database,
    &command_leaktest, &command_help,     NULL,
};

static const struct command *find(const char *name)
{
    for (size_t i = 0; commands[i]; i++) {
        if (strcmp(commands[i]->name, name) == 0) {
            return commands[i];
        }
    }
    return NULL;
}

static void overview(FILE *out)
{
    fputs("Usage: poolscope [OPTION]... COMMAND [ARGUMENT]...\n\n"
          "Finds what leaks kernel memory, on this machine and across a "
          "fleet.\n\nCommands:\n",
          out);
    for (size_t i = 0; commands[i]; i++) {
        fprintf(out, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    }
    fputs("\nOptions of every command:\n", out);
    cli_global_help(out);
    fputs("  --version\n      print the version\n\n"
          "'poolscope COMMAND --help' tells about a command.\n"
          "Exit status: 0 done, 1 failed, 2 wrong usage.\n",
          out);
}

static int help_run(struct cli *cli, const struct command *command, int argc,
                    char **argv)
{
    struct cli_words words;
    int code = cli_args(cli, command, NULL, argc, argv, 0, 1, &words);

    if (code >= 0) {
        return code;
    }
    if (words.n == 0) {
        overview(stdout);
        return CLI_OK;
    }
    const struct command *about = find(words.v[0]);
    if (!about) {
        return cli_usagef(NULL, "no command '%s'", words.v[0]);
    }
    cli_help(about, stdout);
    return CLI_OK;
}

static const struct command command_help = {
    "help",   "[COMMAND]",  "tell about a command, or list them",
    NULL,     NULL,         NULL,
    help_run, CLI_SHOWN_ALL};

/* Take the options before the command. Returns -1 to go on at argv[*i]. */
static int leading_options(struct cli *cli, int argc, char **argv, int *i)
{
    struct psc_error err;

    while (*i < argc && argv[*i][0] == '-') {
        int known = 0;
        if (strcmp(argv[*i], "--version") == 0) {
            puts("poolscope " PSC_VERSION);
            return CLI_OK;
        }
        if (strcmp(argv[*i], "-h") == 0) {
            cli->options.help = true;
            break;
        }
        int rc = cli_global_arg(cli, argc, argv, i, &known, &err);
        if (rc != 0) {
            return cli_usagef(NULL, "%s", err.msg);
        }
        if (!known) {
            return cli_usagef(NULL, "unknown option '%s'", argv[*i]);
        }
    }
    if (cli->options.help) {
        overview(stdout);
        return CLI_OK;
    }
    if (*i == argc) {
        overview(stderr);
        return CLI_USAGE;
    }
    return -1;
}

static int run(struct cli *cli, int argc, char **argv)
{
    int i = 1;
    int code = leading_options(cli, argc, argv, &i);

    if (code >= 0) {
        return code;
    }
    const struct command *command = find(argv[i]);
    if (!command) {
        return cli_usagef(NULL, "no command '%s'", argv[i]);
    }
    return command->run(cli, command, argc - i, argv + i);
}

int main(int argc, char **argv)
{
    struct cli cli;

    cli_init(&cli);
    int code = run(&cli, argc, argv);
    cli_fini(&cli);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        return code == CLI_OK ? CLI_FAILURE : code;
    }
    return code;
}
