/* Batches of all sessions into units, units into the store, and back what
 * became of each batch.
 *
 * Each session has a queue. Queues that hold batches stand in a ring; a unit
 * takes a few from each in turn, so that a host with a backlog does not starve
 * the others. One unit is in flight at a time; it is retried as a whole until
 * the store has answered. When a unit is refused for its contents, its batches
 * are tried one by one and the culprit is recorded and skipped.
 *
 * Memory is bounded: above max_pending bytes the sessions are told to stop
 * reading, and below half of it they go on, in the order in which they
 * stopped. */
#ifndef PSC_COLLECTOR_INGEST_H
#define PSC_COLLECTOR_INGEST_H

#include <uv.h>

#include "collector/batch.h"
#include "collector/store.h"

struct ingest;
struct metrics;

struct ingest_queue {
    struct batch *head, *tail; /* owned; not in a unit yet */
    size_t bytes;              /* of these */
    unsigned n;
    struct ingest_queue *ring_next, *ring_previous; /* while n > 0 */
    struct ingest_queue *wait_next, *wait_previous; /* while paused */
    bool paused; /* its session does not read */
    bool dead;   /* refuses batches: one of it must be sent again */
};

struct ingest_events {
    /* All batches of @q's session up to @seq of @stream are stored. */
    void (*on_stored)(struct ingest_queue *q, const uint8_t stream[16],
                      uint64_t seq);
    /* @q's session must end: it is superseded, or its stream does not stand
     * where it thought. Nothing more of @q is stored. */
    void (*on_fenced)(struct ingest_queue *q, enum batch_outcome why);
    /* There is room again. */
    void (*on_resume)(struct ingest_queue *q);
};

struct ingest_settings {
    struct store *store;
    struct registry *tags, *counters;
    struct metrics *metrics;
    const struct ingest_events *events;
    int64_t commit_interval_us;
    int64_t max_pending_bytes;
};

enum ingest_phase {
    INGEST_IDLE,
    INGEST_INTERN, /* the unit's unknown names are on their way */
    INGEST_UNIT,   /* the unit is on its way */
    INGEST_REJECT, /* one batch of it is being recorded as refused */
    INGEST_RETRY,  /* waiting after a refusal that may pass */
};

struct ingest {
    struct ingest_settings settings;
    struct ingest_queue *ring;                   /* next one to be served */
    struct ingest_queue *waiting, *waiting_last; /* paused ones, in order */
    enum ingest_phase phase;
    struct batch *unit[STORE_UNIT_MAX]; /* owned; what is in flight or left */
    unsigned n_unit;
    unsigned first;  /* of the unit not yet done: one by one */
    bool one_by_one; /* the unit was refused for its contents */
    size_t unit_bytes;
    size_t pending_bytes; /* of all batches, the unit's included */
    unsigned n_pending;
    uint64_t order;   /* of the next batch to arrive */
    uv_timer_t timer; /* to the next unit, or the next try */
    bool timer_open;
    int64_t last_unit_us; /* monotonic start of the last unit */
    bool forget_ids;      /* as soon as no unit is in flight */
    bool stopping;
    struct store_intern intern;
    struct store_unit request;
    struct store_reject reject;
    void (*on_stopped)(struct ingest *in);
};

PSC_MUST_CHECK int ingest_start(struct ingest *in, uv_loop_t *loop,
                                const struct ingest_settings *settings);

/* Queue @b. Takes @b. Returns false if its session must stop reading now:
 * on_resume follows. */
bool ingest_add(struct ingest *in, struct ingest_queue *q, struct batch *b);

/* The session of @q has ended: what is queued is dropped, what is in flight
 * will be stored without word. @q is the caller's again. */
void ingest_forget(struct ingest *in, struct ingest_queue *q);

/* The database has forgotten names: ask for every id anew. */
void ingest_forget_ids(struct ingest *in);

/* Take no more batches; what is queued is dropped, the unit in flight may end
 * by itself. @on_stopped fires when it has, or after ingest_abandon(). */
void ingest_stop(struct ingest *in, void (*on_stopped)(struct ingest *in));

/* Whether a unit is in flight. */
static inline bool ingest_busy(const struct ingest *in)
{
    return in->phase != INGEST_IDLE;
}

#endif
