/* Messages: what is encoded is decoded, what a peer could get wrong is
 * noticed, and no frame unpacks into more than the budget. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/wire.h"
#include "tests/lib/fault.h"

enum { FRAME_MAX_BYTES = 1 << 20, BUFFER_MAX_BYTES = 3 << 20 };

struct fixture {
    struct wire_decoder decoder;
    struct psc_buf frame;
    struct wire_message out;
    struct psc_error err;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    wire_decoder_init(&f->decoder);
    psc_buf_init(&f->frame, BUFFER_MAX_BYTES);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    wire_decoder_fini(&f->decoder);
    psc_buf_fini(&f->frame);
    free(f);
    return 0;
}

static struct psc_bytes bytes(const char *s)
{
    return (struct psc_bytes){(const uint8_t *)s, strlen(s)};
}

static void assert_bytes(struct psc_bytes got, const char *wanted)
{
    assert_int_equal(got.len, strlen(wanted));
    if (got.len > 0) {
        assert_memory_equal(got.data, wanted, got.len);
    }
}

static int decode(struct fixture *f)
{
    assert_int_equal(psc_buf_error(&f->frame), PSC_OK);
    return wire_decode(&f->decoder, psc_buf_bytes(&f->frame), &f->out, &f->err);
}

static int pass(struct fixture *f, const struct wire_message *m)
{
    psc_buf_reset(&f->frame);
    wire_encode(m, &f->frame);
    return decode(f);
}

static struct wire_message some_hello(void)
{
    struct wire_message m = {.type = WIRE_HELLO};
    m.hello = (struct wire_hello){
        .protocol_min = 1,
        .protocol_max = 3,
        .agent_version = "0.1.0",
        .os = "linux",
        .os_version = "Größe 12 \xf0\x9f\x90\x98",
        .os_build = NULL,
        .boot_id = {1, 2, 3, [15] = 9},
        .boot_wall_us = -5,
        .wall_us = 1767225600000000,
        .boottime_us = 77,
        .ram_bytes = 1ULL << 40,
        .role = "db",
        .region = "eu",
        .labels = bytes("\4rack\2b7\5owner\0"),
        .interval_us = 60000000,
    };
    m.hello.labels.len++; /* the last value is the empty string */
    return m;
}

static void a_hello_round_trips(void **state)
{
    struct fixture *f = *state;
    struct wire_message m = some_hello();
    assert_int_equal(pass(f, &m), PSC_OK);
    assert_int_equal(f->out.type, WIRE_HELLO);
    const struct wire_hello *h = &f->out.hello;
    assert_int_equal(h->protocol_min, 1);
    assert_int_equal(h->protocol_max, 3);
    assert_string_equal(h->agent_version, "0.1.0");
    assert_string_equal(h->os, "linux");
    assert_string_equal(h->os_version, m.hello.os_version);
    assert_string_equal(h->os_build, "");
    assert_memory_equal(h->boot_id, m.hello.boot_id, 16);
    assert_int_equal(h->boot_wall_us, -5);
    assert_int_equal(h->wall_us, 1767225600000000);
    assert_int_equal(h->boottime_us, 77);
    assert_true(h->ram_bytes == 1ULL << 40);
    assert_string_equal(h->role, "db");
    assert_string_equal(h->region, "eu");
    assert_int_equal(h->labels.len, m.hello.labels.len);
    assert_memory_equal(h->labels.data, m.hello.labels.data, h->labels.len);
    assert_int_equal(h->interval_us, 60000000);
}

static void a_batch_round_trips(void **state)
{
    struct fixture *f = *state;
    struct wire_message m = {.type = WIRE_BATCH};
    m.batch = (struct wire_batch){
        .seq = UINT64_MAX,
        .wall_us = INT64_MIN,
        .boottime_us = 5,
        .boot_id = {[15] = 1},
        .more = true,
        .part = 63,
        .has_counters = true,
        .counters = {.keyframe = true,
                     .base_seq = 12,
                     .names = bytes("n"),
                     .gaps = bytes("gg"),
                     .gone = bytes("ooo"),
                     .values = bytes("vvvv")},
        .drivers = bytes("drivers"),
        .events = bytes("events"),
        .sources = bytes("sources"),
        .aliases = bytes("aliases"),
        .missed_ticks = 3,
    };
    assert_int_equal(pass(f, &m), PSC_OK);
    const struct wire_batch *b = &f->out.batch;
    assert_true(b->seq == UINT64_MAX);
    assert_true(b->wall_us == INT64_MIN);
    assert_int_equal(b->boottime_us, 5);
    assert_memory_equal(b->boot_id, m.batch.boot_id, 16);
    assert_true(b->more);
    assert_int_equal(b->part, 63);
    assert_false(b->has_tags);
    assert_true(b->has_counters);
    assert_true(b->counters.keyframe);
    assert_int_equal(b->counters.base_seq, 12);
    assert_bytes(b->counters.names, "n");
    assert_bytes(b->counters.gaps, "gg");
    assert_bytes(b->counters.gone, "ooo");
    assert_bytes(b->counters.values, "vvvv");
    assert_bytes(b->drivers, "drivers");
    assert_bytes(b->events, "events");
    assert_bytes(b->sources, "sources");
    assert_bytes(b->aliases, "aliases");
    assert_int_equal(b->missed_ticks, 3);

    /* A table in which nothing changed is still there. */
    m.batch.has_tags = true;
    m.batch.tags = (struct columns){.keyframe = false};
    assert_int_equal(pass(f, &m), PSC_OK);
    assert_true(f->out.batch.has_tags);
    assert_int_equal(f->out.batch.tags.gaps.len, 0);
}

static void the_session_messages_round_trip(void **state)
{
    struct fixture *f = *state;
    struct wire_message m = {.type = WIRE_WELCOME};
    m.welcome = (struct wire_welcome){.protocol = 1, .wall_us = 9, .host = "h"};
    assert_int_equal(pass(f, &m), PSC_OK);
    assert_int_equal(f->out.type, WIRE_WELCOME);
    assert_int_equal(f->out.welcome.wall_us, 9);
    assert_string_equal(f->out.welcome.host, "h");

    m = (struct wire_message){.type = WIRE_OPEN};
    memset(m.open.stream, 0xab, 16);
    m.open.dropped_batches = 4;
    assert_int_equal(pass(f, &m), PSC_OK);
    assert_int_equal(f->out.type, WIRE_OPEN);
    assert_memory_equal(f->out.open.stream, m.open.stream, 16);
    assert_int_equal(f->out.open.dropped_batches, 4);

    m = (struct wire_message){.type = WIRE_CURSOR};
    memset(m.cursor.stream, 0xcd, 16);
    m.cursor.seq = 1ULL << 63;
    assert_int_equal(pass(f, &m), PSC_OK);
    assert_int_equal(f->out.type, WIRE_CURSOR);
    assert_memory_equal(f->out.cursor.stream, m.cursor.stream, 16);
    assert_true(f->out.cursor.seq == 1ULL << 63);

    m = (struct wire_message){.type = WIRE_ACK, .ack = {.seq = 5}};
    assert_int_equal(pass(f, &m), PSC_OK);
    assert_int_equal(f->out.type, WIRE_ACK);
    assert_int_equal(f->out.ack.seq, 5);

    m = (struct wire_message){.type = WIRE_NEED_KEYFRAME,
                              .need_keyframe = {.seq = 6}};
    assert_int_equal(pass(f, &m), PSC_OK);
    assert_int_equal(f->out.type, WIRE_NEED_KEYFRAME);
    assert_int_equal(f->out.need_keyframe.seq, 6);

    m = (struct wire_message){.type = WIRE_HEARTBEAT,
                              .heartbeat = {1, -2, 3, 4, 5}};
    assert_int_equal(pass(f, &m), PSC_OK);
    assert_int_equal(f->out.type, WIRE_HEARTBEAT);
    assert_int_equal(f->out.heartbeat.boottime_us, -2);
    assert_int_equal(f->out.heartbeat.last_seq, 5);

    m = (struct wire_message){.type = WIRE_PULSE, .pulse = {.wall_us = 0}};
    assert_int_equal(pass(f, &m), PSC_OK);
    assert_int_equal(f->out.type, WIRE_PULSE);
}

static void the_enrolment_messages_round_trip(void **state)
{
    struct fixture *f = *state;
    struct wire_message m = {.type = WIRE_ENROL};
    m.enrol.secret = bytes("secret");
    m.enrol.request = bytes("request");
    m.enrol.host = "web-7";
    m.enrol.os = "linux";
    assert_int_equal(pass(f, &m), PSC_OK);
    assert_int_equal(f->out.type, WIRE_ENROL);
    assert_bytes(f->out.enrol.secret, "secret");
    assert_bytes(f->out.enrol.request, "request");
    assert_string_equal(f->out.enrol.host, "web-7");
    assert_string_equal(f->out.enrol.os, "linux");

    m = (struct wire_message){.type = WIRE_RENEW};
    m.renew.request = bytes("again");
    assert_int_equal(pass(f, &m), PSC_OK);
    assert_int_equal(f->out.type, WIRE_RENEW);
    assert_bytes(f->out.renew.request, "again");

    m = (struct wire_message){.type = WIRE_CERTIFICATE};
    m.certificate.certificate = bytes("pem");
    m.certificate.ca = bytes("bundle");
    assert_int_equal(pass(f, &m), PSC_OK);
    assert_int_equal(f->out.type, WIRE_CERTIFICATE);
    assert_bytes(f->out.certificate.certificate, "pem");
    assert_bytes(f->out.certificate.ca, "bundle");
    assert_string_equal(f->out.certificate.host, "");

    m = (struct wire_message){.type = WIRE_REFUSAL};
    m.refusal.code = WIRE_REFUSAL_NAME_TAKEN;
    m.refusal.reason = "taken";
    m.refusal.retry_after_us = 8;
    assert_int_equal(pass(f, &m), PSC_OK);
    assert_int_equal(f->out.refusal.code, WIRE_REFUSAL_NAME_TAKEN);
    assert_string_equal(f->out.refusal.reason, "taken");
    assert_int_equal(f->out.refusal.retry_after_us, 8);
    m.refusal.code = (enum wire_refusal)99; /* of a later version */
    assert_int_equal(pass(f, &m), PSC_OK);
    assert_int_equal(f->out.refusal.code, WIRE_REFUSAL_UNSPECIFIED);
}

/* Decode a frame written by hand. */
static int decode_raw(struct fixture *f, const void *data, size_t len)
{
    psc_buf_reset(&f->frame);
    psc_buf_append(&f->frame, data, len);
    return decode(f);
}
#define RAW(f, text) decode_raw(f, text, sizeof(text) - 1)

static void what_is_no_message_is_malformed(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(RAW(f, ""), PSC_FORMAT);
    assert_int_equal(RAW(f, "\xff"), PSC_FORMAT);
    assert_int_equal(RAW(f, "GET / HTTP/1.1\r\n\r\n"), PSC_FORMAT);
    /* Only a field of a later version: no body that we know. */
    assert_int_equal(RAW(f, "\xba\x06\x02hi"), PSC_FORMAT);
    /* A batch that is cut off, and one whose length lies. */
    assert_int_equal(RAW(f, "\x22\x05\x08\x01"), PSC_FORMAT);
    assert_int_equal(RAW(f, "\x22\xff\xff\xff\xff\x0f\x08\x01"), PSC_FORMAT);
    /* A body of the wrong wire type. */
    assert_int_equal(RAW(f, "\x20\x05"), PSC_FORMAT);
}

static void unknown_fields_are_skipped(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(RAW(f, "\xba\x06\x02hi\x2a\x05\x08\x07\xc0\x0c\x01"),
                     PSC_OK);
    assert_int_equal(f->out.type, WIRE_ACK);
    assert_int_equal(f->out.ack.seq, 7);
}

static void ids_have_sixteen_bytes(void **state)
{
    struct fixture *f = *state;
    /* Batch without boot_id; Open of 15 bytes, of 17. */
    assert_int_equal(RAW(f, "\x22\x02\x08\x01"), PSC_FORMAT);
    assert_string_equal(f->err.msg, "boot_id is not 16 bytes");
    assert_int_equal(RAW(f, "\x62\x11\x0a\x0f"
                            "123456789abcdef"),
                     PSC_FORMAT);
    assert_int_equal(RAW(f, "\x62\x12\x0a\x10"
                            "123456789abcdef0"),
                     PSC_OK);
    assert_int_equal(RAW(f, "\x62\x13\x0a\x11"
                            "123456789abcdef01"),
                     PSC_FORMAT);
    assert_int_equal(RAW(f, "\x6a\x00"), PSC_FORMAT);
}

static void texts_are_utf8_of_bounded_length(void **state)
{
    struct fixture *f = *state;
    static const char *const bad[] = {
        "\x80",
        "a\xc3",
        "\xc0\x80",
        "\xc1\xbf",
        "\xe0\x9f\xbf",
        "\xed\xa0\x80",
        "\xe2\x82",
        "\xf0\x8f\xbf\xbf",
        "\xff",
        "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80",
        "\xe2\x28\xa1",
    };
    static const char *const good[] = {
        "",
        "\x7f",
        "\xc2\x80",
        "\xdf\xbf",
        "\xe0\xa0\x80",
        "\xed\x9f\xbf",
        "\xee\x80\x80",
        "\xef\xbf\xbf",
        "\xf0\x90\x80\x80",
        "\xf4\x8f\xbf\xbf",
    };
    struct wire_message m = {.type = WIRE_WELCOME};
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        m.welcome.host = bad[i];
        assert_int_equal(pass(f, &m), PSC_FORMAT);
        assert_string_equal(f->err.msg, "host is too long or not UTF-8");
    }
    for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        m.welcome.host = good[i];
        assert_int_equal(pass(f, &m), PSC_OK);
        assert_string_equal(f->out.welcome.host, good[i]);
    }
    static char text[WIRE_TEXT_MAX_BYTES + 2];
    memset(text, 'x', WIRE_TEXT_MAX_BYTES);
    m.welcome.host = text;
    assert_int_equal(pass(f, &m), PSC_OK);
    text[WIRE_TEXT_MAX_BYTES] = 'x';
    assert_int_equal(pass(f, &m), PSC_FORMAT);
}

static void labels_are_pairs_of_texts(void **state)
{
    struct fixture *f = *state;
    struct wire_message m = some_hello();
    static const char *const bad[] = {"\1a", "\1a\2b", "\1a\1\xff", "\x7f",
                                      "\1a\1b\1c"};
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        m.hello.labels = bytes(bad[i]);
        assert_int_equal(pass(f, &m), PSC_FORMAT);
    }
    static const uint8_t with_nul[] = {1, 'a', 2, 'b', 0};
    m.hello.labels = (struct psc_bytes){with_nul, sizeof(with_nul)};
    assert_int_equal(pass(f, &m), PSC_FORMAT);
    struct psc_buf labels;
    psc_buf_init(&labels, FRAME_MAX_BYTES);
    for (unsigned i = 0; i < WIRE_LABELS_MAX; i++) {
        psc_buf_string(&labels, "name", 4);
        psc_buf_string(&labels, "value", 5);
    }
    m.hello.labels = psc_buf_bytes(&labels);
    assert_int_equal(pass(f, &m), PSC_OK);
    psc_buf_string(&labels, "name", 4);
    psc_buf_string(&labels, "value", 5);
    m.hello.labels = psc_buf_bytes(&labels);
    assert_int_equal(pass(f, &m), PSC_FORMAT);
    psc_buf_fini(&labels);
}

/* A megabyte of what is small on the wire and big in memory. */
static void no_frame_unpacks_into_more_than_the_budget(void **state)
{
    struct fixture *f = *state;
    static const struct {
        uint8_t unit[4];
        size_t len;
    } bombs[] = {
        {{0x22, 0x00}, 2},             /* empty batches, each replaces one */
        {{0x7a, 0x00}, 2},             /* unknown empty fields */
        {{0x78, 0x00}, 2},             /* unknown numbers */
        {{0x22, 0x02, 0x3a, 0x00}, 4}, /* batches of empty tags, merged */
    };
    for (unsigned i = 0; i < sizeof(bombs) / sizeof(bombs[0]); i++) {
        psc_buf_reset(&f->frame);
        while (f->frame.len + bombs[i].len <= FRAME_MAX_BYTES) {
            psc_buf_append(&f->frame, bombs[i].unit, bombs[i].len);
        }
        assert_int_equal(decode(f), PSC_LIMIT);
        assert_true(f->decoder.cap <= WIRE_UNPACK_BUDGET_BYTES);
    }
    /* Nothing lasts: the next frame is decoded as ever. */
    struct wire_message m = some_hello();
    assert_int_equal(pass(f, &m), PSC_OK);
}

static void a_full_frame_fits_the_budget(void **state)
{
    struct fixture *f = *state;
    static uint8_t half[FRAME_MAX_BYTES / 2 - 64];
    struct wire_message m = {.type = WIRE_BATCH};
    m.batch.has_tags = true;
    m.batch.tags.names = (struct psc_bytes){half, sizeof(half)};
    m.batch.tags.values = (struct psc_bytes){half, sizeof(half)};
    assert_int_equal(pass(f, &m), PSC_OK);
    assert_int_equal(f->out.batch.tags.values.len, sizeof(half));
    /* And what is larger than any budget is not even tried. */
    psc_buf_reset(&f->frame);
    while (f->frame.len < WIRE_UNPACK_BUDGET_BYTES) {
        psc_buf_append(&f->frame, half, sizeof(half));
    }
    assert_int_equal(decode(f), PSC_LIMIT);
}

static void steady_messages_allocate_nothing(void **state)
{
    struct fixture *f = *state;
    struct wire_message m = some_hello();
    assert_int_equal(pass(f, &m), PSC_OK);
    fault_fail_at(0);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(pass(f, &m), PSC_OK);
    }
    assert_int_equal(fault_allocations(), 0);
}

static void failed_allocations_are_survived(void **state)
{
    struct fixture *f = *state;
    struct wire_message m = some_hello();
    fault_fail_at(1);
    wire_encode(&m, &f->frame);
    assert_int_equal(psc_buf_error(&f->frame), PSC_NOMEM);
    psc_buf_reset(&f->frame);
    wire_encode(&m, &f->frame);
    fault_fail_at(1);
    assert_int_equal(decode(f), PSC_NOMEM);
    assert_int_equal(decode(f), PSC_OK);
    /* While it grows for a large one: the small one still fits after it. */
    static uint8_t large[100000];
    m = (struct wire_message){.type = WIRE_RENEW};
    m.renew.request = (struct psc_bytes){large, sizeof(large)};
    psc_buf_reset(&f->frame);
    wire_encode(&m, &f->frame);
    fault_fail_at(1);
    assert_int_equal(decode(f), PSC_NOMEM);
    fault_fail_at(0);
    m = some_hello();
    assert_int_equal(pass(f, &m), PSC_OK);
}

static void a_full_buffer_is_an_error(void **state)
{
    (void)state;
    struct psc_buf tiny;
    psc_buf_init(&tiny, 10);
    struct wire_message m = some_hello();
    wire_encode(&m, &tiny);
    assert_int_equal(psc_buf_error(&tiny), PSC_LIMIT);
    assert_int_equal(tiny.len, 0);
    psc_buf_fini(&tiny);
}

static void refusals_have_names(void **state)
{
    (void)state;
    for (int i = 0; i <= WIRE_REFUSAL_HOST_NAME; i++) {
        assert_true(strlen(wire_refusal_name((enum wire_refusal)i)) > 1);
    }
    assert_string_equal(wire_refusal_name((enum wire_refusal)99), "?");
}

static void host_names_are_judged(void **state)
{
    (void)state;
    char name[255];
    memset(name, 'a', sizeof(name));
    name[254] = '\0';
    assert_false(wire_is_host_name(name));
    assert_true(wire_is_host_name(name + 1));
    assert_true(wire_is_host_name("db-1.example.org"));
    assert_true(wire_is_host_name("A_b"));
    assert_false(wire_is_host_name(""));
    assert_false(wire_is_host_name("-x"));
    assert_false(wire_is_host_name("../x"));
    assert_false(wire_is_host_name("a b"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_hello_round_trips),
        TEST(a_batch_round_trips),
        TEST(the_session_messages_round_trip),
        TEST(the_enrolment_messages_round_trip),
        TEST(what_is_no_message_is_malformed),
        TEST(unknown_fields_are_skipped),
        TEST(ids_have_sixteen_bytes),
        TEST(texts_are_utf8_of_bounded_length),
        TEST(labels_are_pairs_of_texts),
        TEST(no_frame_unpacks_into_more_than_the_budget),
        TEST(a_full_frame_fits_the_budget),
        TEST(steady_messages_allocate_nothing),
        TEST(failed_allocations_are_survived),
        TEST(a_full_buffer_is_an_error),
        TEST(refusals_have_names),
        TEST(host_names_are_judged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
