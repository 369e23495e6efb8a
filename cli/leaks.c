/* `poolscope leaks`: the findings; `poolscope leak ID`: one, told in full. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/query.h"
#include "cli/units.h"
#include "common/clock.h"

/* --- the list --- */

struct leaks_conf {
    bool all;
};

static const struct psc_option leaks_options[] = {
    {"leaks", "all", PSC_OPT_BOOL, offsetof(struct leaks_conf, all), NULL, 0, 0,
     NULL, "also those that are resolved"},
    {.name = NULL}};

static int leaks_run(struct cli *cli, const struct command *command, int argc,
                     char **argv)
{
    static const struct query_column columns[] = {
        {"leak_id", "ID", SHOW_TEXT},
        {"state", "STATE", SHOW_STATUS},
        {"severity", "SEVERITY", SHOW_STATUS},
        {"pool", "POOL", SHOW_TEXT},
        {"tag", "TAG", SHOW_NAME},
        {"cause", "CAUSE", SHOW_NAME},
        {"hosts_leaking", "HOSTS", SHOW_COUNT},
        {"bytes_per_day", "GROWTH", SHOW_PER_DAY},
        {"detected_at", "DETECTED", SHOW_AGO},
        {"exhaustion_at", "RUNS OUT", SHOW_AGO},
        {"exhaustion_host", "FIRST", SHOW_NAME},
        {.name = NULL}};
    struct leaks_conf conf = {0};
    struct cli_words words;
    int code = cli_args(cli, command, &conf, argc, argv, 0, 0, &words);

    if (code >= 0) {
        return code;
    }
    struct query q = {
        .sql = "SELECT * FROM poolscope.leak "
               "WHERE $1::boolean OR state <> 'resolved' "
               "ORDER BY (state = 'resolved'), exhaustion_at NULLS LAST, "
               "bytes_per_day DESC, leak_id",
        .columns = columns,
        .params = {conf.all ? "t" : "f"},
        .n_params = 1,
        .empty = conf.all ? "No leaks have been found."
                          : "No leaks are open. (--all shows resolved ones.)"};
    return query_run(cli, &q);
}

const struct command command_leaks = {
    "leaks",
    "[--all]",
    "the leaks that were found, the most urgent first",
    "RUNS OUT is when the first of the hosts (FIRST) is expected to have no "
    "memory left. 'poolscope leak ID' tells all about one.",
    leaks_options,
    "  poolscope leaks\n"
    "  poolscope leaks --all --json\n",
    leaks_run};

/* --- one leak --- */

static const char leak_sql[] =
    "SELECT l.*, "
    "(SELECT coalesce(json_agg(h ORDER BY h.exhaustion_at, h.host), '[]') "
    "FROM poolscope.leak_host h WHERE h.leak_id = l.leak_id) AS hosts, "
    "(SELECT coalesce(json_agg(a ORDER BY a.rank), '[]') "
    "FROM poolscope.leak_attribution a WHERE a.leak_id = l.leak_id) "
    "AS attribution, "
    "(SELECT coalesce(json_agg(e ORDER BY e.at), '[]') "
    "FROM poolscope.leak_event e WHERE e.leak_id = l.leak_id) AS events, "
    "array_to_string(l.tags, ', ') AS tag_list "
    "FROM poolscope.leak l WHERE l.leak_id = $1::bigint";

static const char *show(const PGresult *r, const char *column, enum show how,
                        char *out, size_t cap)
{
    query_show(out, cap, query_value(r, 0, column), how, psc_clock_wall_us());
    return out;
}

/* "2026-03-02 14:00:05 (3 h ago)" */
static void print_moment(const char *title, const PGresult *r,
                         const char *column)
{
    char at[64];
    char ago[64];

    if (!query_is_null(r, 0, column)) {
        printf("%-12s%s (%s)\n", title, show(r, column, SHOW_TIME, at, 64),
               show(r, column, SHOW_AGO, ago, 64));
    }
}

static void print_cause(const PGresult *r)
{
    const char *kind = query_value(r, 0, "cause_kind");

    if (strcmp(kind, "unknown") == 0) {
        printf("%-12snot known: nothing ties this tag to a driver or process\n",
               "cause");
        return;
    }
    printf("%-12s%s %s", "cause", kind, query_value(r, 0, "cause"));
    if (!query_is_null(r, 0, "driver_version")) {
        printf(", version %s", query_value(r, 0, "driver_version"));
    }
    const char *owner = query_value(r, 0, "owner_driver");
    if (*owner && strcmp(owner, query_value(r, 0, "cause")) != 0) {
        printf(" (the tag belongs to %s)", owner);
    }
    putchar('\n');
}

static void print_exhaustion(const PGresult *r)
{
    char at[64];
    char ago[64];
    char earliest[64];
    char latest[64];

    if (query_is_null(r, 0, "exhaustion_at")) {
        printf("%-12sno host runs out within sight\n", "runs out");
        return;
    }
    printf("%-12s%s first, %s (%s)", "runs out",
           query_value(r, 0, "exhaustion_host"),
           show(r, "exhaustion_at", SHOW_AGO, ago, sizeof ago),
           show(r, "exhaustion_at", SHOW_TIME, at, sizeof at));
    if (!query_is_null(r, 0, "exhaustion_earliest")) {
        printf("; between %s and %s",
               show(r, "exhaustion_earliest", SHOW_TIME, earliest, 64),
               show(r, "exhaustion_latest", SHOW_TIME, latest, 64));
    }
    putchar('\n');
}

static void print_head(const PGresult *r, const char *bold, const char *off)
{
    char text[64];

    printf("%sLeak %s: %s in pool %s%s\n", bold, query_value(r, 0, "leak_id"),
           query_value(r, 0, "tag"), query_value(r, 0, "pool"), off);
    if (*query_value(r, 0, "summary")) {
        printf("%s\n", query_value(r, 0, "summary"));
    }
    printf("\n%-12s%s, %s\n", "state", query_value(r, 0, "state"),
           query_value(r, 0, "severity"));
    print_moment("began", r, "onset_at");
    print_moment("detected", r, "detected_at");
    print_moment("updated", r, "updated_at");
    print_moment("resolved", r, "resolved_at");
    printf("%-12s%s\n", "growth",
           show(r, "bytes_per_day", SHOW_PER_DAY, text, sizeof text));
    printf("%-12s%s\n", "tags", query_value(r, 0, "tag_list"));
    printf("%-12s%s of %s that report (scope: %s)\n", "hosts",
           query_value(r, 0, "hosts_leaking"),
           query_value(r, 0, "hosts_reporting"), query_value(r, 0, "scope"));
    print_cause(r);
    print_exhaustion(r);
    printf("%-12s%.0f %%\n", "confidence",
           strtod(query_value(r, 0, "confidence"), NULL) * 100);
}

static bool ends_in(const char *name, const char *end)
{
    size_t len = strlen(name);
    size_t tail = strlen(end);

    return len >= tail && strcmp(name + len - tail, end) == 0;
}

/* A number as its name says what it is. */
static void print_number(const char *name, double value)
{
    if (ends_in(name, "bytes_per_day")) {
        printf(": %s\n", unit_bytes_per_day(value).text);
    } else if (ends_in(name, "bytes")) {
        printf(": %s\n", unit_bytes(value).text);
    } else if (ends_in(name, "_us") && fabs(value) < 9e18) {
        printf(": %s\n", unit_span((int64_t)value).text);
    } else {
        printf(": %.6g\n", value);
    }
}

static void print_label(const char *name)
{
    size_t len = strlen(name);

    /* The unit is told by the value. */
    len -= ends_in(name, "_us") ? 3 : 0;
    for (size_t i = 0; i < len; i++) {
        putchar(name[i] == '_' ? ' ' : name[i]);
    }
}

/* A name and a value in the unit that the name of @unit tells. */
static void print_fact(const char *name, const char *unit, const json_t *value,
                       int indent)
{
    char *text;

    printf("%*s", indent, "");
    if (name == unit) {
        print_label(name);
    } else {
        printf("%s", name);
    }
    if (json_is_object(value)) {
        const char *key;
        json_t *inner;
        putchar('\n');
        json_object_foreach((json_t *)(uintptr_t)value, key, inner)
        {
            bool own = !ends_in(name, "bytes_per_day");
            print_fact(key, own ? key : name, inner, indent + 2);
        }
        return;
    }
    if (json_is_string(value)) {
        printf(": %s\n", json_string_value(value));
    } else if (json_is_number(value)) {
        print_number(unit, json_number_value(value));
    } else {
        text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        printf(": %s\n", text ? text : "?");
        free(text);
    }
}

static void print_evidence(const PGresult *r)
{
    const char *text = query_value(r, 0, "evidence");
    json_t *evidence = json_loads(text, JSON_DECODE_ANY, NULL);
    const char *key;
    json_t *value;

    if (json_object_size(evidence) > 0) {
        printf("\nEvidence\n");
        json_object_foreach(evidence, key, value)
        {
            if (strcmp(key, "state") != 0) { /* the detector's own */
                print_fact(key, key, value, 2);
            }
        }
    }
    json_decref(evidence);
}

static int print_part(struct cli *cli, PGconn *conn, const char *title,
                      const struct query *q)
{
    struct psc_error err;
    PGresult *r;

    if (query_exec(conn, q->sql, q->n_params, q->params, &r, &err) != 0) {
        return cli_fail(&err);
    }
    bool any = PQntuples(r) > 0;
    PQclear(r);
    if (!any) {
        return CLI_OK;
    }
    printf("\n%s\n", title);
    return query_print(cli, conn, q);
}

static int print_hosts(struct cli *cli, PGconn *conn, const char *id)
{
    static const struct query_column columns[] = {
        {"host", "HOST", SHOW_NAME},
        {"state", "STATE", SHOW_STATUS},
        {"onset_at", "BEGAN", SHOW_AGO},
        {"bytes", "BYTES", SHOW_BYTES},
        {"bytes_per_day", "GROWTH", SHOW_PER_DAY},
        {"room_bytes", "ROOM", SHOW_BYTES},
        {"exhaustion_at", "RUNS OUT", SHOW_AGO},
        {"exhaustion_earliest", "EARLIEST", SHOW_AGO},
        {"exhaustion_latest", "LATEST", SHOW_AGO},
        {"driver_version", "DRIVER VERSION", SHOW_NAME},
        {.name = NULL}};
    struct query q = {.sql = "SELECT * FROM poolscope.leak_host "
                             "WHERE leak_id = $1::bigint "
                             "ORDER BY exhaustion_at NULLS LAST, host",
                      .columns = columns,
                      .params = {id},
                      .n_params = 1};

    return print_part(cli, conn, "Hosts", &q);
}

static int print_attribution(struct cli *cli, PGconn *conn, const char *id)
{
    static const struct query_column columns[] = {
        {"attribute", "ATTRIBUTE", SHOW_NAME},
        {"value", "VALUE", SHOW_NAME},
        {"hosts_with", "HOSTS WITH", SHOW_COUNT},
        {"leaking_with", "LEAKING", SHOW_COUNT},
        {"hosts_without", "HOSTS WITHOUT", SHOW_COUNT},
        {"leaking_without", "LEAKING", SHOW_COUNT},
        {"shift_bytes_per_day", "SHIFT", SHOW_PER_DAY},
        {"p_value", "P", SHOW_VALUE},
        {.name = NULL}};
    struct query q = {.sql = "SELECT * FROM poolscope.leak_attribution "
                             "WHERE leak_id = $1::bigint ORDER BY rank",
                      .columns = columns,
                      .params = {id},
                      .n_params = 1};

    return print_part(cli, conn, "What the leaking hosts have in common", &q);
}

static int print_events(struct cli *cli, PGconn *conn, const char *id)
{
    static const struct query_column columns[] = {
        {"at", "AT", SHOW_TIME},
        {"kind", "WHAT", SHOW_STATUS},
        {"severity", "SEVERITY", SHOW_STATUS},
        {"driver", "DRIVER", SHOW_NAME},
        {"driver_version", "VERSION", SHOW_NAME},
        {.name = NULL}};
    struct query q = {.sql = "SELECT * FROM poolscope.leak_event "
                             "WHERE leak_id = $1::bigint ORDER BY at",
                      .columns = columns,
                      .params = {id},
                      .n_params = 1};

    return print_part(cli, conn, "History", &q);
}

static int tell(struct cli *cli, PGconn *conn, const char *id)
{
    struct psc_error err;
    PGresult *r;
    const char *params[] = {id};

    if (query_exec(conn, leak_sql, 1, params, &r, &err) != 0) {
        return cli_fail(&err);
    }
    if (PQntuples(r) == 0) {
        PQclear(r);
        return cli_failf("no leak %s: 'poolscope leaks --all' lists them", id);
    }
    print_head(r, cli->color ? "\033[1m" : "", cli->color ? "\033[0m" : "");
    print_evidence(r);
    PQclear(r);
    int code = print_hosts(cli, conn, id);
    code = code == CLI_OK ? print_attribution(cli, conn, id) : code;
    return code == CLI_OK ? print_events(cli, conn, id) : code;
}

static int leak_run(struct cli *cli, const struct command *command, int argc,
                    char **argv)
{
    struct cli_words words;
    PGconn *conn;
    char *end;
    int code = cli_args(cli, command, NULL, argc, argv, 1, 1, &words);

    if (code >= 0) {
        return code;
    }
    if (strtoll(words.v[0], &end, 10) <= 0 || *end != '\0') {
        return cli_usagef(command, "'%s' is no leak's number", words.v[0]);
    }
    code = query_connect(cli, DATABASE_READER, &conn);
    if (code != CLI_OK) {
        return code;
    }
    struct query q = {.sql = leak_sql, .params = {words.v[0]}, .n_params = 1};
    code = cli->format == CLI_TABLE ? tell(cli, conn, words.v[0])
                                    : query_print(cli, conn, &q);
    PQfinish(conn);
    return code;
}

const struct command command_leak = {
    "leak",
    "ID",
    "all about one leak: growth, hosts, cause, evidence",
    "Tells a finding in words with its evidence, its hosts and when each runs "
    "out, what those hosts have in common, and the finding's own history. With "
    "--json all of that is one object, in an array of one.",
    NULL,
    "  poolscope leak 7\n",
    leak_run};
