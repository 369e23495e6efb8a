/* Samples that wait for their acknowledgement: a ring that grows. */
#include <stdlib.h>

#include "common/clock.h"
#include "tests/bench/fleetsim/agent.h"

enum { FIRST_SENT = 4 };

struct sim_sent *sim_sent_at(struct sim_agent *a, uint32_t i)
{
    return &a->sent[(a->sent_at + i) % a->sent_cap];
}

static int grow(struct sim_agent *a)
{
    uint32_t cap = a->sent_cap > 0 ? 2 * a->sent_cap : FIRST_SENT;
    struct sim_sent *grown = malloc(cap * sizeof(*grown));
    if (grown == NULL) {
        return PSC_NOMEM;
    }
    for (uint32_t i = 0; i < a->n_sent; i++) {
        grown[i] = *sim_sent_at(a, i);
    }
    free(a->sent);
    a->sent = grown;
    a->sent_at = 0;
    a->sent_cap = cap;
    return PSC_OK;
}

void sim_sent_stored(struct sim_agent *a, uint64_t seq, bool by_cursor)
{
    struct fleet *f = a->fleet;
    int64_t now_us = psc_clock_mono_us();
    while (a->n_sent > 0 && sim_sent_at(a, 0)->seq <= seq) {
        const struct sim_sent *s = sim_sent_at(a, 0);
        f->stats.acked++;
        f->stats.by_cursor += by_cursor ? 1 : 0;
        if (!by_cursor) {
            times_add(&f->stats.ack, now_us - s->sent_us);
        }
        state_log_ack(&f->state, a->host.number, a->stream, s->seq, s->k,
                      psc_clock_wall_us());
        a->sent_at = (a->sent_at + 1) % a->sent_cap;
        a->n_sent--;
    }
    a->acked_seq = seq > a->acked_seq ? seq : a->acked_seq;
}

int sim_sent_add(struct sim_agent *a, const struct sim_sent *s)
{
    int rc = a->n_sent == a->sent_cap ? grow(a) : PSC_OK;
    if (rc == PSC_OK) {
        a->n_sent++;
        *sim_sent_at(a, a->n_sent - 1) = *s;
    }
    return rc;
}
