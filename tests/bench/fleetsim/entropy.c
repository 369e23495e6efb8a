/* Counting classes of differences, and what they are worth. */
#include "tests/bench/fleetsim/entropy.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Class 0: no difference; 1 to 63 rises and 64 to 127 falls, by bits. */
enum { CLASSES = 128, COLUMNS = TABLE_COLUMNS_MAX };

struct census {
    uint32_t classes[COLUMNS][CLASSES];
    uint64_t below[COLUMNS]; /* bits below the leading one */
    uint64_t cells, changed;
};

static void count_difference(struct census *c, unsigned column, int64_t diff)
{
    uint64_t size = diff < 0 ? 0 - (uint64_t)diff : (uint64_t)diff;
    unsigned bits = size == 0 ? 0 : 64 - (unsigned)__builtin_clzll(size);
    c->classes[column][diff < 0 ? bits + 63 : bits]++;
    c->below[column] += bits > 0 ? bits - 1 : 0;
}

static double part(double n, double of)
{
    return n > 0 && of > 0 ? -n * log2(n / of) : 0;
}

/* Bits of one column's differences, all together. */
static double column_bits(const struct census *c, unsigned column)
{
    double bits = (double)c->below[column];
    for (unsigned i = 0; i < CLASSES; i++) {
        bits += part(c->classes[column][i], (double)c->changed);
    }
    return bits;
}

static double change_bits(const struct census *c)
{
    double cells = (double)c->cells, changed = (double)c->changed;
    return part(changed, cells) + part(cells - changed, cells);
}

/* One tag of one host through all snapshots. */
static void follow(const struct truth_host *h, uint32_t slot,
                   uint32_t snapshots, struct census *c)
{
    struct truth_boot boot;
    int64_t before[COLUMNS], now[COLUMNS];
    uint32_t word = truth_word(h, slot);
    truth_boot_at(h, 0, &boot);
    truth_tag_at(h, &boot, word, 0, before);
    for (uint64_t k = 1; k < snapshots; k++) {
        c->cells++;
        if (!truth_tag_changes(h, word, k)) {
            continue;
        }
        truth_tag_change(h, &boot, word, k, now);
        if (memcmp(before, now, sizeof(now)) == 0) {
            continue;
        }
        c->changed++;
        for (unsigned column = 0; column < COLUMNS; column++) {
            if (column == COL_OUTSTANDING && h->windows) {
                continue; /* allocations less frees */
            }
            count_difference(c, column, now[column] - before[column]);
        }
        memcpy(before, now, sizeof(before));
    }
}

static void add(struct census *all, const struct census *c)
{
    for (unsigned column = 0; column < COLUMNS; column++) {
        for (unsigned i = 0; i < CLASSES; i++) {
            all->classes[column][i] += c->classes[column][i];
        }
        all->below[column] += c->below[column];
    }
    all->cells += c->cells;
    all->changed += c->changed;
}

static void conclude(const struct census *all, struct entropy *out)
{
    double cells = (double)all->cells, changed = (double)all->changed;
    out->cells = all->cells;
    out->changed = changed / cells;
    out->change_fleet = change_bits(all) / cells;
    out->change_tag /= cells;
    out->cell_fleet = out->change_fleet;
    out->cell_tag = out->change_tag;
    for (unsigned column = 0; column < COLUMNS; column++) {
        out->column_fleet[column] = column_bits(all, column) / changed;
        out->cell_fleet += out->column_fleet[column] * out->changed;
        out->column_tag[column] /= changed;
        out->cell_tag += out->column_tag[column] * out->changed;
    }
}

int entropy_measure(const struct truth *t, uint32_t hosts, uint32_t snapshots,
                    struct entropy *out)
{
    struct truth calm = *t; /* of one uptime */
    calm.s.reboot_every = 0;
    struct census *all = calloc(1, sizeof(*all));
    struct census *one = calloc(1, sizeof(*one));
    *out = (struct entropy){.cells = 0};
    for (uint32_t host = 0; all != NULL && one != NULL && host < hosts;
         host++) {
        struct truth_host h;
        truth_host_init(&h, &calm, host);
        for (uint32_t slot = 1; slot < t->s.n_tags; slot++) {
            memset(one, 0, sizeof(*one));
            follow(&h, slot, snapshots, one);
            out->change_tag += change_bits(one);
            for (unsigned c = 0; c < COLUMNS; c++) {
                out->column_tag[c] += column_bits(one, c);
            }
            add(all, one);
        }
    }
    bool ok = all != NULL && one != NULL;
    if (ok) {
        conclude(all, out);
    }
    free(all);
    free(one);
    return ok ? PSC_OK : PSC_NOMEM;
}
