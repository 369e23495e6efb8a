/* The snapshot codec's table: its dictionary, and how the agent fills it.
 *
 * Happy path of a tick: table_begin() marks all entries absent, each
 * table_put() finds its entry right after the one put before it (the sources
 * keep their order from tick to tick, so the hash is rarely asked), and
 * table_hold() brings back what a skipped source had put last time.
 *
 * Failures: no memory or no room for a new entry; that put is lost and
 * counted, all others stand. */
#include "proto/table.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/packing.h"

enum { FIRST_ENTRIES = 64 };

static const char *const pool_names[] = {
    [POOL_PAGED] = "paged", [POOL_NONPAGED] = "nonpaged",
    [POOL_SLAB] = "slab",   [POOL_VMALLOC] = "vmalloc",
    [POOL_ALLOC] = "alloc", [POOL_PAGES] = "pages",
};
enum { N_POOLS = sizeof(pool_names) / sizeof(pool_names[0]) };

const char *pool_name(enum pool pool)
{
    if ((unsigned)pool >= N_POOLS || pool_names[pool] == NULL) {
        return "?";
    }
    return pool_names[pool];
}

bool pool_parse(const char *name, enum pool *pool)
{
    for (unsigned i = POOL_PAGED; i < N_POOLS; i++) {
        if (strcmp(name, pool_names[i]) == 0) {
            *pool = (enum pool)i;
            return true;
        }
    }
    return false;
}

void table_init(struct table *t, uint32_t columns, uint32_t max_entries,
                size_t max_key_bytes)
{
    assert(columns == 1 || columns == TABLE_COLUMNS_MAX);
    *t = (struct table){.columns = columns};
    psc_map_init(&t->names, max_entries, max_key_bytes);
}

void table_fini(struct table *t)
{
    uint32_t columns = t->columns;
    uint32_t max_entries = t->names.max;
    size_t max_key_bytes = t->names.arena.max;

    psc_map_fini(&t->names);
    free(t->entries);
    free(t->now);
    free(t->sent);
    table_init(t, columns, max_entries, max_key_bytes);
}

/* Resize *@array; it stays as it was on failure. */
static int resize(void **array, size_t count, size_t size)
{
    void *grown = realloc(*array, count * size);
    if (grown == NULL) {
        return PSC_NOMEM;
    }
    *array = grown;
    return PSC_OK;
}

/* Make room for one more entry. Returns 0 or PSC_NOMEM, the table as it was.
 * At the table's maximum there is nothing to grow and adding tells so. */
static int grow(struct table *t)
{
    if (t->names.count < t->cap || t->cap >= t->names.max) {
        return PSC_OK;
    }
    uint32_t cap = t->cap > 0 ? t->cap * 2 : FIRST_ENTRIES;
    if (cap > t->names.max) {
        cap = t->names.max;
    }
    size_t row_bytes = t->columns * sizeof(int64_t);
    void *entries = t->entries;
    void *now = t->now;
    void *sent = t->sent;
    int rc = resize(&entries, cap, sizeof(*t->entries));
    t->entries = entries;
    if (rc == PSC_OK) {
        rc = resize(&now, cap, row_bytes);
        t->now = now;
    }
    if (rc == PSC_OK) {
        rc = resize(&sent, cap, row_bytes);
        t->sent = sent;
    }
    if (rc == PSC_OK) {
        t->cap = cap;
    }
    return rc;
}

/* Set up the entry that has just been added to the dictionary. */
static void init_entry(struct table *t, uint32_t index, uint8_t flags)
{
    size_t row_bytes = t->columns * sizeof(int64_t);

    t->entries[index] =
        (struct table_entry){.flags = flags, .put_flags = flags};
    memset(table_row(t->now, t, index), 0, row_bytes);
    memset(table_row(t->sent, t, index), 0, row_bytes);
}

void table_begin(struct table *t)
{
    t->generation++;
    t->expected = 0;
    t->n_live = 0;
    for (uint32_t i = 0; i < t->names.count; i++) {
        t->entries[i].live = false;
    }
}

/* Index of a key: the expected one if that is it, else by hash, else new. */
static int find_or_add(struct table *t, const void *key, size_t len,
                       uint8_t flags, uint32_t *index)
{
    if (t->expected < t->names.count) {
        struct psc_bytes k = psc_map_key(&t->names, t->expected);
        if (k.len == len && memcmp(k.data, key, len) == 0) {
            *index = t->expected;
            return PSC_OK;
        }
    }
    if (len == 0 || len > TABLE_KEY_MAX_BYTES) {
        return PSC_LIMIT;
    }
    *index = psc_map_find(&t->names, key, len);
    if (*index != PSC_MAP_NONE) {
        return PSC_OK;
    }
    int rc = grow(t);
    if (rc == PSC_OK) {
        rc = psc_map_add(&t->names, key, len, index);
    }
    if (rc == PSC_OK) {
        init_entry(t, *index, flags);
    }
    return rc;
}

static int64_t sum(uint8_t flags, int64_t a, int64_t b)
{
    if ((flags & ENTRY_REAL) == 0) {
        return (int64_t)((uint64_t)a + (uint64_t)b);
    }
    double x, y;
    memcpy(&x, &a, sizeof(x));
    memcpy(&y, &b, sizeof(y));
    x += y;
    memcpy(&a, &x, sizeof(a));
    return a;
}

/* Make @row the values of an entry with @flags, or add them to it. */
static void fill(const struct table *t, int64_t *row, uint8_t flags, bool add,
                 const int64_t *values)
{
    unsigned has = entry_has(t->columns, flags);

    for (unsigned c = 0; c < t->columns; c++) {
        int64_t v = (has >> c & 1) != 0 ? values[c] : 0;
        if (add && v != 0) {
            v = sum(flags, row[c], v);
        } else if (add && (has >> c & 1) != 0) {
            v = row[c];
        }
        row[c] = v;
    }
    if (entry_derives(t->columns, flags)) {
        entry_derive(row);
    }
}

int table_put(struct table *t, uint8_t owner, const void *key, size_t key_len,
              uint8_t flags, const int64_t *values)
{
    uint32_t index;
    int rc = find_or_add(t, key, key_len, flags, &index);
    if (rc != PSC_OK) {
        t->refused++;
        return rc;
    }
    struct table_entry *e = &t->entries[index];
    bool again = e->live;
    e->put_flags = again ? e->put_flags & flags : flags;
    if (index >= t->n_encoded) {
        e->flags = e->put_flags;
    }
    if (!again) {
        e->live = true;
        e->generation = t->generation;
        t->n_live++;
    }
    e->owner = owner;
    fill(t, table_row(t->now, t, index), e->put_flags, again, values);
    t->expected = index + 1;
    return PSC_OK;
}

void table_hold(struct table *t, uint8_t owner)
{
    for (uint32_t i = 0; i < t->names.count; i++) {
        struct table_entry *e = &t->entries[i];
        if (e->owner == owner && !e->live &&
            e->generation == t->generation - 1) {
            e->live = true;
            e->generation = t->generation;
            t->n_live++;
        }
    }
}
