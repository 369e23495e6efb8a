/* Settling is killed at random moments, and so is its backend (upon which
 * PostgreSQL starts again), while samples come and slots are emptied. In every
 * view of the database each sample must be there once: in a chunk, or as a
 * fresh row that is not hidden. In the end chunks must hold what was sent.
 *
 * Lasts POOLSCOPE_TEST_SECONDS, and at least some rounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "collector/settle.h"
#include "common/clock.h"
#include "tests/lib/database.h"
#include "tests/lib/fresh_check.h"
#include "tests/lib/spawn.h"
#include "tests/lib/world.h"

enum {
    HOSTS = 20,
    TAGS = 12,
    COUNTERS = 4,
    ROWS_A_ROUND = 20, /* of each host, about */
    ROUNDS_MIN = 6,
    LIFE_MAX_MS = 120, /* of a process that settles */
    CRASH_ONE_IN = 8,
    HOURS = 1500, /* of the past, to begin in */
    SQL_BYTES = 256,
};

#define HOUR_US (3600 * PSC_US_PER_S)
#define STEP_US (240 * PSC_US_PER_S)

static struct test_database db;
static const char *owner_dsn, *writer_dsn;

/* ------------------------------------------------------- other processes */

static PGconn *connect_in_time(const char *dsn)
{
    PGconn *conn = PQconnectdb(dsn);
    while (PQstatus(conn) != CONNECTION_OK) {
        PQfinish(conn);
        spawn_sleep_ms(20);
        conn = PQconnectdb(dsn);
    }
    return conn;
}

/* Settle for ever, as one process after the other. */
static void settle_for_ever(void)
{
    static struct metrics metrics;
    static atomic_bool stop;
    for (;;) {
        PGconn *conn = connect_in_time(writer_dsn);
        struct settle *s = settle_new(&metrics, &stop);
        bool more = true;
        int rc = PSC_OK;
        while (s != NULL && rc == PSC_OK && more) {
            struct psc_error err;
            rc = settle_pass(s, conn, &more, &err);
        }
        settle_free(s);
        PQfinish(conn);
    }
}

/* Hosts that have not just as many samples as their cursors say. */
static const char wrong_sql[] =
    "SELECT string_agg(concat_ws(' ', host_id, n, t, u), '; ') FROM ("
    "SELECT c.host_id, c.n, (SELECT coalesce(sum(k.snapshots), 0)"
    " FROM poolscope_data.tag_chunk k WHERE k.host_id = c.host_id)"
    " + (SELECT count(*) FROM poolscope_data.fresh f"
    " WHERE f.host_id = c.host_id AND f.n > coalesce(s.tags_n, 0)) AS t,"
    " (SELECT coalesce(sum(k.snapshots), 0)"
    " FROM poolscope_data.counter_chunk k WHERE k.host_id = c.host_id)"
    " + (SELECT count(*) FROM poolscope_data.fresh f"
    " WHERE f.host_id = c.host_id AND f.n > coalesce(s.counters_n, 0)) AS u"
    " FROM poolscope_data.ingest_cursor c"
    " LEFT JOIN poolscope_data.host_settle s USING (host_id)) x"
    " WHERE t <> n OR u <> n";

/* Look until something is wrong. Connections may break. */
static void look_for_ever(void)
{
    PGconn *conn = connect_in_time(owner_dsn);
    for (;;) {
        PGresult *res = PQexec(conn, wrong_sql);
        if (PQresultStatus(res) != PGRES_TUPLES_OK) {
            PQfinish(conn);
            conn = connect_in_time(owner_dsn);
        } else if (PQgetisnull(res, 0, 0) == 0) {
            fprintf(stderr, "host, samples, of tags, of counters: %s\n",
                    PQgetvalue(res, 0, 0));
            _exit(1);
        }
        PQclear(res);
    }
}

static pid_t start(void (*what)(void))
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        what();
    }
    return pid;
}

static void end(pid_t pid)
{
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* ------------------------------------------------------------------ hosts */

struct sender {
    struct fresh_host host;
    int64_t at_us;
    long long session; /* as last seen; another one: we are fenced */
};

static void sender_init(struct sender *s, int i)
{
    int64_t now_us = psc_clock_wall_us();
    *s = (struct sender){.at_us = now_us - now_us % HOUR_US - HOURS * HOUR_US};
    fresh_host_init(&s->host, i + 1, TAGS, COUNTERS, true);
    for (int t = 0; t < TAGS; t++) {
        s->host.tags.now[t].flags = TAG_BYTES;
    }
}

static void change(struct fresh_table *t)
{
    for (uint32_t i = 0; i < t->n_ids; i++) {
        struct fresh_cell *c = &t->now[i];
        if (rand() % 4 > 0) {
            continue;
        }
        bool gone = c->present && rand() % 8 == 0;
        int64_t v = rand() % 100000;
        *c = (struct fresh_cell){.present = !gone, .flags = c->flags};
        c->values[t->columns == 1 ? 0 : COL_BYTES] = gone ? 0 : v;
    }
}

/* One sample, as a session would store it: under the cursor's lock, and with
 * keyframes when another one has begun. In a transaction. */
static void send_one(PGconn *owner, struct sender *s)
{
    const char *session = test_sql_textf(
        owner,
        "SELECT session FROM poolscope_data.ingest_cursor WHERE host_id = %lld "
        "FOR UPDATE",
        (long long)s->host.host_id);
    bool fenced = strtoll(session, NULL, 10) != s->session;
    s->session = strtoll(session, NULL, 10);
    change(&s->host.tags);
    change(&s->host.counters);
    fresh_store(owner, &s->host, s->at_us, 0, true, true, fenced);
    s->at_us += STEP_US;
}

static void send_some(PGconn *owner, struct sender *senders)
{
    test_sql(owner, "BEGIN");
    for (int i = 0; i < HOSTS * ROWS_A_ROUND; i++) {
        send_one(owner, &senders[rand() % HOSTS]);
    }
    test_sql(owner, "COMMIT");
}

/* Some time passes for the ring, and it turns. */
static void turn(PGconn *owner)
{
    (void)test_sql_textf(owner,
                         "UPDATE poolscope_data.fresh_slot SET opened_at = "
                         "opened_at - interval '%1$d min', closed_at = "
                         "closed_at - interval '%1$d min', settled_at = "
                         "settled_at - interval '%1$d min' RETURNING 1",
                         20 + rand() % 60);
    (void)test_sql_text(owner, "SELECT poolscope_api.fresh_turn()");
}

/* kill -9 of the backend that settles, if there is one, and wait until
 * PostgreSQL is back. */
static bool crash_backend(PGconn **owner)
{
    const char *pid =
        test_sql_text(*owner, "SELECT pid FROM pg_stat_activity WHERE "
                              "usename = 'poolscope_writer' LIMIT 1");
    if (pid[0] == '\0') {
        return false;
    }
    (void)kill((pid_t)strtol(pid, NULL, 10), SIGKILL);
    spawn_sleep_ms(50);
    PQfinish(*owner);
    *owner = connect_in_time(owner_dsn);
    return true;
}

/* ----------------------------------------------------------------- test */

static void each_sample_is_there_once(void **state)
{
    (void)state;
    srand(world_seed());
    static struct sender senders[HOSTS];
    unsigned n_kills = 0, n_crashes = 0;
    test_database_migrated(&db, true);
    owner_dsn = test_database_conninfo(&db, DATABASE_OWNER);
    writer_dsn = test_database_conninfo(&db, DATABASE_WRITER);
    PGconn *owner = test_database_connect(&db, DATABASE_OWNER);
    for (int i = 0; i < HOSTS; i++) {
        sender_init(&senders[i], i);
        test_sql(owner, "BEGIN");
        send_one(owner, &senders[i]);
        test_sql(owner, "COMMIT");
    }
    pid_t looker = start(look_for_ever);
    pid_t settler = start(settle_for_ever);
    int64_t end_us = psc_clock_mono_us() + world_seconds(10) * PSC_US_PER_S;
    for (int round = 0; round < ROUNDS_MIN || psc_clock_mono_us() < end_us;
         round++) {
        send_some(owner, senders);
        for (int i = 0; i < 3; i++) {
            spawn_sleep_ms(rand() % LIFE_MAX_MS);
            if (rand() % CRASH_ONE_IN == 0) {
                n_crashes += crash_backend(&owner);
            }
            end(settler);
            settler = start(settle_for_ever);
            n_kills++;
            turn(owner);
        }
        assert_int_equal(waitpid(looker, NULL, WNOHANG), 0);
    }
    end(settler);
    assert_int_equal(waitpid(looker, NULL, WNOHANG), 0);
    end(looker);

    PGconn *writer = test_database_connect(&db, DATABASE_WRITER);
    assert_int_equal(fresh_settle(writer), 0);
    assert_int_equal(test_sql_int(owner, "SELECT count(*) FROM "
                                         "poolscope_data.host_settle WHERE "
                                         "failed IS NOT NULL"),
                     0);
    long long hidden = test_sql_int(
        owner, "SELECT sum(n) - (SELECT count(*) FROM poolscope_data.fresh) "
               "FROM poolscope_data.ingest_cursor");
    print_message("killed %u times, PostgreSQL crashed %u times; %lld of %lld "
                  "rows have been emptied\n",
                  n_kills, n_crashes, hidden,
                  test_sql_int(owner, "SELECT sum(n) FROM "
                                      "poolscope_data.ingest_cursor"));
    for (int i = 0; i < HOSTS; i++) {
        fresh_check(owner, &senders[i].host);
        assert_true(fresh_settled(owner, &senders[i].host, true) > 0);
        fresh_host_fini(&senders[i].host);
    }
    PQfinish(writer);
    PQfinish(owner);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_sample_is_there_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
