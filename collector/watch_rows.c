/* One host's stored samples into detect/.
 *
 * Happy path: a sample's changes are read, ids not met before are learnt,
 * detection begins a snapshot, is told of each change and of what vanished,
 * and ends it.
 *
 * A sample of an impossible time, before any possible one, is not fed; what it
 * changed is told with the next one. An id of a mark older than the sample's
 * was not named in it. */
#include "collector/watch_rows.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"

enum { FIRST_IDS = 256 };

#define ROOM_MAX 1e18

void watch_rows_init(struct watch_rows *r)
{
    *r = (struct watch_rows){.mark = 0};
    grid_changes_init(&r->changes, NULL);
}

void watch_rows_fini(struct watch_rows *r)
{
    free(r->tag);
    free(r->ids);
    free(r->had);
    grid_changes_fini(&r->changes);
    watch_rows_init(r);
}

void watch_view_init(struct watch_view *view)
{
    *view = (struct watch_view){.available_bytes = -1, .total_bytes = -1};
    grid_init_only(&view->tags, TABLE_COLUMNS_MAX, COL_BYTES, TABLE_MAX_TAGS,
                   NULL);
    grid_init(&view->counters, 1, TABLE_MAX_COUNTERS, NULL);
}

void watch_view_fini(struct watch_view *view)
{
    detect_host_free(view->detect);
    grid_fini(&view->tags);
    grid_fini(&view->counters);
    free(view->kept);
    watch_view_init(view);
}

static size_t grid_bytes(const struct grid *g)
{
    return g->cap * (sizeof(*g->entries) + g->width * sizeof(*g->now));
}

size_t watch_view_bytes(const struct watch_view *view)
{
    return grid_bytes(&view->tags) + grid_bytes(&view->counters) +
           view->n_kept * sizeof(*view->kept) +
           (view->detect != NULL ? detect_host_bytes(view->detect) : 0);
}

/* ---- lists of ids ---- */

static int push(uint32_t **ids, uint32_t *n, uint32_t *cap, uint32_t id)
{
    if (*n == *cap) {
        uint32_t more = *cap > 0 ? *cap * 2 : FIRST_IDS;
        uint32_t *grown = realloc(*ids, more * sizeof(**ids));
        if (grown == NULL) {
            return PSC_NOMEM;
        }
        *ids = grown;
        *cap = more;
    }
    (*ids)[(*n)++] = id;
    return PSC_OK;
}

static bool is_known(const struct watch_rows *r, uint32_t id)
{
    return id < r->cap_tags && r->tag[id].known;
}

/* Ask for @id with the next learn_ids() unless that was done. */
static int want_id(struct watch_rows *r, uint32_t id)
{
    return id == 0 || (id < r->cap_tags && r->tag[id].asked)
               ? PSC_OK
               : push(&r->ids, &r->n_ids, &r->cap_ids, id);
}

static int learn_ids(struct watch_rows *r, int rc, struct psc_error *err)
{
    if (rc != PSC_OK) {
        return psc_error_set(err, rc, "out of memory");
    }
    return r->n_ids > 0 ? r->learn(r->arg, r->ids, r->n_ids, err) : PSC_OK;
}

static int push_had(struct watch_rows *r, uint32_t id)
{
    return push(&r->had, &r->n_had, &r->cap_had, id);
}

/* Into r->had: what the host has as of the last sample. */
static int list_had(struct watch_rows *r, const struct watch_view *view)
{
    const struct grid *g = &view->tags;
    int rc = PSC_OK;
    r->n_had = 0;
    for (uint32_t i = 0; rc == PSC_OK && i < view->n_kept; i++) {
        rc = push_had(r, view->kept[i]);
    }
    for (uint32_t i = 0; rc == PSC_OK && view->n_kept == 0 && i < g->n; i++) {
        if (g->entries[i].live && g->entries[i].ref != 0) {
            rc = push_had(r, g->entries[i].ref);
        }
    }
    return rc;
}

static void forget_kept(struct watch_view *view)
{
    free(view->kept);
    view->kept = NULL;
    view->n_kept = 0;
}

/* The grid of @view is of no use until a keyframe, which may not name all of
 * r->had. */
static int keep_had(const struct watch_rows *r, struct watch_view *view)
{
    size_t bytes = r->n_had * sizeof(*r->had);
    uint32_t *kept = bytes > 0 ? malloc(bytes) : NULL;
    if (bytes > 0 && kept == NULL) {
        return PSC_NOMEM;
    }
    if (bytes > 0) {
        memcpy(kept, r->had, bytes);
    }
    forget_kept(view);
    view->kept = kept;
    view->n_kept = r->n_had;
    grid_clear(&view->tags);
    return PSC_OK;
}

/* ---- telling detection ---- */

/* A clock that was wrong for a moment must not move detection's: an impossible
 * time, past or to come, is taken for that of the sample before. Returns false
 * if there was none. */
static bool note_time(const struct watch_rows *r, struct watch_view *view,
                      int64_t at_us)
{
    if (at_us >= PSC_YEAR_2000_US && at_us <= r->latest_us) {
        view->at_us = at_us;
    }
    return view->at_us != 0;
}

/* Returns whether the host has restarted: then all it has is told. */
static bool note_boot(struct watch_view *view, const uint8_t *id)
{
    if (id == NULL) {
        return false;
    }
    bool other =
        view->has_boot && memcmp(view->boot_id, id, CHUNK_BOOT_BYTES) != 0;
    if (other) {
        detect_boot(view->detect);
    }
    memcpy(view->boot_id, id, CHUNK_BOOT_BYTES);
    view->has_boot = true;
    return other;
}

/* Begin a sample: its number, its boot. Returns whether it was a new boot. */
static bool begin_sample(struct watch_rows *r, struct watch_view *view,
                         const struct watch_sample *sample)
{
    r->mark++;
    bool booted = note_boot(view, sample->boot_id);
    detect_begin(view->detect, view->at_us, view->interval_us);
    return booted;
}

static int tell_tag(struct watch_rows *r, struct watch_view *view, uint32_t id,
                    uint8_t flags, int64_t bytes)
{
    if (!is_known(r, id) || (flags & TAG_BYTES) == 0 ||
        (flags & ENTRY_REAL) != 0) {
        return PSC_OK;
    }
    struct watch_tag *t = &r->tag[id];
    t->mark = r->mark;
    int rc = detect_tag(view->detect, id, t->pool, t->flags, t->generic, bytes);
    return rc == PSC_LIMIT ? PSC_OK : rc;
}

static void tell_gone(const struct watch_rows *r, struct watch_view *view,
                      uint32_t id)
{
    if (is_known(r, id) && r->tag[id].mark != r->mark) {
        detect_gone(view->detect, id);
    }
}

/* What it had and this sample, which named all it has, did not. */
static void tell_missing(const struct watch_rows *r, struct watch_view *view)
{
    for (uint32_t i = 0; i < r->n_had; i++) {
        tell_gone(r, view, r->had[i]);
    }
}

static int end_sample(struct watch_view *view,
                      const struct watch_sample *sample, int rc,
                      struct psc_error *err)
{
    if (view->available_bytes >= 0 && view->total_bytes > 0) {
        detect_room(view->detect, view->available_bytes, view->total_bytes);
    }
    int ended = detect_end(view->detect, sample->emit, sample->user);
    rc = rc == PSC_OK ? ended : rc;
    return rc == PSC_OK ? PSC_OK : psc_error_set(err, rc, "out of memory");
}

/* ---- fresh rows ---- */

static void take_counter(const struct watch_rows *r, struct watch_view *view,
                         uint32_t id, uint8_t flags, int64_t bits)
{
    double value = (double)bits;
    if (id == 0 || (id != r->available_id && id != r->total_id)) {
        return;
    }
    if ((flags & ENTRY_REAL) != 0) {
        memcpy(&value, &bits, sizeof(value));
    }
    if (!(value >= 0 && value <= ROOM_MAX)) {
        return;
    }
    if (id == r->available_id) {
        view->available_bytes = (int64_t)value;
    } else {
        view->total_bytes = (int64_t)value;
    }
}

static void take_entry(const struct watch_rows *r, struct watch_view *view,
                       uint32_t i)
{
    const struct grid_entry *e = &view->counters.entries[i];
    if (e->live) {
        take_counter(r, view, e->ref, e->flags,
                     grid_values(&view->counters, i)[0]);
    }
}

int watch_rows_counters(struct watch_rows *r, struct watch_view *view,
                        struct psc_bytes counters, bool keyframe,
                        struct psc_error *err)
{
    int rc =
        stored_apply(&view->counters, counters, keyframe, &r->changes, err);
    if (rc != PSC_OK) {
        return rc;
    }
    if (view->available_bytes < 0 || view->total_bytes < 0) {
        /* What the two are called may be known only since a moment ago. */
        for (uint32_t i = 0; i < view->counters.n; i++) {
            take_entry(r, view, i);
        }
    } else {
        for (uint32_t i = 0; i < r->changes.n_changed; i++) {
            take_entry(r, view, r->changes.changed[i]);
        }
    }
    return PSC_OK;
}

static int learn_entries(struct watch_rows *r, const struct grid *g,
                         uint32_t from, struct psc_error *err)
{
    int rc = PSC_OK;
    r->n_ids = 0;
    for (uint32_t i = from; rc == PSC_OK && i < g->n; i++) {
        rc = want_id(r, g->entries[i].ref);
    }
    return learn_ids(r, rc, err);
}

static int tell_row(struct watch_rows *r, struct watch_view *view, uint32_t i)
{
    const struct grid_entry *e = &view->tags.entries[i];
    return tell_tag(r, view, e->ref, e->flags, grid_values(&view->tags, i)[0]);
}

static int tell_all_rows(struct watch_rows *r, struct watch_view *view)
{
    int rc = PSC_OK;
    for (uint32_t i = 0; rc == PSC_OK && i < view->tags.n; i++) {
        rc = view->tags.entries[i].live ? tell_row(r, view, i) : PSC_OK;
    }
    return rc;
}

static int tell_changes(struct watch_rows *r, struct watch_view *view)
{
    const struct grid_changes *c = &r->changes;
    int rc = PSC_OK;
    for (uint32_t i = 0; rc == PSC_OK && i < c->n_changed; i++) {
        rc = tell_row(r, view, c->changed[i]);
    }
    for (uint32_t i = 0; i < c->n_gone; i++) {
        tell_gone(r, view, view->tags.entries[c->gone[i]].ref);
    }
    return rc;
}

/* Apply a row, and learn what is new in it. */
static int take_row(struct watch_rows *r, struct watch_view *view,
                    struct psc_bytes tags, bool keyframe, struct psc_error *err)
{
    uint32_t before = keyframe ? 0 : view->tags.n;
    r->n_had = 0;
    int rc = keyframe ? list_had(r, view) : PSC_OK;
    if (rc != PSC_OK) {
        return psc_error_set(err, rc, "out of memory");
    }
    rc = stored_apply(&view->tags, tags, keyframe, &r->changes, err);
    if (rc == PSC_OK) {
        return learn_entries(r, &view->tags, before, err);
    }
    int kept = keyframe ? PSC_OK : list_had(r, view);
    kept = kept == PSC_OK ? keep_had(r, view) : kept;
    return kept == PSC_OK ? rc : psc_error_set(err, kept, "out of memory");
}

int watch_rows_tags(struct watch_rows *r, struct watch_view *view,
                    const struct watch_sample *sample, struct psc_bytes tags,
                    bool keyframe, struct psc_error *err)
{
    int rc = take_row(r, view, tags, keyframe, err);
    if (rc != PSC_OK) {
        return rc;
    }
    if (keyframe) {
        forget_kept(view);
    }
    if (!note_time(r, view, sample->at_us)) {
        view->restate = true;
        return PSC_OK;
    }
    bool all = begin_sample(r, view, sample) || keyframe || view->restate;
    view->restate = false;
    rc = all ? tell_all_rows(r, view) : PSC_OK;
    if (rc == PSC_OK && !keyframe) {
        rc = tell_changes(r, view);
    }
    tell_missing(r, view);
    return end_sample(view, sample, rc, err);
}

/* ---- chunks ---- */

void watch_rows_room(struct watch_rows *r, struct watch_view *view,
                     const struct replay *counters)
{
    for (uint32_t i = 0; i < counters->n_changes; i++) {
        const struct replay_change *c = &counters->changes[i];
        if (c->present) {
            take_counter(r, view, c->id, c->flags, c->value);
        }
    }
}

static int learn_changes(struct watch_rows *r, const struct replay *tags,
                         struct psc_error *err)
{
    int rc = PSC_OK;
    r->n_ids = 0;
    for (uint32_t i = 0; rc == PSC_OK && i < tags->n_changes; i++) {
        rc = want_id(r, tags->changes[i].id);
    }
    return learn_ids(r, rc, err);
}

/* An id may be told as gone and as there: it is there. */
static int tell_snapshot(struct watch_rows *r, struct watch_view *view,
                         const struct replay *tags)
{
    int rc = PSC_OK;
    for (uint32_t i = 0; rc == PSC_OK && i < tags->n_changes; i++) {
        const struct replay_change *c = &tags->changes[i];
        if (c->present) {
            rc = tell_tag(r, view, c->id, c->flags, c->value);
        }
    }
    for (uint32_t i = 0; i < tags->n_changes; i++) {
        if (!tags->changes[i].present) {
            tell_gone(r, view, tags->changes[i].id);
        }
    }
    return rc;
}

int watch_rows_replay(struct watch_rows *r, struct watch_view *view,
                      const struct watch_sample *sample, struct replay *tags,
                      bool whole, struct psc_error *err)
{
    int rc = PSC_OK;
    r->n_had = 0;
    if (whole) {
        replay_all(tags);
        rc = list_had(r, view);
    }
    if (rc == PSC_OK) {
        rc = learn_changes(r, tags, err);
    }
    if (rc != PSC_OK) {
        return rc;
    }
    if (!note_time(r, view, sample->at_us)) {
        view->restate = true;
        return PSC_OK;
    }
    bool all = begin_sample(r, view, sample) || view->restate;
    view->restate = false;
    rc = tell_snapshot(r, view, tags);
    if (rc == PSC_OK && all && !whole) {
        replay_all(tags);
        rc = tell_snapshot(r, view, tags);
    }
    tell_missing(r, view);
    return end_sample(view, sample, rc, err);
}

int watch_rows_replayed(struct watch_rows *r, struct watch_view *view,
                        struct replay *tags)
{
    int rc = PSC_OK;
    replay_all(tags);
    r->n_had = 0;
    for (uint32_t i = 0; rc == PSC_OK && i < tags->n_changes; i++) {
        rc = push_had(r, tags->changes[i].id);
    }
    return rc == PSC_OK ? keep_had(r, view) : rc;
}
