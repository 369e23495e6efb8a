/* From a sample to batches in the spool: keyframe or delta, in as many parts
 * as it takes, under the next seqs of the stream. */
#ifndef PSC_AGENT_BATCH_H
#define PSC_AGENT_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/collect.h"
#include "agent/spool.h"
#include "common/error.h"
#include "proto/wire.h"

struct batcher {
    struct spool *spool; /* borrowed */
    uint8_t boot_id[16];
    size_t budget_bytes; /* of a part's tags; smaller in tests */
    struct table_writer tags, counters;
    struct psc_buf frame;    /* the batch being encoded */
    uint64_t tags_seq;       /* the stream's last batch with tags */
    uint64_t counters_seq;   /* with counters */
    bool want_keyframe;      /* the next batch must begin with one */
    uint64_t keyframe_bytes; /* of the last keyframe's parts */
    uint64_t delta_bytes;    /* of the batches since then */
    bool drivers_due, aliases_due, states_due; /* not yet in a batch */
    uint32_t drivers_crc, aliases_crc;         /* of the last inventory */
    uint64_t dropped;   /* by the spool, when last looked at */
    int64_t refresh_us; /* wall clock: send inventories again */
};

/* The clocks at the moment of capture. */
struct batch_time {
    int64_t wall_us, boot_us, mono_us;
};

void batcher_init(struct batcher *b, struct spool *spool,
                  const uint8_t boot_id[16]);
void batcher_fini(struct batcher *b);

/* The next batch shall be a keyframe (a new session, or a failure). */
void batcher_want_keyframe(struct batcher *b);

/* Whether the next batch will be a keyframe; then both tables must have been
 * sampled. */
bool batcher_wants_keyframe(const struct batcher *b, int64_t wall_us);

/* Encode what @c has collected and append it to the spool. @due are the groups
 * that were sampled (bits 1 << enum source_group). On failure the sample is
 * lost but for its events, which @c keeps, and the next batch is a keyframe. */
PSC_MUST_CHECK int batcher_take(struct batcher *b, struct collect *c,
                                unsigned due, uint64_t missed,
                                const struct batch_time *time);

#endif
