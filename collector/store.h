/* The database as the sessions and the ingest see it: requests that end in a
 * callback, whatever the tables look like. Only store*.c (and watch.c, for
 * what the worker reads) know SQL.
 *
 * Every request is a struct of the caller's that must stay in place until its
 * on_done; @failure is NULL on success. Requests survive a restart of the
 * server, and are safe to repeat. One that has not been sent yet may be taken
 * back by store_withdraw(). */
#ifndef PSC_COLLECTOR_STORE_H
#define PSC_COLLECTOR_STORE_H

#include "collector/batch.h"
#include "collector/pglink_io.h"
#include "collector/registry.h"
#include "common/buf.h"
#include "common/pki.h"

#define STORE_NAME_MAX_BYTES 256

/* The answers to a host's claims and requests. */
enum store_answer {
    STORE_OK,
    STORE_UNKNOWN_HOST,
    STORE_DISABLED,
    STORE_OLD_CERTIFICATE, /* from before the host was enrolled anew */
    STORE_TOKEN,           /* unknown, used up, revoked or expired */
    STORE_NAME_TAKEN,
    STORE_SUPERSEDED,
    STORE_BROKEN, /* an answer that we do not know */
};

/* A session begins: fences every older session of the host. */
struct store_claim {
    struct pglink_job job;
    void *user;
    void (*on_done)(struct store_claim *r,
                    const struct pglink_failure *failure);
    int64_t host_id;       /* in */
    int64_t not_before_us; /* in: of the certificate */
    struct psc_buf facts;  /* in: JSON with a final NUL; owned by the caller */
    enum store_answer answer;
    char host[STORE_NAME_MAX_BYTES];
    int64_t session;
    bool offset_known;
    int64_t clock_offset_us; /* as last measured */
};

/* The agent turns to a stream. */
struct store_stream {
    struct pglink_job job;
    void *user;
    void (*on_done)(struct store_stream *r,
                    const struct pglink_failure *failure);
    int64_t host_id, session;
    uint8_t stream[16];
    int64_t dropped_batches;
    enum store_answer answer;
    uint64_t seq; /* newest that is stored */
};

/* A new host, or the same request once more. */
struct store_enrol {
    struct pglink_job job;
    void *user;
    void (*on_done)(struct store_enrol *r,
                    const struct pglink_failure *failure);
    uint8_t secret_sha256[PSC_SHA256_BYTES];
    uint8_t key_sha256[PSC_SHA256_BYTES];
    char name[STORE_NAME_MAX_BYTES];
    char os[STORE_NAME_MAX_BYTES];
    int64_t valid_from_us; /* certificates older than this are void */
    int64_t not_after_us;  /* of the certificate to be issued */
    enum store_answer answer;
    int64_t host_id;
    char host[STORE_NAME_MAX_BYTES];
};

/* May this host have its certificate renewed? */
struct store_renew {
    struct pglink_job job;
    void *user;
    void (*on_done)(struct store_renew *r,
                    const struct pglink_failure *failure);
    int64_t host_id;
    int64_t not_before_us; /* of the certificate that was shown */
    int64_t not_after_us;  /* of the one to be issued */
    enum store_answer answer;
    char host[STORE_NAME_MAX_BYTES];
};

/* The state of many hosts, by their heartbeats. */
struct store_heartbeat {
    int64_t host_id, session;
    int64_t seen_at_us;
    int64_t clock_offset_us;
    int64_t spool_bytes, dropped_batches;
};
#define STORE_HEARTBEATS_MAX 1024
struct store_heartbeats {
    struct pglink_job job;
    void *user;
    void (*on_done)(struct store_heartbeats *r,
                    const struct pglink_failure *failure);
    struct store_heartbeat host[STORE_HEARTBEATS_MAX];
    unsigned n;
};

/* Every two seconds: our health in, what administrators did out. */
struct store_poll {
    struct pglink_job job;
    void *user;
    void (*on_done)(struct store_poll *r, const struct pglink_failure *failure);
    /* Called for each disabled host, before on_done. */
    void (*on_disabled)(struct store_poll *r, int64_t host_id);
    struct psc_buf metrics; /* in: JSON with a final NUL */
    int64_t registry_epoch; /* out */
    int64_t settle_span_us; /* out: setting settle_span, above 0 */
};

/* Fill a registry with what the database knows. */
struct store_load {
    struct pglink_job job;
    void *user;
    void (*on_done)(struct store_load *r, const struct pglink_failure *failure);
    struct registry *tags, *counters;
};

/* New names get their ids, in a transaction of their own. */
#define STORE_INTERN_MAX 4096
struct store_intern {
    struct pglink_job job;
    void *user;
    void (*on_done)(struct store_intern *r,
                    const struct pglink_failure *failure);
    struct registry *registry;
    bool counters; /* else tags */
    uint32_t index[STORE_INTERN_MAX];
    uint8_t flags[STORE_INTERN_MAX]; /* as sent */
    unsigned n;
};

/* Batches of many hosts in one statement; those of a host together, in order of
 * seq. */
#define STORE_UNIT_MAX 512
struct store_unit {
    struct pglink_job job;
    void *user;
    void (*on_done)(struct store_unit *r, const struct pglink_failure *failure);
    struct batch *batch[STORE_UNIT_MAX]; /* outcome is set for each */
    unsigned n;
};

/* A batch that the database refuses: recorded, so that its seq is past. */
struct store_reject {
    struct pglink_job job;
    void *user;
    void (*on_done)(struct store_reject *r,
                    const struct pglink_failure *failure);
    struct batch *batch;
    char reason[256];
};

#define STORE_ARRAYS 20

struct store {
    struct pglink units;                /* intern, unit, reject */
    struct pglink control;              /* all else */
    const char *collector;              /* our name */
    char *conninfo;                     /* owned */
    struct registry *tags, *counters;   /* borrowed */
    struct psc_buf array[STORE_ARRAYS]; /* scratch of statements, reused */
    unsigned n_running;                 /* links not stopped */
    void (*on_reconnect)(void *user);
    void *user;
    void (*on_stopped)(struct store *s);
};

struct store_settings {
    const char *conninfo;             /* copied */
    const char *collector;            /* borrowed */
    struct registry *tags, *counters; /* borrowed: ids of units' names */
    /* Units go to another connection than before, maybe to a database that has
     * been restored. No unit is sent before it returns. */
    void (*on_reconnect)(void *user);
    void *user;
};

/* Begin to connect. Returns 0, PSC_NOMEM or PSC_IO. */
PSC_MUST_CHECK int store_start(struct store *s, uv_loop_t *loop,
                               const struct store_settings *settings);
/* End every request with PSC_CLOSED, then @on_stopped. */
void store_stop(struct store *s, void (*on_stopped)(struct store *s));
void store_free(struct store *s);

bool store_up(const struct store *s);
/* Successful connects beyond the first of each link. */
uint64_t store_reconnects(const struct store *s);

void store_claim(struct store *s, struct store_claim *r);
void store_stream(struct store *s, struct store_stream *r);
void store_enrol(struct store *s, struct store_enrol *r);
void store_renew(struct store *s, struct store_renew *r);
void store_heartbeats(struct store *s, struct store_heartbeats *r);
void store_poll(struct store *s, struct store_poll *r);
void store_load(struct store *s, struct store_load *r);
void store_intern(struct store *s, struct store_intern *r);
void store_unit(struct store *s, struct store_unit *r);
void store_reject(struct store *s, struct store_reject *r);

/* Take back a request of the control link that has not been sent. Returns
 * whether it was; otherwise its on_done will come. */
bool store_withdraw(struct store *s, struct pglink_job *job);

/* The same for a unit. */
bool store_unit_withdraw(struct store *s, struct store_unit *r);

#endif
