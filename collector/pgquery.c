/* Ask and wait. */
#include "collector/pgquery.h"

#include <string.h>

enum { BINARY = 1 };

/* Parameters as libpq takes them. */
struct arguments {
    const char *values[PGLINK_PARAMS_MAX];
    int lengths[PGLINK_PARAMS_MAX];
    int formats[PGLINK_PARAMS_MAX];
};

static void spread(const struct pgparams *p, struct arguments *a)
{
    for (unsigned i = 0; i < p->n; i++) {
        a->values[i] = p->param[i].data;
        a->lengths[i] = p->param[i].len;
        a->formats[i] = p->param[i].binary ? BINARY : 0;
    }
}

bool pgquery_is_everybodys(int rc, const struct pgstate *state)
{
    static const char *const classes[] = {"08", "25", "40", "42",
                                          "53", "55", "57", "58"};
    if (rc == PSC_CONNECTION || rc == PSC_NOMEM) {
        return true;
    }
    for (unsigned i = 0;
         rc == PSC_DATABASE && i < sizeof(classes) / sizeof(classes[0]); i++) {
        if (strncmp(state->text, classes[i], 2) == 0) {
            return true;
        }
    }
    return false;
}

int pgquery_failed(PGconn *conn, const PGresult *res, struct psc_error *err,
                   struct pgstate *state)
{
    const char *text = PQresultErrorMessage(res);
    const char *code = PQresultErrorField(res, PG_DIAG_SQLSTATE);
    if (state != NULL) {
        *state = (struct pgstate){.text = ""};
        if (code != NULL) {
            memcpy(state->text, code, strnlen(code, sizeof(state->text) - 1));
        }
    }
    return psc_error_set(
        err, PQstatus(conn) == CONNECTION_OK ? PSC_DATABASE : PSC_CONNECTION,
        "%.*s", (int)strcspn(text, "\n"), text);
}

/* @res if it has rows, else NULL. */
static PGresult *rows_of(PGconn *conn, PGresult *res, struct psc_error *err,
                         struct pgstate *state)
{
    if (PQresultStatus(res) == PGRES_TUPLES_OK) {
        return res;
    }
    (void)pgquery_failed(conn, res, err, state);
    PQclear(res);
    return NULL;
}

PGresult *pgquery(PGconn *conn, const char *sql, const struct pgparams *p,
                  struct psc_error *err)
{
    return pgquery_told(conn, sql, p, err, NULL);
}

PGresult *pgquery_told(PGconn *conn, const char *sql, const struct pgparams *p,
                       struct psc_error *err, struct pgstate *state)
{
    struct arguments a;
    spread(p, &a);
    return rows_of(conn,
                   PQexecParams(conn, sql, (int)p->n, NULL, a.values, a.lengths,
                                a.formats, BINARY),
                   err, state);
}

int pgquery_prepare(PGconn *conn, const struct pgstatement *statement,
                    struct psc_error *err, struct pgstate *state)
{
    PGresult *res = PQprepare(conn, statement->name, statement->sql, 0, NULL);
    int rc = PQresultStatus(res) == PGRES_COMMAND_OK
                 ? PSC_OK
                 : pgquery_failed(conn, res, err, state);
    PQclear(res);
    return rc;
}

PGresult *pgquery_prepared(PGconn *conn, const char *name,
                           const struct pgparams *p, struct psc_error *err,
                           struct pgstate *state)
{
    struct arguments a;
    spread(p, &a);
    return rows_of(conn,
                   PQexecPrepared(conn, name, (int)p->n, a.values, a.lengths,
                                  a.formats, BINARY),
                   err, state);
}

int pgquery_stream(PGconn *conn, const char *name, const struct pgparams *p,
                   struct psc_error *err)
{
    struct arguments a;
    spread(p, &a);
    if (PQsendQueryPrepared(conn, name, (int)p->n, a.values, a.lengths,
                            a.formats, BINARY) == 0 ||
        PQsetSingleRowMode(conn) == 0) {
        return psc_error_set(err, PSC_CONNECTION, "%.200s",
                             PQerrorMessage(conn));
    }
    return PSC_OK;
}
