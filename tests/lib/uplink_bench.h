/* An agent's uplink with its spool, batches and identity in a test's own loop,
 * and two scripted collectors (fake_collector.h) for it. */
#ifndef PSC_TESTS_UPLINK_BENCH_H
#define PSC_TESTS_UPLINK_BENCH_H

#include "agent/batch.h"
#include "agent/uplink.h"
#include "tests/lib/certs.h"
#include "tests/lib/fake_collector.h"

struct bench {
    uint32_t n_samples, n_tags; /* collected; in each of them */
    uv_loop_t loop;
    uv_timer_t timeout, take;
    unsigned to_take; /* batches that `take` shall still produce */
    struct certs certs;
    struct fake fake, second; /* the options name the first one */
    const char *state_dir;
    struct options options;
    struct host_facts facts;
    struct identity identity;
    struct collect collect;
    struct spool spool;
    struct batcher batcher;
    struct uplink uplink;
    struct uplink_pace pace;
    unsigned n_wants, n_stopped; /* calls of the uplink */
    char collectors[128];        /* of the options, as is the token */
    char token[PSC_TOKEN_TEXT_BYTES];
};

/* Everything, with a certificate that is valid for @valid_s from now (0: none),
 * but the uplink, for bench_start(). There is one bench at a time. */
struct bench *bench_init(int64_t valid_s);
void bench_start(struct bench *b);
void bench_fini(struct bench *b);

/* Take batches now. */
void bench_take_one(struct bench *b);
void bench_take(struct bench *b, unsigned n);

/* Open the spool anew, as a restart does, after it was closed. */
void bench_open_spool(struct bench *b);

/* Turn the loop once; for @ms; until all that was taken is acknowledged. */
void bench_turn(struct bench *b);
void bench_run_ms(struct bench *b, int64_t ms);
void bench_drain(struct bench *b);

/* A new key and certificate in the state directory. */
void bench_write_identity(struct bench *b, int64_t valid_s);

/* Have a token in the options; a @ca_byte that is not 0 spoils its CA. */
void bench_make_token(struct bench *b, uint8_t ca_byte);

#endif
