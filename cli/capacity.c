/* How long samples are kept, what they take, and how long the disk lasts. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "cli/commands.h"
#include "cli/query.h"
#include "cli/units.h"
#include "common/clock.h"

/* --- retention --- */

static int show_retention(struct cli *cli)
{
    static const struct query_column columns[] = {
        {"name", "NAME", SHOW_TEXT},
        {"kept", "KEPT", SHOW_TEXT},
        {"meaning", "MEANING", SHOW_PROSE},
        {NULL, NULL, SHOW_TEXT}};
    const struct query q = {
        .sql = "SELECT substr(name, 11) AS name, value AS kept, meaning "
               "FROM poolscope.setting WHERE name LIKE 'retention\\_%' "
               "ORDER BY value::interval, name",
        .columns = columns};
    return query_run(cli, &q);
}

static int set_retention(struct cli *cli, const char *name, const char *kept)
{
    const char *params[] = {name, kept};
    struct psc_error err;
    PGresult *r;
    PGconn *conn;
    int code = query_connect(cli, DATABASE_WRITER, &conn);

    if (code != CLI_OK) {
        return code;
    }
    if (query_exec(conn,
                   "SELECT poolscope_api.setting_set('retention_' || $1, $2)",
                   2, params, &r, &err) != 0) {
        code = cli_fail(&err);
    } else {
        PQclear(r);
        printf("%s are kept for %s; what is older goes within minutes, once "
               "it is in summaries\n",
               name, kept);
    }
    PQfinish(conn);
    return code;
}

static int retention_run(struct cli *cli, const struct command *command,
                         int argc, char **argv)
{
    struct cli_words words;
    int code = cli_args(cli, command, NULL, argc, argv, 1, 3, &words);

    if (code >= 0) {
        return code;
    }
    if (strcmp(words.v[0], "show") == 0 && words.n == 1) {
        return show_retention(cli);
    }
    if (strcmp(words.v[0], "set") == 0 && words.n == 3) {
        code = cli_no_format(cli, command, "retention set");
        return code >= 0 ? code : set_retention(cli, words.v[1], words.v[2]);
    }
    return cli_no_verb(command, &words);
}

const struct command command_retention = {
    "retention",
    "show | set NAME TIME",
    "how long samples and summaries are kept",
    "NAME is points (samples as they came), hours, days (summaries) or events; "
    "TIME is written as PostgreSQL reads intervals: '14 days', '2 years'. "
    "'poolscope capacity' tells what that takes.",
    NULL,
    "  poolscope retention show\n"
    "  poolscope retention set points '14 days'\n",
    retention_run,
    CLI_SHOWN_ALL};

/* --- capacity --- */

enum { TIERS_MAX = 16, DAYS_MAX = 3660 };

struct forecast {
    int n;
    double now[TIERS_MAX];  /* bytes */
    double rate[TIERS_MAX]; /* bytes a day */
    double full[TIERS_MAX]; /* bytes when as much is there as is kept */
};

#define CAPACITY_SQL                                                           \
    "SELECT c.tier, c.bytes, c.kept, "                                         \
    "c.host_day_bytes::bigint AS host_day_bytes, "                             \
    "(c.host_day_bytes * h.hosts)::bigint AS day_bytes, "                      \
    "CASE WHEN c.host_day_bytes IS NULL THEN c.bytes ELSE greatest(c.bytes, "  \
    "c.host_day_bytes * h.hosts * extract(epoch FROM c.kept) / "               \
    "86400)::bigint "                                                          \
    "END AS full_bytes "                                                       \
    "FROM poolscope_api.capacity() c, (SELECT count(*) AS hosts "              \
    "FROM poolscope.host WHERE status = 'reporting') h"

static double number(const PGresult *r, int row, const char *column)
{
    return strtod(query_value(r, row, column), NULL);
}

static void read_forecast(const PGresult *r, struct forecast *f)
{
    f->n = PQntuples(r) < TIERS_MAX ? PQntuples(r) : TIERS_MAX;
    for (int i = 0; i < f->n; i++) {
        f->now[i] = number(r, i, "bytes");
        f->rate[i] = number(r, i, "day_bytes");
        f->full[i] = number(r, i, "full_bytes");
    }
}

/* Bytes more than now after so many days. */
static double growth(const struct forecast *f, double days)
{
    double more = 0;

    for (int i = 0; i < f->n; i++) {
        more += fmin(f->rate[i] * days, f->full[i] - f->now[i]);
    }
    return more;
}

/* What becomes of a disk with @free bytes left. */
static void tell_disk(const struct forecast *f, const char *what, double free)
{
    double all = growth(f, DAYS_MAX);
    int day = 0;

    printf("%s has %s free; what is kept will grow by %s", what,
           unit_bytes(free).text, unit_bytes(all).text);
    while (day < DAYS_MAX && growth(f, day) < free) {
        day++;
    }
    if (all < free) {
        printf(": enough\n");
    } else {
        printf(": full in %s\n",
               unit_span((int64_t)day * 86400 * PSC_US_PER_S).text);
    }
}

static void tell_total(const struct cli *cli, const struct forecast *f)
{
    double now = 0;
    double full = 0;
    double rate = 0;

    for (int i = 0; i < f->n; i++) {
        now += f->now[i];
        full += f->full[i];
        rate += f->rate[i];
    }
    if (rate <= 0) {
        printf("\nall together %s; what will come cannot be told before "
               "samples of reporting hosts are settled\n",
               unit_bytes(now).text);
        return;
    }
    printf("\nall together %s now, %s when as much is there as is kept\n",
           unit_bytes(now).text, unit_bytes(full).text);
    const char *dir = cli->options.database.data_dir;
    struct statvfs disk;
    if (dir != NULL && statvfs(dir, &disk) == 0) {
        tell_disk(f, dir, (double)disk.f_bavail * (double)disk.f_frsize);
    }
}

static int capacity_run(struct cli *cli, const struct command *command,
                        int argc, char **argv)
{
    static const struct query_column columns[] = {
        {"tier", "TIER", SHOW_TEXT},
        {"kept", "KEPT", SHOW_TEXT},
        {"bytes", "NOW", SHOW_BYTES},
        {"host_day_bytes", "A HOST AND DAY", SHOW_BYTES},
        {"day_bytes", "A DAY", SHOW_BYTES},
        {"full_bytes", "WHEN FULL", SHOW_BYTES},
        {NULL, NULL, SHOW_TEXT}};
    const struct query q = {.sql = CAPACITY_SQL, .columns = columns};
    struct cli_words words;
    struct forecast f;
    struct psc_error err;
    PGresult *r;
    PGconn *conn;
    int code = cli_args(cli, command, NULL, argc, argv, 0, 0, &words);

    if (code >= 0) {
        return code;
    }
    code = query_connect(cli, DATABASE_WRITER, &conn);
    if (code != CLI_OK) {
        return code;
    }
    code = query_print(cli, conn, &q);
    if (code == CLI_OK && cli->format == CLI_TABLE) {
        if (query_exec(conn, q.sql, 0, NULL, &r, &err) == 0) {
            read_forecast(r, &f);
            PQclear(r);
            tell_total(cli, &f);
        } else {
            code = cli_fail(&err);
        }
    }
    PQfinish(conn);
    return code;
}

const struct command command_capacity = {
    "capacity",
    "",
    "what the fleet's samples take, and how long the disk lasts",
    "For each tier: what it takes now, what a host adds to it in a day, what "
    "the reporting hosts do, and what it will take when as much is there as "
    "is kept ('poolscope retention'). By what the newest whole day takes, so "
    "nothing is told before there is one. Of an embedded database's disk it "
    "tells when it will be full. Room for the database's own log "
    "(max_wal_size) comes on top.",
    NULL,
    "  poolscope capacity\n",
    capacity_run,
    CLI_SHOWN_ALL};
