/* The ring of fresh samples: slots are filled in turn, and emptied when nobody
 * needs their rows any more. Time is moved by changing what it is taken from.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "tests/lib/fresh_check.h"
#include "tests/lib/store.h"

#define MINUTE_US (60 * PSC_US_PER_S)
#define HOUR_US   (60 * MINUTE_US)

enum { SLOTS = 8 };

/* ------------------------------------------------------------------ what */

static const char *turn(void)
{
    return test_sql_text(test_store.writer,
                         "SELECT concat_ws(' ', turned, emptied, full_slots, "
                         "CASE WHEN stuck THEN 'stuck' END) FROM "
                         "poolscope_api.fresh_turn()");
}

static int present(void)
{
    return (int)test_sql_int(test_store.owner,
                             "SELECT slot FROM poolscope_data.fresh_slot "
                             "WHERE present");
}

static long long rows_in(int slot)
{
    return strtoll(test_sql_textf(test_store.owner,
                                  "SELECT count(*) FROM "
                                  "poolscope_data.fresh_%d",
                                  slot),
                   NULL, 10);
}

/* All that happened to slots happened @minutes earlier. */
static void pass_time(int minutes)
{
    (void)test_sql_textf(test_store.owner,
                         "UPDATE poolscope_data.fresh_slot SET opened_at = "
                         "opened_at - interval '%1$d min', closed_at = "
                         "closed_at - interval '%1$d min', settled_at = "
                         "settled_at - interval '%1$d min' RETURNING 1",
                         minutes);
}

/* Close the present slot, and say which it was. */
static int close_slot(void)
{
    int slot = present();
    pass_time(60);
    (void)turn();
    assert_int_not_equal(present(), slot);
    return slot;
}

static int64_t hours_ago(int hours)
{
    int64_t now_us = psc_clock_wall_us();
    return now_us - now_us % HOUR_US - hours * HOUR_US;
}

/* A host with samples of the hour before last in the present slot. */
static void host_new(struct fresh_host *h, bool tags, bool counters)
{
    static int64_t id;
    fresh_host_init(h, ++id, 3, 2, true);
    for (int i = 0; i < 5; i++) {
        h->tags.now[i % 3] = (struct fresh_cell){
            .present = true, .flags = TAG_BYTES, .values = {[COL_BYTES] = i}};
        h->counters.now[i % 2] =
            (struct fresh_cell){.present = true, .values = {i}};
        fresh_store(test_store.owner, h, hours_ago(2) + i * MINUTE_US, 0, tags,
                    counters, false);
    }
}

/* The next hour has come, so what was before can be settled. */
static void host_goes_on(struct fresh_host *h, bool tags, bool counters)
{
    fresh_store(test_store.owner, h, hours_ago(1), 0, tags, counters, false);
}

/* Everything is settled and emptied that can be, whatever earlier tests left;
 * all but the present slot are empty. */
static void tidy(void)
{
    test_sql(test_store.owner,
             "TRUNCATE poolscope_data.fresh, poolscope_data.ingest_cursor, "
             "poolscope_data.host_settle, poolscope_data.tag_chunk, "
             "poolscope_data.counter_chunk;"
             "UPDATE poolscope_data.fresh_slot SET present = slot = 0, "
             "opened_at = CASE slot WHEN 0 THEN now() END, closed_at = NULL, "
             "closed_xid = NULL, settled_xid = NULL, settled_at = NULL");
}

static int set_up(void **state)
{
    (void)state;
    tidy();
    return 0;
}

/* An hour for the ring to see that a slot is settled, and another to be sure.
 */
static void empty(void)
{
    pass_time(60);
    (void)turn();
    pass_time(60);
    (void)turn();
}

/* ----------------------------------------------------------------- tests */

static void a_slot_is_closed_after_an_hour(void **state)
{
    (void)state;
    assert_string_equal(turn(), "f 0 0");
    pass_time(59);
    assert_string_equal(turn(), "f 0 0");
    pass_time(1);
    assert_string_equal(turn(), "t 0 1");
    assert_int_equal(present(), 1);
    assert_string_equal(turn(), "f 0 1");
}

static void a_settled_slot_is_emptied_an_hour_later(void **state)
{
    (void)state;
    struct fresh_host h;
    host_new(&h, true, true);
    int slot = close_slot();
    host_goes_on(&h, true, true);
    pass_time(59);
    assert_int_equal(fresh_settle(test_store.writer), 0);
    fresh_check(test_store.owner, &h);
    assert_string_equal(turn(), "f 0 1");
    pass_time(2);
    assert_string_equal(turn(), "t 0 2"); /* it sees that all is settled */
    pass_time(59);
    assert_string_equal(turn(), "f 0 2");
    assert_int_equal(rows_in(slot), 5);
    pass_time(1);
    assert_string_equal(turn(), "t 1 2");
    assert_int_equal(rows_in(slot), 0);
    assert_int_equal(rows_in((slot + 1) % SLOTS), 1);
    fresh_host_fini(&h);
}

static void rows_that_are_not_settled_stay(void **state)
{
    (void)state;
    struct fresh_host hosts[3];
    host_new(&hosts[0], true, false);
    host_new(&hosts[1], false, true);
    host_new(&hosts[2], true, true);
    int slot = close_slot();
    for (int i = 0; i < 3; i++) {
        /* One table of one of them does not go on. */
        host_goes_on(&hosts[i], i != 1, i == 1);
    }
    assert_int_equal(fresh_settle(test_store.writer), 0);
    empty();
    assert_int_equal(rows_in(slot), 15);
    host_goes_on(&hosts[2], false, true);
    assert_int_equal(fresh_settle(test_store.writer), 0);
    empty();
    assert_int_equal(rows_in(slot), 0);
    for (int i = 0; i < 3; i++) {
        fresh_check(test_store.owner, &hosts[i]);
        fresh_host_fini(&hosts[i]);
    }
}

static void rows_without_tables_stop_nothing(void **state)
{
    (void)state;
    struct fresh_host h;
    host_new(&h, false, false);
    int slot = close_slot();
    empty();
    assert_int_equal(rows_in(slot), 0);
    fresh_host_fini(&h);
}

/* Who looks since before the rows were settled takes them for fresh. */
static void old_snapshots_keep_their_rows(void **state)
{
    (void)state;
    struct fresh_host h;
    host_new(&h, true, true);
    int slot = close_slot();
    host_goes_on(&h, true, true);
    test_sql(test_store.reader, "BEGIN ISOLATION LEVEL REPEATABLE READ; "
                                "SELECT count(*) FROM poolscope.host");
    assert_int_equal(fresh_settle(test_store.writer), 0);
    empty();
    assert_int_equal(rows_in(slot), 5);
    test_sql(test_store.reader, "COMMIT");
    empty();
    assert_int_equal(rows_in(slot), 0);
    fresh_host_fini(&h);
}

/* A unit that was sent while the slot was present is not committed yet. */
static void late_rows_are_not_lost(void **state)
{
    (void)state;
    struct fresh_host h, late;
    PGconn *other = test_database_connect(&test_store.db, DATABASE_OWNER);
    host_new(&h, true, true);
    fresh_host_init(&late, 1000000, 3, 2, true);
    test_sql(other, "BEGIN");
    fresh_store(other, &late, hours_ago(2), 0, true, true, false);
    int slot = close_slot();
    host_goes_on(&h, true, true);
    assert_int_equal(fresh_settle(test_store.writer), 0);
    empty();
    assert_int_equal(rows_in(slot), 5);
    test_sql(other, "COMMIT");
    empty();
    assert_int_equal(rows_in(slot), 6);
    fresh_store(test_store.owner, &late, hours_ago(1), 0, true, true, false);
    assert_int_equal(fresh_settle(test_store.writer), 0);
    fresh_check(test_store.owner, &late);
    empty();
    assert_int_equal(rows_in(slot), 0);
    PQfinish(other);
    fresh_host_fini(&h);
    fresh_host_fini(&late);
}

/* A reader's lock is waited for, but not long, and ingest goes on. */
static void readers_are_not_waited_for(void **state)
{
    (void)state;
    struct fresh_host h;
    host_new(&h, true, true);
    int slot = close_slot();
    host_goes_on(&h, true, true);
    assert_int_equal(fresh_settle(test_store.writer), 0);
    pass_time(60);
    (void)turn();
    pass_time(60);
    PGconn *other = test_database_connect(&test_store.db, DATABASE_OWNER);
    test_sql(other, "BEGIN; LOCK TABLE poolscope_data.fresh IN ACCESS SHARE "
                    "MODE");
    PGconn *writer = test_database_connect(&test_store.db, DATABASE_WRITER);
    int64_t start_us = psc_clock_mono_us();
    assert_int_equal(PQsendQuery(writer, "SELECT poolscope_api.fresh_turn()"),
                     1);
    host_goes_on(&h, true, true);
    assert_true(psc_clock_mono_us() - start_us < 1500000);
    PGresult *res;
    while ((res = PQgetResult(writer)) != NULL) {
        assert_int_equal(PQresultStatus(res), PGRES_TUPLES_OK);
        PQclear(res);
    }
    assert_in_range(psc_clock_mono_us() - start_us, 1900000, 10000000);
    assert_int_equal(rows_in(slot), 5);
    test_sql(other, "COMMIT");
    (void)turn();
    assert_int_equal(rows_in(slot), 0);
    PQfinish(other);
    PQfinish(writer);
    fresh_host_fini(&h);
}

static void a_slot_that_stays_full_is_passed_over(void **state)
{
    (void)state;
    struct fresh_host h;
    host_new(&h, true, true); /* never settled */
    int stuck = close_slot();
    bool used[SLOTS] = {false};
    for (int i = 0; i < 30; i++) {
        pass_time(60);
        (void)turn();
        assert_int_not_equal(present(), stuck);
        used[present()] = true;
    }
    assert_int_equal(rows_in(stuck), 5);
    for (int i = 0; i < SLOTS; i++) {
        assert_int_equal(used[i], i != stuck);
    }
    fresh_host_fini(&h);
}

static void a_full_ring_grows_the_present_slot(void **state)
{
    (void)state;
    struct fresh_host hosts[SLOTS];
    for (int i = 0; i < SLOTS - 1; i++) {
        host_new(&hosts[i], true, true);
        (void)close_slot();
    }
    host_new(&hosts[SLOTS - 1], true, true);
    int last = present();
    for (int i = 0; i < 5; i++) {
        pass_time(60);
        assert_string_equal(turn(), "f 0 7 stuck");
        assert_int_equal(present(), last);
    }
    for (int i = 0; i < SLOTS; i++) {
        host_goes_on(&hosts[i], true, true);
    }
    assert_int_equal(fresh_settle(test_store.writer), 0);
    (void)turn();
    pass_time(59);
    for (int i = 0; i < 2; i++) {
        (void)turn();
        assert_int_equal(present(), last);
    }
    pass_time(1);
    for (int i = 0; i < SLOTS; i++) {
        (void)turn();
    }
    for (int i = 0; i < SLOTS; i++) {
        assert_int_equal(rows_in(i), i == last ? 5 + SLOTS : 0);
        fresh_check(test_store.owner, &hosts[i]);
        fresh_host_fini(&hosts[i]);
    }
    assert_int_not_equal(present(), last);
}

/* Transaction numbers of the server that a dump came from. */
static void a_restored_ring_turns(void **state)
{
    (void)state;
    struct fresh_host h;
    host_new(&h, true, true);
    int slot = close_slot();
    host_goes_on(&h, true, true);
    assert_int_equal(fresh_settle(test_store.writer), 0);
    test_sql(test_store.owner, "UPDATE poolscope_data.fresh_slot SET "
                               "closed_xid = '4000000000000' "
                               "WHERE closed_at IS NOT NULL");
    empty();
    assert_int_equal(rows_in(slot), 0);
    fresh_host_fini(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_slot_is_closed_after_an_hour, set_up),
        cmocka_unit_test_setup(a_settled_slot_is_emptied_an_hour_later, set_up),
        cmocka_unit_test_setup(rows_that_are_not_settled_stay, set_up),
        cmocka_unit_test_setup(rows_without_tables_stop_nothing, set_up),
        cmocka_unit_test_setup(old_snapshots_keep_their_rows, set_up),
        cmocka_unit_test_setup(late_rows_are_not_lost, set_up),
        cmocka_unit_test_setup(readers_are_not_waited_for, set_up),
        cmocka_unit_test_setup(a_slot_that_stays_full_is_passed_over, set_up),
        cmocka_unit_test_setup(a_full_ring_grows_the_present_slot, set_up),
        cmocka_unit_test_setup(a_restored_ring_turns, set_up),
    };
    return cmocka_run_group_tests(tests, test_store_begin, test_store_end);
}
