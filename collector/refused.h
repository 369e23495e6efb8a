/* What to make of samples that the database refuses. Pure.
 *
 * A refusal that may pass (no disk space, a lock not got, a crash) is tried
 * again. One for the contents speaks of the sample: when it is refused alone
 * again and again while others are stored, it is recorded and skipped. All
 * others (no such function, permission denied) speak of the database or of
 * our statements: dropping samples would lose them for somebody's mistake, so
 * they are held back, on their host, until somebody mends it. */
#ifndef PSC_COLLECTOR_REFUSED_H
#define PSC_COLLECTOR_REFUSED_H

#include <stdbool.h>
#include <stdint.h>

enum refused_kind {
    REFUSED_PASSING,
    REFUSED_CONTENTS,
    REFUSED_SETUP,
};

/* By the class of the SQLSTATE, "" when the server said none. */
enum refused_kind refused_kind(const char *sqlstate);

/* What an administrator should look at, for a message. */
const char *refused_advice(const char *sqlstate);

/* So often a batch is refused alone before it is given up or held back. */
#define REFUSED_STRIKES 3

/* What a host's batch has been through; one a host, over its sessions. */
struct refused_host {
    unsigned strikes; /* times that its batch was refused alone, in a row */
    uint8_t stream[16];
    uint64_t seq;       /* of the batch */
    int64_t again_us;   /* monotonic: not heard before then */
    uint64_t good_then; /* the ingest's count of successes when it began */
};

enum refused_verdict {
    REFUSED_AGAIN, /* with the next unit */
    REFUSED_SKIP,  /* record that it is refused */
    REFUSED_HOLD,  /* send the host away until h->again_us */
};

/* The batch was refused alone, at @now_us (monotonic). @odd: others of its
 * time were stored, so that it is this batch. */
enum refused_verdict refused_strike(struct refused_host *h,
                                    enum refused_kind kind, bool odd,
                                    const uint8_t stream[16], uint64_t seq,
                                    int64_t now_us);

/* A batch of the host has been stored. */
static inline void refused_forgive(struct refused_host *h)
{
    h->strikes = 0;
    h->again_us = 0;
}

/* Microseconds until the host is heard again, 0: it is. */
static inline int64_t refused_wait_us(const struct refused_host *h,
                                      int64_t now_us)
{
    return h->again_us > now_us ? h->again_us - now_us : 0;
}

#endif
