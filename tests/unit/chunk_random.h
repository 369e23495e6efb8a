/* Random tables for tests of chunks: what comes, goes, changes its flags, jumps
 * or stays. Seeded. Included after chunk_pair.h. */
#ifndef PSC_TESTS_CHUNK_RANDOM_H
#define PSC_TESTS_CHUNK_RANDOM_H

#include "tests/unit/chunk_pair.h"

static uint64_t seed;

static uint64_t any(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static uint32_t below(uint32_t n)
{
    return (uint32_t)((any() >> 33) % n);
}

/* A number of any length, now and then negative. */
static int64_t number(void)
{
    int64_t v = (int64_t)(any() >> (3 + below(61)));

    return below(6) == 0 ? -v : v;
}

static uint8_t some_flags(uint32_t columns)
{
    static const uint8_t likely[] = {15, 15, 12, 12, 12 | ENTRY_RECLAIMABLE,
                                     11, 7};
    uint8_t flags = likely[below(sizeof(likely))];

    if (below(8) == 0) {
        flags = (uint8_t)below(64);
    }
    if (columns == 1) {
        return below(3) == 0 ? ENTRY_REAL : 0;
    }
    return flags;
}

static void put_new(struct cell *c, uint32_t columns)
{
    *c = (struct cell){.present = true, .flags = some_flags(columns)};
    c->values[COL_ALLOCS] = number();
    c->values[COL_OUTSTANDING] = number() / 4;
    c->values[COL_FREES] = c->values[COL_ALLOCS] / 2;
    c->values[COL_BYTES] = below(2) == 0 ? number()
                                         : c->values[COL_OUTSTANDING] % 10000 *
                                               (int64_t)below(300);
}

static int64_t bounded(int64_t v)
{
    return v % (CHUNK_VALUE_LIMIT / 2);
}

static void move(struct cell *c, uint32_t columns)
{
    uint32_t how = below(20);
    if (how == 0) {
        put_new(c, columns);
        return;
    }
    if ((c->flags & ENTRY_REAL) != 0) {
        c->values[below(columns)] ^= (int64_t)(any() >> below(64));
        return;
    }
    int64_t allocs = below(1u << below(20));
    int64_t more = (int64_t)below((uint32_t)allocs + 1) - allocs / 2;
    c->values[COL_ALLOCS] = bounded(c->values[COL_ALLOCS] + allocs);
    c->values[COL_FREES] = bounded(c->values[COL_FREES] + allocs - more);
    c->values[COL_OUTSTANDING] = bounded(c->values[COL_OUTSTANDING] + more);
    c->values[COL_BYTES] =
        bounded(c->values[COL_BYTES] + more * (how < 10 ? 96 : 4096));
}

static void fill(struct run *r)
{
    const uint32_t often = 1 + below(20), goes = 1 + below(400);

    for (uint32_t id = 1; id <= r->ids; id++) {
        uint32_t rate = 1 + below(often) * below(often);
        for (uint32_t s = 0; s < r->snapshots; s++) {
            struct cell *now = cell(r, s, id);
            if (s > 0) {
                *now = *cell(r, s - 1, id);
            }
            if (s == 0 ? below(5) != 0 : below(goes * 2) == 0) {
                put_new(now, r->columns);
            } else if (now->present && below(goes) == 0) {
                *now = (struct cell){.present = false};
            } else if (now->present && below(rate) == 0) {
                move(now, r->columns);
            }
        }
    }
    for (uint32_t s = 1; s < r->snapshots; s++) {
        r->n[s] = r->n[s - 1] + 1 + (below(2) == 0 ? 0 : below(9));
        r->at_us[s] += below(2000);
        r->wall_us[s] = r->at_us[s] + below(1u << below(16));
        r->boots[s] = (uint8_t)(r->boots[s - 1] + (below(200) == 0));
    }
}

#endif
