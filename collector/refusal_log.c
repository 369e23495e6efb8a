/* A small table of what was logged lately. */
#include "collector/refusal_log.h"

#include <inttypes.h>
#include <string.h>

#include "common/clock.h"
#include "common/crc32c.h"
#include "common/log.h"

enum {
    AGAIN_S = 60,
    LINES_BURST = 200,
    LINE_MS = 200, /* in the long run, one in so long */
};

static uint32_t hash_words(uint32_t hash, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9') {
            hash = psc_crc32c(hash, text, 1);
        }
    }
    return hash;
}

/* A budget, kept as the time at which it will be full again. */
static bool may_print(struct refusal_log *log, int64_t now_us)
{
    const int64_t line_us = LINE_MS * PSC_US_PER_MS;
    int64_t full_us = log->full_us > now_us ? log->full_us : now_us;
    if (full_us + line_us > now_us + LINES_BURST * line_us) {
        return false;
    }
    log->full_us = full_us + line_us;
    return true;
}

void refusal_log(struct refusal_log *log, int64_t now_us, const char *peer,
                 const char *reason, const char *text)
{
    const char *port = strrchr(peer, ':');
    size_t len = port != NULL ? (size_t)(port - peer) : strlen(peer);
    uint32_t hash = psc_crc32c(0, peer, len);
    hash = psc_crc32c(hash, reason, strlen(reason));
    hash = hash_words(hash, text);
    unsigned i = hash % REFUSAL_LOG_SLOTS;

    bool again = log->slot[i].hash == hash && now_us < log->slot[i].next_us;
    if (again || !may_print(log, now_us)) {
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
