/* Start and stop the embedded PostgreSQL.
 *
 * Happy path of a start: lock -> find the cluster (or make it) -> its
 * postmaster does not live -> end orphans -> write configuration -> pg_ctl
 * start -> connect as superuser -> roles and database -> unlock.
 *
 * What fails most: no PostgreSQL installed, a data directory that the
 * server's user cannot enter, somebody else's cluster, a full disk. */
#include "sql/embedded.h"

#include <errno.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "sql/cluster.h"
#include "sql/process.h"

enum {
    LOCK_TIMEOUT_S = 180,
    START_TIMEOUT_S = 120,
    STOP_TIMEOUT_S = 60,
    OUTPUT_MAX_BYTES = 64 * 1024,
    LOG_ROTATE_BYTES = 8 * 1024 * 1024,
    LOOK_MS = 20,
    START_RETRIES = 3,
    RETRY_MS = 200,
};

static void pause_ms(long ms)
{
    struct timespec pause = {.tv_nsec = ms * 1000000};
    (void)nanosleep(&pause, NULL);
}

/* ------------------------------------------------------------- the lock */

/* Open the lock file, made when it is missing. What root makes belongs to the
 * data directory's owner, who needs it, too. */
static int open_lock(const char *data_dir, const char *path)
{
    const int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW;
    struct stat st;
    int fd = open(path, flags | O_CREAT | O_EXCL, 0600);
    if (fd < 0) {
        return errno == EEXIST ? open(path, flags) : -1;
    }
    if (geteuid() == 0 && stat(data_dir, &st) == 0) {
        (void)!fchown(fd, st.st_uid, st.st_gid);
    }
    return fd;
}

/* Take the lock of @data_dir into *@fd; it ends with close(). */
static int lock(const char *data_dir, int *fd, struct psc_error *err)
{
    char path[PATH_MAX];
    if (psc_path_join(path, sizeof(path), data_dir, "lock") != PSC_OK) {
        return psc_error_set(err, PSC_LIMIT, "%s: path too long", data_dir);
    }
    *fd = open_lock(data_dir, path);
    if (*fd < 0) {
        return psc_error_set(err, PSC_PERMISSION,
                             "no access to %s: %s (run this as its owner or "
                             "as root, or choose another --data)",
                             data_dir, strerror(errno));
    }
    int64_t deadline_us = psc_clock_mono_us() + LOCK_TIMEOUT_S * PSC_US_PER_S;
    while (flock(*fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            int saved = errno;
            (void)close(*fd);
            return psc_error_set(err, PSC_IO, "lock %s: %s", path,
                                 strerror(saved));
        }
        if (psc_clock_mono_us() >= deadline_us) {
            (void)close(*fd);
            return psc_error_set(err, PSC_TIMEOUT,
                                 "another program has held %s for %d s", path,
                                 LOCK_TIMEOUT_S);
        }
        pause_ms(LOOK_MS);
    }
    return PSC_OK;
}

/* ------------------------------------------------------------- starting */

/* The data directory, which the server's user must be able to enter
 * whatever our umask is. */
static int make_data_dir(const char *data_dir, struct psc_error *err)
{
    mode_t before = umask(022);
    int rc = psc_dir_make(data_dir, 0755, err);
    (void)umask(before);
    return rc;
}

static void rotate_log(const struct cluster *c)
{
    char old[PATH_MAX];
    struct stat st;
    if (stat(c->log_path, &st) == 0 && st.st_size > LOG_ROTATE_BYTES &&
        psc_path_join(old, sizeof(old), c->dir, "server.log.1") == PSC_OK) {
        (void)rename(c->log_path, old);
    }
}

static int run_pg_ctl(const struct cluster *c, struct psc_error *err)
{
    char program[PATH_MAX];
    char patience[16];
    int rc = psc_path_join(program, sizeof(program), c->bin_dir, "pg_ctl");
    if (rc != PSC_OK) {
        return psc_error_set(err, rc, "%s: path too long", c->bin_dir);
    }
    (void)snprintf(patience, sizeof(patience), "%d", START_TIMEOUT_S);
    const char *argv[] = {program, "start", "-w", "-t",        patience, "-s",
                          "-D",    c->dir,  "-l", c->log_path, NULL};
    struct psc_buf output;
    int exit_code = 0;
    psc_buf_init(&output, OUTPUT_MAX_BYTES);
    struct process p = {.argv = argv,
                        .as = &c->owner,
                        .dir = c->dir,
                        .timeout_s = START_TIMEOUT_S + 10,
                        .output = &output};
    rc = process_run(&p, &exit_code, err);
    if (rc == PSC_OK && exit_code != 0) {
        char tail[180];
        cluster_log_tail(c, tail, sizeof(tail));
        rc = psc_error_set(err, PSC_DATABASE,
                           "PostgreSQL does not start; its log %s ends: %s",
                           c->log_path, tail);
    }
    psc_buf_fini(&output);
    return rc;
}

static int start_server(struct cluster *c, struct psc_error *err)
{
    int rc = cluster_find_programs(c, err);
    if (rc == PSC_OK && !c->exists) {
        psc_log_info("making a PostgreSQL cluster in %s (user %s)", c->dir,
                     c->owner.name);
        rc = cluster_create(c, err);
    }
    if (rc == PSC_OK) {
        rc = cluster_end_processes(c, SIGQUIT, err);
    }
    if (rc == PSC_OK) {
        cluster_remove_pid_file(c);
        rc = cluster_socket_open(c, err);
    }
    if (rc == PSC_OK) {
        rc = cluster_configure(c, err);
    }
    if (rc == PSC_OK) {
        rotate_log(c);
        rc = run_pg_ctl(c, err);
    }
    if (rc == PSC_OK) {
        psc_log_info("started PostgreSQL in %s", c->dir);
    }
    return rc;
}

/* --------------------------------------------------- database and roles */

static int run_sql(PGconn *conn, const char *sql, struct psc_error *err)
{
    PGresult *result = PQexec(conn, sql);
    int rc = PSC_OK;
    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        rc = psc_error_set(err, PSC_DATABASE, "%s: %s", sql,
                           PQerrorMessage(conn));
    }
    PQclear(result);
    return rc;
}

static int ask_exists(PGconn *conn, const char *sql, bool *exists,
                      struct psc_error *err)
{
    PGresult *result = PQexec(conn, sql);
    int rc = PSC_OK;
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        rc = psc_error_set(err, PSC_DATABASE, "%s: %s", sql,
                           PQerrorMessage(conn));
    } else {
        *exists = PQntuples(result) > 0;
    }
    PQclear(result);
    return rc;
}

static int ensure_roles(PGconn *conn, struct psc_error *err)
{
    static const char *const roles[] = {"poolscope_owner", "poolscope_writer",
                                        "poolscope_reader"};
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
        char sql[128];
        bool exists = false;
        (void)snprintf(sql, sizeof(sql),
                       "SELECT FROM pg_roles WHERE rolname = '%s'", roles[i]);
        int rc = ask_exists(conn, sql, &exists, err);
        if (rc == PSC_OK && !exists) {
            (void)snprintf(sql, sizeof(sql), "CREATE ROLE %s LOGIN", roles[i]);
            rc = run_sql(conn, sql, err);
        }
        if (rc != PSC_OK) {
            return rc;
        }
    }
    return PSC_OK;
}

static int ensure_database(PGconn *conn, struct psc_error *err)
{
    bool exists = false;
    int rc = ensure_roles(conn, err);
    if (rc == PSC_OK) {
        rc = ask_exists(conn,
                        "SELECT FROM pg_database "
                        "WHERE datname = '" EMBEDDED_DATABASE "'",
                        &exists, err);
    }
    if (rc == PSC_OK && !exists) {
        rc = run_sql(conn,
                     "CREATE DATABASE " EMBEDDED_DATABASE
                     " OWNER poolscope_owner TEMPLATE template0 "
                     "ENCODING 'UTF8'",
                     err);
    }
    return rc;
}

/* Connect as superuser, waiting while the server recovers. */
static int connect_superuser(const char *socket_dir, PGconn **conn,
                             struct psc_error *err)
{
    const char *keys[] = {"host",
                          "port",
                          "user",
                          "dbname",
                          "application_name",
                          "options",
                          "connect_timeout",
                          NULL};
    const char *values[] = {socket_dir,
                            CLUSTER_PORT,
                            EMBEDDED_SUPERUSER,
                            "postgres",
                            "poolscope embedded",
                            "-c synchronous_commit=on",
                            "10",
                            NULL};
    int64_t deadline_us = psc_clock_mono_us() + START_TIMEOUT_S * PSC_US_PER_S;
    for (;;) {
        *conn = PQconnectdbParams(keys, values, 0);
        if (PQstatus(*conn) == CONNECTION_OK) {
            return PSC_OK;
        }
        int rc =
            psc_error_set(err, PSC_CONNECTION, "%s", PQerrorMessage(*conn));
        PQfinish(*conn);
        *conn = NULL;
        if (psc_clock_mono_us() >= deadline_us ||
            PQpingParams(keys, values, 0) != PQPING_REJECT) {
            return rc;
        }
        pause_ms(100);
    }
}

/* ------------------------------------------------------------ interface */

static void report(const struct cluster *c, struct embedded_status *status)
{
    memset(status, 0, sizeof(*status));
    status->exists = c->exists;
    memcpy(status->cluster_dir, c->dir, sizeof(status->cluster_dir));
    memcpy(status->log_path, c->log_path, sizeof(status->log_path));
    if (c->exists) {
        status->pid = cluster_postmaster(c, status->socket_dir);
    }
    status->running = status->pid != 0;
    if (!status->running) {
        status->socket_dir[0] = '\0';
        status->died = c->exists && cluster_has_pid_file(c);
    }
}

/* A server may run whose socket only others see, in a private /tmp of theirs,
 * or that a cleaner of /tmp has taken from it. */
static int check_socket(const struct embedded_status *status,
                        struct psc_error *err)
{
    if (cluster_socket_is_there(status->socket_dir)) {
        return PSC_OK;
    }
    return psc_error_set(err, PSC_DATABASE,
                         "PostgreSQL runs (pid %ld), but its socket in %s is "
                         "not to be seen from here: a service with a private "
                         "/tmp started it, or the socket was removed; as root "
                         "'poolscope database stop', then start it again",
                         (long)status->pid, status->socket_dir);
}

/* Start the server unless it runs, and see to its roles. */
static int start_once(struct cluster *c, struct embedded_status *status,
                      struct psc_error *err)
{
    report(c, status);
    if (!status->running) {
        int rc = start_server(c, err);
        if (rc != PSC_OK) {
            return rc;
        }
        report(c, status);
    }
    PGconn *conn = NULL;
    int rc = check_socket(status, err);
    rc = rc == PSC_OK ? connect_superuser(status->socket_dir, &conn, err) : rc;
    if (rc == PSC_OK) {
        rc = ensure_database(conn, err);
    }
    PQfinish(conn);
    return rc;
}

/* A server that was just killed may still look alive: once more then. */
static int start_locked(struct cluster *c, struct embedded_status *status,
                        struct psc_error *err)
{
    int rc = start_once(c, status, err);
    for (int i = 0; i < START_RETRIES && rc != PSC_OK && status->running; i++) {
        pause_ms(RETRY_MS);
        rc = start_once(c, status, err);
    }
    return rc;
}

/* Refuse what belongs to others, and what is missing if it must be there,
 * before anything is made. */
static int check_place(const struct embedded_options *o, struct psc_error *err)
{
    struct cluster c;
    struct psc_error why = {0};
    int rc = cluster_find(&c, o->data_dir, &why);
    if (rc == PSC_PERMISSION) {
        return psc_error_set(err, rc, "no access to the database: %s", why.msg);
    }
    if (o->must_exist && (rc == PSC_MISSING || !c.exists)) {
        return psc_error_set(err, PSC_MISSING,
                             "no database in %s: start deploy/quickstart or a "
                             "collector there, or name another --data",
                             o->data_dir);
    }
    return PSC_OK;
}

int embedded_start(const struct embedded_options *o,
                   struct embedded_status *status, struct psc_error *err)
{
    struct embedded_status own;
    struct cluster c;
    int lock_fd = -1;
    int rc = check_place(o, err);
    if (rc == PSC_OK) {
        rc = make_data_dir(o->data_dir, err);
    }
    if (rc == PSC_OK) {
        rc = lock(o->data_dir, &lock_fd, err);
    }
    if (rc != PSC_OK) {
        return rc;
    }
    rc = cluster_find(&c, o->data_dir, err);
    if (rc == PSC_OK) {
        c.no_sync = o->no_sync;
        rc = start_locked(&c, status != NULL ? status : &own, err);
    }
    (void)close(lock_fd);
    return rc;
}

int embedded_status(const char *data_dir, struct embedded_status *status,
                    struct psc_error *err)
{
    struct cluster c;
    memset(status, 0, sizeof(*status));
    int rc = cluster_find(&c, data_dir, err);
    if (rc == PSC_OK) {
        report(&c, status);
    }
    return rc == PSC_MISSING ? PSC_OK : rc;
}

static bool wait_stopped(const struct cluster *c, int seconds)
{
    int64_t deadline_us = psc_clock_mono_us() + seconds * PSC_US_PER_S;
    while (cluster_postmaster(c, NULL) != 0) {
        if (psc_clock_mono_us() >= deadline_us) {
            return false;
        }
        pause_ms(LOOK_MS);
    }
    return true;
}

static int stop_locked(struct cluster *c, struct psc_error *err)
{
    struct embedded_status status;
    report(c, &status);
    if (status.running) {
        if (kill(status.pid, SIGINT) != 0 && errno != ESRCH) {
            return psc_error_set(err, PSC_PERMISSION,
                                 "cannot stop PostgreSQL (pid %ld): %s",
                                 (long)status.pid, strerror(errno));
        }
        if (!wait_stopped(c, STOP_TIMEOUT_S)) {
            psc_log_warn("PostgreSQL in %s does not stop: ending it", c->dir);
        }
    }
    int rc = cluster_end_processes(c, SIGQUIT, err);
    if (rc == PSC_OK) {
        cluster_remove_pid_file(c);
        memcpy(c->socket_dir, status.socket_dir, sizeof(c->socket_dir));
        cluster_socket_close(c);
    }
    if (rc == PSC_OK && status.running) {
        psc_log_info("stopped PostgreSQL in %s", c->dir);
    }
    return rc;
}

int embedded_stop(const char *data_dir, struct psc_error *err)
{
    struct cluster c;
    int lock_fd = -1;
    int rc = cluster_find(&c, data_dir, err);
    if (rc == PSC_MISSING || (rc == PSC_OK && !c.exists)) {
        return PSC_OK;
    }
    if (rc == PSC_OK) {
        rc = lock(c.data_dir, &lock_fd, err);
    }
    if (rc == PSC_OK) {
        rc = stop_locked(&c, err);
        (void)close(lock_fd);
    }
    return rc;
}

int embedded_kill(const char *data_dir, struct psc_error *err)
{
    struct cluster c;
    int rc = cluster_find(&c, data_dir, err);
    if (rc != PSC_OK) {
        return rc;
    }
    pid_t postmaster = cluster_postmaster(&c, NULL);
    if (postmaster != 0) {
        (void)kill(postmaster, SIGKILL); /* first: it would restart others */
    }
    return cluster_end_processes(&c, SIGKILL, err);
}
