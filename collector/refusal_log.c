/* A small table of what was logged lately. */
#include "collector/refusal_log.h"

#include <inttypes.h>
#include <string.h>

#include "common/clock.h"
#include "common/crc32c.h"
#include "common/log.h"

enum { AGAIN_S = 60, LINES_PER_S = 20 };

void refusal_log(struct refusal_log *log, int64_t now_us, const char *peer,
                 const char *reason, const char *text)
{
    const char *port = strrchr(peer, ':');
    size_t len = port != NULL ? (size_t)(port - peer) : strlen(peer);
    uint32_t hash =
        psc_crc32c(psc_crc32c(0, peer, len), reason, strlen(reason));
    unsigned i = hash % REFUSAL_LOG_SLOTS;

    if (log->second != now_us / PSC_US_PER_S) {
        log->second = now_us / PSC_US_PER_S;
        log->lines = 0;
    }
    bool again = log->slot[i].hash == hash && now_us < log->slot[i].next_us;
    if (again || log->lines >= LINES_PER_S) {
        log->suppressed++;
        return;
    }
    log->slot[i].hash = hash;
    log->slot[i].next_us = now_us + AGAIN_S * PSC_US_PER_S;
    log->lines++;
    if (log->suppressed > 0) {
        psc_log_warn("%s refused (%s): %s (and %" PRIu64 " refusals not shown)",
                     peer, reason, text, log->suppressed);
    } else {
        psc_log_warn("%s refused (%s): %s", peer, reason, text);
    }
    log->suppressed = 0;
}
