/* The fleet, its hosts, their time, and when their tags change. */
#include "tests/bench/fleetsim/truth.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/fleetsim/truth_private.h"

enum {
    OWN_EVERY = 512,      /* one slot of so many is the host's own */
    RARE_SHIFT_MIN = 6,   /* a rate below 2^-6: one change in 2^shift */
    RARE_SHIFT_MAX = 12,  /* snapshots, at a random place */
    SILENCE_SHIFT = 4,    /* silent hosts: half of the blocks of 16 */
    ABSENT_PERCENT = 30,  /* of the blocks of a tag that comes and goes */
    FLEETING_PERCENT = 2, /* of the tags come and go */
};

#define DAY_US (86400 * 1000000LL)

/* --- the fleet --- */

static uint8_t shift_of(double rate)
{
    double shift = round(-log2(rate));
    return (uint8_t)fmin(fmax(shift, RARE_SHIFT_MIN), RARE_SHIFT_MAX);
}

static struct truth_pace pace_of(double rate)
{
    if (rate < 1.0 / (1 << RARE_SHIFT_MIN)) {
        return (struct truth_pace){UINT32_MAX, shift_of(fmax(rate, 1e-6))};
    }
    return (struct truth_pace){
        (uint32_t)fmin(rate * 0x1p32, (double)UINT32_MAX), 0};
}

/* Rates are u^(1/change - 1), whose mean is `change`. */
static void make_kind(struct truth *t, uint32_t word)
{
    struct truth_kind *kind = &t->kinds[word];
    uint64_t bits = hash_draw(t->s.seed, DRAW_KIND, word, 0);
    double rate = hash_share(hash_draw(t->s.seed, DRAW_KIND, word, 1));
    double level = hash_share(hash_draw(t->s.seed, DRAW_KIND, word, 2));
    double size = hash_share(hash_draw(t->s.seed, DRAW_KIND, word, 3));
    *kind = (struct truth_kind){
        .quick = (uint8_t)(4 + bits % 5),
        .middle = (uint8_t)(3 + (bits >> 8) % 4),
        .slow = (uint8_t)(2 + (bits >> 16) % 3),
        .churn = (uint8_t)((bits >> 24) % 8),
        .fleeting = (bits >> 32) % 100 < FLEETING_PERCENT,
        .mixed = (bits >> 40) % 10 < 6,
        .level = (uint32_t)(40 * exp2(13 * level * level * level)),
        .size = 16 * (uint32_t)exp2(9 * size * size),
    };
    if (word / 2 <= t->s.n_leaks) {
        rate = 1;
        kind->fleeting = false;
    }
    t->paces[word] =
        pace_of(t->s.change < 1 ? pow(rate, 1 / t->s.change - 1) : 1);
    bool reclaimable = (bits >> 48) % 4 == 0;
    t->slab_flags[word] = (uint8_t)(TAG_OUTSTANDING | TAG_BYTES |
                                    (reclaimable ? ENTRY_RECLAIMABLE : 0));
}

static bool is_share(double x)
{
    return x >= 0 && x <= 1;
}

int truth_init(struct truth *t, const struct truth_settings *s,
               struct psc_error *err)
{
    *t = (struct truth){.s = *s};
    if (s->n_tags < TRUTH_TAGS_MIN || s->n_tags > TRUTH_TAGS_MAX ||
        s->n_counters < TRUTH_COUNTERS_MIN ||
        s->n_counters > TRUTH_COUNTERS_MAX || s->n_leaks > TRUTH_LEAKS_MAX ||
        s->n_drivers > TRUTH_DRIVERS_MAX || s->n_drivers < s->n_leaks) {
        return psc_error_set(err, PSC_CONFIG,
                             "too many or too few tags, counters, drivers or "
                             "leaks for a host");
    }
    if (!(s->change > 0) || !is_share(s->change) || !is_share(s->windows) ||
        !is_share(s->silent) || !is_share(s->slow) || s->interval_us <= 0) {
        return psc_error_set(err, PSC_CONFIG, "a share is from 0 to 1");
    }
    t->kinds = calloc((size_t)2 * s->n_tags, sizeof(*t->kinds));
    t->paces = calloc((size_t)2 * s->n_tags, sizeof(*t->paces));
    t->slab_flags = calloc(2, s->n_tags);
    if (t->kinds == NULL || t->paces == NULL || t->slab_flags == NULL) {
        truth_fini(t);
        return psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    for (uint32_t word = 0; word < 2 * s->n_tags; word++) {
        make_kind(t, word);
    }
    return PSC_OK;
}

void truth_fini(struct truth *t)
{
    free(t->kinds);
    free(t->paces);
    free(t->slab_flags);
    t->kinds = NULL;
    t->paces = NULL;
    t->slab_flags = NULL;
}

static bool has_share(const struct truth_host *h, uint64_t which, double share)
{
    return hash_share(hash_draw(h->key, DRAW_SHARE, which, 0)) < share;
}

void truth_host_init(struct truth_host *h, const struct truth *t,
                     uint32_t number)
{
    const struct truth_settings *s = &t->s;
    *h = (struct truth_host){
        .truth = t,
        .number = number,
        .key = hash_draw(s->seed, DRAW_HOST, number, 0),
        .n_own = 1 + s->n_tags / OWN_EVERY,
    };
    h->windows = has_share(h, 0, s->windows);
    h->silent = has_share(h, 1, s->silent);
    h->slow = has_share(h, 2, s->slow);
    for (uint32_t i = 0; i < s->n_leaks; i++) {
        h->leaks |= (uint32_t)has_share(h, 3 + i, s->leaks[i].hosts) << i;
    }
}

/* --- a host's time --- */

bool truth_taken(const struct truth_host *h, uint64_t k)
{
    uint64_t block = k >> SILENCE_SHIFT;
    return !h->silent || block == 0 ||
           (hash_draw(h->key, DRAW_SILENCE, 0, block) & 1) != 0;
}

/* Where in its block of reboot_every snapshots the host boots anew. */
static uint64_t reboot_in(const struct truth_host *h, uint64_t block)
{
    uint64_t every = h->truth->s.reboot_every;
    return block * every + hash_draw(h->key, DRAW_REBOOT, 0, block) % every;
}

void truth_boot_at(const struct truth_host *h, uint64_t k,
                   struct truth_boot *boot)
{
    uint64_t every = h->truth->s.reboot_every;
    *boot = (struct truth_boot){.number = 0};
    if (every > 0) {
        uint64_t block = k / every;
        uint64_t here = reboot_in(h, block);
        boot->number = block + (k >= here ? 1 : 0);
        boot->first = k >= here   ? here
                      : block > 0 ? reboot_in(h, block - 1)
                                  : 0;
    }
    for (unsigned i = 0; i < 2; i++) {
        uint64_t half = hash_draw(h->key, DRAW_BOOT_ID, i, boot->number);
        memcpy(boot->id + 8 * i, &half, sizeof(half));
    }
}

int64_t truth_boot_age_us(const struct truth_host *h,
                          const struct truth_boot *boot)
{
    uint64_t hash = hash_draw(h->key, DRAW_BOOT_AGE, 0, boot->number);
    int64_t most_us =
        boot->first == 0 ? 10 * DAY_US : h->truth->s.interval_us / 2;
    return 1 + (int64_t)(hash_share(hash) * (double)most_us);
}

int64_t truth_phase_us(const struct truth_host *h)
{
    double share = hash_share(hash_draw(h->key, DRAW_PHASE, 0, 0));
    return (int64_t)(share * (double)h->truth->s.interval_us);
}

/* --- which tags, and when they change --- */

uint32_t truth_word(const struct truth_host *h, uint32_t slot)
{
    uint32_t n = h->truth->s.n_tags;
    if (slot <= h->truth->s.n_leaks || slot >= n - h->n_own) {
        return 2 * slot;
    }
    uint64_t bits = hash_draw(h->key, DRAW_WHICH, 0, slot >> 6);
    return 2 * slot + (uint32_t)(bits >> (slot & 63) & 1);
}

uint8_t truth_tag_flags(const struct truth_host *h, uint32_t word)
{
    if (h->windows) {
        return TAG_ALLOCS | TAG_FREES | TAG_OUTSTANDING | TAG_BYTES;
    }
    return h->truth->slab_flags[word];
}

bool truth_tag_fleeting(const struct truth_host *h, uint32_t word)
{
    return h->truth->kinds[word].fleeting;
}

bool truth_tag_present(const struct truth_host *h, uint32_t word, uint64_t k)
{
    return !h->truth->kinds[word].fleeting ||
           hash_draw(h->key, DRAW_PRESENCE, word,
                     k / TRUTH_PRESENCE_SNAPSHOTS) %
                   100 >=
               ABSENT_PERCENT;
}

bool truth_tag_changes(const struct truth_host *h, uint32_t word, uint64_t k)
{
    return truth_changes(&h->truth->paces[word],
                         hash_row(h->key, DRAW_CHANGE, word), k);
}

uint32_t truth_tags_changing(const struct truth_host *h, const uint16_t *words,
                             uint32_t n, uint64_t k, uint32_t *out)
{
    const struct truth_pace *paces = h->truth->paces;
    uint32_t found = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t row = hash_row(h->key, DRAW_CHANGE, words[i]);
        out[found] = i;
        found += truth_changes(&paces[words[i]], row, k) ? 1 : 0;
    }
    return found;
}
