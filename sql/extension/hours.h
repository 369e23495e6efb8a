/* Statistics of an entry over the snapshots of an hour, each counted once.
 *
 * Where time goes back from one snapshot to the next, an hour may come again:
 * that is another run, with rows of its own. */
#ifndef PSC_SQL_EXTENSION_HOURS_H
#define PSC_SQL_EXTENSION_HOURS_H

#include "sql/extension/module.h"

/* What is counted of an entry at one snapshot. */
struct sample {
    bool has_bytes, has_outstanding;
    int64_t bytes, outstanding;
    double value; /* a counter's */
};

/* From an entry's values. False for a counter that is as good as absent. */
bool sample_make(struct sample *s, uint32_t columns, uint8_t flags,
                 const int64_t *values);

/* Part of a run that has the same sample throughout: snapshots from to end - 1
 * by any count that grows. */
struct span {
    uint32_t from, end;
    TimestampTz first_at, last_at;
};

struct hour {
    int64 n; /* snapshots; 0: nothing else is set */
    uint32_t from, end;
    TimestampTz first_at, last_at;
    struct sample first, last;
    bool has_bytes; /* at any snapshot */
    int64_t least, greatest;
    int128 sum;
    double least_value, greatest_value, sum_value;
};

/* Count @s at the snapshots of @span. Spans of an hour may come in any order,
 * but must not overlap. */
void hour_add(struct hour *h, const struct sample *s, const struct span *span);

enum { HOUR_TAG_COLUMNS = 11, HOUR_COUNTER_COLUMNS = 10 };

/* The row of @h, if it has any snapshot, of entry @id. */
void hour_put(const struct rows *rows, const struct hour *h, uint32_t id,
              uint32_t columns);

/* The hour, of UTC, that @at is in. */
TimestampTz hour_of(TimestampTz at);

#endif
