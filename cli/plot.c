/* A plot in text. See plot.h. */
#include "cli/plot.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "cli/units.h"
#include "common/clock.h"

#define COLUMNS_MAX 400
#define ROWS_MAX    60
#define LABEL_WIDTH 10 /* "1023 MiB" and a blank */

struct canvas {
    /* Bits as in U+2800: dots by column and row of a character. */
    uint8_t dots[ROWS_MAX][COLUMNS_MAX];
    int columns, rows;  /* characters */
    int x_dots, y_dots; /* dots of a character */
    double low, high;   /* the value axis */
    int flat_row;       /* where the one value is, -1: there are several */
};

static void set_dot(struct canvas *c, int x, int y)
{
    static const uint8_t braille[4][2] = {
        {0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};

    if (x >= 0 && y >= 0 && x < c->columns * c->x_dots &&
        y < c->rows * c->y_dots) {
        c->dots[y / c->y_dots][x / c->x_dots] |=
            braille[y % c->y_dots][x % c->x_dots];
    }
}

static int to_y(const struct canvas *c, double value)
{
    double share = (c->high - value) / (c->high - c->low);

    return (int)lround(share * (c->rows * c->y_dots - 1));
}

static void scale(const struct plot *p, struct canvas *c)
{
    c->low = INFINITY;
    c->high = -INFINITY;
    for (size_t i = 0; i < p->n; i++) {
        c->low = fmin(c->low, p->points[i].value);
        c->high = fmax(c->high, p->points[i].value);
    }
    if (c->low > 0 && c->low < c->high / 2) {
        c->low = 0;
    }
    c->flat_row = -1;
    if (c->high <= c->low) {
        double room = fabs(c->high) / 10;
        c->low -= room > 0 ? room : 1;
        c->high += room > 0 ? room : 1;
        c->flat_row = to_y(c, (c->low + c->high) / 2) / c->y_dots;
    }
}

static int to_x(const struct plot *p, const struct canvas *c, int64_t at_us)
{
    double share =
        (double)(at_us - p->from_us) / (double)(p->to_us - p->from_us);

    return (int)lround(share * (c->columns * c->x_dots - 1));
}

static void draw(const struct plot *p, struct canvas *c)
{
    int last_x = -1;
    int last_y = -1;

    for (size_t i = 0; i < p->n; i++) {
        int x = to_x(p, c, p->points[i].at_us);
        int y = to_y(c, p->points[i].value);
        set_dot(c, x, y);
        /* Neighbours are joined upright, so that a step is seen. */
        if (last_x >= 0 && x - last_x <= 1) {
            for (int between = last_y; between != y;
                 between += y > last_y ? 1 : -1) {
                set_dot(c, x, between);
            }
        }
        last_x = x;
        last_y = y;
    }
}

static void print_cell(const struct canvas *c, bool utf8, int row, int column,
                       FILE *out)
{
    uint8_t dots = c->dots[row][column];

    if (!utf8) {
        fputc(dots ? '*' : ' ', out);
    } else if (dots == 0) {
        fputc(' ', out);
    } else { /* U+2800 + dots */
        fprintf(out, "\xe2%c%c", 0xa0 + (dots >> 6), 0x80 + (dots & 0x3f));
    }
}

static void print_label(const struct plot *p, const struct canvas *c, int row,
                        FILE *out)
{
    struct unit_text label = {""};
    double value =
        c->high - (c->high - c->low) * row / (c->rows > 1 ? c->rows - 1 : 1);

    bool labelled = row == 0 || row == c->rows - 1 || row == c->rows / 2;
    if (c->flat_row >= 0) {
        labelled = row == c->flat_row;
        value = p->points[0].value;
    }
    if (labelled) {
        if (p->bytes) {
            label = unit_bytes(value);
        } else {
            snprintf(label.text, sizeof label.text, "%.4g", value);
        }
    }
    fprintf(out, "%*s %s", LABEL_WIDTH - 1, label.text, p->utf8 ? "│" : "|");
}

static void format_time(char *out, size_t cap, int64_t at_us, int64_t span_us)
{
    time_t s = (time_t)(at_us / PSC_US_PER_S);
    struct tm tm;

    gmtime_r(&s, &tm);
    strftime(out, cap,
             span_us > 86400 * PSC_US_PER_S ? "%Y-%m-%d %H:%M UTC"
             : span_us > 600 * PSC_US_PER_S ? "%H:%M UTC"
                                            : "%H:%M:%S UTC",
             &tm);
}

static void print_times(const struct plot *p, const struct canvas *c, FILE *out)
{
    int64_t span_us = p->to_us - p->from_us;
    char from[32];
    char to[32];

    format_time(from, sizeof from, p->from_us, span_us);
    format_time(to, sizeof to, p->to_us, span_us);
    int gap = c->columns - (int)strlen(from) - (int)strlen(to);
    fprintf(out, "%*s%s%*s%s\n", LABEL_WIDTH + 1, "", from, gap > 1 ? gap : 1,
            "", to);
}

void plot_print(const struct plot *p, FILE *out)
{
    struct canvas c = {.x_dots = p->utf8 ? 2 : 1, .y_dots = p->utf8 ? 4 : 1};

    c.columns = p->width - LABEL_WIDTH - 1;
    c.columns = c.columns < 10 ? 10 : c.columns;
    c.columns = c.columns > COLUMNS_MAX ? COLUMNS_MAX : c.columns;
    c.rows = p->height < 3 ? 3 : p->height > ROWS_MAX ? ROWS_MAX : p->height;
    if (p->n == 0) {
        return;
    }
    scale(p, &c);
    draw(p, &c);
    for (int row = 0; row < c.rows; row++) {
        print_label(p, &c, row, out);
        int end = c.columns;
        while (end > 0 && c.dots[row][end - 1] == 0) {
            end--;
        }
        for (int column = 0; column < end; column++) {
            print_cell(&c, p->utf8, row, column, out);
        }
        fputc('\n', out);
    }
    print_times(p, &c, out);
}
