/* A table for people: columns that line up, cut to the width of the terminal.
 * Texts may come from anywhere: control characters are shown as '?'. */
#ifndef PSC_CLI_GRID_H
#define PSC_CLI_GRID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "common/error.h"

#define GRID_COLUMNS_MAX 24

enum grid_style {
    GRID_PLAIN,
    GRID_RED,
    GRID_YELLOW,
    GRID_GREEN,
    GRID_DIM,
};

/* What becomes of a column when room is short. */
enum grid_room {
    GRID_WHOLE, /* shown in full, or left out */
    GRID_CUT,   /* cut at its end: "kmalloc-rnd-0~" */
    GRID_TAIL,  /* cut at its beginning: "~nginx.service" */
    GRID_BELOW, /* the last column: wrapped below its row */
};

struct grid_cell {
    char *text; /* owned; UTF-8; never NULL */
    enum grid_style style;
};

struct grid {
    const char *titles[GRID_COLUMNS_MAX];  /* borrowed */
    bool right[GRID_COLUMNS_MAX];          /* numbers stand on the right */
    enum grid_room room[GRID_COLUMNS_MAX]; /* what gives way */
    size_t n_columns;
    struct grid_cell *cells; /* row by row; owned */
    size_t n_cells;
    size_t cap_cells;
    int error; /* sticky: 0 or PSC_NOMEM */
};

void grid_init(struct grid *g);
void grid_fini(struct grid *g);

/* Forget all rows, keep the columns. */
void grid_clear(struct grid *g);

/* Add a column, before any row. */
void grid_column(struct grid *g, const char *title, bool right,
                 enum grid_room room);

/* Add the next cell, row by row, left to right; @text is copied. */
void grid_add(struct grid *g, const char *text, enum grid_style style);

size_t grid_rows(const struct grid *g);

/* Print header and rows in @width columns (0: any): columns are cut that may
 * be, then the last ones left out. No line ends in blanks. Rows beyond
 * @max_rows are left out (0: none is). Returns 0 or PSC_NOMEM. */
PSC_MUST_CHECK int grid_print(const struct grid *g, FILE *out, int width,
                              size_t max_rows, bool color);

/* Columns of a terminal that @text takes. */
int grid_text_width(const char *text);

/* The escape sequence that switches @style on, or "" for plain. */
const char *grid_style_on(enum grid_style style);

#endif
