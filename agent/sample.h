/* What one tick of the sampler gathers: tags and counters (tables that keep
 * their dictionaries from tick to tick, so a steady tick allocates nothing),
 * drivers, events, and how every source fares. Sources write, the sampler
 * reads. */
#ifndef PSC_AGENT_SAMPLE_H
#define PSC_AGENT_SAMPLE_H

#include "common/buf.h"
#include "common/error.h"
#include "proto/record.h"
#include "proto/table.h"

#define SAMPLE_MAX_TAGS      TABLE_MAX_TAGS
#define SAMPLE_MAX_COUNTERS  TABLE_MAX_COUNTERS
#define SAMPLE_TAG_MAX_BYTES (TABLE_KEY_MAX_BYTES - 1) /* of a tag's text */

struct tag_values {
    uint8_t flags; /* which of these exist: TAG_…, and ENTRY_RECLAIMABLE */
    int64_t allocs, frees, outstanding, bytes;
};

struct sample {
    struct table tags;
    struct table counters;
    struct psc_buf drivers; /* a record list, built anew when asked for */
    struct psc_buf aliases; /* likewise: other names of tags */
    struct psc_buf events;  /* a record list, perhaps empty: of this tick, or
                               of one whose batch has failed */
    uint32_t n_events;
    uint8_t source; /* index of the source that writes now */
};

void sample_init(struct sample *s);
void sample_fini(struct sample *s);

/* Add a tag; @text is put into its canonical form by the caller. Returns 0,
 * PSC_NOMEM or PSC_LIMIT; the source carries on with the next tag. */
int sample_tag(struct sample *s, enum pool pool, const char *text, size_t len,
               const struct tag_values *values);

/* Add a counter; @instance may be "" . */
int sample_counter(struct sample *s, const char *name, const char *instance,
                   int64_t value);
int sample_counter_real(struct sample *s, const char *name,
                        const char *instance, double value);

/* Append to the lists; the first driver, alias or event of an empty list
 * begins it. A failed list of drivers or aliases is left out as a whole, until
 * the next inventory. */
void sample_driver(struct sample *s, const struct driver_record *driver);
void sample_alias(struct sample *s, const struct alias_record *alias);

/* Returns 0, PSC_NOMEM or PSC_LIMIT; then the list is as it was. */
PSC_MUST_CHECK int sample_event(struct sample *s,
                                const struct event_record *event);

/* Whether the list will take @n events of @bytes each; reserves the room. */
bool sample_has_room(struct sample *s, size_t n, size_t bytes);

#endif
