/* The series of a host and its windows.
 *
 * Happy path: detect_begin() closes the windows that ended before this
 * snapshot (minima enter the rings), detect_tag() feeds the new values,
 * detect_end() judges what the closed windows showed. A snapshot that closes
 * no window costs only its changed tags.
 *
 * Failures: no memory for a ring or a finding. Then nothing is half done; the
 * series is looked at again at its next rise, the group at the next window. */
#include "collector/detect/host.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "proto/table.h"

#define SECOND_US     INT64_C(1000000)
#define FAST_SAMPLES  INT64_C(12)
#define FAST_LEAST_US (INT64_C(20) * SECOND_US)
#define FAST_MOST_US  (INT64_C(3600) * SECOND_US)
#define SLOW_US       (INT64_C(6) * 3600 * SECOND_US)
#define STEP_BACK_US  (INT64_C(3600) * SECOND_US)
#define WHOLE_SHARE   0.8 /* of its samples makes a window whole */
#define SLOTS_LEAST   64

void detect_settings_default(struct detect_settings *s)
{
    *s = (struct detect_settings){
        .min_bytes_per_day = 1024.0 * 1024.0,
        .fast_horizon_us = 3 * DAY_US,
        .fast_z = 3.2,
        .slow_z = 2.8,
        .min_growth_share = 0.02,
        .inform_horizon_us = 180 * DAY_US,
        .reallocate = realloc,
    };
}

int detect_host_new(const struct detect_settings *settings,
                    struct detect_host **host)
{
    struct detect_host *h = settings->reallocate(NULL, sizeof *h);

    *host = h;
    if (h == NULL) {
        return PSC_NOMEM;
    }
    memset(h, 0, sizeof *h);
    h->settings = *settings;
    h->room_bytes = -1;
    h->fast.period = 1;
    h->slow.period = SLOW_DAY;
    return 0;
}

void detect_host_free(struct detect_host *host)
{
    if (host != NULL) {
        free(host->series);
        free(host->slots);
        free(host->movers);
        free(host->findings);
        free(host->swings);
        free(host);
    }
}

size_t detect_host_bytes(const struct detect_host *host)
{
    size_t slots = host->slots != NULL ? (size_t)host->slot_mask + 1 : 0;

    return sizeof *host + host->cap_series * sizeof *host->series +
           slots * sizeof *host->slots +
           host->cap_movers * sizeof *host->movers +
           host->cap_findings * sizeof *host->findings +
           host->cap_swings * sizeof *host->swings;
}

uint32_t detect_host_series(const struct detect_host *host)
{
    return host->n_series;
}

int host_reserve(struct detect_host *h, void *array, uint32_t *cap,
                 uint32_t used, size_t size)
{
    void *old;

    if (used < *cap) {
        return 0;
    }
    uint32_t more = *cap + *cap / 8 + 4; /* little slack: many hosts */
    memcpy(&old, array, sizeof old);
    void *grown = h->settings.reallocate(old, more * size);
    if (grown == NULL) {
        return PSC_NOMEM;
    }
    memcpy(array, &grown, sizeof grown);
    *cap = more;
    return 0;
}

/* --- the index --- */

static uint32_t slot_of(const struct detect_host *h, uint32_t id)
{
    uint32_t hash = (uint32_t)(id * UINT32_C(2654435769));

    hash ^= hash >> 15;
    return hash & h->slot_mask;
}

static void index_put(struct detect_host *h, uint32_t index)
{
    uint32_t slot = slot_of(h, h->series[index].id);

    while (h->slots[slot] != 0) {
        slot = (slot + 1) & h->slot_mask;
    }
    h->slots[slot] = index + 1;
}

static void index_rebuild(struct detect_host *h)
{
    memset(h->slots, 0, ((size_t)h->slot_mask + 1) * sizeof *h->slots);
    for (uint32_t i = 0; i < h->n_series; i++) {
        index_put(h, i);
    }
}

/* Room in the index for one more series, at most three quarters full. */
static int index_reserve(struct detect_host *h)
{
    uint32_t slots = h->slots != NULL ? h->slot_mask + 1 : 0;

    if (h->n_series + 1 <= slots / 4 * 3) {
        return 0;
    }
    uint32_t more = slots > 0 ? slots * 2 : SLOTS_LEAST;
    uint32_t *grown = h->settings.reallocate(h->slots, more * sizeof *h->slots);
    if (grown == NULL) {
        return PSC_NOMEM;
    }
    h->slots = grown;
    h->slot_mask = more - 1;
    index_rebuild(h);
    return 0;
}

struct series *host_find(const struct detect_host *h, uint32_t id)
{
    if (h->slots == NULL) {
        return NULL;
    }
    for (uint32_t slot = slot_of(h, id); h->slots[slot] != 0;
         slot = (slot + 1) & h->slot_mask) {
        struct series *s = &h->series[h->slots[slot] - 1];
        if (s->id == id) {
            return s;
        }
    }
    return NULL;
}

static int add_series(struct detect_host *h, uint32_t id, int pool,
                      struct series **s)
{
    if (h->n_series >= DETECT_SERIES_MAX) {
        return PSC_LIMIT;
    }
    int rc = index_reserve(h);
    if (rc == 0) {
        rc = host_reserve(h, &h->series, &h->cap_series, h->n_series,
                          sizeof *h->series);
    }
    if (rc != 0) {
        return rc;
    }
    *s = &h->series[h->n_series];
    series_init(*s, id, (uint8_t)pool);
    index_put(h, h->n_series++);
    return 0;
}

/* --- rings of what moves --- */

static struct mover *mover_of(const struct detect_host *h,
                              const struct series *s)
{
    return s->mover == SERIES_STILL ? NULL : &h->movers[s->mover];
}

int host_track(struct detect_host *h, struct series *s, float before)
{
    int rc = host_reserve(h, &h->movers, &h->cap_movers, h->n_movers,
                          sizeof *h->movers);
    if (rc != 0) {
        return rc;
    }
    s->mover = h->n_movers;
    assert(h->movers != NULL);
    struct mover *m = &h->movers[h->n_movers++];
    *m = (struct mover){.series = (uint32_t)(s - h->series)};
    if (!isnan(before)) {
        m->y[m->n++] = before;
    }
    m->y[m->n++] = s->floor;
    return 0;
}

void host_untrack(struct detect_host *h, struct series *s)
{
    if (s->mover == SERIES_STILL) {
        return;
    }
    uint32_t last = --h->n_movers;
    if (s->mover != last) {
        h->movers[s->mover] = h->movers[last];
        h->series[h->movers[last].series].mover = s->mover;
    }
    s->mover = SERIES_STILL;
}

void host_points(const struct detect_host *h, const struct scale *scale,
                 const struct series *s, struct trend_points *p)
{
    const struct mover *m = mover_of(h, s);

    if (scale == &h->slow) {
        series_slow_points(s, scale->x, scale->n_x, p);
    } else if (m != NULL) {
        mover_points(m, scale->x, scale->n_x, p);
    } else {
        p->n = 0;
    }
}

/* --- windows --- */

static int64_t fast_length(int64_t interval_us)
{
    int64_t length = FAST_SAMPLES * interval_us;

    length = length < FAST_LEAST_US ? FAST_LEAST_US : length;
    length = length > FAST_MOST_US ? FAST_MOST_US : length;
    return length < interval_us ? interval_us : length;
}

/* Move to the window of @at_us. Returns whether windows of this scale ended;
 * scale->closed says whether the last of them was whole. */
static bool scale_advance(struct scale *scale, int64_t at_us,
                          int64_t interval_us)
{
    int64_t number = at_us / scale->length_us;

    scale->closed = false;
    if (number == scale->number) {
        scale->samples++;
        return false;
    }
    double expected = (double)scale->length_us / (double)interval_us;
    if (scale->samples > 0 && scale->samples >= WHOLE_SHARE * expected) {
        scale->closed = true;
        if (scale->n_x == TREND_MAX) {
            memmove(scale->x, scale->x + 1,
                    sizeof scale->x - sizeof scale->x[0]);
            scale->n_x--;
        }
        scale->x[scale->n_x++] = (double)scale->number;
    }
    scale->number = number;
    scale->samples = 1;
    return true;
}

static void scale_start(struct scale *scale, int64_t length_us)
{
    scale->length_us = length_us;
    scale->number = -1;
    scale->samples = 0;
    scale->n_x = 0;
}

static void close_fast(struct detect_host *h)
{
    for (uint32_t i = 0; i < h->n_series; i++) {
        struct series *s = &h->series[i];
        struct mover *m = mover_of(h, s);
        float before;
        if (series_close_fast(s, m, &before)) {
            h->starved = host_track(h, s, before) != 0 || h->starved;
        } else if (m != NULL && series_settle(s, m)) {
            host_untrack(h, s);
        }
    }
    swing_window(h);
}

/* A tag that went, and had nothing in all windows since, is forgotten. */
static bool forgotten(const struct series *s)
{
    if ((s->flags & SERIES_GONE) == 0 || (s->flags & SERIES_FOUND) != 0 ||
        s->n_slow < SERIES_SLOW || s->mover != SERIES_STILL) {
        return false;
    }
    for (uint32_t i = 0; i < s->n_slow; i++) {
        if (s->slow[i] > 0) {
            return false;
        }
    }
    return true;
}

static void close_slow(struct detect_host *h)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < h->n_series; i++) {
        series_close_slow(&h->series[i]);
        if (forgotten(&h->series[i])) {
            continue;
        }
        if (kept != i) {
            h->series[kept] = h->series[i];
            if (h->series[kept].mover != SERIES_STILL) {
                h->movers[h->series[kept].mover].series = kept;
            }
        }
        kept++;
    }
    if (kept != h->n_series) {
        h->n_series = kept;
        index_rebuild(h);
    }
}

static void drop_windows(struct detect_host *h, bool fast, bool slow)
{
    for (uint32_t i = 0; i < h->n_series; i++) {
        if (fast) {
            series_drop_fast(&h->series[i]);
        }
        if (slow) {
            series_drop_slow(&h->series[i]);
        }
    }
}

static void restart_fast(struct detect_host *h, int64_t length_us)
{
    scale_start(&h->fast, length_us);
    for (uint32_t i = 0; i < h->n_series; i++) {
        struct series *s = &h->series[i];
        series_drop_fast(s);
        s->floor = NAN;
        s->fast_seen = 0;
        host_untrack(h, s);
    }
}

/* The host samples at another interval: its fast windows start anew. */
static void change_interval(struct detect_host *h, int64_t interval_us)
{
    h->interval_us = interval_us;
    if (h->slow.length_us == 0) {
        scale_start(&h->slow, SLOW_US);
    }
    if (fast_length(interval_us) != h->fast.length_us) {
        restart_fast(h, fast_length(interval_us));
    }
}

/* A clock that was ahead has been put right: levels and findings stay, the
 * windows of a future that never was do not. */
static void step_back(struct detect_host *h, int64_t at_us)
{
    h->at_us = at_us;
    restart_fast(h, h->fast.length_us);
    scale_start(&h->slow, SLOW_US);
    for (uint32_t i = 0; i < h->n_series; i++) {
        series_drop_slow(&h->series[i]);
        h->series[i].n_slow = 0;
        h->series[i].slow_seen = 0;
    }
    h->n_swings = 0;
    finding_step_back(h);
}

void detect_begin(struct detect_host *host, int64_t at_us, int64_t interval_us)
{
    if (at_us < host->at_us - STEP_BACK_US && host->fast.length_us > 0) {
        step_back(host, at_us);
    }
    host->at_us = at_us > host->at_us ? at_us : host->at_us;
    host->next = 0;
    if (interval_us <= 0) {
        interval_us = SECOND_US;
    }
    if (interval_us != host->interval_us) {
        change_interval(host, interval_us);
    }
    bool fast = scale_advance(&host->fast, host->at_us, interval_us);
    bool slow = scale_advance(&host->slow, host->at_us, interval_us);
    if (host->fast.closed) {
        close_fast(host);
    }
    if (host->slow.closed) {
        close_slow(host);
    }
    fast = fast && !host->fast.closed;
    slow = slow && !host->slow.closed;
    if (fast || slow) {
        drop_windows(host, fast, slow);
    }
}

void detect_boot(struct detect_host *host)
{
    for (uint32_t i = 0; i < host->n_series; i++) {
        struct series *s = &host->series[i];
        series_boot(s, mover_of(host, s));
        s->flags |= SERIES_GONE; /* until it is seen in the new boot */
        host_untrack(host, s);
    }
    host->room_bytes = -1;
    host->fast.samples = 0;
    host->slow.samples = 0;
    host->n_swings = 0;
    finding_boot(host);
}

int detect_tag(struct detect_host *host, uint32_t id, int pool, uint8_t flags,
               bool generic, int64_t bytes)
{
    struct series *s =
        host->next < host->n_series && host->series[host->next].id == id
            ? &host->series[host->next]
            : host_find(host, id);
    if (s == NULL) {
        int rc = add_series(host, id, pool, &s);
        if (rc != 0) {
            return rc;
        }
    }
    host->next = (uint32_t)(s - host->series) + 1;
    s->flags =
        (uint8_t)((s->flags & SERIES_FOUND) |
                  ((flags & ENTRY_RECLAIMABLE) != 0 ? SERIES_RECLAIMABLE : 0) |
                  (generic ? SERIES_GENERIC : 0));
    series_set(s, bytes > 0 ? bytes : 0, host->fast.samples > 1,
               host->slow.samples > 1);
    return 0;
}

void detect_gone(struct detect_host *host, uint32_t id)
{
    struct series *s = host_find(host, id);

    if (s != NULL) {
        series_set(s, 0, host->fast.samples > 1, host->slow.samples > 1);
        s->flags |= SERIES_GONE;
    }
}

void detect_room(struct detect_host *host, int64_t available_bytes,
                 int64_t total_bytes)
{
    host->room_bytes = available_bytes > 0 ? (double)available_bytes : 0;
    host->total_bytes = (double)total_bytes;
}
