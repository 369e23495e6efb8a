/* What becomes of wire batches in a session: rows of the store, from which a
 * reader has what the agent had. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/decode.h"
#include "collector/sanitise.h"
#include "common/clock.h"
#include "proto/record.h"
#include "tests/lib/fault.h"

#define NOW    (1800000000LL * PSC_US_PER_S) /* a whole hour */
#define MINUTE (60 * PSC_US_PER_S)
#define HOUR   (60 * MINUTE)

enum { UPTIME_S = 1000000, BUDGET_BYTES = 1 << 20, TAGS_MAX = 1000 };

static struct psc_bytes text(const char *s)
{
    struct psc_bytes b = {(const uint8_t *)s, strlen(s)};
    return b;
}

#define BYTES(literal)                                                         \
    ((struct psc_bytes){(const uint8_t *)(literal), sizeof(literal) - 1})

/* An agent's table and its encoder, a session's decoder, and a reader of what
 * is stored. */
struct pair {
    struct table tags;
    struct table_writer writer;
    struct decode_shared shared;
    struct decode decode;
    struct registry_quota quota;
    struct clock_offset clock;
    int64_t at_us; /* of the next sample */
    struct grid reader;
    struct grid_changes changes;
    struct psc_buf row;
};

static struct pair *pair_new(void)
{
    struct pair *p = calloc(1, sizeof(*p));
    assert_non_null(p);
    table_init(&p->tags, 4, TAGS_MAX, 100000);
    table_writer_init(&p->writer, BUDGET_BYTES);
    decode_shared_init(&p->shared);
    decode_init(&p->decode, &p->quota);
    clock_offset_init(&p->clock, false, 0);
    clock_offset_observe(&p->clock, NOW, NOW, UPTIME_S * PSC_US_PER_S);
    p->at_us = NOW - 10 * HOUR;
    grid_init(&p->reader, 4, TAGS_MAX, NULL);
    grid_changes_init(&p->changes, NULL);
    psc_buf_init(&p->row, BUDGET_BYTES);
    table_begin(&p->tags);
    return p;
}

static void pair_free(struct pair *p)
{
    table_fini(&p->tags);
    table_writer_fini(&p->writer);
    decode_fini(&p->decode);
    decode_shared_fini(&p->shared);
    grid_fini(&p->reader);
    grid_changes_fini(&p->changes);
    psc_buf_fini(&p->row);
    free(p);
}

static void put(struct pair *p, const char *key, int64_t bytes)
{
    int64_t values[4] = {0, 0, 0, bytes};
    assert_int_equal(
        table_put(&p->tags, 0, key, strlen(key), TAG_BYTES, values), PSC_OK);
}

/* Encode what was put and decode it; returns decode_apply()'s answer, or the
 * encoder's failure. */
static int pass(struct pair *p, struct wire_batch *in, bool keyframe,
                uint64_t seq, uint64_t base)
{
    uint32_t next = 0;
    struct psc_error err;
    *in = (struct wire_batch){.seq = seq, .has_tags = true};
    in->wall_us = p->at_us;
    in->boottime_us = UPTIME_S * PSC_US_PER_S + p->at_us - NOW;
    int rc = table_encode(&p->tags, keyframe, base, BUDGET_BYTES, &next,
                          &p->writer, &in->tags);
    table_begin(&p->tags);
    return rc == PSC_OK ? decode_apply(&p->decode, &p->shared, in, &err) : rc;
}

static int try_take(struct pair *p, const struct wire_batch *in,
                    struct batch **out)
{
    static const uint8_t zero[16];
    const struct decode_facts facts = {
        .host_id = 1,
        .session = 2,
        .stream = zero,
        .prev_seq = in->seq - 1,
        .boot_id = zero,
        .clock = &p->clock,
        .now_us = NOW,
    };
    return decode_take(&p->decode, &p->shared, &facts, in, out);
}

static struct batch *take(struct pair *p, const struct wire_batch *in)
{
    struct batch *b;
    assert_int_equal(try_take(p, in, &b), PSC_OK);
    assert_int_equal(b->at_us, p->at_us);
    return b;
}

/* Apply a batch's tags as a reader of the store would, with ids that are local
 * indices + 1. */
static void read_tags(struct pair *p, const struct batch *b)
{
    const struct batch_table *t = &b->tags;
    struct psc_error err = {.msg = ""};
    psc_buf_reset(&p->row);
    stored_begin(&p->row, t->n_names);
    for (uint32_t i = 0; i < t->n_names; i++) {
        uint32_t local = t->local[i];
        stored_name(&p->row, t->name_flags[i],
                    local == REGISTRY_NONE ? 0 : local + 1);
    }
    psc_buf_append(&p->row, t->packed, t->packed_bytes);
    assert_int_equal(psc_buf_error(&p->row), PSC_OK);
    int rc = stored_apply(&p->reader, psc_buf_bytes(&p->row),
                          t->kind == STORED_KEYFRAME, &p->changes, &err);
    assert_string_equal(err.msg, "");
    assert_int_equal(rc, PSC_OK);
}

/* Where the reader has the tag of @key; it must be there, present or not. */
static uint32_t find(const struct pair *p, const char *key)
{
    uint32_t local = psc_map_find(&p->shared.tags.keys, key, strlen(key));
    uint32_t i = 0;
    while (i < p->reader.n && p->reader.entries[i].ref != local + 1) {
        i++;
    }
    assert_true(local != PSC_MAP_NONE && i < p->reader.n);
    return i;
}

static int64_t bytes_of(const struct pair *p, const char *key)
{
    uint32_t i = find(p, key);
    assert_true(p->reader.entries[i].live);
    return grid_values(&p->reader, i)[COL_BYTES];
}

/* A sample of two tags, stored and read; returns the row's kind. */
static enum stored_kind tick(struct pair *p, uint64_t seq, int64_t a, int64_t b)
{
    struct wire_batch in;
    put(p, "\3a", a);
    put(p, "\3b", b);
    assert_int_equal(pass(p, &in, seq == 1, seq, seq - 1), PSC_OK);
    struct batch *batch = take(p, &in);
    enum stored_kind kind = batch->tags.kind;
    read_tags(p, batch);
    free(batch);
    p->at_us += MINUTE;
    return kind;
}

static void batches_carry_what_changed(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    struct wire_batch in;
    put(p, "\3a", 1);
    put(p, "\3b", 2);
    put(p, "\3c", 3);
    assert_int_equal(pass(p, &in, true, 1, 0), PSC_OK);
    struct batch *b = take(p, &in);
    assert_int_equal(b->tags.kind, STORED_KEYFRAME);
    assert_int_equal(b->tags.n_changed, 3);
    assert_int_equal(b->tags.n_names, 3);
    assert_int_equal(b->counters.kind, STORED_NONE);
    assert_int_equal(b->counters.packed_bytes, 0);
    read_tags(p, b);
    free(b);
    put(p, "\3a", 1);
    put(p, "\3c", 4);
    put(p, "\3d", 5);
    assert_int_equal(pass(p, &in, false, 2, 1), PSC_OK);
    b = take(p, &in);
    assert_int_equal(b->tags.kind, STORED_DELTA);
    assert_int_equal(b->tags.n_changed, 2);
    assert_int_equal(b->tags.n_names, 1);
    read_tags(p, b);
    assert_int_equal(p->reader.n_live, 3);
    assert_int_equal(bytes_of(p, "\3c"), 4);
    assert_int_equal(bytes_of(p, "\3d"), 5);
    assert_false(p->reader.entries[find(p, "\3b")].live);
    free(b);
    pair_free(p);
}

static void a_delta_needs_its_base(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    struct wire_batch in;
    put(p, "\3a", 1);
    assert_int_equal(pass(p, &in, true, 1, 0), PSC_OK);
    put(p, "\3a", 2);
    assert_int_equal(pass(p, &in, false, 3, 2), PSC_NEED_KEYFRAME);
    put(p, "\3a", 3);
    assert_int_equal(pass(p, &in, false, 4, 1), PSC_NEED_KEYFRAME);
    put(p, "\3a", 4);
    assert_int_equal(pass(p, &in, true, 5, 0), PSC_OK);
    decode_reset(&p->decode);
    put(p, "\3a", 5);
    assert_int_equal(pass(p, &in, false, 6, 5), PSC_NEED_KEYFRAME);
    pair_free(p);
}

static void parts_must_come_in_order(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    struct wire_batch in = {.seq = 1, .part = 1};
    struct psc_error err;
    struct decode *d = &p->decode;
    assert_int_equal(decode_apply(d, &p->shared, &in, &err), PSC_FORMAT);
    in.part = 0;
    in.more = true;
    assert_int_equal(decode_apply(d, &p->shared, &in, &err), PSC_OK);
    in.part = 2;
    in.seq = 2;
    assert_int_equal(decode_apply(d, &p->shared, &in, &err), PSC_FORMAT);
    for (in.part = 0, in.seq = 1; in.part < 64; in.part++, in.seq++) {
        assert_int_equal(decode_apply(d, &p->shared, &in, &err), PSC_OK);
    }
    assert_int_equal(decode_apply(d, &p->shared, &in, &err), PSC_FORMAT);
    pair_free(p);
}

static void a_keyframe_must_not_say_gone(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    struct psc_error err;
    struct wire_batch in = {.seq = 1, .has_tags = true, .more = true};
    in.tags = (struct columns){
        .keyframe = true,
        .names = BYTES("\x08\0\2\3z"),
        .gaps = BYTES("\x18\0"),
        .values = BYTES("\2"),
    };
    struct decode *d = &p->decode;
    assert_int_equal(decode_apply(d, &p->shared, &in, &err), PSC_OK);
    in = (struct wire_batch){.seq = 2, .part = 1, .has_tags = true};
    in.tags = (struct columns){.keyframe = true, .gone = BYTES("\0")};
    assert_int_equal(decode_apply(d, &p->shared, &in, &err), PSC_FORMAT);
    pair_free(p);
}

static void twins_and_foreign_pools_are_nobodys(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    struct wire_batch in;
    int64_t real[4] = {0};
    put(p, "\3\x01", 1);
    put(p, "\3\\x01", 2); /* the same when it is canonical */
    put(p, "\x07z", 3);   /* no such pool */
    put(p, "\3z", 4);
    assert_int_equal(
        table_put(&p->tags, 0, "\3r", 2, TAG_BYTES | ENTRY_REAL, real), PSC_OK);
    assert_int_equal(pass(p, &in, true, 1, 0), PSC_OK);
    struct batch *b = take(p, &in);
    assert_int_equal(b->tags.n_names, 5);
    assert_int_equal(b->tags.n_changed, 2);
    assert_int_equal(p->shared.n_dropped_entries, 3);
    assert_int_equal(b->tags.local[1], REGISTRY_NONE);
    assert_int_equal(b->tags.local[2], REGISTRY_NONE);
    assert_int_equal(b->tags.local[4], REGISTRY_NONE);
    read_tags(p, b);
    assert_int_equal(bytes_of(p, "\3\\x01"), 1);
    assert_int_equal(bytes_of(p, "\3z"), 4);
    free(b);

    put(p, "\3\x02", 5);
    put(p, "\3\\x02", 6);
    put(p, "\3z", 7);
    assert_int_equal(pass(p, &in, false, 2, 1), PSC_OK);
    b = take(p, &in);
    assert_int_equal(b->tags.n_names, 2);
    assert_int_equal(p->shared.n_dropped_entries, 4);
    read_tags(p, b);
    assert_int_equal(bytes_of(p, "\3\\x02"), 5);
    assert_int_equal(bytes_of(p, "\3z"), 7);
    free(b);
    pair_free(p);
}

/* More names than a table takes end that session; others with the same names
 * have them. */
static void a_full_dictionary_harms_no_other_host(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    struct psc_error err;
    struct psc_buf names;
    psc_buf_init(&names, BUDGET_BYTES);
    for (unsigned i = 0; i <= TABLE_MAX_COUNTERS; i++) {
        char name[16];
        int len = snprintf(name, sizeof(name), "c-%u", i);
        psc_buf_u8(&names, 0);
        psc_buf_u8(&names, 0);
        psc_buf_string(&names, name, (size_t)len + 1); /* no instance */
    }
    struct wire_batch in = {.seq = 1, .has_counters = true};
    in.counters = (struct columns){.keyframe = true};
    in.counters.names = psc_buf_bytes(&names);
    struct decode *d = &p->decode;
    assert_int_equal(decode_apply(d, &p->shared, &in, &err), PSC_LIMIT);
    assert_int_equal(p->shared.n_dropped_entries, 0);
    in.counters.names.len = 8; /* into the second one */
    assert_int_equal(decode_apply(d, &p->shared, &in, &err), PSC_FORMAT);
    assert_int_equal(p->shared.n_dropped_entries, 0);
    assert_int_equal(d->counters.seq, 0);
    for (uint32_t i = 0; i < p->shared.seen.cap / 64; i++) {
        assert_int_equal(p->shared.seen.bits[i], 0);
    }
    psc_buf_fini(&names);
    pair_free(p);
}

/* ---- when rows are keyframes ---- */

static void rows_begin_with_a_keyframe(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    struct wire_batch in;
    assert_int_equal(tick(p, 1, 1, 1), STORED_KEYFRAME);
    assert_int_equal(tick(p, 2, 2, 1), STORED_DELTA);

    /* What the store has already is applied and not taken. */
    decode_reset(&p->decode);
    put(p, "\3a", 3);
    put(p, "\3b", 1);
    assert_int_equal(pass(p, &in, true, 3, 0), PSC_OK);
    assert_int_equal(tick(p, 4, 4, 1), STORED_KEYFRAME);
    assert_int_equal(bytes_of(p, "\3a"), 4);
    assert_int_equal(bytes_of(p, "\3b"), 1);
    assert_int_equal(tick(p, 5, 5, 1), STORED_DELTA);
    assert_int_equal(bytes_of(p, "\3a"), 5);
    pair_free(p);
}

static void every_span_begins_with_a_keyframe(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    p->shared.settle_span_us = 10 * MINUTE;
    for (uint64_t seq = 1; seq <= 30; seq++) {
        enum stored_kind kind = tick(p, seq, (int64_t)seq, 1);
        assert_int_equal(kind, seq % 10 == 1 ? STORED_KEYFRAME : STORED_DELTA);
        assert_int_equal(bytes_of(p, "\3a"), seq);
    }
    p->at_us -= 20 * MINUTE; /* the clock is set back */
    assert_int_equal(tick(p, 31, 31, 1), STORED_KEYFRAME);
    p->at_us = PSC_YEAR_2000_US - MINUTE;
    assert_int_equal(tick(p, 32, 32, 1), STORED_KEYFRAME);
    assert_int_equal(tick(p, 33, 33, 1), STORED_KEYFRAME);
    assert_int_equal(tick(p, 34, 34, 1), STORED_DELTA);
    assert_int_equal(bytes_of(p, "\3a"), 34);
    pair_free(p);
}

static void keyframes_come_often(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    p->shared.settle_span_us = 4 * HOUR;
    p->at_us = NOW - NOW % (4 * HOUR) - 8 * HOUR;
    for (uint64_t seq = 1; seq <= 59; seq++) { /* an hour later: */
        assert_int_equal(tick(p, seq, (int64_t)seq, 1),
                         seq == 1 ? STORED_KEYFRAME : STORED_DELTA);
    }
    p->at_us += MINUTE;
    assert_int_equal(tick(p, 60, 60, 1), STORED_KEYFRAME);
    for (uint64_t seq = 61; seq < 60 + DECODE_KEYFRAME_ROWS; seq++) {
        assert_int_equal(tick(p, seq, (int64_t)seq, 1), STORED_DELTA);
        p->at_us -= 59 * PSC_US_PER_S;
    }
    assert_int_equal(tick(p, 60 + DECODE_KEYFRAME_ROWS, 0, 1), STORED_KEYFRAME);
    pair_free(p);
}

static void values_beyond_the_bounds_are_stated_anew(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    assert_int_equal(tick(p, 1, 100, 1), STORED_KEYFRAME);
    assert_int_equal(tick(p, 2, -5, 1), STORED_KEYFRAME);
    assert_int_equal(bytes_of(p, "\3a"), 0);
    assert_int_equal(tick(p, 3, -5, 2), STORED_DELTA); /* the other one */
    assert_int_equal(bytes_of(p, "\3a"), 0);
    assert_int_equal(bytes_of(p, "\3b"), 2);
    assert_int_equal(tick(p, 4, INT64_MAX, 2), STORED_KEYFRAME);
    assert_int_equal(bytes_of(p, "\3a"), SANITISE_BYTES_MAX);
    assert_int_equal(tick(p, 5, 7, 2), STORED_KEYFRAME); /* back within */
    assert_int_equal(bytes_of(p, "\3a"), 7);
    assert_int_equal(tick(p, 6, 8, 2), STORED_DELTA);
    assert_int_equal(bytes_of(p, "\3a"), 8);
    pair_free(p);
}

/* What is nobody's is not shown, but readers add it up. */
static void what_is_nobodys_stays_within_the_bounds(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    for (uint64_t seq = 1; seq <= 5; seq++) {
        struct wire_batch in;
        put(p, "\3a", (int64_t)seq);
        put(p, "\x07z", (int64_t)(seq << 61)); /* no such pool */
        assert_int_equal(pass(p, &in, seq == 1, seq, seq - 1), PSC_OK);
        struct batch *b = take(p, &in);
        read_tags(p, b);
        free(b);
        assert_int_equal(bytes_of(p, "\3a"), seq);
        assert_int_equal(p->reader.entries[1].ref, 0);
        int64_t bytes = grid_values(&p->reader, 1)[COL_BYTES];
        assert_in_range(bytes, 0, SANITISE_BYTES_MAX);
    }
    pair_free(p);
}

/* A delta whose bytes came with an earlier part than the last. */
static void a_delta_in_an_earlier_part_is_stated_anew(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    struct psc_error err;
    assert_int_equal(tick(p, 1, 1, 2), STORED_KEYFRAME);
    struct wire_batch in = {.seq = 2, .has_tags = true, .more = true};
    in.tags = (struct columns){
        .base_seq = 1, .gaps = BYTES("\x18\0"), .values = BYTES("\x14")};
    assert_int_equal(decode_apply(&p->decode, &p->shared, &in, &err), PSC_OK);
    in = (struct wire_batch){.seq = 3, .part = 1};
    in.boottime_us = UPTIME_S * PSC_US_PER_S + p->at_us - NOW;
    assert_int_equal(decode_apply(&p->decode, &p->shared, &in, &err), PSC_OK);
    struct batch *b = take(p, &in);
    assert_int_equal(b->tags.kind, STORED_KEYFRAME);
    assert_int_equal(b->first_seq, 2);
    read_tags(p, b);
    assert_int_equal(bytes_of(p, "\3a"), 6);
    assert_int_equal(bytes_of(p, "\3b"), 2);
    free(b);
    pair_free(p);
}

/* A delta of a sample of which no more comes is in the grid, but in no row. */
static void an_unfinished_sample_is_not_built_upon(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    struct psc_error err;
    assert_int_equal(tick(p, 1, 1, 2), STORED_KEYFRAME);
    struct wire_batch in = {.seq = 2, .has_tags = true, .more = true};
    in.tags = (struct columns){
        .base_seq = 1, .gaps = BYTES("\x18\0"), .values = BYTES("\x14")};
    assert_int_equal(decode_apply(&p->decode, &p->shared, &in, &err), PSC_OK);
    in.seq = 3;
    in.more = false;
    in.tags.base_seq = 2;
    in.boottime_us = UPTIME_S * PSC_US_PER_S + p->at_us - NOW;
    assert_int_equal(decode_apply(&p->decode, &p->shared, &in, &err), PSC_OK);
    struct batch *b = take(p, &in);
    assert_int_equal(b->tags.kind, STORED_KEYFRAME);
    read_tags(p, b);
    assert_int_equal(bytes_of(p, "\3a"), 11);
    free(b);
    pair_free(p);
}

/* ---- at random ---- */

static uint64_t seed = 88172645463325252u;

static uint32_t any(uint32_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 32) % below;
}

enum { KEYS = 60 };

static uint8_t flags_of(unsigned key)
{
    static const uint8_t flags[] = {
        TAG_ALLOCS | TAG_FREES | TAG_OUTSTANDING | TAG_BYTES,
        TAG_OUTSTANDING | TAG_BYTES,
        TAG_BYTES | ENTRY_RECLAIMABLE,
        TAG_ALLOCS | TAG_FREES,
    };
    return flags[key % 4];
}

static void vary(int64_t *row, unsigned key)
{
    for (unsigned c = 0; c < 4; c++) {
        bool has = (flags_of(key) >> c & 1) != 0;
        uint32_t how = has ? any(3000) : 2999;
        row[c] = how == 0    ? (int64_t)((uint64_t)any(UINT32_MAX) << 32)
                 : how == 1  ? -(int64_t)any(10)
                 : how < 600 ? any(1000) + (c == COL_ALLOCS ? 2000 : 0)
                             : row[c];
    }
}

struct model {
    bool live[KEYS];
    int64_t row[KEYS][4];
};

static void key_text(unsigned key, char out[8])
{
    (void)snprintf(out, 8, "\3k%u", key);
}

static void random_sample(struct pair *p, struct model *m)
{
    for (unsigned key = 0; key < KEYS; key++) {
        if (any(40) == 0) {
            m->live[key] = !m->live[key];
        }
        if (!m->live[key]) {
            continue;
        }
        char name[8];
        key_text(key, name);
        vary(m->row[key], key);
        assert_int_equal(table_put(&p->tags, 0, name, strlen(name),
                                   flags_of(key), m->row[key]),
                         PSC_OK);
        if (flags_of(key) % 8 == 7) {
            m->row[key][COL_OUTSTANDING] =
                (int64_t)((uint64_t)m->row[key][0] - (uint64_t)m->row[key][1]);
        }
    }
}

static void check_reader(const struct pair *p, const struct model *m)
{
    uint32_t n_live = 0;
    for (unsigned key = 0; key < KEYS; key++) {
        if (!m->live[key]) {
            continue;
        }
        char name[8];
        key_text(key, name);
        uint32_t i = find(p, name);
        int64_t row[4];
        memcpy(row, m->row[key], sizeof(row));
        sanitise_tag_row(flags_of(key), row);
        assert_true(p->reader.entries[i].live);
        assert_int_equal(p->reader.entries[i].flags, flags_of(key));
        assert_memory_equal(grid_values(&p->reader, i), row, sizeof(row));
        n_live++;
    }
    assert_int_equal(p->reader.n_live, n_live);
}

static void readers_have_what_agents_sent(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    struct model m = {.live = {false}};
    unsigned n[3] = {0};
    for (uint64_t seq = 1; seq <= 5000; seq++) {
        struct wire_batch in;
        random_sample(p, &m);
        bool keyframe = seq == 1 || any(100) == 0;
        assert_int_equal(pass(p, &in, keyframe, seq, seq - 1), PSC_OK);
        p->at_us += any(3) * PSC_US_PER_S;
        in.boottime_us = UPTIME_S * PSC_US_PER_S + p->at_us - NOW;
        struct batch *b = take(p, &in);
        n[b->tags.kind]++;
        read_tags(p, b);
        free(b);
        check_reader(p, &m);
    }
    print_message("%u deltas, %u keyframes\n", n[STORED_DELTA],
                  n[STORED_KEYFRAME]);
    assert_true(n[STORED_DELTA] > 500 && n[STORED_KEYFRAME] > 500);
    pair_free(p);
}

/* ---- memory ---- */

static void a_steady_batch_allocates_itself_alone(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    for (uint64_t seq = 1; seq <= 70; seq++) {
        (void)tick(p, seq, (int64_t)seq, 1);
    }
    fault_fail_at(0);
    for (uint64_t seq = 71; seq <= 270; seq++) {
        (void)tick(p, seq, (int64_t)seq, 1);
    }
    assert_int_equal(fault_allocations(), 200);
    pair_free(p);
}

/* A session of growing samples, until the first failure. */
static bool live_through(struct pair *p)
{
    int rc = PSC_OK;
    for (uint64_t seq = 1; seq <= 4 && rc == PSC_OK; seq++) {
        int64_t values[4] = {0, 0, 0, (int64_t)seq};
        for (unsigned key = 0; key < seq * 100 && rc == PSC_OK; key++) {
            char name[8];
            key_text(key, name);
            rc = table_put(&p->tags, 0, name, strlen(name), TAG_BYTES, values);
        }
        struct wire_batch in;
        struct batch *b = NULL;
        rc = rc == PSC_OK ? pass(p, &in, seq == 1, seq, seq - 1) : rc;
        rc = rc == PSC_OK ? try_take(p, &in, &b) : rc;
        free(b);
    }
    assert_true(rc == PSC_OK || rc == PSC_NOMEM);
    return rc != PSC_OK;
}

static void every_failed_allocation_is_survived(void **state)
{
    (void)state;
    bool failed = true;
    unsigned long n = 1;
    for (; failed; n++) {
        struct pair *p = pair_new();
        fault_fail_at(n);
        failed = live_through(p);
        fault_fail_at(0);
        table_begin(&p->tags);
        assert_int_equal(tick(p, 1, 1, 1), STORED_KEYFRAME);
        assert_int_equal(p->reader.n_live, 2);
        pair_free(p);
    }
    print_message("%lu allocations failed in turn\n", n - 2);
    assert_true(n > 40);
}

/* ---- lists ---- */

static void lists_become_json(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    struct psc_buf drivers, events;
    struct wire_batch in;
    psc_buf_init(&drivers, 4096);
    psc_buf_init(&events, 4096);
    record_list_begin(&drivers);
    struct driver_record d = {.name = text("ext4"),
                              .version = text("1\n"),
                              .loaded_matches_file = -1};
    record_put_driver(&drivers, &d);
    record_list_begin(&events);
    struct event_record e = {.position = 5,
                             .at_us = NOW - 10,
                             .source = text("kernel"),
                             .details = text("{\"a\":1}")};
    record_put_event(&events, &e);
    put(p, "\3a", 1);
    assert_int_equal(pass(p, &in, true, 1, 0), PSC_OK);
    in.wall_us = p->at_us - 100 * PSC_US_PER_S; /* slow */
    in.drivers = psc_buf_bytes(&drivers);
    in.events = psc_buf_bytes(&events);
    in.sources = BYTES("\1\xff"); /* cut off */
    struct batch *b = take(p, &in);
    assert_string_equal(b->drivers, "[{\"driver\":\"ext4\",\"version\":\"1 \","
                                    "\"link_time_us\":0,"
                                    "\"loaded_at_us\":0,\"size_bytes\":0}]");
    assert_string_equal(b->events,
                        "[{\"position\":5,\"at_us\":1800000000000000,"
                        "\"source\":\"kernel\","
                        "\"details\":\"{\\\"a\\\":1}\"}]");
    assert_null(b->sources);
    assert_int_equal(p->shared.n_cut_lists, 1);
    free(b);
    psc_buf_fini(&drivers);
    psc_buf_fini(&events);
    pair_free(p);
}

/* Half of one would say that the other half is gone. */
static void an_inventory_beyond_the_budget_is_dropped_whole(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    struct budget budget;
    struct psc_buf drivers;
    struct wire_batch in;
    memset(&budget, 0, sizeof(budget));
    p->decode.budget = &budget;
    psc_buf_init(&drivers, 4096);
    record_list_begin(&drivers);
    struct driver_record d = {.name = text("ext4")};
    record_put_driver(&drivers, &d);
    record_put_driver(&drivers, &d);
    assert_int_equal(pass(p, &in, true, 1, 0), PSC_OK);
    in.drivers = psc_buf_bytes(&drivers);
    struct batch *b = take(p, &in);
    assert_non_null(b->drivers);
    assert_null(b->events);
    free(b);
    assert_true(budget_take(&budget, BUDGET_DRIVERS,
                            budget_burst(BUDGET_DRIVERS) - 3, 0));
    b = take(p, &in); /* one is left, two are asked for */
    assert_null(b->drivers);
    assert_non_null(strstr(b->events, "\"over_budget\""));
    assert_int_equal(p->shared.n_over_budget, 2);
    free(b);
    psc_buf_fini(&drivers);
    pair_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_carry_what_changed),
        cmocka_unit_test(a_delta_needs_its_base),
        cmocka_unit_test(parts_must_come_in_order),
        cmocka_unit_test(a_keyframe_must_not_say_gone),
        cmocka_unit_test(twins_and_foreign_pools_are_nobodys),
        cmocka_unit_test(a_full_dictionary_harms_no_other_host),
        cmocka_unit_test(rows_begin_with_a_keyframe),
        cmocka_unit_test(every_span_begins_with_a_keyframe),
        cmocka_unit_test(keyframes_come_often),
        cmocka_unit_test(values_beyond_the_bounds_are_stated_anew),
        cmocka_unit_test(what_is_nobodys_stays_within_the_bounds),
        cmocka_unit_test(a_delta_in_an_earlier_part_is_stated_anew),
        cmocka_unit_test(an_unfinished_sample_is_not_built_upon),
        cmocka_unit_test(readers_have_what_agents_sent),
        cmocka_unit_test(a_steady_batch_allocates_itself_alone),
        cmocka_unit_test(every_failed_allocation_is_survived),
        cmocka_unit_test(lists_become_json),
        cmocka_unit_test(an_inventory_beyond_the_budget_is_dropped_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
