/* Fuzzes names and grids with a sequence of parts. The first byte picks one or
 * four columns; then each part is a byte (bit 0 keyframe, bit 1 first part)
 * and its names, gaps, gone and values as length-prefixed strings.
 *
 * Whatever comes in, the table stays within its limits and consistent with
 * itself, and what was accepted can be encoded and decoded again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/table.h"
#include "tests/lib/decoded.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_ENTRIES = 100, KEY_BYTES = 4096, BUDGET = 1 << 20 };

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void check(const struct decoded *d)
{
    const struct grid *g = &d->grid;
    const struct grid_changes *changes = &d->changes;
    uint32_t n_live = 0;

    require(g->n <= MAX_ENTRIES && g->n <= g->cap);
    for (uint32_t i = 0; i < g->n; i++) {
        n_live += g->entries[i].live;
        require(!g->entries[i].gone);
        const int64_t *row = grid_values(g, i);
        for (uint32_t c = 0; !g->entries[i].live && c < g->columns; c++) {
            require(row[c] == 0);
        }
    }
    for (uint32_t i = 0; i < changes->n_changed; i++) {
        require(changes->changed[i] < g->n);
        require(i == 0 || changes->changed[i] > changes->changed[i - 1]);
        require(g->entries[changes->changed[i]].live);
    }
    for (uint32_t i = 0; i < changes->n_gone; i++) {
        require(changes->gone[i] < g->n);
        require(!g->entries[changes->gone[i]].live);
    }
    require(g->n_live == n_live);
}

/* Encode the live entries of @d and decode them: nothing may differ. */
static void check_again(const struct decoded *d)
{
    struct table from;
    struct decoded to;
    struct table_writer w;
    uint32_t columns = d->grid.columns;
    table_init(&from, columns, MAX_ENTRIES, KEY_BYTES);
    decoded_init(&to, columns, MAX_ENTRIES, KEY_BYTES);
    table_writer_init(&w, BUDGET);
    table_begin(&from);
    for (uint32_t i = 0; i < d->grid.n; i++) {
        struct psc_bytes key = psc_map_key(&d->names, i);
        const struct grid_entry *e = &d->grid.entries[i];
        if (e->live) {
            require(table_put(&from, 0, key.data, key.len, e->flags,
                              grid_values(&d->grid, i)) == PSC_OK);
        }
    }
    struct columns packed;
    uint32_t next = 0;
    require(table_encode(&from, true, 0, BUDGET, &next, &w, &packed) == PSC_OK);
    require(decoded_apply(&to, &packed, true, NULL) == PSC_OK);
    require(to.grid.n_live == d->grid.n_live);
    for (uint32_t i = 0; i < to.grid.n; i++) {
        struct psc_bytes key = psc_map_key(&to.names, i);
        uint32_t was = psc_map_find(&d->names, key.data, key.len);
        require(was != PSC_MAP_NONE);
        require(memcmp(grid_values(&d->grid, was), grid_values(&to.grid, i),
                       columns * sizeof(int64_t)) == 0);
    }
    table_fini(&from);
    decoded_fini(&to);
    table_writer_fini(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct psc_reader r;
    psc_reader_init(&r, (struct psc_bytes){data, size});
    uint32_t columns = (psc_read_u8(&r) & 1) != 0 ? TABLE_COLUMNS_MAX : 1;
    struct decoded d;
    decoded_init(&d, columns, MAX_ENTRIES, KEY_BYTES);
    while (!r.failed && psc_reader_left(&r) > 0) {
        uint8_t how = psc_read_u8(&r);
        struct columns in = {.keyframe = (how & 1) != 0};
        in.names = psc_read_string(&r);
        in.gaps = psc_read_string(&r);
        in.gone = psc_read_string(&r);
        in.values = psc_read_string(&r);
        struct psc_error err;
        int rc = decoded_apply(&d, &in, (how & 2) != 0, &err);
        require(d.grid.complete == (rc == PSC_OK));
        check(&d);
    }
    if (d.grid.complete) {
        check_again(&d);
    }
    decoded_fini(&d);
    return 0;
}
