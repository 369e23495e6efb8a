/* `poolscope leaks`: the findings; `poolscope leak ID`: one, told in full. */
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/query.h"
#include "cli/units.h"
#include "common/clock.h"

#define TITLE_COLUMNS  12
#define FACT_MAX_BYTES 4096

/* --- the list --- */

struct leaks_conf {
    bool all;
};

static const struct psc_option leaks_options[] = {
    {"leaks", "all", PSC_OPT_BOOL, offsetof(struct leaks_conf, all), NULL, 0, 0,
     NULL, "also those that are resolved"},
    {.name = NULL}};

#define LEAKS_WHERE                                                            \
    "FROM poolscope.leak WHERE $1::boolean OR state <> 'resolved' "            \
    "ORDER BY (state = 'resolved'), exhaustion_at NULLS LAST, "                \
    "bytes_per_day DESC, leak_id"

/* The growth of all tags of the group, which is what runs a host out. */
#define GROUP_RATE                                                             \
    "coalesce((evidence ->> 'group_bytes_per_day')::float8, bytes_per_day) "   \
    "AS group_bytes_per_day"

static const char scripts_sql[] = "SELECT * " LEAKS_WHERE;
/* What is resolved runs no host out. */
static const char table_sql[] =
    "SELECT *, " GROUP_RATE ", cardinality(tags) AS n_tags, "
    "CASE WHEN state <> 'resolved' THEN exhaustion_at END AS runs_out_at, "
    "CASE WHEN state <> 'resolved' THEN exhaustion_host END AS "
    "runs_out_host " LEAKS_WHERE;

static int leaks_run(struct cli *cli, const struct command *command, int argc,
                     char **argv)
{
    static const struct query_column columns[] = {
        {"leak_id", "ID", SHOW_TEXT},
        {"state", "STATE", SHOW_STATUS},
        {"severity", "SEVERITY", SHOW_STATUS},
        {"pool", "POOL", SHOW_TEXT},
        {"tag", "TAG", SHOW_NAME},
        {"group_bytes_per_day", "GROWTH", SHOW_PER_DAY},
        {"runs_out_at", "RUNS OUT", SHOW_AGO},
        {"runs_out_host", "FIRST", SHOW_NAME},
        {"hosts_leaking", "HOSTS", SHOW_COUNT},
        {"cause", "CAUSE", SHOW_NAME},
        {"detected_at", "DETECTED", SHOW_AGO},
        {"n_tags", "TAGS", SHOW_COUNT},
        {"bytes_per_day", "TAG GROWTH", SHOW_PER_DAY},
        {.name = NULL}};
    struct leaks_conf conf = {0};
    struct cli_words words;
    int code = cli_args(cli, command, &conf, argc, argv, 0, 0, &words);

    if (code >= 0) {
        return code;
    }
    struct query q = {
        .sql = cli->format == CLI_TABLE ? table_sql : scripts_sql,
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
    "GROWTH is that of all TAGS of the leak together, TAG GROWTH that of the "
    "leading TAG alone. RUNS OUT is when the first of the hosts (FIRST) is "
    "expected to have no memory left if GROWTH goes on. 'poolscope leak ID' "
    "tells all about one.",
    leaks_options,
    "  poolscope leaks\n"
    "  poolscope leaks --all --json\n",
    leaks_run,
    CLI_SHOWN_ALL};

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
    "array_to_string(l.tags, ', ') AS tag_list, "
    "(SELECT string_agg(tag || ': ' || array_to_string(names[1:8], ', ') || "
    "CASE WHEN cardinality(names) > 8 THEN ', ...' ELSE '' END, '; ' "
    "ORDER BY array_position(l.tags, tag)) "
    "FROM (SELECT a.tag, array_agg(DISTINCT a.alias) AS names "
    "FROM poolscope.tag_alias a JOIN poolscope.leak_host h USING (host_id) "
    "WHERE h.leak_id = l.leak_id AND a.tag = ANY (l.tags) GROUP BY a.tag) a) "
    "AS aliases, " GROUP_RATE " "
    "FROM poolscope.leak l WHERE l.leak_id = $1::bigint";

static const char *show(const PGresult *r, const char *column, enum show how,
                        char *out, size_t cap)
{
    query_show(out, cap, query_value(r, 0, column), how, psc_clock_wall_us());
    return out;
}

/* A line "title       text…", wrapped to the terminal. */
static void tell_fact(const struct cli *cli, const char *title, const char *fmt,
                      ...) PSC_PRINTF(3, 4);
static void tell_fact(const struct cli *cli, const char *title, const char *fmt,
                      ...)
{
    char lead[32];
    char text[FACT_MAX_BYTES];

    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    snprintf(lead, sizeof lead, "%-*s", TITLE_COLUMNS, title);
    cli_print_wrapped(stdout, lead, text, TITLE_COLUMNS, cli->width);
}

/* "2026-03-02 14:00:05 UTC (3 h ago)" */
static void tell_moment(const struct cli *cli, const char *title,
                        const PGresult *r, const char *column)
{
    char at[64];
    char ago[64];

    if (!query_is_null(r, 0, column)) {
        tell_fact(cli, title, "%s (%s)", show(r, column, SHOW_TIME, at, 64),
                  show(r, column, SHOW_AGO, ago, 64));
    }
}

static void tell_growth(const struct cli *cli, const PGresult *r)
{
    char group[64];
    char tag[64];

    show(r, "group_bytes_per_day", SHOW_PER_DAY, group, sizeof group);
    show(r, "bytes_per_day", SHOW_PER_DAY, tag, sizeof tag);
    if (strcmp(group, tag) == 0) {
        tell_fact(cli, "growth", "%s", group);
    } else {
        tell_fact(cli, "growth", "%s by its tags together, %s by %s alone",
                  group, tag, query_value(r, 0, "tag"));
    }
}

static void tell_cause(const struct cli *cli, const PGresult *r)
{
    const char *kind = query_value(r, 0, "cause_kind");
    const char *cause = query_value(r, 0, "cause");
    const char *version = query_value(r, 0, "driver_version");
    const char *owner = query_value(r, 0, "owner_driver");
    bool other = *owner && strcmp(owner, cause) != 0;

    if (strcmp(kind, "unknown") == 0) {
        tell_fact(cli, "cause", "%s",
                  "not known: nothing ties this tag to a driver or process");
        return;
    }
    tell_fact(cli, "cause", "%s %s%s%s%s%s%s", kind, cause,
              *version ? ", version " : "", version,
              other ? " (the tag belongs to " : "", other ? owner : "",
              other ? ")" : "");
}

static void tell_exhaustion(const struct cli *cli, const PGresult *r)
{
    char at[64];
    char ago[64];
    char earliest[64] = "";
    char latest[64] = "";

    if (strcmp(query_value(r, 0, "state"), "resolved") == 0) {
        return;
    }
    if (query_is_null(r, 0, "exhaustion_at")) {
        tell_fact(cli, "runs out", "no host runs out within sight");
        return;
    }
    bool from = !query_is_null(r, 0, "exhaustion_earliest");
    bool to = from && !query_is_null(r, 0, "exhaustion_latest");
    show(r, "exhaustion_earliest", SHOW_TIME, earliest, sizeof earliest);
    show(r, "exhaustion_latest", SHOW_TIME, latest, sizeof latest);
    tell_fact(cli, "runs out", "%s first, %s (%s)%s%s%s%s%s",
              query_value(r, 0, "exhaustion_host"),
              show(r, "exhaustion_at", SHOW_AGO, ago, sizeof ago),
              show(r, "exhaustion_at", SHOW_TIME, at, sizeof at),
              to     ? "; between "
              : from ? "; not before "
                     : "",
              earliest, to ? " and " : "", to ? latest : "",
              from && !to ? ", with no later bound" : "");
}

static void tell_head(const struct cli *cli, const PGresult *r)
{
    printf("%sLeak %s: %s in pool %s%s\n", cli->color ? "\033[1m" : "",
           query_value(r, 0, "leak_id"), query_value(r, 0, "tag"),
           query_value(r, 0, "pool"), cli->color ? "\033[0m" : "");
    if (*query_value(r, 0, "summary")) {
        cli_print_wrapped(stdout, "", query_value(r, 0, "summary"), 0,
                          cli->width);
    }
    putchar('\n');
    tell_fact(cli, "state", "%s, %s", query_value(r, 0, "state"),
              query_value(r, 0, "severity"));
    tell_moment(cli, "began", r, "onset_at");
    tell_moment(cli, "detected", r, "detected_at");
    tell_moment(cli, "updated", r, "updated_at");
    tell_moment(cli, "resolved", r, "resolved_at");
    tell_growth(cli, r);
    tell_fact(cli, "tags", "%s", query_value(r, 0, "tag_list"));
    if (!query_is_null(r, 0, "aliases")) {
        tell_fact(cli, "also", "%s", query_value(r, 0, "aliases"));
    }
    tell_fact(cli, "hosts", "%s of %s that report (scope: %s)",
              query_value(r, 0, "hosts_leaking"),
              query_value(r, 0, "hosts_reporting"), query_value(r, 0, "scope"));
    tell_cause(cli, r);
    tell_exhaustion(cli, r);
    tell_fact(cli, "confidence", "%.0f %%",
              strtod(query_value(r, 0, "confidence"), NULL) * 100);
}

static bool ends_in(const char *name, const char *end)
{
    size_t len = strlen(name);
    size_t tail = strlen(end);

    return len >= tail && strcmp(name + len - tail, end) == 0;
}

/* A number as its name says what it is. */
static void print_number(FILE *out, const char *name, double value)
{
    if (ends_in(name, "bytes_per_day")) {
        fprintf(out, ": %s\n", unit_bytes_per_day(value).text);
    } else if (ends_in(name, "bytes")) {
        fprintf(out, ": %s\n", unit_bytes(value).text);
    } else if (ends_in(name, "_us") && fabs(value) < 9e18) {
        fprintf(out, ": %s\n", unit_span((int64_t)value).text);
    } else {
        fprintf(out, ": %.6g\n", value);
    }
}

static void print_label(FILE *out, const char *name)
{
    size_t len = strlen(name);

    /* The unit is told by the value. */
    len -= ends_in(name, "_us") ? 3 : 0;
    for (size_t i = 0; i < len; i++) {
        fputc(name[i] == '_' ? ' ' : name[i], out);
    }
}

static void print_names(FILE *out, const json_t *names)
{
    for (size_t i = 0; i < json_array_size(names); i++) {
        char *text = json_dumps(json_array_get(names, i), JSON_ENCODE_ANY);
        const char *name = json_string_value(json_array_get(names, i));
        fprintf(out, "%s %s", i == 0 ? ":" : ",",
                name   ? name
                : text ? text
                       : "?");
        free(text);
    }
    fputc('\n', out);
}

/* A name and a value in the unit that the name of @unit tells. */
static void print_fact(FILE *out, const char *name, const char *unit,
                       const json_t *value, int indent)
{
    char *text;

    fprintf(out, "%*s", indent, "");
    if (name == unit) {
        print_label(out, name);
    } else {
        fprintf(out, "%s", name);
    }
    if (json_is_object(value)) {
        const char *key;
        json_t *inner;
        fputc('\n', out);
        json_object_foreach((json_t *)(uintptr_t)value, key, inner)
        {
            bool own = !ends_in(name, "bytes_per_day");
            print_fact(out, key, own ? key : name, inner, indent + 2);
        }
        return;
    }
    if (json_is_string(value)) {
        fprintf(out, ": %s\n", json_string_value(value));
    } else if (json_is_array(value)) {
        print_names(out, value);
    } else if (json_is_number(value)) {
        print_number(out, unit, json_number_value(value));
    } else {
        text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        fprintf(out, ": %s\n", text ? text : "?");
        free(text);
    }
}

/* Print the lines of @text, each wrapped below its own indent. */
static void print_indented(const struct cli *cli, char *text)
{
    char *rest = NULL;

    for (char *line = strtok_r(text, "\n", &rest); line;
         line = strtok_r(NULL, "\n", &rest)) {
        char lead[16];
        int indent = (int)strspn(line, " ");
        indent = indent < (int)sizeof lead ? indent : (int)sizeof lead - 1;
        snprintf(lead, sizeof lead, "%.*s", indent, line);
        cli_print_wrapped(stdout, lead, line + indent, indent + 2, cli->width);
    }
}

/* What the detector keeps for itself, what is told further up or in the table
 * of hosts, and what is empty. */
static bool is_told(const char *key, const json_t *value)
{
    static const char *const told[] = {"state", "group_bytes_per_day",
                                       "group_pool", "room_bytes"};

    for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
        if (strcmp(key, told[i]) == 0) {
            return true;
        }
    }
    if (json_is_array(value)) {
        return json_array_size(value) == 0;
    }
    return strcmp(key, "bytes_per_day") == 0 && json_object_size(value) < 2;
}

static void print_evidence(const struct cli *cli, const PGresult *r)
{
    json_t *evidence =
        json_loads(query_value(r, 0, "evidence"), JSON_DECODE_ANY, NULL);
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    const char *key;
    json_t *value;

    if (out) {
        json_object_foreach(evidence, key, value)
        {
            if (!is_told(key, value)) {
                print_fact(out, key, key, value, 2);
            }
        }
    }
    if (out && fclose(out) == 0 && len > 0) {
        printf("\nEvidence\n");
        print_indented(cli, text);
    }
    free(text);
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
        {"group_bytes_per_day", "GROWTH", SHOW_PER_DAY},
        {"room_bytes", "ROOM", SHOW_BYTES},
        {"runs_out_at", "RUNS OUT", SHOW_AGO},
        {"runs_out_earliest", "EARLIEST", SHOW_AGO},
        {"runs_out_latest", "LATEST", SHOW_AGO},
        {"onset_at", "BEGAN", SHOW_AGO},
        {"bytes", "TAG BYTES", SHOW_BYTES},
        {"bytes_per_day", "TAG GROWTH", SHOW_PER_DAY},
        {"driver_version", "DRIVER VERSION", SHOW_NAME},
        {.name = NULL}};
    struct query q = {
        .sql = "SELECT h.*, o.* FROM poolscope.leak_host h "
               "JOIN poolscope.leak l USING (leak_id) "
               "LEFT JOIN LATERAL (SELECT h.exhaustion_at AS runs_out_at, "
               "h.exhaustion_earliest AS runs_out_earliest, "
               "h.exhaustion_latest AS runs_out_latest "
               "WHERE 'resolved' NOT IN (h.state, l.state)) o ON true "
               "WHERE leak_id = $1::bigint "
               "ORDER BY o.runs_out_at NULLS LAST, h.host",
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

/* Say so if there is no such leak, before a script gets an empty array. */
static int check_leak(PGconn *conn, const char *id)
{
    struct psc_error err;
    PGresult *r;
    const char *params[] = {id};

    if (query_exec(conn,
                   "SELECT leak_id FROM poolscope.leak "
                   "WHERE leak_id = $1::bigint",
                   1, params, &r, &err) != 0) {
        return cli_fail(&err);
    }
    bool found = PQntuples(r) > 0;
    PQclear(r);
    return found ? CLI_OK
                 : cli_failf("no leak %s: 'poolscope leaks --all' lists them",
                             id);
}

static int tell(struct cli *cli, PGconn *conn, const char *id)
{
    struct psc_error err;
    PGresult *r;
    const char *params[] = {id};

    if (query_exec(conn, leak_sql, 1, params, &r, &err) != 0) {
        return cli_fail(&err);
    }
    tell_head(cli, r);
    print_evidence(cli, r);
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
    code = check_leak(conn, words.v[0]);
    if (code == CLI_OK) {
        code = cli->format == CLI_TABLE ? tell(cli, conn, words.v[0])
                                        : query_print(cli, conn, &q);
    }
    PQfinish(conn);
    return code;
}

const struct command command_leak = {
    "leak",
    "ID",
    "all about one leak: growth, hosts, cause, evidence",
    "Tells a finding in words with its evidence, its hosts and when each runs "
    "out, what those hosts have in common, and the finding's own history. Of a "
    "host, GROWTH is that of all the leak's tags together, which runs it out; "
    "TAG BYTES and TAG GROWTH are those of the leading tag alone. EARLIEST "
    "without LATEST: there is no later bound. With --json all of that is one "
    "object, in an array of one.",
    NULL,
    "  poolscope leak 7\n",
    leak_run,
    CLI_SHOWN_ALL};
