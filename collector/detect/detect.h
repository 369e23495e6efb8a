/* Leak detection on one host: pure functions over samples, with no clock and
 * no I/O. Time comes with the samples, so a replayed history finds what was
 * found live, at the same time, and a history cut off at a finding's
 * detected_at_us still gives it.
 *
 *   detect_begin(host, at)  detect_tag(...) for each changed tag
 *   detect_room(...)        detect_end(host, findings, ...)
 *
 * docs/detection.md explains the method. */
#ifndef PSC_DETECT_DETECT_H
#define PSC_DETECT_DETECT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

/* Settings with their defaults in detect_settings_default(). */
struct detect_settings {
    double min_bytes_per_day;       /* slower growth is not reported */
    int64_t fast_horizon_us;        /* fast path: exhaustion within this */
    double fast_z, slow_z;          /* Mann-Kendall z to pass */
    double min_growth_share;        /* of the level over the windows */
    int64_t inform_horizon_us;      /* beyond it a finding is information */
};
void detect_settings_default(struct detect_settings *s);

struct detect_host; /* opaque: all series of one host */

PSC_MUST_CHECK int detect_host_new(const struct detect_settings *settings,
                                   struct detect_host **host);
void detect_host_free(struct detect_host *host);
size_t detect_host_bytes(const struct detect_host *host);

/* A snapshot of the host begins, taken at @at_us (collector time), @interval_us
 * after the one before by the host's own setting. */
void detect_begin(struct detect_host *host, int64_t at_us, int64_t interval_us);

/* The host has restarted: everything starts from nothing. */
void detect_boot(struct detect_host *host);

/* Tag @id (the store's id of pool and tag) changed to @bytes in this
 * snapshot; unchanged tags are not named. @pool groups, @flags are table.h's
 * (ENTRY_RECLAIMABLE counts), @generic says that the tag belongs to nobody in
 * particular (kmalloc-64) and never leads a group. */
PSC_MUST_CHECK int detect_tag(struct detect_host *host, uint32_t id, int pool,
                              uint8_t flags, bool generic, int64_t bytes,
                              int64_t outstanding);
void detect_gone(struct detect_host *host, uint32_t id);

/* The room that the host has left as of this snapshot: memory available for
 * the kernel, and the total it is judged against. */
void detect_room(struct detect_host *host, int64_t available_bytes,
                 int64_t total_bytes);

#define DETECT_TAGS_MAX 16

enum detect_change { DETECT_OPENED, DETECT_CHANGED, DETECT_RESOLVED };

/* One finding of one host, as it stands after this snapshot. */
struct detect_finding {
    enum detect_change change;
    uint64_t key;                  /* the leading tag's id: identity */
    uint32_t tags[DETECT_TAGS_MAX]; /* leading one first, then lockstep */
    double tag_bytes_per_day[DETECT_TAGS_MAX];
    uint32_t n_tags;
    bool fast;                     /* by the fast path */
    int64_t onset_us, detected_us, updated_us;
    int64_t bytes;                 /* the leading tag's now */
    double bytes_per_day;          /* the leading tag's */
    double group_bytes_per_day;    /* all its tags' within one pool */
    int64_t room_bytes;
    int64_t exhaustion_us, earliest_us, latest_us; /* 0: not in sight */
    double z;                      /* Mann-Kendall of the leading tag */
    double confidence;             /* 0 to 1 */
    uint32_t windows;              /* that the evidence covers */
    int64_t window_us;
};

/* End the snapshot. @emit is called for each finding that opened, changed or
 * resolved with it. */
PSC_MUST_CHECK int detect_end(struct detect_host *host,
                              void (*emit)(void *user,
                                           const struct detect_finding *f),
                              void *user);

#endif
