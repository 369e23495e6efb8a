/* The system user that the embedded server runs as. */
#ifndef PSC_SQL_ACCOUNT_H
#define PSC_SQL_ACCOUNT_H

#include <stdbool.h>
#include <sys/types.h>

#include "common/error.h"

#define ACCOUNT_NAME_MAX_BYTES 64

struct account {
    uid_t uid;
    gid_t gid;
    char name[ACCOUNT_NAME_MAX_BYTES];
};

/* The user of this process. */
PSC_MUST_CHECK int account_self(struct account *a, struct psc_error *err);

/* The user with this id. */
PSC_MUST_CHECK int account_by_uid(uid_t uid, struct account *a,
                                  struct psc_error *err);

/* Who shall run a new server: this process's user, or as root the system
 * user "poolscope", else "postgres". PSC_MISSING if there is neither. */
PSC_MUST_CHECK int account_for_server(struct account *a, struct psc_error *err);

#endif
