/* A link to PostgreSQL on the event loop: libpq without blocking, in pipeline
 * mode, that reconnects by itself.
 *
 * Work comes as jobs. A job is a few prepared statements that the server runs
 * as one transaction; it survives the server's restart: a job whose end was
 * not seen is sent anew as a whole after the reconnect, so what its statements
 * do must be safe to repeat. Jobs are done in the order of their submission.
 *
 *   pglink_start -> (connected, prepared) -> pglink_submit(job)
 *     -> job->on_send: pglink_send() … -> job->on_result … -> job->on_done
 *
 * Nothing blocks: host names are looked up off the loop, and when the resolver
 * fails, the addresses that it gave last are used again. */
#ifndef PSC_COLLECTOR_PGLINK_IO_H
#define PSC_COLLECTOR_PGLINK_IO_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "common/error.h"
#include "common/log.h"

struct pglink;

/* A statement that is prepared on every connect. */
struct pglink_statement {
    const char *name;
    const char *sql;
};

/* A parameter: binary bytes, or text with a final NUL. */
struct pglink_param {
    const void *data; /* NULL: SQL NULL */
    int len;          /* of binary data; ignored for text */
    bool binary;
};

#define PGLINK_PARAMS_MAX 32

/* What went wrong with a job for good. */
struct pglink_failure {
    char sqlstate[6]; /* "" when the server did not say one */
    unsigned index;   /* of the statement within the job */
    struct psc_error err;
};

struct pglink_job {
    struct pglink_job *next; /* in the link's queue */
    void *user;

    /* Issue the job's statements by pglink_send(). Called again after a
     * reconnect: forget what earlier results said. Returns 0 or the first
     * error of pglink_send(). */
    int (*on_send)(struct pglink_job *job, struct pglink *link);
    /* The result of statement @index; borrowed. May be NULL. Not final: the
     * transaction has not ended yet. */
    void (*on_result)(struct pglink_job *job, unsigned index,
                      const PGresult *result);
    /* The end: committed (@failure NULL), refused by the server, or the link
     * was stopped (code PSC_CLOSED). The job is the caller's again. */
    void (*on_done)(struct pglink_job *job,
                    const struct pglink_failure *failure);

    /* private */
    unsigned n_sent;    /* statements issued in this attempt */
    unsigned n_results; /* of these, ended */
    bool failed;        /* a statement of this attempt was refused */
    bool prepared_anew; /* a new connection was made for its sake */
    struct pglink_failure failure;
};

enum pglink_state {
    PGLINK_STOPPED,
    PGLINK_WAITING,    /* for the next attempt to connect */
    PGLINK_RESOLVING,  /* names of hosts are being looked up */
    PGLINK_CONNECTING, /* PQconnectPoll() */
    PGLINK_PREPARING,  /* settings and prepared statements */
    PGLINK_READY,
    PGLINK_CLOSING, /* handles are being closed */
};

struct pglink_settings {
    const char *name;     /* for the log: "units" */
    const char *conninfo; /* borrowed as long as the link runs */
    const struct pglink_statement *statements; /* ends with a NULL name */
    unsigned depth;           /* jobs in the pipeline at once, at least 1 */
    int64_t statement_us;     /* the server ends a statement after this */
    int64_t reconnect_max_us; /* cap of the growing delay */
    void (*on_up)(struct pglink *link);   /* may be NULL */
    void (*on_down)(struct pglink *link); /* may be NULL */
    void *user;
};

struct lookup;
struct pglink_watch; /* a socket under uv_poll, on the heap until closed */

struct pglink {
    struct pglink_settings settings;
    enum pglink_state state;
    uv_loop_t *loop;
    PGconn *conn;               /* owned */
    bool has_names;             /* conninfo has, that must be looked up */
    struct lookup *lookup;      /* while RESOLVING */
    char *resolved;             /* owned; conninfo with addresses, or NULL */
    struct pglink_watch *watch; /* of conn's socket; owned */
    uv_timer_t timer;           /* delay, connect deadline, or watchdog */
    bool timer_open;
    bool broken;        /* sending failed: the timer takes it from here */
    bool dispatching;   /* results are being read further up the stack */
    unsigned n_watches; /* watches whose close callback is to come */
    unsigned preparing; /* results of the preparation still to come */
    struct pglink_job *head, *tail; /* submitted, not done */
    struct pglink_job *unsent;      /* first one not in the pipeline */
    unsigned n_in_flight;
    int64_t delay_us;    /* before the next attempt */
    uint64_t n_connects; /* successful ones since the start */
    struct psc_log_limit log_limit;
    void (*on_stopped)(struct pglink *link);
};

/* Begin to connect on @loop. @settings is copied, what it points to borrowed.
 * Jobs may be submitted at once. Returns 0 or PSC_NOMEM or PSC_IO. */
PSC_MUST_CHECK int pglink_start(struct pglink *link, uv_loop_t *loop,
                                const struct pglink_settings *settings);

/* Queue @job, which must stay in place until its on_done. No callback fires
 * before the return. */
void pglink_submit(struct pglink *link, struct pglink_job *job);

/* Take back a job whose statements have not been sent. Returns false if it is
 * in the pipeline: its on_done will come. */
bool pglink_withdraw(struct pglink *link, struct pglink_job *job);

/* Within on_send: one execution of the prepared statement @name. The
 * parameters are copied. */
PSC_MUST_CHECK int pglink_send(struct pglink *link, const char *name,
                               unsigned n, const struct pglink_param *params);

/* Close the connection, end every job with PSC_CLOSED, then @on_stopped. */
void pglink_stop(struct pglink *link, void (*on_stopped)(struct pglink *link));

static inline bool pglink_up(const struct pglink *link)
{
    return link->state == PGLINK_READY;
}

#endif
