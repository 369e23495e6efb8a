/* What a simulated fleet keeps on disk between runs, and for the checker:
 *
 *   fleet        its settings, which must stay the same
 *   ca.pem       whom to trust
 *   identities   a line a host: number, key, certificate (base64 of DER)
 *   runs         a line a run: when which snapshots were taken
 *   acked        a line a sample that a collector has acknowledged: host,
 *                stream, seq, snapshot, time
 *
 * Lines are appended, so a kill costs at most the last second of `acked`. */
#ifndef PSC_TESTS_BENCH_FLEETSIM_STATE_H
#define PSC_TESTS_BENCH_FLEETSIM_STATE_H

#include <stdio.h>

#include "common/buf.h"
#include "tests/bench/fleetsim/truth.h"

#define STATE_PREFIX_MAX 32u
#define STATE_HOST_MAX   (STATE_PREFIX_MAX + 12u)

/* Snapshots first … first + n - 1 of each host were taken at start_us plus the
 * host's phase, then every interval. */
struct state_run {
    uint64_t first, n; /* n: UINT64_MAX while it lasts */
    int64_t start_us;
    bool history; /* sent afterwards, as of an earlier boot */
};

struct state_identity {
    uint8_t *key, *cert; /* DER; owned; NULL: not enrolled */
    uint32_t key_len, cert_len;
};

struct state {
    char *dir;
    struct truth_settings settings;
    char prefix[STATE_PREFIX_MAX]; /* of the hosts' names */
    struct state_run *runs;
    unsigned n_runs;
    struct state_identity *identities; /* by host number */
    uint32_t n_identities;             /* room */
    struct psc_buf ca;                 /* PEM with a final NUL, or empty */
    FILE *identity_file, *acked_file;  /* to append to, or NULL */
};

/* Open the directory, made if @settings are given (then @prefix too), which
 * must be those of an existing fleet; NULL: take what is there. */
PSC_MUST_CHECK int state_open(struct state *s, const char *dir,
                              const struct truth_settings *settings,
                              const char *prefix, struct psc_error *err);
void state_close(struct state *s);

void state_host_name(const struct state *s, uint32_t number,
                     char out[STATE_HOST_MAX]);

/* --- identities --- */

/* Keep what a host was issued; takes nothing. */
PSC_MUST_CHECK int state_add_identity(struct state *s, uint32_t number,
                                      struct psc_bytes key,
                                      struct psc_bytes cert,
                                      struct psc_error *err);
PSC_MUST_CHECK int state_set_ca(struct state *s, struct psc_bytes pem,
                                struct psc_error *err);
static inline bool state_enrolled(const struct state *s, uint32_t number)
{
    return number < s->n_identities && s->identities[number].cert != NULL;
}

/* --- runs --- */

/* Begin a run at @start_us; @n snapshots or UINT64_MAX. The run before ends
 * now, at @now_us. */
PSC_MUST_CHECK int state_begin_run(struct state *s, int64_t start_us,
                                   int64_t now_us, uint64_t n, bool history,
                                   struct psc_error *err);

/* When the host takes snapshot @k, wall clock; 0 if no run has it. */
int64_t state_time_us(const struct state *s, const struct truth_host *h,
                      uint64_t k);

/* When the host booted for @boot. */
int64_t state_boot_us(const struct state *s, const struct truth_host *h,
                      const struct truth_boot *boot);

/* --- acknowledgements --- */

void state_log_ack(struct state *s, uint32_t host, uint64_t stream,
                   uint64_t seq, uint64_t k, int64_t now_us);
void state_flush(struct state *s);

/* Call @each for every line of `acked`. */
PSC_MUST_CHECK int state_read_acks(const struct state *s,
                                   void (*each)(void *user, uint32_t host,
                                                uint64_t k),
                                   void *user, struct psc_error *err);

#endif
