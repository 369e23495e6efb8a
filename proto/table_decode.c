/* The snapshot codec's reader, for bytes from anywhere.
 *
 * Nothing in the packed form claims a count: every name, entry and value is
 * paid for by bytes that are really there, and the table's own maximum bounds
 * the rest. Happy path: names extend the dictionary, gone empties entries,
 * gaps and values change them. On the first thing that is wrong the table is
 * incomplete and waits for a keyframe. */
#include <assert.h>
#include <string.h>

#include "proto/table.h"
#include "proto/table_private.h"

static int malformed(struct psc_error *err, const char *what)
{
    return psc_error_set(err, PSC_FORMAT, "table: %s", what);
}

/* Most varints are one byte. */
static inline uint64_t read_varint(struct psc_reader *r)
{
    if (r->at < r->end && *r->at < 0x80) {
        return *r->at++;
    }
    return psc_read_varint(r);
}

static int apply_name(struct table *t, struct psc_reader *r,
                      struct psc_error *err)
{
    uint8_t flags = psc_read_u8(r);
    size_t shared = psc_read_u8(r);
    struct psc_bytes rest = psc_read_string(r);
    struct psc_bytes before = {NULL, 0};
    uint32_t count = t->names.count;
    if (count > 0) {
        before = psc_map_key(&t->names, count - 1);
    }
    size_t len = shared + rest.len;
    if (r->failed || shared > SHARED_MAX_BYTES || shared > before.len ||
        len == 0 || len > TABLE_KEY_MAX_BYTES) {
        return malformed(err, "bad name");
    }
    uint8_t key[TABLE_KEY_MAX_BYTES];
    if (shared > 0) {
        memcpy(key, before.data, shared);
    }
    if (rest.len > 0) {
        memcpy(key + shared, rest.data, rest.len);
    }
    int rc = table_grow(t);
    uint32_t index = 0;
    if (rc == PSC_OK) {
        rc = psc_map_add(&t->names, key, len, &index);
    }
    if (rc != PSC_OK) {
        return psc_error_set(err, rc, "table: no room for a name after %u: %s",
                             (unsigned)count, psc_strerror(rc));
    }
    if (index < count) {
        return malformed(err, "a name came twice");
    }
    table_entry_init(t, index, flags);
    return PSC_OK;
}

static int apply_names(struct table *t, struct psc_bytes names,
                       struct psc_error *err)
{
    struct psc_reader r;
    psc_reader_init(&r, names);
    while (psc_reader_left(&r) > 0) {
        int rc = apply_name(t, &r, err);
        if (rc != PSC_OK) {
            return rc;
        }
    }
    return PSC_OK;
}

static int apply_gone(struct table *t, struct psc_bytes gone,
                      struct psc_error *err)
{
    struct psc_reader r;
    psc_reader_init(&r, gone);
    uint32_t expected = 0;
    while (psc_reader_left(&r) > 0) {
        uint64_t gap = read_varint(&r);
        if (r.failed || gap >= t->names.count - expected) {
            return malformed(err, "bad gap to a vanished entry");
        }
        uint32_t index = expected + (uint32_t)gap;
        struct table_entry *e = &t->entries[index];
        if (!e->live) {
            return malformed(err, "an absent entry vanished");
        }
        e->live = false;
        e->generation = t->generation;
        memset(table_row(t->now, t, index), 0, t->columns * sizeof(*t->now));
        t->n_live--;
        t->gone[t->n_gone++] = index;
        expected = index + 1;
    }
    return PSC_OK;
}

static uint64_t unzigzag(uint64_t v)
{
    return v >> 1 ^ (0 - (v & 1));
}

static uint64_t read_amount(struct psc_reader *r)
{
    uint64_t v = read_varint(r);

    if (v == AMOUNT_ESCAPE) {
        return unzigzag(read_varint(r));
    }
    return unzigzag(v >> 1) * ((v & 1) != 0 ? PAGE_BYTES : 1);
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
static void apply_values(struct table *t, uint32_t index, unsigned mask,
                         struct psc_reader *r)
{
    uint8_t flags = t->entries[index].flags;
    int64_t *row = table_row(t->now, t, index);

    for (unsigned c = 0; c < t->columns; c++) {
        if ((mask >> c & 1) == 0) {
            continue;
        }
        uint64_t v = (uint64_t)row[c];
        if ((flags & ENTRY_REAL) != 0) {
            v ^= read_real(r);
        } else if (table_is_amount(t, c)) {
            v += read_amount(r);
        } else {
            v += unzigzag(read_varint(r));
        }
        row[c] = (int64_t)v;
    }
    if (table_derives(t, flags)) {
        table_derive(row);
    }
}

static int apply_entry(struct table *t, uint32_t index, unsigned mask,
                       struct psc_reader *values, struct psc_error *err)
{
    struct table_entry *e = &t->entries[index];

    if ((mask & ~table_sends(t, e->flags)) != 0) {
        return malformed(err, "a column that the entry has not");
    }
    if (!e->live && e->generation == t->generation) {
        return malformed(err, "an entry vanished and changed");
    }
    t->n_live += e->live ? 0 : 1;
    e->live = true;
    e->generation = t->generation;
    apply_values(t, index, mask, values);
    if (values->failed) {
        return malformed(err, "bad values");
    }
    t->changed[t->n_changed++] = index;
    return PSC_OK;
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

/* @expected: the index that has gap 0. */
static int apply_entries(struct table *t, const struct columns *in,
                         uint32_t expected, struct psc_error *err)
{
    struct psc_reader gaps, values;
    psc_reader_init(&gaps, in->gaps);
    psc_reader_init(&values, in->values);
    struct masks masks = {.bits = 0};
    if (in->gaps.len > 0) {
        unsigned head = psc_read_u8(&gaps);
        if (head > (HEAD_UNIFORM | HEAD_COLUMNS)) {
            return malformed(err, "bad head of gaps");
        }
        spread(&masks, head);
    }
    while (psc_reader_left(&gaps) > 0) {
        uint64_t v = read_varint(&gaps);
        uint64_t gap = v >> masks.bits;
        if (gaps.failed || gap >= t->names.count - expected) {
            return malformed(err, "bad gap");
        }
        uint32_t index = expected + (uint32_t)gap;
        unsigned mask = masks.of[v & ((1u << masks.bits) - 1)];
        int rc = apply_entry(t, index, mask, &values, err);
        if (rc != PSC_OK) {
            return rc;
        }
        expected = index + 1;
    }
    if (psc_reader_left(&values) > 0) {
        return malformed(err, "values left over");
    }
    return PSC_OK;
}

int table_apply(struct table *t, const struct columns *in, bool first,
                struct psc_error *err)
{
    assert(!t->encoder);
    t->n_changed = 0;
    t->n_gone = 0;
    if (in->keyframe && first) {
        psc_map_clear(&t->names);
        t->n_live = 0;
    } else if (!t->complete) {
        return psc_error_set(err, PSC_NEED_KEYFRAME,
                             "table: a delta without a keyframe before it");
    }
    t->complete = false;
    t->generation++;
    uint32_t known = in->keyframe ? t->names.count : 0;
    int rc = apply_names(t, in->names, err);
    if (rc == PSC_OK && in->keyframe && in->gone.len > 0) {
        rc = malformed(err, "a keyframe in which something vanished");
    }
    if (rc == PSC_OK) {
        rc = apply_gone(t, in->gone, err);
    }
    if (rc == PSC_OK) {
        rc = apply_entries(t, in, known, err);
    }
    if (rc != PSC_OK) {
        t->n_changed = 0;
        t->n_gone = 0;
        return rc;
    }
    t->complete = true;
    return PSC_OK;
}
