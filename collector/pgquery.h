/* Statements on a blocking connection: the worker's. Parameters and results
 * are in binary form. */
#ifndef PSC_COLLECTOR_PGQUERY_H
#define PSC_COLLECTOR_PGQUERY_H

#include <stdbool.h>

#include "collector/pgparam.h"
#include "common/error.h"

/* A statement that is prepared once a connection. */
struct pgstatement {
    const char *name, *sql;
};

/* SQLSTATE of a failure, "" where libpq has none to tell. */
struct pgstate {
    char text[6];
};

/* Whether a failure with this code and state is everybody's: it may pass, and
 * says nothing about what was asked for. */
bool pgquery_is_everybodys(int rc, const struct pgstate *state);

/* Say in @err, and in @state unless it is NULL, why @res failed. Returns
 * PSC_CONNECTION if the connection is of no use any more, else
 * PSC_DATABASE. */
int pgquery_failed(PGconn *conn, const PGresult *res, struct psc_error *err,
                   struct pgstate *state);

/* Run @sql. The rows are the caller's to PQclear(). NULL on failure; @err then
 * says why, as pgquery_failed() does. */
PGresult *pgquery(PGconn *conn, const char *sql, const struct pgparams *p,
                  struct psc_error *err);

/* The same; @state, too, says why. */
PGresult *pgquery_told(PGconn *conn, const char *sql, const struct pgparams *p,
                       struct psc_error *err, struct pgstate *state);

/* Prepare @statement. Returns 0 or what pgquery_failed() does. */
PSC_MUST_CHECK int pgquery_prepare(PGconn *conn,
                                   const struct pgstatement *statement,
                                   struct psc_error *err,
                                   struct pgstate *state);

/* pgquery() of the prepared statement @name. */
PGresult *pgquery_prepared(PGconn *conn, const char *name,
                           const struct pgparams *p, struct psc_error *err,
                           struct pgstate *state);

/* Start the same; its rows are to be taken one by one with PQgetResult().
 * Returns 0 or PSC_CONNECTION. */
PSC_MUST_CHECK int pgquery_stream(PGconn *conn, const char *name,
                                  const struct pgparams *p,
                                  struct psc_error *err);

#endif
