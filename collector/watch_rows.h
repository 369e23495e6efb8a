/* One host's stored samples into detect/: rows as they came, and chunks, which
 * give the same. Pure: what ids mean is asked for by a callback.
 *
 *   per sample, in order of n:  watch_rows_counters  then  watch_rows_tags
 *   or from chunks:             watch_rows_room      then  watch_rows_replay
 *
 * A keyframe says what a host has; what it had before and has no more is
 * found by comparing ids, so it does not matter where a keyframe stands. */
#ifndef PSC_COLLECTOR_WATCH_ROWS_H
#define PSC_COLLECTOR_WATCH_ROWS_H

#include <stdbool.h>
#include <stdint.h>

#include "collector/detect/detect.h"
#include "collector/replay.h"
#include "proto/stored.h"

/* What an id means. */
struct watch_tag {
    bool asked; /* of late */
    bool known;
    bool generic;
    uint8_t flags;
    uint8_t pool;
    uint32_t mark; /* that of the last sample that named it */
};

typedef void watch_emit(void *user, const struct detect_finding *f);

/* What all hosts share. */
struct watch_rows {
    struct watch_tag *tag; /* by id; owned */
    uint32_t cap_tags;
    uint32_t mark;                   /* of the present sample */
    uint32_t available_id, total_id; /* counters; 0: not known yet */
    int64_t latest_us;               /* no sample is from later than this */
    /* Ask what @ids mean (some may come twice), so that tag[] has those that
     * mean something. Returns 0 or an error, explained. */
    int (*learn)(void *arg, const uint32_t *ids, uint32_t n,
                 struct psc_error *err);
    void *arg;
    struct grid_changes changes; /* scratch of all, as the next */
    uint32_t *ids, *had;         /* owned */
    uint32_t n_ids, cap_ids, n_had, cap_had;
};

/* What is kept of a host. */
struct watch_view {
    struct detect_host *detect; /* owned */
    struct grid tags, counters; /* of fresh rows */
    uint32_t
        *kept; /* while tags waits for a keyframe: ids that it had; owned */
    uint32_t n_kept;
    bool restate; /* not all that it has is told to detection */
    bool has_boot;
    uint8_t boot_id[CHUNK_BOOT_BYTES];
    int64_t available_bytes, total_bytes; /* of memory; -1: unknown */
    int64_t at_us;       /* last possible time of a sample; 0: none */
    int64_t interval_us; /* the host's */
};

/* A sample that has tags. */
struct watch_sample {
    int64_t at_us;
    const uint8_t *boot_id; /* CHUNK_BOOT_BYTES; NULL: not known */
    watch_emit *emit;       /* NULL: in silence */
    void *user;
};

void watch_rows_init(struct watch_rows *r);
void watch_rows_fini(struct watch_rows *r);

/* A host without history, and its end. @view->detect is the caller's to set;
 * watch_view_fini() frees it. */
void watch_view_init(struct watch_view *view);
void watch_view_fini(struct watch_view *view);
size_t watch_view_bytes(const struct watch_view *view);

/* The two tables of a fresh row (proto/stored.h). Return 0, PSC_NOMEM, what
 * learn() returned, or what stored_apply() refuses: damage, and from there to
 * the next keyframe PSC_NEED_KEYFRAME; nothing was fed then. */
PSC_MUST_CHECK int watch_rows_counters(struct watch_rows *r,
                                       struct watch_view *view,
                                       struct psc_bytes counters, bool keyframe,
                                       struct psc_error *err);
PSC_MUST_CHECK int watch_rows_tags(struct watch_rows *r,
                                   struct watch_view *view,
                                   const struct watch_sample *sample,
                                   struct psc_bytes tags, bool keyframe,
                                   struct psc_error *err);

/* A snapshot of a chunk of counters. */
void watch_rows_room(struct watch_rows *r, struct watch_view *view,
                     const struct replay *counters);

/* A snapshot of a chunk of tags. @whole: the first of the chunk that is fed,
 * whichever that is. */
PSC_MUST_CHECK int watch_rows_replay(struct watch_rows *r,
                                     struct watch_view *view,
                                     const struct watch_sample *sample,
                                     struct replay *tags, bool whole,
                                     struct psc_error *err);

/* The chunk has ended. Returns 0 or PSC_NOMEM. */
PSC_MUST_CHECK int watch_rows_replayed(struct watch_rows *r,
                                       struct watch_view *view,
                                       struct replay *tags);

#endif
