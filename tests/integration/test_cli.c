/* The real `poolscope` against a real database: what it prints, for people
 * and for scripts, and how it fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "agent/options.h"
#include "common/clock.h"
#include "common/pki.h"
#include "tests/lib/database.h"
#include "tests/lib/spawn.h"
#include "tests/lib/store.h"
#include "tests/lib/temp.h"

#define ARGS_MAX  12
#define MINUTE_US (60 * PSC_US_PER_S)

static struct test_database db;
static char out[262144];

/* Run [FIRST…] poolscope ARGS… on the database; what it writes goes to
 * `out`. */
static int run(const char *const *first, const char *args)
{
    const char *argv[ARGS_MAX + 8] = {NULL};
    static char copy[1024];
    int n = 0;
    int words = 0;

    while (first != NULL && *first != NULL) {
        argv[n++] = *first++;
    }
    argv[n++] = spawn_program("poolscope");
    snprintf(copy, sizeof copy, "%s", args);
    for (char *word = strtok(copy, " "); word && words < ARGS_MAX;
         word = strtok(NULL, " ")) {
        argv[n++] = word;
        words++;
    }
    argv[n++] = db.option;
    argv[n] = db.place;
    return spawn_capture(argv, out, sizeof out, 60);
}

static int cli(const char *args)
{
    return run(NULL, args);
}

static void has(const char *part)
{
    if (!strstr(out, part)) {
        fail_msg("no '%s' in:\n%s", part, out);
    }
}

/* Run it, standard error included: it must exit with @code and say @part. */
static void fails(const char *args, int code, const char *part)
{
    static const char *const shell[] = {"/bin/sh", "-c", "exec \"$@\" 2>&1",
                                        "sh", NULL};
    int got = run(shell, args);
    has(part);
    assert_int_equal(got, code);
}

static json_t *json(const char *args)
{
    json_error_t error;

    assert_int_equal(cli(args), 0);
    json_t *all = json_loads(out, 0, &error);
    if (!all) {
        fail_msg("%s: %s in:\n%s", args, error.text, out);
    }
    return all;
}

/* A keyframe @ago_us before now in which filp has @filp bytes. */
static void put_batch(PGconn *writer, long long host_id, long long session,
                      long long seq, int64_t ago_us, long long filp)
{
    char tags[64];
    char bytes[64];
    char counters[64];

    snprintf(tags, sizeof tags, "{%d,%d}", test_tag_id(writer, "slab", "filp"),
             test_tag_id(writer, "vmalloc", "bpf_jit [leaky]"));
    snprintf(bytes, sizeof bytes, "{%lld,4096}", filp);
    snprintf(counters, sizeof counters, "{%d,%d}",
             test_counter_id(writer, "node_memory_MemTotal_bytes", ""),
             test_counter_id(writer, "node_memory_MemAvailable_bytes", ""));
    struct test_batch b = {
        .host_id = host_id,
        .session = session,
        .seq = seq,
        .at_us = psc_clock_wall_us() - ago_us,
        .tags_kind = STORE_KEYFRAME,
        .tag_ids = tags,
        .allocs = "{NULL,NULL}",
        .frees = "{NULL,NULL}",
        .outstanding = "{1000,1}",
        .bytes = bytes,
        .tags_gone = "{}",
        .counters_kind = STORE_KEYFRAME,
        .counter_ids = counters,
        .counter_values = "{8589934592,4294967296}",
        .counters_gone = "{}",
        .drivers =
            seq == 1 ? "[{\"driver\": \"leaky\", \"version\": \"1.2\"}]" : NULL,
        .sources =
            seq == 1 ? "[{\"name\": \"slabinfo\", \"state\": \"unavailable\", "
                       "\"message\": \"not root\"}]"
                     : NULL,
        .events = seq == 1 ? "[{\"at_us\": 1, \"source\": \"kernel\", "
                             "\"event_id\": \"oom\", \"message\": \"Out of "
                             "memory, \\\"killed\\\"\", \"details\": \"{}\"}]"
                           : NULL,
    };
    assert_string_equal(test_batch_store(writer, &b), "stored");
}

static void put_finding(PGconn *writer, long long host_id)
{
    char sql[1024];

    snprintf(sql, sizeof sql,
             "SELECT poolscope_api.finding_write(%lld, 'opened', "
             "ARRAY[%d, %d], now() - interval '50 minutes', now() - interval "
             "'5 minutes', now(), 30000000, 864000000, 4294967296, now() + "
             "interval '5 days', now() + interval '4 days', now() + interval "
             "'7 days', 0.9, 'filp grows without end', "
             "'{\"windows\": 12, \"rising_share\": 0.97, \"reclaimable\": [], "
             "\"group_bytes_per_day\": 864000000, \"bytes_per_day\": "
             "{\"filp\": 864000000}}')",
             host_id, test_tag_id(writer, "slab", "filp"),
             test_tag_id(writer, "slab", "dentry"));
    test_sql(writer, sql);
}

static int setup(void **state)
{
    (void)state;
    test_database_migrated(&db, false);
    PGconn *writer = test_database_connect(&db, DATABASE_WRITER);
    long long host_id = test_host_enrol(writer, "db-1");
    long long session = test_session_claim(writer, host_id);
    for (int i = 0; i < 11; i++) {
        put_batch(writer, host_id, session, i + 1, (50 - 5 * i) * MINUTE_US,
                  1000000 + i * 3000000);
    }
    put_finding(writer, host_id);
    PQfinish(writer);
    unsetenv("POOLSCOPE_DATA");
    unsetenv("POOLSCOPE_DSN");
    return 0;
}

static void cli_status_tells_what_there_is(void **state)
{
    (void)state;
    assert_int_equal(cli("status"), 0);
    has("hosts       1: 1 reporting, 0 silent, 0 disabled");
    has("leaks       1 open");
    has("sources     slabinfo is unavailable on 1 host (db-1): not root\n");
    assert_null(strstr(out, "never"));
    assert_null(strstr(out, "storage"));
    PGconn *owner = test_database_connect(&db, DATABASE_OWNER);
    test_sql(owner, "UPDATE poolscope_data.partition "
                    "SET to_at = to_at - interval '7 days'");
    assert_int_equal(cli("status"), 0);
    has("storage     housekeeping does not get on: partitions end in ");
    test_sql(owner, "UPDATE poolscope_data.partition "
                    "SET to_at = to_at + interval '7 days'");
    PQfinish(owner);
    json_t *all = json("status --json");
    assert_int_equal(json_integer_value(json_object_get(json_array_get(all, 0),
                                                        "hosts_reporting")),
                     1);
    json_decref(all);
}

static void cli_hosts_have_room(void **state)
{
    (void)state;
    assert_int_equal(cli("hosts"), 0);
    has("db-1  reporting");
    has("4.00 GiB");
    assert_int_equal(cli("hosts web-*"), 0);
    has("No such host.");
    json_t *all = json("hosts --json");
    assert_int_equal(json_integer_value(json_object_get(json_array_get(all, 0),
                                                        "available_bytes")),
                     4294967296);
    json_decref(all);
}

static void cli_top_sorts_and_filters(void **state)
{
    (void)state;
    assert_int_equal(cli("top"), 0);
    has("Host db-1; growth over 50 min\n");
    has("31,000"); /* bytes per alloc */
    assert_true(strstr(out, "filp") < strstr(out, "bpf_jit"));
    assert_int_equal(cli("top --sort t --csv"), 0);
    assert_true(strstr(out, "filp") > strstr(out, "bpf_jit"));
    assert_int_equal(cli("top --pool slab --tag f*p --limit 5 --csv"), 0);
    has("growth_bytes");
    assert_null(strstr(out, "bpf_jit"));
    assert_int_equal(cli("top --sort size"), 2);
    json_t *all = json("top --json --over 2h --tag filp");
    json_t *row = json_array_get(all, 0);
    assert_int_equal(json_integer_value(json_object_get(row, "bytes")),
                     31000000);
    assert_int_equal(json_integer_value(json_object_get(row, "growth_bytes")),
                     30000000);
    json_decref(all);
}

static void cli_history_plots_and_lists(void **state)
{
    (void)state;
    assert_int_equal(cli("history db-1 slab filp --since 2h"), 0);
    has("filp, pool slab, host db-1");
    has("29.6 MiB");
    has("11 samples over 50 min");
    json_t *all = json("history db-1 slab filp --json");
    assert_int_equal(json_array_size(all), 11);
    json_decref(all);
    assert_int_equal(cli("history db-1 slab filp --since 12m --csv"), 0);
    has("at,allocs,frees,outstanding,bytes\n");
    assert_int_equal(cli("history db-2 slab filp"), 1);
    assert_int_equal(cli("history db-1 slab nothing"), 0);
    has("No samples");
    assert_int_equal(cli("history db-1 slab"), 2);
    assert_int_equal(cli("history db-1 slab filp --since soon"), 2);
}

/* The kernel has merged other slab caches into filp. */
static void cli_names_what_a_tag_also_is(void **state)
{
    (void)state;
    assert_int_equal(cli("history db-1 slab filp"), 0);
    assert_null(strstr(out, "also"));
    assert_int_equal(cli("leak 1"), 0);
    assert_null(strstr(out, "also"));
    PGconn *owner = test_database_connect(&db, DATABASE_OWNER);
    test_sql(owner, "UPDATE poolscope_data.host_state SET aliases = "
                    "'[{\"pool\": \"slab\", \"tag\": \"filp\", \"names\": "
                    "\"pid  bio-1\"}, {\"pool\": \"slab\", \"tag\": "
                    "\"other\", \"names\": \"x\"}]'");
    PQfinish(owner);
    assert_int_equal(cli("history db-1 slab filp"), 0);
    has("\nalso: bio-1, pid\n");
    assert_int_equal(cli("history db-1 slab pid"), 0);
    has("No samples of pid");
    has("\npid is in filp on db-1 (see tag_alias).\n");
    assert_int_equal(cli("leak 1"), 0);
    has("\nalso        filp: bio-1, pid\n");
}

static void cli_leak_tells_the_finding(void **state)
{
    (void)state;
    assert_int_equal(cli("leaks"), 0);
    has("filp");
    has("824 MiB/day");
    has("in 5 d");
    assert_int_equal(cli("leak 1"), 0);
    has("Leak 1: filp in pool slab");
    has("filp grows without end");
    has("filp, dentry");
    has("rising share: 0.97");
    assert_null(strstr(out, "reclaimable")); /* empty */
    assert_null(strstr(out, "per day:"));    /* told above */
    has("Hosts\n");
    has("4.00 GiB");
    has("opened");
    json_t *all = json("leak 1 --json");
    assert_int_equal(
        json_array_size(json_object_get(json_array_get(all, 0), "hosts")), 1);
    json_decref(all);
    assert_int_equal(cli("leak 99"), 1);
    assert_int_equal(cli("leak x"), 2);
}

static void put_group(PGconn *writer, const char *change)
{
    char sql[1024];

    snprintf(sql, sizeof sql,
             "SELECT poolscope_api.finding_write(h.host_id, '%s', ARRAY[%d, "
             "%d], now() - interval '1 hour', now(), now(), 4096, 1048576, "
             "4294967296, now() + interval '5 days', now() + interval "
             "'4 days', NULL, 0.9, 'x', "
             "'{\"group_bytes_per_day\": 3145728}') FROM poolscope.host h",
             change, test_tag_id(writer, "vmalloc", "bpf_jit [leaky]"),
             test_tag_id(writer, "vmalloc", "other"));
    test_sql(writer, sql);
}

/* The group's growth is what runs a host out, and what is resolved does
 * not. */
static void cli_leaks_show_the_group(void **state)
{
    PGconn *owner = test_database_connect(&db, DATABASE_OWNER);
    (void)state;
    put_group(owner, "opened");
    assert_int_equal(cli("leaks --all"), 0);
    has("TAG GROWTH");
    has("   2  1.00 MiB/day");
    has("3.00 MiB/day    in 5 d");
    assert_int_equal(cli("leak 2"), 0);
    has("3.00 MiB/day by its tags together, 1.00 MiB/day by bpf_jit [leaky] "
        "alone");
    has("runs out    db-1 first");
    has(", with no later bound\n");
    has("RUNS OUT");
    has(" GROWTH      ROOM ");
    has("  3.00 MiB/day  4.00 GiB    in 5 d");
    has("  TAG GROWTH");
    has("  4.00 KiB  1.00 MiB/day");
    put_group(owner, "resolved");
    PQfinish(owner);
    assert_int_equal(cli("leak 2"), 0);
    assert_null(strstr(out, "runs out"));
    assert_null(strstr(out, "RUNS OUT"));
}

static void cli_lists_events_counters_drivers(void **state)
{
    (void)state;
    assert_int_equal(cli("events --since 2020-01-01"), 0);
    assert_int_equal(cli("events --since 1960-01-01 --csv"), 0);
    has("\"Out of memory, \"\"killed\"\"\"");
    assert_int_equal(cli("counters db-1 *MemTotal*"), 0);
    has("Host db-1\nCOUNTER ");
    has("8,589,934,592");
    assert_null(strstr(out, "MemAvailable"));
    assert_int_equal(cli("drivers"), 0);
    has("leaky");
    assert_int_equal(cli("drivers --host db-1 l*y"), 0);
    has("1.2");
}

static void cli_hosts_are_disabled_and_labelled(void **state)
{
    (void)state;
    assert_int_equal(cli("host disable db-1"), 0);
    assert_int_equal(cli("host list"), 0);
    has("disabled");
    assert_int_equal(cli("host enable db-1"), 0);
    assert_int_equal(cli("host label db-1 role=database x=a\"b"), 0);
    assert_int_equal(cli("hosts --csv"), 0);
    has("database");
    assert_int_equal(cli("host label db-1 role"), 2);
    assert_int_equal(cli("host disable db-9"), 1);
    assert_int_equal(cli("host disable"), 2);
    assert_int_equal(cli("host drop db-1"), 2);
}

/* A CA's certificate in a file; its hash goes to @sha256. */
static const char *make_ca(uint8_t sha256[PSC_SHA256_BYTES])
{
    const char *path = temp_path(temp_dir(), "ca.pem");
    struct psc_error err;
    struct psc_buf pem;
    EVP_PKEY *key;
    X509 *cert;

    psc_buf_init(&pem, 65536);
    assert_int_equal(psc_key_new(&key, &err), 0);
    assert_int_equal(psc_ca_new(key, "test CA", 10, &cert, &err), 0);
    assert_int_equal(psc_cert_to_pem(cert, &pem), 0);
    assert_int_equal(psc_cert_sha256(cert, sha256), 0);
    temp_write(path, pem.data, pem.len);
    psc_buf_fini(&pem);
    X509_free(cert);
    EVP_PKEY_free(key);
    return path;
}

static void cli_tokens_hold_the_ca(void **state)
{
    uint8_t sha256[PSC_SHA256_BYTES];
    struct psc_token token;
    struct psc_error err;
    char args[512];
    (void)state;
    snprintf(args, sizeof args,
             "token create --quiet --uses 3 --note web --ca %s",
             make_ca(sha256));
    assert_int_equal(cli(args), 0);
    out[strcspn(out, "\n")] = '\0';
    assert_int_equal(psc_token_parse(out, &token, &err), 0);
    assert_memory_equal(token.ca_sha256, sha256, sizeof sha256);
    assert_int_equal(cli("token list --csv"), 0);
    has("web,3,3");
    assert_int_equal(cli("token revoke 99"), 1);
    assert_int_equal(cli("token revoke 2"), 0);
    assert_int_equal(cli("token list"), 0);
    has("revoked");
    assert_int_equal(cli("token"), 2);
    assert_int_equal(cli("token create --ca /nonexistent"), 1);
}

/* The command that is shown is one that the agent takes. */
static void cli_token_shows_what_agents_take(void **state)
{
    uint8_t sha256[PSC_SHA256_BYTES];
    char *argv[ARGS_MAX + 1] = {NULL};
    struct options options = {0};
    struct command_line line;
    struct psc_token token;
    struct psc_error err;
    char args[512];
    int argc = 0;
    (void)state;
    snprintf(args, sizeof args, "token create --collector c-1:7443 --ca %s",
             make_ca(sha256));
    assert_int_equal(cli(args), 0);
    char *shown = strstr(out, "poolscope-agent ");
    assert_non_null(shown);
    shown[strcspn(shown, "\n")] = '\0';
    for (char *word = strtok(shown, " "); word && argc < ARGS_MAX;
         word = strtok(NULL, " ")) {
        argv[argc++] = word;
    }
    assert_int_equal(psc_config_defaults(agent_options, &options, &err), 0);
    if (agent_options_read(argc, argv, &options, &line, &err) != 0) {
        fail_msg("%s", err.msg);
    }
    assert_int_equal(line.command, COMMAND_ENROL);
    assert_int_equal(psc_token_parse(line.enrol, &token, &err), 0);
    assert_string_equal(options.collector, "c-1:7443");
    psc_config_fini(agent_options, &options);
}

static void cli_runs_psql_as_reader(void **state)
{
    (void)state;
    const char *read[] = {
        spawn_program("poolscope"), "psql", db.option, db.place, "-XAtc",
        "SELECT host FROM host",    NULL};
    const char *write[] = {spawn_program("poolscope"),
                           "psql",
                           "-XAtc",
                           "DELETE FROM poolscope_data.host",
                           db.option,
                           db.place,
                           NULL};
    assert_int_equal(spawn_capture(read, out, sizeof out, 60), 0);
    assert_string_equal(out, "db-1\n");
    if (db.data_dir != NULL) { /* with a DSN, its user decides */
        assert_int_equal(spawn_capture(write, out, sizeof out, 60), 1);
    }
}

static void cli_refuses_wrong_usage(void **state)
{
    const char *dsn[] = {spawn_program("poolscope"), "hosts", "--dsn",
                         "host=/nonexistent", NULL};
    (void)state;
    assert_int_equal(cli("nonsense"), 2);
    assert_int_equal(cli("hosts --nonsense"), 2);
    assert_int_equal(cli("hosts --json --csv"), 2);
    assert_int_equal(cli("hosts a b"), 2);
    const char *no_dsn[] = {spawn_program("poolscope"), "hosts", "--dsn", "x",
                            NULL};
    assert_int_equal(spawn_capture(no_dsn, out, sizeof out, 60), 2);
    const char *role[] = {spawn_program("poolscope"),
                          "psql",
                          "--dsn",
                          "host=/nonexistent",
                          "--role",
                          "owner",
                          NULL};
    assert_int_equal(spawn_capture(role, out, sizeof out, 60), 2);
    fails("help nonsense", 2, "Try 'poolscope --help'");
    fails("top --interval 2s", 2, "--interval is of the live view");
    fails("top --live --over 2h", 2, "--over needs a database");
    fails("top --live --limit 3 --sort growth", 2, "has no growth");
    assert_int_equal(cli("migrate"), 0);
    has("0 migrations applied");
    has(db.data_dir != NULL ? db.data_dir : "");
    assert_int_equal(cli("database status"), db.data_dir != NULL ? 0 : 2);
    has(db.data_dir != NULL ? "running" : "");
    assert_int_equal(spawn_capture(dsn, out, sizeof out, 60), 1);
}

static void cli_refuses_formats_it_has_not(void **state)
{
    (void)state;
    fails("migrate --json", 2, "--json: 'migrate' prints no JSON");
    assert_int_equal(cli("upgrade --wait"), 0);
    has("0 migrations applied");
    has("nothing is left to convert");
    fails("upgrade --csv", 2, "'upgrade' prints no CSV");
    fails("database status --json", 2, "--json: ");
    fails("token revoke 1 --csv", 2, "--csv: 'token revoke' prints no CSV");
    fails("host disable db-1 --json", 2, "--json: ");
    fails("leaktest --list --json", 2, "--json: ");
    fails("leaktest --kind pages --csv", 2, "--csv: ");
    fails("leak 9999 --json", 1, "no leak 9999");
    fails("leak 9999 --csv", 1, "no leak 9999");
    assert_int_equal(cli("hosts --csv"), 0);
    has("reporting"); /* not disabled above */
}

static void cli_says_which_name_is_unknown(void **state)
{
    (void)state;
    fails("top --host nosuch", 1, "no host 'nosuch': 'poolscope hosts'");
    fails("top --host nosuch --json", 1, "no host 'nosuch'");
    fails("drivers --host nosuch", 1, "no host 'nosuch'");
    fails("events --host no*such", 1, "no host 'no*such'");
    fails("counters nosuch --csv", 1, "no host 'nosuch'");
    fails("hosts nosuch", 1, "no host 'nosuch'");
    fails("history nosuch slab filp --json", 1, "no host 'nosuch'");
    fails("history db-1 slub filp", 2, "no pool 'slub': there are paged, ");
    fails("top --pool slub", 2, "no pool 'slub'");
    assert_int_equal(cli("drivers nosuch*"), 0);
    has("No such driver");
    PGconn *writer = test_database_connect(&db, DATABASE_WRITER);
    test_host_enrol(writer, "db-2");
    PQfinish(writer);
    assert_int_equal(cli("drivers --host db-2"), 0);
    has("no modules");
    assert_int_equal(cli("hosts db-2"), 0);
    has("never");
    fails("top --sort each", 2, "the fleet's table has no such column");
}

static void cli_says_what_is_wrong(void **state)
{
    const char *dsn[] = {spawn_program("poolscope"), "status", "--dsn",
                         "garbage", NULL};
    (void)state;
    fails("history db-1", 2, "POOL is missing: poolscope history HOST POOL");
    fails("token", 2, "say what to do: poolscope token create");
    fails("token burn", 2, "no 'burn' of 'token': poolscope token create");
    fails("host disable", 2, "wrong arguments of 'disable'");
    fails("status now", 2, "'now' is too much: poolscope status\n");
    fails("top --limit 0", 2, "--limit = 0: must be from 1");
    fails("token revoke 2", 0, "token 2 was revoked before");
    assert_int_equal(spawn_capture(dsn, out, sizeof out, 60), 2);
    assert_int_equal(cli("status --help"), 0);
    has("Usage: poolscope status\n");
    assert_int_equal(cli("leaktest --help"), 0);
    assert_null(strstr(out, "--dsn"));
    assert_null(strstr(out, "--csv"));
    assert_int_equal(cli("psql --help"), 0);
    assert_null(strstr(out, "--json"));
}

/* Questions start a server that stands still, and never make one. */
static void cli_questions_make_no_database(void **state)
{
    static const char *const commands[] = {"status", "hosts", "top", "psql",
                                           "token list"};
    const char *dir = temp_path(temp_dir(), "typo");
    struct test_database real = db;
    (void)state;
    db.option = "--data";
    db.place = dir;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        fails(commands[i], 1, "no database in");
        has("or name another --data");
        assert_int_equal(access(dir, F_OK), -1);
    }
    db = real;
    if (db.data_dir == NULL) {
        return; /* a shared server is not ours to stop */
    }
    assert_int_equal(cli("database stop"), 0);
    has("stopped, pid ");
    assert_int_equal(cli("database stop"), 0);
    has("was not running");
    assert_int_equal(cli("hosts"), 0);
    has("db-1");
    assert_int_equal(cli("database start"), 0);
    has("running before, pid ");
}

/* Without a database at the default place, top is the live view. */
static void cli_top_without_database_is_live(void **state)
{
    const char *argv[] = {spawn_program("poolscope"), "top", "--csv", NULL};
    const char *before = getenv("XDG_DATA_HOME");
    (void)state;
    if (geteuid() == 0 && access("/var/lib/poolscope", F_OK) == 0) {
        skip(); /* a real one */
    }
    setenv("XDG_DATA_HOME", temp_dir(), 1);
    assert_int_equal(spawn_capture(argv, out, sizeof out, 60), 0);
    has("pool,tag,allocs,frees,outstanding,bytes\n");
    if (before) {
        setenv("XDG_DATA_HOME", before, 1);
    } else {
        unsetenv("XDG_DATA_HOME");
    }
}

static void cli_helps_with_each_command(void **state)
{
    static const char *const commands[] = {
        "status", "hosts",     "top",      "history",  "leaks",
        "leak",   "events",    "counters", "drivers",  "psql",
        "token",  "host",      "migrate",  "database", "leaktest",
        "fsck",   "retention", "capacity", "upgrade"};
    char args[64];
    (void)state;
    assert_int_equal(cli("help"), 0);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        snprintf(args, sizeof args, "  %s", commands[i]);
        assert_int_equal(cli("help"), 0);
        has(args);
        snprintf(args, sizeof args, "%s --help", commands[i]);
        assert_int_equal(cli(args), 0);
        has("Usage: poolscope ");
        has("Exit status");
        for (char *line = strtok(out, "\n"); line; line = strtok(NULL, "\n")) {
            assert_in_range(strlen(line), 1, 80);
        }
    }
}

/* What the live view shows of a recorded tree. */
static void cli_top_reads_recorded_trees(void **state)
{
    (void)state;
    const char *argv[] = {spawn_program("poolscope"),
                          "top",
                          "--root",
                          PSC_TEST_DATA "/proc-linux-6.18",
                          "--csv",
                          "--pool",
                          "slab",
                          NULL};
    assert_int_equal(spawn_capture(argv, out, sizeof out, 60), 0);
    has("pool,tag,allocs,frees,outstanding,bytes\n");
    has("slab,\"");
    assert_int_equal(cli("top --live --json --limit 3"), 0);
    assert_int_equal(cli("top --live --tag zzz"), 0);
    has("live from /proc\nNo such tags.\n");
    assert_int_equal(cli("top --live --pool nothing"), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cli_status_tells_what_there_is),
        cmocka_unit_test(cli_hosts_have_room),
        cmocka_unit_test(cli_top_sorts_and_filters),
        cmocka_unit_test(cli_history_plots_and_lists),
        cmocka_unit_test(cli_names_what_a_tag_also_is),
        cmocka_unit_test(cli_leak_tells_the_finding),
        cmocka_unit_test(cli_leaks_show_the_group),
        cmocka_unit_test(cli_lists_events_counters_drivers),
        cmocka_unit_test(cli_hosts_are_disabled_and_labelled),
        cmocka_unit_test(cli_tokens_hold_the_ca),
        cmocka_unit_test(cli_token_shows_what_agents_take),
        cmocka_unit_test(cli_runs_psql_as_reader),
        cmocka_unit_test(cli_refuses_wrong_usage),
        cmocka_unit_test(cli_refuses_formats_it_has_not),
        cmocka_unit_test(cli_says_which_name_is_unknown),
        cmocka_unit_test(cli_says_what_is_wrong),
        cmocka_unit_test(cli_questions_make_no_database),
        cmocka_unit_test(cli_top_without_database_is_live),
        cmocka_unit_test(cli_helps_with_each_command),
        cmocka_unit_test(cli_top_reads_recorded_trees),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
