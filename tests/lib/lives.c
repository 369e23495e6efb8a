/* Hosts that live and settle. Rows are settled by the model's own samples, not
 * by what was stored of them. */
#include "tests/lib/lives.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"
#include "proto/stored.h"
#include "tests/lib/store.h"

struct life lives[LIVES] = {
    {.host = "minute", .every_us = MINUTE_US, .span_us = HOUR_US},
    {.host = "slow", .every_us = 150 * PSC_US_PER_S, .span_us = 4 * HOUR_US},
    {.host = "silent", .every_us = MINUTE_US, .span_us = HOUR_US},
};
int lives_slot;
char lives_names[LIFE_TAGS][LIFE_NAME_BYTES];
static int32_t tag_ids[LIFE_TAGS];
static int32_t counter_ids[LIFE_COUNTERS];

uint32_t lives_any(uint32_t below)
{
    static uint32_t seed = 20260117;
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return (seed >> 4) % below;
}

/* ------------------------------------------------------------ the model */

uint8_t lives_tag_flags(int t)
{
    static const uint8_t flags[] = {15, 12, 8, TAG_ALLOCS | TAG_FREES, 12};
    return flags[t % 5];
}

static uint8_t counter_flags(int c)
{
    return c % 2 != 0 ? ENTRY_REAL : 0;
}

double lives_counter_value(int c, int64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof(value));
    return c % 2 != 0 ? value : (double)bits;
}

static void live_tag(struct sample *s, int t)
{
    int64_t *v = s->tags[t];
    s->has[t] = t < 4 || lives_any(20) != 0 ? s->has[t] || lives_any(4) == 0
                                            : !s->has[t];
    if (t != 1 && lives_any(4) == 0) { /* the second one rests */
        v[COL_ALLOCS] += lives_any(5000);
        v[COL_FREES] += lives_any(3000);
        v[COL_BYTES] = (int64_t)lives_any(1u << (8 + t % 20)) *
                       (lives_any(9) == 0 ? -1 : 1);
        v[COL_OUTSTANDING] = lives_any(9999);
    }
    if ((lives_tag_flags(t) & 3) == 3) {
        v[COL_OUTSTANDING] = v[COL_ALLOCS] - v[COL_FREES];
    }
}

static void live_counter(struct sample *s, int c)
{
    s->counted[c] = c != 3 || lives_any(3) != 0;
    if (lives_any(3) == 0) {
        double real = (double)lives_any(100000) / 8;
        int64_t bits;
        memcpy(&bits, &real, sizeof(bits));
        s->counters[c] = c % 2 != 0 ? bits : (int64_t)lives_any(100000);
    }
}

/* When the sample happens: most of the time one interval later. */
static int64_t next_at(const struct life *l, int i)
{
    int64_t at_us = l->samples[i - 1].at_us + l->every_us + lives_any(1000);
    if (l == &lives[0]) {
        switch (i) {
        case 60: return at_us + 50 * MINUTE_US;
        case 110: return psc_clock_wall_us() + 5 * HOUR_US; /* is ahead … */
        case 112: return l->samples[109].at_us + MINUTE_US; /* … and right */
        case 150: return at_us - 70 * MINUTE_US;            /* late samples */
        case 170: return 20 * HOUR_US;                      /* 1970 */
        case 171: return l->samples[169].at_us + MINUTE_US;
        default: break;
        }
    }
    return at_us;
}

static void live(struct life *l)
{
    struct sample *s = &l->samples[l->n];
    if (l->n > 0) {
        *s = l->samples[l->n - 1];
        s->at_us = next_at(l, l->n);
    } else {
        s->at_us = (psc_clock_wall_us() / HOUR_US - LIFE_HOURS) * HOUR_US +
                   lives_any(3600) * PSC_US_PER_S;
    }
    for (int t = 0; t < LIFE_TAGS; t++) {
        live_tag(s, t);
    }
    for (int c = 0; c < LIFE_COUNTERS; c++) {
        live_counter(s, c);
    }
    s->stored[OF_TAGS] = l->n < 2 || lives_any(10) != 0;
    s->stored[OF_COUNTERS] = l->n < 2 || lives_any(5) != 0;
    /* What nobody saw did not happen. */
    if (!s->stored[OF_TAGS]) {
        memcpy(s->has, (s - 1)->has, sizeof(s->has));
        memcpy(s->tags, (s - 1)->tags, sizeof(s->tags));
    }
    l->n++;
}

/* ----------------------------------------------------------- storing it */

static int64_t span_of(const struct life *l, int64_t at_us)
{
    /* Spans are counted from 2000, which was at a multiple of 4 hours. */
    int64_t span = at_us / l->span_us * l->span_us;
    return span > at_us ? span - l->span_us : span;
}

static int row_of(struct life *l, struct sample *s, enum kind kind,
                  struct psc_bytes *row)
{
    struct tier_table *table = &l->tables[kind];
    int64_t span_us = span_of(l, s->at_us);
    if (!s->stored[kind]) {
        return STORED_NONE;
    }
    tier_begin(table);
    for (int t = 0; t < LIFE_TAGS && kind == OF_TAGS; t++) {
        if (s->has[t]) {
            tier_put(table, tag_ids[t], lives_tag_flags(t), s->tags[t]);
        }
    }
    for (int c = 0; c < LIFE_COUNTERS && kind == OF_COUNTERS; c++) {
        if (s->counted[c]) {
            tier_put(table, counter_ids[c], counter_flags(c), &s->counters[c]);
        }
    }
    s->keyframe[kind] = span_us != l->row_span_us[kind] || lives_any(15) == 0;
    *row = tier_row(table, &s->keyframe[kind]);
    l->row_span_us[kind] = span_us;
    return s->keyframe[kind] ? STORED_KEYFRAME : STORED_DELTA;
}

static void store(struct life *l)
{
    struct sample *s = &l->samples[l->n - 1];
    struct tier_sample row = {.host_id = l->host_id,
                              .n = l->n,
                              .at_us = s->at_us,
                              .slot = lives_slot};
    row.tags_kind = row_of(l, s, OF_TAGS, &row.tags);
    row.counters_kind = row_of(l, s, OF_COUNTERS, &row.counters);
    tier_store(test_store.owner, &row);
}

static void chunk_sample(struct life *l, enum kind kind, int i)
{
    static const uint8_t boot[CHUNK_BOOT_BYTES] = {1};
    const struct sample *s = &l->samples[i];
    struct chunk_writer *w = &l->tables[kind].chunk;
    assert_int_equal(chunk_writer_snapshot(w, i + 1, s->at_us, s->at_us, boot),
                     PSC_OK);
    chunk_writer_keyframe(w);
    for (int t = 0; t < LIFE_TAGS && kind == OF_TAGS; t++) {
        if (s->has[t]) {
            assert_int_equal(chunk_writer_put(w, (uint32_t)tag_ids[t],
                                              lives_tag_flags(t), s->tags[t]),
                             PSC_OK);
        }
    }
    for (int c = 0; c < LIFE_COUNTERS && kind == OF_COUNTERS; c++) {
        if (s->counted[c]) {
            assert_int_equal(chunk_writer_put(w, (uint32_t)counter_ids[c],
                                              counter_flags(c),
                                              &s->counters[c]),
                             PSC_OK);
        }
    }
}

static void end_chunk(struct life *l, enum kind kind, struct tier_chunk *c)
{
    if (c->snapshots > 0) {
        tier_store_chunk(test_store.owner, &l->tables[kind].chunk, c);
    }
    c->snapshots = 0;
}

/* Samples up to the one before index @until into chunks, a span each. */
static void settle_kind(struct life *l, enum kind kind, int until)
{
    struct tier_chunk c = {.host_id = l->host_id};
    for (int i = l->settled[kind]; i < until; i++) {
        int64_t at_us = l->samples[i].at_us;
        if (!l->samples[i].stored[kind]) {
            continue;
        }
        if (span_of(l, at_us) != c.span_us) {
            end_chunk(l, kind, &c);
        }
        if (c.snapshots == 0) {
            c.span_us = span_of(l, at_us);
            c.n_from = i + 1;
            c.at_from_us = c.at_to_us = at_us;
        }
        c.n_to = i + 1;
        c.at_from_us = at_us < c.at_from_us ? at_us : c.at_from_us;
        c.at_to_us = at_us > c.at_to_us ? at_us : c.at_to_us;
        c.snapshots++;
        chunk_sample(l, kind, i);
    }
    end_chunk(l, kind, &c);
    l->settled[kind] = until;
    if (until == l->n) {
        l->row_span_us[kind] = INT64_MIN; /* what follows is a keyframe */
    }
}

static void note_settled(const struct life *l)
{
    tier_settled(test_store.owner, l->host_id, l->settled[OF_TAGS],
                 l->settled[OF_COUNTERS]);
}

void lives_settle(struct life *l)
{
    for (enum kind kind = OF_TAGS; kind < KINDS; kind++) {
        int until =
            l == &lives[2] && lives_any(3) == 0 ? l->n : l->settled[kind];
        for (int i = l->settled[kind]; i < l->n && until < l->n; i++) {
            if (l->samples[i].keyframe[kind] && l->samples[i].stored[kind] &&
                lives_any(3) != 0) {
                until = i;
            }
        }
        settle_kind(l, kind, until);
    }
    note_settled(l);
}

void lives_settle_all(struct life *l)
{
    settle_kind(l, OF_TAGS, l->n);
    settle_kind(l, OF_COUNTERS, l->n);
    note_settled(l);
}

void lives_store(struct life *l, int n)
{
    for (int i = 0; i < n; i++) {
        live(l);
        store(l);
    }
}

int lives_begin(void **state)
{
    (void)test_store_begin(state);
    for (int t = 0; t < LIFE_TAGS; t++) {
        (void)snprintf(lives_names[t], sizeof(lives_names[t]), "tag-%d", t);
        tag_ids[t] = test_tag_id(test_store.writer, "slab", lives_names[t]);
    }
    for (int c = 0; c < LIFE_COUNTERS; c++) {
        counter_ids[c] =
            test_counter_id(test_store.writer, "gauge", lives_names[c]);
    }
    for (int h = 0; h < LIVES; h++) {
        struct life *l = &lives[h];
        l->host_id = test_host_enrol(test_store.writer, l->host);
        (void)test_session_claim(test_store.writer, l->host_id);
        tier_table_init(&l->tables[OF_TAGS], TABLE_COLUMNS_MAX);
        tier_table_init(&l->tables[OF_COUNTERS], 1);
    }
    return 0;
}

int lives_end(void **state)
{
    for (int h = 0; h < LIVES; h++) {
        tier_table_fini(&lives[h].tables[OF_TAGS]);
        tier_table_fini(&lives[h].tables[OF_COUNTERS]);
    }
    return test_store_end(state);
}
