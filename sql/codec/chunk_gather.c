/* The chunk writer's second step, per entry: makes changes of its records and
 * counts how long their differences are. The only failure is no memory. */
#include <assert.h>
#include <string.h>

#include "sql/codec/chunk_pack.h"

static int reserve_changes(struct chunk_packer *p, uint32_t more)
{
    uint32_t cap = (uint32_t)p->cap_changes;
    int rc = chunk_grow(&p->changes, &cap, (uint32_t)p->n_changes + more,
                        sizeof(*p->changes));

    p->cap_changes = cap;
    return rc;
}

static void begin(const struct chunk_writer *w, struct packed *e,
                  const struct chunk_series *s)
{
    const unsigned predictor = chunk_predictor(w->columns, s->flags);

    memset(e, 0, sizeof(*e));
    e->id = s->id;
    e->flags = s->flags;
    e->real = chunk_is_real(s->flags);
    e->first = (uint32_t)w->packer->n_changes;
    e->by = SLOTS;
    for (unsigned left = chunk_slots(w->columns, s->flags); left != 0;
         left &= left - 1) {
        uint8_t slot = (uint8_t)__builtin_ctz(left);
        e->by = slot == predictor ? e->n_columns : e->by;
        e->has_level |= slot == SLOT_LEVEL;
        e->slots[e->n_columns++] = slot;
    }
}

/* The state at the first snapshot. Returns bytes an object, if bytes can be
 * told from outstanding, else 0. */
static uint64_t begin_present(struct packed *e, const uint64_t *values)
{
    e->present = true;
    memcpy(e->start, values, e->n_columns * sizeof(*values));
    if (e->by == SLOTS) {
        return 0;
    }
    uint64_t size = chunk_size((int64_t)e->start[e->by],
                               (int64_t)e->start[e->n_columns - 1]);
    e->predicted = size > 0;
    return size;
}

/* Count the differences of @c. */
static void count(struct packed *e, struct change *c, uint64_t size)
{
    const unsigned n = e->n_columns;

    for (unsigned i = 0; i < n; i++) {
        tally_add(&e->tallies[i], c->diffs[i], e->real);
    }
    if (!e->predicted) {
        return;
    }
    uint64_t outstanding = c->diffs[e->by], bytes = c->diffs[n - 1];
    if (outstanding + PREDICT_LIMIT < 2 * PREDICT_LIMIT &&
        chunk_in_range(bytes)) {
        c->rest = bytes - size * outstanding;
        tally_add(&e->rest, c->rest, false);
    } else {
        e->predicted = false;
    }
}

static void gather(struct chunk_writer *w, struct packed *e,
                   const struct chunk_series *s)
{
    struct chunk_packer *p = w->packer;
    const uint32_t begin_at = s->records_end - s->n_records;
    uint64_t old[SLOTS] = {0}, size = 0;
    bool present = false;

    for (uint32_t i = begin_at; i < s->records_end; i++) {
        const uint64_t *word = w->log + p->records[i];
        struct record r = record_of(*word++);
        struct change *c = &p->changes[p->n_changes];
        uint64_t differ = 0;
        c->snapshot = r.snapshot;
        c->present = r.present;
        for (unsigned n = 0; n < r.n_values; n++) {
            c->diffs[n] = e->real ? word[n] ^ old[n] : word[n] - old[n];
            differ |= c->diffs[n];
            old[n] = word[n];
        }
        if (r.snapshot == 0 && r.present) {
            size = begin_present(e, word);
        } else if (r.snapshot > 0 && (differ != 0 || r.present != present)) {
            p->n_changes++;
            e->n++;
            e->n_values += r.present;
            e->absences |= !r.present;
            if (r.present) {
                count(e, c, size);
            }
        }
        present = r.present;
    }
    e->absences |= !e->present;
}

int pack_gather(struct chunk_writer *w, const struct chunk_series *s)
{
    struct chunk_packer *p = w->packer;
    int rc = reserve_changes(p, s->n_records + 1);
    if (rc != PSC_OK) {
        return rc;
    }
    assert(p->n < CHUNK_BLOCK_ENTRIES);
    struct packed *e = &p->block[p->n];
    begin(w, e, s);
    gather(w, e, s);
    if (e->n_values == 0 && !e->present) {
        p->n_changes = e->first;
        return PSC_OK;
    }
    p->n++;
    return PSC_OK;
}
