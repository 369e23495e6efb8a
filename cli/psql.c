/* `poolscope psql`: psql on the database that all the others use. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"

struct psql_conf {
    struct database_options database;
    char *role;
    bool help;
};

static const struct psc_option psql_options[] = {
    DATABASE_OPTIONS("psql", struct psql_conf, database),
    {"psql", "role", PSC_OPT_STRING, offsetof(struct psql_conf, role), NULL, 0,
     0, "ROLE",
     "of the embedded database: reader, writer or owner [reader];\n"
     "a DSN has its own user"},
    {"psql", "help", PSC_OPT_BOOL, offsetof(struct psql_conf, help), NULL, 0, 0,
     NULL, "print this"},
    {.name = NULL}};

static bool find_role(const char *name, enum database_role *role)
{
    static const char *const names[] = {
        [DATABASE_READER] = "reader",
        [DATABASE_WRITER] = "writer",
        [DATABASE_OWNER] = "owner",
    };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(names[i], name) == 0) {
            *role = (enum database_role)i;
            return true;
        }
    }
    return false;
}

/* Let unqualified names mean the contract's views. */
static void set_search_path(void)
{
    if (!getenv("PGOPTIONS")) {
        setenv("PGOPTIONS", "-c search_path=poolscope,public", 1);
    }
    if (!getenv("PGAPPNAME")) {
        setenv("PGAPPNAME", "poolscope psql", 1);
    }
}

/* Become psql. Returns only if that fails. */
static int exec_psql(struct cli *cli, const struct psql_conf *conf,
                     const struct command *command, char **rest)
{
    enum database_role role;
    struct psc_error err;
    char *conninfo;

    if (!find_role(conf->role ? conf->role : "reader", &role)) {
        return cli_usagef(command, "--role: reader, writer or owner");
    }
    if (database_options_resolve(&cli->options.database, &err) != 0) {
        return cli_usagef(command, "%s", err.msg);
    }
    if (conf->role && cli->options.database.dsn) {
        return cli_usagef(command,
                          "--role is of the embedded database: with a DSN its "
                          "own user is used");
    }
    cli->options.database.must_exist = true;
    if (database_conninfo(&cli->options.database, role, &conninfo, &err) != 0) {
        return cli_fail(&err);
    }
    set_search_path();
    rest[0] = "psql";
    rest[1] = "-d";
    rest[2] = conninfo;
    execvp("psql", rest);
    int error = errno;
    free(conninfo);
    return cli_failf(
        "psql: %s%s", strerror(error),
        error == ENOENT ? " (Debian has it in postgresql-client-15)" : "");
}

/* What the command line gave goes where all commands look for it. */
static void hand_over(struct cli *cli, struct psql_conf *conf)
{
    if (conf->database.dsn || conf->database.data_dir) {
        database_options_fini(&cli->options.database);
        cli->options.database = conf->database;
        conf->database = (struct database_options){0};
    }
}

/* Take our options; all else is psql's, after three places for ours. */
static int read_options(struct psql_conf *conf, const struct command *command,
                        int argc, char **argv, char **rest)
{
    struct psc_error err;
    int n = 3;

    if (psc_config_defaults(psql_options, conf, &err) != 0) {
        return cli_fail(&err);
    }
    for (int i = 1; i < argc;) {
        int known = 0;
        if (psc_config_arg(psql_options, conf, argc, argv, &i, &known, &err) !=
            0) {
            return cli_usagef(command, "%s", err.msg);
        }
        if (!known) {
            rest[n++] = argv[i++];
        }
    }
    rest[n] = NULL;
    return -1;
}

static int psql_run(struct cli *cli, const struct command *command, int argc,
                    char **argv)
{
    struct psql_conf conf = {0};
    char **rest = calloc((size_t)argc + 4, sizeof *rest);

    if (!rest) {
        return cli_failf("out of memory");
    }
    int code = read_options(&conf, command, argc, argv, rest);
    if (code < 0 && conf.help) {
        cli_help(command, stdout);
        code = CLI_OK;
    } else if (code < 0) {
        hand_over(cli, &conf);
        code = exec_psql(cli, &conf, command, rest);
    }
    psc_config_fini(psql_options, &conf);
    free(rest);
    return code;
}

const struct command command_psql = {
    "psql",
    "[PSQL ARGUMENT]...",
    "open psql on the database",
    "Starts psql with the right connection, as a role that may only read "
    "unless "
    "--role says otherwise, with the views of schema poolscope in the search "
    "path. All other arguments are psql's.",
    psql_options,
    "  poolscope psql\n"
    "  poolscope psql -c 'SELECT host, status FROM host'\n",
    psql_run,
    CLI_SHOWN_NONE};
