/* Which heartbeats of a host become a row. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "collector/heartbeat.h"
#include "common/clock.h"

#define NOW (1800000000LL * PSC_US_PER_S)
#define S   PSC_US_PER_S

static struct heartbeat h;
static unsigned n_saved;

static void hear(int64_t second, int64_t spool_bytes, int64_t dropped_batches)
{
    h.heard.seen_us = NOW + second * S;
    h.heard.spool_bytes = spool_bytes;
    h.heard.dropped_batches = dropped_batches;
}

/* As the flush does it. */
static bool flush(void)
{
    if (!heartbeat_due(&h)) {
        return false;
    }
    heartbeat_save(&h);
    assert_false(heartbeat_due(&h));
    n_saved++;
    return true;
}

static int begin(void **state)
{
    (void)state;
    heartbeat_begin(&h, 7, NOW);
    h.heard.clock_offset_us = 0;
    n_saved = 0;
    return 0;
}

/* A session whose first heartbeat has been told. */
static int begin_told(void **state)
{
    (void)begin(state);
    hear(0, 0, 0);
    assert_true(flush());
    n_saved = 0;
    return 0;
}

static void the_first_one_is_told(void **state)
{
    (void)state;
    assert_false(heartbeat_due(&h)); /* nothing was heard */
    hear(3, 100, 0);
    assert_true(flush());
    hear(5, 100, 0);
    assert_false(flush());
}

static void a_host_without_samples_costs_a_row_a_minute(void **state)
{
    (void)state;
    for (int64_t t = 10; t <= 600; t += 10) {
        hear(t, 0, 0);
        (void)flush();
        assert_true(h.heard.seen_us - h.known_us < 60 * S);
    }
    assert_int_equal(n_saved, 10);
}

static void samples_say_that_a_host_lives(void **state)
{
    (void)state;
    for (int64_t t = 10; t <= 600; t += 10) {
        if (t % 60 == 0) {
            heartbeat_note_sample(&h, NOW + t * S);
        }
        hear(t + 5, 0, 0);
        (void)flush();
    }
    assert_int_equal(n_saved, 1); /* after ten minutes all the same */
    /* Old ones, from a spool, say nothing of now. */
    for (int64_t t = 620; t <= 680; t += 10) {
        heartbeat_note_sample(&h, NOW + (t - 86400) * S);
        hear(t, 0, 0);
        (void)flush();
    }
    assert_int_equal(n_saved, 2);
}

static void what_people_look_at_is_told_at_once(void **state)
{
    (void)state;
    hear(1, 1, 0);
    assert_true(flush());
    hear(2, 5000, 0);
    assert_false(flush());
    hear(3, 5000, 1);
    assert_true(flush());
    hear(4, 0, 1);
    assert_true(flush());
}

static void what_moves_is_told_within_a_minute(void **state)
{
    (void)state;
    hear(1, 1, 0);
    assert_true(flush());
    for (int64_t t = 10; t <= 60; t += 10) {
        heartbeat_note_sample(&h, NOW + t * S);
        hear(t, 70000, 0);
        assert_false(flush());
    }
    hear(61, 70000, 0);
    assert_true(flush());
    for (int64_t t = 70; t <= 130; t += 10) {
        heartbeat_note_sample(&h, NOW + t * S);
        hear(t, 70000, 0);
        h.heard.clock_offset_us = 200000;
        assert_int_equal(flush(), t == 130);
    }
}

static void the_last_one_is_told_if_it_is_news(void **state)
{
    (void)state;
    hear(10, 0, 0);
    assert_false(flush());
    heartbeat_end(&h);
    assert_true(flush());

    (void)begin_told(state);
    hear(10, 0, 0);
    heartbeat_note_sample(&h, NOW + 11 * S);
    heartbeat_end(&h);
    assert_false(flush());
}

static void what_was_not_taken_is_told_again(void **state)
{
    (void)state;
    hear(10, 0, 0);
    assert_false(heartbeat_due(&h));
    heartbeat_forget_saved(&h);
    assert_true(flush());
}

/* Ours, by an hour: then what is known lies ahead. */
static void a_clock_put_back_stops_nothing(void **state)
{
    (void)state;
    hear(-3600, 0, 0);
    assert_true(flush());
    hear(-3590, 0, 0);
    assert_false(flush());
    hear(-3540, 0, 0);
    assert_true(flush());
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, begin_told)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_first_one_is_told, begin),
        TEST(a_host_without_samples_costs_a_row_a_minute),
        TEST(samples_say_that_a_host_lives),
        TEST(what_people_look_at_is_told_at_once),
        TEST(what_moves_is_told_within_a_minute),
        TEST(the_last_one_is_told_if_it_is_news),
        TEST(what_was_not_taken_is_told_again),
        TEST(a_clock_put_back_stops_nothing),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
