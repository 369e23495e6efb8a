/* Reads the blocks of a chunk and their entries' points. For bytes from
 * anywhere; allocates nothing.
 *
 * Opening a block tests its checksums and reads all that is stored by block:
 * which entries, their levels, the lengths of their data. An entry is then
 * read point by point, with one cursor in its list of changed snapshots and
 * one in its values. Whatever is wrong ends the entry, failed. */
#include <string.h>

#include "sql/codec/chunk_layout.h"

/* --- blocks --- */

static int damaged(const struct chunk_slice *slice, const char *what,
                   struct psc_error *err)
{
    return psc_error_set(err, PSC_FORMAT, "chunk: block %u: %s",
                         (unsigned)slice->block, what);
}

/* Test the checksum of @bytes and start @in on what it covers. */
static bool open_slice(const struct chunk *c, struct psc_bytes bytes,
                       size_t expected_len, struct bits_in *in)
{
    uint8_t check[CHECK_BYTES];
    if (bytes.len < CHECK_BYTES || bytes.len != expected_len) {
        return false;
    }
    bytes.len -= CHECK_BYTES;
    bits_in_init(in, bytes);
    return chunk_check(c->digest, bytes, c->check, check) == PSC_OK &&
           memcmp(check, bytes.data + bytes.len, CHECK_BYTES) == 0;
}

static bool take_ids(struct chunk_block *b, uint32_t first, struct bits_in *in)
{
    b->n = (uint32_t)bits_take(in, COUNT_BITS) + 1;
    struct params p = bits_take_params(in);
    uint64_t id = first;
    b->ids[0] = first;
    for (uint32_t i = 1; i < b->n; i++) {
        id += bits_take_number(in, p);
        if (id > INT32_MAX || id < b->ids[i - 1]) {
            return false;
        }
        b->ids[i] = (uint32_t)id;
    }
    return true;
}

static bool take_flags(struct chunk_block *b, struct bits_in *in)
{
    uint8_t flags[CHUNK_BLOCK_ENTRIES];
    unsigned n = (unsigned)bits_take(in, COUNT_BITS) + 1;
    for (unsigned i = 0; i < n; i++) {
        flags[i] = (uint8_t)bits_take(in, 8);
    }
    for (uint32_t i = 0; i < b->n; i++) {
        unsigned which = (unsigned)bits_take(in, bits_length(n - 1));
        if (which >= n) {
            return false;
        }
        b->flags[i] = flags[which];
    }
    bool all = bits_take(in, 1) != 0;
    for (uint32_t i = 0; i < b->n; i++) {
        b->present[i] = all || bits_take(in, 1) != 0;
    }
    return true;
}

static bool take_levels(struct chunk_block *b, struct bits_in *in)
{
    uint32_t columns = b->chunk->columns;
    bool any[2] = {false, false};
    struct params params[2];
    for (uint32_t i = 0; i < b->n; i++) {
        any[chunk_is_real(b->flags[i])] = true;
    }
    for (unsigned real = 0; real < 2; real++) {
        params[real] = any[real] ? bits_take_params(in)
                                 : (struct params){.mode = PARAMS_ZERO};
    }
    for (uint32_t i = 0; i < b->n; i++) {
        b->levels[i] = 0;
        bool has = (chunk_slots(columns, b->flags[i]) >> SLOT_LEVEL & 1) != 0;
        if (b->present[i] && has) {
            bool real = chunk_is_real(b->flags[i]);
            uint64_t v = bits_take_number(in, params[real]);
            if (!real && !chunk_in_range(v)) {
                return false;
            }
            b->levels[i] = (int64_t)v;
        }
    }
    return params[0].mode != PARAMS_DEFAULT && params[1].mode != PARAMS_DEFAULT;
}

/* Lengths, and the block's parameters. */
static bool take_data(struct chunk_block *b)
{
    struct bits_in *in = &b->bits;
    struct params lengths = bits_take_params(in);
    uint8_t slots = 0, integers = 0;
    uint64_t end = 0;
    bool good = lengths.mode != PARAMS_DEFAULT;
    for (uint32_t i = 0; i < b->n; i++) {
        uint64_t more = bits_take_number(in, lengths);
        if (more > in->end - end) {
            return false;
        }
        end += more;
        b->ends[i] = (uint32_t)end;
        uint8_t has = chunk_slots(b->chunk->columns, b->flags[i]);
        slots |= has;
        integers |= chunk_is_real(b->flags[i]) ? 0 : has;
    }
    for (unsigned s = 0; s < SLOT_LEVEL; s++) {
        if ((slots >> s & 1) != 0) {
            b->starts[s] = bits_take_params(in);
            good = good && b->starts[s].mode != PARAMS_DEFAULT;
        }
    }
    for (unsigned s = 0; s < SLOTS; s++) {
        if ((integers >> s & 1) != 0) {
            b->defaults[s] = bits_take_params(in);
            good = good && b->defaults[s].mode != PARAMS_DEFAULT;
        }
    }
    in->at = (in->at + 7) / 8 * 8;
    return good && !bits_bad(in) && end <= in->end - in->at;
}

int chunk_block_open(struct chunk_block *b, const struct chunk *c,
                     const struct chunk_slice *slice, struct psc_bytes data,
                     struct psc_bytes levels, struct psc_error *err)
{
    struct bits_in in;
    *b = (struct chunk_block){.chunk = c};
    if (!open_slice(c, levels, slice->levels_len, &in)) {
        return damaged(slice, "the checksum of its levels is wrong", err);
    }
    if (!take_ids(b, slice->first_id, &in) || !take_flags(b, &in) ||
        !take_levels(b, &in) || bits_bad(&in)) {
        return damaged(slice, "bad levels", err);
    }
    if (data.data == NULL) {
        return PSC_OK;
    }
    if (!open_slice(c, data, slice->data_len, &b->bits)) {
        return damaged(slice, "the checksum of its data is wrong", err);
    }
    if (!take_data(b)) {
        return damaged(slice, "bad data", err);
    }
    b->has_data = true;
    return PSC_OK;
}

uint32_t chunk_block_find(const struct chunk_block *b, uint32_t id)
{
    for (uint32_t i = 0; i < b->n; i++) {
        if (b->ids[i] == id) {
            return i;
        }
    }
    return b->n;
}

/* --- an entry's list of changes --- */

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

/* --- an entry's values --- */

static void show(struct chunk_entry *e)
{
    memset(e->values, 0, sizeof(e->values));
    if (!e->present) {
        return;
    }
    if (e->columns == 1) {
        e->values[0] = (int64_t)e->state[SLOT_LEVEL];
        return;
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        e->values[i] = (int64_t)e->state[i];
    }
    if (e->derives) {
        uint64_t frees = e->state[COL_ALLOCS] - e->state[SLOT_FREES];
        bool shown = (e->flags & TAG_OUTSTANDING) != 0;
        e->values[COL_FREES] = (int64_t)frees;
        e->values[COL_OUTSTANDING] = shown ? (int64_t)e->state[SLOT_FREES] : 0;
        e->failed |= !chunk_in_range(frees);
    }
}

static void open_changes(struct chunk_entry *e, const struct chunk_block *b)
{
    unsigned by = chunk_predictor(e->columns, e->flags);
    bool real = chunk_is_real(e->flags);

    e->absences = bits_take(&e->bits, 1) != 0;
    e->failed |= !e->present && !e->absences;
    open_list(e, &e->bits);
    if (by < SLOTS && bits_take(&e->bits, 1) != 0) {
        e->size = e->present ? chunk_size((int64_t)e->state[by],
                                          (int64_t)e->state[SLOT_LEVEL])
                             : 0;
    }
    for (unsigned s = 0; s < SLOTS; s++) {
        if ((e->slots >> s & 1) == 0) {
            continue;
        }
        e->params[s] = bits_take_params(&e->bits);
        if (e->params[s].mode == PARAMS_DEFAULT) {
            e->params[s] = b->defaults[s];
            e->failed |= real;
        }
    }
}

void chunk_entry_open(struct chunk_entry *e, const struct chunk_block *b,
                      uint32_t index)
{
    const struct chunk *c = b->chunk;
    *e = (struct chunk_entry){.columns = (uint8_t)c->columns,
                              .snapshots = c->snapshots,
                              .flags = b->flags[index],
                              .present = b->present[index],
                              .failed = !b->has_data,
                              .bits = b->bits};
    e->slots = chunk_slots(c->columns, e->flags);
    e->derives = chunk_derives(c->columns, e->flags);
    e->bits.end = e->bits.at + b->ends[index];
    e->bits.at += index > 0 ? b->ends[index - 1] : 0;
    if (e->failed) {
        return;
    }
    e->state[SLOT_LEVEL] = (uint64_t)b->levels[index];
    for (unsigned s = 0; s < SLOT_LEVEL; s++) {
        if (e->present && (e->slots >> s & 1) != 0) {
            e->state[s] = bits_take_number(&e->bits, b->starts[s]);
            e->failed |=
                !chunk_is_real(e->flags) && !chunk_in_range(e->state[s]);
        }
    }
    e->changes = bits_take(&e->bits, 1) != 0;
    if (e->changes) {
        open_changes(e, b);
    }
    show(e);
    e->failed |= bits_bad(&e->bits);
}

static void take_values(struct chunk_entry *e)
{
    const unsigned by = e->derives ? SLOT_FREES : SLOT_OUTSTANDING;
    struct bits_in in = e->bits; /* of which nobody has the address */
    uint64_t outstanding = 0;
    bool good = true;

    for (unsigned s = 0; s < SLOTS; s++) {
        if ((e->slots >> s & 1) == 0) {
            continue;
        }
        uint64_t diff = bits_take_number(&in, e->params[s]);
        if (chunk_is_real(e->flags)) {
            e->state[s] ^= diff;
            continue;
        }
        outstanding = s == by ? diff : outstanding;
        diff += s == SLOT_LEVEL ? e->size * outstanding : 0;
        e->state[s] += diff;
        good &= chunk_in_range(e->state[s]);
    }
    e->bits.at = in.at;
    e->failed |= !good;
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
    if (e->present) {
        take_values(e);
    }
    show(e);
    e->failed |= bits_bad(&e->bits);
    return !e->failed;
}
