/* The chunk writer's last step: puts the entries in order, has them packed
 * block by block, writes the head and the checksums.
 *
 * Whatever fails, the snapshots stay as they are and can be finished again. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "sql/codec/chunk_pack.h"

void chunk_packer_free(struct chunk_packer *p)
{
    if (p != NULL) {
        free(p->changes);
        free(p->records);
        free(p->order);
        free(p->spare);
        free(p->ends);
        psc_buf_fini(&p->bits);
        free(p);
    }
}

/* The packer, empty. Returns 0 or PSC_NOMEM. */
static int prepare(struct chunk_writer *w)
{
    if (w->packer == NULL) {
        w->packer = calloc(1, sizeof(*w->packer));
        if (w->packer == NULL) {
            return PSC_NOMEM;
        }
        psc_buf_init(&w->packer->bits, CHUNK_SECTION_MAX_BYTES);
    }
    struct chunk_packer *p = w->packer;
    p->n = 0;
    p->n_changes = 0;
    p->n_ends = 0;
    p->n_entries = 0;
    psc_buf_reset(&w->head);
    psc_buf_reset(&w->levels);
    psc_buf_reset(&w->data);
    uint32_t cap = p->cap_order;
    int rc = chunk_grow(&p->order, &cap, w->n_series, sizeof(*p->order));
    if (rc == PSC_OK) {
        cap = p->cap_order;
        rc = chunk_grow(&p->spare, &cap, w->n_series, sizeof(*p->spare));
    }
    if (rc == PSC_OK) {
        p->cap_order = cap;
    }
    return rc;
}

/* Sort p->order by id, byte by byte; entries of one id stay as they came. */
static void sort(struct chunk_packer *p, uint32_t n)
{
    for (unsigned shift = 32; shift < 64; shift += 8) {
        uint32_t ends[256] = {0};
        for (uint32_t i = 0; i < n; i++) {
            ends[p->order[i] >> shift & 0xff]++;
        }
        for (unsigned i = 1; i < 256; i++) {
            ends[i] += ends[i - 1];
        }
        for (uint32_t i = n; i-- > 0;) {
            p->spare[--ends[p->order[i] >> shift & 0xff]] = p->order[i];
        }
        uint64_t *sorted = p->spare;
        p->spare = p->order;
        p->order = sorted;
    }
}

/* Entries from @at on that have the same id. */
static uint32_t same_id(const struct chunk_packer *p, uint32_t at, uint32_t n)
{
    uint32_t end = at + 1;

    while (end < n && p->order[end] >> 32 == p->order[at] >> 32) {
        end++;
    }
    return end - at;
}

/* Sort the log's records by entry, in the order of p->order. */
static int sort_records(struct chunk_writer *w)
{
    struct chunk_packer *p = w->packer;
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->n_series; i++) {
        struct chunk_series *s = &w->series[(uint32_t)p->order[i]];
        s->records_end = n;
        n += s->n_records;
    }
    int rc = chunk_grow(&p->records, &p->cap_records, n, sizeof(*p->records));
    if (rc != PSC_OK) {
        return rc;
    }
    for (size_t at = 0; at < w->log_len;) {
        struct record r = record_of(w->log[at]);
        if (!r.replaced) {
            struct chunk_series *s = &w->series[r.series];
            p->records[s->records_end++] = (uint32_t)at;
        }
        at += 1 + r.n_values;
    }
    return PSC_OK;
}

static int pack_all(struct chunk_writer *w)
{
    struct chunk_packer *p = w->packer;
    for (uint32_t i = 0; i < w->n_series; i++) {
        p->order[i] = (uint64_t)w->series[i].id << 32 | i;
    }
    sort(p, w->n_series);
    int rc = sort_records(w);
    for (uint32_t i = 0; rc == PSC_OK && i < w->n_series;) {
        /* Those of one id stay together, so that one block has them all. */
        uint32_t n = same_id(p, i, w->n_series);
        if (p->n + n > CHUNK_BLOCK_ENTRIES) {
            rc = pack_block(w);
        }
        for (; rc == PSC_OK && n > 0; n--, i++) {
            rc = pack_gather(w, &w->series[(uint32_t)p->order[i]]);
        }
    }
    return rc == PSC_OK && p->n > 0 ? pack_block(w) : rc;
}

/* --- the head --- */

static void put_be(struct psc_buf *out, uint64_t v, unsigned bytes)
{
    while (bytes-- > 0) {
        psc_buf_u8(out, (uint8_t)(v >> 8 * bytes));
    }
}

/* The middle one of three steps of at, which is likely a usual one. */
static int64_t usual_step(const struct chunk_writer *w)
{
    if (w->n_moments < 2) {
        return 0;
    }
    uint32_t last = w->n_moments - 1;
    const uint32_t which[3] = {1, (1 + last) / 2, last};
    int64_t s[3];
    for (unsigned i = 0; i < 3; i++) {
        const struct chunk_moment *m = &w->moments[which[i]];
        s[i] = m->at_us - (m - 1)->at_us;
    }
    int64_t low = s[0] < s[1] ? s[0] : s[1];
    int64_t high = s[0] < s[1] ? s[1] : s[0];
    return s[2] < low ? low : s[2] > high ? high : s[2];
}

/* What each snapshot says, as differences from the one before it. */
static uint64_t time_diff(const struct chunk_moment *m, int64_t step_us,
                          unsigned which)
{
    const struct chunk_moment *before = m - 1;

    switch (which) {
    case TIME_N: return (uint64_t)(m->n - before->n - 1);
    case TIME_AT: return (uint64_t)(m->at_us - before->at_us - step_us);
    case TIME_AHEAD:
        return (uint64_t)((m->wall_us - m->at_us) -
                          (before->wall_us - before->at_us));
    default: return (uint64_t)m->boot - before->boot;
    }
}

static void put_times(struct chunk_writer *w, int64_t step_us,
                      struct bits_out *o)
{
    struct params params[4];

    for (unsigned which = 0; which < 4; which++) {
        struct tally t = {.any = 0};
        for (uint32_t i = 1; i < w->n_moments; i++) {
            tally_add(&t, time_diff(&w->moments[i], step_us, which), false);
        }
        params[which] = tally_fit(&t).params;
        bits_put_params(o, params[which]);
    }
    for (uint32_t i = 1; i < w->n_moments; i++) {
        for (unsigned which = 0; which < 4; which++) {
            bits_put_number(o, time_diff(&w->moments[i], step_us, which),
                            params[which]);
        }
    }
    bits_align(o);
}

static void put_index(const struct chunk_packer *p, const uint8_t widths[3],
                      struct bits_out *o)
{
    for (uint32_t i = 0; i < p->n_ends; i++) {
        bits_put(o, p->ends[i].first_id, widths[0]);
        bits_put(o, p->ends[i].data, widths[1]);
        bits_put(o, p->ends[i].levels, widths[2]);
    }
    bits_align(o);
}

static int put_head(struct chunk_writer *w)
{
    const struct chunk_packer *p = w->packer;
    const struct chunk_moment *m = &w->moments[0];
    int64_t step_us = usual_step(w);
    struct block_end last = {.data = 0};
    if (p->n_ends > 0) {
        last = p->ends[p->n_ends - 1];
    }
    const uint8_t widths[3] = {(uint8_t)bits_length(last.first_id),
                               (uint8_t)bits_length(last.data),
                               (uint8_t)bits_length(last.levels)};
    psc_buf_u8(&w->head, CHUNK_VERSION);
    psc_buf_u8(&w->head, (uint8_t)w->columns);
    put_be(&w->head, w->n_moments, 2);
    put_be(&w->head, w->n_boots, 2);
    put_be(&w->head, p->n_ends, 2);
    put_be(&w->head, p->n_entries, 4);
    put_be(&w->head, (uint64_t)m->n, 8);
    put_be(&w->head, (uint64_t)m->at_us, 8);
    put_be(&w->head, (uint64_t)m->wall_us - (uint64_t)m->at_us, 8);
    put_be(&w->head, (uint64_t)step_us, 8);
    psc_buf_append(&w->head, widths, sizeof(widths));
    psc_buf_append(&w->head, w->boots, (size_t)w->n_boots * CHUNK_BOOT_BYTES);
    struct bits_out o;
    size_t index_bits = (size_t)p->n_ends * 3 * 32;
    size_t times_bits = (size_t)w->n_moments * 4 * (CODE_MAX_BITS + 1);
    if (bits_out_init(&o, &w->head, index_bits + times_bits) == PSC_OK) {
        put_index(p, widths, &o);
        put_times(w, step_us, &o);
    }
    return psc_buf_error(&w->head);
}

/* --- checksums --- */

static int check_slice(const struct chunk_writer *w, struct psc_buf *section,
                       size_t from, size_t to)
{
    size_t len = to - from - CHECK_BYTES;
    struct psc_bytes bytes = {section->data + from, len};

    return chunk_checksum(w->digest, bytes,
                          w->head.data + w->head.len - CHECK_BYTES,
                          section->data + to - CHECK_BYTES);
}

static int put_checks(struct chunk_writer *w)
{
    uint8_t check[CHECK_BYTES];
    int rc = chunk_checksum(w->digest, psc_buf_bytes(&w->head), NULL, check);
    psc_buf_append(&w->head, check, sizeof(check));
    if (rc == PSC_OK) {
        rc = psc_buf_error(&w->head);
    }
    struct block_end before = {.data = 0};
    for (uint32_t i = 0; rc == PSC_OK && i < w->packer->n_ends; i++) {
        const struct block_end *end = &w->packer->ends[i];
        rc = check_slice(w, &w->data, before.data, end->data);
        if (rc == PSC_OK) {
            rc = check_slice(w, &w->levels, before.levels, end->levels);
        }
        before = *end;
    }
    return rc;
}

int chunk_writer_finish(struct chunk_writer *w, struct chunk_sections *out)
{
    assert(w->n_moments > 0);
    int rc = chunk_sweep(w);
    if (rc == PSC_OK) {
        rc = prepare(w);
    }
    if (rc == PSC_OK) {
        rc = pack_all(w);
    }
    if (rc == PSC_OK) {
        rc = put_head(w);
    }
    if (rc == PSC_OK) {
        rc = put_checks(w);
    }
    if (rc != PSC_OK) {
        return rc;
    }
    *out = (struct chunk_sections){.head = psc_buf_bytes(&w->head),
                                   .levels = psc_buf_bytes(&w->levels),
                                   .data = psc_buf_bytes(&w->data)};
    chunk_writer_reset(w);
    return PSC_OK;
}
