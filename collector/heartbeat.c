#include "collector/heartbeat.h"

#include "common/clock.h"

#define SOON_US     (60 * PSC_US_PER_S)
#define LATE_US     (600 * PSC_US_PER_S)
#define CLOCK_US    (PSC_US_PER_S / 10)
#define SPOOL_BYTES INT64_C(65536)

void heartbeat_begin(struct heartbeat *h, int64_t session, int64_t now_us)
{
    *h = (struct heartbeat){.session = session, .known_us = now_us};
}

void heartbeat_end(struct heartbeat *h)
{
    h->ended = true;
}

void heartbeat_note_sample(struct heartbeat *h, int64_t at_us)
{
    if (at_us > h->known_us) {
        h->known_us = at_us;
    }
}

/* Either may be ahead, where our clock was put back. */
static int64_t distance(int64_t a, int64_t b)
{
    return a > b ? a - b : b - a;
}

/* Whether people look at what differs. */
static bool has_turned(const struct heartbeat_facts *a,
                       const struct heartbeat_facts *b)
{
    return (a->spool_bytes > 0) != (b->spool_bytes > 0) ||
           a->dropped_batches != b->dropped_batches;
}

static bool has_moved(const struct heartbeat_facts *a,
                      const struct heartbeat_facts *b)
{
    return distance(a->spool_bytes, b->spool_bytes) >= SPOOL_BYTES ||
           distance(a->clock_offset_us, b->clock_offset_us) >= CLOCK_US;
}

bool heartbeat_due(const struct heartbeat *h)
{
    const struct heartbeat_facts *a = &h->heard;
    const struct heartbeat_facts *b = &h->saved;
    if (a->seen_us == b->seen_us) {
        return false;
    }
    int64_t age_us = distance(a->seen_us, b->seen_us);
    return b->seen_us == 0 || has_turned(a, b) ||
           (h->ended && (a->seen_us > h->known_us || has_moved(a, b))) ||
           distance(a->seen_us, h->known_us) >= SOON_US ||
           (age_us >= SOON_US && has_moved(a, b)) || age_us >= LATE_US;
}

void heartbeat_save(struct heartbeat *h)
{
    h->saved = h->heard;
    h->known_us = h->heard.seen_us;
}

void heartbeat_forget_saved(struct heartbeat *h)
{
    h->saved = (struct heartbeat_facts){.seen_us = 0};
}
