/* The snapshot codec's reader, for bytes from anywhere.
 *
 * Nothing in the packed form claims a count: every entry and value is paid for
 * by bytes that are really there, and the grid's own maximum bounds the rest.
 * Happy path: gone empties entries, gaps and values change them. On the first
 * thing that is wrong the grid is incomplete and waits for a keyframe. */
#include "proto/grid.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/packing.h"

/* Few bytes lie idle in a grid: there are thousands of them. */
enum { FIRST_ENTRIES = 64, GROW_BY_ONE_IN = 8 };

static void *resize_heap(void *memory, size_t bytes)
{
    if (bytes == 0) {
        free(memory);
        return NULL;
    }
    return realloc(memory, bytes);
}

/* Resize *@array; it stays as it was on failure. */
static int change_size(grid_resize *how, void **array, size_t bytes)
{
    void *resized = how(*array, bytes);
    if (resized == NULL) {
        return PSC_NOMEM;
    }
    *array = resized;
    return PSC_OK;
}

static void release(grid_resize *how, void *array)
{
    if (array != NULL) {
        (void)how(array, 0);
    }
}

void grid_init(struct grid *g, uint32_t columns, uint32_t max,
               grid_resize *resize)
{
    assert(columns == 1 || columns == TABLE_COLUMNS_MAX);
    *g = (struct grid){
        .columns = columns,
        .width = columns,
        .only = GRID_ALL,
        .max = max,
        .resize = resize != NULL ? resize : resize_heap,
    };
}

void grid_init_only(struct grid *g, uint32_t columns, uint32_t only,
                    uint32_t max, grid_resize *resize)
{
    assert(only < columns && only != COL_OUTSTANDING);
    grid_init(g, columns, max, resize);
    g->width = 1;
    g->only = only;
}

void grid_fini(struct grid *g)
{
    release(g->resize, g->entries);
    release(g->resize, g->now);
    g->entries = NULL;
    g->now = NULL;
    g->cap = 0;
    grid_clear(g);
}

void grid_changes_init(struct grid_changes *c, grid_resize *resize)
{
    *c = (struct grid_changes){
        .resize = resize != NULL ? resize : resize_heap,
    };
}

void grid_changes_fini(struct grid_changes *c)
{
    release(c->resize, c->changed);
    release(c->resize, c->gone);
    grid_changes_init(c, c->resize);
}

void grid_clear(struct grid *g)
{
    g->n = 0;
    g->n_live = 0;
    g->complete = false;
}

static int set_capacity(struct grid *g, uint32_t cap)
{
    void *entries = g->entries;
    void *now = g->now;
    int rc = change_size(g->resize, &entries, cap * sizeof(*g->entries));
    g->entries = entries;
    if (rc == PSC_OK) {
        size_t row_bytes = g->width * sizeof(*g->now);
        rc = change_size(g->resize, &now, cap * row_bytes);
        g->now = now;
    }
    if (rc == PSC_OK) {
        g->cap = cap;
    }
    return rc;
}

int grid_reserve(struct grid *g, uint32_t more)
{
    uint32_t cap = more < g->max - g->n ? g->n + more : g->max;
    return cap > g->cap ? set_capacity(g, cap) : PSC_OK;
}

int grid_add(struct grid *g, uint32_t ref, uint8_t flags)
{
    if (g->n == g->max) {
        return PSC_LIMIT;
    }
    if (g->n == g->cap) {
        int rc = grid_reserve(g, g->n / GROW_BY_ONE_IN + FIRST_ENTRIES);
        if (rc != PSC_OK) {
            return rc;
        }
    }
    g->entries[g->n] = (struct grid_entry){.ref = ref, .flags = flags};
    memset(grid_values(g, g->n), 0, g->width * sizeof(*g->now));
    g->n++;
    return PSC_OK;
}

/* ---- applying ---- */

/* A part changes each entry at most once. */
static int make_room(struct grid_changes *c, uint32_t n)
{
    if (n <= c->cap) {
        return PSC_OK;
    }
    void *changed = c->changed;
    void *gone = c->gone;
    int rc = change_size(c->resize, &changed, n * sizeof(*c->changed));
    c->changed = changed;
    if (rc == PSC_OK) {
        rc = change_size(c->resize, &gone, n * sizeof(*c->gone));
        c->gone = gone;
    }
    if (rc == PSC_OK) {
        c->cap = n;
    }
    return rc;
}

static int malformed(struct psc_error *err, const char *what)
{
    return psc_error_set(err, PSC_FORMAT, "table: %s", what);
}

/* Most varints are one byte or two. */
static inline uint64_t read_varint(struct psc_reader *r)
{
    const uint8_t *at = r->at;
    if (r->end - at >= 2) {
        if (at[0] < 0x80) {
            r->at = at + 1;
            return at[0];
        }
        if (at[1] < 0x80) {
            r->at = at + 2;
            return (at[0] & 0x7fu) | (uint64_t)at[1] << 7;
        }
    }
    return psc_read_varint(r);
}

static int apply_gone(struct grid *g, struct psc_bytes gone,
                      struct grid_changes *changes, struct psc_error *err)
{
    struct psc_reader r;
    psc_reader_init(&r, gone);
    uint32_t expected = 0;
    while (psc_reader_left(&r) > 0) {
        uint64_t gap = read_varint(&r);
        if (r.failed || gap >= g->n - expected) {
            return malformed(err, "bad gap to a vanished entry");
        }
        uint32_t i = expected + (uint32_t)gap;
        struct grid_entry *e = &g->entries[i];
        if (!e->live) {
            return malformed(err, "an absent entry vanished");
        }
        e->live = false;
        e->gone = true;
        memset(grid_values(g, i), 0, g->width * sizeof(*g->now));
        g->n_live--;
        changes->gone[changes->n_gone++] = i;
        expected = i + 1;
    }
    return PSC_OK;
}

static inline uint64_t unzigzag(uint64_t v)
{
    return v >> 1 ^ (0 - (v & 1));
}

/* Not every reader counts modulo 2^64: pages must be so few that their bytes
 * fit. */
static inline uint64_t read_amount(struct psc_reader *r)
{
    uint64_t v = read_varint(r);

    if (v == AMOUNT_ESCAPE) {
        return unzigzag(read_varint(r));
    }
    uint64_t d = unzigzag(v >> 1);
    if ((v & 1) == 0) {
        return d;
    }
    if (d + PAGES_MAX >= 2 * PAGES_MAX) {
        r->failed = 1;
    }
    return d * PAGE_BYTES;
}

static uint64_t read_real(struct psc_reader *r)
{
    uint8_t head = psc_read_u8(r);
    unsigned skip = head >> 3;
    unsigned n = (head & 7u) + 1;
    if (skip + n > 8) {
        r->failed = 1;
        return 0;
    }
    uint64_t bits = 0;
    for (unsigned i = 0; i < n; i++) {
        bits |= (uint64_t)psc_read_u8(r) << (8 * (skip + i));
    }
    return bits;
}

/* Change the columns in @mask of one entry by what @r has. */
static void apply_values(struct grid *g, uint32_t i, unsigned mask,
                         struct psc_reader *r)
{
    uint8_t flags = g->entries[i].flags;
    int64_t *row = grid_values(g, i);

    for (; mask != 0; mask &= mask - 1) {
        unsigned c = (unsigned)__builtin_ctz(mask);
        uint64_t v = (uint64_t)row[c];
        if ((flags & ENTRY_REAL) != 0) {
            v ^= read_real(r);
        } else if (column_is_amount(g->columns, c)) {
            v += read_amount(r);
        } else {
            v += unzigzag(read_varint(r));
        }
        row[c] = (int64_t)v;
    }
    if (entry_derives(g->columns, flags)) {
        entry_derive(row);
    }
}

/* Read over what a column of one entry has. */
static void skip_value(struct psc_reader *r, uint8_t flags, bool amount)
{
    if ((flags & ENTRY_REAL) != 0) {
        (void)read_real(r);
    } else if (read_varint(r) == AMOUNT_ESCAPE && amount) {
        (void)read_varint(r);
    }
}

/* The same for a grid that keeps one column. */
static void apply_only(struct grid *g, uint32_t i, unsigned mask,
                       struct psc_reader *r)
{
    uint8_t flags = g->entries[i].flags;

    for (; mask != 0; mask &= mask - 1) {
        unsigned c = (unsigned)__builtin_ctz(mask);
        bool amount = column_is_amount(g->columns, c);
        if (c != g->only) {
            skip_value(r, flags, amount);
            continue;
        }
        int64_t *kept = grid_values(g, i);
        uint64_t v = (uint64_t)*kept;
        *kept = (int64_t)((flags & ENTRY_REAL) != 0 ? v ^ read_real(r)
                          : amount                  ? v + read_amount(r)
                                   : v + unzigzag(read_varint(r)));
    }
}

/* Lists the entry among @changes if it changed what the grid keeps. */
static int apply_entry(struct grid *g, uint32_t i, unsigned mask,
                       struct psc_reader *values, struct grid_changes *changes,
                       struct psc_error *err)
{
    struct grid_entry *e = &g->entries[i];

    if ((mask & ~entry_sends(g->columns, e->flags)) != 0) {
        return malformed(err, "a column that the entry has not");
    }
    if (e->gone) {
        return malformed(err, "an entry vanished and changed");
    }
    if (g->only == GRID_ALL || !e->live || (mask >> g->only & 1) != 0) {
        changes->changed[changes->n_changed++] = i;
    }
    g->n_live += e->live ? 0 : 1;
    e->live = true;
    if (g->only == GRID_ALL) {
        apply_values(g, i, mask, values);
    } else {
        apply_only(g, i, mask, values);
    }
    return values->failed ? malformed(err, "bad values") : PSC_OK;
}

/* How the gaps of one part tell the columns of an entry. */
struct masks {
    unsigned bits;                      /* per entry, low in its gap */
    uint8_t of[1 << TABLE_COLUMNS_MAX]; /* those bits to columns */
};

static void spread(struct masks *m, unsigned head)
{
    unsigned any = head & HEAD_COLUMNS;

    m->bits = 0;
    m->of[0] = (uint8_t)((head & HEAD_UNIFORM) != 0 ? any : 0);
    for (unsigned c = 0; c < TABLE_COLUMNS_MAX; c++) {
        if ((head & HEAD_UNIFORM) != 0 || (any >> c & 1) == 0) {
            continue;
        }
        /* bits is at most c, which a compiler cannot see. */
        unsigned half = 1u << (m->bits < c ? m->bits : c);
        for (unsigned i = 0; i < half; i++) {
            m->of[i | half] = (uint8_t)(m->of[i] | 1u << c);
        }
        m->bits++;
    }
}

/* @expected: the position that has gap 0. */
static int apply_entries(struct grid *g, uint32_t expected,
                         const struct grid_part *part,
                         struct grid_changes *changes, struct psc_error *err)
{
    struct psc_reader gaps, values;
    psc_reader_init(&gaps, part->gaps);
    psc_reader_init(&values, part->values);
    struct masks masks = {.bits = 0};
    if (part->gaps.len > 0) {
        unsigned head = psc_read_u8(&gaps);
        if (head > (HEAD_UNIFORM | HEAD_COLUMNS)) {
            return malformed(err, "bad head of gaps");
        }
        spread(&masks, head);
    }
    while (psc_reader_left(&gaps) > 0) {
        uint64_t v = read_varint(&gaps);
        uint64_t gap = v >> masks.bits;
        if (gaps.failed || gap >= g->n - expected) {
            return malformed(err, "bad gap");
        }
        uint32_t i = expected + (uint32_t)gap;
        unsigned mask = masks.of[v & ((1u << masks.bits) - 1)];
        int rc = apply_entry(g, i, mask, &values, changes, err);
        if (rc != PSC_OK) {
            return rc;
        }
        expected = i + 1;
    }
    if (psc_reader_left(&values) > 0) {
        return malformed(err, "values left over");
    }
    return PSC_OK;
}

int grid_apply(struct grid *g, uint32_t first_new, const struct grid_part *part,
               struct grid_changes *changes, struct psc_error *err)
{
    assert(first_new <= g->n);
    changes->n_changed = 0;
    changes->n_gone = 0;
    g->complete = false;
    int rc = make_room(changes, g->n);
    if (rc != PSC_OK) {
        return psc_error_set(err, rc, "table: no memory for its changes");
    }
    rc = apply_gone(g, part->gone, changes, err);
    if (rc == PSC_OK) {
        rc = apply_entries(g, first_new, part, changes, err);
    }
    for (uint32_t i = 0; i < changes->n_gone; i++) {
        g->entries[changes->gone[i]].gone = false;
    }
    if (rc != PSC_OK) {
        changes->n_changed = 0;
        changes->n_gone = 0;
        return rc;
    }
    g->complete = true;
    return PSC_OK;
}
