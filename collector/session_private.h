/* The fields of a session, for session*.c. */
#ifndef PSC_COLLECTOR_SESSION_PRIVATE_H
#define PSC_COLLECTOR_SESSION_PRIVATE_H

#include "collector/session.h"

/* A certificate that is being issued, for Enrol and Renew. */
struct session_issue {
    struct psc_buf request; /* PKCS#10 */
    bool renewal;           /* which of the two: */
    struct store_enrol enrol;
    struct store_renew renew;
};

struct session {
    struct sessions *all;
    struct session *next, *previous; /* in all->first */
    enum session_state state;
    struct lobby_guest guest; /* in all->lobby */
    struct psc_conn conn;
    bool conn_open;      /* on_close is to come */
    int64_t deadline_us; /* monotonic; of the states before READY */
    unsigned n_requests; /* of the store, whose on_done is to come */
    bool hello_done;     /* pulses are sent from here on */
    bool full;           /* refused, for there are too many hosts */
    uint64_t sent_ms;    /* by the loop's clock: the last frame */

    /* who it is, from the certificate and the claim */
    int64_t host_id;
    int64_t number; /* of the claim: the fence */
    int64_t not_before_us, not_after_us;
    char host[STORE_NAME_MAX_BYTES]; /* "" before the claim */
    char name[STORE_NAME_MAX_BYTES]; /* as the certificate says; "" if not */
    struct host_slot *slot;          /* borrowed; NULL before the claim */
    uint8_t boot_id[16];
    struct clock_offset clock;
    int64_t hello_us, hello_wall_us, hello_boottime_us; /* its clocks */

    struct store_claim claim;
    struct store_stream stream_request;
    struct session_issue *issue; /* owned; NULL: none under way */

    /* the stream */
    struct decode *decode; /* owned; NULL before the claim */
    size_t decode_bytes;   /* as counted in all->table_bytes */
    struct ingest_queue queue;
    uint8_t stream[16];
    bool opened;             /* a Cursor has been sent */
    bool opening;            /* Open has come, Cursor not sent yet */
    bool cursor_asked;       /* the store is working on it */
    bool first_batch;        /* of the Cursor: it may jump */
    bool deaf;               /* NEED_KEYFRAME sent: until Open */
    uint64_t last_seq;       /* received */
    uint64_t queued_seq;     /* newest one that is or will be stored */
    uint64_t stored_seq;     /* newest one that is stored */
    int64_t dropped_batches; /* as the agent says */
};

/* session.c */
void session_set_state(struct session *s, enum session_state state);
/* Refuse with @code and end the session. */
void session_refuse(struct session *s, enum wire_refusal code, const char *fmt,
                    ...) PSC_PRINTF(3, 4);
/* The same since its host is disabled. */
void session_refuse_disabled(struct session *s);
/* Whose session it is, for messages: "host db-17", or "host id 7" when the
 * name is not known; "" when nothing is. */
#define SESSION_OWNER_BYTES (STORE_NAME_MAX_BYTES + 8)
void session_owner(const struct session *s, char out[SESSION_OWNER_BYTES]);
/* End the session without a word. */
void session_close(struct session *s, int code, const char *text);
/* Encode and send; a session that does not take it is closed. */
void session_send(struct session *s, const struct wire_message *m);
void session_send_pulse(struct session *s);
/* A request of the store has ended. Returns false if the session is closing:
 * then it may be gone. */
bool session_request_done(struct session *s);
void session_set_deadline(struct session *s, int64_t us);

/* session_identity.c */
void session_take_hello(struct session *s, const struct wire_message *m);
void session_take_enrol(struct session *s, const struct wire_message *m);
void session_take_renew(struct session *s, const struct wire_message *m);
void session_drop_requests(struct session *s);

/* session_stream.c */
void session_take_open(struct session *s, const struct wire_message *m);
void session_take_batch(struct session *s, const struct wire_message *m);
void session_take_heartbeat(struct session *s, const struct wire_message *m);

#endif
