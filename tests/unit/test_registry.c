/* The fleet's names and their ids. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "collector/registry.h"
#include "common/clock.h"
#include "proto/table.h"

#define DAY (86400 * PSC_US_PER_S)

static struct psc_bytes key(const char *text)
{
    struct psc_bytes b = {(const uint8_t *)text, strlen(text)};
    return b;
}

static uint32_t add(struct registry *r, const char *text, uint8_t flags)
{
    uint32_t index;
    assert_int_equal(registry_add(r, key(text), flags, NULL, &index), PSC_OK);
    return index;
}

static void registry_waits_for_ids(void **state)
{
    (void)state;
    struct registry r;
    registry_init(&r, 100, 10000);
    uint32_t a = add(&r, "\003dentry", TAG_BYTES);
    uint32_t b = add(&r, "\003filp", TAG_BYTES);
    assert_int_not_equal(a, b);
    assert_int_equal(add(&r, "\003dentry", TAG_BYTES), a);
    assert_int_equal(registry_id(&r, a), 0);
    registry_learn(&r, a, 7, TAG_BYTES);
    assert_int_equal(registry_id(&r, a), 7);
    assert_int_equal(registry_id(&r, b), 0);
    assert_memory_equal(registry_key(&r, b).data, "\003filp", 5);
    registry_fini(&r);
}

static void registry_interns_new_flags(void **state)
{
    (void)state;
    struct registry r;
    registry_init(&r, 100, 10000);
    uint32_t a = add(&r, "a", TAG_BYTES);
    registry_learn(&r, a, 7, TAG_BYTES);
    (void)add(&r, "a", TAG_BYTES | ENTRY_RECLAIMABLE);
    assert_int_equal(registry_id(&r, a), 0);
    registry_learn(&r, a, 7, TAG_BYTES | ENTRY_RECLAIMABLE);
    (void)add(&r, "a", TAG_BYTES);
    assert_int_equal(registry_id(&r, a), 7);
    registry_fini(&r);
}

static void registry_asks_again_after_long(void **state)
{
    (void)state;
    struct registry r;
    registry_init(&r, 100, 10000);
    registry_day(&r, 1000 * DAY);
    uint32_t a = add(&r, "a", 0);
    uint32_t full = add(&r, "full", 0);
    registry_learn(&r, a, 7, 0);
    registry_learn(&r, full, 0, 0);
    assert_int_equal(registry_id(&r, full), -1);
    registry_day(&r, 1020 * DAY);
    assert_int_equal(registry_id(&r, full), 0);
    assert_int_equal(registry_id(&r, a), 7);
    registry_day(&r, 1041 * DAY);
    assert_int_equal(registry_id(&r, a), 0);
    registry_learn(&r, a, 9, 0);
    registry_forget_ids(&r);
    assert_int_equal(registry_id(&r, a), 0);
    registry_fini(&r);
}

static void registry_bounds_what_a_host_brings(void **state)
{
    (void)state;
    struct registry r;
    struct registry_quota quota = {0, 0};
    registry_init(&r, 1000000, 100000000);
    registry_day(&r, 1000 * DAY);
    (void)add(&r, "known to all", 0);
    uint32_t index;
    for (unsigned i = 0; i < REGISTRY_NEW_PER_DAY; i++) {
        char text[32];
        (void)snprintf(text, sizeof(text), "tag%u", i);
        assert_int_equal(registry_add(&r, key(text), 0, &quota, &index),
                         PSC_OK);
    }
    assert_int_equal(registry_add(&r, key("one more"), 0, &quota, &index),
                     PSC_LIMIT);
    assert_int_equal(index, REGISTRY_NONE);
    assert_int_equal(r.n_refused, 1);
    /* Known names cost nothing, and tomorrow is another day. */
    assert_int_equal(registry_add(&r, key("known to all"), 0, &quota, &index),
                     PSC_OK);
    registry_day(&r, 1001 * DAY);
    assert_int_equal(registry_add(&r, key("one more"), 0, &quota, &index),
                     PSC_OK);
    registry_fini(&r);
}

static void registry_is_capped(void **state)
{
    (void)state;
    struct registry r;
    registry_init(&r, 2, 10000);
    (void)add(&r, "a", 0);
    (void)add(&r, "b", 0);
    uint32_t index;
    assert_int_equal(registry_add(&r, key("c"), 0, NULL, &index), PSC_LIMIT);
    assert_int_equal(registry_add(&r, key("b"), 0, NULL, &index), PSC_OK);
    assert_true(registry_bytes(&r) > 0);
    registry_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(registry_waits_for_ids),
        cmocka_unit_test(registry_interns_new_flags),
        cmocka_unit_test(registry_asks_again_after_long),
        cmocka_unit_test(registry_bounds_what_a_host_brings),
        cmocka_unit_test(registry_is_capped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
