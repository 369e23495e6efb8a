/* Forgetting names that nobody uses: those in use get other indices, wherever
 * these are held, and go on meaning what they meant. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/session_private.h"
#include "collector/sweep.h"
#include "common/clock.h"

#define DAY (86400 * PSC_US_PER_S)

enum { NAMES = 3000 };

static struct sessions all;
static struct ingest ingest;
static struct metrics metrics;

static uint32_t add(const char *text)
{
    uint32_t index;
    struct psc_bytes key = {(const uint8_t *)text, strlen(text)};
    assert_int_equal(registry_add(&all.decode.tags, key, 0, NULL, &index),
                     PSC_OK);
    return index;
}

static const char *name(unsigned i)
{
    static char text[32];
    (void)snprintf(text, sizeof(text), "\3name-%u", i);
    return text;
}

static void expect(uint32_t index, unsigned i)
{
    struct psc_bytes key = registry_key(&all.decode.tags, index);
    assert_int_equal(key.len, strlen(name(i)));
    assert_memory_equal(key.data, name(i), key.len);
}

static int setup(void **state)
{
    (void)state;
    memset(&all, 0, sizeof(all));
    memset(&ingest, 0, sizeof(ingest));
    all.ingest = &ingest;
    all.metrics = &metrics;
    decode_shared_init(&all.decode);
    registry_day(&all.decode.tags, 1000 * DAY);
    registry_day(&all.decode.counters, 1000 * DAY);
    for (unsigned i = 0; i < NAMES; i++) {
        assert_int_equal(add(name(i)), i);
        registry_learn(&all.decode.tags, i, (int32_t)i + 1, 0);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    decode_shared_fini(&all.decode);
    return 0;
}

static void names_in_use_stay_what_they_are(void **state)
{
    (void)state;
    struct session *s = calloc(1, sizeof(*s));
    struct decode *d = calloc(1, sizeof(*d));
    static const uint32_t refs[] = {7, REGISTRY_NONE, 2999};
    uint32_t queued[] = {100, 7, REGISTRY_NONE};
    uint32_t in_flight[] = {1};
    struct batch waits = {.tags = {.n_names = 3, .local = queued}};
    struct batch flies = {.tags = {.n_names = 1, .local = in_flight}};
    assert_non_null(s);
    assert_non_null(d);
    decode_init(d, NULL);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(grid_add(&d->tags.grid, refs[i], 0), PSC_OK);
    }
    const struct grid_entry *e = d->tags.grid.entries;
    s->decode = d;
    s->queue.head = &waits;
    all.first = s;
    ingest.unit[0] = &flies;
    ingest.n_unit = 1;
    ingest.phase = INGEST_INTERN;
    ingest.intern.index[0] = 55;
    ingest.intern.n = 1;

    assert_int_equal(sweep_names(&all, false, 0), NAMES - 5);
    expect(e[0].ref, 7);
    assert_int_equal(e[1].ref, REGISTRY_NONE);
    expect(e[2].ref, 2999);
    expect(queued[0], 100);
    expect(queued[1], 7);
    assert_int_equal(queued[2], REGISTRY_NONE);
    expect(in_flight[0], 1);
    expect(ingest.intern.index[0], 55);
    assert_int_equal(registry_id(&all.decode.tags, e[2].ref), 3000);
    assert_int_equal(registry_id(&all.decode.tags, in_flight[0]), 2);

    /* The others are as if they had never been, and may come back. */
    uint32_t back = add(name(500));
    assert_int_equal(back, 5);
    assert_int_equal(registry_id(&all.decode.tags, back), 0);
    for (unsigned i = 0; i < NAMES; i++) {
        expect(add(name(i)), i);
    }
    assert_int_equal(all.decode.tags.keys.count, NAMES);
    decode_fini(d);
    free(d);
    free(s);
}

static void names_lately_used_stay(void **state)
{
    (void)state;
    struct sweep sweep = {.day = 0};
    registry_day(&all.decode.tags, 1010 * DAY);
    for (uint32_t i = 0; i < 10; i++) {
        assert_true(registry_id(&all.decode.tags, i) > 0);
    }
    sweep_tick(&sweep, &all);
    assert_int_equal(all.decode.tags.keys.count, NAMES);
    registry_day(&all.decode.tags, 1021 * DAY);
    sweep_tick(&sweep, &all);
    assert_int_equal(all.decode.tags.keys.count, 10);
    expect(9, 9);
}

static void a_full_registry_makes_room(void **state)
{
    (void)state;
    struct sweep sweep = {.day = all.decode.tags.today};
    sweep_tick(&sweep, &all);
    assert_int_equal(all.decode.tags.keys.count, NAMES);
    all.decode.tags.keys.max = NAMES; /* full */
    sweep_tick(&sweep, &all);
    assert_int_equal(all.decode.tags.keys.count, 0);
    for (unsigned i = 0; i < NAMES; i++) {
        assert_int_equal(add(name(i)), i);
    }
    sweep_tick(&sweep, &all); /* not again so soon */
    assert_int_equal(all.decode.tags.keys.count, NAMES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(names_in_use_stay_what_they_are, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(names_lately_used_stay, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_full_registry_makes_room, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
