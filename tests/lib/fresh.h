/* Hosts whose samples go straight into the fresh tier, as sessions would store
 * them: for tests of what becomes of them there. What was stored is kept, to
 * compare. Every function fails the running test on an error. */
#ifndef PSC_TESTS_FRESH_H
#define PSC_TESTS_FRESH_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "proto/table.h"

struct fresh_cell {
    bool present;
    uint8_t flags;
    int64_t values[TABLE_COLUMNS_MAX]; /* a counter has the first */
};

/* What a row held of a table. */
struct fresh_row {
    int64_t n, at_us;
    struct fresh_cell *cells; /* by id - 1; owned */
};

struct fresh_table {
    uint32_t columns;
    uint32_t n_ids;          /* ids are 1 … */
    struct fresh_cell *now;  /* what the next row has; yours to change,
                                but flags only before a keyframe */
    struct fresh_cell *then; /* what the last row had */
    uint32_t *dictionary;    /* ids by position; 0: nobody's */
    int64_t *position;       /* by id - 1; -1: not in the dictionary */
    uint32_t n_dictionary;
    int64_t keyframe_us;    /* at of the last keyframe; 0: none */
    int64_t last_us;        /* of the last row */
    uint32_t deltas;        /* since then */
    bool keeps;             /* rows are kept */
    struct fresh_row *rows; /* those so far; owned */
    uint32_t n_rows, cap_rows;
    struct psc_buf gone, gaps, values, data;
};

struct fresh_host {
    int64_t host_id;
    int64_t n;     /* of the last row */
    int64_t at_us; /* of the last row */
    struct fresh_table tags, counters;
};

/* A host of @n_tags and @n_counters ids, all absent. It has neither name nor
 * state, only a cursor from its first row on. @keeps: its rows, to compare. */
void fresh_host_init(struct fresh_host *h, int64_t host_id, uint32_t n_tags,
                     uint32_t n_counters, bool keeps);
void fresh_host_fini(struct fresh_host *h);

/* Store the next row, by a connection of the owner: with tags, with counters,
 * or both. Tables are keyframes where a session would send one (another hour,
 * 64 rows), or @keyframe. Boots are numbered. */
void fresh_store(PGconn *owner, struct fresh_host *h, int64_t at_us,
                 unsigned boot, bool tags, bool counters, bool keyframe);

/* Pack the table's next row alone, into t->data; returns whether it is a
 * keyframe. */
bool fresh_pack(struct fresh_table *t, int64_t at_us, bool keyframe);

#endif
