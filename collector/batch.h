/* A batch on its way from a session to the store: one sample of one host, all
 * parts of it, sanitised, in one piece of memory. Names are local indices of
 * the registries until the unit is stored; numbers are packed as they will be
 * stored. */
#ifndef PSC_COLLECTOR_BATCH_H
#define PSC_COLLECTOR_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/stored.h"

struct ingest_queue;

/* What the store did with it. */
enum batch_outcome {
    BATCH_PENDING,
    BATCH_STORED,
    BATCH_DUPLICATE,  /* it was there already */
    BATCH_SUPERSEDED, /* a newer session of the host exists */
    BATCH_RETRY,      /* the stream does not stand where we thought */
    BATCH_REJECTED,   /* the database refuses its contents */
    BATCH_REFUSED,    /* the database refuses it for now */
};

/* One table as proto/stored.h says. What is stored of it:
 *
 *   stored_begin(out, n_names)
 *   stored_name(out, name_flags[i], id of local[i])   for each name
 *   psc_buf_append(out, packed, packed_bytes)
 *
 * The id is registry_known_id() of the local index, 0 if that is not above 0
 * or the index is REGISTRY_NONE: the entry is nobody's. */
struct batch_table {
    enum stored_kind kind;
    uint32_t n_changed; /* entries that the sample changed, for metrics */
    uint32_t n_names;
    uint32_t packed_bytes;
    uint32_t *local;     /* local index in the registry, n_names of them */
    uint8_t *name_flags; /* of each name */
    uint8_t *packed;     /* what comes behind the names */
};

struct batch {
    struct batch *next;         /* in its queue or in a unit */
    struct ingest_queue *queue; /* NULL once its session has ended */
    size_t bytes;               /* of memory */
    int64_t host_id;
    int64_t session; /* number of the claim */
    uint8_t stream[16];
    uint64_t prev_seq;  /* where the stream stands before this batch */
    uint64_t first_seq; /* of the sample's parts */
    uint64_t seq;       /* of the last one */
    int64_t at_us;      /* collector's clock */
    int64_t wall_us;    /* host's clock */
    uint8_t boot_id[16];
    int64_t boot_at_us; /* collector's clock, 0: unknown */
    uint64_t missed_ticks;
    uint64_t order;      /* of arrival, over all sessions */
    int64_t received_us; /* monotonic, for the latency of the commit */
    struct batch_table tags, counters;
    const char *drivers, *events, *sources, *aliases; /* JSON; NULL: none */
    enum batch_outcome outcome;
};

#endif
