/* Which database a program talks to: an existing PostgreSQL (--dsn) or the
 * embedded one in a data directory (--data), started when it is not running.
 *
 * A program puts a struct database_options into its options struct, lists
 * DATABASE_OPTIONS() in its option table, and after parsing calls
 *
 *   database_options_resolve(&o.database, &err);     environment, defaults
 *   database_conninfo(&o.database, DATABASE_READER, &conninfo, &err);
 *   PQconnectdb(conninfo);
 *
 * database_conninfo() may start a server and takes seconds then: call it
 * before the event loop runs and before threads exist. */
#ifndef PSC_SQL_DATABASE_H
#define PSC_SQL_DATABASE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/config.h"
#include "common/error.h"

/* In the embedded database a program becomes one of these roles by its
 * conninfo. With a DSN the DSN's own user is used, who must be a member of
 * the role (or a superuser). */
enum database_role {
    DATABASE_READER,    /* views and their functions: questions */
    DATABASE_WRITER,    /* schema poolscope_api: collector, administration */
    DATABASE_OWNER,     /* migrations */
    DATABASE_SUPERUSER, /* module.h; with a DSN it is its user */
};

struct database_options {
    char *data_dir;  /* --data; owned; NULL when dsn is set */
    char *dsn;       /* --dsn; owned; wins over data_dir */
    bool must_exist; /* set by who only asks: no cluster is made */
};

/* Two rows for the option table of section @section_name, whose struct
 * @outer has a struct database_options member @member. */
/* NOLINTBEGIN(bugprone-macro-parentheses): a member takes none */
/* clang-format off */
#define DATABASE_OPTIONS(section_name, outer, member)                          \
    {(section_name), "data", PSC_OPT_STRING,                                   \
     offsetof(outer, member.data_dir), NULL, 0, 0, "DIR",                      \
     "data directory with the embedded PostgreSQL, started if it is\n"         \
     "not running (environment: POOLSCOPE_DATA)"},                             \
    {(section_name), "dsn", PSC_OPT_STRING,                                    \
     offsetof(outer, member.dsn), NULL, 0, 0, "DSN",                           \
     "an existing PostgreSQL instead, as a libpq connection string\n"          \
     "(environment: POOLSCOPE_DSN)"}
/* clang-format on */
/* NOLINTEND(bugprone-macro-parentheses) */

/* Fill what the options left open: --dsn, else --data, else POOLSCOPE_DSN,
 * else POOLSCOPE_DATA, else database_default_dir(). Both options together are
 * an error. Allocates into @o, which psc_config_fini() or
 * database_options_fini() frees. */
PSC_MUST_CHECK int database_options_resolve(struct database_options *o,
                                            struct psc_error *err);
void database_options_fini(struct database_options *o);

/* /var/lib/poolscope as root, else $XDG_DATA_HOME/poolscope or
 * ~/.local/share/poolscope. PSC_CONFIG if there is no home. */
PSC_MUST_CHECK int database_default_dir(char *out, size_t cap,
                                        struct psc_error *err);

/* A libpq connection string for @role in *@conninfo, to be freed by the
 * caller. Starts the embedded server if need be; one that does not exist is
 * made, or PSC_MISSING if @o->must_exist. @o must be resolved. */
PSC_MUST_CHECK int database_conninfo(const struct database_options *o,
                                     enum database_role role, char **conninfo,
                                     struct psc_error *err);

/* "/var/lib/poolscope" or the DSN without its password, for messages. */
void database_describe(const struct database_options *o, char *out, size_t cap);

#endif
