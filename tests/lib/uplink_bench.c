/* An agent's uplink, and all it needs, in a test's own loop. */
#include "tests/lib/uplink_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"
#include "tests/lib/temp.h"

enum { TEST_TIMEOUT_MS = 20000 };

static struct bench bench;

static int steps_open(const struct source_env *env, void **state,
                      struct psc_error *err)
{
    (void)env;
    (void)err;
    *state = NULL;
    return PSC_OK;
}

static int steps_collect(void *state, struct sample *out, struct psc_error *err)
{
    (void)state;
    (void)err;
    bench.n_samples++;
    for (unsigned i = 0; i < bench.n_tags; i++) {
        char name[16];
        int n = snprintf(name, sizeof(name), "t%u", i);
        struct tag_values v = {.flags = TAG_BYTES,
                               .bytes = bench.n_samples * (i + 1)};
        (void)sample_tag(out, POOL_SLAB, name, (size_t)n, &v);
    }
    return PSC_OK;
}

static const struct source source_steps = {.name = "steps",
                                           .group = SOURCE_TAGS,
                                           .open = steps_open,
                                           .collect = steps_collect};
static const struct source *const steps[] = {&source_steps, NULL};

static void on_timeout(uv_timer_t *timer)
{
    (void)timer;
    fail_msg("timed out in state %s", uplink_state_name(bench.uplink.state));
}

static void on_want_keyframe(void *user)
{
    struct bench *b = user;
    b->n_wants++;
    batcher_want_keyframe(&b->batcher);
}

static void on_stopped(void *user)
{
    struct bench *b = user;
    b->n_stopped++;
    uplink_fini(&b->uplink);
}

void bench_take_one(struct bench *b)
{
    struct batch_time time = {psc_clock_wall_us(), psc_clock_boot_us(),
                              psc_clock_mono_us()};
    collect_run(&b->collect, 1u << SOURCE_TAGS);
    assert_int_equal(
        batcher_take(&b->batcher, &b->collect, 1u << SOURCE_TAGS, 0, &time),
        PSC_OK);
    uplink_kick(&b->uplink);
}

void bench_take(struct bench *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        bench_take_one(b);
    }
}

static void on_take(uv_timer_t *timer)
{
    struct bench *b = timer->data;
    if (b->to_take > 0) {
        b->to_take--;
        bench_take_one(b);
    }
}

void bench_open_spool(struct bench *b)
{
    struct psc_error err = {.msg = ""};
    struct spool_options o = {
        .dir = b->state_dir,
        .max_bytes = 64 << 20,
        .segment_bytes = 8192,
        .memory_bytes = SPOOL_MEMORY_BYTES,
        .fs = &spool_fs_uv,
    };
    assert_int_equal(spool_open(&b->spool, &o, &err), PSC_OK);
    batcher_init(&b->batcher, &b->spool, b->facts.boot_id);
}

void bench_write_identity(struct bench *b, int64_t valid_s)
{
    struct host_certs host;
    certs_host(&b->certs, FAKE_HOST_ID, valid_s, &host);
    char both[16384];
    int n = snprintf(both, sizeof(both), "%s%s", host.key_pem, host.pem);
    temp_write(temp_path(b->state_dir, "identity.pem"), both, (unsigned long)n);
    temp_write(temp_path(b->state_dir, "ca.pem"), b->certs.ca_pem,
               strlen(b->certs.ca_pem));
    host_certs_fini(&host);
}

static void load_identity(struct bench *b)
{
    struct psc_error err = {.msg = ""};
    assert_int_equal(identity_init(&b->identity, b->state_dir, &err), PSC_OK);
}

struct bench *bench_init(int64_t valid_s)
{
    struct bench *b = &bench;
    memset(b, 0, sizeof(*b));
    b->n_tags = 20;
    struct psc_error err = {.msg = ""};
    assert_int_equal(uv_loop_init(&b->loop), 0);
    certs_init(&b->certs);
    b->state_dir = temp_dir();
    if (valid_s != 0) {
        bench_write_identity(b, valid_s);
    }
    load_identity(b);
    fake_start(&b->fake, &b->loop, &b->certs);
    fake_start(&b->second, &b->loop, &b->certs);
    struct source_env env = {.root = ""};
    assert_int_equal(collect_init(&b->collect, steps, &env, &err), PSC_OK);
    bench_open_spool(b);
    b->pace = (struct uplink_pace){.backoff_min_ms = 10,
                                   .backoff_max_ms = 50,
                                   .refused_ms = 300,
                                   .heartbeat_ms = 50,
                                   .idle_ms = 1000,
                                   .handshake_ms = 3000,
                                   .look_ms = 20};
    (void)snprintf(b->collectors, sizeof(b->collectors), "127.0.0.1:%.5s",
                   b->fake.port);
    b->options.collector = b->collectors;
    b->options.labels = "rack=r7";
    b->options.interval_us = 1000000;
    (void)snprintf(b->facts.name, sizeof(b->facts.name), "host");
    (void)snprintf(b->facts.os, sizeof(b->facts.os), "linux");
    assert_int_equal(uv_timer_init(&b->loop, &b->timeout), 0);
    assert_int_equal(
        uv_timer_start(&b->timeout, on_timeout, TEST_TIMEOUT_MS, 0), 0);
    assert_int_equal(uv_timer_init(&b->loop, &b->take), 0);
    b->take.data = b;
    assert_int_equal(uv_timer_start(&b->take, on_take, 1, 1), 0);
    return b;
}

void bench_start(struct bench *b)
{
    struct uplink_settings settings = {
        .loop = &b->loop,
        .spool = &b->spool,
        .identity = &b->identity,
        .options = &b->options,
        .facts = &b->facts,
        .pace = &b->pace,
        .on_want_keyframe = on_want_keyframe,
        .on_stopped = on_stopped,
        .user = b,
    };
    struct psc_error err = {.msg = ""};
    assert_int_equal(uplink_init(&b->uplink, &settings, &err), PSC_OK);
    uplink_start(&b->uplink);
}

void bench_turn(struct bench *b)
{
    (void)uv_run(&b->loop, UV_RUN_ONCE);
}

static void stop(struct bench *b)
{
    int64_t begin = psc_clock_mono_us();
    unsigned before = b->n_stopped;
    uplink_stop(&b->uplink);
    while (b->n_stopped == before) {
        bench_turn(b);
    }
    assert_true(psc_clock_mono_us() - begin < 1000000);
}

void bench_fini(struct bench *b)
{
    stop(b);
    fake_stop(&b->fake);
    fake_stop(&b->second);
    uv_close((uv_handle_t *)&b->timeout, NULL);
    uv_close((uv_handle_t *)&b->take, NULL);
    (void)uv_run(&b->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&b->loop), 0);
    fake_free(&b->fake);
    fake_free(&b->second);
    batcher_fini(&b->batcher);
    collect_fini(&b->collect);
    spool_close(&b->spool);
    identity_fini(&b->identity);
    certs_fini(&b->certs);
}

static uint64_t acked(const struct bench *b)
{
    return spool_acked(&b->spool, b->spool.stream);
}

/* Run until all that was taken is acknowledged. */
void bench_drain(struct bench *b)
{
    while (b->to_take > 0 || acked(b) < b->spool.last_seq) {
        bench_turn(b);
    }
}

void bench_run_ms(struct bench *b, int64_t ms)
{
    int64_t end = psc_clock_mono_us() + ms * 1000;
    while (psc_clock_mono_us() < end) {
        bench_turn(b);
    }
}

void bench_make_token(struct bench *b, uint8_t ca_byte)
{
    struct psc_token token;
    memset(token.secret, 5, sizeof(token.secret));
    memcpy(token.ca_sha256, b->certs.ca_sha256, sizeof(token.ca_sha256));
    token.ca_sha256[0] ^= ca_byte;
    psc_token_format(&token, b->token);
    b->options.token = b->token;
}
