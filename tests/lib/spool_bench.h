/* A small spool for tests, whose batches can be told apart. */
#ifndef PSC_TESTS_SPOOL_BENCH_H
#define PSC_TESTS_SPOOL_BENCH_H

#include "agent/spool.h"

enum {
    SPOOL_BENCH_SEGMENT_BYTES = 4096,
    SPOOL_BENCH_MAX_BYTES = 64 * 1024,
    SPOOL_BENCH_MEMORY_BYTES = 16 * 1024,
};

/* Bounds as above, the ordinary disk. */
struct spool_options spool_bench_options(const char *dir);
void spool_bench_open(struct spool *s, const char *dir);

/* Append one batch as the sampler would; its payload tells its seq. */
uint64_t spool_bench_put(struct spool *s, size_t len, int64_t wall_us,
                         int64_t mono_us);
void spool_bench_put_many(struct spool *s, unsigned n, size_t len);

/* Read the front stream from @from on; checks payloads, that seqs ascend and
 * that a gap is followed by a keyframe. Returns how many there were. */
uint64_t spool_bench_read(struct spool *s, uint64_t from, uint64_t *first,
                          uint64_t *last);

/* As kill -9 leaves it: nothing is closed, the lock is gone. */
void spool_bench_abandon(struct spool *s);

#endif
