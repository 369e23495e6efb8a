/* The arithmetic of a leak test. See leaktest_plan.h. */
#include "cli/leaktest_plan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/units.h"

/* A tag is part of the leak if, of its growths in all rounds, the second
 * smallest is at least this part of the second largest … */
#define EVEN_MIN 0.5
/* … and if it has at least this part of the whole. */
#define SHARE_MIN 0.01

/* Bytes in use of the @i-th tag of @of, in another reading. */
static double bytes_in(const struct reading *r, const struct reading *of,
                       uint32_t i)
{
    const struct reading_tag *tag = reading_same(r, of, i);
    double slot_bytes = of->tags[i].slot_bytes;

    if (!tag) {
        return 0;
    }
    return slot_bytes > 0 ? (double)tag->outstanding * slot_bytes
                          : (double)tag->bytes;
}

static int by_cost(const void *left, const void *right)
{
    const struct leak_share *a = left;
    const struct leak_share *b = right;

    if (a->counted != b->counted) {
        return a->counted ? -1 : 1;
    }
    return (a->object_bytes < b->object_bytes) -
           (a->object_bytes > b->object_bytes);
}

/* Keep @share among the LEAK_SHARES_MAX largest. */
static void keep(struct leak_plan *plan, const struct leak_share *share)
{
    if (plan->n_shares < LEAK_SHARES_MAX) {
        plan->shares[plan->n_shares++] = *share;
    } else if (by_cost(share, &plan->shares[LEAK_SHARES_MAX - 1]) < 0) {
        plan->shares[LEAK_SHARES_MAX - 1] = *share;
    }
    qsort(plan->shares, plan->n_shares, sizeof *plan->shares, by_cost);
}

static void sum_up(struct leak_plan *plan)
{
    plan->object_bytes = 0;
    for (size_t i = 0; i < plan->n_shares; i++) {
        if (plan->shares[i].counted) {
            plan->object_bytes += plan->shares[i].object_bytes;
        }
    }
    for (size_t i = 0; i < plan->n_shares; i++) {
        plan->shares[i].share =
            plan->object_bytes > 0
                ? plan->shares[i].object_bytes / plan->object_bytes
                : 0;
    }
}

static int by_size(const void *left, const void *right)
{
    double a = *(const double *)left;
    double b = *(const double *)right;

    return (a > b) - (a < b);
}

/* Bytes that one round's objects cost in the @i-th tag of the last reading;
 * 0 if the rounds disagree. */
static double growth(const struct reading r[LEAK_READINGS], uint32_t i)
{
    const struct reading *last = &r[LEAK_READINGS - 1];
    double net[LEAK_ROUNDS];

    for (size_t round = 0; round < LEAK_ROUNDS; round++) {
        double begin = bytes_in(&r[2 * round], last, i);
        double idle = bytes_in(&r[2 * round + 1], last, i);
        double end = bytes_in(&r[2 * round + 2], last, i);
        net[round] = (end - idle) - (idle - begin);
    }
    qsort(net, LEAK_ROUNDS, sizeof *net, by_size);
    double low = net[1];
    double high = net[LEAK_ROUNDS - 2];
    return low > 0 && low >= high * EVEN_MIN
               ? (net[LEAK_ROUNDS / 2 - 1] + net[LEAK_ROUNDS / 2]) / 2
               : 0;
}

/* Drop what is too little to matter. */
static void sift(struct leak_plan *plan)
{
    size_t n = 0;

    sum_up(plan);
    for (size_t i = 0; i < plan->n_shares; i++) {
        if (plan->shares[i].share >= SHARE_MIN) {
            plan->shares[n++] = plan->shares[i];
        }
    }
    plan->n_shares = n;
    sum_up(plan);
}

int leak_plan_measure(struct leak_plan *plan,
                      const struct reading r[LEAK_READINGS], int64_t objects,
                      bool unaccounted, struct psc_error *err)
{
    const struct reading *last = &r[LEAK_READINGS - 1];

    memset(plan, 0, sizeof *plan);
    for (uint32_t i = 0; i < reading_count(last); i++) {
        enum pool pool = reading_pool(last, i);
        double bytes = growth(r, i);
        if (bytes <= 0 || (pool == POOL_PAGES && !unaccounted)) {
            continue;
        }
        struct leak_share share = {
            .pool = pool,
            .object_bytes = bytes / (double)objects,
            .counted = pool != POOL_ALLOC,
        };
        struct psc_bytes text = reading_text(last, i);
        snprintf(share.tag, sizeof share.tag, "%.*s", (int)text.len,
                 (const char *)text.data);
        keep(plan, &share);
    }
    sift(plan);
    if (plan->object_bytes <= 0) {
        return psc_error_set(err, PSC_FORMAT,
                             "%lld objects made no tag grow evenly; is the "
                             "machine too busy to measure?",
                             (long long)objects);
    }
    return 0;
}

int64_t leak_plan_due(const struct leak_plan *plan, int64_t bytes_per_s,
                      int64_t elapsed_us, int64_t max)
{
    double due =
        (double)bytes_per_s * (double)elapsed_us / 1e6 / plan->object_bytes;

    if (due >= (double)max) {
        return max;
    }
    return due > 0 ? (int64_t)due : 0;
}

static const struct reading_tag *find(const struct leak_share *share,
                                      const struct reading *r)
{
    uint8_t key[sizeof share->tag + 1];
    size_t len = strlen(share->tag);

    key[0] = (uint8_t)share->pool;
    memcpy(key + 1, share->tag, len);
    uint32_t i = psc_map_find(&r->names, key, len + 1);
    return i == PSC_MAP_NONE ? NULL : &r->tags[i];
}

int64_t leak_share_held(const struct leak_share *share, const struct reading *r)
{
    const struct reading_tag *tag = find(share, r);

    return tag ? tag->bytes : 0;
}

void leak_share_note_free(struct leak_share *share, const struct reading *r)
{
    const struct reading_tag *tag = find(share, r);

    share->free_bytes =
        tag ? (int64_t)((double)tag->free_slots * tag->slot_bytes) : 0;
}

int64_t leak_plan_held(const struct leak_plan *plan, const struct reading *r)
{
    int64_t sum = 0;

    for (size_t i = 0; i < plan->n_shares; i++) {
        if (plan->shares[i].counted) {
            sum += leak_share_held(&plan->shares[i], r);
        }
    }
    return sum;
}

int leak_ceiling(int64_t available_bytes, int percent, int64_t *limit_bytes,
                 struct psc_error *err)
{
    int64_t ceiling = available_bytes / 100 * percent;

    if (*limit_bytes > ceiling) {
        return psc_error_set(
            err, PSC_CONFIG,
            "--limit %s is more than %d %% of the %s that are available "
            "(%s): ask for less, or raise --ceiling",
            unit_bytes((double)*limit_bytes).text, percent,
            unit_bytes((double)available_bytes).text,
            unit_bytes((double)ceiling).text);
    }
    if (*limit_bytes == 0) {
        *limit_bytes = ceiling;
    }
    return 0;
}
