/* The embedded PostgreSQL: starting twice and at once, crashes with orphans,
 * stale files, other people's clusters, long paths. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "sql/cluster.h"
#include "sql/cluster_tune.h"
#include "sql/embedded.h"
#include "tests/lib/database.h"
#include "tests/lib/temp.h"

static struct test_database shared;

static int make_shared(void **state)
{
    (void)state;
    test_database_start(&shared, false);
    return 0;
}

static void start(const char *dir, struct embedded_status *status)
{
    struct psc_error err = {0};
    struct embedded_options o = {.data_dir = dir, .no_sync = true};
    if (embedded_start(&o, status, &err) != PSC_OK) {
        fail_msg("%s", err.msg);
    }
}

static void look(const char *dir, struct embedded_status *status)
{
    struct psc_error err = {0};
    if (embedded_status(dir, status, &err) != PSC_OK) {
        fail_msg("%s", err.msg);
    }
}

static void wait_for_no_processes(const char *dir)
{
    struct cluster c;
    pid_t pid;
    assert_int_equal(cluster_find(&c, dir, NULL), PSC_OK);
    for (int i = 0; i < 500 && cluster_processes(&c, &pid, 1) != 0; i++) {
        usleep(10000);
    }
    assert_int_equal(cluster_processes(&c, &pid, 1), 0);
}

static bool runs_in(const char *dir, pid_t pid)
{
    struct cluster c;
    pid_t pids[100];
    assert_int_equal(cluster_find(&c, dir, NULL), PSC_OK);
    size_t n = cluster_processes(&c, pids, 100);
    for (size_t i = 0; i < n; i++) {
        if (pids[i] == pid) {
            return true;
        }
    }
    return false;
}

static void embedded_starts_once_however_often_asked(void **state)
{
    (void)state;
    struct embedded_status first;
    struct embedded_status second;
    start(shared.data_dir, &first);
    start(shared.data_dir, &second);
    assert_true(first.running);
    assert_int_equal(first.pid, second.pid);
    assert_string_equal(first.socket_dir, second.socket_dir);
}

static void embedded_lets_each_role_in(void **state)
{
    (void)state;
    static const char *const names[] = {"poolscope_reader", "poolscope_writer",
                                        "poolscope_owner"};
    for (enum database_role r = DATABASE_READER; r <= DATABASE_OWNER; r++) {
        PGconn *conn = test_database_connect(&shared, r);
        assert_string_equal(test_sql_text(conn, "SELECT current_user"),
                            names[r]);
        assert_string_equal(test_sql_text(conn, "SELECT current_database()"),
                            "poolscope");
        PQfinish(conn);
    }
}

static void embedded_listens_on_its_socket_only(void **state)
{
    (void)state;
    struct embedded_status status;
    struct stat st;
    look(shared.data_dir, &status);
    assert_int_equal(stat(status.socket_dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    PGconn *conn = test_database_connect(&shared, DATABASE_READER);
    assert_string_equal(test_sql_text(conn, "SHOW listen_addresses"), "");
    assert_string_equal(test_sql_text(conn, "SHOW data_checksums"), "on");
    assert_string_equal(
        test_sql_text(conn, "SELECT datcollate FROM pg_database WHERE "
                            "datname = current_database()"),
        "C.UTF-8");
    PQfinish(conn);
}

static void embedded_takes_its_share_of_the_machine(void **state)
{
    (void)state;
    struct cluster_tuning t = cluster_tune(cluster_memory_bytes(),
                                           cluster_disk_bytes(shared.data_dir));
    char sizes[64];
    (void)snprintf(sizes, sizeof(sizes), "%u %u %u", t.shared_buffers_mb,
                   t.max_wal_mb, t.min_wal_mb);
    PGconn *conn = test_database_connect(&shared, DATABASE_READER);
    assert_string_equal(
        test_sql_text(conn,
                      "SELECT string_agg((pg_size_bytes(current_setting(s)) "
                      ">> 20)::text, ' ' ORDER BY i) FROM unnest('{"
                      "shared_buffers, max_wal_size, min_wal_size}'::text[]) "
                      "WITH ORDINALITY AS u(s, i)"),
        sizes);
    /* Debian's servers have it. */
    assert_string_equal(test_sql_text(conn, "SHOW wal_compression"), "lz4");
    assert_string_equal(test_sql_text(conn, "SHOW default_toast_compression"),
                        "lz4");
    PQfinish(conn);
}

/* Two processes start the same new cluster at once; both must find it. */
static void embedded_takes_two_starters_at_once(void **state)
{
    (void)state;
    enum { STARTERS = 3 };
    const char *dir = temp_dir();
    pid_t children[STARTERS];
    for (int i = 0; i < STARTERS; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            struct embedded_options o = {.data_dir = dir, .no_sync = true};
            _exit(embedded_start(&o, NULL, NULL) == PSC_OK ? 0 : 1);
        }
    }
    for (int i = 0; i < STARTERS; i++) {
        int status = -1;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
    struct embedded_status status;
    look(dir, &status);
    assert_true(status.running);
    assert_int_equal(embedded_stop(dir, NULL), PSC_OK);
    wait_for_no_processes(dir);
}

static void embedded_stops_and_starts_again(void **state)
{
    (void)state;
    struct embedded_status status;
    PGconn *conn = test_database_connect(&shared, DATABASE_OWNER);
    test_sql(conn, "CREATE TABLE kept (x int); INSERT INTO kept VALUES (7)");
    PQfinish(conn);
    test_database_stop(&shared);
    look(shared.data_dir, &status);
    assert_true(status.exists);
    assert_false(status.running);
    assert_string_equal(status.socket_dir, "");
    assert_int_equal(embedded_stop(shared.data_dir, NULL), PSC_OK);

    conn = test_database_connect(&shared, DATABASE_OWNER); /* starts it */
    assert_int_equal(test_sql_int(conn, "SELECT x FROM kept"), 7);
    test_sql(conn, "DROP TABLE kept");
    PQfinish(conn);
}

/* A busy backend outlives its killed postmaster and would keep a new one
 * from starting. */
static void embedded_ends_orphans_of_a_killed_postmaster(void **state)
{
    (void)state;
    struct embedded_status before;
    struct embedded_status after;
    start(shared.data_dir, &before);
    PGconn *conn = test_database_connect(&shared, DATABASE_READER);
    pid_t backend = (pid_t)test_sql_int(conn, "SELECT pg_backend_pid()");
    assert_int_equal(
        PQsendQuery(conn, "SELECT count(*) FROM generate_series(1, 1000000) a,"
                          " generate_series(1, 1000000) b"),
        1);
    usleep(300000);
    assert_int_equal(kill(before.pid, SIGKILL), 0);
    usleep(300000);
    assert_true(runs_in(shared.data_dir, backend)); /* it lives on */

    start(shared.data_dir, &after);
    assert_true(after.running);
    assert_int_not_equal(after.pid, before.pid);
    assert_false(runs_in(shared.data_dir, backend));
    PQfinish(conn);
    conn = test_database_connect(&shared, DATABASE_READER);
    assert_int_equal(test_sql_int(conn, "SELECT 1"), 1);
    PQfinish(conn);
}

static void embedded_survives_being_killed_at_random(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        struct embedded_status status;
        test_database_kill(&shared);
        start(shared.data_dir, &status);
        assert_true(status.running);
    }
}

/* postmaster.pid names a living process that is not a postmaster. */
static void embedded_is_not_fooled_by_a_stale_pid_file(void **state)
{
    (void)state;
    struct embedded_status status;
    look(shared.data_dir, &status);
    test_database_stop(&shared);
    char text[64];
    int n = snprintf(text, sizeof(text), "%ld\n", (long)getppid());
    const char *path = temp_path(status.cluster_dir, "postmaster.pid");
    temp_write(path, text, (unsigned long)n);
    look(shared.data_dir, &status);
    assert_false(status.running);
    start(shared.data_dir, &status);
    assert_true(status.running);
}

/* initdb was killed half-way. */
static void embedded_starts_over_after_a_torn_initdb(void **state)
{
    (void)state;
    const char *dir = temp_dir();
    const char *torn = temp_path(dir, "postgres.new");
    const char *file = temp_path(torn, "PG_VERSION");
    struct embedded_status status;
    assert_int_equal(mkdir(torn, 0700), 0);
    temp_write(file, "15\n", 3);
    if (geteuid() == 0) {
        const struct passwd *pw = getpwnam("postgres");
        assert_non_null(pw);
        assert_int_equal(chown(torn, pw->pw_uid, pw->pw_gid), 0);
        assert_int_equal(chown(file, pw->pw_uid, pw->pw_gid), 0);
    }
    start(dir, &status);
    assert_true(status.running);
    assert_int_not_equal(access(torn, F_OK), 0);
    assert_int_equal(embedded_stop(dir, NULL), PSC_OK);
}

static void embedded_takes_a_long_path(void **state)
{
    (void)state;
    char name[201];
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    const char *dir = temp_path(temp_dir(), name);
    struct embedded_status status;
    start(dir, &status);
    assert_true(status.running);
    assert_true(strlen(status.socket_dir) < 60);
    assert_int_equal(embedded_stop(dir, NULL), PSC_OK);
    assert_int_not_equal(access(status.socket_dir, F_OK), 0);
}

/* Stop being root: as whom a service runs. */
static bool become_nobody(void)
{
    const struct passwd *pw = getpwnam("nobody");
    return geteuid() != 0 ||
           (pw != NULL && setgid(pw->pw_gid) == 0 && setuid(pw->pw_uid) == 0);
}

/* In a child: a service with this runtime directory starts the server. */
static bool start_as_service(const char *dir, const char *runtime)
{
    struct psc_error err = {0};
    struct embedded_status status;
    struct embedded_options o = {.data_dir = dir, .no_sync = true};
    if (!become_nobody() || unsetenv("XDG_RUNTIME_DIR") != 0 ||
        setenv("RUNTIME_DIRECTORY", runtime, 1) != 0) {
        return false;
    }
    if (embedded_start(&o, &status, &err) != PSC_OK) {
        (void)fprintf(stderr, "%s\n", err.msg);
        return false;
    }
    return strncmp(status.socket_dir, runtime, strlen(runtime)) == 0;
}

/* In a child: who knows nothing of that environment asks the server. */
static bool ask_from_elsewhere(const char *dir)
{
    struct database_options o = {.data_dir = (char *)(uintptr_t)dir};
    char *conninfo = NULL;
    if (unsetenv("XDG_RUNTIME_DIR") != 0 ||
        unsetenv("RUNTIME_DIRECTORY") != 0 ||
        setenv("TMPDIR", "/nonexistent", 1) != 0 ||
        database_conninfo(&o, DATABASE_READER, &conninfo, NULL) != PSC_OK) {
        return false;
    }
    PGconn *conn = PQconnectdb(conninfo);
    bool fine = PQstatus(conn) == CONNECTION_OK;
    PQfinish(conn);
    free(conninfo);
    return fine;
}

/* @runtime: of the service, or NULL for who is none. */
static void child_succeeds(const char *dir, const char *runtime)
{
    int status = -1;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        bool fine = runtime != NULL ? start_as_service(dir, runtime)
                                    : ask_from_elsewhere(dir);
        _exit(fine ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* A service's user and root have neither their environment nor /tmp in
 * common. */
static void embedded_is_found_from_another_environment(void **state)
{
    (void)state;
    const struct passwd *pw = getpwnam("nobody");
    const char *dir = temp_dir();
    const char *first = temp_dir();
    const char *second = temp_dir();
    struct embedded_status status;
    assert_non_null(pw);
    if (geteuid() == 0) {
        assert_int_equal(chown(dir, pw->pw_uid, pw->pw_gid), 0);
        assert_int_equal(chown(first, pw->pw_uid, pw->pw_gid), 0);
        assert_int_equal(chown(second, pw->pw_uid, pw->pw_gid), 0);
    }
    child_succeeds(dir, first);
    child_succeeds(dir, NULL);
    assert_int_equal(embedded_stop(dir, NULL), PSC_OK);
    child_succeeds(dir, second); /* after a reboot */
    child_succeeds(dir, NULL);
    assert_int_equal(embedded_stop(dir, NULL), PSC_OK);
    child_succeeds(dir, NULL); /* starts it */
    look(dir, &status);
    assert_true(status.running);
    assert_int_equal(embedded_stop(dir, NULL), PSC_OK);
}

/* As after a restart of a service whose /tmp was its own. */
static void embedded_says_that_it_cannot_see_the_socket(void **state)
{
    (void)state;
    struct embedded_status status;
    struct psc_error err = {0};
    struct embedded_options o = {.data_dir = shared.data_dir, .no_sync = true};
    start(shared.data_dir, &status);
    const char *there = temp_path(status.socket_dir, ".s.PGSQL.5432");
    const char *away = temp_path(status.socket_dir, "away");
    assert_int_equal(rename(there, away), 0);
    assert_int_equal(embedded_start(&o, NULL, &err), PSC_DATABASE);
    assert_non_null(strstr(err.msg, "not to be seen from here"));
    assert_int_equal(rename(away, there), 0);
    start(shared.data_dir, &status);
}

/* What root makes, the data directory's owner can use. */
static void embedded_shares_its_lock_with_the_owner(void **state)
{
    (void)state;
    const struct passwd *pw = getpwnam("postgres");
    const char *dir = temp_dir();
    struct embedded_status status;
    struct stat st;
    if (geteuid() != 0 || pw == NULL) {
        skip();
    }
    assert_int_equal(chown(dir, pw->pw_uid, pw->pw_gid), 0);
    start(dir, &status);
    assert_int_equal(stat(temp_path(dir, "lock"), &st), 0);
    assert_int_equal(st.st_uid, pw->pw_uid);
    assert_int_equal(embedded_stop(dir, NULL), PSC_OK);
}

static void embedded_refuses_a_cluster_of_root(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        skip();
    }
    const char *dir = temp_dir();
    struct psc_error err = {0};
    struct embedded_options o = {.data_dir = dir};
    assert_int_equal(mkdir(temp_path(dir, "postgres"), 0700), 0);
    assert_int_equal(embedded_start(&o, NULL, &err), PSC_PERMISSION);
    assert_non_null(strstr(err.msg, "belongs to root"));
}

/* As an unprivileged user: another's cluster, and one's own. */
static void embedded_tells_whose_cluster_it_is(void **state)
{
    (void)state;
    const struct passwd *pw = getpwnam("nobody");
    if (geteuid() != 0) {
        skip();
    }
    assert_non_null(pw);
    pid_t child = fork();
    if (child == 0 && pw != NULL) {
        struct psc_error err = {0};
        struct embedded_options o = {.data_dir = shared.data_dir};
        if (setgid(pw->pw_gid) != 0 || setuid(pw->pw_uid) != 0) {
            _exit(2);
        }
        bool refused = embedded_start(&o, NULL, &err) == PSC_PERMISSION;
        _exit(refused && strstr(err.msg, shared.data_dir) != NULL ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void embedded_says_that_its_user_cannot_enter(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        skip();
    }
    const char *closed = temp_dir();
    struct psc_error err = {0};
    assert_int_equal(chmod(closed, 0700), 0);
    struct embedded_options o = {.data_dir = temp_path(closed, "data")};
    assert_int_equal(embedded_start(&o, NULL, &err), PSC_PERMISSION);
    assert_non_null(strstr(err.msg, "cannot enter"));
}

static void embedded_shows_the_log_when_it_cannot_start(void **state)
{
    (void)state;
    struct embedded_status status;
    struct psc_error err = {0};
    look(shared.data_dir, &status);
    test_database_stop(&shared);
    const char *path = temp_path(status.cluster_dir, "postgresql.auto.conf");
    temp_write(path, "no_such_setting = 1\n", 20);
    struct embedded_options o = {.data_dir = shared.data_dir, .no_sync = true};
    assert_int_equal(embedded_start(&o, NULL, &err), PSC_DATABASE);
    assert_non_null(strstr(err.msg, "server.log"));
    temp_write(path, "", 0);
    start(shared.data_dir, &status);
}

static void database_options_name_one_database(void **state)
{
    (void)state;
    struct psc_error err = {0};
    struct database_options o = {0};
    assert_int_equal(setenv("POOLSCOPE_DATA", "/x/data", 1), 0);
    assert_int_equal(database_options_resolve(&o, &err), PSC_OK);
    assert_string_equal(o.data_dir, "/x/data");
    database_options_fini(&o);
    assert_int_equal(
        setenv("POOLSCOPE_DSN", "host=h user=u password=secret", 1), 0);
    assert_int_equal(database_options_resolve(&o, &err), PSC_OK);
    char text[100];
    database_describe(&o, text, sizeof(text));
    assert_string_equal(text, "user=u host=h");
    o.data_dir = strdup("/y");
    assert_int_equal(database_options_resolve(&o, &err), PSC_CONFIG);
    database_options_fini(&o);
    assert_int_equal(unsetenv("POOLSCOPE_DATA"), 0);
    assert_int_equal(unsetenv("POOLSCOPE_DSN"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(embedded_starts_once_however_often_asked),
        cmocka_unit_test(embedded_lets_each_role_in),
        cmocka_unit_test(embedded_listens_on_its_socket_only),
        cmocka_unit_test(embedded_takes_its_share_of_the_machine),
        cmocka_unit_test(embedded_takes_two_starters_at_once),
        cmocka_unit_test(embedded_stops_and_starts_again),
        cmocka_unit_test(embedded_ends_orphans_of_a_killed_postmaster),
        cmocka_unit_test(embedded_survives_being_killed_at_random),
        cmocka_unit_test(embedded_is_not_fooled_by_a_stale_pid_file),
        cmocka_unit_test(embedded_starts_over_after_a_torn_initdb),
        cmocka_unit_test(embedded_takes_a_long_path),
        cmocka_unit_test(embedded_is_found_from_another_environment),
        cmocka_unit_test(embedded_says_that_it_cannot_see_the_socket),
        cmocka_unit_test(embedded_shares_its_lock_with_the_owner),
        cmocka_unit_test(embedded_refuses_a_cluster_of_root),
        cmocka_unit_test(embedded_tells_whose_cluster_it_is),
        cmocka_unit_test(embedded_says_that_its_user_cannot_enter),
        cmocka_unit_test(embedded_shows_the_log_when_it_cannot_start),
        cmocka_unit_test(database_options_name_one_database),
    };
    return cmocka_run_group_tests(tests, make_shared, NULL);
}
