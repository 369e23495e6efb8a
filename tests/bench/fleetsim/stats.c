/* Distributions of times. */
#include "tests/bench/fleetsim/stats.h"

enum { SUB = 16, SUB_SHIFT = 4 };

static uint32_t bucket_of(uint64_t us)
{
    if (us < SUB) {
        return (uint32_t)us;
    }
    unsigned exponent = 63u - (unsigned)__builtin_clzll(us);
    uint32_t sub = (uint32_t)(us >> (exponent - SUB_SHIFT)) & (SUB - 1);
    return (exponent - SUB_SHIFT + 1) * SUB + sub;
}

/* The greatest time of a bucket. */
static int64_t end_of(uint32_t bucket)
{
    if (bucket < SUB) {
        return bucket;
    }
    unsigned exponent = bucket / SUB - 1;
    return (((int64_t)(bucket % SUB + SUB + 1)) << exponent) - 1;
}

void times_add(struct times *t, int64_t us)
{
    us = us > 0 ? us : 0;
    t->buckets[bucket_of((uint64_t)us)]++;
    t->n++;
    t->max_us = us > t->max_us ? us : t->max_us;
}

int64_t times_share(const struct times *t, double share)
{
    uint64_t rank = (uint64_t)(share * (double)t->n);
    uint64_t seen = 0;
    for (uint32_t i = 0; i < TIMES_BUCKETS; i++) {
        seen += t->buckets[i];
        if (t->buckets[i] > 0 && seen > rank) {
            return end_of(i) < t->max_us ? end_of(i) : t->max_us;
        }
    }
    return t->max_us;
}

static void times_since(struct times *t, const struct times *before)
{
    int64_t max_us = 0;
    for (uint32_t i = 0; i < TIMES_BUCKETS; i++) {
        t->buckets[i] -= before->buckets[i];
        max_us = t->buckets[i] > 0 ? end_of(i) : max_us;
    }
    t->n -= before->n;
    t->max_us = max_us < t->max_us ? max_us : t->max_us;
}

void stats_since(struct stats *s, const struct stats *before)
{
    s->samples -= before->samples;
    s->batches -= before->batches;
    s->bytes -= before->bytes;
    s->keyframes -= before->keyframes;
    s->cells -= before->cells;
    s->repeated -= before->repeated;
    s->changed -= before->changed;
    s->values -= before->values;
    s->acked -= before->acked;
    s->by_cursor -= before->by_cursor;
    s->lost -= before->lost;
    s->sessions -= before->sessions;
    s->drops -= before->drops;
    s->refusals -= before->refusals;
    s->need_keyframes -= before->need_keyframes;
    s->reboots -= before->reboots;
    s->encode_ns -= before->encode_ns;
    times_since(&s->ack, &before->ack);
    times_since(&s->reconnect, &before->reconnect);
}
