/* detect_end(): what the windows that closed with this snapshot show. */
#include "collector/detect/host.h"

#include <stdlib.h>

/* The pivot's series is in an open finding: others in lockstep join it, and a
 * slow finding that now runs fast becomes one. */
static void extend(struct detect_host *h, const struct scale *scale,
                   struct suspect *list, uint32_t n, uint32_t leader,
                   struct finding *f)
{
    struct group g;

    if (list[leader].taken) {
        return;
    }
    group_gather(h, scale, list, n, leader, &g);
    for (uint32_t i = 0; i < g.n; i++) {
        finding_join(h, f, h->series[list[g.member[i]].series].id);
    }
}

/* Whether growth at this rate uses up the room in time. */
static bool within_horizon(const struct detect_host *h,
                           const struct scale *scale, double rate)
{
    double left_us = h->room_bytes / rate * (double)scale->length_us;

    return h->room_bytes >= 0 && left_us <= (double)h->settings.fast_horizon_us;
}

/* Findings that live at @scale: review each, and let it grow. */
static void review(struct detect_host *h, const struct scale *scale,
                   struct suspect *list, uint32_t n, bool replay)
{
    bool fast = scale == &h->fast;

    for (uint32_t i = 0; i < h->n_findings; i++) {
        struct finding *f = &h->findings[i];
        if (f->dormant || f->resolved || f->now.fast != fast) {
            continue;
        }
        for (uint32_t j = 0; j < n; j++) {
            if (h->series[list[j].series].id == f->now.tags[0]) {
                extend(h, scale, list, n, j, f);
                break;
            }
        }
        finding_review(h, scale, f, replay);
    }
}

/* New findings among what is left. */
static int discover(struct detect_host *h, const struct scale *scale,
                    struct suspect *list, uint32_t n)
{
    bool fast = scale == &h->fast;

    for (int rounds = 0; rounds < DETECT_FINDINGS_MAX; rounds++) {
        struct group g;
        uint32_t pivot = group_pivot(h, list, n);
        if (pivot == n) {
            return 0;
        }
        group_gather(h, scale, list, n, pivot, &g);
        double rate = group_growth(h, list, &g);
        if (rate <= 0 || (fast && !within_horizon(h, scale, rate))) {
            continue;
        }
        struct finding *f = NULL;
        for (uint32_t i = 0; i < g.n && f == NULL; i++) {
            f = finding_of(h, h->series[list[g.member[i]].series].id);
        }
        bool dormant = f != NULL && f->dormant;
        if (dormant && f->now.key != h->series[list[g.member[0]].series].id) {
            continue; /* the same by another name: it wakes at its time */
        }
        if (f == NULL || dormant) {
            int rc = finding_open(h, scale, list, &g);
            if (rc != 0) {
                return rc;
            }
            continue;
        }
        for (uint32_t i = 0; i < g.n; i++) {
            finding_join(h, f, h->series[list[g.member[i]].series].id);
        }
        if (fast && !f->now.fast) {
            f->now.fast = true; /* reviewed at the fast scale from now on */
            f->now.growing = false;
            f->fallen = 0;
        }
    }
    return 0;
}

static int judge(struct detect_host *h, const struct scale *scale, bool replay)
{
    struct suspect *list;
    uint32_t n;
    int rc = group_suspects(h, scale, &list, &n);

    if (rc != 0) {
        return rc;
    }
    review(h, scale, list, n, replay);
    rc = discover(h, scale, list, n);
    free(list);
    return rc == PSC_LIMIT ? 0 : rc; /* more than anybody will read */
}

int detect_end(struct detect_host *host,
               void (*emit)(void *user, const struct detect_finding *f),
               void *user)
{
    int rc = 0;
    bool replay = emit == NULL;
    bool closed = host->fast.closed || host->slow.closed;

    if (host->slow.closed) {
        rc = judge(host, &host->slow, replay);
    }
    if (host->fast.closed) {
        int fast_rc = judge(host, &host->fast, replay);
        rc = rc != 0 ? rc : fast_rc;
    }
    finding_wake(host);
    finding_tell(host, closed, emit, user);
    if (host->starved) {
        host->starved = false;
        rc = PSC_NOMEM;
    }
    return rc;
}
