/* Rows of the fresh tier, from anywhere. The first byte picks one or four
 * columns; then each row is a byte (bit 0 keyframe) and a length-prefixed
 * string. Whatever comes in, the grid stays within its limits and consistent
 * with itself, and what was read, written as a keyframe, reads the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/stored.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_ENTRIES = 100, ROW_BYTES = 1 << 20 };

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void check(const struct grid *g, const struct grid_changes *changes)
{
    uint32_t n_live = 0;
    require(g->n <= MAX_ENTRIES && g->n <= g->cap);
    for (uint32_t i = 0; i < g->n; i++) {
        const int64_t *row = grid_values(g, i);
        n_live += g->entries[i].live;
        require(!g->entries[i].gone);
        require(g->entries[i].ref <= INT32_MAX);
        for (uint32_t c = 0; !g->entries[i].live && c < g->columns; c++) {
            require(row[c] == 0);
        }
    }
    require(g->n_live == n_live);
    for (uint32_t i = 0; i < changes->n_changed; i++) {
        require(changes->changed[i] < g->n);
        require(i == 0 || changes->changed[i] > changes->changed[i - 1]);
    }
    for (uint32_t i = 0; i < changes->n_gone; i++) {
        require(changes->gone[i] < g->n);
        require(i == 0 || changes->gone[i] > changes->gone[i - 1]);
    }
}

/* A column that an entry has not is 0, so all of a row is there again. */
static void check_again(const struct grid *g)
{
    struct grid again;
    struct grid_changes changes;
    struct psc_buf gaps, values, row;
    grid_init(&again, g->columns, MAX_ENTRIES, NULL);
    grid_changes_init(&changes, NULL);
    psc_buf_init(&gaps, ROW_BYTES);
    psc_buf_init(&values, ROW_BYTES);
    psc_buf_init(&row, ROW_BYTES);
    grid_pack(g, NULL, &gaps, &values);
    const struct grid_part part = {
        .gaps = psc_buf_bytes(&gaps),
        .values = psc_buf_bytes(&values),
    };
    stored_begin(&row, g->n);
    for (uint32_t i = 0; i < g->n; i++) {
        stored_name(&row, g->entries[i].flags, g->entries[i].ref);
    }
    stored_numbers(&row, &part);
    require(psc_buf_error(&row) == PSC_OK);
    require(stored_apply(&again, psc_buf_bytes(&row), true, &changes, NULL) ==
            PSC_OK);
    require(again.n == g->n && again.n_live == g->n_live);
    require(changes.n_changed == g->n_live);
    for (uint32_t i = 0; i < g->n; i++) {
        require(again.entries[i].live == g->entries[i].live);
        require(again.entries[i].ref == g->entries[i].ref);
        require(memcmp(grid_values(&again, i), grid_values(g, i),
                       g->columns * sizeof(int64_t)) == 0);
    }
    psc_buf_fini(&gaps);
    psc_buf_fini(&values);
    psc_buf_fini(&row);
    grid_changes_fini(&changes);
    grid_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct psc_reader r;
    psc_reader_init(&r, (struct psc_bytes){data, size});
    uint32_t columns = (psc_read_u8(&r) & 1) != 0 ? TABLE_COLUMNS_MAX : 1;
    struct grid g;
    struct grid_changes changes;
    grid_init(&g, columns, MAX_ENTRIES, NULL);
    grid_changes_init(&changes, NULL);
    while (!r.failed && psc_reader_left(&r) > 0) {
        bool keyframe = (psc_read_u8(&r) & 1) != 0;
        struct psc_bytes row = psc_read_string(&r);
        struct psc_error err;
        int rc = stored_apply(&g, row, keyframe, &changes, &err);
        require(g.complete == (rc == PSC_OK));
        require(rc == PSC_OK || changes.n_changed + changes.n_gone == 0);
        check(&g, &changes);
    }
    if (g.complete) {
        check_again(&g);
    }
    grid_changes_fini(&changes);
    grid_fini(&g);
    return 0;
}
