/* The snapshot codec's packer: what changed since the last encoding, as
 * columns of bytes.
 *
 * A keyframe is a delta against nothing: it forgets vanished entries and what
 * was sent, then packs as a delta does, perhaps in parts. An entry that is
 * absent counts as all zeros, on both sides, so that one which appears or
 * comes back needs no rule of its own.
 *
 * Happy path: mark() finds which columns of which entries differ, put_entries()
 * turns them into bytes until the budget is used up, commit() takes note of
 * what the peer now knows. Failures (no memory, budget) come before commit().
 */
#include <assert.h>
#include <string.h>

#include "proto/names.h"
#include "proto/pack.h"
#include "proto/packing.h"
#include "proto/table.h"

/* In table_entry.mask: the entry is listed, perhaps with no column at all. */
enum { MASK_LISTED = 0x80 };

/* A dictionary this full is crowded if most of it has vanished. */
enum { CROWDED_PERCENT = 75 };

struct encoding {
    struct table *t;
    struct table_writer *w;
    struct pack pack;
    uint32_t gone; /* the next index that has gap 0, for gone */
};

void table_writer_init(struct table_writer *w, size_t max_bytes)
{
    psc_buf_init(&w->names, max_bytes);
    psc_buf_init(&w->gaps, max_bytes);
    psc_buf_init(&w->gone, max_bytes);
    psc_buf_init(&w->values, max_bytes);
}

void table_writer_fini(struct table_writer *w)
{
    psc_buf_fini(&w->names);
    psc_buf_fini(&w->gaps);
    psc_buf_fini(&w->gone);
    psc_buf_fini(&w->values);
}

static void reset_writer(struct table_writer *w)
{
    psc_buf_reset(&w->names);
    psc_buf_reset(&w->gaps);
    psc_buf_reset(&w->gone);
    psc_buf_reset(&w->values);
}

static int writer_error(const struct table_writer *w)
{
    const struct psc_buf *all[] = {&w->names, &w->gaps, &w->gone, &w->values};

    for (unsigned i = 0; i < 4; i++) {
        int rc = psc_buf_error(all[i]);
        if (rc != PSC_OK) {
            return rc;
        }
    }
    return PSC_OK;
}

static size_t writer_bytes(const struct table_writer *w)
{
    return w->names.len + w->gaps.len + w->gone.len + w->values.len;
}

/* Rebuild the dictionary from the live entries, in their order. */
static int compact(struct table *t)
{
    struct psc_map fresh;
    psc_map_init(&fresh, t->names.max, t->names.arena.max);
    uint32_t to;
    for (uint32_t i = 0; i < t->names.count; i++) {
        if (!t->entries[i].live) {
            continue;
        }
        struct psc_bytes key = psc_map_key(&t->names, i);
        int rc = psc_map_add(&fresh, key.data, key.len, &to);
        if (rc != PSC_OK) {
            psc_map_fini(&fresh);
            return rc;
        }
    }
    to = 0;
    for (uint32_t i = 0; i < t->names.count; i++) {
        if (t->entries[i].live) {
            t->entries[to] = t->entries[i];
            memmove(table_row(t->now, t, to), table_row(t->now, t, i),
                    t->columns * sizeof(*t->now));
            to++;
        }
    }
    psc_map_fini(&t->names);
    t->names = fresh;
    return PSC_OK;
}

/* Begin a keyframe: from here on the peer knows nothing. */
static int restart(struct table *t)
{
    if (t->n_live < t->names.count) {
        int rc = compact(t);
        if (rc != PSC_OK) {
            return rc;
        }
    }
    for (uint32_t i = 0; i < t->names.count; i++) {
        t->entries[i].flags = t->entries[i].put_flags;
        t->entries[i].sent_live = false;
    }
    if (t->names.count > 0) {
        memset(t->sent, 0,
               (size_t)t->names.count * t->columns * sizeof(*t->sent));
    }
    t->n_encoded = 0;
    t->complete = false;
    return PSC_OK;
}

/* Whether a delta can say all that happened. */
static bool delta_suffices(const struct table *t)
{
    if (!t->complete) {
        return false;
    }
    const struct psc_map *m = &t->names;
    bool full = m->count > (uint64_t)m->max * CROWDED_PERCENT / 100 ||
                m->arena.len > m->arena.max / 100 * CROWDED_PERCENT;
    if (full && t->n_live < m->count / 2) {
        return false;
    }
    for (uint32_t i = 0; i < t->n_encoded; i++) {
        const struct table_entry *e = &t->entries[i];
        if (e->live && e->flags != e->put_flags) {
            return false;
        }
    }
    return true;
}

/* Find what entries from @from on have to send. */
static void mark(struct encoding *e, uint32_t from)
{
    struct table *t = e->t;

    for (uint32_t i = from; i < t->names.count; i++) {
        struct table_entry *entry = &t->entries[i];
        entry->mask = 0;
        if (!entry->live) {
            continue;
        }
        unsigned mask =
            pack_differing(t->columns, entry->flags, table_row(t->now, t, i),
                           table_row(t->sent, t, i));
        if (mask == 0 && entry->sent_live) {
            continue;
        }
        entry->mask = (uint8_t)(mask | MASK_LISTED);
        pack_scan(&e->pack, mask);
    }
    pack_begin(&e->pack);
}

static void put_name(struct encoding *e, uint32_t index)
{
    struct psc_bytes key = psc_map_key(&e->t->names, index);
    size_t shared = 0;

    if (index > 0) {
        struct psc_bytes before = psc_map_key(&e->t->names, index - 1);
        while (shared < NAME_SHARED_MAX_BYTES && shared < key.len &&
               shared < before.len && key.data[shared] == before.data[shared]) {
            shared++;
        }
    }
    struct psc_buf *out = &e->w->names;
    psc_buf_u8(out, e->t->entries[index].flags);
    psc_buf_u8(out, (uint8_t)shared);
    psc_buf_string(out, key.data + shared, key.len - shared);
}

static void put_index(struct encoding *e, uint32_t index)
{
    struct table *t = e->t;
    const struct table_entry *entry = &t->entries[index];

    if (index >= t->n_encoded) {
        put_name(e, index);
    }
    if (entry->mask != 0) {
        pack_entry(&e->pack, index, entry->flags, entry->mask & HEAD_COLUMNS,
                   table_row(t->now, t, index), table_row(t->sent, t, index));
    } else if (!entry->live && entry->sent_live) {
        psc_buf_varint(&e->w->gone, index - e->gone);
        e->gone = index + 1;
    }
}

/* Pack entries from @from on while they fit @budget. Returns the index after
 * the last one that did. */
static uint32_t put_entries(struct encoding *e, uint32_t from, size_t budget)
{
    struct table_writer *w = e->w;

    for (uint32_t i = from; i < e->t->names.count; i++) {
        const struct table_entry *entry = &e->t->entries[i];
        if (entry->mask == 0 && entry->live == entry->sent_live &&
            i < e->t->n_encoded) {
            continue; /* nothing to say */
        }
        size_t names = w->names.len, gaps = w->gaps.len;
        size_t gone = w->gone.len, values = w->values.len;
        put_index(e, i);
        if (writer_bytes(w) > budget) {
            w->names.len = names;
            w->gaps.len = gaps;
            w->gone.len = gone;
            w->values.len = values;
            return i;
        }
    }
    return e->t->names.count;
}

/* The peer knows the entries in [@from, @end) as they are now. */
static void commit(struct table *t, uint32_t from, uint32_t end)
{
    size_t row_bytes = t->columns * sizeof(int64_t);

    for (uint32_t i = from; i < end; i++) {
        struct table_entry *e = &t->entries[i];
        if (!e->live) {
            memset(table_row(t->now, t, i), 0, row_bytes);
        }
        if (e->mask != 0 || e->live != e->sent_live) {
            memcpy(table_row(t->sent, t, i), table_row(t->now, t, i),
                   row_bytes);
        }
        e->sent_live = e->live;
    }
    if (t->n_encoded < end) {
        t->n_encoded = end;
    }
}

int table_encode(struct table *t, bool keyframe, uint64_t base_seq,
                 size_t budget, uint32_t *next, struct table_writer *w,
                 struct columns *out)
{
    assert(*next == 0 || (keyframe && *next == t->n_encoded));
    if (!keyframe && !delta_suffices(t)) {
        return PSC_NEED_KEYFRAME;
    }
    if (keyframe && *next == 0) {
        int rc = restart(t);
        if (rc != PSC_OK) {
            return rc;
        }
    }
    reset_writer(w);
    struct encoding e = {.t = t, .w = w};
    pack_init(&e.pack, t->columns, *next, &w->gaps, &w->values);
    mark(&e, *next);
    uint32_t end = put_entries(&e, *next, budget);
    int rc = writer_error(w);
    if (rc != PSC_OK) {
        return rc;
    }
    bool last = end == t->names.count;
    if (!last && (!keyframe || end == *next)) {
        return PSC_LIMIT;
    }
    commit(t, *next, end);
    t->complete = last;
    *next = last ? 0 : end;
    *out = (struct columns){
        .keyframe = keyframe,
        .base_seq = keyframe ? 0 : base_seq,
        .names = psc_buf_bytes(&w->names),
        .gaps = psc_buf_bytes(&w->gaps),
        .gone = psc_buf_bytes(&w->gone),
        .values = psc_buf_bytes(&w->values),
    };
    return PSC_OK;
}
