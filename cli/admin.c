/* Administration: hosts, the schema, the embedded database. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/query.h"
#include "sql/embedded.h"
#include "sql/migrate.h"
#include "sql/module.h"

enum { WATCH_S = 2 };

/* --- host --- */

/* Run an api function that says whether there is such a host. */
static int change_host(struct cli *cli, const char *sql, int n_params,
                       const char *const *params, const char *done)
{
    struct psc_error err;
    PGresult *r;
    PGconn *conn;
    int code = query_connect(cli, DATABASE_WRITER, &conn);

    if (code != CLI_OK) {
        return code;
    }
    if (query_exec(conn, sql, n_params, params, &r, &err) != 0) {
        code = cli_fail(&err);
    } else {
        bool found = strcmp(query_value(r, 0, "found"), "t") == 0;
        PQclear(r);
        if (found) {
            printf("%s: %s\n", params[0], done);
        } else {
            code = cli_failf("no host '%s': 'poolscope hosts' lists them",
                             params[0]);
        }
    }
    PQfinish(conn);
    return code;
}

/* "role=db" … as a JSON object; a value may be empty. NULL if a word has no
 * "=" or memory is short. */
static char *labels_json(const struct cli_words *words, int from)
{
    json_t *labels = json_object();
    char *text = NULL;

    for (int i = from; i < words->n; i++) {
        const char *equals = strchr(words->v[i], '=');
        char key[256];
        size_t len = equals ? (size_t)(equals - words->v[i]) : 0;
        if (len == 0 || len >= sizeof key) {
            json_decref(labels);
            return NULL;
        }
        memcpy(key, words->v[i], len);
        key[len] = '\0';
        if (json_object_set_new(labels, key, json_string(equals + 1)) != 0) {
            json_decref(labels);
            return NULL;
        }
    }
    text = json_dumps(labels, JSON_COMPACT);
    json_decref(labels);
    return text;
}

static int label_host(struct cli *cli, const struct command *command,
                      const struct cli_words *words)
{
    char *labels = labels_json(words, 2);

    if (!labels) {
        return cli_usagef(command, "labels are written NAME=VALUE");
    }
    const char *params[] = {words->v[1], labels};
    int code = change_host(
        cli, "SELECT poolscope_api.host_label($1, $2::jsonb) AS found", 2,
        params, "labels set");
    free(labels);
    return code;
}

static int host_run(struct cli *cli, const struct command *command, int argc,
                    char **argv)
{
    static const struct {
        const char *verb;
        const char *sql;
        const char *done;
    } verbs[] = {
        {"disable", "SELECT poolscope_api.host_disable($1) AS found",
         "disabled; its connection ends within seconds"},
        {"enable", "SELECT poolscope_api.host_enable($1) AS found", "enabled"},
        {"reenrol", "SELECT poolscope_api.host_reenrol($1) AS found",
         "may enrol anew, once, within 24 hours"}};
    struct cli_words words;
    int code =
        cli_args(cli, command, NULL, argc, argv, 1, CLI_WORDS_MAX, &words);

    if (code >= 0) {
        return code;
    }
    if (strcmp(words.v[0], "list") == 0) {
        char *list[] = {argv[0], (char *)(uintptr_t)words.v[1]};
        return command_hosts.run(cli, &command_hosts, words.n > 1 ? 2 : 1,
                                 list);
    }
    code = cli_no_format(cli, command, words.v[0]);
    if (code >= 0) {
        return code;
    }
    if (strcmp(words.v[0], "label") == 0 && words.n > 1) {
        return label_host(cli, command, &words);
    }
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (strcmp(words.v[0], verbs[i].verb) == 0 && words.n == 2) {
            return change_host(cli, verbs[i].sql, 1, &words.v[1],
                               verbs[i].done);
        }
    }
    return cli_no_verb(command, &words);
}

const struct command command_host = {
    "host",
    "list [PATTERN] | disable HOST | enable HOST | reenrol HOST | "
    "label HOST [NAME=VALUE]...",
    "list, disable and enable hosts",
    "disable cuts the host's connection within seconds and refuses it until "
    "enable. reenrol lets a host that has lost its key enrol anew under its "
    "name. label replaces the labels that administrators gave it (role and "
    "region too), which override what the agent says.",
    NULL,
    "  poolscope host disable db-1\n"
    "  poolscope host label db-1 role=database region=eu\n",
    host_run,
    CLI_SHOWN_ALL};

/* --- migrate --- */

/* Whether there is no embedded database yet where it would be. */
static bool is_new(const struct database_options *o)
{
    struct embedded_status status;
    struct psc_error err;

    return !o->dsn && embedded_status(o->data_dir, &status, &err) == 0 &&
           !status.exists;
}

/* Bring the schema up to date, and say so. */
static int migrate_now(struct cli *cli)
{
    struct psc_error err;
    char *conninfo = NULL;
    int applied = 0;
    bool made = false;
    char place[256];
    int rc = database_options_resolve(&cli->options.database, &err);
    if (rc == 0) {
        made = is_new(&cli->options.database);
        database_describe(&cli->options.database, place, sizeof place);
        rc = database_conninfo(&cli->options.database, DATABASE_OWNER,
                               &conninfo, &err);
    }
    if (rc == 0) {
        rc = migrate_run(conninfo, &applied, &err);
    }
    free(conninfo);
    if (rc == 0) {
        module_use(&cli->options.database);
    }
    if (rc != 0) {
        cli_fail(&err);
        return rc == PSC_CONFIG ? CLI_USAGE : CLI_FAILURE;
    }
    printf("%s%s: schema version %d, %d migration%s applied\n",
           made ? "made a database in " : "", place, migrate_newest(), applied,
           applied == 1 ? "" : "s");
    return CLI_OK;
}

static int migrate_command(struct cli *cli, const struct command *command,
                           int argc, char **argv)
{
    struct cli_words words;
    int code = cli_args(cli, command, NULL, argc, argv, 0, 0, &words);

    if (code >= 0) {
        return code;
    }
    code = cli_no_format(cli, command, "migrate");
    return code >= 0 ? code : migrate_now(cli);
}

const struct command command_migrate = {
    "migrate",
    "",
    "make the database, or bring its schema up to date",
    "Runs the migrations that are missing, each in a transaction of its own; "
    "any number of programs may do so at once. The collector does the same "
    "when it starts.",
    NULL,
    "  poolscope migrate --dsn 'host=db.example dbname=poolscope'\n",
    migrate_command,
    CLI_SHOWN_DATABASE};

/* --- upgrade --- */

struct upgrade_conf {
    bool wait;
};

static const struct psc_option upgrade_options[] = {
    {"upgrade", "wait", PSC_OPT_BOOL, offsetof(struct upgrade_conf, wait), NULL,
     0, 0, NULL, "until all that an earlier version stored is converted"},
    {.name = NULL}};

/* Tables of hosts that wait to be converted; -1 with @err set. */
static long long left_over(PGconn *conn, struct psc_error *err)
{
    PGresult *r;

    if (query_exec(conn, "SELECT left_over FROM poolscope_api.convert_next()",
                   0, NULL, &r, err) != 0) {
        return -1;
    }
    long long left = strtoll(query_value(r, 0, "left_over"), NULL, 10);
    PQclear(r);
    return left;
}

/* The collector converts; here it is told how far it is. */
static int watch_conversion(PGconn *conn, bool wait)
{
    struct psc_error err;
    long long first = left_over(conn, &err);
    long long left = first;

    while (left > 0 && wait) {
        if (isatty(STDERR_FILENO)) {
            fprintf(stderr, "\r\033[Kconverted %lld of %lld tables of hosts",
                    first - left, first);
        }
        (void)sleep(WATCH_S);
        left = left_over(conn, &err);
    }
    if (isatty(STDERR_FILENO) && wait && first > 0) {
        fputs("\r\033[K", stderr);
    }
    if (left < 0) {
        return cli_fail(&err);
    }
    if (left > 0) {
        printf("%lld tables of hosts are still as an earlier version stored "
               "them; a running collector converts them\n",
               left);
    } else {
        printf("nothing is left to convert\n");
    }
    return CLI_OK;
}

static int upgrade_run(struct cli *cli, const struct command *command, int argc,
                       char **argv)
{
    struct upgrade_conf conf = {0};
    struct cli_words words;
    PGconn *conn;
    int code = cli_args(cli, command, &conf, argc, argv, 0, 0, &words);

    if (code >= 0) {
        return code;
    }
    code = cli_no_format(cli, command, "upgrade");
    code = code >= 0 ? code : migrate_now(cli);
    if (code == CLI_OK) {
        code = query_connect(cli, DATABASE_WRITER, &conn);
    }
    if (code == CLI_OK) {
        code = watch_conversion(conn, conf.wait);
        PQfinish(conn);
    }
    return code;
}

const struct command command_upgrade = {
    "upgrade",
    "[--wait]",
    "bring a database of an earlier version up to date, with its data",
    "Runs the migrations that are missing, as 'migrate' does, and says how "
    "much "
    "of what an earlier version stored waits to be converted. The collector "
    "does that, host by host, while agents go on sending; what is done can be "
    "read at once. An older collector cannot store into a migrated database: "
    "its agents keep their samples until it is replaced.",
    upgrade_options,
    "  poolscope upgrade --wait\n",
    upgrade_run,
    CLI_SHOWN_DATABASE};

/* --- database --- */

static int tell_status(const char *dir)
{
    struct embedded_status status;
    struct psc_error err;

    if (embedded_status(dir, &status, &err) != 0) {
        return cli_fail(&err);
    }
    if (!status.running) {
        printf("not running (%s %s)\n",
               status.exists ? "the cluster is in" : "there is no cluster in",
               status.exists ? status.cluster_dir : dir);
        return CLI_FAILURE;
    }
    printf("running, pid %ld\nsocket  %s\ncluster %s\nlog     %s\n",
           (long)status.pid, status.socket_dir, status.cluster_dir,
           status.log_path);
    return CLI_OK;
}

static int start_database(const char *dir)
{
    struct embedded_options options = {.data_dir = dir};
    struct embedded_status before;
    struct embedded_status now;
    struct psc_error err;

    if (embedded_status(dir, &before, &err) != 0 ||
        embedded_start(&options, &now, &err) != 0) {
        return cli_fail(&err);
    }
    printf("%s%s, pid %ld, in %s\n", before.exists ? "" : "made and ",
           before.running ? "running before" : "started", (long)now.pid,
           now.cluster_dir);
    return CLI_OK;
}

static int stop_database(const char *dir)
{
    struct embedded_status before;
    struct psc_error err;

    if (embedded_status(dir, &before, &err) != 0 ||
        embedded_stop(dir, &err) != 0) {
        return cli_fail(&err);
    }
    if (before.running) {
        printf("stopped, pid %ld, in %s; a running collector waits for "
               "'poolscope database start'\n",
               (long)before.pid, before.cluster_dir);
    } else {
        printf("was not running (%s %s)\n",
               before.exists ? "the cluster is in" : "there is no cluster in",
               before.exists ? before.cluster_dir : dir);
    }
    return CLI_OK;
}

static int database_run(struct cli *cli, const struct command *command,
                        int argc, char **argv)
{
    struct cli_words words;
    struct psc_error err;
    int code = cli_args(cli, command, NULL, argc, argv, 1, 1, &words);

    if (code >= 0) {
        return code;
    }
    code = cli_no_format(cli, command, "database");
    if (code >= 0) {
        return code;
    }
    if (database_options_resolve(&cli->options.database, &err) != 0) {
        return cli_usagef(command, "%s", err.msg);
    }
    const char *dir = cli->options.database.data_dir;
    if (!dir) {
        return cli_usagef(command, "a DSN's server is not ours to control; "
                                   "give --data DIR");
    }
    if (strcmp(words.v[0], "status") == 0) {
        return tell_status(dir);
    }
    if (strcmp(words.v[0], "start") == 0) {
        return start_database(dir);
    }
    if (strcmp(words.v[0], "stop") == 0) {
        return stop_database(dir);
    }
    return cli_no_verb(command, &words);
}

const struct command command_database = {
    "database",
    "start | stop | status",
    "control the embedded PostgreSQL",
    "The embedded PostgreSQL is made by 'migrate', 'database start' and the "
    "collector, started by whatever needs it, and keeps running until "
    "'database stop'. A collector starts it again when it has died, but not "
    "when it was stopped. status fails (1) when it does not run.",
    NULL,
    "  poolscope database status --data /var/lib/poolscope\n",
    database_run,
    CLI_SHOWN_DATABASE};
