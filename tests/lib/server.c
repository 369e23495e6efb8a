/* Databases of tests in somebody else's PostgreSQL. */
#include "tests/lib/server.h"

/* cmocka.h needs these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/clock.h"
#include "tests/lib/temp.h"

enum { NAME_BYTES = 64, SQL_BYTES = 512, DSN_MAX_BYTES = 8192 };

static const char *const roles[] = {
    [DATABASE_READER] = "poolscope_reader",
    [DATABASE_WRITER] = "poolscope_writer",
    [DATABASE_OWNER] = "poolscope_owner",
};

/* What is dropped at exit. */
struct made {
    const char *dsn; /* of another database */
    char name[NAME_BYTES];
    bool there; /* it has been made */
};

const char *server_dsn(void)
{
    const char *dsn = getenv("POOLSCOPE_TEST_DSN");
    return dsn != NULL && dsn[0] != '\0' ? dsn : NULL;
}

/* --- connection strings --- */

static void append(struct psc_buf *b, const char *key, const char *value,
                   const char *more)
{
    psc_buf_printf(b, "%s='", key);
    for (const char *p = value; *p != '\0'; p++) {
        psc_buf_printf(b, *p == '\'' || *p == '\\' ? "\\%c" : "%c", *p);
    }
    psc_buf_printf(b, "%s' ", more);
}

/* @dsn with another database, and with @options appended to those it has;
 * NULL: the same. */
static const char *change(const char *dsn, const char *dbname,
                          const char *options)
{
    PQconninfoOption *all = PQconninfoParse(dsn, NULL);
    if (all == NULL) {
        fail_msg("POOLSCOPE_TEST_DSN is not a connection string");
    }
    struct psc_buf b;
    psc_buf_init(&b, DSN_MAX_BYTES);
    for (const PQconninfoOption *o = all; o->keyword != NULL; o++) {
        bool is_name = strcmp(o->keyword, "dbname") == 0;
        bool is_options = strcmp(o->keyword, "options") == 0;
        const char *value = is_name && dbname != NULL ? dbname : o->val;
        if (is_options && options != NULL) {
            append(&b, o->keyword, value != NULL ? value : "", options);
        } else if (value != NULL) {
            append(&b, o->keyword, value, "");
        }
    }
    PQconninfoFree(all);
    psc_buf_u8(&b, '\0');
    assert_int_equal(psc_buf_error(&b), PSC_OK);
    temp_at_exit(free, b.data);
    return (const char *)b.data;
}

const char *server_as(const char *dsn, enum database_role role)
{
    char options[NAME_BYTES];
    (void)snprintf(options, sizeof(options), " -c role=%s", roles[role]);
    return change(dsn, NULL, options);
}

/* --- databases --- */

static void run(PGconn *conn, const char *sql)
{
    PGresult *r = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(r);
    PQclear(r);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        print_error("POOLSCOPE_TEST_DSN: %s", PQerrorMessage(conn));
        PQfinish(conn);
        fail();
    }
}

/* Roles belong to the whole server: only one test at a time looks after
 * them. The lock ends with the connection. */
static void ensure_roles(PGconn *conn)
{
    run(conn, "SELECT pg_advisory_lock(hashtext('poolscope tests'))");
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
        char sql[SQL_BYTES];
        (void)snprintf(
            sql, sizeof(sql),
            "DO $$ BEGIN"
            " IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '%1$s') THEN"
            "  CREATE ROLE %1$s;"
            "  GRANT %1$s TO CURRENT_USER;"
            " ELSIF NOT pg_has_role('%1$s', 'MEMBER') THEN"
            "  RAISE 'user %% is no member: GRANT %1$s TO it', CURRENT_USER;"
            " END IF; END $$",
            roles[i]);
        run(conn, sql);
    }
}

static void drop(const struct made *m)
{
    char sql[SQL_BYTES];
    PGconn *conn = PQconnectdb(m->dsn);
    (void)snprintf(sql, sizeof(sql), "DROP DATABASE IF EXISTS %s WITH (FORCE)",
                   m->name);
    PGresult *r = PQexec(conn, sql);
    if (PQresultStatus(r) != PGRES_COMMAND_OK) {
        fprintf(stderr, "%s: %s", sql, PQerrorMessage(conn));
    }
    PQclear(r);
    PQfinish(conn);
}

static void drop_at_exit(void *arg)
{
    struct made *m = arg;
    if (m->there) {
        drop(m);
    }
    free(m);
}

const char *server_make_database(const char *dsn)
{
    static unsigned n_made;
    const char *prefix = getenv("POOLSCOPE_TEST_PREFIX");
    struct made *m = calloc(1, sizeof(*m));
    assert_non_null(m);
    m->dsn = change(dsn, NULL, NULL);
    temp_at_exit(drop_at_exit, m);
    (void)snprintf(m->name, sizeof(m->name), "%s_%d_%u_%u",
                   prefix != NULL ? prefix : "poolscope_test", (int)getpid(),
                   (unsigned)(psc_clock_wall_us() % 1000000), n_made++);

    PGconn *conn = PQconnectdb(m->dsn);
    if (PQstatus(conn) != CONNECTION_OK) {
        print_error("POOLSCOPE_TEST_DSN: %s", PQerrorMessage(conn));
        PQfinish(conn);
        fail();
    }
    run(conn, "SET client_min_messages = warning");
    ensure_roles(conn);
    char sql[SQL_BYTES];
    (void)snprintf(sql, sizeof(sql),
                   "CREATE DATABASE %s TEMPLATE template0 ENCODING 'UTF8'",
                   m->name);
    run(conn, sql);
    m->there = true;
    PQfinish(conn);
    return change(dsn, m->name, NULL);
}
