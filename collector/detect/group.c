/* Suspects in lockstep are one finding. A group forms around a pivot, the
 * fastest suspect that passes every test; then the member that says most
 * leads it. Ties go to the smaller id, so no order of tags matters. */
#include "collector/detect/host.h"

#include <math.h>
#include <stdlib.h>

#define FOLLOW_SHARE 0.01      /* of the pivot's slope: a follower's least */
#define LEAD_SHARE   0.05      /* of the fastest: a leader's least */
#define PINNED_SHARE (2 / 3.0) /* of the rest: most that it pins of caches */
#define CACHE_SHARE  8.0 /* reclaimable over the rest: a cache that fills */

static bool moves_slowly(const struct series *s)
{
    return s->n_slow >= SLOW_DAY && s->slow[s->n_slow - 1] > s->slow[0];
}

static uint32_t count_movers(const struct detect_host *h,
                             const struct scale *scale)
{
    uint32_t n = 0;

    if (scale == &h->fast) {
        return h->n_movers;
    }
    for (uint32_t i = 0; i < h->n_series; i++) {
        n += moves_slowly(&h->series[i]) ? 1 : 0;
    }
    return n;
}

int group_suspects(struct detect_host *h, const struct scale *scale,
                   struct suspect **list, uint32_t *n)
{
    uint32_t most = count_movers(h, scale);

    *n = 0;
    *list = NULL;
    if (most == 0) {
        return 0;
    }
    *list = h->settings.reallocate(NULL, most * sizeof **list);
    if (*list == NULL) {
        return PSC_NOMEM;
    }
    for (uint32_t i = 0; i < h->n_series; i++) {
        const struct series *s = &h->series[i];
        struct trend_points p;
        bool fast = scale == &h->fast;
        if (fast ? s->mover == SERIES_STILL : !moves_slowly(s)) {
            continue;
        }
        host_points(h, scale, s, &p);
        struct suspect *out = *list + *n;
        if (fast ? suspect_fast(&h->settings, h->total_bytes, s, &p, out)
                 : suspect_slow(&h->settings, s, &p, out)) {
            const struct swing *w = fast ? swing_of(h, s->id) : NULL;
            if (w != NULL && swing_explains(w, &p, scale->length_us, out)) {
                out->leads = false;
            }
            out->series = i;
            ++*n;
        }
    }
    return 0;
}

/* Whether @a comes before @b: faster, or of smaller id. */
static bool precedes(const struct detect_host *h, const struct suspect *a,
                     const struct suspect *b)
{
    if (a->slope != b->slope) {
        return a->slope > b->slope;
    }
    return h->series[a->series].id < h->series[b->series].id;
}

uint32_t group_pivot(const struct detect_host *h, const struct suspect *list,
                     uint32_t n)
{
    uint32_t best = n;

    for (uint32_t i = 0; i < n; i++) {
        if (list[i].leads && !list[i].taken &&
            (best == n || precedes(h, &list[i], &list[best]))) {
            best = i;
        }
    }
    return best;
}

/* Whether @a stands before @b in a group: what can be reclaimed comes last. */
static bool stands_before(const struct detect_host *h, const struct suspect *a,
                          const struct suspect *b)
{
    int last_a = h->series[a->series].flags & SERIES_RECLAIMABLE;
    int last_b = h->series[b->series].flags & SERIES_RECLAIMABLE;

    return last_a != last_b ? last_a < last_b : precedes(h, a, b);
}

/* Insert in order behind the pivot; beyond the maximum the last drops. */
static void insert(const struct detect_host *h, const struct suspect *list,
                   struct group *g, uint32_t member)
{
    uint32_t at = g->n;

    while (at > 1 &&
           stands_before(h, &list[member], &list[g->member[at - 1]])) {
        at--;
    }
    if (at == DETECT_TAGS_MAX) {
        return;
    }
    g->n += g->n < DETECT_TAGS_MAX ? 1 : 0;
    for (uint32_t i = g->n - 1; i > at; i--) {
        g->member[i] = g->member[i - 1];
    }
    g->member[at] = member;
}

/* Bring the leader to the front: the fastest that is neither reclaimable nor
 * generic and no trifle in the group, or else the pivot. Every member grows
 * with the pivot, which passes every test; the leader need not. */
static void put_leader_first(const struct detect_host *h,
                             const struct suspect *list, struct group *g)
{
    uint32_t best = 0; /* place in the group; the pivot's */
    double most = 0;   /* slope of what cannot be reclaimed */
    double lead = 0;   /* and is not generic either */

    for (uint32_t i = 0; i < g->n; i++) {
        const struct suspect *s = &list[g->member[i]];
        uint8_t flags = h->series[s->series].flags;
        if ((flags & SERIES_RECLAIMABLE) != 0) {
            continue;
        }
        most = fmax(most, s->slope);
        if ((flags & SERIES_GENERIC) == 0 && s->slope > lead) {
            best = i;
            lead = s->slope;
        }
    }
    if (lead < LEAD_SHARE * most) {
        return;
    }
    uint32_t leader = g->member[best];
    for (uint32_t i = best; i > 0; i--) {
        g->member[i] = g->member[i - 1];
    }
    g->member[0] = leader;
}

void group_gather(const struct detect_host *h, const struct scale *scale,
                  struct suspect *list, uint32_t n, uint32_t pivot,
                  struct group *g)
{
    struct trend_points own;

    host_points(h, scale, &h->series[list[pivot].series], &own);
    g->n = 1;
    g->member[0] = pivot;
    list[pivot].taken = true;
    for (uint32_t i = 0; i < n; i++) {
        struct trend_points other;
        if (list[i].taken || list[i].slope < FOLLOW_SHARE * list[pivot].slope) {
            continue;
        }
        host_points(h, scale, &h->series[list[i].series], &other);
        if (suspect_lockstep(&list[pivot], &own, &list[i], &other,
                             scale->period)) {
            list[i].taken = true;
            insert(h, list, g, i);
        }
    }
    put_leader_first(h, list, g);
}

double growth_counted(const struct growth *g)
{
    return g->rest + fmin(g->reclaimable, PINNED_SHARE * g->rest);
}

void growth_add(struct growth *g, const struct series *s, double rate)
{
    if ((s->flags & SERIES_RECLAIMABLE) != 0) {
        g->reclaimable += fmax(rate, 0);
    } else {
        g->rest += fmax(rate, 0);
    }
}

double group_growth(const struct detect_host *h, const struct suspect *list,
                    const struct group *g)
{
    double most = 0;

    for (uint32_t i = 0; i < g->n; i++) {
        uint8_t pool = h->series[list[g->member[i]].series].pool;
        struct growth sum = {0};
        for (uint32_t j = 0; j < g->n; j++) {
            const struct suspect *s = &list[g->member[j]];
            const struct series *own = &h->series[s->series];
            if (own->pool == pool) {
                growth_add(&sum, own, s->slope);
            }
        }
        if (sum.reclaimable <= CACHE_SHARE * sum.rest) {
            most = fmax(most, growth_counted(&sum));
        }
    }
    return most;
}
