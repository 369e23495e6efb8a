/* A plot in text: values over time, in braille dots (two by four in a
 * character) or, where UTF-8 is not to be had, in asterisks. Pure. */
#ifndef PSC_CLI_PLOT_H
#define PSC_CLI_PLOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct plot_point {
    int64_t at_us;
    double value;
};

struct plot {
    const struct plot_point *points; /* in order of time; borrowed */
    size_t n;
    int64_t from_us, to_us; /* the time axis; to_us > from_us */
    int width, height;      /* in characters, with labels; height without the
                               line of times */
    bool utf8;
    bool bytes; /* the values are bytes, for the labels */
};

/* Print the plot. The value axis spans the values; it begins at 0 when that
 * costs less than half of the height. Nothing is drawn where no point is. */
void plot_print(const struct plot *p, FILE *out);

#endif
