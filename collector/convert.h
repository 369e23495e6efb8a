/* What the first version stored, into the tables of today. The worker's thread
 * calls it while agents go on sending; when all is done it has no more to do.
 */
#ifndef PSC_COLLECTOR_CONVERT_H
#define PSC_COLLECTOR_CONVERT_H

#include <libpq-fe.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

struct convert {
    const atomic_bool *stop; /* borrowed: ends a pass early */
    bool ended;              /* there is nothing, or nothing more */
    int64_t said_us;         /* monotonic: of the last line of the log */
};

void convert_init(struct convert *c, const atomic_bool *stop);

/* Convert what is left, table by table, until monotonic @until_us. *@more: it
 * was not all. Returns 0, or PSC_CONNECTION, PSC_DATABASE or PSC_NOMEM, told
 * in @err. */
PSC_MUST_CHECK int convert_pass(struct convert *c, PGconn *conn,
                                int64_t until_us, bool *more,
                                struct psc_error *err);

#endif
