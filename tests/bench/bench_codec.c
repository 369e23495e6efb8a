/* What the snapshot codec costs: nanoseconds of CPU per put, per changed entry
 * encoded, applied to a grid, and taken by a session of the collector as a
 * whole (frame to batch for the store), and bytes per snapshot, on tags that
 * move as slab caches do; and the memory of such a session. "by hash" puts the
 * entries backwards, so that none is where the last sample leads one to expect
 * it. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/decode.h"
#include "common/clock.h"
#include "proto/wire.h"

enum { TICKS = 1000, KEY_BYTES = 48, BUDGET = 1 << 20 };

#define MINUTE_US (60 * PSC_US_PER_S)

struct tag {
    char key[KEY_BYTES];
    size_t key_len;
    int64_t values[TABLE_COLUMNS_MAX];
};

struct figures {
    int64_t put_ns, encode_ns, apply_ns, session_ns;
    uint64_t puts, changed, delta_bytes, keyframe_bytes;
};

static uint64_t seed = 88172645463325252u;

static uint32_t any(uint32_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 32) % below;
}

static int64_t now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void make_tags(struct tag *tags, uint32_t n)
{
    static const char *const stems[] = {"kmalloc-rcl", "ext4_inode",
                                        "skbuff",      "nf_conntrack",
                                        "bio",         "xfs_buf_item"};
    for (uint32_t i = 0; i < n; i++) {
        struct tag *t = &tags[i];
        t->key_len = (size_t)snprintf(t->key, KEY_BYTES, "%c%s-%u", POOL_SLAB,
                                      stems[i / 7 % 6], i);
        t->values[COL_OUTSTANDING] = any(1u << any(20));
        t->values[COL_BYTES] =
            (int64_t)(t->values[COL_OUTSTANDING] / 16 + 1) * 4096;
    }
}

/* Objects come and go; now and then that takes or frees a slab or two. */
static void move_tags(struct tag *tags, uint32_t n, uint32_t percent)
{
    for (uint32_t i = 0; i < n; i++) {
        if (any(100) >= percent) {
            continue;
        }
        int64_t *v = tags[i].values;
        v[COL_OUTSTANDING] += (int64_t)any(1u << any(9)) + 1;
        if (any(2) == 0) {
            int64_t bytes = v[COL_BYTES] + ((int64_t)any(9) - 4) * 8192;
            v[COL_BYTES] = bytes > 0 ? bytes : 4096;
        }
    }
}

static void fill(struct table *t, const struct tag *tags, uint32_t n,
                 bool backwards)
{
    table_begin(t);
    for (uint32_t i = 0; i < n; i++) {
        const struct tag *tag = &tags[backwards ? n - 1 - i : i];
        if (table_put(t, 0, tag->key, tag->key_len, TAG_OUTSTANDING | TAG_BYTES,
                      tag->values) != PSC_OK) {
            abort();
        }
    }
}

/* What a collector keeps, but for the meaning of the names. */
struct reader {
    struct name_chain chain;
    struct grid grid;
    struct grid_changes changes;
};

static void apply(struct reader *r, const struct columns *c)
{
    const struct grid_part part = {c->gone, c->gaps, c->values};
    if (c->keyframe) {
        grid_clear(&r->grid);
        r->chain.len = 0;
    }
    struct name_reader names;
    name_reader_init(&names, c->names, &r->chain);
    while (name_reader_next(&names)) {
        if (grid_add(&r->grid, 0, names.flags) != PSC_OK) {
            abort();
        }
    }
    if (grid_apply(&r->grid, 0, &part, &r->changes, NULL) != PSC_OK) {
        abort();
    }
}

/* A session of the collector, from the wire. */
struct session {
    struct decode_shared shared;
    struct decode decode;
    struct wire_decoder wire;
    struct clock_offset clock;
    struct psc_buf frame;
    uint64_t seq;
};

static void start_session(struct session *s)
{
    *s = (struct session){.seq = 0};
    decode_shared_init(&s->shared);
    decode_init(&s->decode, NULL);
    wire_decoder_init(&s->wire);
    clock_offset_init(&s->clock, false, 0);
    clock_offset_observe(&s->clock, MINUTE_US * TICKS * 2,
                         MINUTE_US * TICKS * 2, MINUTE_US * TICKS);
    psc_buf_init(&s->frame, BUDGET);
}

static void stop_session(struct session *s)
{
    decode_fini(&s->decode);
    decode_shared_fini(&s->shared);
    wire_decoder_fini(&s->wire);
    psc_buf_fini(&s->frame);
}

static void make_frame(struct session *s, const struct columns *c)
{
    struct wire_message m = {.type = WIRE_BATCH};
    s->seq++;
    m.batch = (struct wire_batch){.seq = s->seq, .has_tags = true, .tags = *c};
    m.batch.tags.base_seq = c->keyframe ? 0 : s->seq - 1;
    m.batch.boottime_us = (int64_t)s->seq * MINUTE_US;
    psc_buf_reset(&s->frame);
    wire_encode(&m, &s->frame);
}

static void take_frame(struct session *s)
{
    static const uint8_t zero[16];
    const struct decode_facts facts = {
        .stream = zero,
        .boot_id = zero,
        .clock = &s->clock,
        .now_us = MINUTE_US * TICKS * 2,
    };
    struct wire_message m;
    struct batch *b;
    if (wire_decode(&s->wire, psc_buf_bytes(&s->frame), &m, NULL) != PSC_OK ||
        decode_apply(&s->decode, &s->shared, &m.batch, NULL) != PSC_OK ||
        decode_take(&s->decode, &s->shared, &facts, &m.batch, &b) != PSC_OK) {
        abort();
    }
    free(b);
}

static size_t run_tick(struct table *from, struct reader *to, struct session *s,
                       struct table_writer *w, bool keyframe, struct figures *f)
{
    struct columns c;
    uint32_t next = 0;
    int64_t start = now_ns();
    if (table_encode(from, keyframe, 1, BUDGET, &next, w, &c) != PSC_OK) {
        abort();
    }
    int64_t encoded = now_ns();
    apply(to, &c);
    f->apply_ns += now_ns() - encoded;
    f->encode_ns += encoded - start;
    f->changed += to->changes.n_changed;
    make_frame(s, &c);
    start = now_ns();
    take_frame(s);
    f->session_ns += now_ns() - start;
    return c.names.len + c.gaps.len + c.gone.len + c.values.len;
}

static void run(uint32_t n, uint32_t percent, bool backwards)
{
    struct tag *tags = calloc(n, sizeof(*tags));
    struct table from;
    struct reader to = {.chain = {.len = 0}};
    struct session session;
    struct table_writer w;
    struct figures first = {0}, f = {0};
    if (tags == NULL) {
        abort();
    }
    table_init(&from, TABLE_COLUMNS_MAX, n, BUDGET);
    grid_init(&to.grid, TABLE_COLUMNS_MAX, n, NULL);
    grid_changes_init(&to.changes, NULL);
    table_writer_init(&w, BUDGET);
    start_session(&session);
    make_tags(tags, n);
    fill(&from, tags, n, false);
    first.keyframe_bytes = run_tick(&from, &to, &session, &w, true, &first);
    for (int tick = 0; tick < TICKS; tick++) {
        move_tags(tags, n, percent);
        int64_t start = now_ns();
        fill(&from, tags, n, backwards);
        f.put_ns += now_ns() - start;
        f.puts += n;
        f.delta_bytes += run_tick(&from, &to, &session, &w, false, &f);
    }
    printf(
        "%5u %7u%% %-9s %8.1f %9.1f %8.1f %10.1f %10.0f %10.2f %10llu %9zu\n",
        (unsigned)n, (unsigned)percent, backwards ? "by hash" : "in order",
        (double)f.put_ns / (double)f.puts,
        (double)f.encode_ns / (double)f.changed,
        (double)f.apply_ns / (double)f.changed,
        (double)f.session_ns / (double)f.changed, (double)f.delta_bytes / TICKS,
        (double)f.delta_bytes / (double)f.changed,
        (unsigned long long)first.keyframe_bytes,
        decode_bytes(&session.decode));
    table_fini(&from);
    grid_fini(&to.grid);
    grid_changes_fini(&to.changes);
    stop_session(&session);
    table_writer_fini(&w);
    free(tags);
}

int main(void)
{
    printf("%5s %8s %-9s %8s %9s %8s %10s %10s %10s %10s %9s\n", "tags",
           "changing", "puts", "put ns", "encode ns", "apply ns", "session ns",
           "B/delta", "B/change", "B/keyframe", "B/session");
    static const uint32_t counts[] = {300, 3000}, percents[] = {5, 20};
    for (unsigned i = 0; i < 2; i++) {
        for (unsigned j = 0; j < 2; j++) {
            run(counts[i], percents[j], false);
            run(counts[i], percents[j], true);
        }
    }
    return 0;
}
