/* Wire batches into the grids of one session.
 *
 * Happy path: part 0 -> names to local indices, numbers to the grid, for each
 * table that it carries, and so on for each part; decode_take.c makes the
 * batch of it.
 *
 * A delta must build on the very batch that the grid stands at, otherwise a
 * keyframe is needed. After any failure a table stands nowhere. */
#include "collector/decode.h"

#include <stdlib.h>
#include <string.h>

#include "collector/sanitise.h"

enum {
    PARTS_MAX = 64,
    LIST_MAX_BYTES = 3 * 1024 * 1024,
    TEXT_MAX_BYTES = 128 * 1024,
    KEY_MAX_BYTES = 4 * TABLE_KEY_MAX_BYTES + 16,
    /* Of an entry with four columns: its gap, and its values. */
    GAPS_MAX_BYTES = TABLE_MAX_TAGS * 5 + 1,
    VALUES_MAX_BYTES = TABLE_MAX_TAGS * TABLE_COLUMNS_MAX * 11,
    /* Or what came in one frame. */
    PACKED_MAX_BYTES = GAPS_MAX_BYTES + VALUES_MAX_BYTES + 64,
    SEEN_FIRST = 4096,
    WORD_BITS = 64,
};

/* What flags a name may bring: others are not known yet. */
#define KNOWN_FLAGS                                                            \
    (TAG_ALLOCS | TAG_FREES | TAG_OUTSTANDING | TAG_BYTES | ENTRY_REAL |       \
     ENTRY_RECLAIMABLE)

#define REGISTRY_MAX_KEYS  1000000u
#define REGISTRY_MAX_BYTES ((size_t)128 * 1024 * 1024)

void decode_shared_init(struct decode_shared *s)
{
    *s = (struct decode_shared){.settle_span_us = DECODE_SETTLE_SPAN_US};
    registry_init(&s->tags, REGISTRY_MAX_KEYS, REGISTRY_MAX_BYTES);
    registry_init(&s->counters, REGISTRY_MAX_KEYS, REGISTRY_MAX_BYTES);
    psc_buf_init(&s->key, KEY_MAX_BYTES);
    psc_buf_init(&s->text, TEXT_MAX_BYTES);
    psc_buf_init(&s->drivers, LIST_MAX_BYTES);
    psc_buf_init(&s->events, LIST_MAX_BYTES);
    psc_buf_init(&s->sources, LIST_MAX_BYTES);
    psc_buf_init(&s->aliases, LIST_MAX_BYTES);
    psc_buf_init(&s->gaps, GAPS_MAX_BYTES);
    psc_buf_init(&s->values, VALUES_MAX_BYTES);
    psc_buf_init(&s->tags_packed, PACKED_MAX_BYTES);
    psc_buf_init(&s->counters_packed, PACKED_MAX_BYTES);
    grid_changes_init(&s->changes, NULL);
}

void decode_shared_fini(struct decode_shared *s)
{
    registry_fini(&s->tags);
    registry_fini(&s->counters);
    psc_buf_fini(&s->key);
    psc_buf_fini(&s->text);
    psc_buf_fini(&s->drivers);
    psc_buf_fini(&s->events);
    psc_buf_fini(&s->sources);
    psc_buf_fini(&s->aliases);
    psc_buf_fini(&s->gaps);
    psc_buf_fini(&s->values);
    psc_buf_fini(&s->tags_packed);
    psc_buf_fini(&s->counters_packed);
    grid_changes_fini(&s->changes);
    free(s->seen.bits);
    s->seen = (struct decode_seen){.bits = NULL};
}

void decode_init(struct decode *d, struct registry_quota *quota)
{
    *d = (struct decode){.quota = quota};
    grid_init(&d->tags.grid, TABLE_COLUMNS_MAX, TABLE_MAX_TAGS, NULL);
    grid_init(&d->counters.grid, 1, TABLE_MAX_COUNTERS, NULL);
}

void decode_fini(struct decode *d)
{
    grid_fini(&d->tags.grid);
    grid_fini(&d->counters.grid);
}

static void reset_chain(struct decode_chain *c)
{
    c->seq = 0;
    c->n_rows = 0;
}

void decode_reset(struct decode *d)
{
    reset_chain(&d->tags);
    reset_chain(&d->counters);
    d->assembling = false;
}

static size_t grid_bytes(const struct grid *g)
{
    return g->cap * (sizeof(*g->entries) + g->columns * sizeof(*g->now));
}

size_t decode_bytes(const struct decode *d)
{
    return sizeof(*d) + grid_bytes(&d->tags.grid) +
           grid_bytes(&d->counters.grid);
}

/* ---- names ---- */

static int seen_reserve(struct decode_seen *seen, uint32_t n)
{
    uint32_t cap = seen->cap > 0 ? seen->cap : SEEN_FIRST;
    while (cap < n) {
        cap *= 2;
    }
    if (cap == seen->cap) {
        return PSC_OK;
    }
    uint64_t *bits = realloc(seen->bits, cap / 8);
    if (bits == NULL) {
        return PSC_NOMEM;
    }
    memset(bits + seen->cap / WORD_BITS, 0, (cap - seen->cap) / 8);
    seen->bits = bits;
    seen->cap = cap;
    return PSC_OK;
}

/* Note that the host has @index; returns whether it had it before. */
static bool see(struct decode_seen *seen, uint32_t index)
{
    uint64_t *word = &seen->bits[index / WORD_BITS];
    uint64_t bit = (uint64_t)1 << index % WORD_BITS;
    bool before = (*word & bit) != 0;
    *word |= bit;
    return before;
}

static void see_all(struct decode_seen *seen, const struct grid *g)
{
    for (uint32_t i = 0; i < g->n; i++) {
        if (g->entries[i].ref != REGISTRY_NONE) {
            (void)see(seen, g->entries[i].ref);
        }
    }
}

static void forget_all(struct decode_seen *seen, const struct grid *g)
{
    for (uint32_t i = 0; i < g->n; i++) {
        uint32_t ref = g->entries[i].ref;
        if (ref != REGISTRY_NONE) {
            seen->bits[ref / WORD_BITS] &= ~((uint64_t)1 << ref % WORD_BITS);
        }
    }
}

/* What decode_apply() hands down. */
struct applying {
    struct decode *d;
    struct decode_shared *s;
    struct decode_chain *c;
    struct registry *registry;
    bool tags;
};

/* The local index of a key, REGISTRY_NONE to drop it: it cannot be one, or
 * there is no room for it. Tags in doubles are nobody's either. */
static int find_ref(const struct applying *a, const struct name_reader *r,
                    uint8_t flags, uint32_t *ref)
{
    struct psc_buf *key = &a->s->key;
    struct psc_bytes raw = name_reader_key(r);
    *ref = REGISTRY_NONE;
    psc_buf_reset(key);
    if ((a->tags && (flags & ENTRY_REAL) != 0) ||
        !(a->tags ? sanitise_tag_key(raw, key)
                  : sanitise_counter_key(raw, key))) {
        return PSC_OK;
    }
    int rc = psc_buf_error(key);
    if (rc == PSC_OK) {
        rc = registry_add(a->registry, psc_buf_bytes(key), flags, a->d->quota,
                          ref);
    }
    if (rc == PSC_OK) {
        rc = seen_reserve(&a->s->seen, *ref + 1);
    }
    return rc == PSC_LIMIT ? PSC_OK : rc;
}

/* Rewriting may make a key the same as another one of the host: only the
 * first counts. */
static int add_name(const struct applying *a, const struct name_reader *r,
                    struct psc_error *err)
{
    struct grid *g = &a->c->grid;
    uint8_t flags = (uint8_t)(r->flags & KNOWN_FLAGS);
    uint32_t ref;
    int rc = find_ref(a, r, flags, &ref);
    if (rc == PSC_OK) {
        rc = grid_add(g, ref, flags);
    }
    if (rc != PSC_OK) {
        return psc_error_set(err, rc, "no room for a name after %u: %s",
                             (unsigned)g->n, psc_strerror(rc));
    }
    if (ref == REGISTRY_NONE || see(&a->s->seen, ref)) {
        g->entries[g->n - 1].ref = REGISTRY_NONE;
        a->s->n_dropped_entries++;
    }
    return PSC_OK;
}

/* Grow the dictionary by @names. What the host has already is marked first:
 * all of it, but only where there are new names, and in a few microseconds. */
static int add_names(const struct applying *a, struct psc_bytes names,
                     struct psc_error *err)
{
    struct decode_chain *c = a->c;
    struct name_reader r;
    if (names.len == 0) {
        return PSC_OK;
    }
    int rc = seen_reserve(&a->s->seen, a->registry->keys.count);
    if (rc != PSC_OK) {
        return rc;
    }
    see_all(&a->s->seen, &c->grid);
    name_reader_init(&r, names, &c->names);
    while (rc == PSC_OK && name_reader_next(&r)) {
        rc = add_name(a, &r, err);
    }
    forget_all(&a->s->seen, &c->grid);
    if (rc == PSC_OK && !name_reader_ok(&r)) {
        rc = psc_error_set(err, PSC_FORMAT, "table: bad name");
    }
    return rc;
}

/* ---- numbers ---- */

/* An entry whose values are beyond what is stored is stored with others, until
 * it is within them: then no difference of its fits. So is one that is
 * nobody's: readers add it up all the same. */
static void note_changes(const struct applying *a)
{
    struct decode_chain *c = a->c;
    const struct grid_changes *changes = &a->s->changes;
    for (uint32_t i = 0; i < changes->n_changed; i++) {
        uint32_t at = changes->changed[i];
        struct grid_entry *e = &c->grid.entries[at];
        bool fits = sanitise_row_fits(c->grid.columns, e->flags,
                                      grid_values(&c->grid, at));
        c->restate |= !fits || e->mark;
        e->mark = !fits;
        c->n_changed += e->ref != REGISTRY_NONE ? 1 : 0;
    }
}

static int check_base(struct decode_chain *c, const struct columns *in,
                      struct psc_error *err)
{
    if (c->kind != STORED_NONE &&
        (c->kind != STORED_KEYFRAME || !in->keyframe)) {
        return psc_error_set(err, PSC_FORMAT,
                             "a table comes twice in one sample");
    }
    if (in->keyframe && in->gone.len > 0) {
        return psc_error_set(err, PSC_FORMAT,
                             "a keyframe in which something vanished");
    }
    if (!in->keyframe && (c->seq == 0 || in->base_seq != c->seq)) {
        return psc_error_set(err, PSC_NEED_KEYFRAME,
                             "a delta to a batch that is not here");
    }
    return PSC_OK;
}

static int apply_columns(const struct applying *a, const struct columns *in,
                         uint64_t seq, struct psc_error *err)
{
    struct decode_chain *c = a->c;
    const struct grid_part part = {in->gone, in->gaps, in->values};
    int rc = check_base(c, in, err);
    c->seq = 0;
    if (rc == PSC_OK && in->keyframe) {
        if (c->kind == STORED_NONE) {
            grid_clear(&c->grid);
            c->names.len = 0;
        }
        rc = grid_reserve(&c->grid, name_count(in->names));
    }
    uint32_t known = c->grid.n;
    if (rc == PSC_OK) {
        rc = add_names(a, in->names, err);
    }
    if (rc == PSC_OK) {
        rc = grid_apply(&c->grid, in->keyframe ? known : 0, &part,
                        &a->s->changes, err);
    }
    if (rc == PSC_OK) {
        note_changes(a);
        c->n_new += c->grid.n - known;
        c->seq = seq;
        c->kind = in->keyframe ? STORED_KEYFRAME : STORED_DELTA;
    }
    return rc;
}

/* ---- parts ---- */

/* @discarded: the sample before was never finished. What it changed is in the
 * grid, and will be in no row. */
static void begin_sample(struct decode_chain *c, bool discarded)
{
    c->n_rows = discarded ? 0 : c->n_rows;
    c->kind = STORED_NONE;
    c->n_changed = 0;
    c->n_new = 0;
    c->restate = false;
}

static int begin_part(struct decode *d, const struct wire_batch *in,
                      struct psc_error *err)
{
    if (in->part == 0) {
        d->first_seq = in->seq;
        begin_sample(&d->tags, d->assembling);
        begin_sample(&d->counters, d->assembling);
    } else if (!d->assembling || in->part != d->next_part) {
        return psc_error_set(err, PSC_FORMAT, "part %u comes out of order",
                             in->part);
    } else if (in->part >= PARTS_MAX) {
        return psc_error_set(err, PSC_FORMAT, "more than %d parts", PARTS_MAX);
    }
    d->assembling = in->more;
    d->next_part = in->part + 1;
    return PSC_OK;
}

int decode_apply(struct decode *d, struct decode_shared *s,
                 const struct wire_batch *in, struct psc_error *err)
{
    const struct applying tags = {d, s, &d->tags, &s->tags, true};
    const struct applying counters = {d, s, &d->counters, &s->counters, false};
    int rc = begin_part(d, in, err);
    if (rc == PSC_OK && in->has_tags) {
        rc = apply_columns(&tags, &in->tags, in->seq, err);
    }
    if (rc == PSC_OK && in->has_counters) {
        rc = apply_columns(&counters, &in->counters, in->seq, err);
    }
    if (rc != PSC_OK) {
        decode_reset(d);
    }
    return rc;
}
