/* Units that the database refuses.
 *
 * All of the unit goes back to the heads of its queues. If the refusal may
 * pass, units are tried whole a few times more; otherwise one by one: a batch
 * that is refused while others get through is judged (refused.h): again,
 * recorded as refused (REJECT), or its session sent away for a while. When
 * none gets through it is not theirs: nothing is acknowledged, and all is
 * tried again later (RETRY), together with what has come from other hosts
 * meanwhile. */
#include <inttypes.h>
#include <stdio.h>

#include "collector/ingest_private.h"
#include "collector/metrics.h"
#include "common/clock.h"
#include "common/log.h"

enum {
    RETRY_MS = 1000, /* doubled up to: */
    RETRY_MAX_MS = 8000,
    WHOLE_TRIES = 3,
    LOG_INTERVAL_S = 60,
};

/* All that is left of the unit goes back, in order. */
static void put_back_rest(struct ingest *in)
{
    while (in->n_unit > in->first) {
        ingest_put_back(in, in->unit[--in->n_unit]);
    }
    in->first = 0;
    in->n_unit = 0;
    in->one_by_one = false;
    in->n_refusals = 0;
}

/* Nobody gets through: everything waits. */
void ingest_wait(struct ingest *in, const struct pglink_failure *failure)
{
    uint64_t suppressed;
    put_back_rest(in);
    if (in->stopping) {
        ingest_finish_stop(in);
        return;
    }
    uint64_t ms = in->delay_ms > 0 ? 2 * in->delay_ms : RETRY_MS;
    in->delay_ms = ms < RETRY_MAX_MS ? ms : RETRY_MAX_MS;
    if (psc_log_limit_pass(&in->log_limit, psc_clock_mono_us(),
                           LOG_INTERVAL_S * PSC_US_PER_S, &suppressed)) {
        psc_log_warn("the database refuses samples: %s; nothing is "
                     "acknowledged, agents keep what they have, and all is "
                     "tried again; %s",
                     failure->err.msg, refused_advice(failure->sqlstate));
    }
    metrics_set(in->settings.metrics, refusing, 1);
    in->phase = INGEST_RETRY;
    ingest_wake(in, in->delay_ms);
}

/* ---- one by one ---- */

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

/* What comes behind it builds on it, and cannot be stored without: the session
 * ends, and the agent comes again with a keyframe. */
static void tell_rejected(struct ingest *in, const struct batch *b)
{
    ingest_tell(in, b, true);
    if (b->outcome == BATCH_REJECTED && b->queue != NULL && !b->queue->dead) {
        ingest_fence(in, b->queue, BATCH_REJECTED);
    }
}

static void on_reject_done(struct store_reject *r,
                           const struct pglink_failure *failure)
{
    struct ingest *in = r->user;
    struct batch *b = in->rejecting;
    if (failure != NULL && failure->err.code == PSC_CLOSED) {
        ingest_finish_stop(in);
        return;
    }
    in->phase = INGEST_IDLE;
    if (failure != NULL) {
        in->rejecting = NULL;
        ingest_put_back(in, b);
        ingest_wait(in, failure);
        return;
    }
    in->skipped = true;
    in->n_passed++;
    metrics_add(in->settings.metrics, rejected, 1);
    tell_rejected(in, b);
    in->rejecting = NULL;
    ingest_free_batch(in, b);
    ingest_one_by_one(in);
}

static void start_reject(struct ingest *in, struct ingest_queue *q,
                         const struct pglink_failure *failure)
{
    struct batch *b = ingest_pop(in, q);
    psc_log_warn("a sample of host %" PRId64 " (seq %" PRIu64
                 ") is refused by the database and skipped: %s",
                 b->host_id, b->seq, failure->err.msg);
    in->rejecting = b;
    in->phase = INGEST_REJECT;
    in->reject = (struct store_reject){
        .user = in,
        .on_done = on_reject_done,
        .batch = b,
    };
    copy_reason(in->reject.reason, sizeof(in->reject.reason), failure->err.msg);
    store_reject(in->settings.store, &in->reject);
}

/* The host's samples stay with its agent for a while. */
static void hold_back(struct ingest *in, struct ingest_queue *q,
                      const struct pglink_failure *failure)
{
    int64_t wait_us = refused_wait_us(q->refused, psc_clock_mono_us());
    psc_log_warn("the database refuses what host %" PRId64
                 " sends (seq %" PRIu64 "): %s; its agent keeps it and may "
                 "come again in %" PRId64 " s, others go on; %s",
                 q->head->host_id, q->head->seq, failure->err.msg,
                 (int64_t)(wait_us / PSC_US_PER_S),
                 refused_advice(failure->sqlstate));
    metrics_add(in->settings.metrics, held_back, 1);
    ingest_fence(in, q, BATCH_REFUSED);
}

/* Whether anything was stored since the first time that @h was refused. */
static bool others_passed(const struct ingest *in, const struct refused_host *h)
{
    return h->strikes > 0 && in->n_good > h->good_then;
}

/* Judge the last refusal. Returns false if that takes until a callback. */
static bool judge(struct ingest *in)
{
    const struct ingest_refusal *r = &in->refusal[--in->n_refusals];
    struct ingest_queue *q = r->queue;
    if (q == NULL || q->head == NULL) {
        return true;
    }
    /* Never two in a row, with nobody else to show that it is not ours. */
    bool odd =
        in->n_passed > 0 || !in->skipped || others_passed(in, q->refused);
    if (q->refused->strikes == 0) {
        q->refused->good_then = in->n_good;
    }
    switch (refused_strike(q->refused, refused_kind(r->failure.sqlstate), odd,
                           q->head->stream, q->head->seq,
                           psc_clock_mono_us())) {
    case REFUSED_AGAIN: break;
    case REFUSED_HOLD: hold_back(in, q, &r->failure); break;
    case REFUSED_SKIP: start_reject(in, q, &r->failure); return false;
    }
    return true;
}

/* None of the unit got through. Two hosts are not at fault at once; one may
 * be: if its contents are refused, or others get through in other units. */
static void end_alone(struct ingest *in)
{
    struct pglink_failure failure = in->refusal[0].failure;
    struct ingest_queue *q = in->refusal[0].queue;
    bool others = false;
    if (in->n_hosts_failed == 1 && in->n_refusals == 1 && q != NULL) {
        others = others_passed(in, q->refused);
        bool may_be = others || q->refused->strikes == 0 ||
                      refused_kind(failure.sqlstate) == REFUSED_CONTENTS;
        if (may_be && !judge(in)) {
            return;
        }
    }
    if (others) {
        ingest_end_unit(in);
    } else {
        ingest_wait(in, &failure);
    }
}

/* The next batch on its own, or what the whole of them means. */
void ingest_one_by_one(struct ingest *in)
{
    while (in->n_passed > 0 && in->n_refusals > 0) {
        if (!judge(in)) {
            return;
        }
    }
    if (in->stopping) {
        ingest_finish_stop(in);
    } else if (in->n_passed == 0 && in->n_hosts_failed == INGEST_PROBES) {
        struct pglink_failure failure = in->refusal[0].failure;
        ingest_wait(in, &failure);
    } else if (in->first < in->n_unit) {
        ingest_start_unit(in);
    } else if (in->n_passed > 0) {
        ingest_end_unit(in);
    } else {
        end_alone(in);
    }
}

/* The unit's first batch was refused alone. Those behind it of the same host
 * build on it: they wait too. */
static void put_back_host(struct ingest *in,
                          const struct pglink_failure *failure)
{
    struct batch *b = in->unit[in->first];
    unsigned end = in->first + 1;
    while (end < in->n_unit && in->unit[end]->host_id == b->host_id) {
        end++;
    }
    in->refusal[in->n_refusals++] = (struct ingest_refusal){
        .queue = b->queue,
        .failure = *failure,
    };
    in->n_hosts_failed++;
    for (unsigned i = end; i > in->first; i--) {
        ingest_put_back(in, in->unit[i - 1]);
    }
    in->first = end;
}

void ingest_refused(struct ingest *in, const struct pglink_failure *failure)
{
    metrics_add(in->settings.metrics, unit_failures, 1);
    if (!in->one_by_one && in->n_tries < WHOLE_TRIES &&
        refused_kind(failure->sqlstate) == REFUSED_PASSING) {
        in->n_tries++;
        ingest_wait(in, failure);
        return;
    }
    in->one_by_one = true;
    if (in->request.n == 1) {
        put_back_host(in, failure);
    }
    ingest_one_by_one(in);
}
