/* One statement on a blocking connection: the worker's. */
#ifndef PSC_COLLECTOR_PGQUERY_H
#define PSC_COLLECTOR_PGQUERY_H

#include "collector/pgparam.h"
#include "common/error.h"

/* Run @sql, parameters and result in binary form. The rows are the caller's to
 * PQclear(). NULL on failure; @err then has PSC_CONNECTION if the connection
 * is of no use any more, else PSC_DATABASE. */
PGresult *pgquery(PGconn *conn, const char *sql, const struct pgparams *p,
                  struct psc_error *err);

#endif
