/* A small spool for tests. */
#include "tests/lib/spool_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct spool_options spool_bench_options(const char *dir)
{
    struct spool_options o = {
        .dir = dir,
        .max_bytes = SPOOL_BENCH_MAX_BYTES,
        .segment_bytes = SPOOL_BENCH_SEGMENT_BYTES,
        .memory_bytes = SPOOL_BENCH_MEMORY_BYTES,
        .fs = &spool_fs_uv,
    };
    return o;
}

void spool_bench_open(struct spool *s, const char *dir)
{
    struct spool_options o = spool_bench_options(dir);
    struct psc_error err;
    assert_int_equal(spool_open(s, &o, &err), PSC_OK);
}

uint64_t spool_bench_put(struct spool *s, size_t len, int64_t wall_us,
                         int64_t mono_us)
{
    uint8_t payload[2048];
    assert_true(len >= sizeof(uint64_t) && len <= sizeof(payload));
    uint64_t seq = spool_next_seq(s);
    memset(payload, (int)(seq & 0xff), len);
    memcpy(payload, &seq, sizeof(seq));
    uint32_t flags = spool_wants_keyframe(s, wall_us) ? SPOOL_KEYFRAME : 0;
    struct psc_bytes bytes = {payload, len};
    assert_int_equal(spool_append(s, bytes, flags, wall_us, mono_us), PSC_OK);
    return seq;
}

void spool_bench_put_many(struct spool *s, unsigned n, size_t len)
{
    for (unsigned i = 0; i < n; i++) {
        (void)spool_bench_put(s, len, 1, 1);
    }
}

uint64_t spool_bench_read(struct spool *s, uint64_t from, uint64_t *first,
                          uint64_t *last)
{
    uint8_t stream[SPOOL_STREAM_BYTES];
    uint64_t newest;
    (void)spool_front(s, stream, &newest);
    struct spool_reader r;
    spool_reader_init(&r);
    spool_reader_seek(&r, s, stream, from);
    struct spool_record record;
    uint64_t n = 0;
    *first = *last = 0;
    int rc;
    while ((rc = spool_read(s, &r, &record)) == PSC_OK) {
        uint64_t seq;
        assert_true(record.payload.len >= sizeof(seq));
        memcpy(&seq, record.payload.data, sizeof(seq));
        assert_int_equal(seq, record.seq);
        assert_true(record.seq > *last);
        if (record.seq != *last + 1 && from <= 1) {
            assert_true((record.flags & SPOOL_KEYFRAME) != 0);
        }
        *first = n == 0 ? seq : *first;
        *last = seq;
        n++;
    }
    assert_int_equal(rc, PSC_MISSING);
    spool_reader_fini(&r, s);
    return n;
}

void spool_bench_abandon(struct spool *s)
{
    (void)close(s->fd);
    (void)close(s->lock);
    free(s->segments);
    psc_buf_fini(&s->memory);
}
