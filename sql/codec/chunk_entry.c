/* Reads an entry of a chunk point by point, with one cursor in its list of
 * changed snapshots and one in its values. For bytes from anywhere; allocates
 * nothing. Whatever is wrong ends the entry, failed. */
#include <string.h>

#include "sql/codec/chunk_layout.h"

/* --- the list of changes --- */

/* Read the next listed snapshot, into e->next. */
static void take_listed(struct chunk_entry *e)
{
    if (e->listed == 0) {
        e->next = e->snapshots;
        return;
    }
    e->listed--;
    uint64_t gap = bits_take_code(&e->where, e->list_k);
    if (gap >= e->snapshots - e->next) {
        e->failed = true;
        gap = 0;
    }
    e->next += (uint32_t)gap;
}

/* The first changed snapshot after e->snapshot; e->snapshots if there is
 * none. */
static uint32_t next_in_bitmap(struct chunk_entry *e)
{
    uint32_t at = e->snapshot + 1;

    while (at < e->snapshots) {
        uint64_t v = bits_peek(&e->where) >> (64 - BITS_AT_ONCE)
                                                 << (64 - BITS_AT_ONCE);
        unsigned zeros = v == 0 ? BITS_AT_ONCE : (unsigned)__builtin_clzll(v);
        at += zeros;
        if (v != 0) {
            e->where.at += zeros + 1;
            break;
        }
        e->where.at += BITS_AT_ONCE;
    }
    return at < e->snapshots ? at : e->snapshots;
}

static uint32_t next_change(struct chunk_entry *e)
{
    uint32_t at = e->snapshot + 1;

    switch (e->form) {
    case FORM_BITMAP: return next_in_bitmap(e);
    case FORM_CHANGED:
        e->next = at;
        take_listed(e);
        return e->next;
    default:
        while (at < e->snapshots && at == e->next) {
            at++;
            e->next = at;
            take_listed(e);
        }
        return at;
    }
}

/* Start e->where on the list, and move @in behind it. */
static void open_list(struct chunk_entry *e, struct bits_in *in)
{
    const uint32_t snapshots = e->snapshots - 1;

    e->form = (uint8_t)bits_take(in, FORM_BITS);
    if (e->form == FORM_BITMAP) {
        e->where = *in;
        in->at += snapshots;
        return;
    }
    e->listed = (uint32_t)bits_take(in, bits_length(snapshots));
    e->list_k = (uint8_t)bits_take(in, LIST_K_BITS);
    e->failed |= e->form > FORM_UNCHANGED || e->listed > snapshots;
    e->where = *in;
    for (uint32_t i = 0; i < e->listed && !bits_bad(in); i++) {
        (void)bits_take_code(in, e->list_k);
    }
    if (e->form == FORM_UNCHANGED) {
        e->next = 1;
        take_listed(e);
    }
}

/* --- values --- */

/* Make values of the state, where that is not the same. */
static void derive(struct chunk_entry *e)
{
    uint64_t outstanding = (uint64_t)e->values[SLOT_FREES];
    uint64_t frees = (uint64_t)e->values[COL_ALLOCS] - outstanding;
    bool shown = (e->flags & TAG_OUTSTANDING) != 0;

    e->values[COL_FREES] = (int64_t)frees;
    e->values[COL_OUTSTANDING] = shown ? (int64_t)outstanding : 0;
    e->failed |= !chunk_in_range(frees);
}

/* Which slots @e has; its state at the start. */
static void open_state(struct chunk_entry *e, const struct chunk_block *b,
                       int64_t level)
{
    const uint32_t columns = b->chunk->columns;
    const unsigned predictor = chunk_predictor(columns, e->flags);

    e->by = SLOTS;
    for (unsigned left = chunk_slots(columns, e->flags); left != 0;
         left &= left - 1) {
        unsigned slot = (unsigned)__builtin_ctz(left), i = e->n_slots++;
        e->by = slot == predictor ? (uint8_t)i : e->by;
        e->slots[i] = (uint8_t)(columns == 1 ? 0 : slot);
        if (slot == SLOT_LEVEL) {
            e->state[i] = (uint64_t)level;
        } else if (e->present) {
            e->state[i] = bits_take_number(&e->bits, b->starts[slot]);
            e->failed |= !e->real && !chunk_in_range(e->state[i]);
        }
        e->values[e->slots[i]] = (int64_t)e->state[i];
    }
    if (e->derives) {
        derive(e);
    }
}

static void open_changes(struct chunk_entry *e, const struct chunk_block *b)
{
    const uint32_t columns = b->chunk->columns;

    e->absences = bits_take(&e->bits, 1) != 0;
    e->failed |= !e->present && !e->absences;
    open_list(e, &e->bits);
    if (e->by < SLOTS && bits_take(&e->bits, 1) != 0 && e->present) {
        e->size = chunk_size((int64_t)e->state[e->by],
                             (int64_t)e->state[e->n_slots - 1]);
    }
    for (unsigned i = 0; i < e->n_slots; i++) {
        e->params[i] = bits_take_params(&e->bits);
        if (e->params[i].mode == PARAMS_DEFAULT) {
            e->params[i] = b->defaults[columns == 1 ? SLOT_LEVEL : e->slots[i]];
            e->failed |= e->real;
        }
    }
}

void chunk_entry_open(struct chunk_entry *e, const struct chunk_block *b,
                      uint32_t index)
{
    const struct chunk *c = b->chunk;
    *e = (struct chunk_entry){.snapshots = c->snapshots,
                              .flags = b->flags[index],
                              .present = b->present[index],
                              .failed = !b->has_data,
                              .bits = b->bits};
    if (e->failed) {
        return;
    }
    e->real = chunk_is_real(e->flags);
    e->derives = chunk_derives(c->columns, e->flags);
    e->bits.end = e->bits.at + b->ends[index];
    e->bits.at += index > 0 ? b->ends[index - 1] : 0;
    open_state(e, b, b->levels[index]);
    e->changes = bits_take(&e->bits, 1) != 0;
    if (e->changes) {
        open_changes(e, b);
    }
    e->failed |= bits_bad(&e->bits);
}

static void take_reals(struct chunk_entry *e)
{
    for (unsigned i = 0; i < e->n_slots; i++) {
        e->state[i] ^= bits_take_number(&e->bits, e->params[i]);
        e->values[e->slots[i]] = (int64_t)e->state[i];
    }
}

static void take_integers(struct chunk_entry *e)
{
    struct bits_in in = e->bits; /* of which nobody has the address */
    const unsigned last = e->n_slots - 1u;
    uint64_t outstanding = 0;
    bool good = true;

    for (unsigned i = 0; i < e->n_slots; i++) {
        uint64_t diff = bits_take_number(&in, e->params[i]);
        outstanding = i == e->by ? diff : outstanding;
        diff += i == last ? e->size * outstanding : 0;
        uint64_t v = e->state[i] + diff;
        good &= chunk_in_range(v);
        e->state[i] = v;
        e->values[e->slots[i]] = (int64_t)v;
    }
    e->bits.at = in.at;
    e->failed |= !good;
    if (e->derives) {
        derive(e);
    }
}

bool chunk_next(struct chunk_entry *e)
{
    if (e->failed) {
        return false;
    }
    if (!e->begun) {
        e->begun = true;
        return true;
    }
    uint32_t at = e->changes ? next_change(e) : e->snapshots;
    if (at >= e->snapshots) {
        e->changes = false;
        /* Nothing may be left over. */
        e->failed |= e->bits.at != e->bits.end;
        return false;
    }
    e->snapshot = at;
    e->present = !e->absences || bits_take(&e->bits, 1) != 0;
    if (!e->present) {
        memset(e->values, 0, sizeof(e->values));
    } else if (e->real) {
        take_reals(e);
    } else {
        take_integers(e);
    }
    e->failed |= bits_bad(&e->bits);
    return !e->failed;
}
