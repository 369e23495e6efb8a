/* A hostile client against the real collector, while an honest agent goes on:
 * garbage before TLS, handshakes that never end, 10,000 idle connections,
 * frames and batches that lie in every way, floods of enrolments. The
 * collector's memory stays bounded, each refusal is logged with its reason and
 * counted, and the honest agent loses nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/conn.h"
#include "common/pki.h"
#include "proto/record.h"
#include "tests/lib/client.h"
#include "tests/lib/scene.h"
#include "tests/lib/spawn.h"
#include "tests/lib/world.h"

enum {
    WAIT_S = 30,
    IDLE_WANTED = 10000,
    FDS_SPARE = 200,
    GARBAGE_CONNECTIONS = 200,
    TAGS_MANY = 20000,
    ENROLMENTS = 200,
    OPENS = 50,
    MIB = 1024, /* in KiB */
};

static struct world world;
static struct scene scene;
static struct world_agent *honest, *evil;
static SSL_CTX *evil_ctx, *bare_ctx;
static long start_kib, peak_kib;

/* --- watching --- */

static void watch_memory(const char *what)
{
    long kib = world_memory_kib(world.collector, "VmRSS");
    peak_kib = kib > peak_kib ? kib : peak_kib;
    print_message("%-34s collector %6.1f MiB (%+.1f)\n", what,
                  (double)kib / MIB, (double)(kib - start_kib) / MIB);
}

static long long refused(const char *reason)
{
    char name[96];
    (void)snprintf(name, sizeof(name),
                   "poolscope_collector_refusals_total{reason=\"%s\"}", reason);
    return world_metric(&world, name);
}

/* Wait until at least @n were refused so: the collector counts one when its
 * connection is over, which may be a little after the peer saw its end. */
static void await_refused(const char *reason, long long n)
{
    int64_t end_us = psc_clock_mono_us() + WAIT_S * PSC_US_PER_S;
    while (refused(reason) < n) {
        if (psc_clock_mono_us() > end_us) {
            world_show_log(world.collector_log);
            fail_msg("only %lld of %lld refusals (%s)", refused(reason), n,
                     reason);
        }
        spawn_sleep_ms(50);
    }
}

/* --- the beginning and the end --- */

static int start(void **state)
{
    (void)state;
    struct rlimit files;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    files.rlim_cur = files.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
    world_start(&world, false, NULL, NULL);
    scene_init(&scene, &world, "honest", 0, NULL);
    honest = scene.agent;
    world_agent_start(honest);
    /* The evil one has enrolled as anybody may who has a token. */
    evil = world_agent_add(&world, "evil", scene.words);
    world_agent_start(evil);
    world_log_await(evil->log, "connected to", 1, WAIT_S);
    world_agent_stop(evil, SIGTERM);
    evil_ctx = client_ctx(evil->state_dir);
    bare_ctx = client_ctx(NULL);
    scene_await_taken(&scene, 10);
    start_kib = world_memory_kib(world.collector, "VmRSS");
    watch_memory("at the start");
    return 0;
}

static int stop(void **state)
{
    (void)state;
    scene_expect_all(&scene, "beside a hostile client");
    steps_stop(scene.steps);
    assert_int_equal(world_log_count(honest->log, "connected to"), 1);
    watch_memory("at the end");
    SSL_CTX_free(evil_ctx);
    SSL_CTX_free(bare_ctx);
    world_stop(&world);
    return 0;
}

/* --- before TLS --- */

static void garbage_is_no_handshake(void **state)
{
    (void)state;
    long long before = refused("tls");
    for (int i = 0; i < GARBAGE_CONNECTIONS; i++) {
        struct client c;
        uint8_t noise[2048];
        for (size_t n = 0; n < sizeof(noise); n++) {
            noise[n] = (uint8_t)rand();
        }
        noise[0] = i % 2 == 0 ? 0x16 : 'G'; /* half look like TLS */
        assert_true(client_open(&c, world.port, NULL));
        (void)client_send_raw(&c, noise, sizeof(noise));
        char byte;
        (void)!read(c.fd, &byte, 1);
        client_close(&c);
    }
    await_refused("tls", before + GARBAGE_CONNECTIONS / 2);
    /* One line for them all, not hundreds. */
    assert_in_range(world_log_count(world.collector_log, "refused (tls)"), 1,
                    10);
    watch_memory("garbage before TLS");
}

static long long ended(void)
{
    return refused("timeout") + refused("crowded");
}

/* As many connections as this process may have: some silent, some stuck in a
 * handshake. All are ended by the collector, in time: those that are too many
 * at once, the others when they have said nothing for long. */
static void idle_connections_cost_little(void **state)
{
    (void)state;
    static int fds[IDLE_WANTED];
    struct rlimit files;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    int n = (int)files.rlim_cur - FDS_SPARE;
    n = n < IDLE_WANTED ? n : IDLE_WANTED;
    long long before = ended();
    long long timeouts = refused("timeout");
    static const uint8_t hello_head[] = {0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3};
    int64_t start_us = psc_clock_mono_us();
    for (int i = 0; i < n; i++) {
        fds[i] = client_dial(world.port);
        if (i % 2 == 0) {
            assert_int_equal(write(fds[i], hello_head, sizeof(hello_head)),
                             sizeof(hello_head));
        }
    }
    print_message("%d idle connections opened in %.1f s\n", n,
                  (double)(psc_clock_mono_us() - start_us) / 1e6);
    scene_await_taken(&scene, 5);
    watch_memory("with idle connections");
    await_refused("timeout", timeouts + 1);
    int64_t end_us = psc_clock_mono_us() + WAIT_S * PSC_US_PER_S;
    while (ended() < before + n && psc_clock_mono_us() < end_us) {
        spawn_sleep_ms(50);
    }
    assert_int_equal(ended(), before + n);
    for (int i = 0; i < n; i++) {
        (void)close(fds[i]);
    }
    print_message("all ended by the collector after %.1f s\n",
                  (double)(psc_clock_mono_us() - start_us) / 1e6);
    watch_memory("when they are gone");
}

/* --- frames --- */

static void expect_refusal(struct client *c, enum wire_refusal code,
                           const char *what)
{
    struct wire_message m;
    if (!client_await(c, WIRE_REFUSAL, &m, WAIT_S)) {
        world_show_log(world.collector_log);
        fail_msg("%s: not refused", what);
    }
    if (m.refusal.code != code) {
        fail_msg("%s: refused as \"%s\" (%s)", what,
                 wire_refusal_name(m.refusal.code), m.refusal.reason);
    }
    assert_true(m.refusal.reason[0] != '\0');
    assert_false(client_await(c, WIRE_PULSE, &m, 5)); /* and it is the end */
}

static void open_evil(struct client *c)
{
    assert_true(client_open(c, world.port, evil_ctx));
}

static void oversized_frames_end_the_connection(void **state)
{
    (void)state;
    static const uint8_t heads[][4] = {
        {0xff, 0xff, 0xff, 0xff}, {0x00, 0x10, 0x00, 0x01}, {0x00, 0, 0x40, 1}};
    static uint8_t junk[64 * 1024];
    long long before = refused("frame");
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        struct client c;
        struct wire_message m;
        open_evil(&c);
        (void)client_send_raw(&c, heads[i], 4);
        (void)client_send_raw(&c, junk, sizeof(junk));
        assert_false(client_await(&c, WIRE_WELCOME, &m, WAIT_S));
        client_close(&c);
    }
    await_refused("frame", before + 3);
    assert_int_equal(refused("frame"), before + 3);
    watch_memory("oversized frames");
}

static void first_frames_of_any_bytes(void **state)
{
    (void)state;
    for (int i = 0; i < 60; i++) {
        struct client c;
        uint8_t bytes[600];
        size_t len = (size_t)(rand() % (int)sizeof(bytes));
        for (size_t n = 0; n < len; n++) {
            bytes[n] = (uint8_t)rand();
        }
        open_evil(&c);
        (void)client_send_frame(&c, bytes, len);
        expect_refusal(&c, WIRE_REFUSAL_MALFORMED, "random bytes");
        client_close(&c);
    }
    watch_memory("random first frames");
}

static void no_certificate_gets_nowhere(void **state)
{
    (void)state;
    struct client c;
    struct wire_message m = {.type = WIRE_HELLO};
    m.hello.protocol_min = m.hello.protocol_max = WIRE_PROTOCOL_MAX;
    assert_true(client_open(&c, world.port, bare_ctx));
    assert_true(client_send(&c, &m));
    expect_refusal(&c, WIRE_REFUSAL_NO_CERTIFICATE, "no certificate");
    client_close(&c);

    open_evil(&c);
    m.hello.protocol_min = m.hello.protocol_max = 99;
    assert_true(client_send(&c, &m));
    expect_refusal(&c, WIRE_REFUSAL_PROTOCOL, "protocol 99");
    client_close(&c);
}

/* --- batches --- */

static struct wire_message batch(uint64_t seq)
{
    struct wire_message m = {.type = WIRE_BATCH};
    m.batch.seq = seq;
    m.batch.wall_us = psc_clock_wall_us();
    m.batch.boottime_us = psc_clock_boot_us();
    memset(m.batch.boot_id, 0x77, sizeof(m.batch.boot_id));
    return m;
}

static struct psc_bytes bytes_of(const void *data, size_t len)
{
    return (struct psc_bytes){data, len};
}

static uint8_t next_stream = 1;

/* A session with a stream of its own that stands at nothing. */
static void begin(struct client *c)
{
    open_evil(c);
    assert_int_equal(client_begin(c, next_stream++), 0);
}

static void expect_stored(struct client *c, uint64_t seq, const char *what)
{
    struct wire_message m;
    if (!client_await(c, WIRE_ACK, &m, WAIT_S) || m.ack.seq != seq) {
        world_show_log(world.collector_log);
        fail_msg("%s: not stored", what);
    }
}

/* The empty keyframe with which an honest stream begins. */
static void send_keyframe(struct client *c, uint64_t seq)
{
    struct wire_message m = batch(seq);
    m.batch.has_tags = m.batch.has_counters = true;
    m.batch.tags.keyframe = m.batch.counters.keyframe = true;
    assert_true(client_send(c, &m));
    expect_stored(c, seq, "an empty keyframe");
}

static void seq_must_follow(void **state)
{
    (void)state;
    static const uint64_t wrong[] = {0, 1, 3, 1000, UINT64_MAX};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct client c;
        begin(&c);
        send_keyframe(&c, 1);
        struct wire_message m = batch(wrong[i]);
        assert_true(client_send(&c, &m));
        expect_refusal(&c, WIRE_REFUSAL_MALFORMED, "seq out of order");
        client_close(&c);
    }
}

/* Each is answered in its turn, or the session ends; nothing piles up. */
static void a_flood_of_opens(void **state)
{
    (void)state;
    struct client c;
    struct wire_message m = {.type = WIRE_OPEN};
    begin(&c);
    for (int i = 0; i < OPENS; i++) {
        memset(m.open.stream, next_stream, sizeof(m.open.stream));
        assert_true(client_send(&c, &m));
    }
    for (int i = 0; i < OPENS; i++) {
        assert_true(client_await(&c, WIRE_CURSOR, &m, WAIT_S));
        assert_int_equal(m.cursor.seq, 0);
    }
    next_stream++;
    send_keyframe(&c, 1);
    client_close(&c);
}

/* Columns that are no columns. */
static void counts_that_lie(void **state)
{
    (void)state;
    static const uint8_t many[] = {0x0c, 0x00, 0xff, 0xff, 0xff, 0xff, 0x7f};
    static const uint8_t shared[] = {0x0c, 0x40, 0x02, 'x', 'y'};
    static const uint8_t gaps[] = {0x1c, 0xff, 0xff, 0xff, 0xff, 0x0f};
    static const uint8_t endless[] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
                                      0x80, 0x80, 0x80, 0x80, 0x80, 0x80};
    const struct {
        struct psc_bytes names, gaps, gone, values;
    } lies[] = {
        {.names = bytes_of(many, sizeof(many))},
        {.names = bytes_of(shared, sizeof(shared))},
        {.gaps = bytes_of(gaps, sizeof(gaps))},
        {.gone = bytes_of(gaps, sizeof(gaps))},
        {.values = bytes_of(endless, sizeof(endless))},
        {.gaps = bytes_of(endless, sizeof(endless))},
    };
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        struct client c;
        struct wire_message m = batch(1);
        begin(&c);
        m.batch.has_tags = true;
        m.batch.tags.keyframe = true;
        m.batch.tags.names = lies[i].names;
        m.batch.tags.gaps = lies[i].gaps;
        m.batch.tags.gone = lies[i].gone;
        m.batch.tags.values = lies[i].values;
        assert_true(client_send(&c, &m));
        expect_refusal(&c, WIRE_REFUSAL_MALFORMED, "a table that lies");
        client_close(&c);
    }
    watch_memory("tables that lie");
}

/* Names of any bytes, and many of them: stored, or dropped and counted, but
 * never the end of the unit that they are in. */
static void names_of_any_bytes(void **state)
{
    (void)state;
    struct client c;
    struct psc_buf names;
    struct psc_buf gaps;
    struct psc_buf values;
    long long dropped =
        world_metric(&world, "poolscope_collector_dropped_entries_total");
    psc_buf_init(&names, PSC_FRAME_MAX_BYTES);
    psc_buf_init(&gaps, PSC_FRAME_MAX_BYTES);
    psc_buf_init(&values, PSC_FRAME_MAX_BYTES);
    psc_buf_u8(&gaps, 0x1c); /* outstanding and bytes, all of them */
    for (int i = 0; i < TAGS_MANY; i++) {
        uint8_t key[24];
        for (size_t n = 0; n < sizeof(key); n++) {
            key[n] = (uint8_t)rand();
        }
        key[0] = (uint8_t)(i % 8); /* pools that exist and that do not */
        memcpy(key + 1, &i, sizeof(i));
        psc_buf_u8(&names, 0x0c);
        psc_buf_u8(&names, 0);
        psc_buf_string(&names, key, sizeof(key));
        psc_buf_u8(&gaps, 0);
        psc_buf_u8(&values, 2);
        psc_buf_u8(&values, 2 * 2);
    }
    assert_int_equal(psc_buf_error(&names), PSC_OK);
    struct wire_message m = batch(1);
    m.batch.has_tags = true;
    m.batch.tags.keyframe = true;
    m.batch.tags.names = psc_buf_bytes(&names);
    m.batch.tags.gaps = psc_buf_bytes(&gaps);
    m.batch.tags.values = psc_buf_bytes(&values);
    begin(&c);
    assert_true(client_send(&c, &m));
    expect_stored(&c, 1, "names of any bytes");
    client_close(&c);
    psc_buf_fini(&names);
    psc_buf_fini(&gaps);
    psc_buf_fini(&values);
    dropped =
        world_metric(&world, "poolscope_collector_dropped_entries_total") -
        dropped;
    print_message("%d odd names sent: %lld dropped, %lld stored\n", TAGS_MANY,
                  dropped,
                  world_int(&world, "SELECT count(*) FROM poolscope.pool_now"
                                    " WHERE host = 'evil'"));
    assert_true(dropped > 0);
    watch_memory("20,000 odd names");
}

static void put_event(struct psc_buf *list, const char *message, size_t len,
                      const char *details)
{
    struct event_record r = {
        .position = 0,
        .at_us = INT64_MAX,
        .source = bytes_of("\xff\xfe\0x", 4),
        .event_id = bytes_of("e\0vil", 5),
        .message = bytes_of(message, len),
        .details = bytes_of(details, strlen(details)),
    };
    record_put_event(list, &r);
}

/* Texts that no database takes as they are: NUL, broken UTF-8, broken JSON,
 * deep JSON, huge strings. */
static void texts_of_any_bytes(void **state)
{
    (void)state;
    static char huge[100 * 1024];
    static char deep[20 * 1024];
    memset(huge, 'A', sizeof(huge));
    memset(deep, '[', sizeof(deep) - 1);
    struct client c;
    struct psc_buf events;
    psc_buf_init(&events, PSC_FRAME_MAX_BYTES);
    record_list_begin(&events);
    put_event(&events, "a\0b\xc3", 4, "{\"broken\": ");
    put_event(&events, "\xed\xa0\x80", 3, "{\"nul\": \"\\u0000\"}");
    put_event(&events, huge, sizeof(huge), deep);
    put_event(&events, "x", 1, "{\"number\": 1e999999}");
    put_event(&events, "y", 1, "\"\\ud800\"");
    assert_int_equal(psc_buf_error(&events), PSC_OK);
    begin(&c);
    send_keyframe(&c, 1);
    struct wire_message m = batch(2);
    m.batch.events = psc_buf_bytes(&events);
    m.batch.drivers = bytes_of("\x01\xff\xff\xff\xff\x0f", 6);
    m.batch.sources = bytes_of("\x01\x03\x02\xff\xfe", 5);
    m.batch.wall_us = INT64_MIN;
    m.batch.boottime_us = INT64_MAX;
    assert_true(client_send(&c, &m));
    expect_stored(&c, 2, "texts of any bytes");
    m = batch(3); /* a boot that is not the hello's, in the year 300000 */
    memset(m.batch.boot_id, 0x78, sizeof(m.batch.boot_id));
    m.batch.wall_us = INT64_MAX;
    m.batch.missed_ticks = UINT64_MAX;
    assert_true(client_send(&c, &m));
    expect_stored(&c, 3, "times out of range");
    client_close(&c);
    psc_buf_fini(&events);
    watch_memory("texts of any bytes");
}

static void deltas_without_a_base(void **state)
{
    (void)state;
    struct client c;
    struct wire_message m = batch(1);
    m.batch.has_tags = true;
    m.batch.tags.base_seq = 99;
    begin(&c);
    assert_true(client_send(&c, &m));
    assert_true(client_await(&c, WIRE_NEED_KEYFRAME, &m, WAIT_S));
    for (uint64_t seq = 2; seq < 500; seq++) { /* it does not listen now */
        m = batch(seq);
        assert_true(client_send(&c, &m));
    }
    client_close(&c);
}

/* Parts that never end, and a session that is opened over and over. */
static void samples_that_never_end(void **state)
{
    (void)state;
    struct client c;
    begin(&c);
    for (uint32_t part = 0; part < 70; part++) {
        struct wire_message m = batch(part + 1);
        m.batch.part = part;
        m.batch.more = true;
        m.batch.has_tags = true;
        m.batch.tags.keyframe = true;
        if (!client_send(&c, &m)) {
            break;
        }
    }
    expect_refusal(&c, WIRE_REFUSAL_MALFORMED, "70 parts");
    client_close(&c);
    for (int i = 0; i < 100; i++) {
        open_evil(&c);
        (void)client_begin(&c, 200);
        client_close(&c);
    }
    watch_memory("endless samples, 100 sessions");
}

/* --- enrolment --- */

static void enrolments_are_refused_one_by_one(void **state)
{
    (void)state;
    long long before = refused("bad token");
    unsigned lines =
        world_log_count(world.collector_log, "refused (bad token)");
    EVP_PKEY *key = NULL;
    struct psc_buf request;
    struct psc_error err;
    psc_buf_init(&request, 16384);
    assert_int_equal(psc_key_new(&key, &err), PSC_OK);
    assert_int_equal(psc_csr_new(key, "evil", &request, &err), PSC_OK);
    for (int i = 0; i < ENROLMENTS; i++) {
        struct client c;
        struct wire_message m = {.type = WIRE_ENROL};
        uint8_t secret[32];
        memset(secret, i, sizeof(secret));
        m.enrol.secret = bytes_of(secret, sizeof(secret));
        m.enrol.request = psc_buf_bytes(&request);
        m.enrol.host = "evil-twin";
        m.enrol.os = "linux";
        assert_true(client_open(&c, world.port, bare_ctx));
        assert_true(client_send(&c, &m));
        expect_refusal(&c, WIRE_REFUSAL_TOKEN, "a made-up token");
        client_close(&c);
    }
    psc_buf_fini(&request);
    EVP_PKEY_free(key);
    await_refused("bad token", before + ENROLMENTS);
    assert_int_equal(refused("bad token"), before + ENROLMENTS);
    assert_in_range(
        world_log_count(world.collector_log, "refused (bad token)") - lines, 1,
        3);
    watch_memory("a flood of enrolments");
}

/* --- the bound --- */

/* After all of it once more: memory does not grow with repetition. */
static void memory_is_bounded(void **state)
{
    long once_kib = world_memory_kib(world.collector, "VmRSS");
    garbage_is_no_handshake(state);
    first_frames_of_any_bytes(state);
    counts_that_lie(state);
    texts_of_any_bytes(state);
    samples_that_never_end(state);
    long again_kib = world_memory_kib(world.collector, "VmRSS");
    print_message("start %.1f MiB, peak %.1f MiB, after one round %.1f MiB, "
                  "after another %.1f MiB\n",
                  (double)start_kib / MIB, (double)peak_kib / MIB,
                  (double)once_kib / MIB, (double)again_kib / MIB);
    if (!world_sanitised()) {
        assert_true(again_kib - once_kib < 4 * MIB);
        assert_true(peak_kib - start_kib < 400 * MIB);
        assert_true(again_kib - start_kib < 50 * MIB);
    }
}

int main(void)
{
    srand(world_seed());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(garbage_is_no_handshake),
        cmocka_unit_test(oversized_frames_end_the_connection),
        cmocka_unit_test(first_frames_of_any_bytes),
        cmocka_unit_test(no_certificate_gets_nowhere),
        cmocka_unit_test(seq_must_follow),
        cmocka_unit_test(a_flood_of_opens),
        cmocka_unit_test(counts_that_lie),
        cmocka_unit_test(names_of_any_bytes),
        cmocka_unit_test(texts_of_any_bytes),
        cmocka_unit_test(deltas_without_a_base),
        cmocka_unit_test(samples_that_never_end),
        cmocka_unit_test(enrolments_are_refused_one_by_one),
        cmocka_unit_test(idle_connections_cost_little),
        cmocka_unit_test(memory_is_bounded),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
