/* Reads all of a chunk as a reader would, and keeps nothing. */
#include "sql/codec/chunk_check.h"

#include <inttypes.h>

static int check_times(const struct chunk *c, const struct chunk_facts *facts,
                       struct psc_error *err)
{
    struct chunk_times t;
    int64_t n_to = c->n;
    int64_t at_from_us = c->at_us, at_to_us = c->at_us;
    uint32_t snapshots = 0;
    chunk_times_init(&t, c);
    while (chunk_times_next(&t)) {
        snapshots++;
        n_to = t.n;
        at_from_us = t.at_us < at_from_us ? t.at_us : at_from_us;
        at_to_us = t.at_us > at_to_us ? t.at_us : at_to_us;
    }
    if (t.failed || snapshots != c->snapshots) {
        return psc_error_set(err, PSC_FORMAT, "the times are damaged");
    }
    if (snapshots != facts->snapshots || c->n != facts->n_from ||
        n_to != facts->n_to) {
        return psc_error_set(err, PSC_FORMAT,
                             "has %" PRIu32 " samples from %" PRId64
                             " to %" PRId64 ", its row says otherwise",
                             snapshots, c->n, n_to);
    }
    if (at_from_us != facts->at_from_us || at_to_us != facts->at_to_us) {
        return psc_error_set(err, PSC_FORMAT,
                             "its times are not those that its row says");
    }
    return PSC_OK;
}

static int check_entries(const struct chunk_block *b, uint32_t block,
                         struct psc_error *err)
{
    for (uint32_t i = 0; i < b->n; i++) {
        struct chunk_entry e;
        chunk_entry_open(&e, b, i);
        while (chunk_next(&e)) {
        }
        if (e.failed) {
            return psc_error_set(err, PSC_FORMAT,
                                 "block %" PRIu32 ", id %" PRIu32
                                 ": the changes are damaged",
                                 block, b->ids[i]);
        }
    }
    return PSC_OK;
}

/* One block; the number of its entries is added to *@entries. */
static int check_block(const struct chunk *c, uint32_t block,
                       struct psc_bytes levels, struct psc_bytes data,
                       uint32_t *entries, struct psc_error *err)
{
    struct chunk_block b;
    int rc = chunk_block_at(&b, c, block, data, levels, err);
    if (rc == PSC_OK) {
        *entries += b.n;
        rc = check_entries(&b, block, err);
    }
    return rc;
}

int chunk_check(const struct chunk_facts *facts, struct psc_bytes head,
                struct psc_bytes levels, struct psc_bytes data,
                const struct chunk_digest *digest, struct psc_error *err)
{
    struct chunk c;
    uint32_t entries = 0;
    int rc = chunk_open(&c, head, digest, err);
    if (rc == PSC_OK && c.columns != facts->columns) {
        rc = psc_error_set(err, PSC_FORMAT, "it is a chunk of %s",
                           c.columns == 1 ? "counters" : "tags");
    }
    if (rc == PSC_OK) {
        rc = check_times(&c, facts, err);
    }
    for (uint32_t block = 0; rc == PSC_OK && block < c.n_blocks; block++) {
        rc = check_block(&c, block, levels, data, &entries, err);
    }
    if (rc == PSC_OK && entries != c.n_entries) {
        rc = psc_error_set(err, PSC_FORMAT,
                           "has %" PRIu32 " entries, not %" PRIu32, entries,
                           c.n_entries);
    }
    return rc;
}
