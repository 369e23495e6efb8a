/* Mark what is in use, drop the rest, give everybody the new indices: two
 * walks over all that holds local indices of a registry. */
#include "collector/sweep.h"

#include <inttypes.h>
#include <stdlib.h>

#include "collector/session_private.h"
#include "common/clock.h"
#include "common/log.h"

#define TIGHT_EVERY_US (3600 * PSC_US_PER_S)

/* ---- walking ---- */

struct walk {
    bool counters;   /* else tags */
    bool marking;    /* else changing */
    uint32_t *moved; /* by old index */
};

static void visit(const struct walk *w, uint32_t *index, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (index[i] == REGISTRY_NONE) {
            continue;
        }
        if (w->marking) {
            w->moved[index[i]] = 0;
        } else {
            index[i] = w->moved[index[i]];
        }
    }
}

static void visit_batch(const struct walk *w, struct batch *b)
{
    struct batch_table *t = w->counters ? &b->counters : &b->tags;
    visit(w, t->local, t->n_names);
}

static void visit_session(const struct walk *w, struct session *s)
{
    for (struct batch *b = s->queue.head; b != NULL; b = b->next) {
        visit_batch(w, b);
    }
    if (s->decode != NULL) {
        struct grid *g =
            w->counters ? &s->decode->counters.grid : &s->decode->tags.grid;
        for (uint32_t i = 0; i < g->n; i++) {
            visit(w, &g->entries[i].ref, 1);
        }
    }
}

static void visit_ingest(const struct walk *w, struct ingest *in)
{
    for (unsigned i = in->first; i < in->n_unit; i++) {
        visit_batch(w, in->unit[i]);
    }
    if (in->rejecting != NULL) {
        visit_batch(w, in->rejecting);
    }
    if (in->phase == INGEST_INTERN && in->intern.counters == w->counters) {
        visit(w, in->intern.index, in->intern.n);
    }
}

static void visit_all(const struct walk *w, struct sessions *all)
{
    for (struct session *s = all->first; s != NULL; s = s->next) {
        visit_session(w, s);
    }
    visit_ingest(w, all->ingest);
}

/* ---- sweeping ---- */

uint32_t sweep_names(struct sessions *all, bool counters, unsigned keep_days)
{
    struct registry *r = counters ? &all->decode.counters : &all->decode.tags;
    uint32_t count = r->keys.count;
    struct walk w = {.counters = counters, .marking = true};
    w.moved = malloc((size_t)count * sizeof(*w.moved));
    if (count == 0 || w.moved == NULL) {
        free(w.moved);
        return 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        w.moved[i] = REGISTRY_NONE;
    }
    visit_all(&w, all);
    registry_retain(r, w.moved, keep_days);
    w.marking = false;
    visit_all(&w, all);
    free(w.moved);
    return count - r->keys.count;
}

static void sweep_both(struct sessions *all, unsigned keep_days)
{
    uint32_t tags = sweep_names(all, false, keep_days);
    uint32_t counters = sweep_names(all, true, keep_days);
    if (tags + counters > 0) {
        metrics_add(all->metrics, forgotten_names, tags + counters);
        psc_log_info("forgot %" PRIu32 " tags and %" PRIu32
                     " counters that nobody uses",
                     tags, counters);
    }
}

void sweep_tick(struct sweep *sweep, struct sessions *all)
{
    int64_t now_us = psc_clock_mono_us();
    bool tight = registry_is_tight(&all->decode.tags) ||
                 registry_is_tight(&all->decode.counters);
    if (tight &&
        (sweep->tight_us == 0 || now_us - sweep->tight_us >= TIGHT_EVERY_US)) {
        sweep->tight_us = now_us;
        sweep_both(all, 0);
    } else if (sweep->day != all->decode.tags.today) {
        sweep->day = all->decode.tags.today;
        sweep_both(all, REGISTRY_FRESH_DAYS);
    }
}
