/* The fleet simulator against a real collector and PostgreSQL: what it sends
 * arrives and is found complete, also when the collector is killed meanwhile,
 * and its checker finds what is lost, doubled or altered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "tests/lib/spawn.h"
#include "tests/lib/temp.h"
#include "tests/lib/world.h"

enum { RUN_S = 120, VERIFY_S = 120, WORDS_MAX = 48 };

static struct world world;

/* --- running it --- */

/* Words of a command line: fixed ones, then @more up to NULL. */
static pid_t spawn_fleetsim(const char *log, const char *const *fixed,
                            const char *const *more)
{
    const char *words[WORDS_MAX] = {spawn_program("fleetsim")};
    int n = 1;
    for (; *fixed != NULL; fixed++) {
        words[n++] = *fixed;
    }
    for (; more != NULL && *more != NULL; more++) {
        words[n++] = *more;
    }
    assert_true(n < WORDS_MAX);
    return spawn(log, words);
}

static pid_t begin(const char *state_dir, const char *log,
                   const char *const *more)
{
    char collector[64];
    (void)snprintf(collector, sizeof(collector), "127.0.0.1:%d", world.port);
    const char *fixed[] = {
        "--state",    state_dir, "--collector", collector, "--token",
        world.token,  "--hosts", "12",          "--tags",  "80",
        "--counters", "12",      "--drivers",   "4",       "--ramp",
        "500ms",      NULL,
    };
    return spawn_fleetsim(log, fixed, more);
}

static void end_well(pid_t pid, const char *log)
{
    int code = spawn_wait(pid, RUN_S);
    if (code != 0) {
        world_show_log(log);
        fail_msg("fleetsim ended with %d", code);
    }
}

/* Verify @hosts of them ("0": all), and return the exit code; its words are in
 * @log. */
static int verify(const char *state_dir, const char *hosts, const char *log)
{
    const char *fixed[] = {"--verify",       "--state", state_dir,
                           "--verify-hosts", hosts,     world.db.option,
                           world.db.place,   NULL};
    return spawn_wait(spawn_fleetsim(log, fixed, NULL), VERIFY_S);
}

static void verify_complete(const char *state_dir, const char *log)
{
    int code = verify(state_dir, "0", log);
    if (code != 0) {
        world_show_log(log);
        world_show_log(world.collector_log);
        fail_msg("not complete");
    }
    assert_int_equal(world_log_count(log, "complete: all"), 1);
}

/* --- tests --- */

static void a_killed_collector_costs_nothing(void **state)
{
    (void)state;
    const char *dir = temp_path(world.dir, "killed");
    const char *log = temp_path(world.dir, "killed.log");
    const char *more[] = {"--interval", "200ms", "--snapshots", "30", NULL};
    pid_t pid = begin(dir, log, more);
    world_await(&world, RUN_S,
                "SELECT count(*) = 12 FROM poolscope.host WHERE host LIKE "
                "'sim%' AND last_seen > first_seen + interval '2 s'");
    world_collector_stop(&world, SIGKILL);
    spawn_sleep_ms(1500);
    world_collector_start(&world);
    end_well(pid, log);
    verify_complete(dir, temp_path(world.dir, "verify.log"));
    assert_int_equal(
        world_int(&world, "SELECT sum(n)::bigint FROM (SELECT (SELECT "
                          "count(*) FROM poolscope.counter_history(h.host, "
                          "'fleetsim_snapshot', '', '2000-01-01', "
                          "'2200-01-01')) AS n FROM poolscope.host h "
                          "WHERE h.host LIKE 'sim%') x"),
        12 * 30);
}

static void all_kinds_of_trouble_end_complete(void **state)
{
    (void)state;
    const char *dir = temp_path(world.dir, "trouble");
    const char *log = temp_path(world.dir, "trouble.log");
    const char *more[] = {
        "--prefix", "hard",     "--interval", "100ms",  "--for",
        "4s",       "--silent", "0.3",        "--slow", "0.3",
        "--leak",   "1M:0.5",   "--storm",    "1500ms", "--reboots",
        "1500ms",   "--seed",   "3",          NULL,
    };
    end_well(begin(dir, log, more), log);
    /* Another run goes on with the same fleet. */
    end_well(begin(dir, log, more), log);
    verify_complete(dir, temp_path(world.dir, "verify-trouble.log"));
}

static void a_history_arrives_at_its_time(void **state)
{
    (void)state;
    const char *dir = temp_path(world.dir, "history");
    const char *log = temp_path(world.dir, "history.log");
    const char *more[] = {
        "--prefix", "old", "--from",    "12h", "--interval", "10m",
        "--hosts",  "5",   "--reboots", "4h",  NULL,
    };
    end_well(begin(dir, log, more), log);
    verify_complete(dir, temp_path(world.dir, "verify-history.log"));
    long long hours = world_int(
        &world, "SELECT count(DISTINCT hour) FROM poolscope.pool_hour WHERE "
                "host = 'old1' AND hour < now() - interval '2 h'");
    assert_in_range(hours, 10, 11);
}

/* --- damage --- */

/* Put @columns of the true history in the place of the history; @where leaves
 * rows out. So the test needs no table's layout. */
static void damage(const char *columns, const char *where)
{
    char sql[2048];
    (void)snprintf(
        sql, sizeof(sql),
        "CREATE OR REPLACE FUNCTION poolscope.pool_history(host text, pool "
        "text, tag text, since timestamptz, until timestamptz) RETURNS TABLE "
        "(at timestamptz, allocs bigint, frees bigint, outstanding bigint, "
        "bytes bigint) LANGUAGE sql STABLE SECURITY DEFINER AS $$ SELECT %s "
        "FROM truth.pool_history($1, $2, $3, $4, $5) WITH ORDINALITY "
        "AS x(at, allocs, frees, outstanding, bytes, n) %s $$",
        columns, where);
    test_sql(world.sql, sql);
    test_sql(world.sql, "GRANT EXECUTE ON FUNCTION poolscope.pool_history TO "
                        "poolscope_reader");
}

static void expect_problem(const char *dir, const char *log, const char *line)
{
    assert_int_equal(verify(dir, "3", log), 1); /* sim0, 4 and 8 */
    if (world_log_count(log, line) != 1) {
        world_show_log(log);
        fail_msg("no line \"%s\"", line);
    }
}

static void damage_is_found(void **state)
{
    (void)state;
    const char *dir = temp_path(world.dir, "killed");
    test_sql(world.sql,
             "CREATE SCHEMA truth; ALTER FUNCTION poolscope.pool_history "
             "SET SCHEMA truth");

    damage("at, allocs, frees, outstanding, bytes",
           "WHERE NOT ($1 = 'sim4' AND n = 7)");
    expect_problem(dir, temp_path(world.dir, "missing.log"),
                   "missing samples         1");
    damage("at, allocs, frees, outstanding, bytes",
           "CROSS JOIN generate_series(1, CASE WHEN $1 = 'sim4' AND n = 7 "
           "THEN 2 ELSE 1 END) ORDER BY n");
    expect_problem(dir, temp_path(world.dir, "doubled.log"),
                   "doubled samples         1");
    damage("at, allocs, frees, outstanding, CASE WHEN $1 = 'sim4' AND n = 7 "
           "AND $3 LIKE 'own-%' THEN bytes + 1 ELSE bytes END",
           "");
    expect_problem(dir, temp_path(world.dir, "altered.log"),
                   "wrong values or rows    1");
    damage("at + CASE WHEN $1 = 'sim4' AND n = 30 THEN interval '2 s' ELSE "
           "interval '0' END, allocs, frees, outstanding, bytes",
           "");
    expect_problem(dir, temp_path(world.dir, "late.log"),
                   "samples off in time     1");

    test_sql(world.sql, "DROP FUNCTION poolscope.pool_history; ALTER FUNCTION "
                        "truth.pool_history SET SCHEMA poolscope");
    verify_complete(dir, temp_path(world.dir, "whole.log"));
}

static int start_world(void **state)
{
    (void)state;
    world_start(&world, true, NULL, NULL);
    return 0;
}

static int stop_world(void **state)
{
    (void)state;
    world_stop(&world);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_collector_costs_nothing),
        cmocka_unit_test(all_kinds_of_trouble_end_complete),
        cmocka_unit_test(a_history_arrives_at_its_time),
        cmocka_unit_test(damage_is_found),
    };
    return cmocka_run_group_tests(tests, start_world, stop_world);
}
