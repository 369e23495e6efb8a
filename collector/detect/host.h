/* What a host's detection state is made of; detect.h is its face. For the
 * files of detect/ and their tests only. */
#ifndef PSC_DETECT_HOST_H
#define PSC_DETECT_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "collector/detect/detect.h"
#include "collector/detect/series.h"
#include "collector/detect/suspect.h"
#include "collector/detect/swing.h"
#include "collector/detect/trend.h"

#define DETECT_SERIES_MAX   (UINT32_C(1) << 20)
#define DETECT_FINDINGS_MAX 64
#define DAY_US              (INT64_C(86400) * 1000000)

/* The windows of one scale: window k covers [k, k + 1) * length_us, so that a
 * history fed from any start has the same windows. */
struct scale {
    int64_t length_us;   /* 0: no snapshot yet */
    int64_t number;      /* of the present window */
    uint32_t samples;    /* snapshots in it so far */
    uint32_t period;     /* seasons */
    bool closed;         /* this snapshot closed a window */
    uint32_t n_x;        /* closed windows known */
    double x[TREND_MAX]; /* their numbers, oldest first */
};

/* A finding's life. */
struct finding {
    struct detect_finding now;    /* as it stands */
    float peaks[DETECT_TAGS_MAX]; /* each tag's record before the leak */
    double base;                  /* leader's floor at the onset; NAN: the next
                                   * floor will be it (after a boot) */
    double top;                   /* its highest floor since */
    double since;                 /* window number where this run of growth,
                                   * whose rate is told, began */
    int64_t grew_for_us;          /* from the onset to the last growth */
    int64_t quiet_from_us;        /* no growth since; a boot starts it anew */
    uint32_t fallen;              /* windows in a row down at the base */
    bool dormant;                 /* restored, its time not reached */
    bool restored;                /* the store has it */
    bool told;                    /* the caller has it */
    bool resolved;
    uint32_t told_tags; /* what the caller knows of it: */
    bool told_growing;
    bool told_fast;
    double told_rate;
    int64_t told_exhaustion_us;
};

struct detect_host {
    struct detect_settings settings;
    struct series *series;
    uint32_t n_series, cap_series;
    uint32_t *slots;    /* hash of id to index + 1; 0 is empty */
    uint32_t slot_mask; /* slots - 1; with slots NULL meaningless */
    uint32_t next;      /* series expected to be named next */
    struct mover *movers;
    uint32_t n_movers, cap_movers;
    struct finding *findings;
    uint32_t n_findings, cap_findings;
    struct swing *swings; /* what fell back in this boot */
    uint32_t n_swings, cap_swings;
    struct scale fast, slow;
    int64_t at_us; /* of the present snapshot */
    int64_t interval_us;
    double room_bytes; /* left as of it; below 0: not known */
    double total_bytes;
    bool starved; /* an allocation failed in this snapshot */
};

/* --- host.c --- */

/* The series of tag @id, or NULL. */
struct series *host_find(const struct detect_host *h, uint32_t id);

/* Make room for one more element of @size in an array of *@cap. */
PSC_MUST_CHECK int host_reserve(struct detect_host *h, void *array,
                                uint32_t *cap, uint32_t used, size_t size);

/* Give @s a fast ring that begins with @before (NAN: nothing). */
PSC_MUST_CHECK int host_track(struct detect_host *h, struct series *s,
                              float before);
void host_untrack(struct detect_host *h, struct series *s);

/* The closed floors of @s at a scale; none for a still series' fast ones. */
void host_points(const struct detect_host *h, const struct scale *scale,
                 const struct series *s, struct trend_points *p);

/* --- group.c --- */

/* Suspects in lockstep. */
struct group {
    uint32_t n;
    uint32_t member[DETECT_TAGS_MAX]; /* indices of suspects, leader first */
};

/* All that grows at @scale, into a list that the caller frees with
 * settings.reallocate. Returns 0 or PSC_NOMEM. */
PSC_MUST_CHECK int group_suspects(struct detect_host *h,
                                  const struct scale *scale,
                                  struct suspect **list, uint32_t *n);

/* The suspects in lockstep with @pivot, which are then taken. Not in any
 * particular suspect's favour: the order of the list does not matter. */
void group_gather(const struct detect_host *h, const struct scale *scale,
                  struct suspect *list, uint32_t n, uint32_t pivot,
                  struct group *g);

/* The next suspect to make a group of: of those that lead and are not taken
 * the fastest. Returns its index, or @n. */
uint32_t group_pivot(const struct detect_host *h, const struct suspect *list,
                     uint32_t n);

/* Growth within one pool, in bytes per any time. Objects that leak pin some
 * reclaimable ones (an open file its dentry), but others only happen to grow
 * along (a scan of /proc): reclaimable growth counts up to two thirds of the
 * rest (a dentry takes 192 bytes, the file that pins it 256, and more with what
 * the file belongs to). */
struct growth {
    double rest;        /* of what the kernel cannot shrink */
    double reclaimable; /* of what it can */
};
void growth_add(struct growth *g, const struct series *s, double rate);
double growth_counted(const struct growth *g);

/* What of the group's growth per window counts, in the pool that grows most.
 * 0 if that is a cache that fills: reclaimable growth by far outweighs the
 * rest. */
double group_growth(const struct detect_host *h, const struct suspect *list,
                    const struct group *g);

/* --- finding.c --- */

/* A finding of group @g; a dormant one of the same leader becomes it. Returns
 * 0, PSC_NOMEM or PSC_LIMIT. */
PSC_MUST_CHECK int finding_open(struct detect_host *h,
                                const struct scale *scale,
                                const struct suspect *list,
                                const struct group *g);

/* The finding that has tag @id and is not resolved, or NULL. */
struct finding *finding_of(struct detect_host *h, uint32_t id);

/* Put tag @id into @f if there is room and no finding has it. */
void finding_join(struct detect_host *h, struct finding *f, uint32_t id);

/* A window closed at @scale: see whether @f, which lives at it, still grows,
 * and when the room is used up; resolve it when it is over. */
void finding_review(struct detect_host *h, const struct scale *scale,
                    struct finding *f, bool replay);

/* Restored findings whose time has come begin to live. */
void finding_wake(struct detect_host *h);
void finding_boot(struct detect_host *h);
void finding_step_back(struct detect_host *h); /* to h->at_us */

/* Tell what opened, changed or resolved, and drop what is over. */
void finding_tell(struct detect_host *h, bool closed,
                  void (*emit)(void *user, const struct detect_finding *f),
                  void *user);

#endif
