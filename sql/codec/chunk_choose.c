/* The chunk writer's third step, per block: chooses parameters. Start values
 * have the block's; differences have defaults of the block, made for entries
 * with few of them, or an entry's own where those pay. */
#include "sql/codec/chunk_pack.h"

/* An entry with so many values pays for parameters of its own, whatever the
 * defaults; so these are made for those with fewer. */
enum { FEW_VALUES = 16 };

static void choose_starts(struct chunk_packer *p)
{
    struct tally tallies[SLOTS] = {{.any = 0}};

    for (uint32_t i = 0; i < p->n; i++) {
        const struct packed *e = &p->block[i];
        for (unsigned c = 0; e->present && c < e->n_columns; c++) {
            tally_add(&tallies[e->slots[c]], e->start[c], e->real);
        }
    }
    for (unsigned s = 0; s < SLOTS; s++) {
        p->starts[s] = tally_fit(&tallies[s]).params;
    }
}

static void choose_own(struct packed *e)
{
    for (unsigned c = 0; c < e->n_columns; c++) {
        e->fits[c] = tally_fit(&e->tallies[c]);
    }
    if (e->predicted) {
        /* Only if bytes are better told by outstanding. */
        unsigned last = e->n_columns - 1u;
        struct fit rest = tally_fit(&e->rest);
        e->predicted = rest.bits < e->fits[last].bits;
        if (e->predicted) {
            e->fits[last] = rest;
            e->tallies[last] = e->rest;
        }
    }
}

static void choose_defaults(struct chunk_packer *p)
{
    struct tally tallies[SLOTS] = {{.any = 0}};

    for (uint32_t i = 0; i < p->n; i++) {
        const struct packed *e = &p->block[i];
        if (e->real || e->n_values >= FEW_VALUES) {
            continue;
        }
        for (unsigned c = 0; c < e->n_columns; c++) {
            tally_merge(&tallies[e->slots[c]], &e->tallies[c]);
        }
    }
    for (unsigned s = 0; s < SLOTS; s++) {
        p->defaults[s] = tally_fit(&tallies[s]).params;
    }
}

static void choose_params(const struct chunk_packer *p, struct packed *e)
{
    for (unsigned c = 0; !e->real && c < e->n_columns; c++) {
        struct params shared = p->defaults[e->slots[c]];
        if (e->tallies[c].any != 0 &&
            tally_default_price(&e->tallies[c], shared) <= e->fits[c].bits) {
            e->fits[c].params.mode = PARAMS_DEFAULT;
        }
    }
}

void pack_choose(struct chunk_packer *p)
{
    choose_starts(p);
    for (uint32_t i = 0; i < p->n; i++) {
        if (p->block[i].n_values > 0) {
            choose_own(&p->block[i]);
        }
    }
    choose_defaults(p);
    for (uint32_t i = 0; i < p->n; i++) {
        choose_params(p, &p->block[i]);
    }
}
