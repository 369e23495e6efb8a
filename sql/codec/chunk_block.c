/* Opens the blocks of a chunk: tests their checksums and reads all that is
 * stored by block: which entries, their levels, the lengths of their data. For
 * bytes from anywhere; allocates nothing. */
#include <string.h>

#include "sql/codec/chunk_layout.h"

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
    return chunk_checksum(c->digest, bytes, c->check, check) == PSC_OK &&
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

static bool within(size_t at, size_t len, struct psc_bytes section)
{
    return at <= section.len && len <= section.len - at;
}

int chunk_block_at(struct chunk_block *b, const struct chunk *c, uint32_t block,
                   struct psc_bytes data, struct psc_bytes levels,
                   struct psc_error *err)
{
    struct chunk_slice s;
    if (chunk_slice(c, block, &s) != PSC_OK ||
        !within(s.levels_at, s.levels_len, levels) ||
        !within(s.data_at, s.data_len, data)) {
        return psc_error_set(err, PSC_FORMAT,
                             "block %u is not where the index says",
                             (unsigned)block);
    }
    return chunk_block_open(
        b, c, &s, (struct psc_bytes){data.data + s.data_at, s.data_len},
        (struct psc_bytes){levels.data + s.levels_at, s.levels_len}, err);
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
