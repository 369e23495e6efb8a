/* Questions about the fleet that are one query each: status, hosts, drivers,
 * counters, events. */
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/query.h"
#include "cli/units.h"
#include "common/clock.h"

#define SOURCES_SHOWN 10

/* --- status --- */

static const char status_sql[] =
    "SELECT (SELECT max(version) FROM poolscope.schema_version) "
    "AS schema_version, h.*, l.*, s.*, "
    /* A collector that has stored something lives, before it reports. */
    "greatest((SELECT max(c.at) FROM poolscope.collector c), h.last_seen) "
    "AS collector_at "
    "FROM (SELECT count(*) AS hosts, "
    "count(*) FILTER (WHERE status = 'reporting') AS hosts_reporting, "
    "count(*) FILTER (WHERE status = 'silent') AS hosts_silent, "
    "count(*) FILTER (WHERE status = 'disabled') AS hosts_disabled, "
    "count(*) FILTER (WHERE source_errors <> '{}') AS hosts_with_source_errors,"
    " max(last_seen) AS last_seen, "
    "coalesce(sum(dropped_batches), 0)::bigint AS dropped_batches, "
    "coalesce(sum(spool_bytes), 0)::bigint AS spool_bytes "
    "FROM poolscope.host) h, "
    "(SELECT count(*) AS leaks, "
    "count(*) FILTER (WHERE severity = 'critical') AS leaks_critical, "
    "min(exhaustion_at) AS exhaustion_at "
    "FROM poolscope.leak WHERE state <> 'resolved') l, "
    /* Housekeeping makes partitions for a week ahead. */
    "(SELECT min(made_until) AS partitions_until, "
    "sum(waiting_rows)::bigint AS waiting_rows, "
    "coalesce(min(made_until) < now() + interval '6 days', true) "
    "AS housekeeping_late FROM poolscope.storage) s";

static const char *ago(const PGresult *r, const char *column, char *out,
                       size_t cap)
{
    if (query_is_null(r, 0, column)) {
        return "never";
    }
    query_show(out, cap, query_value(r, 0, column), SHOW_AGO,
               psc_clock_wall_us());
    return out;
}

static void print_status(const struct cli *cli, const PGresult *r)
{
    char where[256];
    char text[64];

    database_describe(&cli->options.database, where, sizeof where);
    printf("database    %s, schema version %s\n", where,
           query_value(r, 0, "schema_version"));
    printf("collector   last heard %s\n",
           ago(r, "collector_at", text, sizeof text));
    printf("hosts       %s: %s reporting, %s silent, %s disabled\n",
           query_value(r, 0, "hosts"), query_value(r, 0, "hosts_reporting"),
           query_value(r, 0, "hosts_silent"),
           query_value(r, 0, "hosts_disabled"));
    printf("last data   %s\n", ago(r, "last_seen", text, sizeof text));
    if (strcmp(query_value(r, 0, "dropped_batches"), "0") != 0) {
        printf("            %s batches were dropped\n",
               query_value(r, 0, "dropped_batches"));
    }
    if (strcmp(query_value(r, 0, "housekeeping_late"), "t") == 0) {
        printf("storage     housekeeping does not get on: partitions end %s, "
               "%s rows wait for one\n",
               ago(r, "partitions_until", text, sizeof text),
               query_value(r, 0, "waiting_rows"));
    }
    printf("leaks       %s open", query_value(r, 0, "leaks"));
    if (!query_is_null(r, 0, "exhaustion_at")) {
        printf(", %s critical; the first host runs out %s",
               query_value(r, 0, "leaks_critical"),
               ago(r, "exhaustion_at", text, sizeof text));
    }
    putchar('\n');
}

/* What hosts cannot read, the same trouble of many hosts in one line. */
static int print_sources(const struct cli *cli, PGconn *conn)
{
    static const char sql[] =
        "SELECT e.key AS source, e.value ->> 'state' AS state, "
        "coalesce(': ' || nullif(e.value ->> 'message', ''), '') AS message, "
        "count(*) AS hosts, array_to_string((array_agg(h.host ORDER BY "
        "h.host))[1:3], ', ') || CASE WHEN count(*) > 3 THEN ', ...' ELSE '' "
        "END AS names FROM poolscope.host h, jsonb_each(h.source_errors) e "
        "WHERE h.status <> 'disabled' GROUP BY 1, 2, 3 "
        "ORDER BY count(*) DESC, 1, 3";
    struct psc_error err;
    PGresult *r;

    if (query_exec(conn, sql, 0, NULL, &r, &err) != 0) {
        return cli_fail(&err);
    }
    int rows = PQntuples(r);
    for (int row = 0; row < rows && row < SOURCES_SHOWN; row++) {
        char text[1024];
        const char *hosts = query_value(r, row, "hosts");
        snprintf(text, sizeof text, "%s is %s on %s host%s (%s)%s",
                 query_value(r, row, "source"), query_value(r, row, "state"),
                 hosts, strcmp(hosts, "1") == 0 ? "" : "s",
                 query_value(r, row, "names"), query_value(r, row, "message"));
        cli_print_wrapped(stdout, row == 0 ? "sources     " : "            ",
                          text, 14, cli->width);
    }
    if (rows > SOURCES_SHOWN) {
        printf("            and %d more (source_errors in view "
               "poolscope.host)\n",
               rows - SOURCES_SHOWN);
    }
    PQclear(r);
    return CLI_OK;
}

static int status_run(struct cli *cli, const struct command *command, int argc,
                      char **argv)
{
    struct query q = {.sql = status_sql};
    struct cli_words words;
    struct psc_error err;
    PGresult *result;
    PGconn *conn;
    int code = cli_args(cli, command, NULL, argc, argv, 0, 0, &words);

    if (code >= 0) {
        return code;
    }
    code = query_connect(cli, DATABASE_READER, &conn);
    if (code != CLI_OK) {
        return code;
    }
    if (cli->format != CLI_TABLE) {
        code = query_print(cli, conn, &q);
    } else if (query_exec(conn, q.sql, 0, NULL, &result, &err) != 0) {
        code = cli_fail(&err);
    } else {
        print_status(cli, result);
        PQclear(result);
        code = print_sources(cli, conn);
    }
    PQfinish(conn);
    return code;
}

const struct command command_status = {
    "status",
    "",
    "what the database holds and whether data come in",
    "Tells which database is used, how many hosts report, how old the newest "
    "data are, and how many leaks are open.",
    NULL,
    NULL,
    status_run,
    CLI_SHOWN_ALL};

/* --- hosts --- */

/* The argument at @i as a LIKE pattern, "%" if there is none. Returns an exit
 * code, or -1 to go on. */
static int pattern_word(const struct command *command,
                        const struct cli_words *words, int i, char *out,
                        size_t cap)
{
    struct psc_error err;

    if (query_like(out, cap, i < words->n ? words->v[i] : "*", &err) != 0) {
        return cli_usagef(command, "%s", err.msg);
    }
    return -1;
}

static int hosts_run(struct cli *cli, const struct command *command, int argc,
                     char **argv)
{
    static const struct query_column columns[] = {
        {"host", "HOST", SHOW_NAME},
        {"status", "STATUS", SHOW_STATUS},
        {"last_seen", "LAST SEEN", SHOW_SEEN},
        {"leaks", "LEAKS", SHOW_COUNT},
        {"available_bytes", "AVAILABLE", SHOW_BYTES},
        {"ram_bytes", "MEMORY", SHOW_BYTES},
        {"boot_at", "BOOTED", SHOW_AGO},
        {"role", "ROLE", SHOW_NAME},
        {"region", "REGION", SHOW_NAME},
        {"os_version", "SYSTEM", SHOW_NAME},
        {"agent_version", "AGENT", SHOW_TEXT},
        {.name = NULL}};
    char like[512];
    struct query q = {
        .sql = "SELECT h.*, (SELECT r.room_bytes FROM poolscope.host_room r "
               "WHERE r.host = h.host AND r.resource = 'available memory') "
               "AS available_bytes, (SELECT count(*) "
               "FROM poolscope.leak_host l WHERE l.host = h.host "
               "AND l.state <> 'resolved') AS leaks "
               "FROM poolscope.host h WHERE h.host LIKE $1 ORDER BY h.host",
        .columns = columns,
        .params = {like},
        .n_params = 1,
        .empty = "No such host. Hosts appear when their agent has enrolled: "
                 "see 'poolscope token create --help'."};
    struct cli_words words;
    int code = cli_args(cli, command, NULL, argc, argv, 0, 1, &words);

    if (code < 0) {
        code = pattern_word(command, &words, 0, like, sizeof like);
    }
    /* A pattern may fit nothing; a name must be one. */
    if (words.n > 0 && !strpbrk(words.v[0], "*?")) {
        q.host = words.v[0];
    }
    return code >= 0 ? code : query_run(cli, &q);
}

const struct command command_hosts = {
    "hosts",
    "[PATTERN]",
    "the hosts, whether they report, what they have left",
    "PATTERN selects by name; * and ? stand for any characters and for one. A "
    "host is silent when nothing has come from it for five minutes or three "
    "sampling intervals.",
    NULL,
    "  poolscope hosts\n"
    "  poolscope hosts 'web-*' --json\n",
    hosts_run,
    CLI_SHOWN_ALL};

/* --- drivers --- */

struct drivers_conf {
    char *host;
};

static const struct psc_option drivers_options[] = {
    {"drivers", "host", PSC_OPT_STRING, offsetof(struct drivers_conf, host),
     NULL, 0, 0, "HOST", "the drivers of one host, with path and load time"},
    {.name = NULL}};

static const struct query_column fleet_driver_columns[] = {
    {"driver", "DRIVER", SHOW_NAME},
    {"version", "VERSION", SHOW_NAME},
    {"hosts", "HOSTS", SHOW_COUNT},
    {"leaking_hosts", "LEAKING", SHOW_COUNT},
    {.name = NULL}};

static const struct query_column host_driver_columns[] = {
    {"driver", "DRIVER", SHOW_NAME},
    {"version", "VERSION", SHOW_NAME},
    {"company", "COMPANY", SHOW_NAME},
    {"loaded_at", "LOADED", SHOW_AGO},
    {"seen_from", "SEEN", SHOW_AGO},
    {"path", "PATH", SHOW_NAME},
    {.name = NULL}};

/* Whether @host (NULL: any) has ever sent drivers; true if that cannot be
 * told. */
static bool has_drivers(PGconn *conn, const char *host)
{
    struct psc_error err;
    PGresult *r;
    const char *params[] = {host};

    if (query_exec(conn,
                   "SELECT EXISTS (SELECT FROM poolscope.driver "
                   "WHERE host = coalesce($1, host)) AS found",
                   1, params, &r, &err) != 0) {
        return true;
    }
    bool found = strcmp(query_value(r, 0, "found"), "t") == 0;
    PQclear(r);
    return found;
}

static int print_drivers(struct cli *cli, struct query *q, const char *host)
{
    PGconn *conn;
    int code = query_connect(cli, DATABASE_READER, &conn);

    if (code != CLI_OK) {
        return code;
    }
    if (cli->format == CLI_TABLE && !has_drivers(conn, host)) {
        q->empty = host ? "This host has sent no drivers: its kernel has "
                          "loaded no modules, or no inventory has come yet."
                        : "No host has sent any drivers: their kernels have "
                          "loaded no modules, or no inventory has come yet.";
    }
    code = query_print(cli, conn, q);
    PQfinish(conn);
    return code;
}

static int drivers_run(struct cli *cli, const struct command *command, int argc,
                       char **argv)
{
    struct drivers_conf conf = {0};
    struct cli_words words;
    char like[512];
    int code = cli_args(cli, command, &conf, argc, argv, 0, 1, &words);

    if (code >= 0) {
        return code;
    }
    struct query q = {
        .sql = conf.host
                   ? "SELECT * FROM poolscope.driver WHERE driver LIKE $1 "
                     "AND host = $2 AND seen_to IS NULL ORDER BY driver"
                   : "SELECT * FROM poolscope.driver_version "
                     "WHERE driver LIKE $1 ORDER BY driver, version",
        .columns = conf.host ? host_driver_columns : fleet_driver_columns,
        .params = {like, conf.host},
        .n_params = conf.host ? 2 : 1,
        .empty = "No such driver in the newest inventories.",
        .host = conf.host};
    code = pattern_word(command, &words, 0, like, sizeof like);
    code = code >= 0 ? code : print_drivers(cli, &q, conf.host);
    psc_config_fini(drivers_options, &conf);
    return code;
}

const struct command command_drivers = {
    "drivers",
    "[--host HOST] [PATTERN]",
    "drivers and kernel modules with their versions",
    "Without --host: each version of each driver with the number of hosts that "
    "load it and of hosts on which it leaks. PATTERN selects by name, with * "
    "and ?.",
    drivers_options,
    "  poolscope drivers 'nv*'\n"
    "  poolscope drivers --host db-1\n",
    drivers_run,
    CLI_SHOWN_ALL};

/* --- counters --- */

static int counters_run(struct cli *cli, const struct command *command,
                        int argc, char **argv)
{
    static const struct query_column columns[] = {
        {"host", "HOST", SHOW_NAME},    {"counter", "COUNTER", SHOW_TEXT},
        {"value", "VALUE", SHOW_VALUE}, {"instance", "INSTANCE", SHOW_TAIL},
        {"at", "AT", SHOW_AGO},         {.name = NULL}};
    char host[512];
    char counter[512];
    struct query q = {
        .sql = "SELECT * FROM poolscope.counter_now WHERE host LIKE $1 "
               "AND counter LIKE $2 ORDER BY host, counter, instance",
        .columns = columns,
        .params = {host, counter},
        .n_params = 2,
        .empty = "No such counter in the newest samples.",
        .host_above = true};
    struct cli_words words;
    int code = cli_args(cli, command, NULL, argc, argv, 0, 2, &words);

    if (code < 0) {
        code = pattern_word(command, &words, 0, host, sizeof host);
    }
    if (code < 0) {
        code = pattern_word(command, &words, 1, counter, sizeof counter);
    }
    q.host = words.n > 0 ? words.v[0] : NULL;
    return code >= 0 ? code : query_run(cli, &q);
}

const struct command command_counters = {
    "counters",
    "[HOST [PATTERN]]",
    "the newest values of the counters",
    "HOST and PATTERN (of the counter's name) may have * and ?. Names are "
    "those "
    "of node_exporter and windows_exporter.",
    NULL,
    "  poolscope counters db-1 'node_memory_*'\n"
    "  poolscope counters '*' node_memory_MemAvailable_bytes --csv\n",
    counters_run,
    CLI_SHOWN_ALL};

/* --- events --- */

struct events_conf {
    char *host;
    char *since;
    int64_t limit;
};

static const struct psc_option events_options[] = {
    {"events", "host", PSC_OPT_STRING, offsetof(struct events_conf, host), "*",
     0, 0, "PATTERN", "of these hosts, with * and ?"},
    {"events", "since", PSC_OPT_STRING, offsetof(struct events_conf, since),
     "7d", 0, 0, "TIME", "from then on: 15m, 2h, 7d ago, or a date (UTC)"},
    {"events", "limit", PSC_OPT_INT, offsetof(struct events_conf, limit),
     "1000", 1, 1000000, "N", "the newest N at most"},
    {.name = NULL}};

static int events_query(struct cli *cli, const struct command *command,
                        const struct events_conf *conf)
{
    static const struct query_column columns[] = {
        {"at", "AT", SHOW_TIME},
        {"host", "HOST", SHOW_NAME},
        {"source", "SOURCE", SHOW_TEXT},
        {"event_id", "EVENT", SHOW_TEXT},
        {"message", "MESSAGE", SHOW_PROSE},
        {.name = NULL}};
    char like[512];
    char since[48];
    char limit[32];
    struct psc_error err;
    int64_t since_us;
    struct query q = {
        .sql = "SELECT * FROM (SELECT * FROM poolscope.event "
               "WHERE host LIKE $1 AND at >= $2::timestamptz "
               "ORDER BY at DESC LIMIT $3::bigint) newest ORDER BY at, host",
        .columns = columns,
        .params = {like, since, limit},
        .n_params = 3,
        .empty = "No events.",
        .host = conf->host,
        .host_above = true};

    if (query_like(like, sizeof like, conf->host, &err) != 0 ||
        unit_time_parse(conf->since, psc_clock_wall_us(), &since_us, &err) !=
            0) {
        return cli_usagef(command, "%s", err.msg);
    }
    query_time_text(since, since_us);
    snprintf(limit, sizeof limit, "%lld", (long long)conf->limit);
    return query_run(cli, &q);
}

static int events_run(struct cli *cli, const struct command *command, int argc,
                      char **argv)
{
    struct events_conf conf = {0};
    struct cli_words words;
    int code = cli_args(cli, command, &conf, argc, argv, 0, 0, &words);

    if (code >= 0) {
        return code;
    }
    code = events_query(cli, command, &conf);
    psc_config_fini(events_options, &conf);
    return code;
}

const struct command command_events = {
    "events",
    "[--host PATTERN] [--since TIME] [--limit N]",
    "log records that speak of exhaustion",
    "Records of the kernel's log (allocation failures, the OOM killer) and of "
    "the Windows System log (2019, 2020 and kin), in order of time.",
    events_options,
    "  poolscope events --since 2h\n"
    "  poolscope events --host db-1 --since 2026-03-01 --json\n",
    events_run,
    CLI_SHOWN_ALL};
