/* Fuzzes table_apply() with a sequence of parts. The first byte picks one or
 * four columns; then each part is a byte (bit 0 keyframe, bit 1 first part)
 * and its names, gaps, gone and values as length-prefixed strings.
 *
 * Whatever comes in, the table stays within its limits and consistent with
 * itself, and what was accepted can be encoded and decoded again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_ENTRIES = 100, KEY_BYTES = 4096, BUDGET = 1 << 20 };

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void check(const struct table *t)
{
    uint32_t n_live = 0;

    require(t->names.count <= MAX_ENTRIES && t->names.count <= t->cap);
    require(t->names.arena.len <= KEY_BYTES);
    for (uint32_t i = 0; i < t->names.count; i++) {
        n_live += t->entries[i].live;
        const int64_t *row = table_values(t, i);
        for (uint32_t c = 0; !t->entries[i].live && c < t->columns; c++) {
            require(row[c] == 0);
        }
    }
    for (uint32_t i = 0; i < t->n_changed; i++) {
        require(t->changed[i] < t->names.count);
        require(i == 0 || t->changed[i] > t->changed[i - 1]);
        require(t->entries[t->changed[i]].live);
    }
    for (uint32_t i = 0; i < t->n_gone; i++) {
        require(t->gone[i] < t->names.count);
        require(!t->entries[t->gone[i]].live);
    }
    require(t->n_live == n_live);
}

/* Encode the live entries of @t and decode them: nothing may differ. */
static void check_again(const struct table *t)
{
    struct table from, to;
    struct table_writer w;
    table_init(&from, t->columns, MAX_ENTRIES, KEY_BYTES, true);
    table_init(&to, t->columns, MAX_ENTRIES, KEY_BYTES, false);
    table_writer_init(&w, BUDGET);
    table_begin(&from);
    for (uint32_t i = 0; i < t->names.count; i++) {
        struct psc_bytes key = psc_map_key(&t->names, i);
        if (t->entries[i].live) {
            require(table_put(&from, 0, key.data, key.len, t->entries[i].flags,
                              table_values(t, i)) == PSC_OK);
        }
    }
    struct columns columns;
    uint32_t next = 0;
    require(table_encode(&from, true, 0, BUDGET, &next, &w, &columns) ==
            PSC_OK);
    require(table_apply(&to, &columns, true, NULL) == PSC_OK);
    require(to.n_live == t->n_live);
    for (uint32_t i = 0; i < to.names.count; i++) {
        struct psc_bytes key = psc_map_key(&to.names, i);
        uint32_t was = psc_map_find(&t->names, key.data, key.len);
        require(was != PSC_MAP_NONE);
        require(memcmp(table_values(t, was), table_values(&to, i),
                       t->columns * sizeof(int64_t)) == 0);
    }
    table_fini(&from);
    table_fini(&to);
    table_writer_fini(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct psc_reader r;
    psc_reader_init(&r, (struct psc_bytes){data, size});
    uint32_t columns = (psc_read_u8(&r) & 1) != 0 ? TABLE_COLUMNS_MAX : 1;
    struct table t;
    table_init(&t, columns, MAX_ENTRIES, KEY_BYTES, false);
    while (!r.failed && psc_reader_left(&r) > 0) {
        uint8_t how = psc_read_u8(&r);
        struct columns in = {.keyframe = (how & 1) != 0};
        in.names = psc_read_string(&r);
        in.gaps = psc_read_string(&r);
        in.gone = psc_read_string(&r);
        in.values = psc_read_string(&r);
        struct psc_error err;
        int rc = table_apply(&t, &in, (how & 2) != 0, &err);
        require(t.complete == (rc == PSC_OK));
        check(&t);
    }
    if (t.complete) {
        check_again(&t);
    }
    table_fini(&t);
    return 0;
}
