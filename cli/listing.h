/* A table for people: columns that line up, cut to the width of the terminal.
 * Texts may come from anywhere: control characters are shown as '?'. */
#ifndef PSC_CLI_LISTING_H
#define PSC_CLI_LISTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "common/error.h"

#define LISTING_COLUMNS_MAX 24

enum listing_style {
    LISTING_PLAIN,
    LISTING_RED,
    LISTING_YELLOW,
    LISTING_GREEN,
    LISTING_DIM,
};

/* What becomes of a column when room is short. */
enum listing_room {
    LISTING_WHOLE, /* shown in full, or left out */
    LISTING_CUT,   /* cut at its end: "kmalloc-rnd-0~" */
    LISTING_TAIL,  /* cut at its beginning: "~nginx.service" */
    LISTING_BELOW, /* the last column: wrapped below its row */
};

struct listing_cell {
    char *text; /* owned; UTF-8; never NULL */
    enum listing_style style;
};

struct listing {
    const char *titles[LISTING_COLUMNS_MAX]; /* borrowed */
    bool right[LISTING_COLUMNS_MAX];         /* numbers stand on the right */
    enum listing_room room[LISTING_COLUMNS_MAX]; /* what gives way */
    size_t n_columns;
    struct listing_cell *cells; /* row by row; owned */
    size_t n_cells;
    size_t cap_cells;
    int error; /* sticky: 0 or PSC_NOMEM */
};

void listing_init(struct listing *g);
void listing_fini(struct listing *g);

/* Forget all rows, keep the columns. */
void listing_clear(struct listing *g);

/* Add a column, before any row. */
void listing_column(struct listing *g, const char *title, bool right,
                    enum listing_room room);

/* Add the next cell, row by row, left to right; @text is copied. */
void listing_add(struct listing *g, const char *text, enum listing_style style);

size_t listing_rows(const struct listing *g);

/* Print header and rows in @width columns (0: any): columns are cut that may
 * be, then the last ones left out. No line ends in blanks. Rows beyond
 * @max_rows are left out (0: none is). Returns 0 or PSC_NOMEM. */
PSC_MUST_CHECK int listing_print(const struct listing *g, FILE *out, int width,
                                 size_t max_rows, bool color);

/* Columns of a terminal that @text takes. */
int listing_text_width(const char *text);

/* The escape sequence that switches @style on, or "" for plain. */
const char *listing_style_on(enum listing_style style);

#endif
