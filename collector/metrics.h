/* What the collector counts. All are atomics, so that the loop, the worker and
 * the thread of the HTTP server need no lock. */
#ifndef PSC_COLLECTOR_METRICS_H
#define PSC_COLLECTOR_METRICS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "common/buf.h"
#include "common/error.h"

/* Why a peer was turned away: the codes of the protocol (proto/wire.h), then
 * what never got so far. */
enum metrics_refusal {
    METRICS_REFUSED_TLS = 16, /* no handshake: garbage, foreign certificate */
    METRICS_REFUSED_TIMEOUT,  /* was not ready in time */
    METRICS_REFUSED_FRAME,    /* an oversized frame */
    METRICS_REFUSED_FULL,     /* max_connections */
    METRICS_REFUSED_CROWDED,  /* max_handshakes */
    METRICS_REFUSALS,
};

#define METRICS_STATES  8  /* of sessions; names by session_state_name() */
#define METRICS_BUCKETS 12 /* of latencies */

/* Seconds, cumulative in the output as Prometheus has it. */
struct metrics_histogram {
    atomic_ullong bucket[METRICS_BUCKETS + 1];
    atomic_ullong sum_us;
};

#define METRICS_COUNTERS(X)                                                    \
    X(connections, "connections accepted")                                     \
    X(frames, "frames received")                                               \
    X(bytes, "payload bytes received")                                         \
    X(batches, "batches received")                                             \
    X(stored, "samples stored")                                                \
    X(duplicates, "samples that were stored already")                          \
    X(rejected, "samples that the database refused")                           \
    X(rows, "changed tags and counters stored")                                \
    X(gaps, "jumps in a stream's seq")                                         \
    X(need_keyframes, "keyframes asked for")                                   \
    X(units, "units committed")                                                \
    X(unit_failures, "units refused by the database")                          \
    X(held_back, "sessions ended since the database refuses their samples")    \
    X(interned, "names sent to the registry")                                  \
    X(dropped_entries, "tags and counters refused")                            \
    X(forgotten_names, "names dropped from the registry, unused")              \
    X(over_budget, "events, drivers, boots, bytes beyond a host's budget")     \
    X(enrolments, "hosts enrolled")                                            \
    X(renewals, "certificates renewed")                                        \
    X(pauses, "sessions paused for want of room")                              \
    X(reconnects, "reconnects to the database")                                \
    X(worker_runs, "runs of the worker")                                       \
    X(worker_failures, "runs of the worker that failed")                       \
    X(findings, "findings written")                                            \
    X(detect_snapshots, "snapshots looked at by detection")                    \
    X(settled_snapshots, "tables of samples settled into chunks")              \
    X(settled_chunks, "chunks stored")                                         \
    X(settled_bytes, "bytes of chunks stored")                                 \
    X(settle_failures, "hosts whose samples could not be settled")             \
    X(summaries, "summaries of days and months made")

#define METRICS_GAUGES(X)                                                      \
    X(pending_bytes, "bytes of batches that wait for the database")            \
    X(pending_batches, "batches that wait for the database")                   \
    X(paused_sessions, "sessions that wait for room")                          \
    X(table_bytes, "memory of the sessions' decoder tables")                   \
    X(registry_bytes, "memory of the registry of names")                       \
    X(registry_names, "names in the registry")                                 \
    X(database_up, "whether the database is reached")                          \
    X(refusing, "whether the database refuses everybody's samples")            \
    X(detect_hosts, "hosts under detection")                                   \
    X(detect_bytes, "memory of detection")                                     \
    X(settle_behind, "tables of hosts that are due to be settled")             \
    X(fresh_full, "slots of fresh samples that are not empty yet")             \
    X(detecting, "whether this process detects for the fleet")                 \
    X(resident_bytes, "resident memory of the process")

struct metrics {
#define METRICS_FIELD(name, help) atomic_ullong name;
    METRICS_COUNTERS(METRICS_FIELD)
    METRICS_GAUGES(METRICS_FIELD)
#undef METRICS_FIELD
    atomic_ullong worker_us; /* at work; shown in seconds */
    atomic_ullong settle_us; /* of that at settling */
    atomic_ullong refused[METRICS_REFUSALS];
    atomic_llong sessions[METRICS_STATES];
    struct metrics_histogram commit; /* unit sent to committed */
    struct metrics_histogram ack;    /* batch received to acknowledged */
};

#define metrics_add(m, name, n)                                                \
    atomic_fetch_add_explicit(&(m)->name, (unsigned long long)(n),             \
                              memory_order_relaxed)
#define metrics_set(m, name, v)                                                \
    atomic_store_explicit(&(m)->name, (unsigned long long)(v),                 \
                          memory_order_relaxed)

void metrics_observe(struct metrics_histogram *h, int64_t us);
void metrics_refuse(struct metrics *m, unsigned reason);
/* "malformed", "tls" …: label of a refusal. */
const char *metrics_refusal_name(unsigned reason);

/* The Prometheus text, or a JSON object with a final NUL, appended. */
void metrics_text(const struct metrics *m, struct psc_buf *out);
void metrics_json(const struct metrics *m, struct psc_buf *out);

/* The address and port of @listen, which must be a loopback address. */
PSC_MUST_CHECK int metrics_resolve(const char *listen,
                                   struct sockaddr_storage *addr, int *port,
                                   struct psc_error *err);

/* Serve /metrics on a loopback address, in a thread of its own. */
struct metrics_server;
/* @listen is "address:port"; port 0 takes a free one, told in *@port. */
PSC_MUST_CHECK int metrics_server_start(struct metrics_server **server,
                                        struct metrics *m, const char *listen,
                                        int *port, struct psc_error *err);
void metrics_server_stop(struct metrics_server *server);

#endif
