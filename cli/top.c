/* `poolscope top`: the largest tags, from the database or, without one, live
 * from this machine. */
#include "cli/top.h"

#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/query.h"
#include "cli/units.h"
#include "common/clock.h"
#include "sql/embedded.h"

#define LIMIT_DEFAULT       30
#define OVER_DEFAULT_US     (3600 * PSC_US_PER_S)
#define INTERVAL_DEFAULT_US (2 * PSC_US_PER_S)

struct top_conf {
    char *host;
    char *sort;
    char *pool;
    char *tag;
    int64_t limit;
    int64_t over_us;
    int64_t interval_us;
    bool live;
    char *root;
};

static const struct psc_option top_options[] = {
    {"top", "host", PSC_OPT_STRING, offsetof(struct top_conf, host), NULL, 0, 0,
     "HOST", "the tags of one host [the fleet, or its only host]"},
    {"top", "sort", PSC_OPT_STRING, offsetof(struct top_conf, sort), "bytes", 0,
     0, "KEY",
     "t tag, a allocs, f frees, d diff, b bytes, m bytes per alloc,\n"
     "g growth (the words will do as well)"},
    {"top", "pool", PSC_OPT_STRING, offsetof(struct top_conf, pool), NULL, 0, 0,
     "POOL", "only of this pool: paged, nonpaged, slab, vmalloc, alloc, pages"},
    {"top", "tag", PSC_OPT_STRING, offsetof(struct top_conf, tag), NULL, 0, 0,
     "PATTERN", "only these tags, with * and ?"},
    {"top", "limit", PSC_OPT_INT, offsetof(struct top_conf, limit), NULL, 1,
     1000000, "N", "rows of a table [30]"},
    {"top", "over", PSC_OPT_DURATION, offsetof(struct top_conf, over_us), NULL,
     60 * PSC_US_PER_S, 90LL * 86400 * PSC_US_PER_S, "TIME",
     "from the database: the time that growth is measured over [1h]"},
    {"top", "live", PSC_OPT_BOOL, offsetof(struct top_conf, live), NULL, 0, 0,
     NULL, "this machine, without the database"},
    {"top", "interval", PSC_OPT_DURATION,
     offsetof(struct top_conf, interval_us), NULL, PSC_US_PER_S / 2,
     3600 * PSC_US_PER_S, "TIME", "live: time between refreshes [2s]"},
    {"top", "root", PSC_OPT_STRING, offsetof(struct top_conf, root), "", 0, 0,
     "DIR", "live: read a recorded tree instead of /proc and /sys"},
    {.name = NULL}};

static const struct {
    const char *letter;
    const char *name;
    enum top_sort sort;
    const char *order_host;  /* of poolscope.pool_now with growth */
    const char *order_fleet; /* of poolscope.fleet_growth; NULL: has it not */
} sorts[] = {
    {"b", "bytes", TOP_BYTES, "bytes DESC NULLS LAST", "bytes DESC"},
    {"t", "tag", TOP_TAG, "tag", "tag"},
    {"a", "allocs", TOP_ALLOCS, "allocs DESC NULLS LAST", NULL},
    {"f", "frees", TOP_FREES, "frees DESC NULLS LAST", NULL},
    {"d", "diff", TOP_DIFF, "outstanding DESC NULLS LAST", NULL},
    {"m", "each", TOP_EACH, "bytes_each DESC NULLS LAST", NULL},
    {"g", "growth", TOP_GROWTH, "growth_bytes DESC NULLS LAST",
     "growth_bytes DESC"},
};
#define N_SORTS (sizeof sorts / sizeof *sorts)

static size_t find_sort(const char *key)
{
    size_t i = 0;

    while (i < N_SORTS && strcmp(key, sorts[i].letter) != 0 &&
           strcmp(key, sorts[i].name) != 0) {
        i++;
    }
    return i;
}

/* --- from the database --- */

static const struct query_column host_columns[] = {
    {"pool", "POOL", SHOW_TEXT},
    {"tag", "TAG", SHOW_NAME},
    {"driver", "DRIVER", SHOW_NAME},
    {"allocs", "ALLOCS", SHOW_COUNT},
    {"frees", "FREES", SHOW_COUNT},
    {"outstanding", "DIFF", SHOW_COUNT},
    {"bytes", "BYTES", SHOW_BYTES},
    {"growth_bytes", "GROWTH", SHOW_DELTA},
    {"bytes_each", "PER ALLOC", SHOW_COUNT},
    {.name = NULL}};

static const struct query_column fleet_columns[] = {
    {"pool", "POOL", SHOW_TEXT},
    {"tag", "TAG", SHOW_NAME},
    {"driver", "DRIVER", SHOW_NAME},
    {"hosts", "HOSTS", SHOW_COUNT},
    {"growing_hosts", "GROWING", SHOW_COUNT},
    {"bytes", "BYTES", SHOW_BYTES},
    {"growth_bytes", "GROWTH", SHOW_DELTA},
    {.name = NULL}};

/* The only host's name in *@host (to be freed), NULL if there are none or
 * several. Returns an exit code. */
static int only_host(PGconn *conn, char **host)
{
    struct psc_error err;
    PGresult *r;

    *host = NULL;
    if (query_exec(conn, "SELECT host FROM poolscope.host LIMIT 2", 0, NULL, &r,
                   &err) != 0) {
        return cli_fail(&err);
    }
    if (PQntuples(r) == 1) {
        *host = strdup(query_value(r, 0, "host"));
    }
    PQclear(r);
    return CLI_OK;
}

/* $1 is the span, $2 the pool or NULL, $3 the pattern, $4 the limit, $5 the
 * host. */
static void host_sql(char *sql, size_t cap, size_t sort)
{
    snprintf(sql, cap,
             "SELECT n.*, g.growth_bytes, "
             "n.bytes / nullif(n.outstanding, 0) AS bytes_each "
             "FROM poolscope.pool_now n LEFT JOIN (SELECT pool, tag, "
             "growth_bytes FROM poolscope.host_growth($5, $1::interval)) g "
             "USING (pool, tag) "
             "WHERE n.host = $5 AND ($2::text IS NULL OR pool = $2) "
             "AND tag LIKE $3 ORDER BY %s, pool, tag LIMIT $4::bigint",
             sorts[sort].order_host);
}

static void fleet_sql(char *sql, size_t cap, size_t sort)
{
    snprintf(sql, cap,
             "SELECT * FROM poolscope.fleet_growth($1::interval) "
             "WHERE ($2::text IS NULL OR pool = $2) AND tag LIKE $3 "
             "ORDER BY %s, pool, tag LIMIT $4::bigint",
             sorts[sort].order_fleet);
}

/* Over what time growth really is: less than asked for when the samples are
 * younger. Returns an exit code. */
static int real_span(PGconn *conn, const char *host, const char *span,
                     int64_t *span_us)
{
    static const char fleet[] =
        "SELECT extract(epoch FROM least($1::interval, "
        "max(last_seen - first_seen))) AS s FROM poolscope.host "
        "WHERE $2::text IS NULL";
    static const char one[] =
        "SELECT extract(epoch FROM max(at) - max(since)) AS s "
        "FROM poolscope.host_growth($2, $1::interval)";
    struct psc_error err;
    PGresult *r;
    const char *params[] = {span, host};

    if (query_exec(conn, host ? one : fleet, 2, params, &r, &err) != 0) {
        return cli_fail(&err);
    }
    if (PQntuples(r) > 0 && !query_is_null(r, 0, "s")) {
        double s = strtod(query_value(r, 0, "s"), NULL);
        *span_us = s > 0 ? (int64_t)(s * PSC_US_PER_S) : 0;
    }
    PQclear(r);
    return CLI_OK;
}

static int show_stored(struct cli *cli, const struct command *command,
                       PGconn *conn, const struct top_conf *conf, size_t sort,
                       const char *host)
{
    int64_t span_us = conf->over_us > 0 ? conf->over_us : OVER_DEFAULT_US;
    struct psc_error err;
    char sql[1024];
    char span[40];
    char like[512];
    char limit[24];
    struct query q = {.sql = sql,
                      .columns = host ? host_columns : fleet_columns,
                      .params = {span, conf->pool, like, limit, host},
                      .n_params = host ? 5 : 4,
                      .empty = "No such tags in the newest snapshots."};
    int code = host ? query_check_host(conn, host) : CLI_OK;

    if (code != CLI_OK) {
        return code; /* before the title */
    }
    if (!host && !sorts[sort].order_fleet) {
        return cli_usagef(command,
                          "--sort %s: the fleet's table has no such column; "
                          "name a --host",
                          conf->sort);
    }
    if (host) {
        host_sql(sql, sizeof sql, sort);
    } else {
        fleet_sql(sql, sizeof sql, sort);
    }
    if (query_like(like, sizeof like, conf->tag ? conf->tag : "*", &err) != 0) {
        return cli_fail(&err);
    }
    snprintf(span, sizeof span, "%lld seconds",
             (long long)(span_us / PSC_US_PER_S));
    snprintf(limit, sizeof limit, "%lld",
             (long long)(conf->limit > 0 ? conf->limit : LIMIT_DEFAULT));
    if (cli->format == CLI_TABLE) {
        code = real_span(conn, host, span, &span_us);
        if (code != CLI_OK) {
            return code;
        }
        printf("%s%s; growth over %s\n", host ? "Host " : "The fleet",
               host ? host : "", unit_span(span_us).text);
    }
    return query_print(cli, conn, &q);
}

static int top_stored(struct cli *cli, const struct command *command,
                      const struct top_conf *conf, size_t sort)
{
    PGconn *conn;
    char *only = NULL;
    int code = query_connect(cli, DATABASE_READER, &conn);

    if (code != CLI_OK) {
        return code;
    }
    if (!conf->host) {
        code = only_host(conn, &only);
    }
    if (code == CLI_OK) {
        code = show_stored(cli, command, conn, conf, sort,
                           conf->host ? conf->host : only);
    }
    free(only);
    PQfinish(conn);
    return code;
}

/* --- which of the two --- */

/* Whether a database was asked for, or one runs where it would be. */
static bool has_database(struct cli *cli)
{
    const struct database_options *o = &cli->options.database;
    struct embedded_status status;
    struct psc_error err;

    if (o->dsn || o->data_dir || getenv("POOLSCOPE_DSN") ||
        getenv("POOLSCOPE_DATA")) {
        return true;
    }
    return database_options_resolve(&cli->options.database, &err) == 0 &&
           embedded_status(o->data_dir, &status, &err) == 0 && status.running;
}

static int show_live(struct cli *cli, const struct command *command,
                     const struct top_conf *conf, size_t sort)
{
    bool once = !cli->tty || conf->limit > 0 || cli->format != CLI_TABLE;

    if (conf->over_us > 0) {
        return cli_usagef(command, "--over needs a database: the live view "
                                   "tells the change since its start");
    }
    if (once && sorts[sort].sort == TOP_GROWTH) {
        return cli_usagef(command,
                          "--sort %s: a single live table has no "
                          "growth",
                          conf->sort);
    }
    if (!conf->live && !*conf->root) {
        fprintf(stderr, "poolscope: no database is named, and none runs at "
                        "the usual place: this machine, live\n");
    }
    struct top_view view = {.sort = sorts[sort].sort,
                            .pool = conf->pool,
                            .pattern = conf->tag,
                            .limit = conf->limit,
                            .interval_us = conf->interval_us > 0
                                               ? conf->interval_us
                                               : INTERVAL_DEFAULT_US,
                            .once = once,
                            .root = conf->root};
    return top_live(cli, &view);
}

static int show_top(struct cli *cli, const struct command *command,
                    const struct top_conf *conf)
{
    size_t sort = find_sort(conf->sort);

    if (sort == N_SORTS) {
        return cli_usagef(command, "--sort: no key '%s'", conf->sort);
    }
    int code = query_check_pool(command, conf->pool);
    if (code != CLI_OK) {
        return code;
    }
    if (conf->live && conf->host) {
        return cli_usagef(command, "--live shows this machine: no --host");
    }
    if (conf->live || *conf->root || (!conf->host && !has_database(cli))) {
        return show_live(cli, command, conf, sort);
    }
    if (conf->interval_us > 0) {
        return cli_usagef(command, "--interval is of the live view: give "
                                   "--live");
    }
    return top_stored(cli, command, conf, sort);
}

static int top_run(struct cli *cli, const struct command *command, int argc,
                   char **argv)
{
    struct top_conf conf = {0};
    struct cli_words words;
    int code = cli_args(cli, command, &conf, argc, argv, 0, 0, &words);

    if (code >= 0) {
        return code;
    }
    code = show_top(cli, command, &conf);
    psc_config_fini(top_options, &conf);
    return code;
}

const struct command command_top = {
    "top",
    "[--host HOST] [--sort KEY] [--pool POOL] [--tag PATTERN] [--limit N] | "
    "--live",
    "the largest tags, of the fleet, a host, or live of this machine",
    "With a database: the largest tags of the fleet, or of one host. Without "
    "one (neither --data nor --dsn, and none runs), or with --live: the tags "
    "of "
    "this machine, read by the agent's own sources, refreshed every two "
    "seconds, with the change since the last refresh and since the start. Run "
    "it as root, for /proc/slabinfo.\n\n"
    "Keys of the live view, as in poolmon: t a f d b m sort by tag, allocs, "
    "frees, diff, bytes, bytes per alloc; g by growth since the start; p goes "
    "through the pools; blank refreshes at once; q or Esc quits. When standard "
    "output is no terminal, or with --limit, one table is printed.\n\n"
    "DIFF is what is allocated and not freed. A column is empty where the "
    "kernel keeps no such count. Pools overlap: never add them up.",
    top_options,
    "  poolscope top --live\n"
    "  poolscope top --host db-1 --sort growth --over 24h\n"
    "  poolscope top --pool slab --tag 'kmalloc-*' --json\n",
    top_run,
    CLI_SHOWN_ALL};
