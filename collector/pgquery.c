/* Ask and wait. */
#include "collector/pgquery.h"

#include <string.h>

PGresult *pgquery(PGconn *conn, const char *sql, const struct pgparams *p,
                  struct psc_error *err)
{
    const char *values[PGLINK_PARAMS_MAX];
    int lengths[PGLINK_PARAMS_MAX];
    int formats[PGLINK_PARAMS_MAX];
    for (unsigned i = 0; i < p->n; i++) {
        values[i] = p->param[i].data;
        lengths[i] = p->param[i].len;
        formats[i] = p->param[i].binary ? 1 : 0;
    }
    PGresult *res =
        PQexecParams(conn, sql, (int)p->n, NULL, values, lengths, formats, 1);
    if (PQresultStatus(res) == PGRES_TUPLES_OK) {
        return res;
    }
    const char *text = PQresultErrorMessage(res);
    (void)psc_error_set(
        err, PQstatus(conn) == CONNECTION_OK ? PSC_DATABASE : PSC_CONNECTION,
        "%.*s", (int)strcspn(text, "\n"), text);
    PQclear(res);
    return NULL;
}
