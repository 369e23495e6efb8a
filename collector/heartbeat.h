/* What of a host's heartbeats is worth a row in the database. Pure.
 *
 * One comes every 10 s and mostly says what is known: that the host lives,
 * which its samples say too. So the database is told
 *   at once    the first of a session, and the last one if it is news; batches
 *              given up; a spool that is empty now or is not any more
 *   in 60 s    that the host lives, unless a sample has said so since; a spool
 *              larger or smaller by 64 KiB; a clock that moved by 0.1 s
 *   in 10 min  whatever differs
 * A collector that is killed takes no more than that with it. */
#ifndef PSC_COLLECTOR_HEARTBEAT_H
#define PSC_COLLECTOR_HEARTBEAT_H

#include <stdbool.h>
#include <stdint.h>

struct heartbeat_facts {
    int64_t seen_us; /* collector's wall clock; 0: there is none */
    int64_t clock_offset_us;
    int64_t spool_bytes, dropped_batches;
};

/* One host's. All zero is a host without a session. */
struct heartbeat {
    int64_t session; /* that it is of */
    struct heartbeat_facts heard, saved;
    int64_t known_us; /* until when the database knows the host alive */
    bool ended;       /* the session */
};

/* A claim has told the database that the host lives. */
void heartbeat_begin(struct heartbeat *h, int64_t session, int64_t now_us);
void heartbeat_end(struct heartbeat *h);

/* A sample of @at_us is stored. */
void heartbeat_note_sample(struct heartbeat *h, int64_t at_us);

/* Whether to tell the database what was heard last; then it is told, and may
 * turn out not to have taken it. */
bool heartbeat_due(const struct heartbeat *h);
void heartbeat_save(struct heartbeat *h);
void heartbeat_forget_saved(struct heartbeat *h);

#endif
