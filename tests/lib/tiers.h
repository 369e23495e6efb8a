/* Samples put straight into the store's two tiers, as ingest and settling do
 * it: for tests and benchmarks of what reads them. Every function fails the
 * running test on an error. */
#ifndef PSC_TESTS_TIERS_H
#define PSC_TESTS_TIERS_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/table.h"
#include "sql/codec/chunk_writer.h"

/* One table (tags, or counters) of one host. */
struct tier_table {
    struct table table; /* what was put; keys are ids */
    struct table_writer packed;
    struct psc_buf row;
    struct chunk_writer chunk;
};

void tier_table_init(struct tier_table *t, uint32_t columns);
void tier_table_fini(struct tier_table *t);

/* A sample: begin, put what it has, then tier_row(): the bytes of a fresh row,
 * as proto/stored.h says, until the next call. *@keyframe: make it one; it
 * comes back set, too, if it had to be. */
void tier_begin(struct tier_table *t);
void tier_put(struct tier_table *t, int32_t id, uint8_t flags,
              const int64_t *values);
struct psc_bytes tier_row(struct tier_table *t, bool *keyframe);

/* Where a sample is. */
struct tier_sample {
    long long host_id;
    int64_t n, at_us;
    int slot;                        /* of table fresh */
    int tags_kind, counters_kind;    /* enum stored_kind */
    struct psc_bytes tags, counters; /* rows; empty where there is none */
};

/* Store a fresh row, and advance the host's cursor. @owner is the owner's
 * connection, as below. */
void tier_store(PGconn *owner, const struct tier_sample *s);

/* Store what is in @w, of tags or counters, as a chunk of the span that begins
 * at @span_us. Times are those of its samples. */
struct tier_chunk {
    long long host_id;
    int64_t span_us;
    int64_t n_from, n_to;
    int64_t at_from_us, at_to_us;
    int snapshots;
};
void tier_store_chunk(PGconn *owner, struct chunk_writer *w,
                      const struct tier_chunk *c);

/* Say up to where a host's tables are settled. */
void tier_settled(PGconn *owner, long long host_id, int64_t tags_n,
                  int64_t counters_n);

#endif
