/* Looking at an installation: its database, logs, metrics and memory. */
#include "tests/lib/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/lib/spawn.h"
#include "tests/lib/temp.h"

enum {
    POLL_MS = 100,
    TRIES = 300,
    METRICS_BYTES = 256 * 1024,
    SHOWN_LINES = 20
};

static char *read_file(const char *path)
{
    FILE *f = fopen(path, "r");
    char *text = NULL;
    size_t len = 0;
    if (f == NULL) {
        return strdup("");
    }
    if (getdelim(&text, &len, '\0', f) < 0) {
        free(text);
        text = strdup("");
    }
    (void)fclose(f);
    assert_non_null(text);
    return text;
}

static bool is_line(const char *at, const char *mark)
{
    size_t len = strcspn(at, "\n");
    const char *found = strstr(at, mark);
    return found != NULL && found < at + len;
}

static void show_line(const char *at)
{
    print_error("%.*s\n", (int)strcspn(at, "\n"), at);
}

void world_show_log(const char *log)
{
    char *text = read_file(log);
    const char *report = NULL;
    const char *lines[SHOWN_LINES] = {NULL};
    unsigned n = 0;
    for (const char *at = text; *at != '\0'; at += strcspn(at, "\n")) {
        at += *at == '\n';
        if (!is_line(at, "took batch")) {
            lines[n++ % SHOWN_LINES] = at;
        }
        if (report == NULL &&
            (is_line(at, "Sanitizer:") || is_line(at, "runtime error:"))) {
            report = at;
        }
    }
    print_error("--- the end of %s:\n", log);
    unsigned first = n > SHOWN_LINES ? n - SHOWN_LINES : 0;
    for (unsigned i = first; report == NULL && i < n; i++) {
        show_line(lines[i % SHOWN_LINES]);
    }
    for (const char *at = report; at != NULL; at = strchr(at, '\n')) {
        at += *at == '\n';
        show_line(at);
    }
    print_error("---\n");
    free(text);
}

static void show_logs(const struct world *w)
{
    world_show_log(w->collector_log);
    for (unsigned i = 0; i < w->n_agents; i++) {
        world_show_log(w->agents[i].log);
    }
}

/* --- the database --- */

/* A result, or NULL if the server went away. */
static PGresult *try_query(struct world *w, const char *sql)
{
    if (w->sql == NULL) {
        w->sql = PQconnectdb(test_database_conninfo(&w->db, DATABASE_OWNER));
    }
    PGresult *r =
        PQstatus(w->sql) == CONNECTION_OK ? PQexec(w->sql, sql) : NULL;
    ExecStatusType status = PQresultStatus(r);
    if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK) {
        return r;
    }
    if (PQstatus(w->sql) == CONNECTION_OK) {
        fail_msg("%s\n%s", sql, PQerrorMessage(w->sql));
    }
    PQclear(r);
    PQfinish(w->sql);
    w->sql = NULL;
    return NULL;
}

static PGresult *query(struct world *w, const char *sql)
{
    for (int i = 0; i < TRIES; i++) {
        PGresult *r = try_query(w, sql);
        if (r != NULL) {
            return r;
        }
        spawn_sleep_ms(POLL_MS);
    }
    fail_msg("PostgreSQL does not come back: %s", sql);
    return NULL;
}

const char *world_text(struct world *w, const char *sql)
{
    PGresult *r = query(w, sql);
    char *text = strdup(PQntuples(r) > 0 ? PQgetvalue(r, 0, 0) : "");
    assert_non_null(text);
    temp_at_exit(free, text);
    PQclear(r);
    return text;
}

long long world_int(struct world *w, const char *sql)
{
    return strtoll(world_text(w, sql), NULL, 10);
}

void world_await(struct world *w, int timeout_s, const char *sql)
{
    int64_t end_us = psc_clock_mono_us() + timeout_s * PSC_US_PER_S;
    for (;;) {
        PGresult *r = query(w, sql);
        bool done = PQntuples(r) > 0 && strcmp(PQgetvalue(r, 0, 0), "t") == 0;
        PQclear(r);
        if (done) {
            return;
        }
        if (psc_clock_mono_us() > end_us) {
            show_logs(w);
            fail_msg("not true within %d s: %s", timeout_s, sql);
        }
        spawn_sleep_ms(POLL_MS);
    }
}

/* --- logs --- */

unsigned world_log_count(const char *log, const char *text)
{
    char *all = read_file(log);
    unsigned n = 0;
    for (const char *at = all; (at = strstr(at, text)) != NULL; n++) {
        at += strcspn(at, "\n"); /* a line counts once */
    }
    free(all);
    return n;
}

void world_log_await(const char *log, const char *text, unsigned n,
                     int timeout_s)
{
    int64_t end_us = psc_clock_mono_us() + timeout_s * PSC_US_PER_S;
    while (world_log_count(log, text) < n) {
        if (psc_clock_mono_us() > end_us) {
            world_show_log(log);
            fail_msg("%s: not %u lines with \"%s\" within %d s", log, n, text,
                     timeout_s);
        }
        spawn_sleep_ms(POLL_MS);
    }
}

/* --- metrics and memory --- */

static char *fetch_metrics(const struct world *w)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)w->metrics_port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    char *text = calloc(1, METRICS_BYTES);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_non_null(text);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    static const char request[] = "GET /metrics HTTP/1.0\r\n\r\n";
    assert_int_equal(write(fd, request, sizeof(request) - 1),
                     sizeof(request) - 1);
    size_t len = 0;
    ssize_t n;
    while (len + 1 < METRICS_BYTES &&
           (n = read(fd, text + len, METRICS_BYTES - 1 - len)) > 0) {
        len += (size_t)n;
    }
    (void)close(fd);
    return text;
}

long long world_metric(struct world *w, const char *name)
{
    char *text = fetch_metrics(w);
    size_t len = strlen(name);
    long long value = 0;
    for (const char *at = text; (at = strstr(at, name)) != NULL; at += len) {
        if ((at == text || at[-1] == '\n') && at[len] == ' ') {
            value = (long long)strtod(at + len, NULL);
            break;
        }
    }
    free(text);
    return value;
}

long world_memory_kib(pid_t pid, const char *field)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    char *text = read_file(path);
    const char *at = strstr(text, field);
    long kib = at != NULL ? strtol(at + strlen(field) + 1, NULL, 10) : -1;
    free(text);
    return kib;
}

/* --- what became of the batches --- */

static const char sql_prepare[] =
    "SET client_min_messages = warning; DROP TABLE IF EXISTS taken;"
    "CREATE TEMP TABLE taken (i int, stream uuid, seq bigint)";

/* All stored batches of host %s, each part: a fresh row each, for as long as
 * its slot is not emptied. */
static const char sql_tally[] =
    "WITH h AS (SELECT host_id FROM poolscope_data.host WHERE host = '%s'),"
    " rows AS ("
    "  SELECT n, at, stream, first_seq, seq"
    "  FROM poolscope_data.fresh JOIN h USING (host_id)),"
    " samples AS (SELECT DISTINCT n, at, stream, first_seq, seq FROM rows),"
    " parts AS (SELECT stream, s AS seq FROM samples,"
    "  generate_series(first_seq, samples.seq) s)"
    "SELECT (SELECT count(*) FROM taken), (SELECT count(*) FROM parts),"
    " (SELECT count(*) FROM taken k WHERE NOT EXISTS (SELECT FROM parts p"
    "  WHERE p.stream = k.stream AND p.seq = k.seq)),"
    " coalesce((SELECT dropped_batches FROM poolscope.host"
    "  WHERE host = '%s'), 0),"
    " (SELECT count(*) FROM (SELECT FROM parts GROUP BY stream, seq"
    "  HAVING count(*) > 1) x) + (SELECT count(*) FROM (SELECT FROM rows"
    "  GROUP BY stream, seq HAVING count(*) > 1) x),"
    " (SELECT count(*) FROM (SELECT at, lag(at) OVER (ORDER BY n) AS before"
    "  FROM samples) x WHERE at <= before),"
    " (SELECT EXISTS (SELECT FROM parts p JOIN taken k USING (stream, seq)"
    "  WHERE k.i = (SELECT max(i) FROM taken)))";

/* Put "took batch <stream> <seq>" of the log into table taken. */
static void load_taken(struct world *w, const char *log)
{
    PQclear(query(w, sql_prepare));
    char *all = read_file(log);
    static const char mark[] = "took batch ";
    PGresult *r = PQexec(w->sql, "COPY taken FROM STDIN");
    assert_int_equal(PQresultStatus(r), PGRES_COPY_IN);
    PQclear(r);
    int i = 0;
    for (char *at = all; (at = strstr(at, mark)) != NULL; at++) {
        char stream[33];
        unsigned long long seq;
        if (strchr(at, '\n') != NULL &&
            sscanf(at + sizeof(mark) - 1, "%32[0-9a-f] %llu", stream, &seq) ==
                2) {
            char line[96];
            int n = snprintf(line, sizeof(line), "%d\t%s\t%llu\n", i++, stream,
                             seq);
            assert_int_equal(PQputCopyData(w->sql, line, n), 1);
        }
    }
    free(all);
    assert_int_equal(PQputCopyEnd(w->sql, NULL), 1);
    while ((r = PQgetResult(w->sql)) != NULL) {
        assert_int_equal(PQresultStatus(r), PGRES_COMMAND_OK);
        PQclear(r);
    }
    PQclear(query(w, "ANALYZE taken"));
}

static bool tally(struct world *w, const char *host, struct world_tally *t)
{
    char sql[sizeof(sql_tally) + 256];
    (void)snprintf(sql, sizeof(sql), sql_tally, host, host);
    PGresult *r = query(w, sql);
    long long *const out[] = {&t->taken,   &t->stored, &t->missing,
                              &t->dropped, &t->twice,  &t->unordered};
    for (int i = 0; i < 6; i++) {
        *out[i] = strtoll(PQgetvalue(r, 0, i), NULL, 10);
    }
    bool last_there = PQgetvalue(r, 0, 6)[0] == 't';
    PQclear(r);
    /* Streams go one after the other: nothing comes after the last one. */
    return t->missing == 0 || last_there;
}

void world_settle(struct world *w, const struct world_agent *a, int timeout_s,
                  const char *title, struct world_tally *t)
{
    int64_t end_us = psc_clock_mono_us() + timeout_s * PSC_US_PER_S;
    load_taken(w, a->log);
    while (!tally(w, a->name, t) && psc_clock_mono_us() < end_us) {
        spawn_sleep_ms(POLL_MS);
    }
    print_message("%s, host %s: %lld batches taken, %lld stored, %lld missing, "
                  "%lld counted as dropped, %lld twice, %lld out of order\n",
                  title, a->name, t->taken, t->stored, t->missing, t->dropped,
                  t->twice, t->unordered);
    if (t->missing > t->dropped) {
        show_logs(w);
    }
    assert_true(t->taken > 0);
    assert_int_equal(t->twice, 0);
    assert_int_equal(t->unordered, 0);
}
