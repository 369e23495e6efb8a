/* Who is let in when, and who must leave, when many have not said who they
 * are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collector/lobby.h"

enum { MAX = 8, INSIDE = 3 };

#define LATER_US (100 + MAX + LOBBY_SILENT_US)

static struct lobby lobby;
static struct lobby_guest guests[MAX + 1];

static int setup(void **state)
{
    (void)state;
    memset(guests, 0, sizeof(guests));
    return lobby_init(&lobby, MAX, INSIDE);
}

static int teardown(void **state)
{
    (void)state;
    lobby_fini(&lobby);
    return 0;
}

/* Guest @i from 192.0.2.@host at @now_us. */
static void enter(int i, int host, int64_t now_us)
{
    char address[32];
    (void)snprintf(address, sizeof(address), "192.0.2.%d:%d", host, 1000 + i);
    lobby_enter(&lobby, &guests[i], address, now_us);
}

static void enter_and_knock(int i, int host, int64_t now_us)
{
    enter(i, host, now_us);
    lobby_knock(&lobby, &guests[i], now_us);
}

static int admitted(int64_t now_us)
{
    struct lobby_guest *guest = lobby_admit(&lobby, now_us);
    return guest != NULL ? (int)(guest - guests) : -1;
}

static void the_silent_make_room_the_largest_crowd_first(void **state)
{
    (void)state;
    assert_null(lobby_spare(&lobby, LATER_US));
    for (int i = 0; i < MAX; i++) {
        assert_false(lobby_is_full(&lobby));
        enter(i, i < 2 ? 10 + i : 1, 100 + i);
    }
    assert_true(lobby_is_full(&lobby));
    assert_null(lobby_spare(&lobby, 101 + LOBBY_SILENT_US)); /* not heard yet */
    assert_ptr_equal(lobby_spare(&lobby, LATER_US),
                     &guests[2]); /* its oldest */
    lobby_knock(&lobby, &guests[2], 200);
    assert_ptr_equal(lobby_spare(&lobby, LATER_US),
                     &guests[3]); /* who speaks, stays */
    lobby_leave(&lobby, &guests[3]);
    assert_false(lobby_is_full(&lobby));
}

static void nobody_leaves_for_another_when_all_have_spoken(void **state)
{
    (void)state;
    for (int i = 0; i < MAX; i++) {
        enter_and_knock(i, 1, 100 + i);
    }
    assert_true(lobby_is_full(&lobby));
    assert_null(lobby_spare(&lobby, LATER_US));
}

static void a_fleet_is_let_through_in_order(void **state)
{
    (void)state;
    for (int i = 0; i < MAX; i++) {
        enter_and_knock(i, 1, 100 + i);
    }
    for (int i = 0; i < INSIDE; i++) {
        assert_int_equal(admitted(200), i);
    }
    assert_int_equal(admitted(200), -1);
    for (int i = INSIDE; i < MAX; i++) {
        lobby_leave(&lobby, &guests[i - INSIDE]);
        assert_int_equal(admitted(200), i);
    }
}

static void a_crowd_does_not_hold_up_others(void **state)
{
    (void)state;
    for (int i = 0; i < MAX - 1; i++) {
        enter_and_knock(i, 1, 100 + i);
    }
    for (int i = 0; i < INSIDE; i++) {
        assert_int_equal(admitted(200), i);
    }
    enter_and_knock(MAX - 1, 2, 300);
    lobby_leave(&lobby, &guests[0]);
    lobby_leave(&lobby, &guests[1]);
    int one = admitted(400);
    int other = admitted(400);
    assert_int_equal(one + other, INSIDE + MAX - 1); /* one of each address */
}

static void who_holds_a_place_that_others_want_goes(void **state)
{
    (void)state;
    for (int i = 0; i < INSIDE; i++) {
        enter_and_knock(i, i, 100);
        assert_int_not_equal(admitted(100 + i), -1);
    }
    int64_t late_us = 100 + LOBBY_GRACE_US;
    assert_null(lobby_late(&lobby, late_us)); /* nobody wants it */
    enter_and_knock(INSIDE, 9, 200);
    assert_null(lobby_late(&lobby, late_us - 1));
    assert_ptr_equal(lobby_late(&lobby, late_us), &guests[0]);
    lobby_keep(&lobby, &guests[0]); /* the database has its request */
    assert_null(lobby_late(&lobby, late_us));
    assert_ptr_equal(lobby_late(&lobby, late_us + 1), &guests[1]);
    assert_int_equal(admitted(300), -1);
    lobby_leave(&lobby, &guests[1]);
    assert_int_equal(admitted(300), INSIDE);
}

static void leaving_in_any_order_keeps_count(void **state)
{
    (void)state;
    srand(1);
    for (int round = 0; round < 5000; round++) {
        int i = rand() % MAX;
        switch (guests[i].place) {
        case LOBBY_OUT: enter(i, rand() % 3, round); break;
        case LOBBY_SILENT: lobby_knock(&lobby, &guests[i], round); break;
        case LOBBY_INSIDE:
            if (rand() % 2 == 0) {
                lobby_keep(&lobby, &guests[i]);
                break;
            }
            /* fallthrough */
        default: lobby_leave(&lobby, &guests[i]); break;
        }
        (void)admitted(round);
        assert_true(lobby.inside.n + lobby.kept.n <= INSIDE);
    }
    for (int i = 0; i < MAX; i++) {
        lobby_leave(&lobby, &guests[i]);
        lobby_leave(&lobby, &guests[i]);
    }
    assert_int_equal(
        lobby.n_silent + lobby.n_queued + lobby.inside.n + lobby.kept.n, 0);
    for (unsigned i = 0; i < LOBBY_BUCKETS; i++) {
        assert_int_equal(lobby.buckets[i].silent.n + lobby.buckets[i].queued.n,
                         0);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_silent_make_room_the_largest_crowd_first),
        TEST(nobody_leaves_for_another_when_all_have_spoken),
        TEST(a_fleet_is_let_through_in_order),
        TEST(a_crowd_does_not_hold_up_others),
        TEST(who_holds_a_place_that_others_want_goes),
        TEST(leaving_in_any_order_keeps_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
