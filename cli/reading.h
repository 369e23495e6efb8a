/* What one look at a machine's tags gave: a list that survives the sources'
 * next round, so that two looks can be compared (leaktest, the live view).
 * Pure: it is filled from a sample, by whoever took that. */
#ifndef PSC_CLI_READING_H
#define PSC_CLI_READING_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/sample.h"
#include "common/error.h"
#include "common/map.h"

struct reading_tag {
    uint8_t flags; /* which of these exist: TAG_… and ENTRY_RECLAIMABLE */
    int64_t allocs, frees, outstanding, bytes;
    double slot_bytes;  /* of pages for one object; 0: not known */
    int64_t free_slots; /* objects that fit without another page */
};

struct reading {
    int64_t at_us;            /* monotonic */
    struct psc_map names;     /* as in the tag table: pool byte, then text */
    struct reading_tag *tags; /* by index of the name */
    uint32_t cap;             /* tags allocated */
};

void reading_init(struct reading *r);
void reading_fini(struct reading *r);

/* Forget all tags, keep the memory. */
void reading_clear(struct reading *r);

static inline uint32_t reading_count(const struct reading *r)
{
    return r->names.count;
}

enum pool reading_pool(const struct reading *r, uint32_t i);

/* The tag's text; not terminated; valid until the next add. */
struct psc_bytes reading_text(const struct reading *r, uint32_t i);

/* The same tag in another reading, or NULL if it is not there. */
const struct reading_tag *reading_same(const struct reading *other,
                                       const struct reading *r, uint32_t i);

/* Add a tag, or replace its values. */
PSC_MUST_CHECK int reading_put(struct reading *r, enum pool pool,
                               const char *text, size_t len,
                               const struct reading_tag *tag);

/* Add what the sources put into @tags since its last table_begin(). */
PSC_MUST_CHECK int reading_take(struct reading *r, const struct table *tags);

#endif
