/* The snapshot codec at random: sources put, hold, drop and rename entries,
 * samples are thrown away, keyframes come whole and in parts; at each tick the
 * decoder has what the encoder has and what a plain model says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/table.h"
#include "tests/unit/table_pair.h"

static uint64_t seed;

static uint32_t any(uint32_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 32) % below;
}

enum { N_KEYS = 3000, N_OWNERS = 3, WINDOW = 40 };

/* What the decoder should show. */
struct model {
    bool live[N_KEYS];
    uint8_t flags[N_KEYS];
    int64_t values[N_KEYS][TABLE_COLUMNS_MAX];
};

static size_t make_key(uint32_t id, char *key)
{
    size_t len = (size_t)snprintf(key, TABLE_KEY_MAX_BYTES, "%ckey-%u-",
                                  (int)(id % 6), id);
    size_t more = id % 50 == 0 ? TABLE_KEY_MAX_BYTES - len : id % 5;
    memset(key + len, (int)(id % 256), more);
    return len + more;
}

static int64_t vary(int64_t v)
{
    switch (any(8)) {
    case 0: return (int64_t)((uint64_t)any(UINT32_MAX) << 32 | any(1000));
    case 1: return (int64_t)((uint64_t)v + ((uint64_t)any(9) - 4) * 4096);
    case 2: return (int64_t)((uint64_t)v + any(200) - 100);
    default: return v;
    }
}

static void put_model(struct table *t, struct model *m, uint32_t id)
{
    char key[TABLE_KEY_MAX_BYTES];
    size_t len = make_key(id, key);
    uint8_t flags = (uint8_t)(id * 7 % 64);
    if (any(2000) == 0) {
        flags ^= ENTRY_RECLAIMABLE;
    }
    int64_t values[TABLE_COLUMNS_MAX] = {0};
    for (unsigned c = 0; c < t->columns; c++) {
        values[c] = vary(m->values[id][c]);
    }
    assert_int_equal(
        table_put(t, (uint8_t)(id % N_OWNERS), key, len, flags, values),
        PSC_OK);
    uint32_t i = psc_map_find(&t->names, key, len);
    assert_int_not_equal(i, PSC_MAP_NONE);
    m->live[id] = true;
    m->flags[id] = flags;
    for (unsigned c = 0; c < t->columns; c++) {
        bool has = t->columns == 1 || (flags >> c & 1) != 0;
        m->values[id][c] = has ? values[c] : 0;
    }
    if (t->columns > 1 && (flags & (ENTRY_REAL | 7)) == 7) {
        m->values[id][COL_OUTSTANDING] =
            (int64_t)((uint64_t)values[COL_ALLOCS] -
                      (uint64_t)values[COL_FREES]);
    }
}

static void random_sample(struct table *t, struct model *m, uint32_t base)
{
    table_begin(t);
    for (uint32_t owner = 0; owner < N_OWNERS; owner++) {
        uint32_t action = any(10);
        if (action == 0) {
            table_hold(t, (uint8_t)owner);
            continue;
        }
        for (uint32_t id = owner; id < N_KEYS; id += N_OWNERS) {
            m->live[id] = false;
        }
        uint32_t drop = any(3) == 0 ? 4 : 100;
        for (uint32_t i = 0; i < WINDOW && action != 1; i++) {
            uint32_t id = (base + i) * N_OWNERS + owner;
            if (id < N_KEYS && any(drop) != 0) {
                put_model(t, m, id);
            }
        }
    }
}

static void assert_model(const struct decoded *d, const struct model *m)

{
    uint32_t n_live = 0;
    for (uint32_t id = 0; id < N_KEYS; id++) {
        if (!m->live[id]) {
            continue;
        }
        char key[TABLE_KEY_MAX_BYTES];
        size_t len = make_key(id, key);
        uint32_t i = psc_map_find(&d->names, key, len);
        assert_int_not_equal(i, PSC_MAP_NONE);
        assert_true(d->grid.entries[i].live);
        assert_int_equal(d->grid.entries[i].flags, m->flags[id]);
        assert_memory_equal(grid_values(&d->grid, i), m->values[id],
                            d->grid.columns * sizeof(int64_t));
        n_live++;
    }
    assert_int_equal(d->grid.n_live, n_live);
}

static void run_random(uint32_t columns, unsigned ticks)
{
    struct pair p;
    start(&p, columns);
    struct model *m = calloc(1, sizeof(*m));
    assert_non_null(m);
    unsigned in_parts = 0, asked = 0;
    for (unsigned tick = 0; tick < ticks; tick++) {
        do {
            random_sample(&p.from, m, tick / 4);
        } while (any(10) == 0);
        size_t budget = TABLE_BUDGET_MIN_BYTES + any(4000);
        int rc = -PSC_NEED_KEYFRAME;
        if (any(50) != 0) {
            rc = send(&p, false, budget);
            asked += rc < 0;
        }
        if (rc < 0) {
            rc = send(&p, true, budget);
        }
        assert_true(rc > 0);
        in_parts += rc > 1;
        assert_model(&p.to, m);
    }
    print_message("%u ticks: %u keyframes in parts, %u asked for\n", ticks,
                  in_parts, asked);
    assert_true(in_parts > 0 && asked > 0);
    free(m);
    stop(&p);
}

static void random_samples_arrive_as_they_were(void **state)
{
    (void)state;
    for (unsigned run = 0; run < 4; run++) {
        seed = 88172645463325252u + run;
        run_random(TABLE_COLUMNS_MAX, 2500);
        run_random(1, 2500);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_samples_arrive_as_they_were),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
