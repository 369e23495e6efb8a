/* From one snapshot of a host to the next by the changes in between; from
 * anywhere else by asking for each value. */
#include "tests/bench/fleetsim/position.h"

#include <stdlib.h>
#include <string.h>

enum { STEPS_MAX = 64 /* further ahead, each value is asked for */ };

/* Where to, and for whom. */
struct walk {
    struct position *p;
    uint32_t *scratch;
    const struct truth_host *h;
    const struct truth_boot *boot;
};

int position_init(struct position *p, const struct truth *t)
{
    size_t n = t->s.n_tags;
    *p = (struct position){.known = false};
    p->words = malloc(n * sizeof(*p->words));
    p->live = malloc(n);
    p->tags = malloc(n * POSITION_ROW_BYTES);
    p->counters = malloc(t->s.n_counters * sizeof(*p->counters));
    if (p->words == NULL || p->live == NULL || p->tags == NULL ||
        p->counters == NULL) {
        position_fini(p);
        return PSC_NOMEM;
    }
    return PSC_OK;
}

void position_fini(struct position *p)
{
    free(p->words);
    free(p->live);
    free(p->tags);
    free(p->counters);
    *p = (struct position){.known = false};
}

static int64_t *row_of(const struct position *p, uint32_t i)
{
    return p->tags + (size_t)i * TABLE_COLUMNS_MAX;
}

static void append(struct walk *w, uint32_t word, uint64_t k)
{
    struct position *p = w->p;
    p->words[p->n] = word;
    p->live[p->n] = 1;
    truth_tag_at(w->h, w->boot, word, k, row_of(p, p->n));
    p->n++;
}

static void ask_for_tags(struct walk *w, uint64_t k)
{
    w->p->n = 0;
    for (uint32_t slot = 0; slot < w->h->truth->s.n_tags; slot++) {
        uint32_t word = truth_word(w->h, slot);
        if (truth_tag_present(w->h, word, k)) {
            append(w, word, k);
        }
    }
}

static void ask_for_counters(struct walk *w, uint64_t k)
{
    for (uint32_t i = 0; i < w->h->truth->s.n_counters; i++) {
        w->p->counters[i] = truth_counter_at(w->h, w->boot, i, k);
    }
}

/* Tags that come and go do so at @k. */
static void step_presence(struct walk *w, uint64_t k)
{
    struct position *p = w->p;
    uint32_t n_tags = w->h->truth->s.n_tags;
    uint32_t *listed = w->scratch; /* by slot */
    memset(listed, 0, n_tags * sizeof(*listed));
    for (uint32_t i = 0; i < p->n; i++) {
        uint32_t word = p->words[i];
        listed[word / 2] = 1;
        if (!truth_tag_fleeting(w->h, word)) {
            continue;
        }
        bool present = truth_tag_present(w->h, word, k);
        if (present && p->live[i] == 0) {
            truth_tag_at(w->h, w->boot, word, k, row_of(p, i));
        }
        p->live[i] = present;
    }
    for (uint32_t slot = 0; slot < n_tags; slot++) {
        uint32_t word = truth_word(w->h, slot);
        if (listed[slot] == 0 && truth_tag_present(w->h, word, k)) {
            append(w, word, k);
        }
    }
}

static void step(struct walk *w, uint64_t k)
{
    struct position *p = w->p;
    if (k % TRUTH_PRESENCE_SNAPSHOTS == 0) {
        step_presence(w, k);
    }
    uint32_t n = truth_tags_changing(w->h, p->words, p->n, k, w->scratch);
    for (uint32_t c = 0; c < n; c++) {
        uint32_t i = w->scratch[c];
        if (p->live[i] != 0) {
            truth_tag_change(w->h, w->boot, p->words[i], k, row_of(p, i));
        }
    }
}

bool position_advance(struct position *p, uint32_t *scratch,
                      const struct truth_host *h, const struct truth_boot *boot,
                      uint64_t k)
{
    struct walk w = {p, scratch, h, boot};
    bool near = p->known && p->boot == boot->number && k > p->k &&
                k - p->k <= STEPS_MAX;
    if (!near) {
        ask_for_tags(&w, k);
    }
    for (uint64_t at = p->k + 1; near && at <= k; at++) {
        step(&w, at);
    }
    ask_for_counters(&w, k);
    return near;
}

void position_compact(struct position *p)
{
    uint32_t to = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        if (p->live[i] != 0) {
            p->words[to] = p->words[i];
            p->live[to] = 1;
            memmove(row_of(p, to), row_of(p, i), POSITION_ROW_BYTES);
            to++;
        }
    }
    p->n = to;
}
