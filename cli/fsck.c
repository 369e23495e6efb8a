/* `poolscope fsck`: is every chunk whole? Each is read and decoded to its end,
 * here and not by the server, so that a server need not load anything. */
#include <arpa/inet.h>
#include <endian.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/query.h"
#include "cli/units.h"
#include "common/clock.h"
#include "sql/codec/chunk_check.h"

#define PAGE_ROWS "32"

/* Columns of chunk_page(). */
enum { SPAN_AT, N_FROM, N_TO, AT_FROM, AT_TO, SNAPSHOTS, HEAD, LEVELS, DATA };

static const struct kind {
    const char *name;
    uint32_t columns;
} kinds[] = {{"tags", 4}, {"counters", 1}};

struct fsck {
    PGconn *conn;
    bool bar; /* a line of progress on the terminal */
    int hosts, host_nr;
    int64_t chunks, bytes, damaged;
    int64_t said_us;
};

/* --- the server's binary values --- */

static int64_t int64_at(const PGresult *r, int row, int col)
{
    uint64_t v = 0;
    if (PQgetlength(r, row, col) == (int)sizeof v) {
        memcpy(&v, PQgetvalue(r, row, col), sizeof v);
    }
    return (int64_t)be64toh(v);
}

static uint32_t int32_at(const PGresult *r, int row, int col)
{
    uint32_t v = 0;
    if (PQgetlength(r, row, col) == (int)sizeof v) {
        memcpy(&v, PQgetvalue(r, row, col), sizeof v);
    }
    return ntohl(v);
}

static int64_t time_at(const PGresult *r, int row, int col)
{
    return int64_at(r, row, col) + PSC_YEAR_2000_US;
}

static struct psc_bytes bytes_at(const PGresult *r, int row, int col)
{
    return (struct psc_bytes){(const uint8_t *)PQgetvalue(r, row, col),
                              (size_t)PQgetlength(r, row, col)};
}

/* --- what is said --- */

static void clear_bar(const struct fsck *f)
{
    if (f->bar) {
        fputs("\r\033[K", stderr);
    }
}

static void show_bar(struct fsck *f)
{
    int64_t now_us = psc_clock_mono_us();
    if (f->bar && now_us - f->said_us > PSC_US_PER_S / 5) {
        f->said_us = now_us;
        fprintf(stderr, "\r\033[Khost %d of %d, %s chunks, %s", f->host_nr,
                f->hosts, unit_count(f->chunks).text,
                unit_bytes((double)f->bytes).text);
    }
}

/* A damaged chunk: one line, for people and for scripts. */
static void tell(struct fsck *f, const char *host, const char *kind,
                 int64_t span_us, int64_t n_from, int64_t n_to, const char *why)
{
    time_t span_s = (time_t)(span_us / PSC_US_PER_S);
    char span[32] = "";
    struct tm tm;
    clear_bar(f);
    if (gmtime_r(&span_s, &tm) != NULL) {
        (void)strftime(span, sizeof span, "%Y-%m-%d %H:%M UTC", &tm);
    }
    printf("%s: chunk of %s from %s, samples %" PRId64 " to %" PRId64 ": %s\n",
           host, kind, span, n_from, n_to, why);
    f->damaged++;
}

/* --- checking --- */

static void check_row(struct fsck *f, const char *host, const struct kind *kind,
                      const PGresult *r, int row)
{
    const struct chunk_facts facts = {
        .columns = kind->columns,
        .snapshots = int32_at(r, row, SNAPSHOTS),
        .n_from = int64_at(r, row, N_FROM),
        .n_to = int64_at(r, row, N_TO),
        .at_from_us = time_at(r, row, AT_FROM),
        .at_to_us = time_at(r, row, AT_TO),
    };
    struct psc_bytes head = bytes_at(r, row, HEAD);
    struct psc_bytes levels = bytes_at(r, row, LEVELS);
    struct psc_bytes data = bytes_at(r, row, DATA);
    struct psc_error err;
    f->chunks++;
    f->bytes += (int64_t)(head.len + levels.len + data.len);
    if (chunk_check(&facts, head, levels, data, &chunk_openssl, &err) != 0) {
        tell(f, host, kind->name, time_at(r, row, SPAN_AT), facts.n_from,
             facts.n_to, err.msg);
    }
    show_bar(f);
}

/* The chunks behind one, whose key is @span (microseconds since 2000) and
 * @n; NULL with @err set if it fails. */
static PGresult *ask_page(PGconn *conn, const struct kind *kind,
                          const char *host_id, int64_t span, int64_t n,
                          struct psc_error *err)
{
    char at[64] = "-infinity";
    char after[24];
    if (span != INT64_MIN) {
        query_time_text(at, span + PSC_YEAR_2000_US);
    }
    snprintf(after, sizeof after, "%" PRId64, n);
    const char *params[] = {kind->name, host_id, at, after, PAGE_ROWS};
    PGresult *r =
        PQexecParams(conn,
                     "SELECT * FROM poolscope_api.chunk_page($1, $2::bigint, "
                     "$3::timestamptz, $4::bigint, $5::integer)",
                     5, NULL, params, NULL, NULL, 1);
    if (PQresultStatus(r) == PGRES_TUPLES_OK) {
        return r;
    }
    const char *text = PQerrorMessage(conn);
    (void)psc_error_set(err, PSC_DATABASE, "database: %.*s",
                        (int)strcspn(text, "\n"), text);
    PQclear(r);
    return NULL;
}

static int check_chunks(struct fsck *f, const char *host_id, const char *host,
                        const struct kind *kind, struct psc_error *err)
{
    int64_t span = INT64_MIN;
    int64_t n = -1;
    int rows;
    do {
        PGresult *r = ask_page(f->conn, kind, host_id, span, n, err);
        if (r == NULL) {
            return PSC_DATABASE;
        }
        rows = PQntuples(r);
        for (int row = 0; row < rows; row++) {
            check_row(f, host, kind, r, row);
        }
        if (rows > 0) {
            span = int64_at(r, rows - 1, SPAN_AT);
            n = int64_at(r, rows - 1, N_FROM);
        }
        PQclear(r);
    } while (rows > 0);
    return PSC_OK;
}

static int check_overlaps(struct fsck *f, const char *host_id, const char *host,
                          const struct kind *kind, struct psc_error *err)
{
    const char *params[] = {kind->name, host_id};
    PGresult *r;
    int rc = query_exec(f->conn,
                        "SELECT span_at, n_from, n_to, why FROM "
                        "poolscope_api.chunk_overlaps($1, $2::bigint)",
                        2, params, &r, err);
    for (int row = 0; rc == 0 && row < PQntuples(r); row++) {
        tell(f, host, kind->name, query_time_us(query_value(r, row, "span_at")),
             strtoll(query_value(r, row, "n_from"), NULL, 10),
             strtoll(query_value(r, row, "n_to"), NULL, 10),
             query_value(r, row, "why"));
    }
    if (rc == 0) {
        PQclear(r);
    }
    return rc;
}

static int check_host(struct fsck *f, const char *host_id, const char *host,
                      struct psc_error *err)
{
    int rc = PSC_OK;
    for (size_t i = 0; rc == 0 && i < sizeof kinds / sizeof *kinds; i++) {
        rc = check_chunks(f, host_id, host, &kinds[i], err);
        if (rc == 0) {
            rc = check_overlaps(f, host_id, host, &kinds[i], err);
        }
    }
    return rc;
}

static int check_hosts(struct fsck *f, const char *pattern,
                       struct psc_error *err)
{
    char like[1024];
    PGresult *r;
    int rc = query_like(like, sizeof like, pattern, err);
    if (rc == 0) {
        const char *params[] = {like};
        rc = query_exec(f->conn,
                        "SELECT host_id, host FROM poolscope.host "
                        "WHERE host LIKE $1 ESCAPE '\\' ORDER BY host_id",
                        1, params, &r, err);
    }
    if (rc != 0) {
        return rc;
    }
    f->hosts = PQntuples(r);
    for (int row = 0; rc == 0 && row < f->hosts; row++) {
        f->host_nr = row + 1;
        rc = check_host(f, query_value(r, row, "host_id"),
                        query_value(r, row, "host"), err);
    }
    PQclear(r);
    clear_bar(f);
    return rc;
}

static int fsck_run(struct cli *cli, const struct command *command, int argc,
                    char **argv)
{
    struct fsck f = {.bar = isatty(STDERR_FILENO) != 0};
    struct cli_words words;
    struct psc_error err;
    int code = cli_args(cli, command, NULL, argc, argv, 0, 1, &words);

    if (code >= 0) {
        return code;
    }
    code = cli_no_format(cli, command, "fsck");
    if (code >= 0) {
        return code;
    }
    const char *pattern = words.n > 0 ? words.v[0] : "*";
    code = query_connect(cli, DATABASE_WRITER, &f.conn);
    if (code != CLI_OK) {
        return code;
    }
    code = query_check_host(f.conn, pattern);
    if (code == CLI_OK && check_hosts(&f, pattern, &err) != 0) {
        code = cli_fail(&err);
    }
    PQfinish(f.conn);
    if (code == CLI_OK) {
        printf("%s chunk%s of %s host%s, %s: %s\n", unit_count(f.chunks).text,
               f.chunks == 1 ? "" : "s", unit_count(f.hosts).text,
               f.hosts == 1 ? "" : "s", unit_bytes((double)f.bytes).text,
               f.damaged == 0 ? "all whole" : "some are damaged");
        code = f.damaged == 0 ? CLI_OK : CLI_FAILURE;
    }
    return code;
}

const struct command command_fsck = {
    "fsck",
    "[HOST]",
    "check every settled sample in the database",
    "Reads each chunk of settled samples (of the hosts that fit HOST), checks "
    "its checksums, decodes it to its end, and compares it with what its row "
    "says; no two chunks may hold the same sample. Prints a line for each "
    "that is damaged; then it fails (1). What is damaged answers queries with "
    "an error that names the block; the rest of the host is not touched. "
    "Runs beside a collector.",
    NULL,
    "  poolscope fsck\n"
    "  poolscope fsck 'db-*'\n",
    fsck_run,
    CLI_SHOWN_DATABASE};
