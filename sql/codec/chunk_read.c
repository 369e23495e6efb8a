/* Opens chunks: the head, where its blocks are, its times. For bytes from
 * anywhere; allocates nothing.
 *
 * The head's checksum is tested first, so damage shows there. What follows
 * takes nothing for granted all the same: every offset and every number is
 * tested where it is used. */
#include <string.h>

#include "sql/codec/chunk_layout.h"

static int damaged(struct psc_error *err, const char *what)
{
    return psc_error_set(err, PSC_FORMAT, "chunk: %s", what);
}

static uint64_t be(const uint8_t *at, unsigned bytes)
{
    uint64_t v = 0;

    while (bytes-- > 0) {
        v = v << 8 | *at++;
    }
    return v;
}

static int check_head(struct chunk *c, struct psc_bytes head,
                      struct psc_error *err)
{
    if (head.len > 0 && head.data[HEAD_VERSION] != CHUNK_VERSION) {
        return psc_error_set(err, PSC_UNSUPPORTED,
                             "chunk: layout version %u, known is %d",
                             (unsigned)head.data[HEAD_VERSION], CHUNK_VERSION);
    }
    if (head.len < HEAD_FIXED_BYTES + CHECK_BYTES) {
        return damaged(err, "the head is cut off");
    }
    struct psc_bytes body = {head.data, head.len - CHECK_BYTES};
    if (chunk_checksum(c->digest, body, NULL, c->check) != PSC_OK) {
        return psc_error_set(err, PSC_UNSUPPORTED, "chunk: no SHA-256 here");
    }
    if (memcmp(c->check, head.data + body.len, CHECK_BYTES) != 0) {
        return damaged(err, "the head's checksum is wrong");
    }
    return PSC_OK;
}

/* Counts, widths and the places that follow from them. */
static int take_head(struct chunk *c, const uint8_t *at, size_t len,
                     struct psc_error *err)
{
    c->columns = at[HEAD_COLUMNS_AT];
    c->snapshots = (uint32_t)be(at + HEAD_SNAPSHOTS, 2);
    c->n_boots = (uint32_t)be(at + HEAD_BOOTS, 2);
    c->n_blocks = (uint32_t)be(at + HEAD_BLOCKS, 2);
    c->n_entries = (uint32_t)be(at + HEAD_ENTRIES, 4);
    c->n = (int64_t)be(at + HEAD_N, 8);
    c->at_us = (int64_t)be(at + HEAD_AT, 8);
    c->wall_ahead_us = (int64_t)be(at + HEAD_AHEAD, 8);
    c->step_us = (int64_t)be(at + HEAD_STEP, 8);
    c->id_bits = at[HEAD_WIDTHS];
    c->data_bits = at[HEAD_WIDTHS + 1];
    c->levels_bits = at[HEAD_WIDTHS + 2];
    c->boots = at + HEAD_FIXED_BYTES;
    if ((c->columns != 1 && c->columns != TABLE_COLUMNS_MAX) ||
        c->snapshots == 0 || c->snapshots > CHUNK_SNAPSHOTS_MAX ||
        c->n_boots == 0 || c->n_boots > c->snapshots || c->id_bits > 31 ||
        c->data_bits > 32 || c->levels_bits > 32) {
        return damaged(err, "the head has bad counts");
    }
    if (c->n < 0 || !chunk_time_in_range((uint64_t)c->n) ||
        !chunk_time_in_range((uint64_t)c->at_us) ||
        !chunk_time_in_range((uint64_t)c->wall_ahead_us)) {
        return damaged(err, "the head has bad times");
    }
    c->bits.at =
        (HEAD_FIXED_BYTES + (uint64_t)c->n_boots * CHUNK_BOOT_BYTES) * 8;
    uint64_t row = (uint64_t)c->id_bits + c->data_bits + c->levels_bits;
    c->times_bit = (c->bits.at + row * c->n_blocks + 7) / 8 * 8;
    if (c->times_bit > (uint64_t)len * 8) {
        return damaged(err, "the head is too short");
    }
    return PSC_OK;
}

int chunk_open(struct chunk *c, struct psc_bytes head,
               const struct chunk_digest *digest, struct psc_error *err)
{
    *c = (struct chunk){.digest = digest};
    int rc = check_head(c, head, err);
    if (rc != PSC_OK) {
        return rc;
    }
    head.len -= CHECK_BYTES;
    bits_in_init(&c->bits, head);
    return take_head(c, head.data, head.len, err);
}

/* --- where blocks are --- */

/* A row of the index: first id, ends of data and levels. */
static void take_row(const struct chunk *c, uint32_t block, uint64_t out[3])
{
    struct bits_in bits = c->bits;
    uint64_t row = (uint64_t)c->id_bits + c->data_bits + c->levels_bits;

    bits.at += row * block;
    out[0] = bits_take(&bits, c->id_bits);
    out[1] = bits_take(&bits, c->data_bits);
    out[2] = bits_take(&bits, c->levels_bits);
}

int chunk_slice(const struct chunk *c, uint32_t block,
                struct chunk_slice *slice)
{
    uint64_t before[3] = {0}, row[3];
    if (block > 0) {
        take_row(c, block - 1, before);
    }
    take_row(c, block, row);
    if (row[0] == 0 || row[0] <= before[0] || row[1] < before[1] ||
        row[2] < before[2]) {
        return PSC_FORMAT;
    }
    *slice = (struct chunk_slice){.block = block,
                                  .first_id = (uint32_t)row[0],
                                  .data_at = (size_t)before[1],
                                  .data_len = (size_t)(row[1] - before[1]),
                                  .levels_at = (size_t)before[2],
                                  .levels_len = (size_t)(row[2] - before[2])};
    return PSC_OK;
}

int chunk_find(const struct chunk *c, uint32_t id, struct chunk_slice *slice)
{
    uint32_t low = 0,
             high = c->n_blocks; /* blocks before low begin at or
                                    before id, those from high on not */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        uint64_t row[3];
        take_row(c, middle, row);
        if (row[0] <= id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low == 0 ? PSC_MISSING : chunk_slice(c, low - 1, slice);
}

/* --- times --- */

void chunk_times_init(struct chunk_times *t, const struct chunk *c)
{
    *t = (struct chunk_times){.chunk = c, .bits = c->bits};
    t->bits.at = c->times_bit;
    for (unsigned i = 0; i < 4; i++) {
        t->params[i] = bits_take_params(&t->bits);
        t->failed |= t->params[i].mode == PARAMS_DEFAULT;
    }
}

static void take_moment(struct chunk_times *t)
{
    const struct chunk *c = t->chunk;
    uint64_t ahead = (uint64_t)t->wall_us - (uint64_t)t->at_us;
    uint64_t at = (uint64_t)t->at_us;
    uint64_t n = (uint64_t)t->n;

    n += 1 + bits_take_number(&t->bits, t->params[TIME_N]);
    at += (uint64_t)c->step_us + bits_take_number(&t->bits, t->params[TIME_AT]);
    ahead += bits_take_number(&t->bits, t->params[TIME_AHEAD]);
    t->boot += (uint32_t)bits_take_number(&t->bits, t->params[TIME_BOOT]);
    t->failed = bits_bad(&t->bits) || n <= (uint64_t)t->n ||
                n >= (uint64_t)CHUNK_TIME_LIMIT || !chunk_time_in_range(at) ||
                !chunk_time_in_range(ahead) || t->boot >= c->n_boots;
    t->n = (int64_t)n;
    t->at_us = (int64_t)at;
    t->wall_us = (int64_t)(at + ahead);
}

bool chunk_times_next(struct chunk_times *t)
{
    const struct chunk *c = t->chunk;

    if (t->failed || t->next == c->snapshots) {
        return false;
    }
    t->snapshot = t->next++;
    if (t->snapshot == 0) {
        t->n = c->n;
        t->at_us = c->at_us;
        t->wall_us = c->at_us + c->wall_ahead_us;
        return true;
    }
    take_moment(t);
    return !t->failed;
}
