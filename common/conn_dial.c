/* A client's way to a collector: name to addresses, one address after another,
 * until TCP stands.
 *
 * Happy path: psc_conn_connect -> on_resolved (names only) -> try_address ->
 * on_connect -> conn_start_tls. An address that fails has its handle closed,
 * and conn_dial_next goes on with the next one.
 *
 * The resolver runs in libuv's thread pool and cannot be stopped, so its
 * request lives on the heap and outlives a connection that gives up.
 *
 * Failures: no such name, no address answers, the time is up: PSC_CONNECTION
 * or PSC_TIMEOUT with the last address tried. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/conn.h"
#include "common/conn_internal.h"

enum {
    MAX_ADDRESSES = 8,
    MAX_NAME_BYTES = 256, /* DNS allows 253 */
};

struct resolution {
    uv_getaddrinfo_t req;
    struct psc_conn *conn; /* NULL once nobody waits for it */
};

struct psc_conn_dial {
    struct resolution *resolution; /* under way, or NULL */
    struct sockaddr_storage addresses[MAX_ADDRESSES];
    unsigned n_addresses;
    unsigned at;           /* the next one to try */
    SSL_SESSION **session; /* borrowed, or NULL */
    bool verify;
    bool by_name; /* host is a name, not an address */
    uint16_t port;
    char host[MAX_NAME_BYTES];
    char verify_host[MAX_NAME_BYTES]; /* if verify */
    struct psc_error error;           /* of the attempt that failed last */
};

void conn_dial_free(struct psc_conn *c)
{
    if (c->dial == NULL) {
        return;
    }
    struct resolution *resolution = c->dial->resolution;
    if (resolution != NULL) {
        resolution->conn = NULL;
        (void)uv_cancel((uv_req_t *)&resolution->req);
    }
    free(c->dial);
    c->dial = NULL;
}

/* "10.0.0.7:7443", or "name (10.0.0.7:7443)". */
static void target_text(const struct psc_conn *c, char *out, size_t cap)
{
    const struct psc_conn_dial *d = c->dial;
    if (!d->by_name) {
        (void)snprintf(out, cap, "%s", c->peer_name);
    } else {
        (void)snprintf(out, cap, "%.100s (%s)", d->host, c->peer_name);
    }
}

static void on_connect(uv_connect_t *req, int status);

/* Start connecting to the next address. */
static int try_address(struct psc_conn *c)
{
    struct psc_conn_dial *d = c->dial;
    const struct sockaddr *addr = (const void *)&d->addresses[d->at];
    conn_name_address(addr, c->peer_name, sizeof(c->peer_name));

    /* Silent addresses share the time that is left. */
    uint64_t now = uv_now(c->tcp.loop);
    uint64_t left = c->deadline_ms > now ? c->deadline_ms - now : 0;
    conn_arm(c, now + left / (d->n_addresses - d->at));
    d->at++;
    c->req.connect.data = c;
    return uv_tcp_connect(&c->req.connect, &c->tcp, addr, on_connect);
}

/* The present address has failed: remember why, and clear the way for the
 * next one. */
static void give_up_address(struct psc_conn *c, int code, const char *why)
{
    struct psc_conn_dial *d = c->dial;
    char target[192];
    target_text(c, target, sizeof(target));
    psc_error_set(&d->error, code, "connect to %s: %s%s", target, why,
                  d->n_addresses > 1 && d->at == d->n_addresses
                      ? " (and so for its other addresses)"
                      : "");
    if (d->at == d->n_addresses) {
        conn_end_now(c, &d->error);
    } else {
        uv_close((uv_handle_t *)&c->tcp, conn_on_tcp_closed);
    }
}

static void on_connect(uv_connect_t *req, int status)
{
    struct psc_conn *c = req->data;
    if (c->state != PSC_CONN_CONNECTING ||
        uv_is_closing((uv_handle_t *)&c->tcp)) {
        return; /* the close callback goes on from here */
    }
    if (status != 0) {
        give_up_address(c, PSC_CONNECTION, uv_strerror(status));
        return;
    }
    conn_set_state(c, PSC_CONN_HANDSHAKE);
    c->deadline_ms = uv_now(c->tcp.loop) + conn_ms(c->limits.handshake_us);
    conn_arm(c, c->deadline_ms);
    struct psc_conn_dial *d = c->dial;
    conn_start_tls(c, d->verify ? d->verify_host : NULL, d->session);
}

void conn_dial_next(struct psc_conn *c)
{
    (void)uv_tcp_init(c->timer.loop, &c->tcp);
    c->tcp.data = c;
    c->tcp_open = true;
    int rc = try_address(c);
    if (rc != 0) {
        give_up_address(c, PSC_CONNECTION, uv_strerror(rc));
    }
}

/* Go through the addresses from the first one. */
static void start_connecting(struct psc_conn *c)
{
    conn_set_state(c, PSC_CONN_CONNECTING);
    int rc = try_address(c);
    if (rc != 0) {
        give_up_address(c, PSC_CONNECTION, uv_strerror(rc));
    }
}

void conn_dial_timeout(struct psc_conn *c)
{
    struct psc_error err;
    double limit_s = (double)conn_ms(c->limits.handshake_us) / 1000;
    switch (c->state) {
    case PSC_CONN_CONNECTING:
        if (!uv_is_closing((uv_handle_t *)&c->tcp)) {
            give_up_address(c, PSC_TIMEOUT, "no answer");
        }
        return;
    case PSC_CONN_RESOLVING:
        psc_error_set(&err, PSC_TIMEOUT,
                      "resolve %.100s: no answer within %g s; is the name "
                      "server well?",
                      c->dial->host, limit_s);
        break;
    default:
        psc_error_set(&err, PSC_TIMEOUT,
                      "the TLS handshake was not done within %g s", limit_s);
        break;
    }
    conn_end_now(c, &err);
}

/* Copy the addresses out of the resolver's list. */
static void take_addresses(struct psc_conn_dial *d, const struct addrinfo *list)
{
    for (; list != NULL && d->n_addresses < MAX_ADDRESSES;
         list = list->ai_next) {
        if (list->ai_family != AF_INET && list->ai_family != AF_INET6) {
            continue;
        }
        struct sockaddr_storage *to = &d->addresses[d->n_addresses++];
        memcpy(to, list->ai_addr, (size_t)list->ai_addrlen);
        if (to->ss_family == AF_INET) {
            ((struct sockaddr_in *)(void *)to)->sin_port = htons(d->port);
        } else {
            ((struct sockaddr_in6 *)(void *)to)->sin6_port = htons(d->port);
        }
    }
}

static void on_resolved(uv_getaddrinfo_t *req, int status,
                        struct addrinfo *list)
{
    struct resolution *resolution = req->data;
    struct psc_conn *c = resolution->conn;
    free(resolution);
    if (c == NULL) {
        uv_freeaddrinfo(list);
        return;
    }
    c->dial->resolution = NULL;
    if (c->state != PSC_CONN_RESOLVING) {
        uv_freeaddrinfo(list);
        return; /* closed meanwhile */
    }
    if (status == 0) {
        take_addresses(c->dial, list);
    }
    uv_freeaddrinfo(list);
    if (c->dial->n_addresses == 0) {
        struct psc_error err;
        psc_error_set(&err, PSC_CONNECTION, "resolve %.100s: %s", c->dial->host,
                      status != 0 ? uv_strerror(status)
                                  : "it has no address of ours");
        conn_end_now(c, &err);
        return;
    }
    start_connecting(c);
}

/* Ask the resolver for the addresses of c->dial->host. */
static int resolve(struct psc_conn *c)
{
    struct resolution *resolution = calloc(1, sizeof(*resolution));
    if (resolution == NULL) {
        return UV_ENOMEM;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    resolution->conn = c;
    resolution->req.data = resolution;
    int rc = uv_getaddrinfo(c->timer.loop, &resolution->req, on_resolved,
                            c->dial->host, NULL, &hints);
    if (rc != 0) {
        free(resolution);
        return rc;
    }
    c->dial->resolution = resolution;
    return 0;
}

/* A port in digits, or 0. */
static uint16_t parse_port(const char *text)
{
    unsigned port = 0;
    for (size_t i = 0; text[i] != '\0'; i++) {
        if (text[i] < '0' || text[i] > '9' || i >= 5) {
            return 0;
        }
        port = port * 10 + (unsigned)(text[i] - '0');
    }
    return port <= UINT16_MAX ? (uint16_t)port : 0;
}

static int new_dial(const char *host, const char *port, const char *verify_host,
                    struct psc_conn_dial **out, struct psc_error *err)
{
    uint16_t number = parse_port(port);
    if (number == 0) {
        return psc_error_set(err, PSC_CONFIG,
                             "\"%.64s\" is no port: 1 to 65535", port);
    }
    if (*host == '\0' || strlen(host) >= MAX_NAME_BYTES ||
        (verify_host != NULL && strlen(verify_host) >= MAX_NAME_BYTES)) {
        return psc_error_set(err, PSC_CONFIG,
                             "\"%.64s\" is no host name or address", host);
    }
    struct psc_conn_dial *d = calloc(1, sizeof(*d));
    if (d == NULL) {
        return psc_error_set(err, PSC_NOMEM, "connect to %.100s: out of memory",
                             host);
    }
    d->port = number;
    (void)snprintf(d->host, sizeof(d->host), "%s", host);
    d->verify = verify_host != NULL;
    if (d->verify) {
        (void)snprintf(d->verify_host, sizeof(d->verify_host), "%s",
                       verify_host);
    }
    struct sockaddr_in *in = (void *)&d->addresses[0];
    struct sockaddr_in6 *in6 = (void *)&d->addresses[0];
    d->by_name = uv_ip4_addr(host, number, in) != 0 &&
                 uv_ip6_addr(host, number, in6) != 0;
    d->n_addresses = d->by_name ? 0 : 1;
    *out = d;
    return PSC_OK;
}

int psc_conn_connect(struct psc_conn *c, uv_loop_t *loop, const char *host,
                     const char *port, const char *verify_host, SSL_CTX *ctx,
                     const struct psc_conn_events *events,
                     const struct psc_conn_limits *limits, void *user,
                     struct psc_error *err)
{
    struct psc_conn_dial *dial = NULL;
    int rc = new_dial(host, port, verify_host, &dial, err);
    if (dial == NULL) {
        return rc;
    }
    uv_update_time(loop); /* the caller may have been busy for long */
    conn_init(c, loop, ctx, events, limits, user);
    c->dial = dial;
    c->dialled = true;
    c->state = PSC_CONN_RESOLVING;
    conn_arm(c, c->deadline_ms);
    if (!dial->by_name) {
        start_connecting(c);
        return PSC_OK;
    }
    int status = resolve(c);
    if (status != 0) {
        struct psc_error reason;
        psc_error_set(&reason, status == UV_ENOMEM ? PSC_NOMEM : PSC_CONNECTION,
                      "resolve %.100s: %s", host, uv_strerror(status));
        conn_end_now(c, &reason);
    }
    return PSC_OK;
}

void psc_conn_keep_session(struct psc_conn *c, SSL_SESSION **session)
{
    if (c->dial != NULL) {
        c->dial->session = session;
    }
}
