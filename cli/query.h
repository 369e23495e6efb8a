/* Questions to the database: connect, ask, and show the rows as a table for
 * people, as JSON or as CSV. Scripts get the columns as the database names
 * and writes them; only tables have units. */
#ifndef PSC_CLI_QUERY_H
#define PSC_CLI_QUERY_H

#include <libpq-fe.h>
#include <stdint.h>

#include "cli/cli.h"
#include "cli/listing.h"

/* How a table shows a column's value. */
enum show {
    SHOW_TEXT,
    SHOW_NAME,    /* text that may be cut when room is short */
    SHOW_TAIL,    /* the same, but its end is what tells */
    SHOW_PROSE,   /* the last column: told below when room is short */
    SHOW_COUNT,   /* 5,246 */
    SHOW_VALUE,   /* a real number: 5,246 or 0.25 */
    SHOW_BYTES,   /* 97.7 MiB */
    SHOW_DELTA,   /* bytes with a sign: +1.50 MiB */
    SHOW_PER_DAY, /* 22.1 GiB/day */
    SHOW_AGO,     /* 3 h ago, in 2 d */
    SHOW_SEEN,    /* 3 h ago; NULL is "never" */
    SHOW_TIME,    /* 2026-03-02 14:00:05 UTC */
    SHOW_STATUS,  /* text that a colour suits */
};

struct query_column {
    const char *name;  /* of the result's column */
    const char *title; /* in the table */
    enum show show;
};

#define QUERY_PARAMS_MAX 8

struct query {
    const char *sql;                      /* with $1, $2, … */
    const struct query_column *columns;   /* ended by a NULL name */
    const char *params[QUERY_PARAMS_MAX]; /* NULL is SQL's NULL */
    int n_params;
    const char *empty; /* what a table says instead of no rows */
    const char *host;  /* it is an error if no host fits; NULL: any */
    bool host_above;   /* a table of one host tells it above, in no column */
};

/* Connect as @role; *@conn is to be closed by PQfinish(). Tells an error and
 * returns CLI_FAILURE or CLI_USAGE, or returns CLI_OK. */
PSC_MUST_CHECK int query_connect(struct cli *cli, enum database_role role,
                                 PGconn **conn);

/* Run a statement; the result is never NULL on success and to be cleared by
 * PQclear(). Returns 0 or PSC_DATABASE. */
PSC_MUST_CHECK int query_exec(PGconn *conn, const char *sql, int n_params,
                              const char *const *params, PGresult **result,
                              struct psc_error *err);

/* Ask and print, as @cli->format says. Returns an exit code; errors are
 * told. */
int query_print(struct cli *cli, PGconn *conn, const struct query *q);

/* Fail if no host's name fits @pattern (* and ? as users write them; "*" fits
 * even none). Returns an exit code; errors are told. */
PSC_MUST_CHECK int query_check_host(PGconn *conn, const char *pattern);

/* The same for the name of a pool; NULL is fine, any other is wrong usage. */
PSC_MUST_CHECK int query_check_pool(const struct command *command,
                                    const char *pool);

/* connect, query_print, disconnect: all that most commands do. */
int query_run(struct cli *cli, const struct query *q);

/* One value as a table shows it. @now_us is for ages. */
void query_show(char *out, size_t cap, const char *value, enum show show,
                int64_t now_us);

/* The column's value in a row, "" for NULL or no such column. */
const char *query_value(const PGresult *result, int row, const char *column);
bool query_is_null(const PGresult *result, int row, const char *column);

/* A timestamptz as PostgreSQL writes it, as microseconds; 0 if it is none. */
int64_t query_time_us(const char *text);

/* Microseconds as text that casts to timestamptz. */
void query_time_text(char out[48], int64_t at_us);

/* A user's pattern with * and ? as one for LIKE (escape character \). */
PSC_MUST_CHECK int query_like(char *out, size_t cap, const char *pattern,
                              struct psc_error *err);

#endif
