/* The schema and what programs write through it: migrations, roles, the
 * cursor that makes ingest idempotent, rows for detection. What views say about
 * samples is in test_sql_samples.c, identity and findings are in
 * test_sql_identity.c, housekeeping in test_sql_upkeep.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "sql/migrate.h"
#include "tests/lib/store.h"
#include "tests/lib/temp.h"

enum { SQL_BYTES = 2048 };

/* SQLSTATE of a statement, "00000" if it succeeds. */
static const char *state_of(PGconn *conn, const char *sql)
{
    static char state[6];
    PGresult *result = PQexec(conn, sql);
    const char *text = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    (void)snprintf(state, sizeof(state), "%s", text != NULL ? text : "00000");
    PQclear(result);
    return state;
}

/* ----------------------------------------------------------- migrations */

static void migrations_run_once(void **state)
{
    (void)state;
    int applied = -1;
    struct psc_error err = {0};
    assert_int_equal(migrate_connection(test_store.owner, &applied, &err),
                     PSC_OK);
    assert_int_equal(applied, 0);
    assert_int_equal(migrate_check(test_store.reader, &err), PSC_OK);
    assert_int_equal(test_sql_int(test_store.reader,
                                  "SELECT max(version) FROM "
                                  "poolscope.schema_version"),
                     migrate_newest());
}

/* By a user's own DSN, in a database that knows nothing of us yet. */
static void migrators_at_once_do_not_meet(void **state)
{
    (void)state;
    enum { MIGRATORS = 4 };
    const char *conninfo = test_database_beside(&test_store.db);
    pid_t children[MIGRATORS];
    for (int i = 0; i < MIGRATORS; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            struct psc_error err = {0};
            _exit(migrate_run(conninfo, NULL, &err) == PSC_OK ? 0 : 1);
        }
    }
    for (int i = 0; i < MIGRATORS; i++) {
        int status = -1;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
    PGconn *conn = PQconnectdb(conninfo);
    assert_int_equal(
        test_sql_int(conn, "SELECT count(*) FROM poolscope.schema_version"),
        migrate_newest());
    assert_string_equal(
        test_sql_text(conn, "SELECT viewowner FROM pg_views WHERE "
                            "schemaname = 'poolscope' AND viewname = 'host'"),
        "poolscope_owner");
    PQfinish(conn);
}

static void a_newer_database_is_refused(void **state)
{
    (void)state;
    struct psc_error err = {0};
    test_sql(test_store.owner, "INSERT INTO poolscope.schema_version "
                               "VALUES (999, '999_future.sql', '9.9')");
    assert_int_equal(migrate_connection(test_store.owner, NULL, &err),
                     PSC_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "999"));
    assert_int_equal(migrate_check(test_store.reader, &err), PSC_UNSUPPORTED);
    test_sql(test_store.owner, "DELETE FROM poolscope.schema_version "
                               "WHERE version = 999");
    assert_int_equal(migrate_connection(test_store.owner, NULL, &err), PSC_OK);
}

static void an_empty_database_is_told_from_ours(void **state)
{
    (void)state;
    struct psc_error err = {0};
    PGconn *conn = PQconnectdb(test_database_beside(&test_store.db));
    assert_int_equal(migrate_check(conn, &err), PSC_MISSING);
    PQfinish(conn);
}

static void a_user_without_rights_learns_what_is_missing(void **state)
{
    (void)state;
    struct psc_error err = {0};
    if (test_store.db.data_dir == NULL) {
        skip(); /* whoever has a DSN for us may become the owner */
    }
    assert_int_equal(migrate_connection(test_store.reader, NULL, &err),
                     PSC_PERMISSION);
    assert_non_null(strstr(err.msg, "poolscope_owner"));
    assert_int_equal(test_sql_int(test_store.reader, "SELECT 1"), 1);
}

/* ---------------------------------------------------------------- roles */

static void the_reader_reads_views_and_nothing_else(void **state)
{
    (void)state;
    PGresult *views =
        PQexec(test_store.reader, "SELECT viewname FROM pg_views "
                                  "WHERE schemaname = 'poolscope'");
    assert_true(PQntuples(views) >= 18);
    for (int i = 0; i < PQntuples(views); i++) {
        (void)test_sql_textf(test_store.reader,
                             "SELECT count(*) FROM poolscope.%s",
                             PQgetvalue(views, i, 0));
    }
    PQclear(views);
    (void)test_sql_text(test_store.reader,
                        "SELECT count(*) FROM poolscope.fleet_growth('1 h')");
    static const char *const forbidden[] = {
        "SELECT * FROM poolscope_data.host",
        "SELECT * FROM poolscope_data.enrolment_token",
        "SELECT poolscope_data.live_from(1)",
        "SELECT poolscope_api.token_revoke(1)",
        "DELETE FROM poolscope.leak",
        "INSERT INTO poolscope.collector VALUES ('x', now(), '{}')",
        "CREATE TABLE poolscope.mine (x int)",
        "DROP VIEW poolscope.host",
    };
    for (size_t i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++) {
        assert_string_equal(state_of(test_store.reader, forbidden[i]), "42501");
    }
}

static void the_writer_writes_by_functions_only(void **state)
{
    (void)state;
    static const char *const forbidden[] = {
        "SELECT * FROM poolscope_data.snapshot",
        "DELETE FROM poolscope_data.leak",
        "UPDATE poolscope_data.host SET host = 'x'",
        "DROP TABLE poolscope_data.snapshot",
        "DROP FUNCTION poolscope_api.poll(text, jsonb)",
        "SELECT poolscope_data.partitions_drop()",
        "CREATE TABLE poolscope_data.mine (x int)",
        "INSERT INTO poolscope.schema_version VALUES (77, '', '')",
    };
    for (size_t i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++) {
        assert_string_equal(state_of(test_store.writer, forbidden[i]), "42501");
    }
    assert_int_equal(test_sql_int(test_store.writer, "SELECT count(*) FROM "
                                                     "poolscope.leak"),
                     0);
}

static void views_have_the_columns_of_the_contract(void **state)
{
    (void)state;
    static const char *const wanted[][2] = {
        {"host", "host_id,host,os,os_version,os_build,role,region,labels,"
                 "agent_version,boot_id,boot_at,first_seen,last_seen,status,"
                 "ram_bytes,clock_offset,spool_bytes,dropped_batches,"
                 "source_errors"},
        {"host_room", "host_id,host,resource,limit_bytes,used_bytes,"
                      "room_bytes,at"},
        {"boot", "host_id,host,boot_id,boot_at,last_seen"},
        {"driver", "host_id,host,driver,version,company,product,path,"
                   "link_time,loaded_at,loaded_matches_file,seen_from,"
                   "seen_to"},
        {"driver_version", "driver,version,hosts,leaking_hosts"},
        {"pool_now", "host_id,host,pool,tag,driver,allocs,frees,outstanding,"
                     "bytes,at"},
        {"pool_hour", "host_id,host,pool,tag,hour,first_bytes,last_bytes,"
                      "min_bytes,max_bytes,mean_bytes,last_outstanding"},
        {"counter_now", "host_id,host,counter,instance,value,at"},
        {"counter_hour", "host_id,host,counter,instance,value,at"},
        {"event", "host_id,host,at,source,event_id,message,details"},
        {"leak", "leak_id,state,severity,pool,tag,tags,cause_kind,cause,"
                 "driver,driver_version,owner_driver,process,process_version,"
                 "scope,hosts_leaking,hosts_reporting,bytes_per_day,onset_at,"
                 "detected_at,updated_at,resolved_at,exhaustion_host,"
                 "exhaustion_at,exhaustion_earliest,exhaustion_latest,"
                 "confidence,summary,evidence,acked_by,muted_until"},
        {"leak_host", "leak_id,host_id,host,state,onset_at,detected_at,bytes,"
                      "bytes_per_day,uptime,driver_version,room_bytes,"
                      "exhaustion_at,exhaustion_earliest,exhaustion_latest"},
        {"leak_attribution",
         "leak_id,rank,attribute,value,hosts_with,leaking_with,hosts_without,"
         "leaking_without,shift_bytes_per_day,p_value,"
         "indistinguishable_from"},
        {"leak_series", "leak_id,at,side,hosts,mean_bytes"},
        {"leak_event",
         "leak_id,at,kind,driver,driver_version,severity,details"},
        {"tag_driver", "pool,tag,driver,confidence,evidence"},
        {"alert", "alert_id,leak_id,kind,severity,channel,state,created_at,"
                  "next_attempt_at,delivered_at,attempts,last_error"},
    };
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        char sql[SQL_BYTES];
        (void)snprintf(sql, sizeof(sql), "SELECT %s FROM poolscope.%s LIMIT 0",
                       wanted[i][1], wanted[i][0]);
        test_sql(test_store.reader, sql);
    }
    assert_int_equal(
        test_sql_int(test_store.owner,
                     "SELECT count(*) FROM information_schema.columns "
                     "WHERE table_schema = 'poolscope' AND "
                     "column_name LIKE '%\\_bytes' AND "
                     "data_type <> 'bigint'"),
        0);
    /* Counts too. */
    assert_int_equal(
        test_sql_int(test_store.owner,
                     "SELECT count(*) FROM information_schema.columns "
                     "WHERE table_schema = 'poolscope' AND "
                     "(column_name LIKE '%hosts%' OR column_name IN "
                     "('leaking_with', 'leaking_without', 'attempts')) "
                     "AND data_type <> 'bigint'"),
        0);
}

/* --------------------------------------------------------------- cursor */

/* Batches that events say are lost. */
static long long lost_of(long long host)
{
    return strtoll(
        test_sql_textf(test_store.reader,
                       "SELECT coalesce(sum((details ->> 'to_seq')::bigint "
                       "- (details ->> 'from_seq')::bigint + 1), 0) "
                       "FROM poolscope.event WHERE host_id = %lld "
                       "AND event_id = 'batches_lost'",
                       host),
        NULL, 10);
}

static void batches_are_stored_exactly_once(void **state)
{
    (void)state;
    long long id = test_host_enrol(test_store.writer, "once");
    struct test_batch b = {
        .host_id = id,
        .session = test_session_claim(test_store.writer, id),
        .seq = 1,
        .at_us = psc_clock_wall_us(),
    };
    assert_string_equal(test_batch_store(test_store.writer, &b), "stored");
    assert_string_equal(test_batch_store(test_store.writer, &b), "duplicate");
    b.seq = 2;
    assert_string_equal(test_batch_store(test_store.writer, &b), "stored");
    b.first_seq = 5; /* 3 and 4 are lost; 5 and 6 are one sample */
    b.seq = 6;
    assert_string_equal(test_batch_store(test_store.writer, &b), "stored");
    assert_int_equal(lost_of(id), 2);
    assert_string_equal(
        test_sql_textf(
            test_store.writer,
            "SELECT string_agg(first_seq || '-' || seq, ' ' ORDER BY n) "
            "FROM poolscope_api.stored_batches(%lld)",
            id),
        "1-1 2-2 5-6");
    /* All three were captured at one time, yet times differ. */
    assert_string_equal(test_sql_textf(test_store.writer,
                                       "SELECT count(DISTINCT at) FROM "
                                       "poolscope_api.stored_batches(%lld)",
                                       id),
                        "3");
}

static void a_newer_session_fences_an_older_one(void **state)
{
    (void)state;
    long long id = test_host_enrol(test_store.writer, "superseded");
    struct test_batch b = {
        .host_id = id,
        .session = test_session_claim(test_store.writer, id),
        .seq = 1,
        .at_us = psc_clock_wall_us(),
    };
    long long newer = test_session_claim(test_store.writer, id);
    assert_true(newer > b.session);
    assert_string_equal(test_batch_store(test_store.writer, &b), "superseded");
    b.session = newer;
    assert_string_equal(test_batch_store(test_store.writer, &b), "stored");
    b.host_id = 999999;
    assert_string_equal(test_batch_store(test_store.writer, &b), "superseded");
}

/* A server that crashes may lose the newest claims, which do not wait for the
 * disk. Who holds a lost one must not pass for who claims next. */
static void a_lost_claim_is_nobody_elses(void **state)
{
    (void)state;
    long long id = test_host_enrol(test_store.writer, "lost-claim");
    struct test_batch b = {
        .host_id = id,
        .session = test_session_claim(test_store.writer, id),
        .seq = 1,
        .at_us = psc_clock_wall_us(),
    };
    assert_string_equal(test_batch_store(test_store.writer, &b), "stored");
    struct test_batch lost = b;
    lost.session = test_session_claim(test_store.writer, id);
    (void)test_sql_textf(test_store.owner,
                         "UPDATE poolscope_data.ingest_cursor SET session = "
                         "%lld WHERE host_id = %lld RETURNING 1",
                         b.session, id);
    b.session = test_session_claim(test_store.writer, id);
    lost.prev_seq = 1;
    lost.seq = 2;
    assert_string_equal(test_batch_store(test_store.writer, &lost),
                        "superseded");
    /* The same where it was the host's first. */
    lost.session = b.session;
    (void)test_sql_textf(test_store.owner,
                         "DELETE FROM poolscope_data.ingest_cursor "
                         "WHERE host_id = %lld RETURNING 1",
                         id);
    assert_true(test_session_claim(test_store.writer, id) != 1);
    assert_string_equal(test_batch_store(test_store.writer, &lost),
                        "superseded");
}

static void a_stream_that_returns_goes_on_where_it_stood(void **state)
{
    (void)state;
    static const char other[] = "00000000-0000-0000-0000-0000000000ab";
    long long id = test_host_enrol(test_store.writer, "streams");
    struct test_batch b = {
        .host_id = id,
        .session = test_session_claim(test_store.writer, id),
        .seq = 7, /* a first seq above 1: six never came */
        .at_us = psc_clock_wall_us(),
    };
    assert_string_equal(test_batch_store(test_store.writer, &b), "stored");
    assert_int_equal(lost_of(id), 6);
    b.stream = other;
    b.seq = 1;
    assert_string_equal(test_batch_store(test_store.writer, &b), "stored");
    assert_int_equal(lost_of(id), 6);
    assert_string_equal(
        test_sql_textf(
            test_store.writer,
            "SELECT result || ' ' || seq FROM poolscope_api.stream_open("
            "%lld, %lld, '" STORE_STREAM "', 11)",
            id, b.session),
        "ok 7");
    assert_string_equal(
        test_sql_textf(test_store.reader,
                       "SELECT dropped_batches FROM poolscope.host "
                       "WHERE host_id = %lld",
                       id),
        "11");
}

static void interning_is_stable_and_bounded(void **state)
{
    (void)state;
    assert_string_equal(
        test_sql_text(test_store.writer,
                      "SELECT a = b AND a[1] = a[3] AND a[1] <> a[2] FROM "
                      "(SELECT poolscope_api.intern_tags("
                      " '{slab,vmalloc,slab}', '{x,x,x}', '{8,8,8}') AS a) q,"
                      " LATERAL (SELECT poolscope_api.intern_tags("
                      " '{slab,vmalloc,slab}', '{x,x,x}', '{8,8,40}') AS b) r"),
        "t");
    assert_string_equal(
        test_sql_text(test_store.writer,
                      "SELECT flags FROM poolscope_api.tag_info("
                      "poolscope_api.intern_tags('{slab}', '{x}', "
                      "'{8}'))"),
        "40");
    test_sql(test_store.writer,
             "SELECT poolscope_api.setting_set('max_tags', '1')");
    assert_string_equal(test_sql_text(test_store.writer,
                                      "SELECT poolscope_api.intern_tags("
                                      "'{slab}', '{one too many}', '{8}')"),
                        "{NULL}");
    test_sql(test_store.writer,
             "SELECT poolscope_api.setting_set('max_tags', '1000000')");
}

/* A name that comes back after months is in use from then on. */
static void a_name_that_returns_is_not_forgotten(void **state)
{
    (void)state;
    static const char intern[] =
        "SELECT poolscope_api.intern_tags('{slab,slab}', '{back,kept}', "
        "'{8,8}'), poolscope_api.intern_counters('{back}', '{\"\"}')";
    static const char loaded[] = "SELECT count(*) FROM poolscope_api.tags() "
                                 "WHERE tag IN ('back', 'kept', 'lost')";
    static const char names[] =
        "SELECT string_agg(name, ' ' ORDER BY name) FROM ("
        "SELECT tag FROM poolscope_data.tag WHERE tag IN ('back', 'lost') "
        "UNION ALL SELECT 'counter ' || counter FROM "
        "poolscope_data.counter_name WHERE counter = 'back') AS x(name)";
    test_sql(test_store.writer, intern);
    test_sql(test_store.writer,
             "SELECT poolscope_api.intern_tags('{slab}', '{lost}', "
             "'{8}')");
    test_sql(test_store.owner,
             "UPDATE poolscope_data.tag SET last_seen = "
             "now() - interval '1 year' WHERE tag IN ('back', 'lost'); "
             "UPDATE poolscope_data.counter_name SET last_seen = "
             "now() - interval '1 year' WHERE counter = 'back'");
    assert_int_equal(test_sql_int(test_store.writer, loaded), 1);
    test_sql(test_store.writer, intern);
    assert_int_equal(test_sql_int(test_store.writer, loaded), 2);
    test_sql(test_store.owner, "SELECT poolscope_data.registry_forget()");
    assert_string_equal(test_sql_text(test_store.owner, names),
                        "back counter back");
}

/* A unit has one host's state and comes to another's, while heartbeats of both
 * arrive in the other order. */
static void heartbeats_and_units_do_not_deadlock(void **state)
{
    (void)state;
    long long one = test_host_enrol(test_store.writer, "heart one");
    long long two = test_host_enrol(test_store.writer, "heart two");
    long long session =
        test_session_claim(test_store.writer, two); /* its row is first */
    struct test_batch b = {
        .host_id = one,
        .session = test_session_claim(test_store.writer, one),
        .seq = 1,
        .at_us = psc_clock_wall_us(),
        .sources = "[]",
    };
    char sql[400];
    (void)snprintf(sql, sizeof(sql),
                   "SELECT poolscope_api.host_heartbeat('{%lld,%lld}', "
                   "'{%lld,%lld}', ARRAY[now(), now()], '{0,0}', '{0,0}', "
                   "'{0,0}')",
                   two, one, session, b.session);
    PGconn *other = test_database_connect(&test_store.db, DATABASE_WRITER);
    test_sql(test_store.writer, "BEGIN");
    assert_string_equal(test_batch_store(test_store.writer, &b), "stored");
    assert_int_equal(PQsendQuery(other, sql), 1);
    (void)usleep(300000); /* for it to wait */
    b.host_id = two;
    b.session = session;
    assert_string_equal(test_batch_store(test_store.writer, &b), "stored");
    test_sql(test_store.writer, "COMMIT");
    PGresult *result = PQgetResult(other);
    assert_int_equal(PQresultStatus(result), PGRES_TUPLES_OK);
    PQclear(result);
    PQfinish(other);
}

static void hosts_tell_how_they_fare(void **state)
{
    (void)state;
    long long id = test_host_enrol(test_store.writer, "fares");
    struct test_batch b = {
        .host_id = id,
        .session = test_session_claim(test_store.writer, id),
        .seq = 1,
        .at_us = psc_clock_wall_us(),
        .sources = "[{\"name\": \"slabinfo\", \"state\": \"unavailable\", "
                   "\"message\": \"no permission\"}, "
                   "{\"name\": \"meminfo\", \"state\": \"ok\"}]",
        .events = "[{\"at_us\": 1000000, \"source\": \"kernel\", "
                  "\"event_id\": \"oom\", \"message\": \"m\", "
                  "\"details\": \"{\\\"order\\\": 3}\"}, "
                  "{\"at_us\": 9223372036854775807, \"source\": \"kernel\", "
                  "\"event_id\": \"x\", \"details\": \"no JSON {\"}]",
    };
    assert_string_equal(test_batch_store(test_store.writer, &b), "stored");
    assert_string_equal(
        test_sql_textf(
            test_store.reader,
            "SELECT status || ' ' || source_errors FROM poolscope.host "
            "WHERE host_id = %lld",
            id),
        "reporting {\"slabinfo\": {\"state\": \"unavailable\", "
        "\"message\": \"no permission\"}}");
    assert_string_equal(
        test_sql_textf(
            test_store.reader,
            "SELECT string_agg(details::text, ' ' ORDER BY event_id) "
            "FROM poolscope.event WHERE host_id = %lld",
            id),
        "{\"order\": 3} {\"text\": \"no JSON {\"}");
    test_sql(test_store.writer, "SELECT poolscope_api.host_label('fares', "
                                "'{\"role\": \"db\", \"rack\": \"7\"}')");
    assert_string_equal(
        test_sql_textf(test_store.reader,
                       "SELECT role || (labels ->> 'rack') FROM "
                       "poolscope.host WHERE host = 'fares'"),
        "db7");
    test_sql(test_store.owner,
             "UPDATE poolscope_data.host_seen SET seen_at = "
             "now() - interval '6 min'; "
             "UPDATE poolscope_data.ingest_cursor SET last_at = "
             "now() - interval '6 min'");
    assert_string_equal(
        test_sql_textf(test_store.reader,
                       "SELECT status FROM poolscope.host WHERE host_id = %lld",
                       id),
        "silent");
    (void)test_sql_textf(
        test_store.writer,
        "SELECT poolscope_api.host_heartbeat('{%lld}', '{%lld}', "
        "ARRAY[now()], '{0}', '{5000}', '{0}')",
        id, b.session);
    assert_string_equal(test_sql_textf(test_store.reader,
                                       "SELECT status || spool_bytes FROM "
                                       "poolscope.host WHERE host_id = %lld",
                                       id),
                        "reporting5000");
}

static void events_are_stored_once(void **state)
{
    (void)state;
    static const char other_boot[] = "00000000-0000-0000-0000-0000000000b1";
    long long id = test_host_enrol(test_store.writer, "events");
    struct test_batch b = {
        .host_id = id,
        .session = test_session_claim(test_store.writer, id),
        .seq = 1,
        .at_us = psc_clock_wall_us(),
        .events = "[{\"position\": 5, \"source\": \"kernel\"}, "
                  "{\"position\": 7, \"source\": \"kernel\"}, "
                  "{\"position\": 1, \"source\": \"agent\"}, "
                  "{\"source\": \"kernel\"}]",
    };
    static const char count[] = "SELECT count(*) FROM poolscope.event "
                                "WHERE host_id = %lld";
    assert_string_equal(test_batch_store(test_store.writer, &b), "stored");
    assert_string_equal(test_sql_textf(test_store.reader, count, id), "4");
    b.seq = 2; /* told again, and one more: those without position count */
    b.events = "[{\"position\": 7, \"source\": \"kernel\"}, "
               "{\"position\": 8, \"source\": \"kernel\"}, "
               "{\"source\": \"kernel\"}]";
    assert_string_equal(test_batch_store(test_store.writer, &b), "stored");
    assert_string_equal(test_sql_textf(test_store.reader, count, id), "6");
    b.seq = 3; /* another boot counts anew */
    b.boot_id = other_boot;
    assert_string_equal(test_batch_store(test_store.writer, &b), "stored");
    assert_string_equal(test_sql_textf(test_store.reader, count, id), "9");

    for (int i = 0; i < 10; i++) { /* sources without end */
        char list[20000] = "[";
        for (int j = 0; j < 20; j++) {
            size_t len = strlen(list);
            (void)snprintf(list + len, sizeof(list) - len,
                           "%s{\"position\": 1, \"source\": \"%d\"}",
                           j > 0 ? "," : "", 20 * i + j);
        }
        size_t end = strlen(list);
        (void)snprintf(list + end, sizeof(list) - end, "]");
        b.seq++;
        b.events = list;
        assert_string_equal(test_batch_store(test_store.writer, &b), "stored");
    }
    static const char sources[] =
        "SELECT count(*) < 100 FROM poolscope_data.host_state, "
        "jsonb_object_keys(event_positions) WHERE host_id = %lld";
    assert_string_equal(test_sql_textf(test_store.owner, sources, id), "t");
}

static void a_stream_elsewhere_is_told(void **state)
{
    (void)state;
    long long id = test_host_enrol(test_store.writer, "elsewhere");
    long long session = test_session_claim(test_store.writer, id);
    static const char reject[] =
        "SELECT poolscope_api.batch_reject(%lld, %lld, '" STORE_STREAM
        "', %d, %d, 'why')";
    (void)test_sql_textf(
        test_store.writer,
        "SELECT poolscope_api.stream_open(%lld, %lld, '" STORE_STREAM "', 0)",
        id, session);
    assert_string_equal(
        test_sql_textf(test_store.writer, reject, id, session, 3, 4), "retry");
    assert_string_equal(
        test_sql_textf(test_store.writer, reject, id, session, 0, 4), "stored");
    assert_string_equal(
        test_sql_textf(test_store.writer, reject, id, session, 0, 4),
        "duplicate");
    assert_string_equal(
        test_sql_textf(test_store.writer, reject, id, session - 1, 4, 5),
        "superseded");
    assert_string_equal(
        test_sql_textf(test_store.reader,
                       "SELECT count(*) FROM poolscope.event WHERE "
                       "host_id = %lld AND event_id = 'batch_rejected'",
                       id),
        "1");
}

static void room_is_told_from_the_newest_counters(void **state)
{
    (void)state;
    long long host = test_host_enrol(test_store.writer, "roomy");
    char ids[64];
    (void)snprintf(
        ids, sizeof(ids), "{%d,%d,%d,%d}",
        test_counter_id(test_store.writer, "node_memory_MemTotal_bytes", ""),
        test_counter_id(test_store.writer, "node_memory_MemAvailable_bytes",
                        ""),
        test_counter_id(test_store.writer, "node_memory_CommitLimit_bytes", ""),
        test_counter_id(test_store.writer, "node_memory_Committed_AS_bytes",
                        ""));
    struct test_batch b = {
        .host_id = host,
        .session = test_session_claim(test_store.writer, host),
        .seq = 1,
        .at_us = psc_clock_wall_us(),
        .counters_kind = STORE_KEYFRAME,
        .counter_ids = ids,
        .counter_values = "{1000,400,900,100}",
    };
    assert_string_equal(test_batch_store(test_store.writer, &b), "stored");
    assert_string_equal(
        test_sql_text(test_store.reader,
                      "SELECT string_agg(concat_ws(' ', resource, "
                      "limit_bytes, used_bytes, room_bytes), ',') "
                      "FROM poolscope.host_room WHERE host = 'roomy'"),
        "available memory 1000 600 400");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(migrations_run_once),
        cmocka_unit_test(migrators_at_once_do_not_meet),
        cmocka_unit_test(a_newer_database_is_refused),
        cmocka_unit_test(an_empty_database_is_told_from_ours),
        cmocka_unit_test(a_user_without_rights_learns_what_is_missing),
        cmocka_unit_test(the_reader_reads_views_and_nothing_else),
        cmocka_unit_test(the_writer_writes_by_functions_only),
        cmocka_unit_test(views_have_the_columns_of_the_contract),
        cmocka_unit_test(batches_are_stored_exactly_once),
        cmocka_unit_test(a_newer_session_fences_an_older_one),
        cmocka_unit_test(a_lost_claim_is_nobody_elses),
        cmocka_unit_test(a_stream_that_returns_goes_on_where_it_stood),
        cmocka_unit_test(interning_is_stable_and_bounded),
        cmocka_unit_test(a_name_that_returns_is_not_forgotten),
        cmocka_unit_test(heartbeats_and_units_do_not_deadlock),
        cmocka_unit_test(hosts_tell_how_they_fare),
        cmocka_unit_test(events_are_stored_once),
        cmocka_unit_test(a_stream_elsewhere_is_told),
        cmocka_unit_test(room_is_told_from_the_newest_counters),
    };
    return cmocka_run_group_tests(tests, test_store_begin, test_store_end);
}
