/* Statistics of hours and days, gathered run by run. */
#include "collector/summary.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"

enum { FIRST_IDS = 256, IDS_MAX = 1 << 16 };

#define COUNTER_MAX 1e300 /* beyond it is as good as absent, as in SQL */
#define HOUR_US     CHUNK_HOUR_US
#define DAY_US      (24 * CHUNK_HOUR_US)

/* One id within one step. Bytes are whole numbers far below 2^53. */
struct summary_stat {
    uint32_t n; /* samples that have it */
    bool has_outstanding;
    int64_t first_at_us, last_at_us;
    double first, last, min, max, sum;
    int64_t last_outstanding;
};
static const struct summary_stat empty = {
    .first_at_us = INT64_MAX,
    .last_at_us = INT64_MIN,
    .min = INFINITY,
    .max = -INFINITY,
};

void summary_init(struct summary *s, uint32_t columns,
                  const struct chunk_digest *digest)
{
    *s = (struct summary){.columns = columns};
    psc_map_init(&s->ids, IDS_MAX, IDS_MAX * sizeof(uint32_t));
    chunk_writer_init(&s->writer, columns, digest);
}

void summary_fini(struct summary *s)
{
    psc_map_fini(&s->ids);
    chunk_writer_fini(&s->writer);
    free(s->stats);
    s->stats = NULL;
    s->cap = 0;
}

static void begin(struct summary *s, int64_t from_us, int64_t step_us,
                  uint32_t steps)
{
    s->from_us = from_us;
    s->step_us = step_us;
    s->steps = steps;
    memset(s->snapshots, 0, sizeof(s->snapshots));
    psc_map_clear(&s->ids);
    chunk_writer_reset(&s->writer);
}

void summary_begin_day(struct summary *s, int64_t day_us)
{
    begin(s, day_us, HOUR_US, SUMMARY_HOURS);
}

void summary_begin_month(struct summary *s, int64_t month_us, uint32_t days)
{
    begin(s, month_us, DAY_US,
          days < SUMMARY_STEPS_MAX ? days : SUMMARY_STEPS_MAX);
}

/* The step of a time; s->steps if it is in none. */
static uint32_t step_of(const struct summary *s, int64_t at_us)
{
    int64_t into = at_us - s->from_us;
    bool within = into >= 0 && into < s->step_us * s->steps;
    return within ? (uint32_t)(into / s->step_us) : s->steps;
}

/* ---- gathering ---- */

/* Room for the stats of @ids ids. SUMMARY_STEPS_MAX of them an id, so that it
 * serves days and months. */
static int grow(struct summary *s, uint32_t ids)
{
    uint32_t cap = s->cap > 0 ? s->cap : FIRST_IDS;
    while (cap < ids) {
        cap *= 2;
    }
    if (cap > s->cap) {
        struct summary_stat *stats =
            realloc(s->stats, (size_t)cap * SUMMARY_STEPS_MAX * sizeof(*stats));
        if (stats == NULL) {
            return PSC_NOMEM;
        }
        s->stats = stats;
        s->cap = cap;
    }
    return PSC_OK;
}

static struct summary_stat *stats_at(const struct summary *s, uint32_t index)
{
    return s->stats + (size_t)index * SUMMARY_STEPS_MAX;
}

/* The stats of @id, all empty if it is new; NULL with *@rc set. */
static struct summary_stat *stats_of(struct summary *s, uint32_t id, int *rc)
{
    uint32_t count = s->ids.count;
    uint32_t index;
    *rc = grow(s, count + 1);
    if (*rc == PSC_OK) {
        *rc = psc_map_add(&s->ids, &id, sizeof(id), &index);
    }
    if (*rc != PSC_OK) {
        return NULL;
    }
    struct summary_stat *stats = stats_at(s, index);
    for (uint32_t i = 0; index == count && i < s->steps; i++) {
        stats[i] = empty;
    }
    return stats;
}

static void note_first(struct summary_stat *stat, int64_t at_us, double v)
{
    if (at_us < stat->first_at_us) {
        stat->first_at_us = at_us;
        stat->first = v;
    }
}

/* Returns whether it is the last one so far. */
static bool note_last(struct summary_stat *stat, int64_t at_us, double v)
{
    if (at_us < stat->last_at_us) {
        return false;
    }
    stat->last_at_us = at_us;
    stat->last = v;
    return true;
}

static double real_of(int64_t bits)
{
    double v;
    memcpy(&v, &bits, sizeof(v));
    return v;
}

/* Where it is no integer that a chunk may have, it is absent. */
static void note_outstanding(struct summary_stat *stat,
                             const struct chunk_runs *r)
{
    int64_t v = r->values[COL_OUTSTANDING];
    stat->has_outstanding = (r->flags & TAG_OUTSTANDING) != 0;
    if ((r->flags & ENTRY_REAL) != 0) {
        double real = real_of(v);
        bool fits = fabs(real) < (double)CHUNK_VALUE_LIMIT;
        stat->has_outstanding = stat->has_outstanding && fits;
        v = fits ? llrint(real) : 0;
    }
    stat->last_outstanding = v;
}

static void note_mean(struct summary_stat *stat, double v, uint32_t n)
{
    stat->sum += v * n;
    stat->n += n;
}

/* ---- from samples ---- */

/* What a run shows: false if it is nothing to sum up. */
static bool value_of(const struct summary *s, const struct chunk_runs *r,
                     double *value)
{
    bool real = (r->flags & ENTRY_REAL) != 0;
    int64_t v = s->columns == 1 ? r->values[0] : r->values[COL_BYTES];
    *value = real ? real_of(v) : (double)v;
    return s->columns == 1 ? fabs(*value) <= COUNTER_MAX
                           : fabs(*value) < (double)CHUNK_VALUE_LIMIT &&
                                 (r->flags & TAG_BYTES) != 0;
}

static void add_run(struct summary *s, struct summary_stat *stats,
                    const struct chunk_runs *r)
{
    int64_t first_at_us = s->clock.at_us[r->from];
    int64_t last_at_us = s->clock.at_us[r->from + r->count - 1];
    uint32_t step = step_of(s, first_at_us);
    double v;
    if (step == s->steps || !value_of(s, r, &v)) {
        return;
    }
    struct summary_stat *stat = &stats[step];
    note_first(stat, first_at_us, v);
    if (note_last(stat, last_at_us, v) && s->columns != 1) {
        note_outstanding(stat, r);
    }
    stat->min = fmin(stat->min, v);
    stat->max = fmax(stat->max, v);
    note_mean(stat, v, r->count);
}

static int damaged(struct psc_error *err)
{
    return psc_error_set(err, PSC_FORMAT, "the changes are damaged");
}

static int add_block(struct summary *s, const struct chunk_block *b,
                     struct psc_error *err)
{
    for (uint32_t i = 0; i < b->n; i++) {
        int rc;
        struct summary_stat *stats = stats_of(s, b->ids[i], &rc);
        if (stats == NULL) {
            return psc_error_set(err, rc, "no room for statistics");
        }
        struct chunk_runs r;
        chunk_runs_open(&r, &s->clock, b, i);
        while (chunk_runs_next(&r)) {
            add_run(s, stats, &r);
        }
        if (r.failed) {
            return damaged(err);
        }
    }
    return PSC_OK;
}

/* Open a chunk and read its times. */
static int open_chunk(struct summary *s, struct chunk *c, struct psc_bytes head,
                      struct psc_error *err)
{
    int rc = chunk_open(c, head, s->writer.digest, err);
    if (rc == PSC_OK && c->columns != s->columns) {
        rc = psc_error_set(err, PSC_FORMAT, "a chunk of another table");
    }
    return rc == PSC_OK ? chunk_clock_read(&s->clock, c, err) : rc;
}

int summary_add(struct summary *s, struct psc_bytes head,
                struct psc_bytes levels, struct psc_bytes data,
                struct psc_error *err)
{
    struct chunk c;
    int rc = open_chunk(s, &c, head, err);
    for (uint32_t i = 0; rc == PSC_OK && i < s->clock.n; i++) {
        uint32_t step = step_of(s, s->clock.at_us[i]);
        if (step < s->steps) {
            s->snapshots[step]++;
        }
    }
    for (uint32_t block = 0; rc == PSC_OK && block < c.n_blocks; block++) {
        struct chunk_block b;
        rc = chunk_block_at(&b, &c, block, data, levels, err);
        rc = rc == PSC_OK ? add_block(s, &b, err) : rc;
    }
    return rc;
}

/* ---- from days ---- */

/* What an hour says of a tag. */
static void add_tag_hour(struct summary_stat *stat, uint32_t id,
                         const struct chunk_runs *r, int64_t at_us, uint32_t n)
{
    if (id % 2 == 0) {
        stat->min = fmin(stat->min, (double)r->values[COL_ALLOCS]);
        if (note_last(stat, at_us, (double)r->values[COL_BYTES])) {
            note_outstanding(stat, r);
        }
    } else {
        note_first(stat, at_us, (double)r->values[COL_ALLOCS]);
        note_mean(stat, (double)r->values[COL_OUTSTANDING], n);
        stat->max = fmax(stat->max, (double)r->values[COL_BYTES]);
    }
}

/* The same of a counter. */
static void add_counter_hour(struct summary_stat *stat, uint32_t id,
                             const struct chunk_runs *r, int64_t at_us,
                             uint32_t n)
{
    double v = real_of(r->values[0]);
    switch (id % SUMMARY_IDS) {
    case SUMMARY_MIN: stat->min = fmin(stat->min, v); break;
    case SUMMARY_LAST: (void)note_last(stat, at_us, v); break;
    case SUMMARY_FIRST: note_first(stat, at_us, v); break;
    case SUMMARY_MEAN: note_mean(stat, v, n); break;
    default: stat->max = fmax(stat->max, v);
    }
}

static int add_day_block(struct summary *s, const struct chunk_block *b,
                         uint32_t step, const uint32_t snapshots[SUMMARY_HOURS],
                         struct psc_error *err)
{
    bool tags = s->columns != 1;
    for (uint32_t i = 0; i < b->n; i++) {
        uint32_t id = b->ids[i];
        int rc;
        struct summary_stat *stats =
            stats_of(s, id / (tags ? 2 : SUMMARY_IDS), &rc);
        if (stats == NULL) {
            return psc_error_set(err, rc, "no room for statistics");
        }
        struct chunk_runs r;
        chunk_runs_open(&r, &s->clock, b, i);
        while (chunk_runs_next(&r)) {
            int64_t at_us = s->clock.at_us[r.from];
            int64_t hour = (at_us - s->from_us) / HOUR_US;
            uint32_t n = snapshots[(uint32_t)hour % SUMMARY_HOURS];
            (tags ? add_tag_hour : add_counter_hour)(&stats[step], id, &r,
                                                     at_us, n);
        }
        if (r.failed) {
            return damaged(err);
        }
    }
    return PSC_OK;
}

int summary_add_day(struct summary *s, struct psc_bytes head,
                    struct psc_bytes levels, struct psc_bytes data,
                    const uint32_t snapshots[SUMMARY_HOURS],
                    struct psc_error *err)
{
    struct chunk c;
    int rc = open_chunk(s, &c, head, err);
    if (rc != PSC_OK) {
        return rc;
    }
    uint32_t step = step_of(s, c.at_us);
    if (step == s->steps || c.snapshots > SUMMARY_HOURS) {
        return psc_error_set(err, PSC_FORMAT, "a summary of another month");
    }
    for (unsigned hour = 0; hour < SUMMARY_HOURS; hour++) {
        s->snapshots[step] += snapshots[hour];
    }
    for (uint32_t block = 0; rc == PSC_OK && block < c.n_blocks; block++) {
        struct chunk_block b;
        rc = chunk_block_at(&b, &c, block, data, levels, err);
        rc = rc == PSC_OK ? add_day_block(s, &b, step, snapshots, err) : rc;
    }
    return rc;
}

/* ---- from what was summed up before ---- */

int summary_put(struct summary *s, int64_t at_us,
                const struct summary_fact *fact)
{
    uint32_t step = step_of(s, at_us);
    int rc = PSC_OK;
    if (step == s->steps || fact->n == 0) {
        return PSC_OK;
    }
    struct summary_stat *stats = stats_of(s, fact->id, &rc);
    if (stats == NULL) {
        return rc;
    }
    if (s->snapshots[step] < fact->n) {
        s->snapshots[step] = fact->n;
    }
    stats[step] = (struct summary_stat){
        .n = fact->n,
        .first = fact->first,
        .last = fact->last,
        .min = fact->min,
        .max = fact->max,
        .sum = fact->mean * fact->n,
        .has_outstanding = fact->has_outstanding,
        .last_outstanding = fact->last_outstanding,
    };
    return PSC_OK;
}

/* ---- packing ---- */

/* Whether the last outstanding is known in each step that has the id: an entry
 * has the column throughout or not at all. */
static bool knows_outstanding(const struct summary *s,
                              const struct summary_stat *stats)
{
    bool knows = true;
    for (uint32_t step = 0; step < s->steps; step++) {
        knows = knows && (stats[step].n == 0 || stats[step].has_outstanding);
    }
    return knows;
}

static int put_tag(struct summary *s, uint32_t id,
                   const struct summary_stat *stat, bool knows)
{
    uint8_t all = TAG_ALLOCS | TAG_OUTSTANDING | TAG_BYTES;
    uint8_t even = knows ? all : TAG_ALLOCS | TAG_BYTES;
    const int64_t low[] = {llrint(stat->min), 0, stat->last_outstanding,
                           llrint(stat->last)};
    const int64_t high[] = {llrint(stat->first), 0, llrint(stat->sum / stat->n),
                            llrint(stat->max)};
    int rc = chunk_writer_put(&s->writer, 2 * id, even, low);
    if (rc == PSC_OK) {
        rc = chunk_writer_put(&s->writer, 2 * id + 1, all, high);
    }
    return rc;
}

static int put_counter(struct summary *s, uint32_t id,
                       const struct summary_stat *stat)
{
    const double values[SUMMARY_VALUES] = {
        [SUMMARY_MIN] = stat->min,     [SUMMARY_LAST] = stat->last,
        [SUMMARY_FIRST] = stat->first, [SUMMARY_MEAN] = stat->sum / stat->n,
        [SUMMARY_MAX] = stat->max,
    };
    int rc = PSC_OK;
    for (uint32_t i = 0; rc == PSC_OK && i < SUMMARY_VALUES; i++) {
        int64_t bits;
        memcpy(&bits, &values[i], sizeof(bits));
        rc = chunk_writer_put(&s->writer, SUMMARY_IDS * id + i, ENTRY_REAL,
                              &bits);
    }
    return rc;
}

static uint32_t id_at(const struct summary *s, uint32_t index)
{
    uint32_t id;
    memcpy(&id, psc_map_key(&s->ids, index).data, sizeof(id));
    return id;
}

/* A keyframe, so what has no samples in this step is gone. */
static int put_step(struct summary *s, uint32_t step)
{
    static const uint8_t no_boot[CHUNK_BOOT_BYTES] = {0};
    int64_t at_us = s->from_us + (int64_t)step * s->step_us;
    int rc = chunk_writer_snapshot(&s->writer,
                                   (at_us - PSC_YEAR_2000_US) / s->step_us,
                                   at_us, at_us, no_boot);
    if (rc == PSC_OK) {
        chunk_writer_keyframe(&s->writer);
    }
    for (uint32_t i = 0; rc == PSC_OK && i < s->ids.count; i++) {
        const struct summary_stat *stats = stats_at(s, i);
        if (stats[step].n > 0 && s->columns == 1) {
            rc = put_counter(s, id_at(s, i), &stats[step]);
        } else if (stats[step].n > 0) {
            rc = put_tag(s, id_at(s, i), &stats[step],
                         knows_outstanding(s, stats));
        }
    }
    return rc;
}

int summary_finish(struct summary *s, struct chunk_sections *out,
                   struct psc_error *err)
{
    int rc = PSC_OK;
    bool any = false;
    for (uint32_t step = 0; rc == PSC_OK && step < s->steps; step++) {
        if (s->snapshots[step] > 0) {
            any = true;
            rc = put_step(s, step);
        }
    }
    if (rc == PSC_OK && !any) {
        return psc_error_set(err, PSC_MISSING, "there is nothing to sum up");
    }
    rc = rc == PSC_OK ? chunk_writer_finish(&s->writer, out) : rc;
    if (rc != PSC_OK) {
        chunk_writer_reset(&s->writer);
        return psc_error_set(err, rc, "a summary: %s", psc_strerror(rc));
    }
    return PSC_OK;
}
