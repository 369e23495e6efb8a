/* From one snapshot of a host to the next by the changes in between; from
 * anywhere else by asking for each value. */
#include "tests/bench/fleetsim/position.h"

#include <stdlib.h>
#include <string.h>

enum { STEPS_MAX = 64 /* further ahead, each value is asked for */ };

int position_init(struct position *p, const struct truth_host *h)
{
    size_t n = h->truth->s.n_tags;
    size_t columns = h->windows ? 3 : 2;
    *p = (struct position){.counts = h->windows};
    p->words = malloc(n * sizeof(*p->words));
    p->live = malloc(n);
    p->tags = malloc(n * columns * sizeof(*p->tags));
    p->counters = malloc(h->truth->s.n_counters * sizeof(*p->counters));
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

void position_unpack(const struct position *p, int64_t *rows)
{
    const int64_t *from = p->tags;
    for (uint32_t i = 0; p->counts && i < p->n; i++, from += 3, rows += 4) {
        rows[COL_ALLOCS] = from[0];
        rows[COL_FREES] = from[1];
        rows[COL_OUTSTANDING] = from[0] - from[1];
        rows[COL_BYTES] = from[2];
    }
    for (uint32_t i = 0; !p->counts && i < p->n; i++, from += 2, rows += 4) {
        rows[COL_ALLOCS] = rows[COL_FREES] = 0;
        rows[COL_OUTSTANDING] = from[0];
        rows[COL_BYTES] = from[1];
    }
}

static void pack(struct position *p, uint32_t i, const int64_t *row)
{
    if (p->counts) {
        int64_t *to = p->tags + (size_t)3 * i;
        to[0] = row[COL_ALLOCS];
        to[1] = row[COL_FREES];
        to[2] = row[COL_BYTES];
    } else {
        int64_t *to = p->tags + (size_t)2 * i;
        to[0] = row[COL_OUTSTANDING];
        to[1] = row[COL_BYTES];
    }
}

static int64_t *row_of(const struct position_step *s, uint32_t i)
{
    return s->rows + (size_t)i * TABLE_COLUMNS_MAX;
}

/* Entry @i has the values that its tag has in snapshot @k. */
static void ask(struct position *p, const struct position_step *s, uint32_t i,
                uint64_t k)
{
    truth_tag_at(s->host, s->boot, p->words[i], k, row_of(s, i));
    pack(p, i, row_of(s, i));
}

static void append(struct position *p, const struct position_step *s,
                   uint32_t word, uint64_t k)
{
    p->words[p->n] = (uint16_t)word;
    p->live[p->n] = 1;
    ask(p, s, p->n++, k);
}

static void ask_for_tags(struct position *p, const struct position_step *s)
{
    p->n = 0;
    for (uint32_t slot = 0; slot < s->host->truth->s.n_tags; slot++) {
        uint32_t word = truth_word(s->host, slot);
        if (truth_tag_present(s->host, word, s->k)) {
            append(p, s, word, s->k);
        }
    }
}

static void ask_for_counters(struct position *p, const struct position_step *s)
{
    for (uint32_t i = 0; i < s->host->truth->s.n_counters; i++) {
        p->counters[i] = truth_counter_at(s->host, s->boot, i, s->k);
    }
}

/* Tags that come and go do so at @k. */
static void step_presence(struct position *p, struct position_step *s,
                          uint64_t k)
{
    uint32_t n_tags = s->host->truth->s.n_tags;
    uint32_t *listed = s->scratch; /* by slot */
    memset(listed, 0, n_tags * sizeof(*listed));
    for (uint32_t i = 0; i < p->n; i++) {
        uint32_t word = p->words[i];
        listed[word / 2] = 1;
        if (!truth_tag_fleeting(s->host, word)) {
            continue;
        }
        bool present = truth_tag_present(s->host, word, k);
        if (present && p->live[i] == 0) {
            ask(p, s, i, k);
        } else if (!present) { /* what is absent counts as zeros */
            memset(row_of(s, i), 0, POSITION_ROW_BYTES);
            pack(p, i, row_of(s, i));
        }
        p->live[i] = present;
    }
    for (uint32_t slot = 0; slot < n_tags; slot++) {
        uint32_t word = truth_word(s->host, slot);
        if (listed[slot] == 0 && truth_tag_present(s->host, word, k)) {
            append(p, s, word, k);
        }
    }
}

static void change(struct position *p, struct position_step *s, uint32_t i,
                   uint64_t k)
{
    int64_t values[TABLE_COLUMNS_MAX];
    int64_t *row = row_of(s, i);
    truth_tag_change(s->host, s->boot, p->words[i], k, values);
    unsigned n = 0;
    for (unsigned c = 0; c < TABLE_COLUMNS_MAX; c++) {
        bool travels = c != COL_OUTSTANDING || !p->counts;
        n += travels && values[c] != row[c] ? 1 : 0;
    }
    s->values += n;
    s->changed += n > 0 ? 1 : 0;
    memcpy(row, values, sizeof(values));
    pack(p, i, row);
}

static void step(struct position *p, struct position_step *s, uint64_t k)
{
    if (k % TRUTH_PRESENCE_SNAPSHOTS == 0) {
        step_presence(p, s, k);
    }
    uint32_t n = truth_tags_changing(s->host, p->words, p->n, k, s->scratch);
    for (uint32_t c = 0; c < n; c++) {
        uint32_t i = s->scratch[c];
        if (p->live[i] != 0) {
            change(p, s, i, k);
        }
    }
}

bool position_advance(struct position *p, struct position_step *s)
{
    bool near = p->known && p->boot == s->boot->number && s->k > p->k &&
                s->k - p->k <= STEPS_MAX;
    s->changed = s->values = 0;
    if (!near) {
        ask_for_tags(p, s);
    }
    for (uint64_t at = p->k + 1; near && at <= s->k; at++) {
        step(p, s, at);
    }
    ask_for_counters(p, s);
    return near;
}

void position_compact(struct position *p, int64_t *rows)
{
    uint32_t to = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        if (p->live[i] != 0) {
            int64_t *row = rows + (size_t)to * TABLE_COLUMNS_MAX;
            p->words[to] = p->words[i];
            p->live[to] = 1;
            memmove(row, rows + (size_t)i * TABLE_COLUMNS_MAX,
                    POSITION_ROW_BYTES);
            pack(p, to++, row);
        }
    }
    p->n = to;
}
