/* A host that sends far more than its share: what is too much is dropped and
 * told, its samples and all other hosts' data are stored. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "collector/budget.h"
#include "common/conn.h"
#include "proto/record.h"
#include "tests/lib/peer_world.h"

enum { EVENTS_A_BATCH = 1000, BATCHES = 13, BOOTS = 230 };

static struct world world;
static const char over_budget[] = "poolscope_collector_over_budget_total";

static struct psc_bytes text(const char *s)
{
    return (struct psc_bytes){(const uint8_t *)s, strlen(s)};
}

static void a_flood_of_events_is_cut(void **state)
{
    (void)state;
    struct peer_identity id;
    struct peer p;
    struct psc_buf list;
    struct wire_batch extra;
    long long burst = budget_burst(BUDGET_EVENTS);
    long long before = world_metric(&world, over_budget);
    memset(&extra, 0, sizeof(extra));
    psc_buf_init(&list, PSC_FRAME_MAX_BYTES);
    record_list_begin(&list);
    for (int i = 0; i < EVENTS_A_BATCH; i++) {
        struct event_record e = {.source = text("liar"),
                                 .event_id = text("lie"),
                                 .message = text("nothing happened")};
        record_put_event(&list, &e);
    }
    extra.events = psc_buf_bytes(&list);
    peer_world_enrol(&world, &id, "liar");
    peer_world_begin(&world, &p, &id, 1);
    for (int i = 1; i <= BATCHES; i++) {
        peer_tag(&p, "a", i);
        assert_true(peer_batch(&p, i == 1, 0, &extra));
    }
    assert_true(peer_await_ack(&p, BATCHES, PEER_ACK_S));
    assert_string_equal(peer_world_stored(&world, &id), "13 13 13");
    long long stored = peer_world_events(&world, &id, "lie");
    print_message("%d events sent, %lld stored\n", BATCHES * EVENTS_A_BATCH,
                  stored);
    assert_in_range(stored, burst, burst + 100);
    assert_int_equal(world_metric(&world, over_budget) - before,
                     (long long)BATCHES * EVENTS_A_BATCH - stored);
    assert_int_equal(peer_world_events(&world, &id, "over_budget"), 1);
    peer_close(&p);

    /* A new session is no new budget. */
    peer_world_begin(&world, &p, &id, 2);
    peer_tag(&p, "a", 1);
    assert_true(peer_batch(&p, true, 0, &extra));
    assert_true(peer_await_ack(&p, 1, PEER_ACK_S));
    assert_in_range(peer_world_events(&world, &id, "lie"), stored,
                    stored + 100);
    psc_buf_fini(&list);
    peer_close(&p);
    peer_identity_fini(&id);
}

/* In batches, and in the hellos of ever new sessions. */
static void a_flood_of_boots_is_cut(void **state)
{
    (void)state;
    struct peer_identity id;
    struct peer p;
    struct wire_batch extra;
    memset(&extra, 0, sizeof(extra));
    peer_world_enrol(&world, &id, "reboots");
    for (unsigned i = 1; i <= BOOTS; i++) {
        bool good = peer_connect(&p, world.port, &id);
        assert_true(good);
        memcpy(p.boot_id, &i, sizeof(i));
        assert_int_equal(peer_hello(&p), 0);
        if (i == BOOTS) {
            (void)peer_open(&p, 1);
            peer_tag(&p, "a", 1);
            assert_true(peer_batch(&p, true, 0, NULL));
            assert_true(peer_await_ack(&p, 1, PEER_ACK_S));
        }
        peer_close(&p);
    }
    long long boots =
        world_int(&world, peer_text("SELECT count(*) FROM poolscope_data.boot "
                                    "WHERE host_id = %lld",
                                    peer_world_host_id(&world, &id)));
    print_message("%d boots told, %lld stored\n", BOOTS, boots);
    assert_in_range(boots, budget_burst(BUDGET_BOOTS),
                    budget_burst(BUDGET_BOOTS) + 5);
    assert_string_equal(peer_world_stored(&world, &id), "1 1 1");
    peer_identity_fini(&id);
}

static int start(void **state)
{
    (void)state;
    world_start(&world, false, NULL, NULL);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    world_stop(&world);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flood_of_events_is_cut),
        cmocka_unit_test(a_flood_of_boots_is_cut),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
