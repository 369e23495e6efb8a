/* Who must leave when too many have not said who they are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collector/lobby.h"

enum { MAX = 8 };

static struct lobby lobby;
static struct lobby_guest guests[MAX + 1];

static int setup(void **state)
{
    (void)state;
    memset(guests, 0, sizeof(guests));
    return lobby_init(&lobby, MAX);
}

static int teardown(void **state)
{
    (void)state;
    lobby_fini(&lobby);
    return 0;
}

static const char *address(int host, int port)
{
    static char text[32];
    (void)snprintf(text, sizeof(text), "192.0.2.%d:%d", host, port);
    return text;
}

/* Guest @i from 192.0.2.@host at @now_us. */
static void enter(int i, int host, int64_t now_us)
{
    const char *from = address(host, 1000 + i);
    assert_null(lobby_ask(&lobby, &guests[i], from, now_us));
    lobby_enter(&lobby, &guests[i], from, now_us);
}

static struct lobby_guest *ask(int host, int64_t now_us)
{
    return lobby_ask(&lobby, &guests[MAX], address(host, 5), now_us);
}

static void a_crowd_makes_room_for_others_at_once(void **state)
{
    (void)state;
    for (int i = 0; i < MAX; i++) {
        enter(i, i < 2 ? 10 + i : 1, 100 + i);
    }
    assert_ptr_equal(ask(7, 200), &guests[2]); /* 2 is the crowd's oldest */
    lobby_leave(&lobby, &guests[2]);
    assert_null(ask(7, 200));
    enter(2, 7, 200);
    assert_ptr_equal(ask(10, 200), &guests[3]);
}

static void a_crowd_gets_a_second_from_its_own(void **state)
{
    (void)state;
    for (int i = 0; i < MAX; i++) {
        enter(i, 1, 100 + i);
    }
    assert_ptr_equal(ask(1, 200), &guests[MAX]); /* come again */
    assert_ptr_equal(ask(1, 100 + LOBBY_GRACE_US), &guests[0]);
}

/* A fleet that comes all at once is let through its handshakes. */
static void many_hosts_are_no_crowd(void **state)
{
    (void)state;
    for (int i = 0; i < MAX; i++) {
        enter(i, i + 1, 100 + i);
    }
    assert_ptr_equal(ask(100, 200), &guests[MAX]);
    assert_ptr_equal(ask(100, 100 + LOBBY_GRACE_US), &guests[0]);
}

static void leaving_in_any_order_keeps_count(void **state)
{
    (void)state;
    srand(1);
    for (int round = 0; round < 2000; round++) {
        int i = rand() % MAX;
        if (guests[i].in) {
            lobby_leave(&lobby, &guests[i]);
        } else {
            enter(i, rand() % 3, round);
        }
    }
    for (int i = 0; i < MAX; i++) {
        lobby_leave(&lobby, &guests[i]);
        lobby_leave(&lobby, &guests[i]);
    }
    assert_int_equal(lobby.n, 0);
    for (unsigned i = 0; i < LOBBY_BUCKETS; i++) {
        assert_int_equal(lobby.crowd[i], 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_crowd_makes_room_for_others_at_once,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_crowd_gets_a_second_from_its_own,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(many_hosts_are_no_crowd, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(leaving_in_any_order_keeps_count, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
