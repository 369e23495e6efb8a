/* An encoder and a decoder side by side, for tests of the snapshot codec. Comes
 * after cmocka.h. */
#ifndef PSC_TESTS_TABLE_PAIR_H
#define PSC_TESTS_TABLE_PAIR_H

#include "proto/table.h"
#include "tests/lib/decoded.h"

enum {
    BUDGET = 1 << 20,
    MAX_ENTRIES = 512,
    KEY_BYTES = MAX_ENTRIES * TABLE_KEY_MAX_BYTES,
};

/* An agent's table and the collector's one of it. */
struct pair {
    struct table from;
    struct decoded to;
    struct table_writer w;
    struct columns last;
};

static inline void start(struct pair *p, uint32_t columns)
{
    table_init(&p->from, columns, MAX_ENTRIES, KEY_BYTES);
    decoded_init(&p->to, columns, MAX_ENTRIES, KEY_BYTES);
    table_writer_init(&p->w, BUDGET);
}

static inline void stop(struct pair *p)
{
    table_fini(&p->from);
    decoded_fini(&p->to);
    table_writer_fini(&p->w);
}

static inline size_t packed_bytes(const struct columns *c)
{
    return c->names.len + c->gaps.len + c->gone.len + c->values.len;
}

/* Both sides have the same dictionary, flags, liveness and values. */
static inline void assert_same(const struct table *a, const struct decoded *b)
{
    assert_int_equal(a->names.count, b->grid.n);
    assert_int_equal(a->n_live, b->grid.n_live);
    uint32_t n_live = 0;
    for (uint32_t i = 0; i < a->names.count; i++) {
        struct psc_bytes x = psc_map_key(&a->names, i);
        struct psc_bytes y = psc_map_key(&b->names, i);
        assert_int_equal(x.len, y.len);
        assert_memory_equal(x.data, y.data, x.len);
        assert_int_equal(a->entries[i].live, b->grid.entries[i].live);
        assert_int_equal(a->entries[i].flags, b->grid.entries[i].flags);
        assert_memory_equal(table_values(a, i), grid_values(&b->grid, i),
                            a->columns * sizeof(int64_t));
        n_live += a->entries[i].live;
    }
    assert_int_equal(n_live, b->grid.n_live);
}

/* Encode all parts and apply them. Returns the number of parts, or minus the
 * encoder's error. */
static inline int send(struct pair *p, bool keyframe, size_t budget)
{
    struct psc_error err = {.code = 0};
    uint32_t next = 0;
    int parts = 0;
    do {
        int rc =
            table_encode(&p->from, keyframe, 7, budget, &next, &p->w, &p->last);
        if (rc != PSC_OK) {
            return -rc;
        }
        assert_true(packed_bytes(&p->last) <= budget);
        assert_int_equal(p->last.keyframe, keyframe);
        assert_int_equal(p->last.base_seq, keyframe ? 0 : 7);
        rc = decoded_apply(&p->to, &p->last, parts == 0, &err);
        if (rc != PSC_OK) {
            print_error("%s\n", err.msg);
        }
        assert_int_equal(rc, PSC_OK);
        parts++;
    } while (next != 0);
    assert_same(&p->from, &p->to);
    return parts;
}

#endif
