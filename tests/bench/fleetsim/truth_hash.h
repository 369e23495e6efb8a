/* Random numbers by position instead of by turn: a hash of where in the
 * simulated fleet one is. */
#ifndef PSC_TESTS_BENCH_FLEETSIM_TRUTH_HASH_H
#define PSC_TESTS_BENCH_FLEETSIM_TRUTH_HASH_H

#include <stdint.h>

/* What a number is for, so that no two questions share an answer. */
enum draw {
    DRAW_HOST = 1,
    DRAW_WHICH, /* of the two tags of a slot */
    DRAW_SHARE, /* windows, silent, slow, leaks */
    DRAW_SILENCE,
    DRAW_REBOOT,
    DRAW_BOOT_ID,
    DRAW_BOOT_AGE,
    DRAW_PHASE,
    DRAW_KIND,
    DRAW_NAME,
    DRAW_PRESENCE,
    DRAW_CHANGE,
    DRAW_VALUES,
    DRAW_COUNTER,
    DRAW_COUNTER_CHANGE,
    DRAW_DRIVER,
    DRAW_STREAM,
};

/* Finaliser of SplitMix64 (Steele, Lea, Flood 2014). */
static inline uint64_t hash_mix(uint64_t x)
{
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* The part of a draw that does not depend on the position @b. */
static inline uint64_t hash_row(uint64_t key, enum draw what, uint64_t a)
{
    return key + ((uint64_t)what << 40 | a) * UINT64_C(0xd1342543de82ef95);
}

static inline uint64_t hash_at(uint64_t row, uint64_t b)
{
    return hash_mix(row + (b + 1) * UINT64_C(0x9e3779b97f4a7c15));
}

static inline uint64_t hash_draw(uint64_t key, enum draw what, uint64_t a,
                                 uint64_t b)
{
    return hash_at(hash_row(key, what, a), b);
}

/* From 0 to less than 1. */
static inline double hash_share(uint64_t hash)
{
    return (double)(hash >> 11) * 0x1p-53;
}

#endif
