/* Hours of rows of the fresh tier. A value holds from the row that brings it
 * until the next one that changes it: only these touch an entry, and the end
 * of an hour touches all. */
#include "sql/extension/hours.h"
#include "sql/extension/stored_rows.h"

#include <catalog/pg_type.h>
#include <miscadmin.h>
#include <utils/array.h>

PG_FUNCTION_INFO_V1(poolscope_stored_tag_hours);
PG_FUNCTION_INFO_V1(poolscope_stored_counter_hours);

/* What is known of an id. */
struct tally {
    uint32_t id;
    bool live;
    uint32_t since; /* the snapshot of the run from which on … */
    TimestampTz since_at;
    struct sample sample; /* … it has this */
    struct hour hour;     /* what held before, in this run */
};

struct hours {
    struct rows rows;
    struct stored_rows r;
    struct stored_ids ids;
    struct tally *tallies; /* by slot */
    uint32_t n, cap;
    Datum *ats; /* by row */
    bool *no_at;
    uint32_t k;     /* the present snapshot of the run, from 0 */
    TimestampTz at; /* of the row before, then of the present one */
};

/* What @t had until the present snapshot. */
static void count(const struct hours *h, struct tally *t)
{
    const struct span span = {t->since, h->k, t->since_at, h->at};

    if (t->live && span.end > span.from) {
        hour_add(&t->hour, &t->sample, &span);
    }
}

static void end_run(struct hours *h)
{
    for (uint32_t i = 0; i < h->n; i++) {
        struct tally *t = &h->tallies[i];
        count(h, t);
        hour_put(&h->rows, &t->hour, t->id, h->r.grid.columns);
        t->hour.n = 0;
    }
}

/* Everything that is there is there from snapshot 0 of a new run on. */
static void begin_run(struct hours *h, TimestampTz at)
{
    h->k = 0;
    for (uint32_t i = 0; i < h->n; i++) {
        h->tallies[i].since = 0;
        h->tallies[i].since_at = at;
    }
}

/* A keyframe: what was there may not be there any more. */
static void drop_all(struct hours *h)
{
    for (uint32_t i = 0; i < h->n; i++) {
        count(h, &h->tallies[i]);
        h->tallies[i].live = false;
    }
}

static void make_room(struct hours *h)
{
    if (h->ids.n > h->cap) {
        h->cap = h->ids.n + h->ids.n / 2;
        size_t bytes = h->cap * sizeof(*h->tallies);
        h->tallies = h->tallies == NULL
                         ? MemoryContextAllocHuge(CurrentMemoryContext, bytes)
                         : repalloc_huge(h->tallies, bytes);
    }
    while (h->n < h->ids.n) {
        h->tallies[h->n++] = (struct tally){.live = false};
    }
}

static void take_changes(struct hours *h, TimestampTz at)
{
    const struct grid *g = &h->r.grid;
    const struct grid_changes *c = &h->r.changes;

    for (uint32_t i = 0; i < c->n_gone; i++) {
        uint32_t slot = h->ids.of[c->gone[i]];
        if (slot != NO_SLOT) {
            count(h, &h->tallies[slot]);
            h->tallies[slot].live = false;
        }
    }
    for (uint32_t i = 0; i < c->n_changed; i++) {
        uint32_t entry = c->changed[i], slot = h->ids.of[entry];
        if (slot == NO_SLOT) {
            continue;
        }
        struct tally *t = &h->tallies[slot];
        count(h, t);
        t->id = g->entries[entry].ref;
        t->since = h->k;
        t->since_at = at;
        t->live = sample_make(&t->sample, g->columns, g->entries[entry].flags,
                              grid_values(g, entry));
    }
}

static void take_row(struct hours *h, bool first)
{
    const int row = h->r.i - 1;
    TimestampTz at = DatumGetTimestampTz(h->ats[row]);

    if (h->no_at[row]) {
        stored_damaged("row %d has no time", row + 1);
    }
    if (first || hour_of(at) != hour_of(h->at)) {
        end_run(h);
        begin_run(h, at);
    }
    if (h->r.keyframe) {
        drop_all(h);
    }
    stored_ids_update(&h->ids, &h->r);
    make_room(h);
    take_changes(h, at);
    h->at = at;
    h->k++;
}

static void put_hours(FunctionCallInfo fcinfo, uint32_t columns)
{
    struct hours h = {.rows =
                          rows_begin(fcinfo, columns == 1 ? HOUR_COUNTER_COLUMNS
                                                          : HOUR_TAG_COLUMNS)};
    int n_ats = 0;

    stored_rows_open(&h.r, fcinfo, columns);
    stored_ids_open(&h.ids);
    deconstruct_array(PG_GETARG_ARRAYTYPE_P(2), TIMESTAMPTZOID,
                      sizeof(TimestampTz), true, TYPALIGN_DOUBLE, &h.ats,
                      &h.no_at, &n_ats);
    if (n_ats != h.r.n) {
        stored_damaged("not a time for each row");
    }
    for (bool first = true; stored_rows_next(&h.r); first = false) {
        take_row(&h, first);
    }
    end_run(&h);
}

/* stored_tag_hours(rows, kinds, ats): hour, id, n, first_at, last_at,
 * first_bytes, last_bytes, min_bytes, max_bytes, sum_bytes,
 * last_outstanding. */
Datum poolscope_stored_tag_hours(PG_FUNCTION_ARGS)
{
    put_hours(fcinfo, TABLE_COLUMNS_MAX);
    return (Datum)0;
}

/* stored_counter_hours(rows, kinds, ats): hour, id, n, first_at, last_at,
 * first_value, last_value, min_value, max_value, sum_value. */
Datum poolscope_stored_counter_hours(PG_FUNCTION_ARGS)
{
    put_hours(fcinfo, 1);
    return (Datum)0;
}
