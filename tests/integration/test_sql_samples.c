/* What the views say about samples, against a model in C.
 *
 * A made-up host lives through hours of snapshots: tags that move, rest, come
 * and go, a reboot, a gap, keyframes here and there. The model keeps every
 * snapshot whole; only changes are stored. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collector/settle.h"
#include "common/clock.h"
#include "tests/lib/database.h"
#include "tests/lib/store.h"
#include "tests/lib/temp.h"

enum {
    TAGS = 12,
    COUNTERS = 4,
    SNAPSHOTS = 400,
    HOURS_BACK = 8,
    TEXT_BYTES = 4096,
};

#define MINUTE_US (60LL * PSC_US_PER_S)
#define HOUR_US   (60LL * MINUTE_US)

struct moment {
    int64_t at_us;
    bool keyframe;
    bool has[TAGS];
    int64_t allocs[TAGS]; /* tags of an even number have no such column */
    int64_t bytes[TAGS];
    int64_t outstanding[TAGS];
    bool counted[COUNTERS];
    double value[COUNTERS];
};

static struct test_database db;
static PGconn *writer;
static PGconn *reader;
static PGconn *owner;
static int tag_ids[TAGS];
static int counter_ids[COUNTERS];
static char tag_names[TAGS][16];
static struct moment life[SNAPSHOTS];
static long long host_id;
static long long session;

static uint32_t random_state = 12345;

static uint32_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state;
}

/* ------------------------------------------------------------ the model */

static void live_tags(struct moment *now, const struct moment *before, int i)
{
    for (int t = 0; t < TAGS; t++) {
        now->has[t] = before != NULL ? before->has[t] : t != 3;
        now->bytes[t] = before != NULL ? before->bytes[t] : 4096LL * (t + 1);
        now->allocs[t] = before != NULL ? before->allocs[t] : 100;
        if (t == 0 || random_next() % 4 == 0) {
            now->bytes[t] += (int64_t)(random_next() % 100000) - 30000;
            now->allocs[t] += random_next() % 50;
        }
        if (t >= 10) { /* comes and goes */
            now->has[t] = random_next() % 10 < 7;
        }
        if (t == 9) { /* never moves, never leaves */
            now->bytes[t] = 777;
            now->allocs[t] = 1;
        }
        if (t == 3) {
            now->has[t] = i > SNAPSHOTS / 2;
        }
        now->outstanding[t] = now->bytes[t] / 64;
    }
}

static void live_counters(struct moment *now, const struct moment *before)
{
    for (int c = 0; c < COUNTERS; c++) {
        now->counted[c] = c != 3 || random_next() % 3 != 0;
        now->value[c] = before != NULL ? before->value[c] : 1000.0 * c;
        if (random_next() % 3 == 0) {
            now->value[c] += (double)(random_next() % 1000) / 8;
        }
    }
}

static void live(int64_t begin_us)
{
    int64_t at_us = begin_us;
    for (int i = 0; i < SNAPSHOTS; i++) {
        struct moment *now = &life[i];
        const struct moment *before = i > 0 ? &life[i - 1] : NULL;
        at_us += MINUTE_US + (int64_t)(random_next() % 1000);
        if (i == 150) {
            at_us += 45 * MINUTE_US; /* a gap */
        }
        now->at_us = at_us;
        now->keyframe = i % 50 == 0 || i == 171 || i == 172;
        live_tags(now, before, i);
        live_counters(now, before);
    }
}

/* ----------------------------------------------------------- storing it */

struct arrays {
    char ids[TEXT_BYTES], allocs[TEXT_BYTES], outstanding[TEXT_BYTES];
    char bytes[TEXT_BYTES], gone[TEXT_BYTES];
};

static void append(char *array, const char *fmt, ...)
{
    size_t used = strlen(array);
    va_list args;
    va_start(args, fmt);
    if (used > 1) {
        array[used++] = ',';
    }
    (void)vsnprintf(array + used, TEXT_BYTES - used, fmt, args);
    va_end(args);
}

static void arrays_open(struct arrays *a)
{
    char *all[] = {a->ids, a->allocs, a->outstanding, a->bytes, a->gone};
    for (size_t i = 0; i < 5; i++) {
        (void)snprintf(all[i], TEXT_BYTES, "{");
    }
}

static void arrays_close(struct arrays *a)
{
    char *all[] = {a->ids, a->allocs, a->outstanding, a->bytes, a->gone};
    for (size_t i = 0; i < 5; i++) {
        size_t used = strlen(all[i]);
        (void)snprintf(all[i] + used, TEXT_BYTES - used, "}");
    }
}

static void pack_tags(struct arrays *a, const struct moment *now,
                      const struct moment *before)
{
    arrays_open(a);
    for (int t = 0; t < TAGS; t++) {
        bool had = before != NULL && before->has[t];
        if (now->has[t] &&
            (now->keyframe || !had || now->bytes[t] != before->bytes[t] ||
             now->allocs[t] != before->allocs[t])) {
            append(a->ids, "%d", tag_ids[t]);
            append(a->bytes, "%" PRId64, now->bytes[t]);
            append(a->outstanding, "%" PRId64, now->outstanding[t]);
            if (t % 2 == 0) {
                append(a->allocs, "NULL");
            } else {
                append(a->allocs, "%" PRId64, now->allocs[t]);
            }
        } else if (had && !now->has[t] && !now->keyframe) {
            append(a->gone, "%d", tag_ids[t]);
        }
    }
    arrays_close(a);
}

static void pack_counters(struct arrays *a, const struct moment *now,
                          const struct moment *before)
{
    arrays_open(a);
    for (int c = 0; c < COUNTERS; c++) {
        bool had = before != NULL && before->counted[c];
        if (now->counted[c] &&
            (now->keyframe || !had || now->value[c] > before->value[c])) {
            append(a->ids, "%d", counter_ids[c]);
            append(a->bytes, "%.17g", now->value[c]);
        } else if (had && !now->counted[c] && !now->keyframe) {
            append(a->gone, "%d", counter_ids[c]);
        }
    }
    arrays_close(a);
}

static void store(int i)
{
    static struct arrays tags;
    static struct arrays counters;
    const struct moment *before = i > 0 ? &life[i - 1] : NULL;
    pack_tags(&tags, &life[i], before);
    pack_counters(&counters, &life[i], before);
    int kind = life[i].keyframe ? STORE_KEYFRAME : STORE_DELTA;
    struct test_batch b = {
        .host_id = host_id,
        .session = session,
        .boot_id = i < 172 ? NULL : "00000000-0000-0000-0000-0000000000b1",
        .seq = i + 1,
        .at_us = life[i].at_us,
        .tags_kind = kind,
        .tag_ids = tags.ids,
        .allocs = tags.allocs,
        .outstanding = tags.outstanding,
        .bytes = tags.bytes,
        .tags_gone = tags.gone,
        .counters_kind = kind,
        .counter_ids = counters.ids,
        .counter_values = counters.bytes,
        .counters_gone = counters.gone,
    };
    assert_string_equal(test_batch_store(writer, &b), "stored");
}

static int make_database(void **state)
{
    (void)state;
    test_database_migrated(&db, false);
    writer = test_database_connect(&db, DATABASE_WRITER);
    reader = test_database_connect(&db, DATABASE_READER);
    owner = test_database_connect(&db, DATABASE_OWNER);
    for (int t = 0; t < TAGS; t++) {
        (void)snprintf(tag_names[t], sizeof(tag_names[t]), "tag-%d", t);
        tag_ids[t] = test_tag_id(writer, t == 5 ? "vmalloc" : "slab",
                                 t == 5 ? "f [mod]" : tag_names[t]);
    }
    (void)snprintf(tag_names[5], sizeof(tag_names[5]), "f [mod]");
    for (int c = 0; c < COUNTERS; c++) {
        counter_ids[c] = test_counter_id(
            writer, c == 0 ? "node_memory_MemTotal_bytes" : "gauge",
            c == 0 ? "" : tag_names[c]);
    }
    host_id = test_host_enrol(writer, "model");
    session = test_session_claim(writer, host_id);
    live(psc_clock_wall_us() / HOUR_US * HOUR_US - HOURS_BACK * HOUR_US +
         20 * PSC_US_PER_S);
    return 0;
}

static int end_database(void **state)
{
    (void)state;
    PQfinish(writer);
    PQfinish(reader);
    PQfinish(owner);
    return 0;
}

/* --------------------------------------------------------- comparing it */

static PGresult *rows(const char *fmt, ...)
{
    char sql[TEXT_BYTES];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(sql, sizeof(sql), fmt, args);
    va_end(args);
    return test_sql_rows(reader, sql);
}

static int64_t number(const PGresult *result, int row, int column)
{
    return strtoll(PQgetvalue(result, row, column), NULL, 10);
}

#define TIME_SQL "'epoch'::timestamptz + %" PRId64 " * interval '1 us'"
#define US_SQL   "(extract(epoch FROM at) * 1000000)::bigint"

static void compare_history(int t, int from, int to)
{
    PGresult *result =
        rows("SELECT " US_SQL ", allocs, frees, outstanding, bytes FROM "
             "poolscope.pool_history('model', '%s', '%s', " TIME_SQL
             ", " TIME_SQL ") ORDER BY at",
             t == 5 ? "vmalloc" : "slab", tag_names[t], life[from].at_us,
             life[to].at_us);
    int row = 0;
    for (int i = from; i <= to; i++) {
        if (!life[i].has[t]) {
            continue;
        }
        assert_true(row < PQntuples(result));
        assert_int_equal(number(result, row, 0), life[i].at_us);
        assert_int_equal(PQgetisnull(result, row, 1), t % 2 == 0);
        if (t % 2 != 0) {
            assert_int_equal(number(result, row, 1), life[i].allocs[t]);
        }
        assert_true(PQgetisnull(result, row, 2));
        assert_int_equal(number(result, row, 3), life[i].outstanding[t]);
        assert_int_equal(number(result, row, 4), life[i].bytes[t]);
        row++;
    }
    assert_int_equal(row, PQntuples(result));
    PQclear(result);
}

static void compare_histories(int last)
{
    for (int t = 0; t < TAGS; t++) {
        compare_history(t, 0, last);
        compare_history(t, last / 3, last / 2);
        compare_history(t, last, last);
    }
}

static void compare_counter(int c, int last)
{
    PGresult *result =
        rows("SELECT " US_SQL ", value, host, counter, instance FROM "
             "poolscope.counter_history('model', '%s', '%s', " TIME_SQL
             ", " TIME_SQL ") ORDER BY at",
             c == 0 ? "node_memory_MemTotal_bytes" : "gauge",
             c == 0 ? "" : tag_names[c], life[0].at_us, life[last].at_us);
    int row = 0;
    for (int i = 0; i <= last; i++) {
        if (!life[i].counted[c]) {
            continue;
        }
        assert_true(row < PQntuples(result));
        assert_int_equal(number(result, row, 0), life[i].at_us);
        assert_true(strtod(PQgetvalue(result, row, 1), NULL) ==
                    life[i].value[c]);
        assert_string_equal(PQgetvalue(result, row, 2), "model");
        row++;
    }
    assert_int_equal(row, PQntuples(result));
    PQclear(result);
}

static void compare_now(int last)
{
    PGresult *result = rows("SELECT tag, bytes, outstanding, driver, " US_SQL
                            " FROM poolscope.pool_now WHERE host = 'model'");
    int expected = 0;
    for (int t = 0; t < TAGS; t++) {
        expected += life[last].has[t];
    }
    assert_int_equal(PQntuples(result), expected);
    for (int row = 0; row < expected; row++) {
        int t = 0;
        while (strcmp(tag_names[t], PQgetvalue(result, row, 0)) != 0) {
            t++;
            assert_true(t < TAGS);
        }
        assert_true(life[last].has[t]);
        assert_int_equal(number(result, row, 1), life[last].bytes[t]);
        assert_int_equal(number(result, row, 2), life[last].outstanding[t]);
        assert_string_equal(PQgetvalue(result, row, 3), t == 5 ? "mod" : "");
        assert_int_equal(number(result, row, 4), life[last].at_us);
    }
    PQclear(result);
    result = rows("SELECT sum(value), count(*) FROM poolscope.counter_now");
    double sum = 0;
    int count = 0;
    for (int c = 0; c < COUNTERS; c++) {
        sum += life[last].counted[c] ? life[last].value[c] : 0;
        count += life[last].counted[c];
    }
    assert_int_equal(number(result, 0, 1), count);
    assert_true(fabs(strtod(PQgetvalue(result, 0, 0), NULL) - sum) < 1e-6);
    PQclear(result);
}

struct hour {
    int64_t first, last, min, max, sum, count, outstanding;
};

static struct hour hour_of(int t, int64_t hour_us, int last)
{
    struct hour h = {0};
    for (int i = 0; i <= last; i++) {
        if (life[i].at_us / HOUR_US * HOUR_US != hour_us || !life[i].has[t]) {
            continue;
        }
        int64_t bytes = life[i].bytes[t];
        h.first = h.count == 0 ? bytes : h.first;
        h.min = h.count == 0 || bytes < h.min ? bytes : h.min;
        h.max = h.count == 0 || bytes > h.max ? bytes : h.max;
        h.last = bytes;
        h.outstanding = life[i].outstanding[t];
        h.sum += bytes;
        h.count++;
    }
    return h;
}

static int64_t rounded(int64_t sum, int64_t count)
{
    /* as numeric does: half away from zero */
    return sum >= 0 ? (sum + count / 2) / count : -((-sum + count / 2) / count);
}

static void compare_hours(int last)
{
    int expected = 0;
    PGresult *result =
        rows("SELECT tag, (extract(epoch FROM hour) * 1000000)::bigint, "
             "first_bytes, last_bytes, min_bytes, max_bytes, mean_bytes, "
             "last_outstanding FROM poolscope.pool_hour "
             "WHERE host = 'model' ORDER BY tag, hour");
    for (int t = 0; t < TAGS; t++) {
        int64_t end_us = life[last].at_us / HOUR_US * HOUR_US;
        for (int64_t at = life[0].at_us / HOUR_US * HOUR_US; at <= end_us;
             at += HOUR_US) {
            expected += hour_of(t, at, last).count > 0;
        }
    }
    assert_int_equal(PQntuples(result), expected);
    for (int row = 0; row < expected; row++) {
        int t = 0;
        while (strcmp(tag_names[t], PQgetvalue(result, row, 0)) != 0) {
            t++;
            assert_true(t < TAGS);
        }
        struct hour h = hour_of(t, number(result, row, 1), last);
        assert_true(h.count > 0);
        assert_int_equal(number(result, row, 2), h.first);
        assert_int_equal(number(result, row, 3), h.last);
        assert_int_equal(number(result, row, 4), h.min);
        assert_int_equal(number(result, row, 5), h.max);
        assert_int_equal(number(result, row, 6), rounded(h.sum, h.count));
        assert_int_equal(number(result, row, 7), h.outstanding);
    }
    PQclear(result);
}

static void compare_counter_hours(int last)
{
    PGresult *result =
        rows("SELECT (extract(epoch FROM at) * 1000000)::bigint, value, "
             "first_value, last_value, min_value, max_value FROM "
             "poolscope.counter_hour WHERE instance = '%s' ORDER BY at",
             tag_names[3]);
    for (int row = 0; row < PQntuples(result); row++) {
        double sum = 0;
        double first = 0;
        double end = 0;
        int count = 0;
        for (int i = 0; i <= last; i++) {
            if (life[i].counted[3] &&
                life[i].at_us / HOUR_US * HOUR_US == number(result, row, 0)) {
                first = count == 0 ? life[i].value[3] : first;
                end = life[i].value[3];
                sum += end;
                count++;
            }
        }
        assert_true(count > 0);
        double mean = strtod(PQgetvalue(result, row, 1), NULL);
        assert_true(fabs(mean - sum / count) <= 1e-9 * fabs(mean));
        assert_true(strtod(PQgetvalue(result, row, 2), NULL) == first);
        assert_true(strtod(PQgetvalue(result, row, 3), NULL) == end);
    }
    PQclear(result);
}

/* The newest snapshot at or before a time. */
static const struct moment *moment_at(int64_t at_us, int last)
{
    const struct moment *found = &life[0];
    for (int i = 0; i <= last && life[i].at_us <= at_us; i++) {
        found = &life[i];
    }
    return found;
}

static void compare_growth(int last, int hours)
{
    const struct moment *end = &life[last];
    const struct moment *begin = moment_at(end->at_us - hours * HOUR_US, last);
    for (int t = 0; t < TAGS; t++) {
        PGresult *result =
            rows("SELECT hosts, growing_hosts, growth_bytes, bytes FROM "
                 "poolscope.fleet_growth('%d hours') WHERE tag = '%s'",
                 hours, tag_names[t]);
        int64_t now = end->has[t] ? end->bytes[t] : 0;
        int64_t growth = now - (begin->has[t] ? begin->bytes[t] : 0);
        assert_int_equal(PQntuples(result), end->has[t] || begin->has[t]);
        if (PQntuples(result) > 0) {
            assert_int_equal(number(result, 0, 0), end->has[t]);
            assert_int_equal(number(result, 0, 1), growth > 0);
            assert_int_equal(number(result, 0, 2), growth);
            assert_int_equal(number(result, 0, 3), now);
        }
        PQclear(result);
    }
}

static void compare_all(int last)
{
    compare_histories(last);
    for (int c = 0; c < COUNTERS; c++) {
        compare_counter(c, last);
    }
    compare_now(last);
    compare_hours(last);
    compare_counter_hours(last);
    compare_growth(last, 1);
    compare_growth(last, 24);
}

/* Settle what is due, as the collector does. */
static void settle_all(void)
{
    static const atomic_bool stop;
    struct metrics metrics = {0};
    struct settle *s = settle_new(&metrics, &stop);
    struct psc_error err;
    assert_non_null(s);
    for (bool more = true; more;) {
        if (settle_pass(s, writer, &more, &err) != PSC_OK) {
            fail_msg("%s", err.msg);
        }
    }
    settle_free(s);
    test_sql(writer, "DEALLOCATE ALL");
    assert_int_equal(metrics.settle_failures, 0);
}

static long long settled_n(void)
{
    return test_sql_int(owner, "SELECT max(tags_n) FROM "
                               "poolscope_data.host_settle");
}

/* ---------------------------------------------------------------- cases */

static void views_agree_with_the_model_while_samples_arrive(void **state)
{
    (void)state;
    for (int i = 0; i < 180; i++) {
        store(i);
        if (i == 0 || i == 60 || i == 179) {
            compare_all(i);
        }
    }
}

static void settling_changes_no_view(void **state)
{
    (void)state;
    settle_all();
    assert_in_range(settled_n(), 60, 179);
    compare_all(179);
}

static void settling_goes_on_while_samples_arrive(void **state)
{
    (void)state;
    for (int i = 180; i < 300; i++) {
        store(i);
        if (i == 180 || i == 200) {
            compare_all(i);
            settle_all();
            compare_all(i);
        }
    }
    settle_all();
    compare_all(299);
}

/* Rows of a slot that is not emptied can be settled again. */
static void unsettle(void)
{
    test_sql(owner, "BEGIN;"
                    "DELETE FROM poolscope_data.tag_chunk;"
                    "DELETE FROM poolscope_data.counter_chunk;"
                    "DELETE FROM poolscope_data.host_settle; COMMIT");
}

static void *settle_in_thread(void *arg)
{
    static const atomic_bool stop;
    static struct metrics metrics;
    struct settle *s = settle_new(&metrics, &stop);
    struct psc_error err;
    bool more;
    if (s != NULL) {
        (void)!settle_pass(s, arg, &more, &err);
        settle_forget_connection(s);
        settle_free(s);
    }
    return NULL;
}

static void settling_cut_short_changes_no_view(void **state)
{
    (void)state;
    for (useconds_t delay_us = 0; delay_us <= 40000; delay_us += 5000) {
        char text[128];
        pthread_t thread;
        PGconn *victim = test_database_connect(&db, DATABASE_WRITER);
        PGcancel *cancel = PQgetCancel(victim);
        unsettle();
        assert_int_equal(
            pthread_create(&thread, NULL, settle_in_thread, victim), 0);
        (void)usleep(delay_us);
        compare_now(299); /* while it works */
        (void)PQcancel(cancel, text, sizeof(text));
        compare_hours(299);
        (void)pthread_join(thread, NULL);
        PQfreeCancel(cancel);
        PQfinish(victim);
        compare_hours(299);
        compare_histories(299);
    }
    test_sql(owner, "UPDATE poolscope_data.host_settle SET retry_at = NULL");
    settle_all();
    compare_all(299);
}

static void rows_of_impossible_times_are_kept_and_folded(void **state)
{
    (void)state;
    int64_t real_us = life[300].at_us;
    life[300].at_us = 20 * HOUR_US; /* 1970 */
    store(300);
    assert_int_equal(test_sql_int(reader,
                                  "SELECT count(*) FROM poolscope.event "
                                  "WHERE event_id = 'time_out_of_range'"),
                     1);
    /* The next changes stand on it, at a time that is possible. */
    for (int i = 301; i < SNAPSHOTS; i++) {
        store(i);
    }
    for (int t = 0; t < TAGS; t++) {
        compare_history(t, 301, SNAPSHOTS - 1);
    }
    compare_now(SNAPSHOTS - 1);
    assert_int_equal(test_sql_int(reader,
                                  "SELECT count(*) FROM poolscope.pool_history("
                                  "'model', 'slab', 'tag-0', '1970-01-01', "
                                  "'1970-01-03')"),
                     1);
    compare_hours(SNAPSHOTS - 1);
    settle_all();
    compare_hours(SNAPSHOTS - 1);
    life[300].at_us = real_us;
}

static void boots_follow_their_batches(void **state)
{
    (void)state;
    assert_int_equal(
        test_sql_int(reader, "SELECT count(*) FROM poolscope.boot"), 2);
    PGresult *result =
        rows("SELECT (extract(epoch FROM last_seen) * 1000000)::bigint FROM "
             "poolscope.boot ORDER BY boot_at");
    assert_int_equal(number(result, 0, 0), life[171].at_us);
    assert_int_equal(number(result, 1, 0), life[SNAPSHOTS - 1].at_us);
    PQclear(result);
}

static void history_of_the_unknown_is_empty(void **state)
{
    (void)state;
    PGresult *result = rows("SELECT FROM poolscope.pool_history('nobody', "
                            "'slab', 'tag-0', '-infinity', 'infinity')");
    assert_int_equal(PQntuples(result), 0);
    PQclear(result);
    result = rows("SELECT FROM poolscope.pool_history('model', 'slab', "
                  "'no such', '-infinity', 'infinity')");
    assert_int_equal(PQntuples(result), 0);
    PQclear(result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(views_agree_with_the_model_while_samples_arrive),
        cmocka_unit_test(settling_changes_no_view),
        cmocka_unit_test(settling_goes_on_while_samples_arrive),
        cmocka_unit_test(settling_cut_short_changes_no_view),
        cmocka_unit_test(rows_of_impossible_times_are_kept_and_folded),
        cmocka_unit_test(boots_follow_their_batches),
        cmocka_unit_test(history_of_the_unknown_is_empty),
    };
    return cmocka_run_group_tests(tests, make_database, end_database);
}
