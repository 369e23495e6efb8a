/* The fields of struct psc_conn, so that callers can embed one. They may read
 * `user`, and `tls` for psc_tls_peer(); all else belongs to conn*.c. */
#ifndef PSC_COMMON_CONN_PRIVATE_H
#define PSC_COMMON_CONN_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "common/buf.h"
#include "common/error.h"
#include "common/tls.h"

/*   connect()                     accept()
 *       |                           |    | with on_knock
 *       |                           |  WAITING, until psc_conn_begin()
 *       |                           v    v
 *   RESOLVING -> CONNECTING -> HANDSHAKE -> OPEN
 *   (names only)  (one address    |          |
 *       |          after another) +----+-----+
 *       |              |               v
 *       |              |            FLUSHING     queue, close_notify or alert
 *       |              |               v
 *       |              |            LINGERING    our FIN is out; discard what
 *       |              |               v         comes until the peer's
 *       +--------------+----------> CLOSING -> CLOSED
 * Every state may go straight to CLOSING. */
enum psc_conn_state {
    PSC_CONN_RESOLVING,
    PSC_CONN_CONNECTING,
    PSC_CONN_WAITING,
    PSC_CONN_HANDSHAKE,
    PSC_CONN_OPEN,
    PSC_CONN_FLUSHING,
    PSC_CONN_LINGERING,
    PSC_CONN_CLOSING, /* handles are being closed */
    PSC_CONN_CLOSED,  /* on_close has been or is being called */
};

struct psc_conn_dial; /* what only a client needs, until it is open */

struct psc_conn {
    void *user; /* the caller's, as given at the start */
    enum psc_conn_state state;
    struct psc_tls tls;                   /* from HANDSHAKE on */
    const struct psc_conn_events *events; /* borrowed */
    struct psc_conn_limits limits;
    SSL_CTX *ctx;               /* borrowed */
    struct psc_conn_dial *dial; /* owned; NULL on servers and once open */

    uv_tcp_t tcp;
    uv_timer_t timer; /* always armed for the nearest deadline */
    union {           /* never two of these at a time */
        uv_connect_t connect;
        uv_write_t write;
        uv_shutdown_t shutdown;
    } req;

    struct psc_buf writing; /* ciphertext of the write in flight */
    size_t write_left;      /* of it still with us when last looked at */
    uint64_t write_ms;      /* when the write started or last moved */

    uint8_t *chunk;       /* owned; ciphertext that tls.in points into; while
                             WAITING all that has come */
    uint8_t header[4];    /* length of the frame that is arriving */
    uint8_t header_len;   /* bytes of the header that are here */
    uint32_t frame_size;  /* payload bytes of that frame */
    struct psc_buf frame; /* payload so far; holds no memory between frames */
    uint64_t frame_ms;    /* when the first byte of that frame came */
    uint64_t heard_ms;    /* when the last byte came from the peer */
    uint64_t deadline_ms; /* of the states other than OPEN */

    bool dialled;       /* a client: by psc_conn_connect() */
    bool tcp_open;      /* the handle waits for its close callback */
    bool timer_open;    /* likewise */
    bool reading;       /* uv_read_start() is on */
    bool write_busy;    /* req.write is in flight */
    bool corked;        /* by psc_conn_cork() */
    bool paused;        /* by psc_conn_pause() */
    bool knocked;       /* on_knock has been called */
    bool wake;          /* the timer shall go on with kept input */
    bool processing;    /* input is being worked on further up the stack */
    bool frames_queued; /* something was sent since the last on_drained */
    bool peer_done;     /* the peer's FIN has come */

    struct psc_error reason; /* for on_close; the first one stands */
    char peer_name[56];      /* "192.0.2.7:7443", "[2001:db8::1]:7443" or "?" */
};

#endif
