/* The sessions' side: queues, the ring of those that hold batches, and
 * back-pressure. */
#include "collector/ingest.h"

#include <stdlib.h>

#include "collector/ingest_private.h"
#include "collector/metrics.h"
#include "common/clock.h"

enum {
    QUEUE_MAX_BATCHES = 256, /* of one session */
    RESUME_AT_ONCE = 128,
};

#define QUEUE_MAX_BYTES ((size_t)8 * 1024 * 1024)

/* ---- the ring of queues with batches ---- */

static void ring_insert(struct ingest *in, struct ingest_queue *q)
{
    struct ingest_queue *next = in->ring;
    if (next == NULL) {
        q->ring_next = q;
        q->ring_previous = q;
        in->ring = q;
        return;
    }
    q->ring_next = next;
    q->ring_previous = next->ring_previous;
    next->ring_previous->ring_next = q;
    next->ring_previous = q;
}

static void ring_remove(struct ingest *in, struct ingest_queue *q)
{
    if (in->ring == q) {
        in->ring = q->ring_next != q ? q->ring_next : NULL;
    }
    q->ring_next->ring_previous = q->ring_previous;
    q->ring_previous->ring_next = q->ring_next;
    q->ring_next = NULL;
    q->ring_previous = NULL;
}

struct batch *ingest_pop(struct ingest *in, struct ingest_queue *q)
{
    struct batch *b = q->head;
    q->head = b->next;
    if (q->head == NULL) {
        q->tail = NULL;
    }
    b->next = NULL;
    q->n--;
    q->bytes -= b->bytes;
    if (q->n == 0) {
        ring_remove(in, q);
    }
    return b;
}

void ingest_put_back(struct ingest *in, struct batch *b)
{
    struct ingest_queue *q = b->queue;
    if (q == NULL || q->dead || in->stopping) {
        ingest_free_batch(in, b);
        return;
    }
    b->next = q->head;
    q->head = b;
    if (q->tail == NULL) {
        q->tail = b;
    }
    q->bytes += b->bytes;
    if (q->n++ == 0) {
        ring_insert(in, q);
    }
}

void ingest_free_batch(struct ingest *in, struct batch *b)
{
    in->pending_bytes -= b->bytes;
    in->n_pending--;
    free(b);
}

void ingest_drop_queue(struct ingest *in, struct ingest_queue *q)
{
    while (q->n > 0) {
        ingest_free_batch(in, ingest_pop(in, q));
    }
}

/* ---- back-pressure ---- */

static void wait_remove(struct ingest *in, struct ingest_queue *q)
{
    if (!q->paused) {
        return;
    }
    if (q->wait_previous != NULL) {
        q->wait_previous->wait_next = q->wait_next;
    } else {
        in->waiting = q->wait_next;
    }
    if (q->wait_next != NULL) {
        q->wait_next->wait_previous = q->wait_previous;
    } else {
        in->waiting_last = q->wait_previous;
    }
    q->wait_next = NULL;
    q->wait_previous = NULL;
    q->paused = false;
    metrics_add(in->settings.metrics, paused_sessions, -1);
}

static void wait_insert(struct ingest *in, struct ingest_queue *q)
{
    q->paused = true;
    q->wait_previous = in->waiting_last;
    q->wait_next = NULL;
    if (in->waiting_last != NULL) {
        in->waiting_last->wait_next = q;
    } else {
        in->waiting = q;
    }
    in->waiting_last = q;
    metrics_add(in->settings.metrics, pauses, 1);
    metrics_add(in->settings.metrics, paused_sessions, 1);
}

/* Let those read again that have waited longest, some at a time: what they
 * bring counts only once it is here. */
void ingest_resume_some(struct ingest *in)
{
    size_t low = (size_t)in->settings.max_pending_bytes / 2;
    struct ingest_queue *q = in->waiting;
    unsigned n = 0;
    while (q != NULL && in->pending_bytes < low && n < RESUME_AT_ONCE) {
        struct ingest_queue *next = q->wait_next;
        if (q->n < QUEUE_MAX_BATCHES / 2 && q->bytes < QUEUE_MAX_BYTES / 2) {
            wait_remove(in, q);
            in->settings.events->on_resume(q);
            n++;
        }
        q = next;
    }
}

void ingest_tell_metrics(struct ingest *in)
{
    metrics_set(in->settings.metrics, pending_bytes, in->pending_bytes);
    metrics_set(in->settings.metrics, pending_batches, in->n_pending);
}

/* ---- the sessions' side ---- */

int ingest_start(struct ingest *in, uv_loop_t *loop,
                 const struct ingest_settings *settings)
{
    *in = (struct ingest){
        .settings = *settings,
        .intern_max = STORE_INTERN_MAX,
    };
    if (uv_timer_init(loop, &in->timer) != 0) {
        return PSC_IO;
    }
    in->timer.data = in;
    in->timer_open = true;
    return PSC_OK;
}

bool ingest_add(struct ingest *in, struct ingest_queue *q, struct batch *b)
{
    if (q->dead || in->stopping) {
        free(b);
        return true;
    }
    b->queue = q;
    b->next = NULL;
    b->order = in->order++;
    b->received_us = psc_clock_mono_us();
    if (q->tail != NULL) {
        q->tail->next = b;
    } else {
        q->head = b;
    }
    q->tail = b;
    q->bytes += b->bytes;
    if (q->n++ == 0) {
        ring_insert(in, q);
    }
    in->pending_bytes += b->bytes;
    in->n_pending++;
    ingest_tell_metrics(in);
    if (in->phase == INGEST_IDLE && !uv_is_active((uv_handle_t *)&in->timer)) {
        ingest_wake(in, 0);
    }
    bool room = in->pending_bytes < (size_t)in->settings.max_pending_bytes &&
                q->n < QUEUE_MAX_BATCHES && q->bytes < QUEUE_MAX_BYTES;
    if (!room && !q->paused) {
        wait_insert(in, q);
    }
    return room;
}

void ingest_forget(struct ingest *in, struct ingest_queue *q)
{
    ingest_drop_queue(in, q);
    wait_remove(in, q);
    for (unsigned i = in->first; i < in->n_unit; i++) {
        if (in->unit[i]->queue == q) {
            in->unit[i]->queue = NULL;
        }
    }
    if (in->rejecting != NULL && in->rejecting->queue == q) {
        in->rejecting->queue = NULL;
    }
    for (unsigned i = 0; i < in->n_refusals; i++) {
        if (in->refusal[i].queue == q) {
            in->refusal[i].queue = NULL;
        }
    }
    ingest_tell_metrics(in);
}

void ingest_forget_ids(struct ingest *in)
{
    in->forget_ids = true;
}

void ingest_stop(struct ingest *in, void (*on_stopped)(struct ingest *in))
{
    in->stopping = true;
    in->on_stopped = on_stopped;
    while (in->ring != NULL) {
        ingest_drop_queue(in, in->ring);
    }
    if (in->phase == INGEST_IDLE || in->phase == INGEST_RETRY) {
        ingest_finish_stop(in);
    }
}
