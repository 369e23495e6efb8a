/* What watch*.c share. */
#ifndef PSC_COLLECTOR_WATCH_PRIVATE_H
#define PSC_COLLECTOR_WATCH_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "collector/pgparam.h"
#include "collector/watch.h"
#include "collector/watch_rows.h"

struct watch_host {
    int64_t host_id;
    int64_t target_n;    /* newest n that the database has told of */
    int64_t position_n;  /* looked at up to here; 0: never */
    int64_t fed_n;       /* last row fed; beyond position_n within a look */
    int64_t saved_n;     /* position that the database has of it */
    int64_t silent_to_n; /* up to here all was told before */
    int64_t retry_us;    /* monotonic: not before, after a failure */
    int64_t behind_us;   /* monotonic: what was stored until then is looked at;
                            0: nothing may be */
    size_t bytes;        /* of memory, as last counted */
    bool pending;        /* in the watch's list of such */
    bool told;           /* a finding since its position was saved */
    struct watch_view view; /* view.detect NULL: it is to be built */
};

struct watch {
    struct metrics *metrics;
    const atomic_bool *stop;
    PGconn *conn;             /* of the present pass */
    PGconn *prepared_on;      /* where the statements are */
    bool locked;              /* this connection holds the fleet's lock */
    bool polled;              /* since: horizon is this connection's */
    uint32_t horizon;         /* what the next poll begins at */
    int64_t polled_us;        /* monotonic: the last poll; 0: none */
    int64_t save_us;          /* monotonic: when positions are due */
    bool told;                /* some host's is due at once */
    int64_t tags_read_us;     /* monotonic: ask for them anew now and then */
    int64_t counters_read_us; /* monotonic: when last asked for */
    struct psc_error *err;    /* of the present pass */
    struct psc_error first;   /* what went wrong first with a single host */
    int rc;                   /* of a finding's write within a callback */
    struct watch_host **host; /* sorted by host_id; owned */
    uint32_t n_hosts, cap_hosts;
    struct watch_host **pending; /* those with something new; owned */
    uint32_t n_pending, cap_pending;
    size_t bytes; /* of all hosts, as counted */
    struct watch_rows rows;
    struct replay tags, counters;                   /* scratch */
    struct psc_buf ids, numbers, summary, evidence; /* scratch */
};

/* watch_sql.c: one prepared statement; the result is the caller's to clear,
 * NULL on failure (then w->err says why). */
PGresult *watch_query(struct watch *w, const char *name,
                      const struct pgparams *p);
PSC_MUST_CHECK int watch_prepare(struct watch *w);
/* What the ids of tags mean: rows.learn of struct watch @arg. */
PSC_MUST_CHECK int watch_learn_tags(void *arg, const uint32_t *ids, uint32_t n,
                                    struct psc_error *err);
/* The counters of room, unless they are known or were asked for just now. */
PSC_MUST_CHECK int watch_learn_counters(struct watch *w);
/* Write one finding of @h. */
PSC_MUST_CHECK int watch_write(struct watch *w, struct watch_host *h,
                               const struct detect_finding *f);
/* Note in the database how far detection has come: with each host, or with
 * those that a finding was told of. */
PSC_MUST_CHECK int watch_save_positions(struct watch *w, bool all);
/* Restore what the store has open of @h. */
PSC_MUST_CHECK int watch_restore(struct watch *w, struct watch_host *h);

/* watch_feed.c: read and feed what is new of @n hosts that have a state. What
 * fails with one of them is reported by watch_fail(). Returns 0,
 * PSC_CONNECTION, or PSC_DATABASE if the rows of all could not be read. */
PSC_MUST_CHECK int watch_feed(struct watch *w, struct watch_host **hosts,
                              uint32_t n);
/* Feed row @row of fresh_rows(), of @h: its tables behind these n's. */
PSC_MUST_CHECK int watch_feed_row(struct watch *w, struct watch_host *h,
                                  const PGresult *res, int row, int64_t tags_n,
                                  int64_t counters_n);
/* Ask for fresh rows; NULL on failure. */
PGresult *watch_fresh_rows(struct watch *w, struct watch_host *const *hosts,
                           uint32_t n, bool *cut);
/* A sample of @h as watch_rows.h wants it, with findings told if they are not
 * history; w->rc is what became of them. */
struct watch_emission {
    struct watch *w;
    struct watch_host *h;
};
struct watch_sample watch_sample_of(struct watch_emission *e, int64_t n,
                                    int64_t at_us, const uint8_t *boot_id);
/* Feed is over with one sample: count it, and say what became of findings. */
int watch_sample_end(struct watch *w, int rc);

/* watch_build.c: begin with @h, or go on where its rows may be gone. */
PSC_MUST_CHECK int watch_build(struct watch *w, struct watch_host *h);

/* watch.c: drop the state of @h, for w->err. */
void watch_fail(struct watch *w, struct watch_host *h);

#endif
