/* One PostgreSQL cluster on disk: where it lies, whose it is, which programs
 * serve it, what configures it, and which processes belong to it. What
 * embedded.c is made of. */
#ifndef PSC_SQL_CLUSTER_H
#define PSC_SQL_CLUSTER_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "common/error.h"
#include "sql/account.h"

#define CLUSTER_PORT "5432"

struct cluster {
    char data_dir[PATH_MAX];   /* the program's, canonical */
    char dir[PATH_MAX];        /* the cluster: <data_dir>/postgres */
    char log_path[PATH_MAX];   /* <dir>/server.log */
    char socket_dir[PATH_MAX]; /* chosen for the next start */
    char bin_dir[PATH_MAX];    /* of initdb, pg_ctl */
    struct account owner;      /* the server's user */
    bool exists;               /* initdb has run to its end */
    bool no_sync;              /* fsync off */
};

/* Find out about the cluster in @data_dir, which must exist. Changes nothing.
 * PSC_LIMIT: path too long; PSC_PERMISSION: another user's cluster. */
PSC_MUST_CHECK int cluster_find(struct cluster *c, const char *data_dir,
                                struct psc_error *err);

/* Find the programs that fit the cluster, or for a new one the newest. */
PSC_MUST_CHECK int cluster_find_programs(struct cluster *c,
                                         struct psc_error *err);

/* Make the cluster: all of it or nothing. */
PSC_MUST_CHECK int cluster_create(struct cluster *c, struct psc_error *err);

/* Choose and make the directory of the socket: short, mode 0700, the
 * server's. Removes a stale socket in it: call it when no server runs. */
PSC_MUST_CHECK int cluster_socket_open(struct cluster *c,
                                       struct psc_error *err);

/* Remove the socket and its directory, after the server has ended. */
void cluster_socket_close(struct cluster *c);

/* Whether there is a socket in @socket_dir; false means that nobody here can
 * connect. */
bool cluster_socket_is_there(const char *socket_dir);

/* Write the configuration files that are ours. */
PSC_MUST_CHECK int cluster_configure(const struct cluster *c,
                                     struct psc_error *err);

/* The last line of the server's log that matters, "" if there is none. */
void cluster_log_tail(const struct cluster *c, char *out, size_t cap);

/* What postmaster.pid says, if its process lives and is this cluster's:
 * returns its pid, else 0. @socket_dir (PATH_MAX bytes, may be NULL) gets the
 * directory of its socket. */
pid_t cluster_postmaster(const struct cluster *c, char *socket_dir);

/* The processes whose working directory is the cluster, postmaster included:
 * at most @cap of them; returns how many. */
size_t cluster_processes(const struct cluster *c, pid_t *pids, size_t cap);

/* End what a dead postmaster left: @signal to every process of the cluster,
 * SIGKILL to those that stay. */
PSC_MUST_CHECK int cluster_end_processes(const struct cluster *c, int signal,
                                         struct psc_error *err);

/* Whether there is a postmaster.pid: a postmaster that is stopped removes it,
 * one that dies does not. */
bool cluster_has_pid_file(const struct cluster *c);

/* Remove postmaster.pid, once no process of the cluster is left. */
void cluster_remove_pid_file(const struct cluster *c);

#endif
