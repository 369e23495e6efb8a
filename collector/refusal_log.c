/* A small table of what was logged lately. */
#include "collector/refusal_log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/crc32c.h"
#include "common/log.h"

enum {
    AGAIN_S = 60,
    LINES_BURST = 200,
    LINE_MS = 200, /* in the long run, one in so long */
    MS_PER_S = 1000,
    PEER_MAX_BYTES = 60, /* that are shown of one that was left out */
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

/* How many were left out of what was logged in slot @i, in a line or, when
 * there are too many lines, among all that is left out. */
static void tell_slot(struct refusal_log *log, int64_t now_us, unsigned i)
{
    uint64_t more = log->slot[i].more;
    log->slot[i].more = 0;
    if (more == 0) {
        return;
    }
    if (!may_print(log, now_us)) {
        log->suppressed += more;
        return;
    }
    log->lines++;
    psc_log_warn("%" PRIu64 " more refusal%s not logged: the same of %s", more,
                 more == 1 ? " was" : "s were", log->slot[i].what);
}

static void note_slot(struct refusal_log *log, int64_t now_us, unsigned i,
                      const char *peer, size_t peer_len, const char *reason)
{
    log->slot[i].next_us = now_us + AGAIN_S * PSC_US_PER_S;
    (void)snprintf(log->slot[i].what, sizeof(log->slot[i].what), "%.*s (%s)",
                   (int)(peer_len < PEER_MAX_BYTES ? peer_len : PEER_MAX_BYTES),
                   peer, reason);
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

    if (log->slot[i].hash == hash && now_us < log->slot[i].next_us) {
        log->slot[i].more++;
        return;
    }
    if (!may_print(log, now_us)) {
        log->suppressed++;
        return;
    }
    tell_slot(log, now_us, i);
    log->slot[i].hash = hash;
    note_slot(log, now_us, i, peer, len, reason);
    log->lines++;
    psc_log_warn("%s refused (%s): %s", peer, reason, text);
}

void refusal_log_tell(struct refusal_log *log, int64_t now_us, bool all)
{
    for (unsigned i = 0; i < REFUSAL_LOG_SLOTS; i++) {
        if (all || now_us >= log->slot[i].next_us) {
            tell_slot(log, now_us, i);
        }
    }
    uint64_t n = log->suppressed;
    if (n > 0 && (all || now_us >= log->told_us)) {
        log->suppressed = 0;
        log->told_us = now_us + AGAIN_S * PSC_US_PER_S;
        log->lines++;
        psc_log_warn("%" PRIu64 " more refusal%s not logged: there were more "
                     "than %d at once or %d a second",
                     n, n == 1 ? " was" : "s were", LINES_BURST,
                     MS_PER_S / LINE_MS);
    }
}
