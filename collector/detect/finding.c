/* The life of a finding.
 *
 *   (dormant, restored) --its time--> growing --stops--> still --grows-->…
 *   growing or still --level falls, or long quiet--> resolved
 *
 * Everything happens when a window of the finding's own scale closes. The
 * caller hears of it at most once a window, and only of what matters. */
#include "collector/detect/host.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "collector/detect/forecast.h"

#define FALLEN_SHARE   0.3 /* of its growth left: it fell back */
#define FALLEN_FAST    2   /* windows in a row */
#define FALLEN_SLOW    4
#define QUIET_FAST_US  (INT64_C(6) * 3600 * 1000000) /* least quiet time */
#define QUIET_SLOW_US  DAY_US
#define GROWING_SHARE  0.25 /* of its rate: it still grows */
#define RECENT_FAST    5    /* windows that show it */
#define RECENT_SLOW    8
#define MATERIAL_SHARE 0.1 /* of rate or time left: worth telling */

static double per_day(const struct scale *scale, double per_window)
{
    return per_window * (double)DAY_US / (double)scale->length_us;
}

static double per_window(const struct scale *scale, double bytes_per_day)
{
    return bytes_per_day * (double)scale->length_us / (double)DAY_US;
}

struct finding *finding_of(struct detect_host *h, uint32_t id)
{
    for (uint32_t i = 0; i < h->n_findings; i++) {
        struct finding *f = &h->findings[i];
        for (uint32_t j = 0; j < f->now.n_tags; j++) {
            if (f->now.tags[j] == id && !f->resolved) {
                return f;
            }
        }
    }
    return NULL;
}

static bool is_reclaimable(const struct detect_host *h, uint32_t id)
{
    const struct series *s = host_find(h, id);

    return s != NULL && (s->flags & SERIES_RECLAIMABLE) != 0;
}

/* Move tag @i of @f up to the others of its kind: what can be reclaimed stands
 * last, and never leads. */
static void put_in_place(const struct detect_host *h, struct finding *f,
                         uint32_t i)
{
    uint32_t id = f->now.tags[i];
    double rate = f->now.tag_bytes_per_day[i];
    float peak = f->peaks[i];

    while (i > 1 && !is_reclaimable(h, id) &&
           is_reclaimable(h, f->now.tags[i - 1])) {
        f->now.tags[i] = f->now.tags[i - 1];
        f->now.tag_bytes_per_day[i] = f->now.tag_bytes_per_day[i - 1];
        f->peaks[i] = f->peaks[i - 1];
        i--;
    }
    f->now.tags[i] = id;
    f->now.tag_bytes_per_day[i] = rate;
    f->peaks[i] = peak;
}

/* What is known of a tag may change: put all of @f's in order. */
static void order_tags(const struct detect_host *h, struct finding *f)
{
    f->now.n_reclaimable = 0;
    for (uint32_t i = 1; i < f->now.n_tags; i++) {
        put_in_place(h, f, i);
    }
    for (uint32_t i = 1; i < f->now.n_tags; i++) {
        f->now.n_reclaimable += is_reclaimable(h, f->now.tags[i]) ? 1 : 0;
    }
}

void finding_join(struct detect_host *h, struct finding *f, uint32_t id)
{
    struct series *s = host_find(h, id);

    if (s == NULL || f->now.n_tags == DETECT_TAGS_MAX ||
        (s->flags & SERIES_FOUND) != 0) {
        return;
    }
    f->peaks[f->now.n_tags] = s->peak;
    f->now.tag_bytes_per_day[f->now.n_tags] = 0;
    f->now.tags[f->now.n_tags++] = id;
    s->flags |= SERIES_FOUND;
    order_tags(h, f);
}

/* --- rates and forecast --- */

/* The floors of tag @i since the window @since; n is 0 if it has none. */
static void tag_points(const struct detect_host *h, const struct scale *scale,
                       const struct finding *f, uint32_t i, double since,
                       struct trend_points *p)
{
    const struct series *s = host_find(h, f->now.tags[i]);
    struct trend_points all;

    p->n = 0;
    if (s != NULL) {
        host_points(h, scale, s, &all);
        trend_since(&all, since, p);
    }
}

/* Add @share of @p to @sum from its end; before its first value it had that
 * value. */
static void add_points(struct trend_points *sum, const struct trend_points *p,
                       double share)
{
    for (uint32_t i = 0; i < sum->n && p->n > 0; i++) {
        uint32_t back = sum->n - 1 - i; /* windows before the newest */
        sum->y[i] += share * (back < p->n ? p->y[p->n - 1 - back] : p->y[0]);
    }
}

/* How much @f's tags grow in @pool. */
static struct growth growth_in(const struct detect_host *h,
                               const struct finding *f, int pool)
{
    struct growth sum = {0};

    for (uint32_t i = 0; i < f->now.n_tags; i++) {
        const struct series *s = host_find(h, f->now.tags[i]);
        if (s != NULL && s->pool == pool) {
            growth_add(&sum, s, f->now.tag_bytes_per_day[i]);
        }
    }
    return sum;
}

/* The pool in which @f's tags grow most; pools overlap, so they are never
 * added up. */
static int widest_pool(const struct detect_host *h, const struct finding *f)
{
    int best = -1;
    double most = -1;

    for (uint32_t i = 0; i < f->now.n_tags; i++) {
        const struct series *s = host_find(h, f->now.tags[i]);
        int pool = s != NULL ? s->pool : -1;
        struct growth sum = growth_in(h, f, pool);
        double counted = growth_counted(&sum);
        if (counted > most || (counted == most && pool < best)) {
            most = counted;
            best = pool;
        }
    }
    return best;
}

/* The sum of the floors of @f's tags in @pool from the window f->since on, of
 * the reclaimable ones @share. */
static void sum_points(const struct detect_host *h, const struct scale *scale,
                       const struct finding *f, int pool, double share,
                       struct trend_points *sum)
{
    tag_points(h, scale, f, 0, f->since, sum);
    memset(sum->y, 0, sizeof sum->y);
    for (uint32_t i = 0; i < f->now.n_tags; i++) {
        const struct series *s = host_find(h, f->now.tags[i]);
        struct trend_points p;
        if (s == NULL || s->pool != pool) {
            continue;
        }
        tag_points(h, scale, f, i, f->since, &p);
        add_points(sum, &p, (s->flags & SERIES_RECLAIMABLE) != 0 ? share : 1);
    }
}

static void sum_slopes(const struct detect_host *h, const struct scale *scale,
                       const struct finding *f, int pool, double share,
                       struct forecast *out)
{
    struct trend_points sum;

    sum_points(h, scale, f, pool, share, &sum);
    forecast_slopes(&sum, sum.n > scale->period ? scale->period : 1,
                    h->room_bytes, out);
}

/* The slopes of all that grows in the pool that grows most. Nobody knows how
 * much of the reclaimable growth the leak pins: the interval goes from none of
 * it to all of it. */
static void group_slopes(const struct detect_host *h, const struct scale *scale,
                         struct finding *f, struct forecast *out)
{
    int pool = widest_pool(h, f);
    struct growth growth = growth_in(h, f, pool);
    struct forecast bound;

    f->now.group_pool = pool;
    if (growth.reclaimable <= 0) {
        sum_slopes(h, scale, f, pool, 1, out);
        return;
    }
    double share = (growth_counted(&growth) - growth.rest) / growth.reclaimable;
    sum_slopes(h, scale, f, pool, share, out);
    sum_slopes(h, scale, f, pool, 0, &bound);
    out->lowest = fmin(out->lowest, bound.lowest);
    sum_slopes(h, scale, f, pool, 1, &bound);
    out->highest = fmax(out->highest, bound.highest);
}

/* How fast each tag grows. */
static void measure_rates(const struct detect_host *h,
                          const struct scale *scale, struct finding *f)
{
    struct trend_points p;

    for (uint32_t i = 0; i < f->now.n_tags; i++) {
        tag_points(h, scale, f, i, f->since, &p);
        double slope = trend_sen(&p, p.n > scale->period ? scale->period : 1);
        f->now.tag_bytes_per_day[i] = per_day(scale, slope);
    }
    f->now.bytes_per_day = f->now.tag_bytes_per_day[0];
}

/* When the room is used up, of all the growth in one pool. */
static void forecast(const struct detect_host *h, const struct scale *scale,
                     struct finding *f)
{
    struct detect_finding *now = &f->now;
    struct forecast out;

    order_tags(h, f);
    now->exhaustion_us = 0;
    now->earliest_us = 0;
    now->latest_us = 0;
    now->room_bytes = h->room_bytes > 0 ? (int64_t)h->room_bytes : 0;
    if (now->growing) {
        group_slopes(h, scale, f, &out);
        now->group_bytes_per_day = per_day(scale, out.slope);
        if (h->room_bytes >= 0) {
            now->exhaustion_us = forecast_time(out.slope, h->room_bytes,
                                               scale->length_us, h->at_us);
            now->earliest_us = forecast_time(out.highest, h->room_bytes,
                                             scale->length_us, h->at_us);
            now->latest_us = forecast_time(out.lowest, h->room_bytes,
                                           scale->length_us, h->at_us);
        }
    }
    now->information =
        now->exhaustion_us == 0 ||
        now->exhaustion_us > h->at_us + h->settings.inform_horizon_us;
}

/* --- opening --- */

static int new_finding(struct detect_host *h, struct finding **f)
{
    if (h->n_findings >= DETECT_FINDINGS_MAX) {
        return PSC_LIMIT;
    }
    int rc = host_reserve(h, &h->findings, &h->cap_findings, h->n_findings,
                          sizeof *h->findings);
    if (rc == 0) {
        *f = &h->findings[h->n_findings++];
        memset(*f, 0, sizeof **f);
    }
    return rc;
}

/* The moment that a window number with its fraction stands for. */
static int64_t moment(const struct scale *scale, double number)
{
    return (int64_t)(number * (double)scale->length_us);
}

int finding_open(struct detect_host *h, const struct scale *scale,
                 const struct suspect *list, const struct group *g)
{
    const struct suspect *leader = &list[g->member[0]];
    const struct series *s = &h->series[leader->series];
    struct finding *f = finding_of(h, s->id);
    struct detect_finding was = {.detected_us = h->at_us};
    bool known = f != NULL; /* dormant: the store has it already */

    if (known) {
        was = f->now;
        memset(f, 0, sizeof *f);
    } else {
        int rc = new_finding(h, &f);
        if (rc != 0) {
            return rc;
        }
    }
    f->now.key = s->id;
    f->now.fast = scale == &h->fast;
    for (uint32_t i = 0; i < g->n; i++) {
        finding_join(h, f, h->series[list[g->member[i]].series].id);
    }
    f->restored = known;
    f->told = known;
    f->base = leader->base;
    f->top = (double)s->floor;
    f->since = leader->onset;
    f->now.growing = true;
    f->now.z = leader->z;
    f->now.windows = leader->windows;
    f->now.window_us = scale->length_us;
    f->now.confidence = (1 - exp(-leader->z / 2)) * leader->growth /
                        (leader->growth + 4 * leader->scatter);
    f->now.onset_us = known ? was.onset_us : moment(scale, leader->onset);
    f->now.onset_bytes = (int64_t)leader->base;
    f->now.detected_us = was.detected_us;
    f->now.updated_us = h->at_us;
    f->now.grew_us = h->at_us;
    f->now.bytes = s->last;
    f->quiet_from_us = h->at_us;
    f->grew_for_us = h->at_us - f->now.onset_us;
    measure_rates(h, scale, f);
    forecast(h, scale, f);
    return 0;
}

static void remember_told(struct finding *f)
{
    f->told_tags = f->now.n_tags;
    f->told_growing = f->now.growing;
    f->told_fast = f->now.fast;
    f->told_rate = f->now.bytes_per_day;
    f->told_exhaustion_us = f->now.exhaustion_us;
}

int detect_restore(struct detect_host *host,
                   const struct detect_finding *finding)
{
    struct finding *f;
    int rc = new_finding(host, &f);

    if (rc != 0) {
        return rc;
    }
    f->now = *finding;
    if (f->now.n_tags > DETECT_TAGS_MAX) {
        f->now.n_tags = DETECT_TAGS_MAX;
    }
    f->dormant = true;
    f->restored = true;
    f->told = true;
    if (f->now.grew_us <= 0) {
        f->now.grew_us = finding->updated_us;
    }
    f->quiet_from_us = f->now.grew_us;
    f->grew_for_us = f->now.grew_us - finding->onset_us;
    return 0;
}

void finding_wake(struct detect_host *h)
{
    for (uint32_t i = 0; i < h->n_findings; i++) {
        struct finding *f = &h->findings[i];
        if (!f->dormant || h->at_us < f->now.detected_us) {
            continue;
        }
        f->dormant = false;
        f->base = (double)f->now.onset_bytes;
        if (f->now.onset_bytes < 0) {
            double grew = f->now.bytes_per_day * (double)f->grew_for_us;
            f->base = (double)f->now.bytes - grew / (double)DAY_US;
        }
        f->top = (double)f->now.bytes;
        f->since = (double)f->now.onset_us /
                   (double)(f->now.fast ? h->fast : h->slow).length_us;
        remember_told(f);
        for (uint32_t j = 0; j < f->now.n_tags; j++) {
            struct series *s = host_find(h, f->now.tags[j]);
            f->peaks[j] = s != NULL ? s->peak : -1;
            if (s != NULL) {
                s->flags |= SERIES_FOUND;
            }
        }
    }
}

void finding_boot(struct detect_host *h)
{
    for (uint32_t i = 0; i < h->n_findings; i++) {
        struct finding *f = &h->findings[i];
        f->base = NAN;
        f->fallen = 0;
        f->quiet_from_us = h->at_us;
        f->now.growing = false;
    }
}

void finding_step_back(struct detect_host *h)
{
    for (uint32_t i = 0; i < h->n_findings; i++) {
        struct finding *f = &h->findings[i];
        f->quiet_from_us =
            f->quiet_from_us < h->at_us ? f->quiet_from_us : h->at_us;
    }
}

/* --- reviewing --- */

/* Whether the newest windows rise at a fair share of the finding's rate. What
 * leaks on much slower has stopped as far as this finding goes, and is found
 * anew once it is over. The rate is measured only when the newest floor rose
 * too, so that it stays that of the growth. */
static void follow_growth(const struct detect_host *h,
                          const struct scale *scale, struct finding *f,
                          const struct trend_points *p)
{
    struct trend_points recent;
    double least = GROWING_SHARE * per_window(scale, f->now.bytes_per_day);
    uint32_t need = f->now.fast ? RECENT_FAST : RECENT_SLOW;
    uint32_t lag = scale->period;

    trend_tail(p, need, &recent);
    if (p->n < need || trend_sen(&recent, lag) < least) {
        f->now.growing = f->now.growing && p->n < need;
        return;
    }
    if (p->y[p->n - 1] - p->y[p->n - 1 - lag] < least * lag) {
        return;
    }
    if (!f->now.growing) {
        f->since = p->x[p->n - need]; /* a new run */
    }
    f->now.growing = true;
    f->now.grew_us = h->at_us;
    f->grew_for_us = h->at_us - f->now.onset_us;
    f->quiet_from_us = h->at_us;
    measure_rates(h, scale, f);
}

/* Back near the level before the leak, for windows in a row. */
static bool fell_back(struct finding *f, double floor)
{
    double grown = f->top - f->base;

    if (grown > series_band(f->base) &&
        floor <= f->base + FALLEN_SHARE * grown) {
        f->fallen++;
    } else {
        f->fallen = 0;
    }
    return f->fallen >= (f->now.fast ? FALLEN_FAST : FALLEN_SLOW);
}

/* As long without growth as it had grown. */
static bool long_quiet(const struct detect_host *h, const struct finding *f)
{
    int64_t least = f->now.fast ? QUIET_FAST_US : QUIET_SLOW_US;
    int64_t need = f->grew_for_us > least ? f->grew_for_us : least;

    return h->at_us - f->quiet_from_us >= need;
}

/* All series of a finding that lives on the fast scale have a ring. */
static void track(struct detect_host *h, const struct finding *f)
{
    for (uint32_t i = 0; i < f->now.n_tags && f->now.fast; i++) {
        struct series *s = host_find(h, f->now.tags[i]);
        if (s != NULL && s->mover == SERIES_STILL && !isnan(s->floor)) {
            h->starved = host_track(h, s, NAN) != 0 || h->starved;
        }
    }
}

static void resolve(struct detect_host *h, struct finding *f, bool fell)
{
    f->resolved = true;
    f->now.growing = false;
    for (uint32_t i = 0; i < f->now.n_tags; i++) {
        struct series *s = host_find(h, f->now.tags[i]);
        if (s != NULL) {
            if (fell) {
                swing_fell(h, s,
                           s->mover != SERIES_STILL ? &h->movers[s->mover]
                                                    : NULL);
            }
            series_release(s, f->peaks[i]);
            host_untrack(h, s);
        }
    }
}

void finding_review(struct detect_host *h, const struct scale *scale,
                    struct finding *f, bool replay)
{
    const struct series *s = host_find(h, f->now.tags[0]);
    struct trend_points p = {.n = 0};
    bool fell = false;

    track(h, f);
    if (s != NULL) {
        host_points(h, scale, s, &p);
        f->now.bytes = s->last;
    }
    if (p.n > 0) {
        double floor = p.y[p.n - 1];
        if (isnan(f->base)) {
            f->base = floor;
            f->top = floor;
        }
        f->top = fmax(f->top, floor);
        follow_growth(h, scale, f, &p);
        fell = fell_back(f, floor);
    }
    f->now.updated_us = h->at_us;
    if ((fell || long_quiet(h, f)) && !(replay && f->restored)) {
        resolve(h, f, fell);
    }
    forecast(h, scale, f);
}

/* --- telling --- */

static bool moved(double now, double told, double unit)
{
    return fabs(now - told) > MATERIAL_SHARE * unit;
}

static bool changed(const struct finding *f)
{
    const struct detect_finding *now = &f->now;

    if (now->n_tags != f->told_tags || now->growing != f->told_growing ||
        now->fast != f->told_fast ||
        moved(now->bytes_per_day, f->told_rate, f->told_rate)) {
        return true;
    }
    if (now->exhaustion_us == 0 || f->told_exhaustion_us == 0) {
        return now->exhaustion_us != f->told_exhaustion_us;
    }
    return moved((double)now->exhaustion_us, (double)f->told_exhaustion_us,
                 (double)(now->exhaustion_us - now->updated_us));
}

/* Whether there is something to tell of @f, and what. */
static bool news(struct finding *f)
{
    if (f->dormant || (f->resolved && !f->told)) {
        return false;
    }
    f->now.change = f->resolved ? DETECT_RESOLVED
                    : f->told   ? DETECT_CHANGED
                                : DETECT_OPENED;
    return f->resolved || !f->told || changed(f);
}

void finding_tell(struct detect_host *h, bool closed,
                  void (*emit)(void *user, const struct detect_finding *f),
                  void *user)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < h->n_findings && closed; i++) {
        struct finding *f = &h->findings[i];
        if (news(f)) {
            f->told = f->told || emit != NULL;
            remember_told(f);
            if (emit != NULL) {
                emit(user, &f->now);
            }
        }
        if (!f->resolved) {
            h->findings[kept++] = *f;
        }
    }
    h->n_findings = closed ? kept : h->n_findings;
}
