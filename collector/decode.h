/* From wire batches to batches for the store: the decoder tables of one
 * session, the assembly of a sample's parts, names to local indices, times,
 * and sanitising. No I/O. */
#ifndef PSC_COLLECTOR_DECODE_H
#define PSC_COLLECTOR_DECODE_H

#include "collector/batch.h"
#include "collector/budget.h"
#include "collector/clock_offset.h"
#include "collector/registry.h"
#include "common/error.h"
#include "proto/wire.h"

/* Keys of a session that had to be rewritten: more are dropped. */
#define DECODE_ODD_KEYS_MAX 256

/* One table's dictionary in terms of the registry. */
struct decode_names {
    uint32_t *local; /* by dictionary index; REGISTRY_NONE: dropped */
    uint32_t n, cap;
    uint32_t odd[DECODE_ODD_KEYS_MAX]; /* local indices of rewritten keys */
    uint32_t n_odd;
};

struct decode_chain {
    struct table table;
    struct decode_names names;
    uint64_t seq;         /* batch that the table stands at, 0: none */
    enum batch_kind kind; /* of the sample that is being put together */
};

/* What all sessions share; loop thread only. */
struct decode_shared {
    struct registry tags, counters;
    struct psc_buf key, text;                         /* scratch, reused */
    struct psc_buf drivers, events, sources, aliases; /* likewise */
    struct {
        uint32_t *index, *gone;
        uint8_t *flags;
        int64_t *values;
    } tag_rows;
    struct {
        uint32_t *index, *gone;
        double *reals;
    } counter_rows;
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

/* Returns 0 or PSC_NOMEM. */
PSC_MUST_CHECK int decode_shared_init(struct decode_shared *s);
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
PSC_MUST_CHECK int decode_apply(struct decode *d, const struct wire_batch *in,
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

/* The sample that @in completed, in *@out (to be freed by free()). Returns 0
 * or PSC_NOMEM. */
PSC_MUST_CHECK int decode_take(struct decode *d, struct decode_shared *s,
                               const struct decode_facts *facts,
                               const struct wire_batch *in, struct batch **out);

#endif
