/* Classes of SQLSTATE, and strikes. */
#include "collector/refused.h"

#include <stddef.h>
#include <string.h>

#include "common/clock.h"

#define HOLD_US     (15 * PSC_US_PER_S)
#define HOLD_MAX_US (600 * PSC_US_PER_S)

/* @classes: "22 23". */
static bool is_one_of(const char *sqlstate, const char *classes)
{
    for (; *classes != '\0'; classes += classes[2] == ' ' ? 3 : 2) {
        if (strncmp(sqlstate, classes, 2) == 0) {
            return true;
        }
    }
    return false;
}

enum refused_kind refused_kind(const char *sqlstate)
{
    /* connection, transaction state, rollback, resources, locks,
     * intervention, system, internal */
    static const char passing[] = "08 25 40 53 55 57 58 XX";
    /* cardinality, data, integrity, program limits */
    static const char contents[] = "21 22 23 54";
    if (sqlstate[0] == '\0' || is_one_of(sqlstate, passing)) {
        return REFUSED_PASSING;
    }
    return is_one_of(sqlstate, contents) ? REFUSED_CONTENTS : REFUSED_SETUP;
}

const char *refused_advice(const char *sqlstate)
{
    if (is_one_of(sqlstate, "53")) {
        return "give the database disk space, memory or connections";
    }
    if (is_one_of(sqlstate, "55 57")) {
        return "see in pg_stat_activity who holds locks for so long";
    }
    if (is_one_of(sqlstate, "58 XX")) {
        return "see what the database's own log says";
    }
    if (refused_kind(sqlstate) == REFUSED_SETUP) {
        return "see whether the schema is whole (poolscope migrate) and our "
               "role may write to it (poolscope_writer)";
    }
    return "see what the database's own log says of it";
}

enum refused_verdict refused_strike(struct refused_host *h,
                                    enum refused_kind kind, bool odd,
                                    const uint8_t stream[16], uint64_t seq,
                                    int64_t now_us)
{
    if (h->seq != seq || memcmp(h->stream, stream, sizeof(h->stream)) != 0) {
        h->strikes = 0;
    }
    h->seq = seq;
    memcpy(h->stream, stream, sizeof(h->stream));
    h->strikes++;
    if (h->strikes < REFUSED_STRIKES) {
        return REFUSED_AGAIN;
    }
    if (kind == REFUSED_CONTENTS && odd) {
        return REFUSED_SKIP;
    }
    int64_t hold_us = HOLD_US;
    for (unsigned i = REFUSED_STRIKES; i < h->strikes && hold_us < HOLD_MAX_US;
         i++) {
        hold_us *= 2;
    }
    h->again_us = now_us + (hold_us < HOLD_MAX_US ? hold_us : HOLD_MAX_US);
    return REFUSED_HOLD;
}
