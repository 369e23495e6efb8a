/* From --data, --dsn and the environment to a libpq connection string. */
#include "sql/database.h"

#include <libpq-fe.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/file.h"
#include "sql/cluster.h"
#include "sql/embedded.h"

enum { CONNINFO_MAX_BYTES = 8192 };

int database_default_dir(char *out, size_t cap, struct psc_error *err)
{
    if (geteuid() == 0) {
        (void)snprintf(out, cap, "/var/lib/poolscope");
        return PSC_OK;
    }
    const char *data = getenv("XDG_DATA_HOME");
    const char *home = getenv("HOME");
    int rc = PSC_CONFIG;
    if (data != NULL && data[0] == '/') {
        rc = psc_path_join(out, cap, data, "poolscope");
    } else if (home != NULL && home[0] == '/') {
        rc = psc_path_join(out, cap, home, ".local/share/poolscope");
    }
    if (rc != PSC_OK) {
        return psc_error_set(err, rc,
                             "no place for the database: give --data DIR");
    }
    return PSC_OK;
}

static const char *from_environment(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

/* libpq would take a lone word for a database's name. The text itself is not
 * told: it may hold a password. */
static int check_dsn(const char *dsn, struct psc_error *err)
{
    PQconninfoOption *options = PQconninfoParse(dsn, NULL);
    if (options == NULL) {
        return psc_error_set(err, PSC_CONFIG,
                             "--dsn (or POOLSCOPE_DSN) is not a connection "
                             "string: write 'host=HOST dbname=NAME' or "
                             "postgresql://HOST/DATABASE");
    }
    PQconninfoFree(options);
    return PSC_OK;
}

int database_options_resolve(struct database_options *o, struct psc_error *err)
{
    if (o->dsn != NULL && o->data_dir != NULL) {
        return psc_error_set(err, PSC_CONFIG,
                             "give either --data or --dsn, not both");
    }
    if (o->dsn != NULL) {
        return check_dsn(o->dsn, err);
    }
    if (o->data_dir != NULL) {
        return PSC_OK;
    }
    const char *dsn = from_environment("POOLSCOPE_DSN");
    if (dsn != NULL) {
        o->dsn = strdup(dsn);
        return o->dsn != NULL ? check_dsn(dsn, err)
                              : psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    char dir[PATH_MAX];
    const char *data = from_environment("POOLSCOPE_DATA");
    if (data == NULL) {
        int rc = database_default_dir(dir, sizeof(dir), err);
        if (rc != PSC_OK) {
            return rc;
        }
        data = dir;
    }
    o->data_dir = strdup(data);
    return o->data_dir != NULL ? PSC_OK
                               : psc_error_set(err, PSC_NOMEM, "out of memory");
}

void database_options_fini(struct database_options *o)
{
    free(o->data_dir);
    free(o->dsn);
    o->data_dir = NULL;
    o->dsn = NULL;
}

static const char *role_name(enum database_role role)
{
    switch (role) {
    case DATABASE_READER: return "poolscope_reader";
    case DATABASE_WRITER: return "poolscope_writer";
    case DATABASE_SUPERUSER: return EMBEDDED_SUPERUSER;
    case DATABASE_OWNER: break;
    }
    return "poolscope_owner";
}

/* host='…' with quotes and backslashes escaped. */
static void append_host(struct psc_buf *b, const char *dir)
{
    psc_buf_printf(b, "host='");
    for (const char *p = dir; *p != '\0'; p++) {
        psc_buf_printf(b, *p == '\'' || *p == '\\' ? "\\%c" : "%c", *p);
    }
    psc_buf_printf(b, "'");
}

static int embedded_conninfo(const struct database_options *o,
                             enum database_role role, char **conninfo,
                             struct psc_error *err)
{
    struct embedded_options options = {.data_dir = o->data_dir,
                                       .must_exist = o->must_exist};
    struct embedded_status status;
    int rc = embedded_start(&options, &status, err);
    if (rc != PSC_OK) {
        return rc;
    }
    struct psc_buf b;
    psc_buf_init(&b, CONNINFO_MAX_BYTES);
    append_host(&b, status.socket_dir);
    psc_buf_printf(
        &b, " port=" CLUSTER_PORT " dbname=" EMBEDDED_DATABASE " user=%s",
        role_name(role));
    psc_buf_u8(&b, '\0');
    rc = psc_buf_error(&b);
    if (rc != PSC_OK) {
        psc_buf_fini(&b);
        return psc_error_set(err, rc, "connection string: %s",
                             psc_strerror(rc));
    }
    *conninfo = (char *)b.data; /* the caller's now */
    return PSC_OK;
}

int database_conninfo(const struct database_options *o, enum database_role role,
                      char **conninfo, struct psc_error *err)
{
    *conninfo = NULL;
    if (o->dsn == NULL) {
        return embedded_conninfo(o, role, conninfo, err);
    }
    *conninfo = strdup(o->dsn);
    return *conninfo != NULL ? PSC_OK
                             : psc_error_set(err, PSC_NOMEM, "out of memory");
}

void database_describe(const struct database_options *o, char *out, size_t cap)
{
    if (o->dsn == NULL) {
        (void)snprintf(out, cap, "%s", o->data_dir);
        return;
    }
    static const char *const shown[] = {"host", "hostaddr", "port", "dbname",
                                        "user"};
    PQconninfoOption *options = PQconninfoParse(o->dsn, NULL);
    size_t used = 0;
    (void)snprintf(out, cap, "the DSN");
    for (PQconninfoOption *p = options; p != NULL && p->keyword != NULL; p++) {
        for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++) {
            if (p->val == NULL || strcmp(p->keyword, shown[i]) != 0) {
                continue;
            }
            int n = snprintf(out + used, cap - used, "%s%s=%s",
                             used > 0 ? " " : "", p->keyword, p->val);
            if (n > 0 && (size_t)n < cap - used) {
                used += (size_t)n;
            }
        }
    }
    PQconninfoFree(options);
}
