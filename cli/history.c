/* `poolscope history`: one tag of one host over time, as a plot for people or
 * as rows for scripts. */
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/plot.h"
#include "cli/query.h"
#include "cli/units.h"
#include "common/clock.h"

#define PLOT_WIDTH  78 /* where the terminal's width is not known */
#define PLOT_HEIGHT 14

struct history_conf {
    char *since;
    char *until;
};

static const struct psc_option history_options[] = {
    {"history", "since", PSC_OPT_STRING, offsetof(struct history_conf, since),
     "24h", 0, 0, "TIME", "from then on: 15m, 2h, 7d ago, or a date (UTC)"},
    {"history", "until", PSC_OPT_STRING, offsetof(struct history_conf, until),
     "now", 0, 0, "TIME", "up to then"},
    {.name = NULL}};

static int read_points(const PGresult *r, struct plot_point **points, size_t *n)
{
    int rows = PQntuples(r);

    *n = 0;
    *points = calloc((size_t)rows + 1, sizeof **points);
    if (!*points) {
        return PSC_NOMEM;
    }
    for (int row = 0; row < rows; row++) {
        struct plot_point *p = &(*points)[*n];
        p->at_us = query_time_us(query_value(r, row, "at"));
        p->value = strtod(query_value(r, row, "bytes"), NULL);
        *n += !query_is_null(r, row, "bytes");
    }
    return 0;
}

static void print_summary(const struct plot *p)
{
    const struct plot_point *first = &p->points[0];
    const struct plot_point *last = &p->points[p->n - 1];
    double growth = last->value - first->value;
    double days = (double)(last->at_us - first->at_us) / 86400e6;
    double low = first->value;
    double high = first->value;

    for (size_t i = 1; i < p->n; i++) {
        low = p->points[i].value < low ? p->points[i].value : low;
        high = p->points[i].value > high ? p->points[i].value : high;
    }
    printf("%s samples over %s: from %s to %s, least %s, most %s",
           unit_count((int64_t)p->n).text,
           unit_span(last->at_us - first->at_us).text,
           unit_bytes(first->value).text, unit_bytes(last->value).text,
           unit_bytes(low).text, unit_bytes(high).text);
    if (days > 0) {
        printf("; %s%s from end to end", growth > 0 ? "+" : "",
               unit_bytes_per_day(growth / days).text);
    }
    putchar('\n');
}

/* Nothing is found: it may be an alias, merged into another tag. */
static int tell_none(PGconn *conn, const struct cli_words *words)
{
    const char *params[] = {words->v[0], words->v[1], words->v[2]};
    struct psc_error err;
    PGresult *r;

    printf("No samples of %s in pool %s on %s in that time.\n", words->v[2],
           words->v[1], words->v[0]);
    if (query_exec(conn,
                   "SELECT tag FROM poolscope.tag_alias "
                   "WHERE host = $1 AND pool = $2 AND alias = $3 ORDER BY tag",
                   3, params, &r, &err) != 0) {
        return cli_fail(&err);
    }
    if (PQntuples(r) > 0) {
        printf("%s is in %s on %s (see tag_alias).\n", words->v[2],
               query_value(r, 0, "tag"), words->v[0]);
    }
    PQclear(r);
    return CLI_OK;
}

/* *@any: there were samples. */
static int draw(struct cli *cli, const PGresult *r,
                const struct cli_words *words, int64_t since_us,
                int64_t until_us, bool *any)
{
    struct plot_point *points;
    struct plot p = {.from_us = since_us,
                     .to_us = until_us,
                     .width = cli->width > 0 ? cli->width : PLOT_WIDTH,
                     .height = PLOT_HEIGHT,
                     .utf8 = cli->utf8,
                     .bytes = true};

    if (read_points(r, &points, &p.n) != 0) {
        return cli_failf("out of memory");
    }
    *any = p.n > 0;
    if (*any) {
        p.points = points;
        /* A short history is not squeezed into a corner. */
        if (points[0].at_us > p.from_us &&
            points[p.n - 1].at_us > points[0].at_us) {
            p.from_us = points[0].at_us;
        }
        printf("%s, pool %s, host %s: bytes\n", words->v[2], words->v[1],
               words->v[0]);
        plot_print(&p, stdout);
        print_summary(&p);
    }
    free(points);
    return CLI_OK;
}

/* "also: signal_cache, pid": what else the tag accounts there. */
static int print_aliases(const struct cli *cli, PGconn *conn,
                         const struct cli_words *words)
{
    const char *params[] = {words->v[0], words->v[1], words->v[2]};
    struct psc_error err;
    PGresult *r;

    if (query_exec(conn,
                   "SELECT string_agg(alias, ', ' ORDER BY alias) AS aliases "
                   "FROM poolscope.tag_alias "
                   "WHERE host = $1 AND pool = $2 AND tag = $3",
                   3, params, &r, &err) != 0) {
        return cli_fail(&err);
    }
    if (!query_is_null(r, 0, "aliases")) {
        cli_print_wrapped(stdout, "also: ", query_value(r, 0, "aliases"), 6,
                          cli->width);
    }
    PQclear(r);
    return CLI_OK;
}

static int ask(struct cli *cli, const struct command *command, PGconn *conn,
               const struct cli_words *words, int64_t since_us,
               int64_t until_us)
{
    char since[48];
    char until[48];
    struct query q = {
        .sql = "SELECT at, allocs, frees, outstanding, bytes FROM "
               "poolscope.pool_history($1, $2, $3, $4::timestamptz, "
               "$5::timestamptz) ORDER BY at",
        .params = {words->v[0], words->v[1], words->v[2], since, until},
        .n_params = 5};
    struct psc_error err;
    PGresult *r;

    int code = query_check_pool(command, words->v[1]);
    code = code == CLI_OK ? query_check_host(conn, words->v[0]) : code;
    if (code != CLI_OK) {
        return code;
    }
    query_time_text(since, since_us);
    query_time_text(until, until_us);
    if (cli->format != CLI_TABLE) {
        return query_print(cli, conn, &q);
    }
    if (query_exec(conn, q.sql, q.n_params, q.params, &r, &err) != 0) {
        return cli_fail(&err);
    }
    bool any = false;
    code = draw(cli, r, words, since_us, until_us, &any);
    PQclear(r);
    if (code != CLI_OK) {
        return code;
    }
    return any ? print_aliases(cli, conn, words) : tell_none(conn, words);
}

static int history_ask(struct cli *cli, const struct command *command,
                       const struct history_conf *conf,
                       const struct cli_words *words)
{
    int64_t now_us = psc_clock_wall_us();
    int64_t since_us;
    int64_t until_us;
    struct psc_error err;
    PGconn *conn;

    if (unit_time_parse(conf->since, now_us, &since_us, &err) != 0 ||
        unit_time_parse(conf->until, now_us, &until_us, &err) != 0) {
        return cli_usagef(command, "%s", err.msg);
    }
    if (since_us >= until_us) {
        return cli_usagef(command, "--since must be earlier than --until");
    }
    int code = query_connect(cli, DATABASE_READER, &conn);
    if (code == CLI_OK) {
        code = ask(cli, command, conn, words, since_us, until_us);
        PQfinish(conn);
    }
    return code;
}

static int history_run(struct cli *cli, const struct command *command, int argc,
                       char **argv)
{
    struct history_conf conf = {0};
    struct cli_words words;
    int code = cli_args(cli, command, &conf, argc, argv, 3, 3, &words);

    if (code >= 0) {
        return code;
    }
    code = history_ask(cli, command, &conf, &words);
    psc_config_fini(history_options, &conf);
    return code;
}

const struct command command_history = {
    "history",
    "HOST POOL TAG [--since TIME] [--until TIME]",
    "one tag of one host over time, as a plot",
    "Draws the bytes of a tag as a text plot; a gap is a time without samples. "
    "'also' names the slab caches that the kernel has merged into this one. "
    "With --json or --csv it prints one row for each snapshot instead.",
    history_options,
    "  poolscope history db-1 slab filp --since 2h\n"
    "  poolscope history db-1 pages unaccounted --since 2026-03-01 --csv\n",
    history_run,
    CLI_SHOWN_ALL};
