/* Points in time, cut where hours and absences begin. */
#include "sql/codec/chunk_runs.h"

#include <string.h>

int chunk_clock_read(struct chunk_clock *clock, const struct chunk *c,
                     struct psc_error *err)
{
    struct chunk_times t;
    clock->n = 0;
    chunk_times_init(&t, c);
    while (chunk_times_next(&t)) {
        clock->at_us[clock->n++] = t.at_us;
    }
    if (t.failed || clock->n != c->snapshots) {
        return psc_error_set(err, PSC_FORMAT, "the times are damaged");
    }
    for (uint32_t i = clock->n; i > 0; i--) {
        bool last = i == clock->n || chunk_hour(clock->at_us[i - 1]) !=
                                         chunk_hour(clock->at_us[i]);
        clock->hour_end[i - 1] = last ? i : clock->hour_end[i];
    }
    return PSC_OK;
}

void chunk_runs_open(struct chunk_runs *r, const struct chunk_clock *clock,
                     const struct chunk_block *b, uint32_t index)
{
    r->failed = false;
    r->clock = clock;
    r->at = 0;
    r->until = 0;
    chunk_entry_open(&r->entry, b, index);
    r->more = chunk_next(&r->entry);
    r->failed = !r->more && r->entry.failed;
}

/* The point that the entry stands at becomes the present one. */
static void take_point(struct chunk_runs *r)
{
    struct chunk_entry *e = &r->entry;
    bool present = e->present;
    r->at = e->snapshot;
    r->flags = e->flags;
    memcpy(r->values, e->values, sizeof(r->values));
    r->more = chunk_next(e);
    r->failed = !r->more && e->failed;
    r->until = r->more ? e->snapshot : r->clock->n;
    if (!present) {
        r->at = r->until;
    }
}

bool chunk_runs_next(struct chunk_runs *r)
{
    while (r->at == r->until && r->more) {
        take_point(r);
    }
    if (r->failed || r->at == r->until) {
        return false;
    }
    uint32_t end = r->clock->hour_end[r->at];
    end = end < r->until ? end : r->until;
    r->from = r->at;
    r->count = end - r->at;
    r->at = end;
    return true;
}
