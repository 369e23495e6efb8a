/* A blocking TLS client on plain OpenSSL. */
#include "tests/lib/client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/conn.h"

enum { HANDSHAKE_S = 10, FRAME_HEAD_BYTES = 4 };

SSL_CTX *client_ctx(const char *state_dir)
{
    (void)signal(SIGPIPE, SIG_IGN);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    assert_non_null(ctx);
    if (state_dir != NULL) {
        char path[512];
        (void)snprintf(path, sizeof(path), "%s/identity.pem", state_dir);
        assert_int_equal(
            SSL_CTX_use_certificate_file(ctx, path, SSL_FILETYPE_PEM), 1);
        assert_int_equal(
            SSL_CTX_use_PrivateKey_file(ctx, path, SSL_FILETYPE_PEM), 1);
    }
    return ctx;
}

int client_dial(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

static void set_timeout(int fd, int timeout_s)
{
    struct timeval t = {.tv_sec = timeout_s};
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t)), 0);
}

bool client_open(struct client *c, int port, SSL_CTX *ctx)
{
    return client_resume(c, port, ctx, NULL);
}

bool client_resume(struct client *c, int port, SSL_CTX *ctx,
                   SSL_SESSION *session)
{
    memset(c, 0, sizeof(*c));
    (void)signal(SIGPIPE, SIG_IGN);
    wire_decoder_init(&c->decoder);
    psc_buf_init(&c->in, PSC_FRAME_MAX_BYTES);
    c->fd = client_dial(port);
    set_timeout(c->fd, HANDSHAKE_S);
    if (ctx == NULL) {
        return true;
    }
    c->ssl = SSL_new(ctx);
    assert_non_null(c->ssl);
    assert_int_equal(SSL_set_fd(c->ssl, c->fd), 1);
    if (session != NULL) {
        assert_int_equal(SSL_set_session(c->ssl, session), 1);
    }
    ERR_clear_error();
    return SSL_connect(c->ssl) == 1;
}

void client_close(struct client *c)
{
    SSL_free(c->ssl);
    (void)close(c->fd);
    wire_decoder_fini(&c->decoder);
    psc_buf_fini(&c->in);
}

bool client_send_raw(struct client *c, const void *data, size_t len)
{
    ERR_clear_error();
    if (c->ssl != NULL) {
        size_t done;
        return len == 0 || SSL_write_ex(c->ssl, data, len, &done) == 1;
    }
    return send(c->fd, data, len, MSG_NOSIGNAL) == (ssize_t)len;
}

bool client_send_frame(struct client *c, const void *data, size_t len)
{
    uint8_t head[FRAME_HEAD_BYTES] = {(uint8_t)(len >> 24),
                                      (uint8_t)(len >> 16), (uint8_t)(len >> 8),
                                      (uint8_t)len};
    return client_send_raw(c, head, sizeof(head)) &&
           client_send_raw(c, data, len);
}

bool client_send(struct client *c, const struct wire_message *m)
{
    struct psc_buf frame;
    psc_buf_init(&frame, (size_t)4 * PSC_FRAME_MAX_BYTES);
    wire_encode(m, &frame);
    assert_int_equal(psc_buf_error(&frame), PSC_OK);
    bool sent = client_send_frame(c, frame.data, frame.len);
    psc_buf_fini(&frame);
    return sent;
}

static bool read_all(struct client *c, void *out, size_t len)
{
    for (size_t done = 0; done < len;) {
        size_t n = 0;
        ERR_clear_error();
        if (SSL_read_ex(c->ssl, (char *)out + done, len - done, &n) != 1) {
            return false;
        }
        done += n;
    }
    return true;
}

bool client_receive(struct client *c, struct wire_message *out, int timeout_s)
{
    uint8_t head[FRAME_HEAD_BYTES];
    struct psc_error err;
    set_timeout(c->fd, timeout_s);
    if (!read_all(c, head, sizeof(head))) {
        return false;
    }
    size_t len = (size_t)head[0] << 24 | (size_t)head[1] << 16 |
                 (size_t)head[2] << 8 | head[3];
    psc_buf_reset(&c->in);
    assert_int_equal(psc_buf_reserve(&c->in, len), PSC_OK);
    if (!read_all(c, c->in.data, len)) {
        return false;
    }
    c->in.len = len;
    assert_int_equal(wire_decode(&c->decoder, psc_buf_bytes(&c->in), out, &err),
                     PSC_OK);
    return true;
}

bool client_await(struct client *c, enum wire_type type,
                  struct wire_message *out, int timeout_s)
{
    int64_t end_us = psc_clock_mono_us() + timeout_s * PSC_US_PER_S;
    while (psc_clock_mono_us() < end_us && client_receive(c, out, timeout_s)) {
        if (out->type == type) {
            return true;
        }
    }
    return false;
}

unsigned long long client_begin(struct client *c, uint8_t stream_byte)
{
    struct wire_message m = {.type = WIRE_HELLO};
    m.hello.protocol_min = WIRE_PROTOCOL_MIN;
    m.hello.protocol_max = WIRE_PROTOCOL_MAX;
    m.hello.wall_us = psc_clock_wall_us();
    m.hello.boottime_us = psc_clock_boot_us();
    memset(m.hello.boot_id, 0x77, sizeof(m.hello.boot_id));
    m.hello.interval_us = PSC_US_PER_S;
    assert_true(client_send(c, &m));
    if (!client_await(c, WIRE_WELCOME, &m, HANDSHAKE_S)) {
        fail_msg("no Welcome");
    }
    memset(&m, 0, sizeof(m));
    m.type = WIRE_OPEN;
    memset(m.open.stream, stream_byte, sizeof(m.open.stream));
    assert_true(client_send(c, &m));
    if (!client_await(c, WIRE_CURSOR, &m, HANDSHAKE_S)) {
        fail_msg("no Cursor");
    }
    return m.cursor.seq;
}
