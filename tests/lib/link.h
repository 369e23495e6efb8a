/* Framed connections over loopback in one loop: a listener that accepts into
 * `servers`, and one client. Each end counts its callbacks and can be told to
 * do something within them. Allocates nothing per connection. */
#ifndef PSC_TESTS_LIB_LINK_H
#define PSC_TESTS_LIB_LINK_H

#include <stdbool.h>
#include <uv.h>

#include "common/conn.h"

enum { LINK_MAX_SERVERS = 8 };

struct link_end {
    struct psc_conn conn;
    struct link *link;
    bool started;
    int knocked, opened, frames, drained, closed; /* callbacks so far */
    size_t bytes;                                 /* of all frames */
    uint32_t checksum;                            /* CRC-32C over all frames */
    struct psc_error reason;                      /* of the close */
    void (*act_knock)(struct link_end *);         /* within on_knock, or NULL */
    void (*act_open)(struct link_end *);
    void (*act_frame)(struct link_end *, struct psc_bytes);
    void (*act_drained)(struct link_end *);
    void (*act_close)(struct link_end *);
};

struct link {
    uv_loop_t loop;
    uv_tcp_t listener;
    uv_timer_t tick; /* wakes the loop now and then */
    uint16_t port;
    char port_text[8];
    SSL_CTX *server_ctx, *client_ctx; /* borrowed */
    struct psc_conn_limits limits;    /* of both ends; change before use */
    struct link_end servers[LINK_MAX_SERVERS];
    int n_servers;
    struct link_end client;
    struct link_end server_template; /* the act_ fields of new servers */
    bool servers_wait;               /* until psc_conn_begin() */
    const char *verify_host;         /* what the client verifies, or NULL */
};

/* Listen on a free loopback port; sane limits, verify_host "localhost". */
void link_init(struct link *l, SSL_CTX *server_ctx, SSL_CTX *client_ctx);

/* End what is still open and check that every on_close came exactly once and
 * that nothing is left in the loop. */
void link_fini(struct link *l);

/* The same on the heap. */
struct link *link_new(SSL_CTX *server_ctx, SSL_CTX *client_ctx);
void link_free(struct link *l);

/* Start the client towards the listener. */
int link_connect(struct link *l, struct psc_error *err);

/* link_connect(), and wait until both ends are open. */
void link_open(struct link *l);

/* Run the loop until *@value >= @at_least; the test fails after 20 s. */
void link_await(struct link *l, const int *value, int at_least);

/* Run the loop until the client and the first server are closed. */
void link_await_both(struct link *l);

/* Run the loop for @ms. */
void link_run(struct link *l, unsigned ms);

/* Send @len bytes @fill; returns psc_conn_send()'s answer. */
int link_send(struct link_end *end, size_t len, uint8_t fill);

/* The same where it must succeed. */
void link_send_ok(struct link_end *end, size_t len, uint8_t fill);

/* An act_frame that sends the frame back. */
void link_echo(struct link_end *end, struct psc_bytes frame);

/* Check that @end was closed with @code and a message that has @text in it. */
void link_expect(const struct link_end *end, int code, const char *text);

#endif
