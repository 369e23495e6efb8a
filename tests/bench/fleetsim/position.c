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

static size_t columns(const struct position *p)
{
    return p->counts ? 3 : 2;
}

static void unpack(const struct position *p, uint32_t i, int64_t *row)
{
    const int64_t *from = p->tags + columns(p) * i;
    if (p->counts) {
        row[COL_ALLOCS] = from[0];
        row[COL_FREES] = from[1];
        row[COL_OUTSTANDING] = from[0] - from[1];
        row[COL_BYTES] = from[2];
    } else {
        row[COL_ALLOCS] = row[COL_FREES] = 0;
        row[COL_OUTSTANDING] = from[0];
        row[COL_BYTES] = from[1];
    }
}

static void pack(struct position *p, uint32_t i, const int64_t *row)
{
    int64_t *to = p->tags + columns(p) * i;
    if (p->counts) {
        to[0] = row[COL_ALLOCS];
        to[1] = row[COL_FREES];
        to[2] = row[COL_BYTES];
    } else {
        to[0] = row[COL_OUTSTANDING];
        to[1] = row[COL_BYTES];
    }
}

void position_unpack(const struct position *p, int64_t *rows)
{
    for (uint32_t i = 0; i < p->n; i++) {
        unpack(p, i, rows + (size_t)i * TABLE_COLUMNS_MAX);
    }
}

/* Entry @i has @row from now on. */
static void set(struct position *p, struct position_step *s, uint32_t i,
                const int64_t *row)
{
    size_t at = (size_t)i * TABLE_COLUMNS_MAX;
    if (s->near && s->is_touched[i] == 0) {
        s->is_touched[i] = 1;
        s->touched[s->n_touched++] = i;
        if (i < s->n_before) {
            unpack(p, i, s->sent + at);
        }
    }
    if (s->near) {
        memcpy(s->now + at, row, POSITION_ROW_BYTES);
    }
    pack(p, i, row);
}

/* Entry @i has the values that its tag has in snapshot @k. */
static void ask(struct position *p, struct position_step *s, uint32_t i,
                uint64_t k)
{
    int64_t row[TABLE_COLUMNS_MAX];
    truth_tag_at(s->host, s->boot, p->words[i], k, row);
    set(p, s, i, row);
}

static void append(struct position *p, struct position_step *s, uint32_t word,
                   uint64_t k)
{
    p->words[p->n] = (uint16_t)word;
    p->live[p->n] = 1;
    ask(p, s, p->n++, k);
}

static void ask_for_tags(struct position *p, struct position_step *s)
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
        } else if (!present && p->live[i] != 0) {
            static const int64_t absent[TABLE_COLUMNS_MAX]; /* counts as 0 */
            set(p, s, i, absent);
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
    int64_t row[TABLE_COLUMNS_MAX], before[TABLE_COLUMNS_MAX];
    truth_tag_change(s->host, s->boot, p->words[i], k, row);
    unpack(p, i, before);
    unsigned n = 0;
    for (unsigned c = 0; c < TABLE_COLUMNS_MAX; c++) {
        bool travels = c != COL_OUTSTANDING || !p->counts;
        n += travels && row[c] != before[c] ? 1 : 0;
    }
    if (n > 0) {
        set(p, s, i, row);
        s->values += n;
        s->changed++;
    }
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
    s->near = p->known && p->boot == s->boot->number && s->k > p->k &&
              s->k - p->k <= STEPS_MAX;
    s->n_before = p->n;
    s->n_touched = 0;
    s->changed = s->values = 0;
    if (!s->near) {
        ask_for_tags(p, s);
    }
    for (uint64_t at = p->k + 1; s->near && at <= s->k; at++) {
        step(p, s, at);
    }
    ask_for_counters(p, s);
    return s->near;
}

void position_clear(struct position_step *s)
{
    for (uint32_t i = 0; i < s->n_touched; i++) {
        size_t at = (size_t)s->touched[i] * TABLE_COLUMNS_MAX;
        memset(s->now + at, 0, POSITION_ROW_BYTES);
        memset(s->sent + at, 0, POSITION_ROW_BYTES);
        s->is_touched[s->touched[i]] = 0;
    }
    s->n_touched = 0;
}

void position_compact(struct position *p)
{
    size_t n = columns(p);
    uint32_t to = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        if (p->live[i] != 0) {
            p->words[to] = p->words[i];
            p->live[to] = 1;
            memmove(p->tags + n * to, p->tags + n * i, n * sizeof(*p->tags));
            to++;
        }
    }
    p->n = to;
}
