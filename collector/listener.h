/* The TCP socket that agents connect to. */
#ifndef PSC_COLLECTOR_LISTENER_H
#define PSC_COLLECTOR_LISTENER_H

#include <stdbool.h>
#include <uv.h>

#include "common/error.h"

struct sessions;

struct listener {
    uv_tcp_t tcp;
    struct sessions *sessions; /* borrowed */
    int port;                  /* that it listens on */
};

/* The address and port of "address:port" or "[address]:port". Returns 0 or
 * PSC_CONFIG. */
PSC_MUST_CHECK int listener_resolve(const char *text,
                                    struct sockaddr_storage *addr, int *port,
                                    struct psc_error *err);

/* Listen on @address; port 0 takes a free one. @shared: also while others do
 * that are shared. Connections go to @sessions. */
PSC_MUST_CHECK int listener_start(struct listener *l, uv_loop_t *loop,
                                  const char *address, bool shared,
                                  struct sessions *sessions,
                                  struct psc_error *err);
void listener_stop(struct listener *l);

#endif
