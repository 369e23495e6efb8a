/* From the truth to batches, by the product's own encoder (proto/table.h).
 *
 * An agent keeps both tables of its last sample, which takes 150 bytes a tag.
 * Thousands of them share the tables here: of each host only the values and the
 * order of its dictionary are kept (23 bytes a tag), and what changes is put
 * into the tables for the time of one encoding. */
#ifndef PSC_TESTS_BENCH_FLEETSIM_ENCODE_H
#define PSC_TESTS_BENCH_FLEETSIM_ENCODE_H

#include "proto/wire.h"
#include "tests/bench/fleetsim/position.h"

struct encoder {
    const struct truth *truth; /* borrowed */
    int64_t keyframes_us;      /* between two, by the capture's wall clock */
    struct table tags, counters;
    struct table_writer tag_writer, counter_writer;
    struct psc_buf frame, drivers;
    uint32_t *scratch; /* for position_advance() */
    uint32_t *touched; /* likewise */
    uint8_t *is_touched;
    uint8_t *was_live; /* of the entries, before the present sample */
};

PSC_MUST_CHECK int encoder_init(struct encoder *e, const struct truth *t,
                                int64_t keyframes_us);
void encoder_fini(struct encoder *e);

/* What to encode, and what comes of it. */
struct encode_order {
    const struct truth_host *host;
    const struct truth_boot *boot; /* of snapshot k */
    uint64_t k;
    uint64_t seq;      /* of the first batch; then that of the next sample */
    bool keyframe;     /* begin anew; else only where an agent would */
    bool with_drivers; /* the inventory rides along */
    int64_t wall_us, boot_us; /* clocks at the capture */
    /* Takes each batch; an error from it ends the encoding. */
    int (*on_batch)(void *user, struct psc_bytes frame);
    void *user;
    size_t bytes;             /* out: of all batches together */
    uint64_t changed, values; /* out: in a delta, see struct position_step */
};

/* Encode the sample of snapshot @o->k and move @p there. On an error @p is no
 * longer known, and the next sample is a keyframe. */
PSC_MUST_CHECK int encoder_take(struct encoder *e, struct position *p,
                                struct encode_order *o);

#endif
