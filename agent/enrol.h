/* Enrolment as one operation: connect to a collector whose CA the token pins,
 * send the token's secret and a certificate request, keep what comes back. */
#ifndef PSC_AGENT_ENROL_H
#define PSC_AGENT_ENROL_H

#include <uv.h>

#include "agent/identity.h"
#include "agent/options.h"
#include "common/conn.h"
#include "common/error.h"
#include "proto/wire.h"

/* How a try ended. */
struct enrol_result {
    struct psc_error err;      /* code PSC_OK: enrolled */
    enum wire_refusal refusal; /* with PSC_REFUSED */
    int64_t retry_after_us;    /* as the collector asks, or 0 */
};

struct enrol {
    struct identity *identity; /* borrowed */
    struct psc_conn conn;
    SSL_CTX *ctx; /* owned */
    struct wire_decoder decoder;
    struct psc_token token;
    char host[256]; /* name to enrol under */
    char os[16];
    struct enrol_result result; /* so far */
    bool answered;
    void (*on_done)(void *user, const struct enrol_result *result);
    void *user;
};

/* Start; @on_done follows exactly once, after which @e is the caller's again.
 * Strings are copied. Returns an error without any callback. */
PSC_MUST_CHECK int enrol_start(
    struct enrol *e, uv_loop_t *loop, struct identity *identity,
    const struct endpoint *endpoint, const char *token, const char *host,
    const char *os,
    void (*on_done)(void *user, const struct enrol_result *result), void *user,
    struct psc_error *err);

/* Give up; @on_done follows with PSC_CLOSED. */
void enrol_cancel(struct enrol *e);

#endif
