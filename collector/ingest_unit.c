/* Units: from the queues to the store, and back what became of each batch.
 *
 * Happy path: IDLE -(timer)-> take a unit -> INTERN (only for new names) ->
 * UNIT -> outcomes told -> IDLE.
 *
 * Failures: a lost server is the link's business, the phase just lasts longer;
 * a refusal is ingest_refusal.c's. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/ingest_private.h"
#include "collector/metrics.h"
#include "common/clock.h"
#include "common/log.h"

enum {
    TURN_BATCHES = 16, /* of one queue before the next one's turn */
    FULL_UNIT_BATCHES = STORE_UNIT_MAX / 2, /* worth starting at once */
};

#define UNIT_MAX_BYTES ((size_t)4 * 1024 * 1024)

static void go_on(struct ingest *in);

/* ---- taking a unit ---- */

/* Its host's batch has been refused alone. */
static bool is_suspect(const struct batch *b)
{
    return b->queue->refused->strikes > 0;
}

/* By host, for the order of locks; suspects last. */
static int by_host(const void *a, const void *b)
{
    const struct batch *x = *(struct batch *const *)a;
    const struct batch *y = *(struct batch *const *)b;
    if (is_suspect(x) != is_suspect(y)) {
        return is_suspect(x) ? 1 : -1;
    }
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
        struct batch *b = ingest_pop(in, q);
        in->unit[in->n_unit++] = b;
        in->unit_bytes += b->bytes;
    }
}

static void take_unit(struct ingest *in)
{
    assert(in->n_unit == 0);
    in->first = 0;
    in->unit_bytes = 0;
    while (in->ring != NULL && in->n_unit < STORE_UNIT_MAX &&
           in->unit_bytes < UNIT_MAX_BYTES) {
        struct ingest_queue *q = in->ring;
        in->ring = q->ring_next; /* before q may leave the ring */
        take_turn(in, q);
    }
    qsort(in->unit, in->n_unit, sizeof(struct batch *), by_host);
    in->n_sound = in->n_unit;
    while (in->n_sound > 0 && is_suspect(in->unit[in->n_sound - 1])) {
        in->n_sound--;
    }
    in->one_by_one = in->n_sound == 0;
    in->n_passed = 0;
    in->n_hosts_failed = 0;
    in->n_refusals = 0;
}

/* ---- names ---- */

static void want(struct ingest *in, struct registry *registry,
                 const uint32_t *index, uint32_t n)
{
    struct store_intern *r = &in->intern;
    for (uint32_t i = 0; i < n && r->n < in->intern_max; i++) {
        if (index[i] == REGISTRY_NONE) {
            continue;
        }
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
        want(in, r->registry, t->local, t->n_names);
    }
    for (unsigned i = 0; i < r->n; i++) {
        r->registry->entries[r->index[i]].asked = false;
    }
    return r->n > 0;
}

/* ---- time, and the end ---- */

static void on_timer(uv_timer_t *timer)
{
    struct ingest *in = timer->data;

    if (in->phase == INGEST_RETRY) {
        in->phase = INGEST_IDLE;
    }
    if (in->phase == INGEST_IDLE) {
        go_on(in);
    }
}

void ingest_wake(struct ingest *in, uint64_t ms)
{
    (void)uv_timer_start(&in->timer, on_timer, ms, 0);
}

void ingest_finish_stop(struct ingest *in)
{
    in->phase = INGEST_IDLE;
    for (unsigned i = in->first; i < in->n_unit; i++) {
        ingest_free_batch(in, in->unit[i]);
    }
    if (in->rejecting != NULL) {
        ingest_free_batch(in, in->rejecting);
        in->rejecting = NULL;
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

/* ---- outcomes ---- */

static void count_outcome(struct ingest *in, const struct batch *b)
{
    struct metrics *m = in->settings.metrics;
    if (b->outcome == BATCH_STORED) {
        metrics_add(m, stored, 1);
        metrics_add(m, rows, b->tags.n_changed + b->counters.n_changed);
    } else if (b->outcome == BATCH_DUPLICATE) {
        metrics_add(m, duplicates, 1);
    }
    metrics_observe(&m->ack, psc_clock_mono_us() - b->received_us);
}

/* No more of @q: its session is told to end. */
void ingest_fence(struct ingest *in, struct ingest_queue *q,
                  enum batch_outcome why)
{
    q->dead = true;
    ingest_drop_queue(in, q);
    in->settings.events->on_fenced(q, why);
}

/* Tell a session what became of @b; @last: it speaks for those before it. */
void ingest_tell(struct ingest *in, const struct batch *b, bool last)
{
    struct ingest_queue *q = b->queue;
    if (q == NULL || q->dead) {
        return;
    }
    if (b->outcome == BATCH_SUPERSEDED || b->outcome == BATCH_RETRY) {
        ingest_fence(in, q, b->outcome);
        return;
    }
    refused_forgive(q->refused);
    if (last) {
        in->settings.events->on_stored(q, b);
    }
}

/* Tell sessions what became of the first @n batches of what is left. */
static void tell_outcomes(struct ingest *in, unsigned n)
{
    unsigned end = in->first + n;
    for (unsigned i = in->first; i < end; i++) {
        const struct batch *b = in->unit[i];
        const struct batch *next = i + 1 < end ? in->unit[i + 1] : NULL;
        count_outcome(in, b);
        ingest_tell(in, b,
                    next == NULL || next->queue != b->queue ||
                        memcmp(next->stream, b->stream, sizeof(b->stream)) !=
                            0);
    }
    for (unsigned i = in->first; i < end; i++) {
        ingest_free_batch(in, in->unit[i]);
    }
    in->first = end;
}

/* ---- after a unit ---- */

void ingest_end_unit(struct ingest *in)
{
    assert(in->first == in->n_unit);
    in->phase = INGEST_IDLE;
    in->one_by_one = false;
    in->n_unit = 0;
    in->first = 0;
    ingest_tell_metrics(in);
    if (in->stopping) {
        ingest_finish_stop(in);
        return;
    }
    ingest_resume_some(in);
    go_on(in);
}

static void note_success(struct ingest *in)
{
    if (in->delay_ms > 0) {
        psc_log_info("the database takes samples again");
    }
    in->delay_ms = 0;
    in->n_tries = 0;
    in->n_good++;
    in->skipped = false;
    in->log_limit.next_us = 0;
    metrics_set(in->settings.metrics, refusing, 0);
}

/* ---- the phases ---- */

static void on_unit_done(struct store_unit *r,
                         const struct pglink_failure *failure)
{
    struct ingest *in = r->user;
    struct metrics *m = in->settings.metrics;

    if (failure != NULL && failure->err.code == PSC_CLOSED) {
        ingest_finish_stop(in);
        return;
    }
    in->phase = INGEST_IDLE;
    if (failure != NULL) {
        ingest_refused(in, failure);
        return;
    }
    metrics_add(m, units, 1);
    metrics_observe(&m->commit, psc_clock_mono_us() - in->last_unit_us);
    note_success(in);
    tell_outcomes(in, r->n);
    in->n_passed++;
    in->one_by_one = true; /* suspects are, and others if they were refused */
    ingest_one_by_one(in);
}

/* Names are clean before they come here; should the database find fault with
 * some all the same, find out which, and live without. */
static void on_names_refused(struct ingest *in,
                             const struct pglink_failure *failure)
{
    struct store_intern *r = &in->intern;
    if (refused_kind(failure->sqlstate) != REFUSED_CONTENTS) {
        metrics_add(in->settings.metrics, unit_failures, 1);
        ingest_wait(in, failure);
        return;
    }
    if (r->n > 1) {
        in->intern_max = r->n / 2;
    } else {
        psc_log_warn("a name is refused by the database: %s", failure->err.msg);
        registry_learn(r->registry, r->index[0], 0, r->flags[0]);
    }
    ingest_start_unit(in);
}

static void on_intern_done(struct store_intern *r,
                           const struct pglink_failure *failure)
{
    struct ingest *in = r->user;
    if (failure != NULL && failure->err.code == PSC_CLOSED) {
        ingest_finish_stop(in);
        return;
    }
    in->phase = INGEST_IDLE;
    if (failure != NULL) {
        on_names_refused(in, failure);
        return;
    }
    metrics_add(in->settings.metrics, interned, r->n);
    if (in->intern_max < STORE_INTERN_MAX) {
        in->intern_max *= 2;
    }
    ingest_start_unit(in);
}

/* What is left of the unit goes on its way: names first. */
void ingest_start_unit(struct ingest *in)
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
    r->n = in->one_by_one ? 1 : in->n_sound - in->first;
    memcpy(r->batch, in->unit + in->first, r->n * sizeof(struct batch *));
    in->phase = INGEST_UNIT;
    in->last_unit_us = psc_clock_mono_us();
    store_unit(in->settings.store, r);
}

void ingest_reconnected(struct ingest *in)
{
    in->forget_ids = true;
    /* Unless it is for the unit that the connection is a new one: it is to be
     * refused at the second time. */
    if (in->phase == INGEST_UNIT && !in->request.job.prepared_anew &&
        store_unit_withdraw(in->settings.store, &in->request)) {
        in->phase = INGEST_IDLE;
        ingest_start_unit(in);
    }
}

/* Start the next unit now if one is due, otherwise set the timer to it. */
static void go_on(struct ingest *in)
{
    if (in->phase != INGEST_IDLE || in->stopping) {
        return;
    }
    if (in->ring == NULL) {
        if (in->waiting != NULL) { /* let the rest of them go on soon */
            ingest_wake(in, 10);
            ingest_resume_some(in);
        }
        return;
    }
    int64_t due_us = in->last_unit_us + in->settings.commit_interval_us;
    int64_t now_us = psc_clock_mono_us();
    if (in->n_pending >= FULL_UNIT_BATCHES || now_us >= due_us ||
        in->pending_bytes >= UNIT_MAX_BYTES) {
        take_unit(in);
        ingest_start_unit(in);
        return;
    }
    uint64_t ms = (uint64_t)((due_us - now_us + 999) / PSC_US_PER_MS);
    ingest_wake(in, ms);
}
