/* A table for people. See listing.h. */
#include "cli/listing.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "cli/cli.h"

#define GAP          2 /* blanks between columns */
#define FLEX_MIN     8 /* a flexible column is not cut below this */
#define STYLE_OFF    "\033[0m"
#define STYLE_HEADER "\033[1m"

void listing_init(struct listing *g)
{
    memset(g, 0, sizeof *g);
}

void listing_clear(struct listing *g)
{
    for (size_t i = 0; i < g->n_cells; i++) {
        free(g->cells[i].text);
    }
    g->n_cells = 0;
    g->error = 0;
}

void listing_fini(struct listing *g)
{
    listing_clear(g);
    free(g->cells);
    memset(g, 0, sizeof *g);
}

void listing_column(struct listing *g, const char *title, bool right,
                    enum listing_room room)
{
    if (g->n_columns < LISTING_COLUMNS_MAX) {
        g->titles[g->n_columns] = title;
        g->right[g->n_columns] = right;
        g->room[g->n_columns] = room;
        g->n_columns++;
    }
}

/* Show control characters, which could move the cursor, as '?': C0, DEL, and
 * C1 in UTF-8 (0xC2 0x80 to 0xC2 0x9F). */
static void tame(char *text)
{
    for (unsigned char *p = (unsigned char *)text; *p; p++) {
        if (*p < 0x20 || *p == 0x7f) {
            *p = '?';
        } else if (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0) {
            p[0] = '?';
            p[1] = '?';
        }
    }
}

void listing_add(struct listing *g, const char *text, enum listing_style style)
{
    if (g->error != 0) {
        return;
    }
    if (g->n_cells == g->cap_cells) {
        size_t cap = g->cap_cells == 0 ? 64 : g->cap_cells * 2;
        void *grown = realloc(g->cells, cap * sizeof *g->cells);
        if (!grown) {
            g->error = PSC_NOMEM;
            return;
        }
        g->cells = grown;
        g->cap_cells = cap;
    }
    char *copy = strdup(text);
    if (!copy) {
        g->error = PSC_NOMEM;
        return;
    }
    tame(copy);
    g->cells[g->n_cells].text = copy;
    g->cells[g->n_cells].style = style;
    g->n_cells++;
}

size_t listing_rows(const struct listing *g)
{
    return g->n_columns == 0 ? 0 : g->n_cells / g->n_columns;
}

/* Bytes and columns of the character at @p (not the end of a text). */
static size_t next_char(const char *p, mbstate_t *state, int *columns)
{
    wchar_t wide;
    size_t len = mbrtowc(&wide, p, strlen(p), state);

    if (len == 0 || len > MB_LEN_MAX) {
        memset(state, 0, sizeof *state);
        *columns = 1;
        return 1;
    }
    int width = wcwidth(wide);
    *columns = width < 0 ? 1 : width;
    return len;
}

/* Bytes of @text that fit into @columns; *@used are the columns they take. */
static size_t fit(const char *text, int columns, int *used)
{
    mbstate_t state = {0};
    const char *p = text;
    int width;

    *used = 0;
    while (*p) {
        size_t len = next_char(p, &state, &width);
        if (*used + width > columns) {
            break;
        }
        *used += width;
        p += len;
    }
    return (size_t)(p - text);
}

int listing_text_width(const char *text)
{
    int used;

    (void)fit(text, 1 << 24, &used);
    return used;
}

const char *listing_style_on(enum listing_style style)
{
    switch (style) {
    case LISTING_RED: return "\033[31m";
    case LISTING_YELLOW: return "\033[33m";
    case LISTING_GREEN: return "\033[32m";
    case LISTING_DIM: return "\033[2m";
    case LISTING_PLAIN: break;
    }
    return "";
}

static bool may_cut(const struct listing *g, size_t c)
{
    return g->room[c] == LISTING_CUT || g->room[c] == LISTING_TAIL;
}

static void measure(const struct listing *g, size_t rows, int *widths)
{
    for (size_t c = 0; c < g->n_columns; c++) {
        widths[c] = listing_text_width(g->titles[c]);
        for (size_t r = 0; r < rows; r++) {
            int width = listing_text_width(g->cells[r * g->n_columns + c].text);
            widths[c] = width > widths[c] ? width : widths[c];
        }
    }
}

/* Whether @n columns fit as they are. */
static bool fits(size_t n, int total, const int *widths)
{
    int taken = -GAP;

    for (size_t c = 0; c < n; c++) {
        taken += widths[c] + GAP;
    }
    return taken <= total;
}

/* How many of @n columns fit into @total if some are cut: the last ones are
 * left out whole. One at least. */
static size_t count_fitting(const struct listing *g, size_t n, int total,
                            const int *widths)
{
    int taken = 0;
    size_t c = 0;

    for (; c < n; c++) {
        bool cut = may_cut(g, c) && widths[c] > FLEX_MIN;
        taken += (c > 0 ? GAP : 0) + (cut ? FLEX_MIN : widths[c]);
        if (taken > total && c > 0) {
            break;
        }
    }
    return c;
}

/* Cut the widest of @n columns that may be until all fit into @total. */
static void squeeze(const struct listing *g, size_t n, int total, int *widths)
{
    int over = -total - GAP;

    for (size_t c = 0; c < n; c++) {
        over += widths[c] + GAP;
    }
    for (; over > 0; over--) {
        size_t widest = n;
        for (size_t c = 0; c < n; c++) {
            if (may_cut(g, c) && widths[c] > FLEX_MIN &&
                (widest == n || widths[c] > widths[widest])) {
                widest = c;
            }
        }
        if (widest == n) {
            break;
        }
        widths[widest]--;
    }
    widths[0] = widths[0] < total ? widths[0] : total; /* the only one then */
}

/* A line that ends without blanks: they wait for what follows. */
struct line {
    FILE *out;
    int blanks;
};

static void put_text(struct line *line, const char *text, size_t len,
                     const char *end, const char *style)
{
    if (len > 0 || *end) {
        fprintf(line->out, "%*s%s%.*s%s%s", line->blanks, "", style, (int)len,
                text, end, *style ? STYLE_OFF : "");
        line->blanks = 0;
    }
}

/* The end of @text that takes at most @columns. */
static const char *tail(const char *text, int columns)
{
    mbstate_t state = {0};
    int over = listing_text_width(text) - columns;
    int width;

    while (over > 0 && *text) {
        text += next_char(text, &state, &width);
        over -= width;
    }
    return text;
}

static void print_cell(struct line *line, const char *text, int width,
                       bool right, enum listing_room room, const char *style)
{
    int used;
    size_t len = fit(text, width, &used);
    bool cut = text[len] != '\0' && width > 1;
    bool from_left = cut && room == LISTING_TAIL;

    if (from_left) {
        text = tail(text, width - 1);
        len = strlen(text);
        used = listing_text_width(text) + 1;
    } else if (cut) {
        len = fit(text, width - 1, &used);
        used++;
    }
    line->blanks += right ? width - used : 0;
    put_text(line, from_left ? "~" : "", from_left, "", style);
    put_text(line, text, len, cut && !from_left ? "~" : "", style);
    line->blanks += right ? 0 : width - used;
}

static void print_row(const struct listing *g, FILE *out, size_t n,
                      const int *widths, const struct listing_cell *cells,
                      bool color)
{
    struct line line = {.out = out};

    for (size_t c = 0; c < n; c++) {
        const char *style = "";
        if (color) {
            style = cells ? listing_style_on(cells[c].style) : STYLE_HEADER;
        }
        line.blanks += c > 0 ? GAP : 0;
        print_cell(&line, cells ? cells[c].text : g->titles[c], widths[c],
                   g->right[c], g->room[c], style);
    }
    fputc('\n', out);
}

int listing_print(const struct listing *g, FILE *out, int width,
                  size_t max_rows, bool color)
{
    int widths[LISTING_COLUMNS_MAX] = {0};
    size_t rows = listing_rows(g);
    size_t n = g->n_columns;

    if (g->error != 0 || n == 0) {
        return g->error;
    }
    rows = max_rows > 0 && rows > max_rows ? max_rows : rows;
    measure(g, rows, widths);
    bool below = width > 0 && n > 1 && g->room[n - 1] == LISTING_BELOW &&
                 !fits(n, width, widths);
    if (width > 0) {
        n = count_fitting(g, below ? n - 1 : n, width, widths);
        squeeze(g, n, width, widths);
    }
    print_row(g, out, n, widths, NULL, color);
    for (size_t r = 0; r < rows; r++) {
        const struct listing_cell *cells = &g->cells[r * g->n_columns];
        print_row(g, out, n, widths, cells, color);
        if (below && *cells[g->n_columns - 1].text) {
            cli_print_wrapped(out, "    ", cells[g->n_columns - 1].text, 4,
                              width);
        }
    }
    return 0;
}
