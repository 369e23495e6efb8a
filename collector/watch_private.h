/* What watch*.c share. */
#ifndef PSC_COLLECTOR_WATCH_PRIVATE_H
#define PSC_COLLECTOR_WATCH_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "collector/detect/detect.h"
#include "collector/pgparam.h"
#include "collector/watch.h"

struct watch_host {
    int64_t host_id;
    int64_t position_n;  /* newest n when last looked at */
    int64_t saved_n;     /* that the database has of it */
    int64_t tags_n;      /* last snapshot fed */
    int64_t counters_n;  /* last counter sample read */
    int64_t silent_to_n; /* up to here all was told before */
    int64_t retry_us;    /* monotonic: not before, after a failure */
    int64_t at_us;       /* last possible time of a snapshot; 0: none */
    int64_t interval_us;
    struct detect_host *detect;           /* owned; NULL: to be built */
    int64_t available_bytes, total_bytes; /* of memory; -1: unknown */
    uint8_t boot_id[16];
    bool has_boot;
    uint32_t *tags; /* ids it has, sorted; owned */
    uint32_t n_tags, cap_tags;
};

struct watch_tag {
    bool known;
    bool generic;
    uint8_t flags;
    uint8_t pool;
};

struct watch {
    struct metrics *metrics;
    const atomic_bool *stop;
    PGconn *conn;             /* of the present pass */
    PGconn *prepared_on;      /* where the statements are */
    bool locked;              /* this connection holds the fleet's lock */
    bool written;             /* a finding since positions were saved */
    int64_t save_us;          /* monotonic: when they are due */
    struct psc_error *err;    /* of the present pass */
    int rc;                   /* of a finding's write within a callback */
    struct watch_host **host; /* sorted by host_id; owned */
    uint32_t n_hosts, cap_hosts;
    struct watch_tag *tag; /* by tag_id; owned */
    uint32_t cap_tags;
    int64_t tags_read_us;           /* monotonic: read them anew now and then */
    int32_t available_id, total_id; /* counters; 0: not known yet */
    struct psc_buf ids, numbers, summary, evidence; /* scratch */
    uint32_t *keyframe; /* scratch: ids of one keyframe */
    uint32_t cap_keyframe;
};

/* watch_sql.c: one prepared statement; the result is the caller's to clear,
 * NULL on failure (then w->err says why). */
PGresult *watch_query(struct watch *w, const char *name,
                      const struct pgparams *p);
PSC_MUST_CHECK int watch_prepare(struct watch *w);
/* Know every tag in column @col (an int[]) of @res. */
PSC_MUST_CHECK int watch_learn_tags(struct watch *w, const PGresult *res,
                                    int col);
PSC_MUST_CHECK int watch_learn_counters(struct watch *w);
/* Write one finding of @h. */
PSC_MUST_CHECK int watch_write(struct watch *w, const struct watch_host *h,
                               const struct detect_finding *f);
/* Note in the database how far detection has come with each host. */
PSC_MUST_CHECK int watch_save_positions(struct watch *w);
/* Restore what the store has open of @h. */
PSC_MUST_CHECK int watch_restore(struct watch *w, struct watch_host *h);

/* watch_feed.c: read and feed what is new of @h. */
PSC_MUST_CHECK int watch_feed(struct watch *w, struct watch_host *h);

#endif
