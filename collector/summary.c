/* Statistics of hours and days, gathered run by run. */
#include "collector/summary.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"

enum { FIRST_IDS = 256, IDS_MAX = 1 << 16 };

#define HOUR_US      CHUNK_HOUR_US
#define DAY_US       (24 * CHUNK_HOUR_US)
#define YEAR_2000_US (INT64_C(946684800) * PSC_US_PER_S)

/* One id within one step. Bytes are whole numbers far below 2^53. */
struct summary_stat {
    uint32_t n; /* samples that have it; 0: nothing else counts */
    bool has_outstanding;
    int64_t first_at_us, last_at_us;
    double first, last, min, max, sum;
    int64_t last_outstanding;
};

/* What is added to a stat: @n samples that show the same, or a whole hour. */
struct piece {
    uint32_t n;
    int64_t first_at_us, last_at_us;
    double first, last, min, max, sum;
    bool has_outstanding;
    int64_t outstanding;
};

void summary_init(struct summary *s, const struct chunk_digest *digest)
{
    *s = (struct summary){.columns = 0};
    psc_map_init(&s->ids, IDS_MAX, IDS_MAX * sizeof(uint32_t));
    chunk_writer_init(&s->writer, TABLE_COLUMNS_MAX, digest);
}

void summary_fini(struct summary *s)
{
    psc_map_fini(&s->ids);
    chunk_writer_fini(&s->writer);
    free(s->stats);
    s->stats = NULL;
    s->cap = 0;
}

static void begin(struct summary *s, uint32_t columns, int64_t from_us,
                  int64_t step_us, uint32_t steps)
{
    s->columns = columns;
    s->from_us = from_us;
    s->step_us = step_us;
    s->steps = steps;
    memset(s->snapshots, 0, sizeof(s->snapshots));
    psc_map_clear(&s->ids);
    chunk_writer_reset(&s->writer);
}

void summary_begin_day(struct summary *s, uint32_t columns, int64_t day_us)
{
    begin(s, columns, day_us, HOUR_US, SUMMARY_HOURS);
}

void summary_begin_month(struct summary *s, uint32_t columns, int64_t month_us,
                         uint32_t days)
{
    begin(s, columns, month_us, DAY_US,
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
    if (index == count) {
        memset(stats, 0, SUMMARY_STEPS_MAX * sizeof(*stats));
    }
    return stats;
}

static void add_piece(struct summary_stat *stat, const struct piece *p)
{
    bool none = stat->n == 0;
    if (none || p->first_at_us < stat->first_at_us) {
        stat->first_at_us = p->first_at_us;
        stat->first = p->first;
    }
    if (none || p->last_at_us >= stat->last_at_us) {
        stat->last_at_us = p->last_at_us;
        stat->last = p->last;
        stat->has_outstanding = p->has_outstanding;
        stat->last_outstanding = p->outstanding;
    }
    stat->min = none || p->min < stat->min ? p->min : stat->min;
    stat->max = none || p->max > stat->max ? p->max : stat->max;
    stat->sum += p->sum;
    stat->n += p->n;
}

/* ---- from samples ---- */

static double real_of(int64_t bits)
{
    double v;
    memcpy(&v, &bits, sizeof(v));
    return v;
}

/* What a run shows: false if it is nothing to sum up. */
static bool value_of(const struct summary *s, const struct chunk_runs *r,
                     double *value)
{
    bool real = (r->flags & ENTRY_REAL) != 0;
    int64_t v = s->columns == 1 ? r->values[0] : r->values[COL_BYTES];
    *value = real ? real_of(v) : (double)v;
    return isfinite(*value) && (s->columns == 1 || (r->flags & TAG_BYTES) != 0);
}

static void add_run(struct summary *s, struct summary_stat *stats,
                    const struct chunk_runs *r)
{
    int64_t first_at_us = s->clock.at_us[r->from];
    uint32_t step = step_of(s, first_at_us);
    double v;
    if (step == s->steps || !value_of(s, r, &v)) {
        return;
    }
    add_piece(
        &stats[step],
        &(struct piece){
            .n = r->count,
            .first_at_us = first_at_us,
            .last_at_us = s->clock.at_us[r->from + r->count - 1],
            .first = v,
            .last = v,
            .min = v,
            .max = v,
            .sum = v * r->count,
            .has_outstanding =
                s->columns != 1 && (r->flags & TAG_OUTSTANDING) != 0,
            .outstanding = s->columns != 1 ? r->values[COL_OUTSTANDING] : 0,
        });
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

static bool within(size_t at, size_t len, size_t all)
{
    return at <= all && len <= all - at;
}

static int open_block(struct chunk_block *b, const struct chunk *c,
                      uint32_t block, struct psc_bytes levels,
                      struct psc_bytes data, struct psc_error *err)
{
    struct chunk_slice s;
    int rc = chunk_slice(c, block, &s);
    if (rc != PSC_OK || !within(s.levels_at, s.levels_len, levels.len) ||
        !within(s.data_at, s.data_len, data.len)) {
        return psc_error_set(err, PSC_FORMAT,
                             "block %u is not where the index says",
                             (unsigned)block);
    }
    return chunk_block_open(
        b, c, &s, (struct psc_bytes){data.data + s.data_at, s.data_len},
        (struct psc_bytes){levels.data + s.levels_at, s.levels_len}, err);
}

/* Open a chunk of @columns and read its times. */
static int open_chunk(struct summary *s, struct chunk *c, uint32_t columns,
                      struct psc_bytes head, struct psc_error *err)
{
    int rc = chunk_open(c, head, s->writer.digest, err);
    if (rc == PSC_OK && c->columns != columns) {
        rc = psc_error_set(err, PSC_FORMAT, "a chunk of another table");
    }
    return rc == PSC_OK ? chunk_clock_read(&s->clock, c, err) : rc;
}

int summary_add(struct summary *s, struct psc_bytes head,
                struct psc_bytes levels, struct psc_bytes data,
                struct psc_error *err)
{
    struct chunk c;
    int rc = open_chunk(s, &c, s->columns, head, err);
    for (uint32_t i = 0; rc == PSC_OK && i < s->clock.n; i++) {
        uint32_t step = step_of(s, s->clock.at_us[i]);
        if (step < s->steps) {
            s->snapshots[step]++;
        }
    }
    for (uint32_t block = 0; rc == PSC_OK && block < c.n_blocks; block++) {
        struct chunk_block b;
        rc = open_block(&b, &c, block, levels, data, err);
        rc = rc == PSC_OK ? add_block(s, &b, err) : rc;
    }
    return rc;
}

/* ---- from days ---- */

/* A value of a summary's entry. */
static double number_of(const struct chunk_runs *r, unsigned column)
{
    int64_t v = r->values[column];
    return (r->flags & ENTRY_REAL) != 0 ? real_of(v) : (double)v;
}

/* The two entries of one id, hour by hour: they come and go together. */
static int add_pair(struct summary *s, struct summary_stat *stat,
                    const struct chunk_block *b, uint32_t even,
                    const uint32_t snapshots[SUMMARY_HOURS])
{
    struct piece hours[SUMMARY_HOURS] = {{0}};
    struct chunk_runs r;
    chunk_runs_open(&r, &s->clock, b, even);
    while (chunk_runs_next(&r)) {
        struct piece *p = &hours[r.from % SUMMARY_HOURS];
        p->first_at_us = s->clock.at_us[r.from];
        p->last_at_us = p->first_at_us;
        p->min = number_of(&r, COL_ALLOCS);
        p->last = number_of(&r, COL_BYTES);
        p->has_outstanding = (r.flags & TAG_OUTSTANDING) != 0;
        p->outstanding = r.values[COL_OUTSTANDING];
    }
    if (r.failed) {
        return PSC_FORMAT;
    }
    chunk_runs_open(&r, &s->clock, b, even + 1);
    while (chunk_runs_next(&r)) {
        struct piece *p = &hours[r.from % SUMMARY_HOURS];
        int64_t hour = (s->clock.at_us[r.from] - s->from_us) / HOUR_US;
        p->n = snapshots[(uint32_t)hour % SUMMARY_HOURS];
        p->first = number_of(&r, COL_ALLOCS);
        p->sum = number_of(&r, COL_OUTSTANDING) * p->n;
        p->max = number_of(&r, COL_BYTES);
        if (p->n > 0) {
            add_piece(stat, p);
        }
    }
    return r.failed ? PSC_FORMAT : PSC_OK;
}

static int add_day_block(struct summary *s, const struct chunk_block *b,
                         uint32_t step, const uint32_t snapshots[SUMMARY_HOURS],
                         struct psc_error *err)
{
    for (uint32_t i = 0; i + 1 < b->n; i++) {
        uint32_t id = b->ids[i] / 2;
        if (b->ids[i] % 2 != 0 || b->ids[i + 1] != b->ids[i] + 1) {
            continue; /* a variant of the entry before it */
        }
        int rc;
        struct summary_stat *stats = stats_of(s, id, &rc);
        if (stats == NULL) {
            return psc_error_set(err, rc, "no room for statistics");
        }
        if (add_pair(s, &stats[step], b, i, snapshots) != PSC_OK) {
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
    int rc = open_chunk(s, &c, TABLE_COLUMNS_MAX, head, err);
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
        rc = open_block(&b, &c, block, levels, data, err);
        rc = rc == PSC_OK ? add_day_block(s, &b, step, snapshots, err) : rc;
    }
    return rc;
}

/* ---- packing ---- */

/* As an entry of the table of samples would have it: doubles for counters,
 * whole numbers for tags. */
static int64_t packed(const struct summary *s, double v)
{
    int64_t bits = llrint(v);
    if (s->columns == 1) {
        memcpy(&bits, &v, sizeof(bits));
    }
    return bits;
}

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

static int put_stat(struct summary *s, uint32_t id,
                    const struct summary_stat *stat, bool knows)
{
    uint8_t real = s->columns == 1 ? ENTRY_REAL : 0;
    uint8_t all = TAG_ALLOCS | TAG_OUTSTANDING | TAG_BYTES;
    uint8_t even = knows ? all : TAG_ALLOCS | TAG_BYTES;
    const int64_t low[] = {packed(s, stat->min), 0, stat->last_outstanding,
                           packed(s, stat->last)};
    const int64_t high[] = {packed(s, stat->first), 0,
                            packed(s, stat->sum / stat->n),
                            packed(s, stat->max)};
    int rc = chunk_writer_put(&s->writer, 2 * id, even | real, low);
    if (rc == PSC_OK) {
        rc = chunk_writer_put(&s->writer, 2 * id + 1, all | real, high);
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
    int rc = chunk_writer_snapshot(
        &s->writer, (at_us - YEAR_2000_US) / s->step_us, at_us, at_us, no_boot);
    if (rc == PSC_OK) {
        chunk_writer_keyframe(&s->writer);
    }
    for (uint32_t i = 0; rc == PSC_OK && i < s->ids.count; i++) {
        const struct summary_stat *stats = stats_at(s, i);
        if (stats[step].n > 0) {
            rc = put_stat(s, id_at(s, i), &stats[step],
                          s->columns != 1 && knows_outstanding(s, stats));
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
