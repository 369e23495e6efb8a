/* A scripted collector on loopback TLS, in the test's own loop. It keeps the
 * protocol's rules of a collector (and fails the test when the agent breaks
 * its own), remembers what it has stored, and misbehaves as its fields say. */
#ifndef PSC_TESTS_FAKE_COLLECTOR_H
#define PSC_TESTS_FAKE_COLLECTOR_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "common/conn.h"
#include "proto/wire.h"
#include "tests/lib/certs.h"
#include "tests/lib/decoded.h"

enum {
    STREAMS_MAX = 8,
    SESSIONS_MAX = 64,
    FAKE_HOST_ID = 42, /* of the certificates that it issues */
};

struct stored {
    uint8_t stream[16];
    uint64_t cursor;  /* newest seq that is stored */
    uint64_t n;       /* batches stored */
    uint64_t skipped; /* seqs that never came */
};

struct session {
    struct psc_conn conn;
    struct fake *fake;
    bool live;           /* until on_close */
    struct stored *open; /* after Open */
    bool fresh;          /* no batch since Cursor */
    bool deaf;           /* after NEED_KEYFRAME, until Open */
    uint64_t seq;        /* of the last batch */
    uint64_t sample_seq; /* of the first part of its sample */
    struct decoded tags;
    uint64_t tags_seq;
};

struct fake {
    uv_loop_t *loop;
    uv_tcp_t listener;
    SSL_CTX *ctx;
    char port[8];
    struct session *sessions[SESSIONS_MAX];
    unsigned n_sessions;
    struct stored stored[STREAMS_MAX];
    unsigned n_streams;
    unsigned n_batches, n_duplicates, n_opens, n_hellos, n_heartbeats;
    unsigned n_malformed;
    uint64_t dropped_told;
    /* the script */
    bool silent;               /* never answers a Hello */
    bool hold_acks;            /* stores, but does not say so */
    unsigned cut_every;        /* cut the connection after so many batches */
    uint64_t refuse_once;      /* NEED_KEYFRAME at this seq */
    uint64_t refuse_always;    /* likewise, each time */
    uint64_t malformed;        /* this seq is, and ends the session */
    enum wire_refusal refusal; /* of every Hello and Enrol */
    uint64_t retry_after_us;
    bool cut_opens;        /* cut the connection behind each Cursor */
    uint64_t cursor_ahead; /* added to the first Cursor */
    uint64_t false_ack;    /* acknowledge so much more, once */
    struct certs *certs;   /* to enrol and renew */
    int64_t issue_valid_s;
    unsigned n_enrols, n_renews;
};

/* Listen on a free loopback port; see f->port. @certs is borrowed. */
void fake_start(struct fake *f, uv_loop_t *loop, struct certs *certs);

/* Close all; run the loop out, then fake_free(). */
void fake_stop(struct fake *f);
void fake_free(struct fake *f);

/* Acknowledge @seq on the newest session. */
void fake_ack(struct fake *f, uint64_t seq);

/* Cut the newest session's connection. */
void fake_cut(struct fake *f);

#endif
