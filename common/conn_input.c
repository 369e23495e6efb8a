/* Bytes to frames: ciphertext from the socket, through TLS, into whole frames.
 *
 * Happy path: on_alloc -> on_read -> (keep_first, as long as the peer waits for
 * its turn) -> conn_input: handshake until established, then header and payload
 * are read straight from TLS into their places, and on_frame is called for each
 * frame that is whole.
 *
 * Nothing is held while nothing arrives: the read buffer lives for one read
 * (longer only if the user pauses amid it, and then just what is left), the
 * frame's memory from its first to its last byte, growing as bytes come so
 * that a mere header costs the peer's word, not our memory.
 *
 * Failures: whatever TLS refuses, frames over the limit, an end within a
 * frame or without close_notify, reset. */
#include <stdlib.h>
#include <string.h>

#include "common/conn.h"
#include "common/conn_internal.h"

enum {
    HEADER_BYTES = 4,
    STEP_BYTES = 16384, /* a frame's memory grows at least by this */
};

void conn_on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    const struct psc_conn *c = handle->data;
    size_t len = CONN_READ_BYTES;
    (void)suggested;
    if (c->state == PSC_CONN_WAITING) {
        len = CONN_FIRST_BYTES - c->tls.in.len;
    }
    buf->base = malloc(len);
    buf->len = buf->base != NULL ? len : 0;
}

bool conn_in_frame(const struct psc_conn *c)
{
    return c->header_len > 0;
}

static void drop_chunk(struct psc_conn *c)
{
    free(c->chunk);
    c->chunk = NULL;
    c->tls.in = (struct psc_bytes){NULL, 0};
}

/* Keep just what is left of the chunk, for after the pause. */
static void keep_rest(struct psc_conn *c)
{
    size_t left = c->tls.in.len;
    if (left == 0) {
        drop_chunk(c);
        return;
    }
    memmove(c->chunk, c->tls.in.data, left);
    uint8_t *smaller = realloc(c->chunk, left);
    if (smaller != NULL) {
        c->chunk = smaller;
    }
    psc_tls_feed(&c->tls, c->chunk, left);
}

/* The header is whole: check the size, make ready for the payload. */
static int begin_payload(struct psc_conn *c, struct psc_error *err)
{
    c->frame_size = (uint32_t)c->header[0] << 24 |
                    (uint32_t)c->header[1] << 16 | (uint32_t)c->header[2] << 8 |
                    c->header[3];
    psc_buf_reset(&c->frame);
    c->frame.max = c->limits.max_frame_bytes;
    if (c->frame_size > c->limits.max_frame_bytes) {
        return psc_error_set(err, PSC_LIMIT,
                             "a frame of %u bytes is over the limit of %zu",
                             c->frame_size, c->limits.max_frame_bytes);
    }
    return PSC_OK;
}

/* Read more of header or payload. *@got is 0 when TLS needs more input. */
static int read_some(struct psc_conn *c, size_t *got, struct psc_error *err)
{
    if (c->header_len < HEADER_BYTES) {
        int rc = psc_tls_read(&c->tls, c->header + c->header_len,
                              (size_t)(HEADER_BYTES - c->header_len), got, err);
        if (rc != PSC_OK || *got == 0) {
            return rc;
        }
        if (c->header_len == 0) {
            c->frame_ms = uv_now(c->tcp.loop);
        }
        c->header_len = (uint8_t)(c->header_len + *got);
        return c->header_len == HEADER_BYTES ? begin_payload(c, err) : PSC_OK;
    }
    size_t want = c->frame_size - c->frame.len;
    size_t room = c->frame.cap - c->frame.len;
    if (room == 0) {
        size_t step = want < STEP_BYTES ? want : STEP_BYTES;
        if (psc_buf_reserve(&c->frame, step) != PSC_OK) {
            return psc_error_set(
                err, psc_buf_error(&c->frame), "%s for a frame of %u bytes",
                psc_strerror(psc_buf_error(&c->frame)), c->frame_size);
        }
        room = c->frame.cap - c->frame.len;
    }
    int rc = psc_tls_read(&c->tls, c->frame.data + c->frame.len,
                          want < room ? want : room, got, err);
    c->frame.len += *got;
    return rc;
}

/* Hand out the frame if it is whole. */
static void deliver(struct psc_conn *c)
{
    if (c->header_len < HEADER_BYTES || c->frame.len < c->frame_size) {
        return;
    }
    c->header_len = 0;
    c->events->on_frame(c, psc_buf_bytes(&c->frame));
}

/* Read frames until input runs out or the user has had enough. */
static int read_frames(struct psc_conn *c, struct psc_error *err)
{
    while (c->state == PSC_CONN_OPEN && !c->paused) {
        size_t got = 0;
        int rc = read_some(c, &got, err);
        if (rc == PSC_CLOSED && conn_in_frame(c)) {
            rc = psc_error_set(err, PSC_CONNECTION,
                               "the peer ended the connection amid a frame");
        }
        if (rc != PSC_OK || got == 0) {
            return rc;
        }
        deliver(c);
    }
    return PSC_OK;
}

static int advance(struct psc_conn *c, struct psc_error *err)
{
    if (c->state == PSC_CONN_HANDSHAKE) {
        int rc = psc_tls_handshake(&c->tls, err);
        if (rc != PSC_OK || !c->tls.established) {
            return rc;
        }
        conn_open(c);
    }
    return read_frames(c, err);
}

void conn_input(struct psc_conn *c)
{
    struct psc_error err;
    c->processing = true;
    int rc = advance(c, &err);
    c->processing = false;
    if (c->header_len < HEADER_BYTES) {
        psc_buf_fini(&c->frame);
    }
    if (rc != PSC_OK) {
        drop_chunk(c);
        conn_end_politely(c, &err);
        return;
    }
    if (c->state == PSC_CONN_OPEN && c->paused) {
        keep_rest(c);
    } else {
        drop_chunk(c);
    }
    conn_flush(c);
    conn_update_reading(c);
}

/* The peer's FIN, or the socket's failure. */
static void end_of_input(struct psc_conn *c, ssize_t status)
{
    struct psc_error err;
    c->peer_done = true;
    conn_update_reading(c);
    if (c->state == PSC_CONN_LINGERING) {
        conn_end_now(c, NULL);
    } else if (status != UV_EOF) {
        psc_error_set(&err, status == UV_ENOBUFS ? PSC_NOMEM : PSC_CONNECTION,
                      "%s%s",
                      status == UV_ENOBUFS ? "read: " : "connection lost: ",
                      uv_strerror((int)status));
        conn_end_now(c, &err);
    } else if (c->state == PSC_CONN_WAITING && c->knocked) {
        psc_error_set(&err, PSC_CONNECTION,
                      "the peer left before its turn came");
        conn_end_now(c, &err);
    } else if (c->state == PSC_CONN_HANDSHAKE || c->state == PSC_CONN_WAITING) {
        psc_error_set(&err, PSC_CONNECTION,
                      "the peer closed during the TLS handshake; is this a "
                      "collector's port, and is it well?");
        conn_end_now(c, &err);
    } else if (c->state == PSC_CONN_OPEN) {
        psc_error_set(&err, PSC_CONNECTION,
                      "the peer closed without a goodbye");
        conn_end_now(c, &err);
    }
    /* FLUSHING goes on: what is queued may still be wanted. */
}

/* Whether @first has a whole record, or cannot become one. */
static bool is_knock(struct psc_bytes first)
{
    const uint8_t *head = first.data;
    if (first.len >= CONN_FIRST_BYTES ||
        (first.len > 0 && head[0] != SSL3_RT_HANDSHAKE) ||
        (first.len > 1 && head[1] != SSL3_VERSION_MAJOR)) {
        return true;
    }
    if (first.len < SSL3_RT_HEADER_LENGTH) {
        return false;
    }
    size_t len = (size_t)head[3] << 8 | head[4];
    return len > SSL3_RT_MAX_PLAIN_LENGTH ||
           first.len - SSL3_RT_HEADER_LENGTH >= len;
}

/* The peer waits for its turn: keep its @n bytes at @data, and say so once its
 * first record is here. */
static void keep_first(struct psc_conn *c, const char *data, size_t n)
{
    size_t len = c->tls.in.len;
    uint8_t *chunk = realloc(c->chunk, len + n);
    if (chunk == NULL) {
        struct psc_error err;
        psc_error_set(&err, PSC_NOMEM, "read: out of memory");
        conn_end_now(c, &err);
        return;
    }
    memcpy(chunk + len, data, n);
    c->chunk = chunk;
    c->tls.in = (struct psc_bytes){chunk, len + n};
    conn_update_reading(c);
    if (c->state == PSC_CONN_WAITING && !c->knocked && is_knock(c->tls.in)) {
        c->knocked = true;
        conn_arm(c, uv_now(c->tcp.loop) + conn_ms(c->limits.wait_us));
        c->events->on_knock(c);
    }
}

void conn_on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf)
{
    struct psc_conn *c = stream->data;
    bool wanted = c->state == PSC_CONN_HANDSHAKE || c->state == PSC_CONN_OPEN;
    if (nread > 0 && c->state == PSC_CONN_WAITING) {
        keep_first(c, buf->base, (size_t)nread);
        free(buf->base);
        return;
    }
    if (nread <= 0 || !wanted) {
        free(buf->base);
        if (nread < 0) {
            end_of_input(c, nread);
        }
        return;
    }
    c->heard_ms = uv_now(c->tcp.loop);
    c->chunk = (uint8_t *)buf->base;
    psc_tls_feed(&c->tls, c->chunk, (size_t)nread);
    conn_input(c);
}
