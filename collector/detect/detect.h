/* Leak detection on one host: pure functions over samples, with no clock and
 * no I/O. Time comes with the samples, so a replayed history finds what was
 * found live, at the same time, and a history cut off at a finding's
 * detected_at_us still gives it.
 *
 *   detect_begin(host, at)  detect_tag(...) for each changed tag
 *   detect_room(...)        detect_end(host, findings, ...)
 *
 * After a restart of the collector the state is rebuilt from stored snapshots:
 *
 *   detect_restore() for each finding that the store has open,
 *   the stored snapshots as above, with emit NULL, then live ones.
 *
 * Eight days of snapshots (DETECT_REPLAY_US) give back the evidence; what is
 * older only sharpens the record of earlier levels.
 *
 * docs/detection.md explains the method. */
#ifndef PSC_DETECT_DETECT_H
#define PSC_DETECT_DETECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define DETECT_REPLAY_US (INT64_C(8) * 86400 * 1000000)

/* Settings with their defaults in detect_settings_default(). */
struct detect_settings {
    double min_bytes_per_day;  /* slower growth is not reported */
    int64_t fast_horizon_us;   /* fast path: exhaustion within this */
    double fast_z, slow_z;     /* Mann-Kendall z to pass */
    double min_growth_share;   /* of the level over the windows */
    int64_t inform_horizon_us; /* beyond it a finding is information */
    void *(*reallocate)(void *, size_t); /* realloc() of all state */
};
void detect_settings_default(struct detect_settings *s);

struct detect_host; /* opaque: all series of one host */

/* A host without history. @settings are copied. Returns 0 or PSC_NOMEM; the
 * caller frees *@host. */
PSC_MUST_CHECK int detect_host_new(const struct detect_settings *settings,
                                   struct detect_host **host);
void detect_host_free(struct detect_host *host); /* NULL is fine */

/* Memory held for @host, everything included, and the series in it. */
size_t detect_host_bytes(const struct detect_host *host);
uint32_t detect_host_series(const struct detect_host *host);

/* A snapshot of the host begins, taken at @at_us (collector time, later than
 * the one before: others are taken for the same moment, but more than an hour
 * earlier is a clock put right, and windows start anew), @interval_us after
 * the one before by the host's own setting. */
void detect_begin(struct detect_host *host, int64_t at_us, int64_t interval_us);

/* The host has restarted since the last snapshot; call it before
 * detect_begin(). Windows start from nothing; the record of levels that were
 * held before stays, and so do open findings, without a forecast until growth
 * is seen again. */
void detect_boot(struct detect_host *host);

/* Tag @id (the store's id of pool and tag) has @bytes in this snapshot; call
 * it for those that changed, and for all after a boot. @pool groups, @flags
 * are table.h's (ENTRY_RECLAIMABLE counts; the caller may add it from what it
 * knows), @generic says that the tag belongs to nobody in particular
 * (kmalloc-64): it leads a finding only if nothing else leaks with it.
 * Returns 0, PSC_NOMEM or PSC_LIMIT (too many tags); the host stays usable. */
PSC_MUST_CHECK int detect_tag(struct detect_host *host, uint32_t id, int pool,
                              uint8_t flags, bool generic, int64_t bytes);

/* Tag @id is not in this snapshot any more: it has no bytes. */
void detect_gone(struct detect_host *host, uint32_t id);

/* The room that the host has left as of this snapshot: memory available for
 * the kernel, and the total it is judged against. Without it nothing is
 * forecast and the fast path is silent. */
void detect_room(struct detect_host *host, int64_t available_bytes,
                 int64_t total_bytes);

#define DETECT_TAGS_MAX 16

enum detect_change { DETECT_OPENED, DETECT_CHANGED, DETECT_RESOLVED };

/* One finding of one host, as it stands after this snapshot. */
struct detect_finding {
    enum detect_change change;
    uint64_t key;                   /* the leading tag's id: identity, fixed */
    uint32_t tags[DETECT_TAGS_MAX]; /* leading one first, then lockstep */
    double tag_bytes_per_day[DETECT_TAGS_MAX]; /* while it last grew */
    uint32_t n_tags;
    uint32_t n_reclaimable; /* of them, the last ones: can be shrunk */
    bool fast;              /* by the fast path */
    bool growing;           /* in the newest windows */
    bool information;       /* not exhausted within the horizon */
    int64_t onset_us, detected_us, updated_us;
    int64_t grew_us;            /* when growth was last seen */
    int64_t onset_bytes;        /* the leading tag's floor at the onset */
    int64_t bytes;              /* the leading tag's now */
    double bytes_per_day;       /* the leading tag's, while it last grew */
    double group_bytes_per_day; /* its tags' in group_pool, of reclaimable
                                 * ones at most two thirds of the rest */
    int group_pool;             /* that grows most; -1: none */
    int64_t room_bytes;
    int64_t exhaustion_us, earliest_us, latest_us; /* 0: not in sight */
    double z;          /* Mann-Kendall of the leading tag when it was found */
    double confidence; /* 0 to 1: an index, no probability */
    uint32_t windows;  /* that z covers */
    int64_t window_us; /* and how long each was */
};

/* The store has @finding open: it is not opened again, and lives on from its
 * detected_us. Call it before the first snapshot. If nobody kept onset_bytes
 * pass -1, for grew_us 0. Returns 0 or PSC_NOMEM. */
PSC_MUST_CHECK int detect_restore(struct detect_host *host,
                                  const struct detect_finding *finding);

/* End the snapshot. @emit is called for each finding that opened, changed or
 * resolved with it. While history is fed again @emit is NULL: findings live,
 * but nobody is told; those that still stand and that detect_restore() did not
 * name are told as opened by the first call with @emit that closes a window.
 * Returns 0 or PSC_NOMEM: what could not be judged now is judged at the next
 * window. */
PSC_MUST_CHECK int detect_end(struct detect_host *host,
                              void (*emit)(void *user,
                                           const struct detect_finding *f),
                              void *user);

#endif
