/* Fuzzes the reader of chunks. The first byte tells what the checksums are
 * (even: all zeros, so that a fuzzer gets past them; odd: right ones); then
 * head and levels as length-prefixed strings, and the rest is data.
 *
 * Whatever comes in, reading ends, stays within the run and the limits, and
 * shows the same whether an entry is found by its id or by its block. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "sql/codec/chunk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

static bool no_sha256(const void *data, size_t len,
                      uint8_t out[CHUNK_DIGEST_BYTES])
{
    (void)data;
    (void)len;
    memset(out, 0, CHUNK_DIGEST_BYTES);
    return true;
}

static bool in_range(int64_t v)
{
    return v < CHUNK_VALUE_LIMIT && v > -CHUNK_VALUE_LIMIT;
}

static void read_entry(const struct chunk_block *b, uint32_t i)
{
    struct chunk_entry e;
    uint32_t points = 0;

    for (chunk_entry_open(&e, b, i); chunk_next(&e); points++) {
        require(points == 0 ? e.snapshot == 0 : e.snapshot > 0);
        require(e.snapshot < b->chunk->snapshots);
        for (unsigned c = 0; c < TABLE_COLUMNS_MAX; c++) {
            require((e.flags & ENTRY_REAL) != 0 || in_range(e.values[c]));
            require(e.present || e.values[c] == 0);
        }
    }
    require(points <= b->chunk->snapshots);
}

/* The part of @bytes from @at on, as much as there is of @len. */
static struct psc_bytes part(struct psc_bytes bytes, size_t at, size_t len)
{
    if (at > bytes.len) {
        return (struct psc_bytes){bytes.data, 0};
    }
    size_t left = bytes.len - at;
    return (struct psc_bytes){bytes.data + at, len < left ? len : left};
}

static void read_block(const struct chunk *c, uint32_t block,
                       struct psc_bytes levels, struct psc_bytes data)
{
    struct chunk_slice slice, found;
    struct chunk_block b;
    if (chunk_slice(c, block, &slice) != PSC_OK ||
        chunk_block_open(
            &b, c, &slice, part(data, slice.data_at, slice.data_len),
            part(levels, slice.levels_at, slice.levels_len), NULL) != PSC_OK) {
        return;
    }
    require(b.n > 0 && b.n <= CHUNK_BLOCK_ENTRIES);
    for (uint32_t i = 0; i < b.n; i++) {
        require(i == 0 || b.ids[i] >= b.ids[i - 1]);
        require(b.ids[chunk_block_find(&b, b.ids[i])] == b.ids[i]);
        int rc = chunk_find(c, b.ids[i], &found);
        require(rc == PSC_OK || rc == PSC_MISSING || rc == PSC_FORMAT);
        read_entry(&b, i);
    }
}

static void read_times(const struct chunk *c)
{
    struct chunk_times t;
    uint32_t n = 0;
    int64_t before = -1;

    for (chunk_times_init(&t, c); chunk_times_next(&t); n++) {
        require(t.snapshot == n && t.boot < c->n_boots && t.n > before);
        before = t.n;
    }
    require(n == c->snapshots || t.failed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct chunk_digest none = {.sha256 = no_sha256};
    struct psc_reader r;
    struct chunk c;
    psc_reader_init(&r, (struct psc_bytes){data, size});
    bool right = (psc_read_u8(&r) & 1) != 0;
    struct psc_bytes head = psc_read_string(&r);
    struct psc_bytes levels = psc_read_string(&r);
    struct psc_bytes rest = {r.at, psc_reader_left(&r)};
    if (r.failed ||
        chunk_open(&c, head, right ? &chunk_openssl : &none, NULL) != PSC_OK) {
        return 0;
    }
    read_times(&c);
    for (uint32_t i = 0; i < c.n_blocks; i++) {
        read_block(&c, i, levels, rest);
    }
    return 0;
}
