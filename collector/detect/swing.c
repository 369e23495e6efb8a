/* Series whose findings fell back.
 *
 * Memory that is used up and given back again and again is a swing, and its
 * heights are normal; but a leak that ended may begin again, and must be found
 * below its earlier height too. What tells them apart is what lies between: a
 * swing climbs on from the moment it fell, a new leak begins after a rest. */
#include "collector/detect/swing.h"

#include <math.h>

#include "collector/detect/host.h"

#define FALLS_LEAK   1    /* that any leak may have */
#define FALLS_RESTED 8    /* that one may have which began after a rest */
#define REST_WINDOWS 2.0  /* least rest … */
#define REST_SHARE   0.15 /* … and as a share of the time since the fall */
#define BUMP         0.1F /* of its height: what climbed less is no climb */
#define DOWN         0.3F /* of a climb left: it came down */

const struct swing *swing_of(const struct detect_host *h, uint32_t id)
{
    for (uint32_t i = 0; i < h->n_swings; i++) {
        if (h->swings[i].id == id) {
            return &h->swings[i];
        }
    }
    return NULL;
}

/* The place of tag @id in the list, new, or that of the oldest. */
static struct swing *swing_place(struct detect_host *h, uint32_t id)
{
    uint32_t oldest = 0;

    for (uint32_t i = 0; i < h->n_swings; i++) {
        if (h->swings[i].id == id) {
            return &h->swings[i];
        }
        oldest = h->swings[i].fell_us < h->swings[oldest].fell_us ? i : oldest;
    }
    if (h->n_swings == SWINGS_MAX) {
        h->swings[oldest] = (struct swing){.id = id};
        return &h->swings[oldest];
    }
    if (host_reserve(h, &h->swings, &h->cap_swings, h->n_swings,
                     sizeof *h->swings) != 0) {
        h->starved = true;
        return NULL;
    }
    struct swing *w = &h->swings[h->n_swings++];
    *w = (struct swing){.id = id};
    return w;
}

static void down(const struct detect_host *h, struct swing *w, float floor)
{
    w->fell_us = h->at_us;
    w->low = floor;
    w->high = floor;
}

void swing_fell(struct detect_host *h, const struct series *s,
                const struct mover *m)
{
    struct swing *w = isnan(s->floor) ? NULL : swing_place(h, s->id);

    if (w == NULL) {
        return;
    }
    w->falls++;
    down(h, w, s->floor);
    for (uint32_t i = 0; m != NULL && i < m->n; i++) {
        w->top = fmaxf(w->top, m->y[i]);
    }
}

void swing_window(struct detect_host *h)
{
    for (uint32_t i = 0; i < h->n_swings; i++) {
        struct swing *w = &h->swings[i];
        const struct series *s = host_find(h, w->id);
        if (s == NULL || isnan(s->floor)) {
            continue;
        }
        w->high = fmaxf(w->high, s->floor);
        float climbed = w->high - w->low;
        if (climbed > BUMP * (w->top - w->low) &&
            s->floor - w->low <= DOWN * climbed) {
            down(h, w, s->floor);
        }
    }
}

bool swing_explains(const struct swing *w, const struct trend_points *p,
                    int64_t window_us, const struct suspect *climb)
{
    double now = p->y[p->n - 1];

    if (w->falls <= FALLS_LEAK ||
        now > (double)w->top + series_band((double)w->top)) {
        return false;
    }
    /* At the climb's pace what was gained since the fall took so long; the
     * rest of the time it rested. */
    double since = p->x[p->n - 1] + 1 - (double)w->fell_us / (double)window_us;
    double rest = since - (now - (double)w->low) / climb->slope;
    return w->falls > FALLS_RESTED ||
           rest < fmax(REST_WINDOWS, REST_SHARE * since);
}
