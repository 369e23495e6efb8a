/* From wire batches to batches for the store: what stands of a host's tables
 * in one session, the assembly of a sample's parts, names to local indices,
 * times, and sanitising. No I/O. */
#ifndef PSC_COLLECTOR_DECODE_H
#define PSC_COLLECTOR_DECODE_H

#include "collector/batch.h"
#include "collector/budget.h"
#include "collector/clock_offset.h"
#include "collector/registry.h"
#include "common/error.h"
#include "proto/grid.h"
#include "proto/names.h"
#include "proto/stored.h"
#include "proto/wire.h"

/* The store wants a keyframe of a table at least so often, and with the first
 * row of each settle span. */
enum { DECODE_KEYFRAME_ROWS = 64 };
#define DECODE_KEYFRAME_US    3600000000LL
#define DECODE_SETTLE_SPAN_US 3600000000LL /* unless the database says */

struct decode_chain {
    struct grid grid; /* ref: index in the registry; REGISTRY_NONE: nobody's */
    struct name_chain names;
    uint64_t seq; /* batch that the grid stands at, 0: none */

    /* the sample that is being put together */
    enum stored_kind kind; /* as the agent sent it */
    uint32_t n_changed;    /* entries */
    uint32_t n_new;        /* names, the last ones of the grid */
    bool restate;          /* it cannot be stored as it came */

    /* what the store has, or will have from what is queued */
    uint32_t n_rows;     /* from its last keyframe on; 0: a delta has no base */
    int64_t keyframe_us; /* time of that keyframe */
    int64_t span;        /* number of the settle span of the last row */
};

/* Indices of a registry that one host has; empty between two parts. */
struct decode_seen {
    uint64_t *bits;
    uint32_t cap;
};

/* What all sessions share; loop thread only. */
struct decode_shared {
    struct registry tags, counters;
    int64_t settle_span_us; /* the database's setting */
    /* scratch, reused */
    struct psc_buf key, text;
    struct psc_buf drivers, events, sources, aliases;
    struct psc_buf gaps, values; /* of a table stated anew */
    struct psc_buf tags_packed, counters_packed;
    struct grid_changes changes;
    struct decode_seen seen;

    uint64_t n_dropped_entries; /* refused by quota, cap or sanitising */
    uint64_t n_cut_lists;       /* record lists that were bad or too long */
    uint64_t n_over_budget; /* records, and boots, beyond the host's budget */
};

struct decode {
    struct decode_chain tags, counters;
    bool assembling;              /* parts of a sample are still to come */
    uint32_t next_part;           /* of these */
    uint64_t first_seq;           /* of the sample */
    struct registry_quota *quota; /* of the host; borrowed */
    struct budget *budget;        /* likewise; NULL: without bound */
};

void decode_shared_init(struct decode_shared *s);
void decode_shared_fini(struct decode_shared *s);

void decode_init(struct decode *d, struct registry_quota *quota);
void decode_fini(struct decode *d);

/* A new stream or a new start within one: nothing stands. */
void decode_reset(struct decode *d);

/* Bytes of memory that @d holds. */
size_t decode_bytes(const struct decode *d);

/* Apply one wire batch. Afterwards, unless @in->more is set, the sample is
 * whole and decode_take() gives it. Returns 0; PSC_NEED_KEYFRAME; PSC_FORMAT
 * or PSC_LIMIT for a peer that breaks the protocol; PSC_NOMEM. */
PSC_MUST_CHECK int decode_apply(struct decode *d, struct decode_shared *s,
                                const struct wire_batch *in,
                                struct psc_error *err);

/* Where and when a batch belongs. */
struct decode_facts {
    int64_t host_id, session;
    const char *host;       /* its name */
    const uint8_t *stream;  /* 16 bytes */
    uint64_t prev_seq;      /* of the stream */
    const uint8_t *boot_id; /* 16 bytes: the present boot, by the hello */
    const struct clock_offset *clock;
    int64_t now_us;  /* collector's wall clock */
    int64_t mono_us; /* and monotonic one */
};

/* The sample that @in completed, in *@out (to be freed by free()): it will be
 * stored next, or nothing more of this session. Returns 0 or PSC_NOMEM. In
 * decode_take.c. */
PSC_MUST_CHECK int decode_take(struct decode *d, struct decode_shared *s,
                               const struct decode_facts *facts,
                               const struct wire_batch *in, struct batch **out);

#endif
