/* Look up system users. */
#include "sql/account.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int take(const struct passwd *pw, struct account *a,
                struct psc_error *err)
{
    int n = snprintf(a->name, sizeof(a->name), "%s", pw->pw_name);
    if (n < 0 || (size_t)n >= sizeof(a->name)) {
        return psc_error_set(err, PSC_LIMIT, "user name \"%s\" is too long",
                             pw->pw_name);
    }
    a->uid = pw->pw_uid;
    a->gid = pw->pw_gid;
    return PSC_OK;
}

int account_by_uid(uid_t uid, struct account *a, struct psc_error *err)
{
    const struct passwd *pw = getpwuid(uid);
    if (pw == NULL) {
        return psc_error_set(err, PSC_MISSING,
                             "user id %ld has no name on this system",
                             (long)uid);
    }
    return take(pw, a, err);
}

int account_self(struct account *a, struct psc_error *err)
{
    return account_by_uid(geteuid(), a, err);
}

int account_for_server(struct account *a, struct psc_error *err)
{
    if (geteuid() != 0) {
        return account_self(a, err);
    }
    static const char *const names[] = {"poolscope", "postgres"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const struct passwd *pw = getpwnam(names[i]);
        if (pw != NULL && pw->pw_uid != 0) {
            return take(pw, a, err);
        }
    }
    return psc_error_set(err, PSC_MISSING,
                         "PostgreSQL does not run as root, and there is no "
                         "user \"poolscope\" or \"postgres\" to run it: "
                         "install Debian's postgresql package");
}
