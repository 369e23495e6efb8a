/* Batches of all sessions into units, units into the store, and back what
 * became of each batch.
 *
 * Each session has a queue. Queues that hold batches stand in a ring; a unit
 * takes a few from each in turn, so that a host with a backlog does not starve
 * the others. One unit is in flight at a time. When the database refuses one,
 * its batches are tried one by one, so that only those hosts wait whose own
 * batch is refused; collector/refused.h says what becomes of these.
 *
 * Memory is bounded: above max_pending bytes the sessions are told to stop
 * reading, and below half of it they go on, in the order in which they
 * stopped. */
#ifndef PSC_COLLECTOR_INGEST_H
#define PSC_COLLECTOR_INGEST_H

#include <uv.h>

#include "collector/batch.h"
#include "collector/refused.h"
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
    struct refused_host *refused; /* of its host; borrowed, never NULL */
};

struct ingest_events {
    /* All batches of @q's session up to @b, which is the newest of its stream,
     * are stored or recorded as rejected. @b is borrowed. */
    void (*on_stored)(struct ingest_queue *q, const struct batch *b);
    /* @q's session must end: it is superseded, its stream does not stand where
     * it thought, the database refuses its samples, or one was recorded as
     * rejected, which those behind it build on. Nothing more of @q is stored.
     */
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
    INGEST_RETRY,  /* waiting, since the database refuses everything */
};

/* A batch that was refused alone; it is back at the head of its queue. */
struct ingest_refusal {
    struct ingest_queue *queue; /* NULL: its session has ended */
    struct pglink_failure failure;
};
#define INGEST_PROBES 8 /* hosts refused alone before we think it is all */

struct ingest {
    struct ingest_settings settings;
    struct ingest_queue *ring;                   /* next one to be served */
    struct ingest_queue *waiting, *waiting_last; /* paused ones, in order */
    enum ingest_phase phase;
    struct batch *unit[STORE_UNIT_MAX]; /* owned; what is in flight or left */
    unsigned n_unit;
    unsigned first;    /* of the unit not yet done: one by one */
    unsigned n_sound;  /* of the unit: those of suspects come behind these */
    unsigned n_passed; /* of the unit: times that something was stored */
    unsigned n_hosts_failed; /* of the unit: whose batch was refused alone */
    struct ingest_refusal refusal[INGEST_PROBES]; /* not judged yet */
    unsigned n_refusals;
    struct batch *rejecting; /* owned; is being recorded as refused */
    uint64_t n_good;         /* times that something was stored */
    unsigned n_tries;        /* units refused whole, in a row */
    uint64_t delay_ms;       /* of the last RETRY; 0: the store takes batches */
    struct psc_log_limit log_limit;
    unsigned intern_max; /* names asked for at once: fewer after a refusal */
    size_t unit_bytes;
    size_t pending_bytes; /* of all batches, the unit's included */
    unsigned n_pending;
    uint64_t order;       /* of the next batch to arrive */
    uv_timer_t timer;     /* to the next unit, or the next try */
    int64_t last_unit_us; /* monotonic start of the last unit */
    bool forget_ids;      /* as soon as no unit is in flight */
    bool one_by_one;      /* suspects are left, or all was refused at once */
    bool skipped;         /* a batch was rejected, nothing stored since */
    bool timer_open;
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

/* The database may be another than before, restored from a backup: the same,
 * also for the unit that is about to be sent once more. */
void ingest_reconnected(struct ingest *in);

/* Take no more batches; what is queued is dropped, the unit in flight may end
 * by itself. @on_stopped fires when it has, or after ingest_abandon(). */
void ingest_stop(struct ingest *in, void (*on_stopped)(struct ingest *in));

/* Whether a unit is in flight. */
static inline bool ingest_busy(const struct ingest *in)
{
    return in->phase != INGEST_IDLE;
}

#endif
