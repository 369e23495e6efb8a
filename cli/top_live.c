/* The live view: this machine's tags from the agent's own sources, in the
 * manner of poolmon and slabtop.
 *
 * Happy path: read the sources, sort, print a screen, wait for a key or the
 * interval, again. On a terminal the screen is an alternate one and keys are
 * read raw; both are put back on every way out, signals included. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "cli/listing.h"
#include "cli/live.h"
#include "cli/top.h"
#include "cli/units.h"
#include "common/clock.h"

#define ONCE_LIMIT 30
#define KEY_ESC    27

struct row {
    uint32_t i; /* of the tag in `now` */
    int64_t growth;
    double key; /* what is sorted by, large first; tags sort by name */
};

struct screen {
    struct cli *cli;
    struct top_view view;
    struct live live;
    struct reading first, last, now; /* readings: start, previous, present */
    struct row *rows;                /* owned */
    size_t n_rows, cap_rows;
    enum pool pool; /* 0: all */
    bool quit;
};

static volatile sig_atomic_t interrupted;

static void on_signal(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

bool top_match(const char *pattern, const char *text, size_t len)
{
    const char *star = NULL;
    size_t back = 0;
    size_t i = 0;

    while (i < len) {
        if (*pattern == '*') {
            star = ++pattern;
            back = i;
        } else if (*pattern == '?' || (*pattern && *pattern == text[i])) {
            pattern++;
            i++;
        } else if (star) {
            pattern = star;
            i = ++back;
        } else {
            return false;
        }
    }
    while (*pattern == '*') {
        pattern++;
    }
    return *pattern == '\0';
}

/* --- rows --- */

static int64_t bytes_before(const struct reading *before,
                            const struct reading *now, uint32_t i)
{
    const struct reading_tag *tag = reading_same(before, now, i);

    return tag ? tag->bytes : 0;
}

static double sort_key(const struct screen *s, const struct row *row)
{
    const struct reading_tag *tag = &s->now.tags[row->i];

    switch (s->view.sort) {
    case TOP_ALLOCS: return tag->flags & TAG_ALLOCS ? (double)tag->allocs : -1;
    case TOP_FREES: return tag->flags & TAG_FREES ? (double)tag->frees : -1;
    case TOP_DIFF:
        return tag->flags & TAG_OUTSTANDING ? (double)tag->outstanding : -1;
    case TOP_EACH:
        return tag->outstanding > 0
                   ? (double)tag->bytes / (double)tag->outstanding
                   : -1;
    case TOP_GROWTH: return (double)row->growth;
    case TOP_TAG:
    case TOP_BYTES: break;
    }
    return (double)tag->bytes;
}

static int by_key(const void *left, const void *right)
{
    const struct row *a = left;
    const struct row *b = right;

    if (a->key != b->key) {
        return a->key < b->key ? 1 : -1;
    }
    return a->i < b->i ? -1 : a->i > b->i;
}

static int by_name(const void *left, const void *right, void *ctx)
{
    const struct screen *s = ctx;
    struct psc_bytes a = reading_text(&s->now, ((const struct row *)left)->i);
    struct psc_bytes b = reading_text(&s->now, ((const struct row *)right)->i);
    int order = memcmp(a.data, b.data, a.len < b.len ? a.len : b.len);

    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static bool is_wanted(const struct screen *s, uint32_t i)
{
    struct psc_bytes text = reading_text(&s->now, i);

    if (s->pool != 0 && reading_pool(&s->now, i) != s->pool) {
        return false;
    }
    return !s->view.pattern ||
           top_match(s->view.pattern, (const char *)text.data, text.len);
}

static int make_rows(struct screen *s)
{
    size_t n = reading_count(&s->now);

    if (n > s->cap_rows) {
        void *grown = realloc(s->rows, n * sizeof *s->rows);
        if (!grown) {
            return PSC_NOMEM;
        }
        s->rows = grown;
        s->cap_rows = n;
    }
    s->n_rows = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (is_wanted(s, i)) {
            struct row *row = &s->rows[s->n_rows++];
            row->i = i;
            row->growth =
                s->now.tags[i].bytes - bytes_before(&s->first, &s->now, i);
            row->key = sort_key(s, row);
        }
    }
    if (s->view.sort == TOP_TAG) {
        qsort_r(s->rows, s->n_rows, sizeof *s->rows, by_name, s);
    } else if (s->n_rows > 0) {
        qsort(s->rows, s->n_rows, sizeof *s->rows, by_key);
    }
    return 0;
}

/* --- a table --- */

static void add_count(struct listing *g, bool exists, int64_t n,
                      enum listing_style style)
{
    listing_add(g, exists ? unit_count(n).text : "", style);
}

static void add_delta(struct listing *g, int64_t bytes)
{
    char text[72] = "";

    if (bytes != 0) {
        snprintf(text, sizeof text, "%s%s", bytes > 0 ? "+" : "",
                 unit_bytes((double)bytes).text);
    }
    listing_add(g, text,
                bytes > 0   ? LISTING_RED
                : bytes < 0 ? LISTING_GREEN
                            : LISTING_PLAIN);
}

/* Whether any tag counts allocs and frees: Linux' own pools do not. */
static bool has_allocs(const struct screen *s)
{
    for (size_t i = 0; i < s->n_rows; i++) {
        if (s->now.tags[s->rows[i].i].flags & TAG_ALLOCS) {
            return true;
        }
    }
    return false;
}

static void add_row(const struct screen *s, struct listing *g,
                    const struct row *row, bool allocs)
{
    const struct reading_tag *tag = &s->now.tags[row->i];
    struct psc_bytes text = reading_text(&s->now, row->i);
    char name[TABLE_KEY_MAX_BYTES + 1];

    snprintf(name, sizeof name, "%.*s", (int)text.len, (const char *)text.data);
    listing_add(g, pool_name(reading_pool(&s->now, row->i)), LISTING_PLAIN);
    listing_add(g, name, LISTING_PLAIN);
    if (allocs) {
        add_count(g, tag->flags & TAG_ALLOCS, tag->allocs, LISTING_PLAIN);
        add_count(g, tag->flags & TAG_FREES, tag->frees, LISTING_PLAIN);
    }
    add_count(g, tag->flags & TAG_OUTSTANDING, tag->outstanding, LISTING_PLAIN);
    listing_add(g, unit_bytes((double)tag->bytes).text, LISTING_PLAIN);
    if (reading_count(&s->last) > 0) {
        add_delta(g, tag->bytes - bytes_before(&s->last, &s->now, row->i));
        add_delta(g, row->growth);
    }
    add_count(g, tag->outstanding > 0 && (tag->flags & TAG_OUTSTANDING),
              tag->outstanding > 0 ? tag->bytes / tag->outstanding : 0,
              LISTING_PLAIN);
}

static int print_rows(const struct screen *s, size_t max_rows, FILE *out)
{
    if (s->n_rows == 0) {
        fputs("No such tags.\n", out);
        return 0;
    }
    bool allocs = has_allocs(s);
    struct listing g;

    listing_init(&g);
    listing_column(&g, "POOL", false, LISTING_WHOLE);
    listing_column(&g, "TAG", false, LISTING_CUT);
    if (allocs) {
        listing_column(&g, "ALLOCS", true, LISTING_WHOLE);
        listing_column(&g, "FREES", true, LISTING_WHOLE);
    }
    listing_column(&g, "DIFF", true, LISTING_WHOLE);
    listing_column(&g, "BYTES", true, LISTING_WHOLE);
    if (reading_count(&s->last) > 0) {
        listing_column(&g, "CHANGE", true, LISTING_WHOLE);
        listing_column(&g, "SINCE START", true, LISTING_WHOLE);
    }
    listing_column(&g, "PER ALLOC", true, LISTING_WHOLE);
    for (size_t i = 0; i < s->n_rows && i < max_rows; i++) {
        add_row(s, &g, &s->rows[i], allocs);
    }
    int rc = listing_print(&g, out, s->cli->width, 0, s->cli->color);
    listing_fini(&g);
    return rc;
}

/* --- scripts --- */

static json_t *optional(const struct reading_tag *tag, uint8_t flag, int64_t n)
{
    return tag->flags & flag ? json_integer((json_int_t)n) : json_null();
}

static int print_json(const struct screen *s, size_t max_rows)
{
    json_t *all = json_array();

    for (size_t i = 0; i < s->n_rows && i < max_rows; i++) {
        const struct reading_tag *tag = &s->now.tags[s->rows[i].i];
        struct psc_bytes text = reading_text(&s->now, s->rows[i].i);
        json_array_append_new(
            all, json_pack("{s:s, s:s%, s:o, s:o, s:o, s:I}", "pool",
                           pool_name(reading_pool(&s->now, s->rows[i].i)),
                           "tag", (const char *)text.data, text.len, "allocs",
                           optional(tag, TAG_ALLOCS, tag->allocs), "frees",
                           optional(tag, TAG_FREES, tag->frees), "outstanding",
                           optional(tag, TAG_OUTSTANDING, tag->outstanding),
                           "bytes", (json_int_t)tag->bytes));
    }
    int rc = json_dumpf(all, stdout, JSON_INDENT(1)) == 0 ? 0 : PSC_NOMEM;
    putchar('\n');
    json_decref(all);
    return rc;
}

static void print_csv_count(const struct reading_tag *tag, uint8_t flag,
                            int64_t n)
{
    putchar(',');
    if (tag->flags & flag) {
        printf("%" PRId64, n);
    }
}

static void print_csv(const struct screen *s, size_t max_rows)
{
    puts("pool,tag,allocs,frees,outstanding,bytes");
    for (size_t i = 0; i < s->n_rows && i < max_rows; i++) {
        const struct reading_tag *tag = &s->now.tags[s->rows[i].i];
        struct psc_bytes text = reading_text(&s->now, s->rows[i].i);
        printf("%s,\"", pool_name(reading_pool(&s->now, s->rows[i].i)));
        for (size_t at = 0; at < text.len; at++) {
            printf(text.data[at] == '"' ? "\"\"" : "%c", text.data[at]);
        }
        putchar('"');
        print_csv_count(tag, TAG_ALLOCS, tag->allocs);
        print_csv_count(tag, TAG_FREES, tag->frees);
        print_csv_count(tag, TAG_OUTSTANDING, tag->outstanding);
        printf(",%" PRId64 "\n", tag->bytes);
    }
}

/* --- once --- */

static void print_what(const struct screen *s)
{
    char name[256] = "";

    (void)gethostname(name, sizeof name - 1);
    if (*s->view.root) {
        printf("As recorded in %s\n", s->view.root);
    } else {
        printf("This machine (%s), live from /proc\n", name);
    }
}

static int show_once(struct screen *s, struct psc_error *err)
{
    bool table = s->cli->format == CLI_TABLE;
    size_t max_rows = s->view.limit > 0 ? (size_t)s->view.limit
                      : table           ? ONCE_LIMIT
                                        : SIZE_MAX;
    int rc = live_read(&s->live, &s->now, err);

    if (rc == 0) {
        rc = make_rows(s);
    }
    if (rc == 0 && table) {
        print_what(s);
        rc = print_rows(s, max_rows, stdout);
    } else if (rc == 0 && s->cli->format == CLI_JSON) {
        rc = print_json(s, max_rows);
    } else if (rc == 0) {
        print_csv(s, max_rows);
    }
    live_print_missing(&s->live, stderr);
    return rc == 0 || err->code == rc
               ? rc
               : psc_error_set(err, rc, "%s", psc_strerror(rc));
}

/* --- on a terminal --- */

static void print_head(const struct screen *s, int64_t since_us, FILE *out)
{
    static const char *const sorted_by[] = {
        [TOP_BYTES] = "bytes",   [TOP_TAG] = "tag",
        [TOP_ALLOCS] = "allocs", [TOP_FREES] = "frees",
        [TOP_DIFF] = "diff",     [TOP_EACH] = "bytes per alloc",
        [TOP_GROWTH] = "growth"};
    static const struct {
        const char *title;
        const char *counter;
    } totals[] = {{"Memory", "node_memory_MemTotal_bytes"},
                  {"available", "node_memory_MemAvailable_bytes"},
                  {"slab", "node_memory_Slab_bytes"},
                  {"unreclaimable", "node_memory_SUnreclaim_bytes"},
                  {"vmalloc", "node_memory_VmallocUsed_bytes"}};
    int64_t value;

    for (size_t i = 0; i < sizeof totals / sizeof *totals; i++) {
        if (live_counter(&s->live, totals[i].counter, &value)) {
            fprintf(out, "%s%s %s", i > 0 ? ", " : "", totals[i].title,
                    unit_bytes((double)value).text);
        }
    }
    fprintf(out,
            "\nLive: %zu tags of pool %s by %s, since %s   "
            "(keys: t a f d b m g  p pool  q quit)\n",
            s->n_rows, s->pool == 0 ? "any" : pool_name(s->pool),
            sorted_by[s->view.sort], unit_clock(since_us).text);
}

/* The head's lines, none wider than the terminal: they would push the
 * table's last row off the screen. */
static void print_cut_head(const struct screen *s)
{
    char *text = NULL;
    char *rest = NULL;
    size_t len = 0;
    FILE *head = open_memstream(&text, &len);

    if (head) {
        print_head(s, s->now.at_us - s->first.at_us, head);
        fclose(head);
        for (char *line = text ? strtok_r(text, "\n", &rest) : NULL; line;
             line = strtok_r(NULL, "\n", &rest)) {
            printf("%.*s\033[K\n", s->cli->width, line);
        }
        fputs("\033[K\n", stdout);
    }
    free(text);
}

static void print_screen(struct screen *s)
{
    struct winsize size;
    char *text = NULL;
    size_t len = 0;
    FILE *table = open_memstream(&text, &len);

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0) {
        s->cli->width = size.ws_col;
        s->cli->height = size.ws_row;
    }
    fputs("\033[H", stdout);
    print_cut_head(s);
    int lines = s->cli->height - 5;
    if (table && lines > 0) {
        (void)!print_rows(s, (size_t)lines, table);
        fclose(table);
        for (char *p = text; *p; p++) { /* leave nothing of older screens */
            if (*p == '\n') {
                fputs("\033[K", stdout);
            }
            putchar(*p);
        }
    } else if (table) {
        fclose(table);
    }
    free(text);
    const char *why = live_missing(&s->live, "slabinfo");
    if (why) {
        printf("%.*s\033[K", s->cli->width, why);
    }
    fputs("\033[J", stdout);
    fflush(stdout);
}

static void next_pool(struct screen *s)
{
    bool present[POOL_PAGES + 2] = {false};

    for (uint32_t i = 0; i < reading_count(&s->now); i++) {
        present[reading_pool(&s->now, i)] = true;
    }
    int pool = (int)s->pool + 1;
    while (pool <= POOL_PAGES && !present[pool]) {
        pool++;
    }
    s->pool = pool > POOL_PAGES ? (enum pool)0 : (enum pool)pool;
}

static void take_key(struct screen *s, char key)
{
    switch (key) {
    case 'b': s->view.sort = TOP_BYTES; break;
    case 't': s->view.sort = TOP_TAG; break;
    case 'a': s->view.sort = TOP_ALLOCS; break;
    case 'f': s->view.sort = TOP_FREES; break;
    case 'd': s->view.sort = TOP_DIFF; break;
    case 'm': s->view.sort = TOP_EACH; break;
    case 'g': s->view.sort = TOP_GROWTH; break;
    case 'p': next_pool(s); break;
    case 'q':
    case KEY_ESC: s->quit = true; break;
    default: break;
    }
}

/* Wait until @until_us for a key, and act on it. Returns whether it is time
 * for new values. */
static bool wait_key(struct screen *s, int64_t until_us)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    int64_t left_us = until_us - psc_clock_mono_us();
    char key;

    if (left_us <= 0) {
        return true;
    }
    if (poll(&input, 1, (int)(left_us / PSC_US_PER_MS) + 1) <= 0) {
        return true;
    }
    if (read(STDIN_FILENO, &key, 1) != 1) {
        s->quit = true; /* the terminal is gone */
        return false;
    }
    take_key(s, key);
    return key == ' ';
}

static int run_screen(struct screen *s, struct psc_error *err)
{
    int rc = live_read(&s->live, &s->first, err);
    int64_t next_us = psc_clock_mono_us();
    bool again = true;

    while (rc == 0 && !s->quit && !interrupted) {
        if (again) {
            struct reading swap = s->last;
            s->last = s->now;
            s->now = swap;
            rc = live_read(&s->live, &s->now, err);
            next_us = psc_clock_mono_us() + s->view.interval_us;
        }
        if (rc == 0) {
            rc = make_rows(s);
        }
        if (rc == 0) {
            print_screen(s);
            again = wait_key(s, next_us);
        }
    }
    return rc;
}

static int show_screen(struct screen *s, struct psc_error *err)
{
    struct sigaction action = {.sa_handler = on_signal};
    struct termios before;
    struct termios raw;

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    if (tcgetattr(STDIN_FILENO, &before) != 0) {
        return psc_error_set(err, PSC_UNSUPPORTED,
                             "standard input is no terminal: use --limit");
    }
    raw = before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    fputs("\033[?1049h\033[?25l", stdout);
    int rc = run_screen(s, err);
    fputs("\033[?25h\033[?1049l", stdout);
    fflush(stdout);
    tcsetattr(STDIN_FILENO, TCSANOW, &before);
    return rc;
}

int top_live(struct cli *cli, const struct top_view *view)
{
    struct screen s = {.cli = cli, .view = *view};
    struct psc_error err = {0};

    if (view->pool && !pool_parse(view->pool, &s.pool)) {
        return cli_failf("no pool '%s'", view->pool);
    }
    reading_init(&s.first);
    reading_init(&s.last);
    reading_init(&s.now);
    int rc = live_open(&s.live, view->root, &err);
    if (rc == 0) {
        rc = view->once ? show_once(&s, &err) : show_screen(&s, &err);
        live_close(&s.live);
    }
    reading_fini(&s.first);
    reading_fini(&s.last);
    reading_fini(&s.now);
    free(s.rows);
    return rc == 0 ? CLI_OK : cli_fail(&err);
}
