/* The session's pure parts: which states follow which, what is made of a
 * peer's bytes, and what becomes of wire batches. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collector/decode.h"
#include "collector/decode_lists.h"
#include "collector/sanitise.h"
#include "collector/session.h"
#include "common/clock.h"
#include "proto/record.h"

#define NOW (1800000000LL * PSC_US_PER_S)

static struct psc_bytes text(const char *s)
{
    struct psc_bytes b = {(const uint8_t *)s, strlen(s)};
    return b;
}

#define BYTES(literal)                                                         \
    ((struct psc_bytes){(const uint8_t *)(literal), sizeof(literal) - 1})

static struct psc_buf out;

static const char *taken(void)
{
    psc_buf_u8(&out, '\0');
    assert_int_equal(psc_buf_error(&out), PSC_OK);
    out.len = 0;
    return (const char *)out.data;
}

/* ---- states ---- */

static void states_follow_the_diagram(void **state)
{
    (void)state;
    assert_true(session_may_change(SESSION_HANDSHAKE, SESSION_FIRST_FRAME));
    assert_true(session_may_change(SESSION_FIRST_FRAME, SESSION_CLAIMING));
    assert_true(session_may_change(SESSION_FIRST_FRAME, SESSION_ENROLLING));
    assert_true(session_may_change(SESSION_CLAIMING, SESSION_READY));
    assert_false(session_may_change(SESSION_FIRST_FRAME, SESSION_READY));
    assert_false(session_may_change(SESSION_ENROLLING, SESSION_READY));
    assert_false(session_may_change(SESSION_READY, SESSION_CLAIMING));
    for (unsigned s = 0; s < SESSION_STATES; s++) {
        enum session_state from = (enum session_state)s;
        assert_true(session_may_change(from, SESSION_CLOSING) ==
                    (from != SESSION_CLOSING));
        assert_false(session_may_change(SESSION_CLOSING, from));
        assert_string_not_equal(session_state_name(from), "?");
    }
}

/* ---- texts ---- */

static void tags_become_canonical(void **state)
{
    (void)state;
    static const struct {
        struct psc_bytes in;
        const char *out;
        bool canonical;
    } cases[] = {
        {BYTES("kmalloc-64"), "kmalloc-64", true},
        {BYTES("Abc "), "Abc ", true},
        {BYTES("a\\x20b"), "a\\x20b", true},
        {BYTES("a\\x2b"), "a\\x5Cx2b", false}, /* lower case is not it */
        {BYTES("a\\"), "a\\x5C", false},
        {BYTES("\0\xff\n"), "\\x00\\xFF\\x0A", false},
        {BYTES("\xc3\xa9"), "\\xC3\\xA9", false},
        {BYTES(""), "", true},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        bool canonical = sanitise_tag_text(cases[i].in, &out);
        assert_string_equal(taken(), cases[i].out);
        assert_int_equal(canonical, cases[i].canonical);
        /* What it makes is canonical. */
        assert_true(sanitise_tag_text(text(cases[i].out), &out));
        assert_string_equal(taken(), cases[i].out);
    }
}

static void texts_become_utf8(void **state)
{
    (void)state;
    static const struct {
        struct psc_bytes in;
        const char *out;
    } cases[] = {
        {BYTES("caf\xc3\xa9 \xf0\x9f\x98\x80"), "caf\xc3\xa9 \xf0\x9f\x98\x80"},
        {BYTES("\xc0\x80"), "\\xC0\\x80"},                   /* overlong */
        {BYTES("\xed\xa0\x80"), "\\xED\\xA0\\x80"},          /* surrogate */
        {BYTES("\xf4\x90\x80\x80"), "\\xF4\\x90\\x80\\x80"}, /* too large */
        {BYTES("\xe2\x82"), "\\xE2\\x82"},                   /* cut off */
        {BYTES("a\0b\x7f\xc2\x85"), "a\\x00b\\x7F\\xC2\\x85"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        bool clean = sanitise_text(cases[i].in, &out);
        assert_int_equal(clean, i == 0);
        assert_string_equal(taken(), cases[i].out);
    }
}

static void json_is_safe(void **state)
{
    (void)state;
    sanitise_json_string(&out, BYTES("a\"b\\\0\n\xff\xc3\xa9"), 100);
    assert_string_equal(taken(), "\"a\\\"b\\\\  \xef\xbf\xbd\xc3\xa9\"");
    sanitise_json_string(&out, text("abcdef"), 3);
    assert_string_equal(taken(), "\"abc\"");
    sanitise_json_object(&out, text("{ \"a\": [1, 2] }"));
    assert_string_equal(taken(), "{\"a\":[1,2]}");
    sanitise_json_object(&out, text(""));
    assert_string_equal(taken(), "{}");
    static const char *const bad[] = {
        "[1]", "nonsense", "{\"a\":\"\\u0000\"}", "{\"a\":1e999}", "{",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        sanitise_json_object(&out, text(bad[i]));
        assert_memory_equal(taken(), "{\"text\":\"", 9);
    }
    char deep[4096];
    memset(deep, '[', sizeof(deep));
    struct psc_bytes bytes = {(const uint8_t *)deep, sizeof(deep)};
    sanitise_json_object(&out, bytes);
    assert_memory_equal(taken(), "{\"text\":\"[[", 11);
}

static void values_and_times_are_bounded(void **state)
{
    (void)state;
    assert_int_equal(sanitise_tag_value(COL_BYTES, -1), 0);
    assert_int_equal(sanitise_tag_value(COL_BYTES, INT64_MAX),
                     (int64_t)1 << 48);
    assert_int_equal(sanitise_tag_value(COL_ALLOCS, INT64_MAX),
                     (int64_t)1 << 60);
    assert_true(sanitise_is_time(NOW, NOW));
    assert_false(sanitise_is_time(0, NOW));
    assert_false(sanitise_is_time(NOW + 2LL * 86400 * PSC_US_PER_S, NOW));
}

static void labels_become_an_object(void **state)
{
    (void)state;
    struct psc_buf labels;
    psc_buf_init(&labels, 4096);
    psc_buf_string(&labels, "rack", 4);
    psc_buf_string(&labels, "7\"", 2);
    psc_buf_string(&labels, "a", 1);
    psc_buf_string(&labels, "", 0);
    psc_buf_varint(&labels, 1000); /* a length that is not there */
    decode_labels(psc_buf_bytes(&labels), &out);
    assert_string_equal(taken(), "{\"rack\":\"7\\\"\",\"a\":\"\"}");
    psc_buf_fini(&labels);
}

/* ---- batches ---- */

/* An agent's table and its encoder beside a decoder. */
struct pair {
    struct table tags;
    struct table_writer writer;
    struct decode_shared shared;
    struct decode decode;
    struct registry_quota quota;
    struct clock_offset clock;
    struct columns columns;
};

static struct pair *pair_new(void)
{
    struct pair *p = calloc(1, sizeof(*p));
    assert_non_null(p);
    table_init(&p->tags, 4, 1000, 100000, true);
    table_writer_init(&p->writer, 100000);
    assert_int_equal(decode_shared_init(&p->shared), PSC_OK);
    decode_init(&p->decode, &p->quota);
    clock_offset_init(&p->clock, false, 0);
    clock_offset_observe(&p->clock, NOW, NOW, 1000 * PSC_US_PER_S);
    table_begin(&p->tags);
    return p;
}

static void pair_free(struct pair *p)
{
    table_fini(&p->tags);
    table_writer_fini(&p->writer);
    decode_fini(&p->decode);
    decode_shared_fini(&p->shared);
    free(p);
}

static void put(struct pair *p, const char *key, int64_t bytes)
{
    int64_t values[4] = {0, 0, 0, bytes};
    assert_int_equal(
        table_put(&p->tags, 0, key, strlen(key), TAG_BYTES, values), PSC_OK);
}

/* Encode what was put and decode it; returns decode_apply()'s answer. */
static int pass(struct pair *p, struct wire_batch *in, bool keyframe,
                uint64_t seq, uint64_t base)
{
    uint32_t next = 0;
    struct psc_error err;
    *in = (struct wire_batch){.seq = seq, .has_tags = true, .wall_us = NOW};
    in->boottime_us = 900 * PSC_US_PER_S;
    assert_int_equal(table_encode(&p->tags, keyframe, base, 65536, &next,
                                  &p->writer, &in->tags),
                     PSC_OK);
    table_begin(&p->tags);
    return decode_apply(&p->decode, in, &err);
}

static struct batch *take(struct pair *p, const struct wire_batch *in)
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
    struct batch *b;
    assert_int_equal(decode_take(&p->decode, &p->shared, &facts, in, &b),
                     PSC_OK);
    return b;
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
    assert_int_equal(b->tags.kind, BATCH_KEYFRAME);
    assert_int_equal(b->tags.n, 3);
    assert_int_equal(b->counters.kind, BATCH_NO_TABLE);
    assert_int_equal(b->at_us, NOW - 100 * PSC_US_PER_S);
    free(b);
    put(p, "\3a", 1);
    put(p, "\3c", 4);
    assert_int_equal(pass(p, &in, false, 2, 1), PSC_OK);
    b = take(p, &in);
    assert_int_equal(b->tags.kind, BATCH_DELTA);
    assert_int_equal(b->tags.n, 1);
    assert_int_equal(b->tags.values[COL_BYTES], 4);
    assert_int_equal(b->tags.n_gone, 1);
    struct psc_bytes key = registry_key(&p->shared.tags, b->tags.gone[0]);
    assert_memory_equal(key.data, "\3b", 2);
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
    assert_int_equal(decode_apply(&p->decode, &in, &err), PSC_FORMAT);
    in.part = 0;
    in.more = true;
    assert_int_equal(decode_apply(&p->decode, &in, &err), PSC_OK);
    in.part = 2;
    in.seq = 2;
    assert_int_equal(decode_apply(&p->decode, &in, &err), PSC_FORMAT);
    for (in.part = 0, in.seq = 1; in.part < 64; in.part++, in.seq++) {
        assert_int_equal(decode_apply(&p->decode, &in, &err), PSC_OK);
    }
    assert_int_equal(decode_apply(&p->decode, &in, &err), PSC_FORMAT);
    pair_free(p);
}

static void twins_and_foreign_pools_are_dropped(void **state)
{
    (void)state;
    struct pair *p = pair_new();
    struct wire_batch in;
    put(p, "\3\x01", 1);
    put(p, "\3\\x01", 2); /* the same when it is canonical */
    put(p, "\x07z", 3);   /* no such pool */
    put(p, "\3z", 4);
    assert_int_equal(pass(p, &in, true, 1, 0), PSC_OK);
    struct batch *b = take(p, &in);
    assert_int_equal(b->tags.n, 2);
    assert_int_equal(p->shared.n_dropped_entries, 2);
    assert_int_not_equal(b->tags.index[0], b->tags.index[1]);
    free(b);
    pair_free(p);
}

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
    in.wall_us = NOW - 200 * PSC_US_PER_S; /* 100 s slow */
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
    psc_buf_init(&out, 65536);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(states_follow_the_diagram),
        cmocka_unit_test(tags_become_canonical),
        cmocka_unit_test(texts_become_utf8),
        cmocka_unit_test(json_is_safe),
        cmocka_unit_test(values_and_times_are_bounded),
        cmocka_unit_test(labels_become_an_object),
        cmocka_unit_test(batches_carry_what_changed),
        cmocka_unit_test(a_delta_needs_its_base),
        cmocka_unit_test(parts_must_come_in_order),
        cmocka_unit_test(twins_and_foreign_pools_are_dropped),
        cmocka_unit_test(lists_become_json),
        cmocka_unit_test(an_inventory_beyond_the_budget_is_dropped_whole),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    psc_buf_fini(&out);
    return rc;
}
