/* Run the migrations.
 *
 * Happy path: version of the server -> advisory lock -> roles -> SET ROLE
 * poolscope_owner -> schema_version -> each missing migration in a
 * transaction of its own -> RESET ROLE -> unlock. A connection that breaks
 * gives the lock up by itself and leaves whole migrations only. */
#include "sql/migrate.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"

enum { OLDEST_SERVER = 150000 };

/* Keep the server's words, on one line. */
static int explain(PGconn *conn, const PGresult *result, const char *what,
                   struct psc_error *err)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    int code = PSC_DATABASE;
    if (PQstatus(conn) != CONNECTION_OK) {
        code = PSC_CONNECTION;
    } else if (state != NULL && strcmp(state, "42501") == 0) {
        code = PSC_PERMISSION;
    }
    return psc_error_set(err, code, "%s: %s", what,
                         text != NULL ? text : PQerrorMessage(conn));
}

static int run(PGconn *conn, const char *sql, const char *what,
               struct psc_error *err)
{
    PGresult *result = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(result);
    int rc = PSC_OK;
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        rc = explain(conn, result, what, err);
    }
    PQclear(result);
    return rc;
}

/* The first field of the first row as a number, 0 for none or NULL. */
static int ask(PGconn *conn, const char *sql, int *value, struct psc_error *err)
{
    PGresult *result = PQexec(conn, sql);
    int rc = PSC_OK;
    *value = 0;
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        rc = explain(conn, result, sql, err);
    } else if (PQntuples(result) > 0) {
        *value = (int)strtol(PQgetvalue(result, 0, 0), NULL, 10);
    }
    PQclear(result);
    return rc;
}

int migrate_newest(void)
{
    return migrations[n_migrations - 1].version;
}

/* --------------------------------------------------------------- checks */

static int judge_version(int version, struct psc_error *err)
{
    if (version > migrate_newest()) {
        return psc_error_set(err, PSC_UNSUPPORTED,
                             "the database has schema version %d, this "
                             "program knows up to %d: upgrade poolscope here",
                             version, migrate_newest());
    }
    return PSC_OK;
}

static int read_version(PGconn *conn, int *version, struct psc_error *err)
{
    int exists = 0;
    int rc = ask(conn,
                 "SELECT count(*) FROM pg_tables WHERE "
                 "schemaname = 'poolscope' AND tablename = 'schema_version'",
                 &exists, err);
    *version = 0;
    if (rc == PSC_OK && exists != 0) {
        rc = ask(conn, "SELECT max(version) FROM poolscope.schema_version",
                 version, err);
    }
    return rc;
}

int migrate_check(PGconn *conn, struct psc_error *err)
{
    int version = 0;
    int rc = read_version(conn, &version, err);
    if (rc == PSC_OK && version < migrate_newest()) {
        return psc_error_set(err, PSC_MISSING,
                             "the database has schema version %d, this "
                             "program needs %d: start poolscope-collector, "
                             "which migrates it",
                             version, migrate_newest());
    }
    return rc == PSC_OK ? judge_version(version, err) : rc;
}

static int check_server(PGconn *conn, struct psc_error *err)
{
    int version = PQserverVersion(conn);
    if (version < OLDEST_SERVER) {
        return psc_error_set(err, PSC_UNSUPPORTED,
                             "the server is PostgreSQL %d, poolscope needs "
                             "%d or newer",
                             version / 10000, OLDEST_SERVER / 10000);
    }
    return PSC_OK;
}

/* ---------------------------------------------------------------- roles */

static int ensure_role(PGconn *conn, const char *role, struct psc_error *err)
{
    char sql[160];
    int exists = 0;
    (void)snprintf(sql, sizeof(sql),
                   "SELECT count(*) FROM pg_roles WHERE rolname = '%s'", role);
    int rc = ask(conn, sql, &exists, err);
    if (rc != PSC_OK || exists != 0) {
        return rc;
    }
    (void)snprintf(sql, sizeof(sql), "CREATE ROLE %s; GRANT %s TO CURRENT_USER",
                   role, role);
    rc = run(conn, sql, "create roles", err);
    if (rc == PSC_PERMISSION) {
        return psc_error_set(err, rc,
                             "role %s is missing and this user may not create "
                             "it. An administrator runs: CREATE ROLE "
                             "poolscope_owner; CREATE ROLE poolscope_writer; "
                             "CREATE ROLE poolscope_reader; and grants them",
                             role);
    }
    return rc;
}

/* The owner must be able to make schemas, and we to become the owner. */
static int ensure_owner(PGconn *conn, struct psc_error *err)
{
    int may_create = 0;
    int rc = ask(conn,
                 "SELECT has_database_privilege('poolscope_owner', "
                 "current_database(), 'CREATE')::int",
                 &may_create, err);
    if (rc == PSC_OK && may_create == 0) {
        rc = run(conn,
                 "DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I "
                 "TO poolscope_owner', current_database()); END $$",
                 "grant CREATE on the database to poolscope_owner", err);
        if (rc == PSC_OK) {
            rc = ask(conn,
                     "SELECT has_database_privilege('poolscope_owner', "
                     "current_database(), 'CREATE')::int",
                     &may_create, err);
        }
    }
    if (rc == PSC_OK && may_create == 0) {
        return psc_error_set(err, PSC_PERMISSION,
                             "poolscope_owner may not create schemas. The "
                             "database's owner runs: GRANT CREATE ON DATABASE "
                             "%s TO poolscope_owner",
                             PQdb(conn));
    }
    if (rc == PSC_OK) {
        rc = run(conn, "SET ROLE poolscope_owner",
                 "become poolscope_owner (GRANT poolscope_owner TO this user)",
                 err);
    }
    return rc;
}

static int prepare(PGconn *conn, struct psc_error *err)
{
    static const char *const roles[] = {"poolscope_owner", "poolscope_writer",
                                        "poolscope_reader"};
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
        int rc = ensure_role(conn, roles[i], err);
        if (rc != PSC_OK) {
            return rc;
        }
    }
    int rc = ensure_owner(conn, err);
    if (rc != PSC_OK) {
        return rc;
    }
    return run(conn,
               "SET client_min_messages = warning;"
               "CREATE SCHEMA IF NOT EXISTS poolscope;"
               "CREATE TABLE IF NOT EXISTS poolscope.schema_version ("
               " version integer PRIMARY KEY, name text NOT NULL,"
               " program text NOT NULL,"
               " applied_at timestamptz NOT NULL DEFAULT now())",
               "make schema poolscope", err);
}

/* -------------------------------------------------------------- running */

static int apply(PGconn *conn, const struct migration *m, struct psc_error *err)
{
    char note[256];
    (void)snprintf(note, sizeof(note),
                   "INSERT INTO poolscope.schema_version (version, name, "
                   "program) VALUES (%d, '%s', '%s')",
                   m->version, m->name, PSC_VERSION);
    int rc = run(conn, "BEGIN", m->name, err);
    if (rc == PSC_OK) {
        rc = run(conn, (const char *)m->sql, m->name, err);
    }
    if (rc == PSC_OK) {
        rc = run(conn, note, m->name, err);
    }
    if (rc == PSC_OK) {
        rc = run(conn, "COMMIT", m->name, err);
    }
    if (rc != PSC_OK) {
        (void)!run(conn, "ROLLBACK", m->name, NULL);
    }
    return rc;
}

static int apply_missing(PGconn *conn, int *applied, struct psc_error *err)
{
    int version = 0;
    int rc = prepare(conn, err);
    if (rc == PSC_OK) {
        rc = read_version(conn, &version, err);
    }
    if (rc == PSC_OK) {
        rc = judge_version(version, err);
    }
    for (size_t i = 0; rc == PSC_OK && i < n_migrations; i++) {
        if (migrations[i].version <= version) {
            continue;
        }
        rc = apply(conn, &migrations[i], err);
        if (rc == PSC_OK) {
            *applied += 1;
            psc_log_info("migrated the database: %s", migrations[i].name);
        }
    }
    return rc;
}

int migrate_connection(PGconn *conn, int *applied, struct psc_error *err)
{
    int count = 0;
    int rc = check_server(conn, err);
    if (rc == PSC_OK) {
        rc = run(conn, "SELECT pg_advisory_lock(" MIGRATE_LOCK_KEY ")",
                 "wait for other migrations", err);
    }
    if (rc != PSC_OK) {
        return rc;
    }
    rc = apply_missing(conn, &count, err);
    (void)!run(conn,
               "RESET ROLE; RESET client_min_messages;"
               "SELECT pg_advisory_unlock(" MIGRATE_LOCK_KEY ")",
               "unlock", NULL);
    if (applied != NULL) {
        *applied = count;
    }
    return rc;
}

int migrate_run(const char *conninfo, int *applied, struct psc_error *err)
{
    PGconn *conn = PQconnectdb(conninfo);
    int rc = PSC_OK;
    if (PQstatus(conn) != CONNECTION_OK) {
        rc = psc_error_set(err, PSC_CONNECTION, "%s", PQerrorMessage(conn));
    } else {
        rc = migrate_connection(conn, applied, err);
    }
    PQfinish(conn);
    return rc;
}
