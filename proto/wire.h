/* Messages as plain structs, to and from the bytes of a frame. The only code
 * that sees generated protobuf-c is wire.c; it unpacks through an allocator
 * with a budget, so that no peer can make a frame expand in memory. */
#ifndef PSC_PROTO_WIRE_H
#define PSC_PROTO_WIRE_H

#include "common/buf.h"
#include "common/error.h"
#include "proto/table.h"

#define WIRE_PROTOCOL_MIN        1u
#define WIRE_PROTOCOL_MAX        1u
#define WIRE_UNPACK_BUDGET_BYTES ((size_t)2 * 1024 * 1024)
#define WIRE_TEXT_MAX_BYTES      1024u /* any string of a peer */
#define WIRE_LABELS_MAX          64u   /* pairs in a hello */

enum wire_type {
    WIRE_HELLO = 1,
    WIRE_WELCOME,
    WIRE_REFUSAL,
    WIRE_BATCH,
    WIRE_ACK,
    WIRE_NEED_KEYFRAME,
    WIRE_HEARTBEAT,
    WIRE_PULSE,
    WIRE_ENROL,
    WIRE_RENEW,
    WIRE_CERTIFICATE,
    WIRE_OPEN,
    WIRE_CURSOR,
};

enum wire_refusal {
    WIRE_REFUSAL_UNSPECIFIED,
    WIRE_REFUSAL_PROTOCOL,
    WIRE_REFUSAL_UNKNOWN_HOST,
    WIRE_REFUSAL_DISABLED,
    WIRE_REFUSAL_EXPIRED,
    WIRE_REFUSAL_TOKEN,
    WIRE_REFUSAL_NO_CERTIFICATE,
    WIRE_REFUSAL_MALFORMED,
    WIRE_REFUSAL_SUPERSEDED,
    WIRE_REFUSAL_BUSY,
    WIRE_REFUSAL_NAME_TAKEN,
    WIRE_REFUSAL_HOST_NAME,
};
const char *wire_refusal_name(enum wire_refusal code);

/* Whether a name may be a host's: 1 to 253 of a-z A-Z 0-9 . _ - and not one
 * that begins with "." or "-". */
bool wire_is_host_name(const char *name);

struct wire_hello {
    uint32_t protocol_min, protocol_max;
    const char *agent_version;
    const char *os, *os_version, *os_build;
    uint8_t boot_id[16];
    int64_t boot_wall_us; /* when this boot began, by the wall clock */
    int64_t wall_us, boottime_us;
    uint64_t ram_bytes;
    const char *role, *region;
    struct psc_bytes labels; /* psc_buf_string pairs: name, value, … */
    uint64_t interval_us;
};

struct wire_welcome {
    uint32_t protocol;
    int64_t wall_us;
    const char *host;
};

struct wire_batch {
    uint64_t seq;
    int64_t wall_us, boottime_us;
    uint8_t boot_id[16];
    bool more;     /* the next seq continues this sample */
    uint32_t part; /* of a sample in several batches, from 0 */
    bool has_tags, has_counters;
    struct columns tags, counters;
    struct psc_bytes drivers; /* record.h; len 0: not sent */
    struct psc_bytes events;
    struct psc_bytes sources;
    struct psc_bytes aliases; /* the whole inventory; len 0: not sent */
    uint64_t missed_ticks;
};

struct wire_message {
    enum wire_type type;
    union {
        struct wire_hello hello;
        struct wire_welcome welcome;
        struct {
            enum wire_refusal code;
            const char *reason;
            uint64_t retry_after_us;
        } refusal;
        struct wire_batch batch;
        struct {
            uint64_t seq;
        } ack, need_keyframe;
        struct {
            int64_t wall_us, boottime_us;
            uint64_t spool_bytes, dropped_batches, last_seq;
        } heartbeat;
        struct {
            int64_t wall_us;
        } pulse;
        struct {
            struct psc_bytes secret, request;
            const char *host, *os;
        } enrol;
        struct {
            struct psc_bytes request;
        } renew;
        struct {
            struct psc_bytes certificate, ca;
            const char *host;
        } certificate;
        struct {
            uint8_t stream[16];
            uint64_t dropped_batches;
        } open;
        struct {
            uint8_t stream[16];
            uint64_t seq;
        } cursor;
    };
};

/* Unpacks messages into memory of its own, reused from one to the next. */
struct wire_decoder {
    uint8_t *arena; /* grows up to the budget, keeps its size */
    size_t cap, used;
};
void wire_decoder_init(struct wire_decoder *d);
void wire_decoder_fini(struct wire_decoder *d);

/* Decode one frame's payload. Pointers in @out live until the next decode.
 * Returns PSC_FORMAT for anything that is not a message of ours (wrong id
 * lengths, over-long or non-UTF-8 texts included), PSC_LIMIT over the
 * budget, PSC_NOMEM. */
PSC_MUST_CHECK int wire_decode(struct wire_decoder *d, struct psc_bytes frame,
                               struct wire_message *out, struct psc_error *err);

/* Append the payload of @message to @out (sticky errors as in psc_buf). NULL
 * texts are empty ones. */
void wire_encode(const struct wire_message *message, struct psc_buf *out);

#endif
