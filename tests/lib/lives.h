/* Made-up hosts whose samples are in the store's two tiers: tags that move,
 * rest, come and go, samples without tags or counters, clocks that step. Every
 * sample is kept whole here, for tests of what SQL says of them. Every function
 * fails the running test on an error. */
#ifndef PSC_TESTS_LIVES_H
#define PSC_TESTS_LIVES_H

#include "common/clock.h"
#include "tests/lib/tiers.h"

enum {
    LIVES = 3,
    LIFE_TAGS = 40, /* more than a block of a chunk has */
    LIFE_COUNTERS = 4,
    LIFE_SAMPLES = 240, /* at most */
    LIFE_HOURS = 11,    /* ago it begins */
    LIFE_NAME_BYTES = 16,
};

#define MINUTE_US (60LL * PSC_US_PER_S)
#define HOUR_US   (60LL * MINUTE_US)

enum kind { OF_TAGS, OF_COUNTERS, KINDS };

struct sample {
    int64_t at_us;
    bool stored[KINDS];   /* it has this table */
    bool keyframe[KINDS]; /* which is one */
    bool has[LIFE_TAGS];
    int64_t tags[LIFE_TAGS][TABLE_COLUMNS_MAX];
    bool counted[LIFE_COUNTERS];
    int64_t counters[LIFE_COUNTERS]; /* doubles by their bits */
};

struct life {
    const char *host;
    long long host_id;
    int64_t every_us, span_us;
    struct tier_table tables[KINDS];
    int64_t row_span_us[KINDS]; /* of the newest row with that table */
    struct sample samples[LIFE_SAMPLES];
    int n;              /* samples so far; a sample's n is its index + 1 */
    int settled[KINDS]; /* samples, from the first on */
};

extern struct life lives[LIVES]; /* the last one may be settled as a whole */
extern char lives_names[LIFE_TAGS][LIFE_NAME_BYTES]; /* of tags, all in pool
                                    slab; instances of counter gauge, too */
extern int lives_slot;                               /* where rows go */

/* A group's set-up and tear-down, with test_store. */
int lives_begin(void **state);
int lives_end(void **state);

/* The next @n samples of @l: rows. */
void lives_store(struct life *l, int n);

/* Settle up to some keyframe, or everything. */
void lives_settle(struct life *l);
void lives_settle_all(struct life *l);

uint8_t lives_tag_flags(int tag);
double lives_counter_value(int counter, int64_t value);

/* A number below @below, the same in every run. */
uint32_t lives_any(uint32_t below);

#endif
