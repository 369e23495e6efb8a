/* The first refusal of a peer for a reason is logged at once: the same words
 * (numbers do not count) for the same peer not again for a minute, and never
 * more than a few lines a second in the long run, so that nobody fills the
 * disk. What is left out is counted, and said in lines of their own. A peer is
 * a host that has shown its certificate, or else an address, behind which
 * there may be many. */
#ifndef PSC_COLLECTOR_REFUSAL_LOG_H
#define PSC_COLLECTOR_REFUSAL_LOG_H

#include <stdbool.h>
#include <stdint.h>

#define REFUSAL_LOG_SLOTS 256

struct refusal_log {
    struct {
        uint32_t hash;   /* of peer, reason and words */
        int64_t next_us; /* monotonic: not again before then */
        uint64_t more;   /* left out since */
        char what[96];   /* "peer (reason)" */
    } slot[REFUSAL_LOG_SLOTS];
    int64_t full_us;     /* monotonic: when all lines may be printed again */
    uint64_t lines;      /* printed */
    uint64_t suppressed; /* left out as there were too many lines */
    int64_t told_us;     /* monotonic: not told again before then */
};

/* Log that @peer ("[host NAME at ]address:port"; the port does not count) was
 * turned away for @reason ("malformed") with the explanation @text. */
void refusal_log(struct refusal_log *log, int64_t now_us, const char *peer,
                 const char *reason, const char *text);

/* Say what was left out, of what is a minute old; @all: of everything, at the
 * end. To be called every few seconds. */
void refusal_log_tell(struct refusal_log *log, int64_t now_us, bool all);

#endif
