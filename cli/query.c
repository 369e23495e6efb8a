/* Questions to the database and their answers. See query.h. */
#include "cli/query.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/units.h"
#include "common/clock.h"
#include "proto/table.h"
#include "sql/migrate.h"

static int resolve(struct cli *cli, enum database_role role, char **conninfo)
{
    struct psc_error err;
    int rc = database_options_resolve(&cli->options.database, &err);

    if (rc != 0) {
        cli_fail(&err);
        return rc == PSC_CONFIG ? CLI_USAGE : CLI_FAILURE;
    }
    cli->options.database.must_exist = true; /* questions make nothing */
    if (database_conninfo(&cli->options.database, role, conninfo, &err) != 0) {
        return cli_fail(&err);
    }
    return CLI_OK;
}

/* Without the line's end that libpq's messages have. */
static int fail_libpq(const char *what, const char *message)
{
    size_t len = strlen(message);

    while (len > 0 && message[len - 1] == '\n') {
        len--;
    }
    return cli_failf("%s: %.*s", what, (int)len, message);
}

static int prepare_session(PGconn *conn)
{
    struct psc_error err;
    PGresult *result;
    int rc = migrate_check(conn, &err);

    if (rc == 0) {
        rc = query_exec(conn,
                        "SET DateStyle = 'ISO'; SET TimeZone = 'UTC'; "
                        "SET IntervalStyle = 'postgres'; "
                        "SET client_encoding = 'UTF8'",
                        -1, NULL, &result, &err);
        if (rc == 0) {
            PQclear(result);
        }
    }
    return rc == 0 ? CLI_OK : cli_fail(&err);
}

int query_connect(struct cli *cli, enum database_role role, PGconn **conn)
{
    char *conninfo = NULL;
    char name[256];
    int code = resolve(cli, role, &conninfo);

    *conn = NULL;
    if (code != CLI_OK) {
        return code;
    }
    const char *const keywords[] = {"dbname", "fallback_application_name",
                                    NULL};
    const char *const values[] = {conninfo, "poolscope", NULL};
    *conn = PQconnectdbParams(keywords, values, 1);
    free(conninfo);
    database_describe(&cli->options.database, name, sizeof name);
    if (PQstatus(*conn) != CONNECTION_OK) {
        code =
            fail_libpq(name, *conn ? PQerrorMessage(*conn) : "out of memory");
    } else {
        code = prepare_session(*conn);
    }
    if (code != CLI_OK) {
        PQfinish(*conn);
        *conn = NULL;
    }
    return code;
}

int query_exec(PGconn *conn, const char *sql, int n_params,
               const char *const *params, PGresult **result,
               struct psc_error *err)
{
    *result = n_params < 0 ? PQexec(conn, sql)
                           : PQexecParams(conn, sql, n_params, NULL, params,
                                          NULL, NULL, 0);
    ExecStatusType status = PQresultStatus(*result);
    if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK) {
        return 0;
    }
    const char *text = PQresultErrorField(*result, PG_DIAG_MESSAGE_PRIMARY);
    text = text ? text : PQerrorMessage(conn);
    psc_error_set(err, PSC_DATABASE, "database: %.*s", (int)strcspn(text, "\n"),
                  text);
    PQclear(*result);
    *result = NULL;
    return PSC_DATABASE;
}

/* --- scripts --- */

/* Each row made JSON by the server. */
static int print_json(PGconn *conn, const struct query *q,
                      struct psc_error *err)
{
    size_t cap = strlen(q->sql) + 64;
    char *sql = malloc(cap);
    PGresult *result;

    if (!sql) {
        return psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    snprintf(sql, cap, "SELECT row_to_json(q) FROM (%s) q", q->sql);
    int rc = query_exec(conn, sql, q->n_params, q->params, &result, err);
    free(sql);
    if (rc != 0) {
        return rc;
    }
    putchar('[');
    for (int row = 0; row < PQntuples(result); row++) {
        printf("%s%s", row == 0 ? "" : ",\n ", PQgetvalue(result, row, 0));
    }
    puts("]");
    PQclear(result);
    return 0;
}

static void print_csv_field(const char *text)
{
    if (!strpbrk(text, ",\"\r\n")) {
        fputs(text, stdout);
        return;
    }
    putchar('"');
    for (; *text; text++) {
        if (*text == '"') {
            putchar('"');
        }
        putchar(*text);
    }
    putchar('"');
}

static void print_csv(const PGresult *result)
{
    int columns = PQnfields(result);

    for (int row = -1; row < PQntuples(result); row++) {
        for (int column = 0; column < columns; column++) {
            if (column > 0) {
                putchar(',');
            }
            print_csv_field(row < 0 ? PQfname(result, column)
                                    : PQgetvalue(result, row, column));
        }
        putchar('\n');
    }
}

/* --- people --- */

int64_t query_time_us(const char *text)
{
    struct psc_error err;
    int64_t at_us;

    return *text && unit_time_parse(text, 0, &at_us, &err) == 0 ? at_us : 0;
}

void query_time_text(char out[48], int64_t at_us)
{
    time_t s = (time_t)(at_us / PSC_US_PER_S);
    struct tm tm;
    size_t len = 0;

    if (gmtime_r(&s, &tm)) {
        len = strftime(out, 48, "%Y-%m-%dT%H:%M:%S", &tm);
    }
    snprintf(out + len, 48 - len, ".%06dZ", (int)(at_us % PSC_US_PER_S));
}

static void show_time(char *out, size_t cap, int64_t at_us)
{
    time_t s = (time_t)(at_us / PSC_US_PER_S);
    struct tm tm;

    if (!gmtime_r(&s, &tm) ||
        strftime(out, cap, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0) {
        snprintf(out, cap, "?");
    }
}

static void show_value(char *out, size_t cap, double value)
{
    if (fabs(value) < 9e15 && value == floor(value)) {
        snprintf(out, cap, "%s", unit_count((int64_t)value).text);
    } else {
        snprintf(out, cap, "%.6g", value);
    }
}

void query_show(char *out, size_t cap, const char *value, enum show show,
                int64_t now_us)
{
    double number = strtod(value, NULL);
    int64_t at_us;

    if (!*value) {
        snprintf(out, cap, "%s", show == SHOW_SEEN ? "never" : "");
        return;
    }
    switch (show) {
    case SHOW_TEXT:
    case SHOW_NAME:
    case SHOW_TAIL:
    case SHOW_PROSE:
    case SHOW_STATUS: snprintf(out, cap, "%s", value); return;
    case SHOW_VALUE: show_value(out, cap, number); return;
    case SHOW_COUNT:
        snprintf(out, cap, "%s", unit_count(strtoll(value, NULL, 10)).text);
        return;
    case SHOW_BYTES: snprintf(out, cap, "%s", unit_bytes(number).text); return;
    case SHOW_DELTA:
        snprintf(out, cap, "%s%s", number > 0 ? "+" : "",
                 unit_bytes(number).text);
        return;
    case SHOW_PER_DAY:
        snprintf(out, cap, "%s", unit_bytes_per_day(number).text);
        return;
    case SHOW_AGO:
    case SHOW_SEEN:
    case SHOW_TIME: break;
    }
    at_us = query_time_us(value);
    if (at_us == 0) {
        snprintf(out, cap, "%s", value); /* infinity */
    } else if (show == SHOW_AGO || show == SHOW_SEEN) {
        snprintf(out, cap, "%s", unit_ago(at_us, now_us).text);
    } else {
        show_time(out, cap, at_us);
    }
}

static enum listing_style status_style(const char *value)
{
    static const struct {
        const char *text;
        enum listing_style style;
    } styles[] = {
        {"reporting", LISTING_GREEN}, {"silent", LISTING_RED},
        {"disabled", LISTING_DIM},    {"open", LISTING_RED},
        {"critical", LISTING_RED},    {"warning", LISTING_YELLOW},
        {"resolved", LISTING_GREEN},  {"acknowledged", LISTING_YELLOW},
        {"usable", LISTING_GREEN},    {"revoked", LISTING_DIM},
        {"used", LISTING_DIM},        {"expired", LISTING_DIM},
    };

    for (size_t i = 0; i < sizeof styles / sizeof *styles; i++) {
        if (strcmp(value, styles[i].text) == 0) {
            return styles[i].style;
        }
    }
    return LISTING_PLAIN;
}

static bool stands_right(enum show show)
{
    return show == SHOW_COUNT || show == SHOW_VALUE || show == SHOW_BYTES ||
           show == SHOW_DELTA || show == SHOW_PER_DAY || show == SHOW_AGO ||
           show == SHOW_SEEN;
}

static enum listing_room room_of(enum show show)
{
    switch (show) {
    case SHOW_NAME: return LISTING_CUT;
    case SHOW_TAIL: return LISTING_TAIL;
    case SHOW_PROSE: return LISTING_BELOW;
    default: return LISTING_WHOLE;
    }
}

/* Whether any row has a value there: a column of nothing is left out. */
static bool has_values(const PGresult *result, const char *column)
{
    for (int row = 0; row < PQntuples(result); row++) {
        if (*query_value(result, row, column)) {
            return true;
        }
    }
    return false;
}

/* The host of all rows, or NULL if there are several. */
static const char *host_of_all(const PGresult *result)
{
    const char *host = query_value(result, 0, "host");

    for (int row = 1; row < PQntuples(result); row++) {
        if (strcmp(query_value(result, row, "host"), host) != 0) {
            return NULL;
        }
    }
    return host;
}

/* @without: the column to leave out, or NULL. */
static void fill(struct listing *g, const struct query *q,
                 const PGresult *result, const char *without)
{
    const struct query_column *shown[LISTING_COLUMNS_MAX];
    int64_t now_us = psc_clock_wall_us();
    size_t n = 0;
    char text[1024];

    for (const struct query_column *c = q->columns; c->name; c++) {
        bool told = c->show == SHOW_SEEN || has_values(result, c->name);
        if (n < LISTING_COLUMNS_MAX && told &&
            (!without || strcmp(c->name, without) != 0)) {
            listing_column(g, c->title, stands_right(c->show),
                           room_of(c->show));
            shown[n++] = c;
        }
    }
    for (int row = 0; row < PQntuples(result); row++) {
        for (size_t i = 0; i < n; i++) {
            const char *value = query_value(result, row, shown[i]->name);
            query_show(text, sizeof text, value, shown[i]->show, now_us);
            listing_add(g, text,
                        shown[i]->show == SHOW_STATUS ? status_style(value)
                                                      : LISTING_PLAIN);
        }
    }
}

static int print_table(struct cli *cli, const struct query *q,
                       const PGresult *result, struct psc_error *err)
{
    struct listing g;
    int rc = 0;

    if (PQntuples(result) == 0) {
        if (q->empty) {
            printf("%s\n", q->empty);
        }
        return 0;
    }
    listing_init(&g);
    const char *host = q->host_above ? host_of_all(result) : NULL;
    if (host) {
        printf("Host %s\n", host);
    }
    fill(&g, q, result, host ? "host" : NULL);
    if (listing_print(&g, stdout, cli->width, 0, cli->color) != 0) {
        rc = psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    listing_fini(&g);
    return rc;
}

int query_check_host(PGconn *conn, const char *pattern)
{
    struct psc_error err;
    char like[512];
    PGresult *r;
    const char *params[] = {like};

    if (strcmp(pattern, "*") == 0) {
        return CLI_OK;
    }
    if (query_like(like, sizeof like, pattern, &err) != 0 ||
        query_exec(conn,
                   "SELECT EXISTS (SELECT FROM poolscope.host "
                   "WHERE host LIKE $1) AS known",
                   1, params, &r, &err) != 0) {
        return cli_fail(&err);
    }
    bool known = strcmp(query_value(r, 0, "known"), "t") == 0;
    PQclear(r);
    return known ? CLI_OK
                 : cli_failf("no host '%s': 'poolscope hosts' lists them",
                             pattern);
}

int query_check_pool(const struct command *command, const char *pool)
{
    enum pool known;

    if (!pool || pool_parse(pool, &known)) {
        return CLI_OK;
    }
    return cli_usagef(command,
                      "no pool '%s': there are paged, nonpaged, slab, "
                      "vmalloc, alloc and pages",
                      pool);
}

int query_print(struct cli *cli, PGconn *conn, const struct query *q)
{
    struct psc_error err;
    PGresult *result;

    if (q->host) {
        int code = query_check_host(conn, q->host);
        if (code != CLI_OK) {
            return code;
        }
    }
    if (cli->format == CLI_JSON) {
        return print_json(conn, q, &err) == 0 ? CLI_OK : cli_fail(&err);
    }
    int rc = query_exec(conn, q->sql, q->n_params, q->params, &result, &err);
    if (rc == 0 && cli->format == CLI_CSV) {
        print_csv(result);
    } else if (rc == 0) {
        rc = print_table(cli, q, result, &err);
    }
    PQclear(result);
    return rc == 0 ? CLI_OK : cli_fail(&err);
}

int query_run(struct cli *cli, const struct query *q)
{
    PGconn *conn;
    int code = query_connect(cli, DATABASE_READER, &conn);

    if (code != CLI_OK) {
        return code;
    }
    code = query_print(cli, conn, q);
    PQfinish(conn);
    return code;
}

const char *query_value(const PGresult *result, int row, const char *column)
{
    int at = PQfnumber(result, column);

    return at < 0 ? "" : PQgetvalue(result, row, at);
}

bool query_is_null(const PGresult *result, int row, const char *column)
{
    int at = PQfnumber(result, column);

    return at < 0 || PQgetisnull(result, row, at);
}

int query_like(char *out, size_t cap, const char *pattern,
               struct psc_error *err)
{
    size_t n = 0;

    for (; *pattern && n + 3 < cap; pattern++) {
        if (*pattern == '*') {
            out[n++] = '%';
        } else if (*pattern == '?') {
            out[n++] = '_';
        } else {
            if (strchr("%_\\", *pattern)) {
                out[n++] = '\\';
            }
            out[n++] = *pattern;
        }
    }
    out[n] = '\0';
    return *pattern ? psc_error_set(err, PSC_LIMIT, "pattern is too long") : 0;
}
