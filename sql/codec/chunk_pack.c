/* The chunk writer's fourth step: writes a block's levels and data. The
 * entries' bits are written apart, because their lengths come first. Failures:
 * no memory, a section beyond its maximum. */
#include <assert.h>
#include <string.h>

#include "sql/codec/chunk_pack.h"

/* --- an entry --- */

/* How an entry lists the snapshots that changed it. */
struct list {
    unsigned form, k;
    uint32_t n; /* listed */
};

/* The gaps before the snapshots that changed @e, or before those that did not,
 * into p->gaps; returns their number. */
static uint32_t find_gaps(const struct chunk_writer *w, const struct packed *e,
                          bool changed)
{
    struct chunk_packer *p = w->packer;
    const struct change *c = p->changes + e->first;
    uint32_t n = 0, expected = 1;

    if (changed) {
        for (uint32_t i = 0; i < e->n; i++) {
            p->gaps[n++] = (uint16_t)(c[i].snapshot - expected);
            expected = c[i].snapshot + 1;
        }
        return n;
    }
    for (uint32_t s = 1, i = 0; s < w->n_moments; s++) {
        if (i < e->n && c[i].snapshot == s) {
            i++;
        } else {
            p->gaps[n++] = (uint16_t)(s - expected);
            expected = s + 1;
        }
    }
    return n;
}

/* Leaves the gaps in p->gaps. */
static struct list choose_list(const struct chunk_writer *w,
                               const struct packed *e)
{
    const uint32_t snapshots = w->n_moments - 1;
    const unsigned most = (1u << LIST_K_BITS) - 1;
    bool changed = e->n <= snapshots / 2;
    struct list list = {.form = changed ? FORM_CHANGED : FORM_UNCHANGED};
    list.n = find_gaps(w, e, changed);
    struct tally t = {.any = 0};
    for (uint32_t i = 0; i < list.n; i++) {
        tally_add(&t, w->packer->gaps[i], true);
    }
    list.k = tally_fit_k(&t, 0);
    list.k = list.k < most ? list.k : most;
    uint64_t price = bits_length(snapshots) + LIST_K_BITS;
    for (uint32_t i = 0; i <= bits_length(t.any); i++) {
        price += (uint64_t)t.lengths[i] * code_bits(i, list.k);
    }
    if (price > snapshots) {
        list.form = FORM_BITMAP;
        (void)find_gaps(w, e, true);
    }
    return list;
}

static void put_list(const struct chunk_writer *w, const struct packed *e,
                     struct bits_out *o)
{
    const uint16_t *gaps = w->packer->gaps;
    struct list list = choose_list(w, e);

    bits_put(o, list.form, FORM_BITS);
    if (list.form == FORM_BITMAP) {
        uint32_t left = w->n_moments - 1;
        for (uint32_t i = 0; i < e->n; i++) {
            bits_put_zeros(o, gaps[i]);
            bits_put(o, 1, 1);
            left -= gaps[i] + 1u;
        }
        bits_put_zeros(o, left);
        return;
    }
    bits_put(o, list.n, bits_length(w->n_moments - 1));
    bits_put(o, list.k, LIST_K_BITS);
    for (uint32_t i = 0; i < list.n; i++) {
        bits_put_code(o, gaps[i], list.k, 0, 0);
    }
}

static void put_values(const struct chunk_packer *p, const struct packed *e,
                       struct bits_out *o)
{
    const unsigned n = e->n_columns;
    struct params params[SLOTS];
    struct bits_out out = *o; /* of which nobody has the address */
    for (unsigned c = 0; c < n; c++) {
        struct params own = e->fits[c].params;
        params[c] = own.mode == PARAMS_DEFAULT ? p->defaults[e->slots[c]] : own;
    }
    for (uint32_t i = e->first; i < e->first + e->n; i++) {
        const struct change *change = &p->changes[i];
        bits_put(&out, e->absences && change->present, e->absences);
        if (!change->present) {
            continue;
        }
        for (unsigned c = 0; c < n; c++) {
            bool rest = c == n - 1 && e->predicted;
            bits_put_number(&out, rest ? change->rest : change->diffs[c],
                            params[c]);
        }
    }
    *o = out;
}

/* Write the entry. Returns 0, PSC_NOMEM or PSC_LIMIT. */
PSC_MUST_CHECK static int put_entry(struct chunk_writer *w, struct packed *e,
                                    struct bits_out *o)
{
    struct chunk_packer *p = w->packer;
    /* The longest code each, a bit of presence, the list in either form. */
    size_t most = ((size_t)e->n_values + 1) * SLOTS * (CODE_MAX_BITS + 1) +
                  (size_t)w->n_moments * 2 * (LIST_K_BITS + 1) +
                  (size_t)SLOTS * PARAMS_MAX_BITS + 64;
    int rc = bits_reserve(o, most);
    if (rc != PSC_OK) {
        return rc;
    }
    unsigned n_starts = e->n_columns - (e->has_level ? 1u : 0);
    for (unsigned c = 0; e->present && c < n_starts; c++) {
        bits_put_number(o, e->start[c], p->starts[e->slots[c]]);
    }
    bits_put(o, e->n > 0, 1);
    if (e->n == 0) {
        return PSC_OK;
    }
    bits_put(o, e->absences, 1);
    put_list(w, e, o);
    if (e->by < SLOTS) {
        bits_put(o, e->predicted, 1);
    }
    for (unsigned c = 0; c < e->n_columns; c++) {
        bits_put_params(o, e->fits[c].params);
    }
    put_values(p, e, o);
    return PSC_OK;
}

static uint64_t bits_written(const struct bits_out *o)
{
    return (uint64_t)(o->at - o->buf->data) * 8 + o->used;
}

static int put_entries(struct chunk_writer *w)
{
    struct chunk_packer *p = w->packer;
    struct bits_out o;
    uint64_t before = 0;
    psc_buf_reset(&p->bits);
    int rc = bits_out_init(&o, &p->bits, 8);
    for (uint32_t i = 0; rc == PSC_OK && i < p->n; i++) {
        rc = put_entry(w, &p->block[i], &o);
        p->block[i].bits = bits_written(&o) - before;
        before += p->block[i].bits;
    }
    if (rc == PSC_OK) {
        bits_align(&o);
    }
    return rc;
}

/* --- a block --- */

/* Distinct flags of the block's entries, in the order they come; each entry's
 * place among them. Returns their number. */
static unsigned find_flags(const struct chunk_packer *p,
                           uint8_t flags[CHUNK_BLOCK_ENTRIES],
                           uint8_t places[CHUNK_BLOCK_ENTRIES])
{
    unsigned n = 0;

    for (uint32_t i = 0; i < p->n; i++) {
        unsigned at = 0;
        while (at < n && flags[at] != p->block[i].flags) {
            at++;
        }
        if (at == n) {
            flags[n++] = p->block[i].flags;
        }
        places[i] = (uint8_t)at;
    }
    return n;
}

static void put_ids(const struct chunk_packer *p, struct bits_out *o)
{
    struct tally t = {.any = 0};
    for (uint32_t i = 1; i < p->n; i++) {
        tally_add(&t, p->block[i].id - p->block[i - 1].id, true);
    }
    struct params params = tally_fit(&t).params;
    bits_put(o, p->n - 1, COUNT_BITS);
    bits_put_params(o, params);
    for (uint32_t i = 1; i < p->n; i++) {
        bits_put_number(o, p->block[i].id - p->block[i - 1].id, params);
    }
}

static void put_flags(const struct chunk_packer *p, struct bits_out *o)
{
    uint8_t flags[CHUNK_BLOCK_ENTRIES], places[CHUNK_BLOCK_ENTRIES];
    unsigned n = find_flags(p, flags, places);
    bool all = true;

    bits_put(o, n - 1, COUNT_BITS);
    for (unsigned i = 0; i < n; i++) {
        bits_put(o, flags[i], 8);
    }
    for (uint32_t i = 0; i < p->n; i++) {
        bits_put(o, places[i], bits_length(n - 1));
        all = all && p->block[i].present;
    }
    bits_put(o, all, 1);
    for (uint32_t i = 0; !all && i < p->n; i++) {
        bits_put(o, p->block[i].present, 1);
    }
}

/* Parameters for the start values of the entries that are integers, or of the
 * @real ones; put if the block has any. */
static struct params put_level_params(const struct chunk_packer *p, bool real,
                                      struct bits_out *o)
{
    struct tally t = {.any = 0};
    bool any = false;

    for (uint32_t i = 0; i < p->n; i++) {
        const struct packed *e = &p->block[i];
        any |= e->real == real;
        if (e->real == real && e->present && e->has_level) {
            tally_add(&t, e->start[e->n_columns - 1], real);
        }
    }
    struct params params = tally_fit(&t).params;
    if (any) {
        bits_put_params(o, params);
    }
    return params;
}

static void put_level_section(struct chunk_writer *w)
{
    const struct chunk_packer *p = w->packer;
    struct bits_out o;
    /* An id, flags, presence and a value each. */
    const size_t entry_bits = 2 * CODE_MAX_BITS + 32;
    if (bits_out_init(&o, &w->levels, entry_bits * (CHUNK_BLOCK_ENTRIES + 1)) !=
        PSC_OK) {
        return;
    }
    put_ids(p, &o);
    put_flags(p, &o);
    struct params integers = put_level_params(p, false, &o);
    struct params reals = put_level_params(p, true, &o);
    for (uint32_t i = 0; i < p->n; i++) {
        const struct packed *e = &p->block[i];
        if (e->present && e->has_level) {
            bits_put_number(&o, e->start[e->n_columns - 1],
                            e->real ? reals : integers);
        }
    }
    bits_align(&o);
    psc_buf_be32(&w->levels, 0); /* room for the checksum */
}

static void put_data_section(struct chunk_writer *w)
{
    const struct chunk_packer *p = w->packer;
    struct tally t = {.any = 0};
    uint8_t slots = 0, integers = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        const struct packed *e = &p->block[i];
        uint8_t has = chunk_slots(w->columns, e->flags);
        tally_add(&t, e->bits, true);
        slots |= has;
        integers |= e->real ? 0 : has;
    }
    struct params lengths = tally_fit(&t).params;
    struct bits_out o;
    if (bits_out_init(&o, &w->data,
                      (size_t)CODE_MAX_BITS * (CHUNK_BLOCK_ENTRIES + 2)) !=
        PSC_OK) {
        return;
    }
    bits_put_params(&o, lengths);
    for (uint32_t i = 0; i < p->n; i++) {
        bits_put_number(&o, p->block[i].bits, lengths);
    }
    for (unsigned s = 0; s < SLOTS; s++) {
        if (s != SLOT_LEVEL && (slots >> s & 1) != 0) {
            bits_put_params(&o, p->starts[s]);
        }
    }
    for (unsigned s = 0; s < SLOTS; s++) {
        if ((integers >> s & 1) != 0) {
            bits_put_params(&o, p->defaults[s]);
        }
    }
    bits_align(&o);
    psc_buf_append(&w->data, p->bits.data, p->bits.len);
    psc_buf_be32(&w->data, 0);
}

int pack_block(struct chunk_writer *w)
{
    struct chunk_packer *p = w->packer;
    assert(p->n > 0);
    int rc =
        chunk_grow(&p->ends, &p->cap_ends, p->n_ends + 1, sizeof(*p->ends));
    if (rc != PSC_OK) {
        return rc;
    }
    pack_choose(p);
    rc = put_entries(w);
    if (rc == PSC_OK) {
        put_data_section(w);
        rc = psc_buf_error(&w->data);
    }
    if (rc == PSC_OK) {
        put_level_section(w);
        rc = psc_buf_error(&w->levels);
    }
    p->ends[p->n_ends++] =
        (struct block_end){.first_id = p->block[0].id,
                           .data = (uint32_t)w->data.len,
                           .levels = (uint32_t)w->levels.len};
    p->n_entries += p->n;
    p->n = 0;
    p->n_changes = 0;
    return rc;
}
