/* The embedded PostgreSQL: a private cluster in <data dir>/postgres that
 * listens on a Unix socket only. Debian's own clusters are left alone.
 *
 * All calls block and may take seconds; they are safe to repeat and to run in
 * several processes at once (a lock file in the data directory lets one work
 * and the others wait). The server keeps running when the program that
 * started it ends: whoever wants it stopped calls embedded_stop().
 *
 * As root the server runs as an unprivileged user: the owner of an existing
 * cluster, else "poolscope" if there is such a user, else "postgres". */
#ifndef PSC_SQL_EMBEDDED_H
#define PSC_SQL_EMBEDDED_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "common/error.h"

#define EMBEDDED_DATABASE  "poolscope"
#define EMBEDDED_SUPERUSER "postgres"
/* Longest path of a Unix socket that Linux takes, without the final NUL. */
#define EMBEDDED_SOCKET_PATH_MAX 107

struct embedded_options {
    const char *data_dir; /* made when missing, unless must_exist */
    bool no_sync;         /* tests only: fsync and full_page_writes off */
    bool must_exist;      /* PSC_MISSING rather than making a cluster */
};

struct embedded_status {
    bool exists;               /* a cluster has been made */
    bool running;              /* its postmaster lives */
    bool died;                 /* it does not, and was not stopped */
    pid_t pid;                 /* of the postmaster, 0 when not running */
    char socket_dir[PATH_MAX]; /* host= for libpq; "" when not running */
    char cluster_dir[PATH_MAX];
    char log_path[PATH_MAX];
};

/* Make the cluster if there is none, end orphans of a killed postmaster,
 * start the server unless it runs, and create the database and the three
 * roles if they are missing. On return it takes connections. @status may be
 * NULL. Errors end with the tail of the server's log. */
PSC_MUST_CHECK int embedded_start(const struct embedded_options *o,
                                  struct embedded_status *status,
                                  struct psc_error *err);

/* Stop the server (fast shutdown) and wait until it is gone. A server that
 * does not run is fine. */
PSC_MUST_CHECK int embedded_stop(const char *data_dir, struct psc_error *err);

/* Look without touching anything. */
PSC_MUST_CHECK int embedded_status(const char *data_dir,
                                   struct embedded_status *status,
                                   struct psc_error *err);

/* SIGKILL to the postmaster and every process of its cluster, by pid: what a
 * crash does. For tests of recovery. */
PSC_MUST_CHECK int embedded_kill(const char *data_dir, struct psc_error *err);

#endif
