/* Summaries: chunks whose snapshots are hours or days, with two entries a tag
 * (collector/summary.h). */
#include "sql/extension/module.h"

#include <miscadmin.h>

PG_FUNCTION_INFO_V1(poolscope_summary_tag_rows);

enum { COLUMNS = 8 };

/* One tag at one snapshot, from two entries. */
struct step {
    bool low, high, has_outstanding; /* the first entry, the second one */
    int64_t first, last, min, max, mean, outstanding;
};

struct summary {
    struct rows rows;
    struct chunk c;
    struct chunk_block b;
    struct chunk_clock clock;
    Datum *ats;         /* by snapshot */
    struct step *steps; /* of one tag, by snapshot */
};

static void take_times(struct summary *s)
{
    module_clock(&s->clock, &s->c);
    s->ats = palloc(s->c.snapshots * sizeof(*s->ats));
    s->steps = palloc0(s->c.snapshots * sizeof(*s->steps));
    for (uint32_t i = 0; i < s->c.snapshots; i++) {
        s->ats[i] = module_time(s->clock.at_us[i]);
    }
}

static void take_low(struct step *step, uint8_t flags, const int64_t *values)
{
    step->low = true;
    step->min = values[COL_ALLOCS];
    step->has_outstanding = (flags & TAG_OUTSTANDING) != 0;
    step->outstanding = values[COL_OUTSTANDING];
    step->last = values[COL_BYTES];
}

static void take_high(struct step *step, const int64_t *values)
{
    step->high = true;
    step->first = values[COL_ALLOCS];
    step->mean = values[COL_OUTSTANDING];
    step->max = values[COL_BYTES];
}

/* What an entry says of its tag, at each snapshot that has it. */
static void take_entry(struct summary *s, uint32_t i)
{
    struct chunk_runs r;

    chunk_runs_open(&r, &s->clock, &s->b, i);
    while (chunk_runs_next(&r)) {
        for (uint32_t at = r.from; at < r.from + r.count; at++) {
            if (s->b.ids[i] % 2 == 0) {
                take_low(&s->steps[at], r.flags, r.values);
            } else {
                take_high(&s->steps[at], r.values);
            }
        }
    }
    if (r.failed) {
        module_damaged("bad data of id %u", (unsigned)s->b.ids[i]);
    }
}

static void put_tag(struct summary *s, uint32_t tag)
{
    for (uint32_t i = 0; i < s->c.snapshots; i++) {
        const struct step *x = &s->steps[i];
        Datum values[COLUMNS] = {
            s->ats[i],
            Int32GetDatum((int32)tag),
            Int64GetDatum(x->first),
            Int64GetDatum(x->last),
            Int64GetDatum(x->min),
            Int64GetDatum(x->max),
            Int64GetDatum(x->mean),
            Int64GetDatum(x->outstanding),
        };
        bool nulls[COLUMNS] = {
            false,   false,    !x->high, !x->low,
            !x->low, !x->high, !x->high, !x->low || !x->has_outstanding,
        };
        if (x->low || x->high) {
            rows_put(&s->rows, values, nulls);
        }
    }
    memset(s->steps, 0, s->c.snapshots * sizeof(*s->steps));
}

/* summary_tag_rows(head, levels, data, block), the slices that chunk_blocks()
 * names: at, id, first_bytes, last_bytes, min_bytes, max_bytes, mean_bytes,
 * last_outstanding. */
Datum poolscope_summary_tag_rows(PG_FUNCTION_ARGS)
{
    struct summary s;

    s.rows = rows_begin(fcinfo, COLUMNS);
    module_open(&s.c, module_bytes(fcinfo, 0), TABLE_COLUMNS_MAX);
    module_block_of(&s.b, &s.c, fcinfo);
    take_times(&s);
    for (uint32_t i = 0; i < s.b.n; i++) {
        CHECK_FOR_INTERRUPTS();
        take_entry(&s, i);
        if (i + 1 == s.b.n || s.b.ids[i + 1] / 2 != s.b.ids[i] / 2) {
            put_tag(&s, s.b.ids[i] / 2);
        }
    }
    return (Datum)0;
}
