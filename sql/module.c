/* The module in the embedded server.
 *
 * Happy path: beside the program's binary -> <data dir>/poolscope_chunk.so ->
 * sql/extension/install.sql as superuser, in one transaction. The server
 * itself checks there that the library is for its version and has every
 * function; else the transaction fails and PL/pgSQL stays. */
#include "sql/module.h"

#include <libpq-fe.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file.h"
#include "common/log.h"
#include "sql/migrate.h"

enum { LIBRARY_MAX_BYTES = 16 << 20, SQL_MAX_BYTES = 1 << 20 };

#define LIBRARY "poolscope_chunk.so"

/* Generated from sql/extension/install.sql. */
extern const char module_install_sql[];

/* --- the library --- */

/* In the build tree, and where `cmake --install` puts it. */
static bool find_library(char out[PATH_MAX])
{
    static const char *const places[] = {"../lib/" LIBRARY,
                                         "../lib/poolscope/" LIBRARY};
    char program[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);
    if (n < 0) {
        return false;
    }
    program[n] = '\0';
    char *slash = strrchr(program, '/');
    if (slash == NULL) {
        return false;
    }
    *slash = '\0';
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        if (psc_path_join(out, PATH_MAX, program, places[i]) == PSC_OK &&
            access(out, R_OK) == 0) {
            return true;
        }
    }
    return false;
}

/* Where the server finds it, by its whole path. */
static int place_of_copy(const char *data_dir, char out[PATH_MAX],
                         struct psc_error *err)
{
    char *dir = realpath(data_dir, NULL);
    int rc = PSC_MISSING;
    if (dir != NULL) {
        rc = psc_path_join(out, PATH_MAX, dir, LIBRARY);
    }
    free(dir);
    return rc == PSC_OK
               ? rc
               : psc_error_set(err, rc, "%s: %s", data_dir, psc_strerror(rc));
}

static bool same(const struct psc_buf *a, const struct psc_buf *b)
{
    return a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
}

/* Make @to what @from is. As one step, and only if it is another: a server
 * may have it loaded. */
static int copy_library(const char *from, const char *to, struct psc_error *err)
{
    enum { ALL_MAY_READ = 0644 };
    struct psc_buf new, old;
    psc_buf_init(&new, LIBRARY_MAX_BYTES);
    psc_buf_init(&old, LIBRARY_MAX_BYTES);
    int rc = psc_file_read(from, &new, err);
    if (rc == PSC_OK &&
        (psc_file_read(to, &old, NULL) != PSC_OK || !same(&new, &old))) {
        mode_t before = umask(0);
        rc = psc_file_write(to, (struct psc_bytes){new.data, new.len},
                            ALL_MAY_READ, err);
        (void)umask(before);
    }
    psc_buf_fini(&new);
    psc_buf_fini(&old);
    return rc;
}

/* --- the functions --- */

/* install.sql as psql would send it, without psql's own commands. */
static int make_sql(PGconn *conn, const char *library, struct psc_buf *out)
{
    static const char variable[] = ":'library'";
    const char *text = strstr(module_install_sql, "\nBEGIN;");
    char *literal = PQescapeLiteral(conn, library, strlen(library));
    if (text == NULL || literal == NULL) {
        PQfreemem(literal);
        return PSC_NOMEM;
    }
    for (const char *at; (at = strstr(text, variable)) != NULL;
         text = at + sizeof(variable) - 1) {
        psc_buf_append(out, text, (size_t)(at - text));
        psc_buf_append(out, literal, strlen(literal));
    }
    psc_buf_append(out, text, strlen(text) + 1);
    PQfreemem(literal);
    return psc_buf_error(out);
}

static int run(PGconn *conn, const char *sql, struct psc_error *err)
{
    PGresult *result = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(result);
    int rc = PSC_OK;
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
        rc = psc_error_set(err, PSC_DATABASE, "%s",
                           text != NULL ? text : PQerrorMessage(conn));
    }
    PQclear(result);
    return rc;
}

static int install(const char *conninfo, const char *library,
                   struct psc_error *err)
{
    PGconn *conn = PQconnectdb(conninfo);
    struct psc_buf sql;
    psc_buf_init(&sql, SQL_MAX_BYTES);
    int rc = PSC_OK;
    if (PQstatus(conn) != CONNECTION_OK) {
        rc = psc_error_set(err, PSC_CONNECTION, "%s", PQerrorMessage(conn));
    } else if (make_sql(conn, library, &sql) != PSC_OK) {
        rc = psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    if (rc == PSC_OK) {
        rc = run(conn, "SELECT pg_advisory_lock(" MIGRATE_LOCK_KEY ")", err);
    }
    if (rc == PSC_OK) {
        rc = run(conn, (const char *)sql.data, err);
    }
    PQfinish(conn); /* gives the lock up */
    psc_buf_fini(&sql);
    return rc;
}

void module_use(const struct database_options *o)
{
    char from[PATH_MAX], to[PATH_MAX];
    char *conninfo = NULL;
    struct psc_error err;

    if (o->dsn != NULL || !find_library(from)) {
        return;
    }
    int rc = place_of_copy(o->data_dir, to, &err);
    if (rc == PSC_OK) {
        rc = copy_library(from, to, &err);
    }
    if (rc == PSC_OK) {
        rc = database_conninfo(o, DATABASE_SUPERUSER, &conninfo, &err);
    }
    if (rc == PSC_OK) {
        rc = install(conninfo, to, &err);
    }
    free(conninfo);
    if (rc == PSC_OK) {
        psc_log_debug("PostgreSQL reads samples by %s", to);
    } else {
        psc_log_warn("PostgreSQL reads samples without %s, much slower: %s",
                     from, err.msg);
    }
}
