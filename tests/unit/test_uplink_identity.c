/* The uplink's identity, against a scripted collector on loopback TLS: it
 * enrols, renews, and takes what somebody else has enrolled. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "common/clock.h"
#include "tests/lib/temp.h"
#include "tests/lib/uplink_bench.h"

static void uplink_enrols_first(void **state)
{
    (void)state;
    struct bench *b = bench_init(0);
    bench_make_token(b, 0);
    bench_take(b, 10);
    bench_start(b);
    bench_drain(b);
    assert_int_equal(b->fake.n_enrols, 1);
    assert_int_equal(b->fake.stored[0].n, 10);
    assert_int_equal(b->identity.host_id, FAKE_HOST_ID);
    struct stat st;
    assert_int_equal(stat(temp_path(b->state_dir, "identity.pem"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_not_equal(stat(temp_path(b->state_dir, "pending.pem"), &st), 0);
    bench_fini(b);
}

static void uplink_keeps_the_secret_from_strangers(void **state)
{
    (void)state;
    struct bench *b = bench_init(0);
    bench_make_token(b, 1); /* another CA's */
    bench_start(b);
    bench_run_ms(b, 200);
    assert_true(b->fake.n_sessions > 0);
    assert_int_equal(b->fake.n_enrols, 0);
    bench_fini(b);
}

static void uplink_keeps_trying_to_enrol(void **state)
{
    (void)state;
    struct bench *b = bench_init(0);
    bench_start(b); /* no token yet */
    bench_run_ms(b, 100);
    assert_int_equal(b->fake.n_sessions, 0);
    bench_make_token(b, 0);
    b->fake.refusal = WIRE_REFUSAL_TOKEN;
    while (b->fake.n_enrols < 2) {
        bench_turn(b);
    }
    b->fake.refusal = 0;
    bench_take(b, 10);
    bench_drain(b);
    assert_int_equal(b->fake.stored[0].n, 10);
    bench_fini(b);
}

static void uplink_renews_its_certificate(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    b->identity.not_before_us -= 3600 * 1000000LL * 3; /* older than it is */
    bench_start(b);
    while (b->fake.n_renews == 0 || b->uplink.ctx != NULL) {
        bench_turn(b);
    }
    assert_false(identity_renew_due(&b->identity, psc_clock_wall_us()));
    assert_int_equal(b->fake.n_hellos, 1); /* the session goes on */
    b->to_take = 10;
    bench_drain(b);
    fake_cut(&b->fake);
    b->to_take = 10;
    bench_run_ms(b, 50);
    bench_drain(b);
    assert_int_equal(b->fake.stored[0].n, 20);
    bench_fini(b);
}

static void uplink_renews_after_expiry(void **state)
{
    (void)state;
    struct bench *b = bench_init(-3600);
    bench_take(b, 10);
    bench_start(b);
    bench_drain(b);
    assert_int_equal(b->fake.n_renews, 1);
    assert_int_equal(b->fake.n_hellos, 1);
    assert_int_equal(b->fake.stored[0].n, 10);
    bench_fini(b);
}

/* poolscope-agent --enrol while the agent waits for just that. */
static void uplink_takes_an_identity_that_appears(void **state)
{
    (void)state;
    struct bench *b = bench_init(0);
    b->pace.backoff_min_ms = b->pace.backoff_max_ms = 60000;
    bench_take(b, 10);
    bench_start(b); /* no token, no certificate */
    bench_run_ms(b, 100);
    assert_int_equal(b->fake.n_sessions, 0);
    assert_int_equal(b->uplink.state, UPLINK_BACKOFF);
    bench_write_identity(b, 3600);
    bench_drain(b);
    assert_int_equal(b->fake.n_enrols, 0);
    assert_int_equal(b->fake.stored[0].n, 10);
    bench_fini(b);
}

static void uplink_takes_a_new_identity(void **state)
{
    (void)state;
    struct bench *b = bench_init(3600);
    b->pace.refused_ms = 60000;
    b->fake.refusal = WIRE_REFUSAL_DISABLED;
    bench_take(b, 10);
    bench_start(b);
    bench_run_ms(b, 100);
    assert_int_equal(b->fake.n_hellos, 1);
    /* Half of one, as it is between two writes, or of somebody who errs. */
    b->fake.refusal = 0;
    temp_write(temp_path(b->state_dir, "identity.pem"), "nonsense\n", 9);
    bench_run_ms(b, 100);
    assert_true(b->identity.enrolled);
    assert_int_equal(b->fake.n_hellos, 1);
    bench_write_identity(b, 3600);
    bench_drain(b);
    assert_int_equal(b->fake.n_hellos, 2);
    assert_int_equal(b->fake.stored[0].n, 10);
    bench_fini(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uplink_enrols_first),
        cmocka_unit_test(uplink_keeps_the_secret_from_strangers),
        cmocka_unit_test(uplink_keeps_trying_to_enrol),
        cmocka_unit_test(uplink_renews_its_certificate),
        cmocka_unit_test(uplink_renews_after_expiry),
        cmocka_unit_test(uplink_takes_an_identity_that_appears),
        cmocka_unit_test(uplink_takes_a_new_identity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
