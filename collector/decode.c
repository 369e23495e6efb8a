/* Tables and parts of one session into batches.
 *
 * Happy path: part 0 -> table_apply() for each table it carries, and so on
 * for each part; at the last part the changed entries (all live ones at a
 * keyframe) are copied with their local indices.
 *
 * A delta must build on the very batch that the table stands at, otherwise a
 * keyframe is needed. After any failure a table stands nowhere. */
#include "collector/decode.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "collector/decode_lists.h"
#include "collector/sanitise.h"
#include "common/clock.h"

enum {
    PARTS_MAX = 64,
    FIRST_NAMES = 256,
    LIST_MAX_BYTES = 3 * 1024 * 1024,
    TEXT_MAX_BYTES = 128 * 1024,
    KEY_MAX_BYTES = 4 * TABLE_KEY_MAX_BYTES + 16,
    TAG_COLUMNS = 4,
};

#define REGISTRY_MAX_KEYS  1000000u
#define TIME_MAX_US        ((int64_t)1 << 57)
#define REGISTRY_MAX_BYTES ((size_t)128 * 1024 * 1024)

int decode_shared_init(struct decode_shared *s)
{
    *s = (struct decode_shared){.n_cut_lists = 0};
    registry_init(&s->tags, REGISTRY_MAX_KEYS, REGISTRY_MAX_BYTES);
    registry_init(&s->counters, REGISTRY_MAX_KEYS, REGISTRY_MAX_BYTES);
    psc_buf_init(&s->key, KEY_MAX_BYTES);
    psc_buf_init(&s->text, TEXT_MAX_BYTES);
    psc_buf_init(&s->drivers, LIST_MAX_BYTES);
    psc_buf_init(&s->events, LIST_MAX_BYTES);
    psc_buf_init(&s->sources, LIST_MAX_BYTES);
    psc_buf_init(&s->aliases, LIST_MAX_BYTES);
    s->tag_rows.index = calloc(TABLE_MAX_TAGS, sizeof(uint32_t));
    s->tag_rows.gone = calloc(TABLE_MAX_TAGS, sizeof(uint32_t));
    s->tag_rows.flags = calloc(TABLE_MAX_TAGS, 1);
    s->tag_rows.values = calloc(TABLE_MAX_TAGS, TAG_COLUMNS * sizeof(int64_t));
    s->counter_rows.index = calloc(TABLE_MAX_COUNTERS, sizeof(uint32_t));
    s->counter_rows.gone = calloc(TABLE_MAX_COUNTERS, sizeof(uint32_t));
    s->counter_rows.reals = calloc(TABLE_MAX_COUNTERS, sizeof(double));
    if (s->tag_rows.index == NULL || s->tag_rows.gone == NULL ||
        s->tag_rows.flags == NULL || s->tag_rows.values == NULL ||
        s->counter_rows.index == NULL || s->counter_rows.gone == NULL ||
        s->counter_rows.reals == NULL) {
        decode_shared_fini(s);
        return PSC_NOMEM;
    }
    return PSC_OK;
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
    free(s->tag_rows.index);
    free(s->tag_rows.gone);
    free(s->tag_rows.flags);
    free(s->tag_rows.values);
    free(s->counter_rows.index);
    free(s->counter_rows.gone);
    free(s->counter_rows.reals);
}

void decode_init(struct decode *d, struct registry_quota *quota)
{
    *d = (struct decode){.quota = quota};
    table_init(&d->tags.table, TAG_COLUMNS, TABLE_MAX_TAGS,
               TABLE_MAX_TAG_KEY_BYTES, false);
    table_init(&d->counters.table, 1, TABLE_MAX_COUNTERS,
               TABLE_MAX_COUNTER_KEY_BYTES, false);
}

void decode_fini(struct decode *d)
{
    table_fini(&d->tags.table);
    table_fini(&d->counters.table);
    free(d->tags.names.local);
    free(d->counters.names.local);
    d->tags.names.local = NULL;
    d->counters.names.local = NULL;
}

void decode_reset(struct decode *d)
{
    d->tags.seq = 0;
    d->counters.seq = 0;
    d->assembling = false;
}

static size_t chain_bytes(const struct decode_chain *c)
{
    const struct table *t = &c->table;
    size_t slots =
        t->names.slots != NULL ? ((size_t)t->names.slot_mask + 1) * 4 : 0;
    size_t entry = sizeof(struct table_entry) + 2 * sizeof(uint32_t) +
                   t->columns * sizeof(int64_t);
    return slots + (size_t)t->names.cap * 8 + t->names.arena.cap +
           t->cap * entry + c->names.cap * sizeof(uint32_t);
}

size_t decode_bytes(const struct decode *d)
{
    return sizeof(*d) + chain_bytes(&d->tags) + chain_bytes(&d->counters);
}

/* ---- wire batches to tables ---- */

static int apply_columns(struct decode_chain *c, const struct columns *in,
                         uint64_t seq, struct psc_error *err)
{
    bool first = c->kind == BATCH_NO_TABLE;
    if (!first && (c->kind != BATCH_KEYFRAME || !in->keyframe)) {
        return psc_error_set(err, PSC_FORMAT,
                             "a table comes twice in one sample");
    }
    if (!in->keyframe && (c->seq == 0 || in->base_seq != c->seq)) {
        c->seq = 0;
        return psc_error_set(err, PSC_NEED_KEYFRAME,
                             "a delta to a batch that is not here");
    }
    if (in->keyframe && first) {
        c->names.n = 0;
        c->names.n_odd = 0;
    }
    c->seq = 0;
    int rc = table_apply(&c->table, in, first, err);
    if (rc == PSC_OK) {
        c->seq = seq;
        c->kind = in->keyframe ? BATCH_KEYFRAME : BATCH_DELTA;
    }
    return rc;
}

static int begin_part(struct decode *d, const struct wire_batch *in,
                      struct psc_error *err)
{
    if (in->part == 0) {
        d->first_seq = in->seq;
        d->tags.kind = BATCH_NO_TABLE;
        d->counters.kind = BATCH_NO_TABLE;
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

int decode_apply(struct decode *d, const struct wire_batch *in,
                 struct psc_error *err)
{
    int rc = begin_part(d, in, err);
    if (rc == PSC_OK && in->has_tags) {
        rc = apply_columns(&d->tags, &in->tags, in->seq, err);
    }
    if (rc == PSC_OK && in->has_counters) {
        rc = apply_columns(&d->counters, &in->counters, in->seq, err);
    }
    if (rc != PSC_OK) {
        decode_reset(d);
    }
    return rc;
}

/* ---- names ---- */

static int grow_names(struct decode_names *names, uint32_t need)
{
    uint32_t cap = names->cap > 0 ? names->cap : FIRST_NAMES;
    while (cap < need) {
        cap *= 2;
    }
    if (cap > names->cap) {
        uint32_t *local = realloc(names->local, cap * sizeof(*local));
        if (local == NULL) {
            return PSC_NOMEM;
        }
        names->local = local;
        names->cap = cap;
    }
    return PSC_OK;
}

static bool holds(const uint32_t *list, uint32_t n, uint32_t value)
{
    for (uint32_t i = 0; i < n; i++) {
        if (list[i] == value) {
            return true;
        }
    }
    return false;
}

/* Two keys of one host may become one by rewriting; only the first counts.
 * Rewritten keys are few by decree, so that looking for twins stays cheap. */
static bool is_twin(struct decode_names *names, uint32_t local, bool canonical)
{
    if (canonical) {
        return holds(names->odd, names->n_odd, local);
    }
    if (names->n_odd == DECODE_ODD_KEYS_MAX ||
        holds(names->local, names->n, local)) {
        return true;
    }
    names->odd[names->n_odd++] = local;
    return false;
}

struct naming {
    struct registry *registry;
    bool (*sanitise)(struct psc_bytes key, struct psc_buf *out,
                     bool *canonical);
};

/* Local index of dictionary entry @i, REGISTRY_NONE to drop it. */
static int name_one(struct decode *d, struct decode_shared *s,
                    struct decode_chain *c, const struct naming *naming,
                    uint32_t i, uint32_t *local)
{
    bool canonical = false;
    *local = REGISTRY_NONE;
    psc_buf_reset(&s->key);
    if (!naming->sanitise(psc_map_key(&c->table.names, i), &s->key,
                          &canonical)) {
        return PSC_OK;
    }
    int rc = psc_buf_error(&s->key);
    if (rc == PSC_OK) {
        rc = registry_add(naming->registry, psc_buf_bytes(&s->key),
                          c->table.entries[i].flags, d->quota, local);
    }
    if (rc == PSC_OK && is_twin(&c->names, *local, canonical)) {
        *local = REGISTRY_NONE;
    }
    return rc == PSC_LIMIT ? PSC_OK : rc;
}

/* Give every new entry of the dictionary its local index. */
static int name_new(struct decode *d, struct decode_shared *s,
                    struct decode_chain *c, const struct naming *naming)
{
    uint32_t count = c->table.names.count;
    int rc = grow_names(&c->names, count);
    while (rc == PSC_OK && c->names.n < count) {
        uint32_t local;
        rc = name_one(d, s, c, naming, c->names.n, &local);
        if (rc == PSC_OK) {
            s->n_dropped_entries += local == REGISTRY_NONE ? 1 : 0;
            c->names.local[c->names.n++] = local;
        }
    }
    return rc;
}

/* ---- tables to rows ---- */

/* The entries to copy: @i-th changed one, or @i itself at a keyframe. Returns
 * the local index, or REGISTRY_NONE for one to leave out. */
static uint32_t entry_at(const struct decode_chain *c, uint32_t i,
                         uint32_t *index)
{
    if (c->kind == BATCH_KEYFRAME) {
        *index = i;
        return c->table.entries[i].live ? c->names.local[i] : REGISTRY_NONE;
    }
    *index = c->table.changed[i];
    return c->names.local[*index];
}

static uint32_t n_entries(const struct decode_chain *c)
{
    return c->kind == BATCH_KEYFRAME ? c->table.names.count
           : c->kind == BATCH_DELTA  ? c->table.n_changed
                                     : 0;
}

/* Local indices of the entries that vanished. */
static uint32_t copy_gone(const struct decode_chain *c, uint32_t *gone)
{
    uint32_t n = 0;
    for (uint32_t i = 0; c->kind == BATCH_DELTA && i < c->table.n_gone; i++) {
        uint32_t local = c->names.local[c->table.gone[i]];
        if (local != REGISTRY_NONE) {
            gone[n++] = local;
        }
    }
    return n;
}

static void copy_tags(const struct decode_chain *c, struct decode_shared *s,
                      struct batch_table *out)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < n_entries(c); i++) {
        uint32_t index;
        uint32_t local = entry_at(c, i, &index);
        if (local == REGISTRY_NONE) {
            continue;
        }
        const int64_t *values = table_values(&c->table, index);
        for (unsigned col = 0; col < TAG_COLUMNS; col++) {
            s->tag_rows.values[(size_t)n * TAG_COLUMNS + col] =
                sanitise_tag_value(col, values[col]);
        }
        s->tag_rows.flags[n] = c->table.entries[index].flags;
        s->tag_rows.index[n++] = local;
    }
    out->kind = c->kind;
    out->n = n;
    out->n_gone = copy_gone(c, s->tag_rows.gone);
}

/* A value that is no number is as good as absent. */
static void copy_counters(const struct decode_chain *c, struct decode_shared *s,
                          struct batch_table *out)
{
    uint32_t n = 0;
    uint32_t n_gone = copy_gone(c, s->counter_rows.gone);
    for (uint32_t i = 0; i < n_entries(c); i++) {
        uint32_t index;
        uint32_t local = entry_at(c, i, &index);
        if (local == REGISTRY_NONE) {
            continue;
        }
        int64_t value = *table_values(&c->table, index);
        double real = (double)value;
        if ((c->table.entries[index].flags & ENTRY_REAL) != 0) {
            memcpy(&real, &value, sizeof(real));
        }
        if (isfinite(real)) {
            s->counter_rows.reals[n] = real;
            s->counter_rows.index[n++] = local;
        } else if (c->kind == BATCH_DELTA) {
            s->counter_rows.gone[n_gone++] = local;
        }
    }
    out->kind = c->kind;
    out->n = n;
    out->n_gone = n_gone;
}

/* ---- the batch ---- */

static size_t text_bytes(const struct psc_buf *b)
{
    return b->len > 0 ? b->len + 1 : 0;
}

/* Hand out pieces of the batch's memory, the most aligned ones first. */
static void *carve(uint8_t **at, const void *from, size_t bytes)
{
    void *piece = *at;
    if (bytes > 0) {
        memcpy(piece, from, bytes);
    }
    *at += bytes;
    return piece;
}

static const char *carve_text(uint8_t **at, const struct psc_buf *from)
{
    if (from->len == 0) {
        return NULL;
    }
    char *text = carve(at, from->data, from->len);
    *(*at)++ = '\0';
    return text;
}

static struct batch *allocate(const struct batch_table *tags,
                              const struct batch_table *counters,
                              const struct decode_shared *s)
{
    size_t bytes = sizeof(struct batch) +
                   (size_t)tags->n * (TAG_COLUMNS * sizeof(int64_t) + 5) +
                   tags->n_gone * sizeof(uint32_t) +
                   counters->n * (sizeof(double) + sizeof(uint32_t)) +
                   counters->n_gone * sizeof(uint32_t) +
                   text_bytes(&s->drivers) + text_bytes(&s->events) +
                   text_bytes(&s->sources) + text_bytes(&s->aliases);
    struct batch *b = malloc(bytes);
    if (b == NULL) {
        return NULL;
    }
    *b = (struct batch){.bytes = bytes, .tags = *tags, .counters = *counters};
    uint8_t *at = (uint8_t *)(b + 1);
    b->tags.values = carve(&at, s->tag_rows.values,
                           (size_t)tags->n * TAG_COLUMNS * sizeof(int64_t));
    b->counters.reals =
        carve(&at, s->counter_rows.reals, counters->n * sizeof(double));
    b->tags.index = carve(&at, s->tag_rows.index, tags->n * sizeof(uint32_t));
    b->tags.gone =
        carve(&at, s->tag_rows.gone, tags->n_gone * sizeof(uint32_t));
    b->counters.index =
        carve(&at, s->counter_rows.index, counters->n * sizeof(uint32_t));
    b->counters.gone =
        carve(&at, s->counter_rows.gone, counters->n_gone * sizeof(uint32_t));
    b->tags.flags = carve(&at, s->tag_rows.flags, tags->n);
    b->drivers = carve_text(&at, &s->drivers);
    b->events = carve_text(&at, &s->events);
    b->sources = carve_text(&at, &s->sources);
    b->aliases = carve_text(&at, &s->aliases);
    return b;
}

/* Any time of a peer, cut so that sums of a few cannot overflow. */
static int64_t clamp_time(int64_t us)
{
    return us > TIME_MAX_US    ? TIME_MAX_US
           : us < -TIME_MAX_US ? -TIME_MAX_US
                               : us;
}

static void set_times(struct batch *b, const struct decode_facts *f,
                      const struct wire_batch *in)
{
    bool present = memcmp(in->boot_id, f->boot_id, sizeof(in->boot_id)) == 0;
    b->wall_us = clamp_time(in->wall_us);
    b->at_us = present
                   ? clock_offset_at(f->clock, f->now_us, in->boottime_us)
                   : clock_offset_earlier_at(f->clock, f->now_us, in->wall_us);
    /* An earlier boot's start is known as well as its clocks are. */
    int64_t uptime_us = clamp_time(in->boottime_us);
    b->boot_at_us = present ? f->clock->boot_us : b->at_us - uptime_us;
    memcpy(b->boot_id, in->boot_id, sizeof(b->boot_id));
}

int decode_take(struct decode *d, struct decode_shared *s,
                const struct decode_facts *facts, const struct wire_batch *in,
                struct batch **out)
{
    static const struct batch_table none = {.kind = BATCH_NO_TABLE};
    struct naming tag_naming = {&s->tags, sanitise_tag_key};
    struct naming counter_naming = {&s->counters, sanitise_counter_key};
    struct batch_table tags = none, counters = none;

    int rc = name_new(d, s, &d->tags, &tag_naming);
    if (rc == PSC_OK) {
        rc = name_new(d, s, &d->counters, &counter_naming);
    }
    if (rc != PSC_OK) {
        decode_reset(d);
        return rc;
    }
    copy_tags(&d->tags, s, &tags);
    copy_counters(&d->counters, s, &counters);

    struct batch times;
    set_times(&times, facts, in);
    decode_lists(s, in, times.at_us - times.wall_us, facts, d->budget);

    struct batch *b = allocate(&tags, &counters, s);
    if (b == NULL) {
        decode_reset(d);
        return PSC_NOMEM;
    }
    set_times(b, facts, in);
    b->host_id = facts->host_id;
    b->session = facts->session;
    memcpy(b->stream, facts->stream, sizeof(b->stream));
    b->prev_seq = facts->prev_seq;
    b->first_seq = d->first_seq;
    b->seq = in->seq;
    b->missed_ticks = in->missed_ticks;
    if (d->budget != NULL &&
        !budget_take_boot(d->budget, b->boot_id, facts->mono_us)) {
        s->n_over_budget++; /* as if it were of the boot before */
        memcpy(b->boot_id, d->budget->boot_id, sizeof(b->boot_id));
    }
    *out = b;
    return PSC_OK;
}
