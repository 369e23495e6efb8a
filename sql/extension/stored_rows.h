/* The rows that a stored_…() function is given: tables of a host in the order
 * of their samples (proto/stored.h), applied to one grid. Errors are the
 * server's, as in module.h. */
#ifndef PSC_SQL_EXTENSION_STORED_ROWS_H
#define PSC_SQL_EXTENSION_STORED_ROWS_H

#include "proto/stored.h"
#include "sql/extension/module.h"

struct stored_rows {
    struct grid grid; /* after the present row; refs are ids, 0 is nobody's */
    struct grid_changes changes; /* what that row brought */
    bool keyframe;               /* it is one */
    uint32_t n_before;           /* names there were before it */
    int i;                       /* its number, from 1 */
    int n;                       /* rows */
    Datum *tables, *kinds;       /* bytea, smallint */
    bool *no_table, *no_kind;    /* NULL */
};

/* Arguments 0 and 1: the tables and their kinds. */
void stored_rows_open(struct stored_rows *r, FunctionCallInfo fcinfo,
                      uint32_t columns);

/* Go to the next row that has the table. False at the end. */
bool stored_rows_next(struct stored_rows *r);

/* ERROR, data_corrupted, "stored table: " and printf-style words. */
void stored_damaged(const char *fmt, ...) PSC_PRINTF(1, 2)
    __attribute__((noreturn));

/* Ids numbered in the order in which they came: slots, from 0. */
struct stored_ids {
    struct ids_hash *hash;
    uint32_t n;          /* slots */
    uint32_t *of;        /* slot by position in the grid; NO_SLOT for id 0 */
    uint32_t cap;        /* of that */
    uint32_t dictionary; /* counts keyframes */
};
enum { NO_SLOT = UINT32_MAX };

void stored_ids_open(struct stored_ids *ids);

/* After each row: give slots to names that are new. An error if an id comes
 * twice in a dictionary. */
void stored_ids_update(struct stored_ids *ids, const struct stored_rows *r);

#endif
