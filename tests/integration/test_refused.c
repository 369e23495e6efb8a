/* The database refuses samples: of one host for their contents, of one host
 * for another reason, of everybody. Whatever it is, nobody else waits for a
 * host whose samples are refused, and only what is refused for its contents is
 * ever given up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "tests/lib/peer_world.h"
#include "tests/lib/spawn.h"

enum { HOLD_S = 40 };

static struct world world;
static PGconn *owner;
static const char refusing[] = "poolscope_collector_refusing";
static const char held_back[] = "poolscope_collector_held_back_total";
static const char rejected[] = "poolscope_collector_rejected_total";

/* Every sample for which @condition (on NEW) holds is refused by @raise. */
static void refuse(const char *condition, const char *raise)
{
    test_sql(owner,
             peer_text("CREATE FUNCTION poolscope_data.refuse() RETURNS "
                       "trigger LANGUAGE plpgsql AS $$ BEGIN IF %s THEN RAISE "
                       "%s; END IF; RETURN NEW; END $$; "
                       "CREATE TRIGGER refuse BEFORE INSERT ON "
                       "poolscope_data.fresh FOR EACH ROW "
                       "EXECUTE FUNCTION poolscope_data.refuse()",
                       condition, raise));
}

static void accept_all(void)
{
    test_sql(owner, "DROP FUNCTION poolscope_data.refuse CASCADE");
}

static void send_one(struct peer *p, bool keyframe)
{
    peer_tag(p, "a", (int64_t)p->seq);
    assert_true(peer_batch(p, keyframe, 0, NULL));
}

/* Nothing that a peer can send gets here; so the table refuses it, in words
 * that do not fit and whose cut falls into a character. The samples behind it
 * build on it: they come again, from a keyframe on. */
static void a_refused_sample_is_skipped(void **state)
{
    (void)state;
    struct peer_identity id, other;
    struct peer p, q;
    peer_world_enrol(&world, &id, "poison");
    peer_world_enrol(&world, &other, "healthy");
    peer_world_begin(&world, &p, &id, 1);
    peer_world_begin(&world, &q, &other, 1);
    refuse(peer_text("NEW.host_id = %lld AND NEW.seq = 2",
                     peer_world_host_id(&world, &id)),
           "check_violation USING MESSAGE = repeat('\u00e4', 200)");
    for (int i = 1; i <= 3; i++) {
        send_one(&p, i == 1);
        send_one(&q, i == 1);
    }
    assert_true(peer_await_ack(&q, 3, PEER_ACK_S));
    assert_int_equal(peer_await_end(&p, PEER_ACK_S), WIRE_REFUSAL_BUSY);
    assert_int_equal(p.acked, 2);
    peer_close(&p);
    assert_string_equal(peer_world_stored(&world, &id), "1 1 1");

    /* What came behind it built on it: sent again as a keyframe. */
    assert_true(peer_connect(&p, world.port, &id));
    assert_int_equal(peer_hello(&p), 0);
    assert_int_equal(peer_open(&p, 1), 2);
    p.seq = 3;
    send_one(&p, true);
    assert_true(peer_await_ack(&p, 3, PEER_ACK_S));
    assert_string_equal(peer_world_stored(&world, &id), "2 2 3");
    assert_string_equal(peer_world_stored(&world, &other), "3 3 3");
    assert_int_equal(peer_world_events(&world, &id, "batch_rejected"), 1);
    accept_all();
    peer_close(&p);
    peer_close(&q);
    peer_identity_fini(&id);
    peer_identity_fini(&other);
}

/* A whole fleet of one: nobody else is there to compare with. */
static void never_two_samples_in_a_row_are_skipped(void **state)
{
    (void)state;
    struct peer_identity id;
    struct peer p;
    peer_world_enrol(&world, &id, "alone");
    peer_world_begin(&world, &p, &id, 1);
    refuse("true", "check_violation");
    long long before = world_metric(&world, rejected);
    for (int i = 1; i <= 4; i++) {
        send_one(&p, i == 1);
    }
    assert_int_equal(peer_await_end(&p, PEER_ACK_S), WIRE_REFUSAL_BUSY);
    assert_int_equal(p.acked, 1);
    peer_close(&p);
    assert_true(peer_connect(&p, world.port, &id));
    assert_int_equal(peer_hello(&p), 0);
    assert_int_equal(peer_open(&p, 1), 1);
    p.seq = 2;
    send_one(&p, true);
    send_one(&p, false);
    assert_false(peer_await_ack(&p, 2, 10));
    assert_int_equal(world_metric(&world, rejected), before + 1);
    accept_all();
    peer_close(&p);
    for (int i = 0; i < HOLD_S && peer_world_stored(&world, &id)[0] == '0';
         i++) { /* it may come again when its time is over */
        spawn_sleep_ms(1000);
        if (peer_connect(&p, world.port, &id) && peer_hello(&p) == 0) {
            assert_int_equal(peer_open(&p, 1), 1);
            p.seq = 2;
            send_one(&p, true);
            assert_true(peer_await_ack(&p, 2, PEER_ACK_S));
        }
        peer_close(&p);
    }
    assert_string_equal(peer_world_stored(&world, &id), "1 1 2");
    peer_identity_fini(&id);
}

/* Refused for @raise: the host waits, others do not, nothing is given up. */
static void one_host_waits(const char *host, const char *raise)
{
    struct peer_identity id, other;
    struct peer p, q;
    peer_world_enrol(&world, &id, host);
    peer_world_enrol(&world, &other, peer_text("beside-%s", host));
    peer_world_begin(&world, &p, &id, 1);
    peer_world_begin(&world, &q, &other, 1);
    refuse(peer_text("NEW.host_id = %lld AND NEW.seq = 2",
                     peer_world_host_id(&world, &id)),
           raise);
    long long held = world_metric(&world, held_back);
    int64_t start_us = psc_clock_mono_us();
    for (int i = 1; i <= 30; i++) {
        if (i <= 3) {
            send_one(&p, i == 1);
        }
        send_one(&q, i == 1);
        assert_true(peer_await_ack(&q, (uint64_t)i, PEER_ACK_S));
    }
    print_message("%s: 30 samples of another host in %.1f s\n", host,
                  (double)(psc_clock_mono_us() - start_us) / 1e6);
    assert_int_equal(peer_await_end(&p, PEER_ACK_S), WIRE_REFUSAL_BUSY);
    assert_int_equal(p.acked, 1);
    peer_close(&p);
    assert_int_equal(world_metric(&world, held_back), held + 1);
    assert_int_equal(world_metric(&world, refusing), 0);
    assert_int_equal(peer_world_events(&world, &id, "batch_rejected"), 0);

    /* Too early; then, when it is mended, nothing is missing. */
    assert_true(peer_connect(&p, world.port, &id));
    assert_int_equal(peer_hello(&p), WIRE_REFUSAL_BUSY);
    peer_close(&p);
    accept_all();
    for (int i = 0; i < HOLD_S; i++) {
        spawn_sleep_ms(1000);
        assert_true(peer_connect(&p, world.port, &id));
        if (peer_hello(&p) == 0) {
            break;
        }
        peer_close(&p);
    }
    assert_int_equal(peer_open(&p, 1), 1);
    p.seq = 2;
    send_one(&p, true);
    send_one(&p, false);
    assert_true(peer_await_ack(&p, 3, PEER_ACK_S));
    assert_string_equal(peer_world_stored(&world, &id), "3 3 3");
    assert_string_equal(peer_world_stored(&world, &other), "30 30 30");
    peer_close(&p);
    peer_close(&q);
    peer_identity_fini(&id);
    peer_identity_fini(&other);
}

static void a_fault_of_the_schema_holds_up_one_host_only(void **state)
{
    (void)state;
    one_host_waits("forbidden", "insufficient_privilege");
}

/* Which looks at first as if statements had to be prepared anew. */
static void what_is_not_supported_holds_up_one_host_only(void **state)
{
    (void)state;
    one_host_waits("unsupported", "feature_not_supported");
}

static void a_refusal_that_might_pass_holds_up_one_host_only(void **state)
{
    (void)state;
    one_host_waits("unlucky", "serialization_failure");
}

static void everybody_waits_until_the_schema_is_mended(void **state)
{
    (void)state;
    enum { HOSTS = 3 };
    static const char revoke[] =
        "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA poolscope_api FROM "
        "poolscope_writer";
    static const char grant[] =
        "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA poolscope_api TO "
        "poolscope_writer";
    struct peer_identity id[HOSTS];
    struct peer p[HOSTS];
    for (int i = 0; i < HOSTS; i++) {
        peer_world_enrol(&world, &id[i], peer_text("all-%d", i));
        peer_world_begin(&world, &p[i], &id[i], 1);
    }
    long long lost = world_metric(&world, rejected);
    long long held = world_metric(&world, held_back);
    unsigned told =
        world_log_count(world.collector_log, "nothing is acknowledged");
    test_sql(owner, revoke);
    for (int i = 0; i < HOSTS; i++) {
        for (int n = 1; n <= 3; n++) {
            send_one(&p[i], n == 1);
        }
    }
    peer_listen(&p[0], 6);
    assert_int_equal(world_metric(&world, refusing), 1);
    assert_int_equal(
        world_log_count(world.collector_log, "nothing is acknowledged"),
        told + 1);
    assert_true(world_log_count(world.collector_log, "poolscope migrate") > 0);
    test_sql(owner, grant);
    for (int i = 0; i < HOSTS; i++) {
        assert_true(peer_await_ack(&p[i], 3, PEER_ACK_S));
        assert_int_equal(p[i].refusal, 0);
        assert_string_equal(peer_world_stored(&world, &id[i]), "3 3 3");
        peer_close(&p[i]);
        peer_identity_fini(&id[i]);
    }
    assert_int_equal(world_metric(&world, refusing), 0);
    assert_int_equal(world_metric(&world, rejected), lost);
    assert_int_equal(world_metric(&world, held_back), held);
}

static int start(void **state)
{
    static const char *const words[] = {"--commit-interval", "50ms", NULL};
    (void)state;
    world_start(&world, false, words, NULL);
    owner = test_database_connect(&world.db, DATABASE_OWNER);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    PQfinish(owner);
    world_stop(&world);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_refused_sample_is_skipped),
        cmocka_unit_test(a_fault_of_the_schema_holds_up_one_host_only),
        cmocka_unit_test(what_is_not_supported_holds_up_one_host_only),
        cmocka_unit_test(a_refusal_that_might_pass_holds_up_one_host_only),
        cmocka_unit_test(everybody_waits_until_the_schema_is_mended),
        cmocka_unit_test(never_two_samples_in_a_row_are_skipped),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
