/* Queues to units, units to the store.
 *
 * Happy path: IDLE -(timer)-> take a unit -> INTERN (only for new names) ->
 * UNIT -> outcomes told -> IDLE.
 *
 * Failures: a lost server is the link's business, the phase just lasts longer.
 * A refusal for the contents (SQLSTATE classes 22, 23 and 54) makes the unit
 * go one by one; the batch refused alone is recorded (REJECT). Any other
 * refusal (no disk space, a lock not got) is tried again after a while. */
#include "collector/ingest.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/metrics.h"
#include "common/clock.h"
#include "common/log.h"

enum {
    TURN_BATCHES = 16,       /* of one queue before the next one's turn */
    QUEUE_MAX_BATCHES = 256, /* of one session */
    RETRY_MS = 1000,
    RESUME_AT_ONCE = 128,
    FULL_UNIT_BATCHES = STORE_UNIT_MAX / 2, /* worth starting at once */
};

#define UNIT_MAX_BYTES  ((size_t)4 * 1024 * 1024)
#define QUEUE_MAX_BYTES ((size_t)8 * 1024 * 1024)

static void go_on(struct ingest *in);
static void start_unit(struct ingest *in);

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

static struct batch *queue_pop(struct ingest *in, struct ingest_queue *q)
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

static void free_batch(struct ingest *in, struct batch *b)
{
    in->pending_bytes -= b->bytes;
    in->n_pending--;
    free(b);
}

static void drop_queue(struct ingest *in, struct ingest_queue *q)
{
    while (q->n > 0) {
        free_batch(in, queue_pop(in, q));
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
static void resume_some(struct ingest *in)
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

static void tell_metrics(struct ingest *in)
{
    metrics_set(in->settings.metrics, pending_bytes, in->pending_bytes);
    metrics_set(in->settings.metrics, pending_batches, in->n_pending);
}

/* ---- taking a unit ---- */

static int by_host(const void *a, const void *b)
{
    const struct batch *x = *(struct batch *const *)a;
    const struct batch *y = *(struct batch *const *)b;
    if (x->host_id != y->host_id) {
        return x->host_id < y->host_id ? -1 : 1;
    }
    return x->order < y->order ? -1 : x->order > y->order;
}

static void take_turn(struct ingest *in, struct ingest_queue *q)
{
    for (unsigned i = 0;
         i < TURN_BATCHES && q->n > 0 && in->n_unit < STORE_UNIT_MAX &&
         in->unit_bytes < UNIT_MAX_BYTES;
         i++) {
        struct batch *b = queue_pop(in, q);
        in->unit[in->n_unit++] = b;
        in->unit_bytes += b->bytes;
    }
}

static void take_unit(struct ingest *in)
{
    assert(in->n_unit == 0);
    in->first = 0;
    in->one_by_one = false;
    in->unit_bytes = 0;
    while (in->ring != NULL && in->n_unit < STORE_UNIT_MAX &&
           in->unit_bytes < UNIT_MAX_BYTES) {
        struct ingest_queue *q = in->ring;
        in->ring = q->ring_next; /* before q may leave the ring */
        take_turn(in, q);
    }
    qsort(in->unit, in->n_unit, sizeof(struct batch *), by_host);
}

/* ---- names ---- */

static void want(struct ingest *in, struct registry *registry,
                 const uint32_t *index, uint32_t n)
{
    struct store_intern *r = &in->intern;
    for (uint32_t i = 0; i < n && r->n < STORE_INTERN_MAX; i++) {
        struct registry_entry *e = &registry->entries[index[i]];
        if (registry_id(registry, index[i]) == 0 && !e->asked) {
            e->asked = true;
            r->index[r->n++] = index[i];
        }
    }
}

/* Collect names of the unit that have no id yet, of one registry. */
static bool collect_unknown(struct ingest *in, bool counters)
{
    struct store_intern *r = &in->intern;
    r->counters = counters;
    r->registry = counters ? in->settings.counters : in->settings.tags;
    r->n = 0;
    for (unsigned i = in->first; i < in->n_unit; i++) {
        const struct batch_table *t =
            counters ? &in->unit[i]->counters : &in->unit[i]->tags;
        want(in, r->registry, t->index, t->n);
        want(in, r->registry, t->gone, t->n_gone);
    }
    for (unsigned i = 0; i < r->n; i++) {
        r->registry->entries[r->index[i]].asked = false;
    }
    return r->n > 0;
}

/* ---- the phases ---- */

static void on_timer(uv_timer_t *timer)
{
    struct ingest *in = timer->data;

    if (in->phase == INGEST_RETRY) {
        in->phase = INGEST_IDLE;
        start_unit(in);
    } else if (in->phase == INGEST_IDLE) {
        go_on(in);
    }
}

static void retry_later(struct ingest *in, const struct pglink_failure *failure)
{
    psc_log_warn("a unit of %u samples was refused and is tried again: %s",
                 in->n_unit - in->first, failure->err.msg);
    metrics_add(in->settings.metrics, unit_failures, 1);
    in->phase = INGEST_RETRY;
    (void)uv_timer_start(&in->timer, on_timer, RETRY_MS, 0);
}

static void finish_stop(struct ingest *in)
{
    in->phase = INGEST_IDLE;
    for (unsigned i = in->first; i < in->n_unit; i++) {
        free_batch(in, in->unit[i]);
    }
    in->n_unit = 0;
    in->first = 0;
    if (in->timer_open) {
        in->timer_open = false;
        uv_close((uv_handle_t *)&in->timer, NULL);
    }
    if (in->on_stopped != NULL) {
        void (*on_stopped)(struct ingest *) = in->on_stopped;
        in->on_stopped = NULL;
        on_stopped(in);
    }
}

/* Tell sessions what became of the first @n batches of what is left. */
static void tell_outcomes(struct ingest *in, unsigned n)
{
    struct metrics *m = in->settings.metrics;
    int64_t now_us = psc_clock_mono_us();
    unsigned end = in->first + n;
    for (unsigned i = in->first; i < end; i++) {
        struct batch *b = in->unit[i];
        bool good = b->outcome == BATCH_STORED ||
                    b->outcome == BATCH_DUPLICATE ||
                    b->outcome == BATCH_REJECTED;
        if (b->outcome == BATCH_STORED) {
            metrics_add(m, stored, 1);
            metrics_add(m, rows, b->tags.n + b->counters.n);
        } else if (b->outcome == BATCH_DUPLICATE) {
            metrics_add(m, duplicates, 1);
        }
        metrics_observe(&m->ack, now_us - b->received_us);
        struct ingest_queue *q = b->queue;
        if (q == NULL || q->dead) {
            continue;
        }
        if (!good) {
            q->dead = true;
            drop_queue(in, q);
            in->settings.events->on_fenced(q, b->outcome);
            continue;
        }
        /* The last one of a queue speaks for those before it. */
        bool last = i + 1 == end || in->unit[i + 1]->queue != q ||
                    memcmp(in->unit[i + 1]->stream, b->stream, 16) != 0;
        if (last) {
            in->settings.events->on_stored(q, b->stream, b->seq);
        }
    }
    for (unsigned i = in->first; i < end; i++) {
        free_batch(in, in->unit[i]);
    }
    in->first = end;
}

static void end_part(struct ingest *in, unsigned n)
{
    tell_outcomes(in, n);
    in->phase = INGEST_IDLE;
    if (in->first == in->n_unit) {
        in->n_unit = 0;
        in->first = 0;
    }
    tell_metrics(in);
    if (in->stopping) {
        finish_stop(in);
    } else if (in->n_unit > 0) {
        start_unit(in);
    } else {
        resume_some(in);
        go_on(in);
    }
}

static void on_reject_done(struct store_reject *r,
                           const struct pglink_failure *failure)
{
    struct ingest *in = r->user;
    if (failure != NULL && failure->err.code == PSC_CLOSED) {
        finish_stop(in);
    } else if (failure != NULL) {
        retry_later(in, failure);
    } else {
        metrics_add(in->settings.metrics, rejected, 1);
        end_part(in, 1);
    }
}

static bool is_about_contents(const char *sqlstate)
{
    return strncmp(sqlstate, "22", 2) == 0 || strncmp(sqlstate, "23", 2) == 0 ||
           strncmp(sqlstate, "54", 2) == 0;
}

/* The server's words were cut somewhere: half a character at the end would
 * have the record refused as well, again and again. */
static void copy_reason(char *out, size_t cap, const char *text)
{
    (void)snprintf(out, cap, "%s", text);
    for (char *c = out; *c != '\0'; c++) {
        if ((unsigned char)*c >= 0x80) {
            *c = '?';
        }
    }
}

static void start_reject(struct ingest *in,
                         const struct pglink_failure *failure)
{
    struct batch *b = in->unit[in->first];
    psc_log_warn("a sample of host %lld (seq %llu) is refused by the database "
                 "and skipped: %s",
                 (long long)b->host_id, (unsigned long long)b->seq,
                 failure->err.msg);
    in->phase = INGEST_REJECT;
    in->reject = (struct store_reject){
        .user = in,
        .on_done = on_reject_done,
        .batch = b,
    };
    copy_reason(in->reject.reason, sizeof(in->reject.reason), failure->err.msg);
    store_reject(in->settings.store, &in->reject);
}

static void on_unit_done(struct store_unit *r,
                         const struct pglink_failure *failure)
{
    struct ingest *in = r->user;
    struct metrics *m = in->settings.metrics;

    if (failure == NULL) {
        metrics_add(m, units, 1);
        metrics_observe(&m->commit, psc_clock_mono_us() - in->last_unit_us);
        end_part(in, r->n);
    } else if (failure->err.code == PSC_CLOSED) {
        finish_stop(in);
    } else if (!is_about_contents(failure->sqlstate)) {
        retry_later(in, failure);
    } else if (r->n > 1) {
        metrics_add(m, unit_failures, 1);
        in->one_by_one = true;
        in->phase = INGEST_IDLE;
        start_unit(in);
    } else {
        start_reject(in, failure);
    }
}

static void on_intern_done(struct store_intern *r,
                           const struct pglink_failure *failure)
{
    struct ingest *in = r->user;
    if (failure != NULL && failure->err.code == PSC_CLOSED) {
        finish_stop(in);
    } else if (failure != NULL && !is_about_contents(failure->sqlstate)) {
        retry_later(in, failure);
    } else if (failure != NULL) {
        /* Names are clean before they come here; should the database find
         * fault with them all the same, live without. */
        psc_log_warn("%u names are refused by the database: %s", r->n,
                     failure->err.msg);
        for (unsigned i = 0; i < r->n; i++) {
            registry_learn(r->registry, r->index[i], 0, r->flags[i]);
        }
        in->phase = INGEST_IDLE;
        start_unit(in);
    } else {
        metrics_add(in->settings.metrics, interned, r->n);
        in->phase = INGEST_IDLE;
        start_unit(in);
    }
}

/* What is left of the unit goes on its way: names first. */
static void start_unit(struct ingest *in)
{
    assert(in->phase == INGEST_IDLE && in->first < in->n_unit);
    if (in->forget_ids) {
        in->forget_ids = false;
        registry_forget_ids(in->settings.tags);
        registry_forget_ids(in->settings.counters);
    }
    if (collect_unknown(in, false) || collect_unknown(in, true)) {
        in->phase = INGEST_INTERN;
        in->intern.user = in;
        in->intern.on_done = on_intern_done;
        store_intern(in->settings.store, &in->intern);
        return;
    }
    struct store_unit *r = &in->request;
    r->user = in;
    r->on_done = on_unit_done;
    r->n = in->one_by_one ? 1 : in->n_unit - in->first;
    memcpy(r->batch, in->unit + in->first, r->n * sizeof(struct batch *));
    in->phase = INGEST_UNIT;
    in->last_unit_us = psc_clock_mono_us();
    store_unit(in->settings.store, r);
}

/* Start the next unit now if one is due, otherwise set the timer to it. */
static void go_on(struct ingest *in)
{
    if (in->phase != INGEST_IDLE || in->stopping) {
        return;
    }
    if (in->ring == NULL) {
        if (in->waiting != NULL) { /* let the rest of them go on soon */
            (void)uv_timer_start(&in->timer, on_timer, 10, 0);
            resume_some(in);
        }
        return;
    }
    int64_t due_us = in->last_unit_us + in->settings.commit_interval_us;
    int64_t now_us = psc_clock_mono_us();
    if (in->n_pending >= FULL_UNIT_BATCHES || now_us >= due_us ||
        in->pending_bytes >= UNIT_MAX_BYTES) {
        take_unit(in);
        start_unit(in);
        return;
    }
    uint64_t ms = (uint64_t)((due_us - now_us + 999) / PSC_US_PER_MS);
    (void)uv_timer_start(&in->timer, on_timer, ms, 0);
}

/* ---- the sessions' side ---- */

int ingest_start(struct ingest *in, uv_loop_t *loop,
                 const struct ingest_settings *settings)
{
    *in = (struct ingest){.settings = *settings};
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
    tell_metrics(in);
    if (in->phase == INGEST_IDLE && !uv_is_active((uv_handle_t *)&in->timer)) {
        (void)uv_timer_start(&in->timer, on_timer, 0, 0);
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
    drop_queue(in, q);
    wait_remove(in, q);
    for (unsigned i = in->first; i < in->n_unit; i++) {
        if (in->unit[i]->queue == q) {
            in->unit[i]->queue = NULL;
        }
    }
    tell_metrics(in);
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
        drop_queue(in, in->ring);
    }
    if (in->phase == INGEST_IDLE || in->phase == INGEST_RETRY) {
        finish_stop(in);
    }
}
