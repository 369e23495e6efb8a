/* Each refusal is logged once with its reason: the same words (numbers do not
 * count) for the same peer not again for a minute, and never more than a few
 * lines a second in the long run, so that nobody fills the disk. A peer is a
 * host that has shown its certificate, or else an address, behind which there
 * may be many. */
#ifndef PSC_COLLECTOR_REFUSAL_LOG_H
#define PSC_COLLECTOR_REFUSAL_LOG_H

#include <stdbool.h>
#include <stdint.h>

#define REFUSAL_LOG_SLOTS 256

struct refusal_log {
    struct {
        uint32_t hash;   /* of peer and reason */
        int64_t next_us; /* monotonic: not again before then */
    } slot[REFUSAL_LOG_SLOTS];
    int64_t full_us;     /* monotonic: when all lines may be printed again */
    uint64_t lines;      /* printed */
    uint64_t suppressed; /* since the last line */
};

/* Log that @peer ("[host at ]address:port"; the port does not count) was turned
 * away for
 * @reason ("malformed") with the explanation @text. */
void refusal_log(struct refusal_log *log, int64_t now_us, const char *peer,
                 const char *reason, const char *text);

#endif
