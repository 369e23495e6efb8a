/* The values of tags and counters.
 *
 * A process of a level (block of 2^shift snapshots) and an amplitude A stands
 * at the start of block b at A * (b + u(b)), u a random number below 1, and
 * goes straight from there to the next block's start. So it never falls, its
 * slope is A per block and varies between 0 and 2 A, and two of them with the
 * same amplitude differ by less than A: sums of them are allocations and frees,
 * and their difference wanders. */
#include <string.h>

#include "tests/bench/fleetsim/truth_private.h"

enum { COUNTER_CHANGE_BITS = 1 /* changes in every second snapshot */ };

#define HOUR_US        (3600 * 1000000LL)
#define COUNTER_PERIOD 4u /* of their sorts */

/* The last change at or before @k; the first snapshot of a boot is one. */
static uint64_t last_change(const struct truth_host *h,
                            const struct truth_boot *boot, uint32_t word,
                            uint64_t k)
{
    const struct truth_pace *pace = &h->truth->paces[word];
    uint64_t row = hash_row(h->key, DRAW_CHANGE, word);
    unsigned shift = pace->shift;
    uint64_t at = k;
    if (shift > 0) {
        uint64_t mask = (UINT64_C(1) << shift) - 1;
        uint64_t block = k >> shift;
        at = block << shift | (hash_at(row, block) & mask);
        if (at > k && block == 0) {
            return boot->first;
        }
        if (at > k) {
            at = (block - 1) << shift | (hash_at(row, block - 1) & mask);
        }
        return at > boot->first ? at : boot->first;
    }
    while (at > boot->first && !truth_changes(pace, row, at)) {
        at--;
    }
    return at;
}

/* --- values --- */

/* Two processes of one level at @x, from one row of random numbers. */
struct pair {
    int64_t up, down;
};

static inline struct pair pair_at(uint64_t row, unsigned shift,
                                  int64_t amplitude, uint64_t x)
{
    uint64_t block = x >> shift;
    int64_t base = amplitude * (int64_t)block;
    uint64_t u = hash_at(row, block);
    struct pair p = {base + (amplitude * (int64_t)(u & 0xffff) >> 16),
                     base + (amplitude * (int64_t)(u >> 48) >> 16)};
    int64_t r = (int64_t)(x & ((UINT64_C(1) << shift) - 1));
    if (r != 0) {
        uint64_t v = hash_at(row, block + 1);
        int64_t next = base + amplitude;
        int64_t up = next + (amplitude * (int64_t)(v & 0xffff) >> 16);
        int64_t down = next + (amplitude * (int64_t)(v >> 48) >> 16);
        p.up += (up - p.up) * r >> shift;
        p.down += (down - p.down) * r >> shift;
    }
    return p;
}

static int64_t leaked(const struct truth_host *h, const struct truth_boot *boot,
                      uint32_t slot, uint64_t k)
{
    if (slot == 0 || slot > h->truth->s.n_leaks ||
        (h->leaks >> (slot - 1) & 1) == 0) {
        return 0;
    }
    double hours = (double)(k - boot->first) * (double)h->truth->s.interval_us /
                   (double)HOUR_US;
    return (int64_t)((double)h->truth->s.leaks[slot - 1].bytes_per_hour *
                     hours / h->truth->kinds[2 * slot].size);
}

static int64_t slab_bytes(int64_t objects, uint32_t size)
{
    int64_t slab = size > 2048 ? 32768 : size > 512 ? 8192 : 4096;
    return (objects / (slab / size) + 1) * slab;
}

void truth_tag_change(const struct truth_host *h, const struct truth_boot *boot,
                      uint32_t word, uint64_t k, int64_t out[TABLE_COLUMNS_MAX])
{
    if (word == 0) {
        int64_t n = (int64_t)k + 1;
        int64_t values[] = {h->windows ? 2 * n : 0, h->windows ? n : 0, n,
                            n * 64};
        memcpy(out, values, sizeof(values));
        return;
    }
    const struct truth_kind *kind = &h->truth->kinds[word];
    uint64_t row = hash_row(h->key, DRAW_VALUES, word) + boot->number;
    uint64_t x = k - boot->first;
    row = hash_mix(row);
    int64_t level = kind->level + (kind->level * (int64_t)(row & 0xff) >> 8);
    int64_t quick = 12 + (level >> kind->quick);
    struct pair a = pair_at(row, 0, quick, x);
    struct pair b = pair_at(row + 1, 4, level >> kind->middle, x);
    struct pair c = pair_at(row + 2, 8, level >> kind->slow, x);
    int64_t allocs = 2 * level + a.up + b.up + c.up;
    int64_t frees = a.down + b.down + c.down;
    allocs += leaked(h, boot, word / 2, k);
    int64_t outstanding = allocs - frees;
    struct pair m = {0, 0};
    if (kind->mixed) {
        m = pair_at(row + 3, 3, quick, x);
    }
    int64_t slack = m.up - m.down + quick;
    if (h->windows) {
        int64_t churn = pair_at(row + 4, 2, quick << kind->churn, x).up;
        out[COL_ALLOCS] = allocs + churn;
        out[COL_FREES] = frees + churn;
        out[COL_BYTES] = outstanding * kind->size + 16 * slack;
    } else {
        out[COL_ALLOCS] = out[COL_FREES] = 0;
        out[COL_BYTES] = slab_bytes(outstanding + slack, kind->size);
    }
    out[COL_OUTSTANDING] = outstanding;
}

void truth_tag_at(const struct truth_host *h, const struct truth_boot *boot,
                  uint32_t word, uint64_t k, int64_t out[TABLE_COLUMNS_MAX])
{
    truth_tag_change(h, boot, word, last_change(h, boot, word, k), out);
}

/* --- counters --- */

int64_t truth_ram(const struct truth_host *h)
{
    return INT64_C(1) << (34 + h->key % 5);
}

/* Half of the memory, give or take an eighth, less what leaks. A host that has
 * leaked all of it keeps a sixty-fourth. */
static int64_t available(const struct truth_host *h,
                         const struct truth_boot *boot, uint64_t row,
                         uint64_t k)
{
    int64_t ram = truth_ram(h);
    uint64_t x = k - boot->first;
    struct pair a = pair_at(row, 0, ram >> 10, x);
    struct pair b = pair_at(row + 1, 6, ram >> 4, x);
    int64_t left = (ram >> 1) + a.up - a.down + b.up - b.down;
    for (uint32_t slot = 1; slot <= h->truth->s.n_leaks; slot++) {
        left -= leaked(h, boot, slot, k) * h->truth->kinds[2 * slot].size;
    }
    return (left > ram >> 6 ? left : ram >> 6) & ~INT64_C(4095);
}

uint8_t truth_counter_flags(uint32_t counter)
{
    return counter % COUNTER_PERIOD == 3 ? ENTRY_REAL : 0;
}

int64_t truth_counter_at(const struct truth_host *h,
                         const struct truth_boot *boot, uint32_t counter,
                         uint64_t k)
{
    if (counter == 0) {
        return (int64_t)k + 1;
    }
    if (counter == TRUTH_TOTAL) {
        return truth_ram(h) - (truth_ram(h) >> 6);
    }
    uint64_t changes_row = hash_row(h->key, DRAW_COUNTER_CHANGE, counter);
    uint64_t mask = (UINT64_C(1) << COUNTER_CHANGE_BITS) - 1;
    while (k > boot->first && (hash_at(changes_row, k) & mask) != 0) {
        k--;
    }
    uint64_t row =
        hash_mix(hash_row(h->key, DRAW_COUNTER, counter) + boot->number);
    if (counter == TRUTH_AVAILABLE) {
        return available(h, boot, row, k);
    }
    int64_t amplitude = (int64_t)(1000 + row % 100000);
    uint64_t x = k - boot->first;
    struct pair a = pair_at(row, 0, amplitude, x);
    struct pair b = pair_at(row + 1, 6, amplitude * 8, x);
    int64_t gauge = 12 * amplitude + a.up - a.down + b.up - b.down;
    double real = (double)gauge / 100;
    int64_t bits;
    switch (counter % COUNTER_PERIOD) {
    case 0: return gauge;
    case 1: return gauge * 4096;
    case 2: return a.up + b.up;
    default: memcpy(&bits, &real, sizeof(bits)); return bits;
    }
}
