/* Bind, listen, accept. Several collectors of one machine may share a port
 * (SO_REUSEPORT, on the sockets of all of them); the kernel spreads the
 * connections. They have to say so: otherwise one that is started by mistake
 * would take half of another's agents. */
#include "collector/listener.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "collector/session.h"
#include "common/log.h"

enum {
    BACKLOG = 65535, /* the kernel cuts it to net.core.somaxconn */
    ADDRESS_MAX_BYTES = 128,
};

/* Split "address:port" or "[address]:port". */
static int parse(const char *text, char *host, size_t cap, int *port,
                 struct psc_error *err)
{
    const char *colon = strrchr(text, ':');
    const char *start = text;
    const char *end = colon;
    if (colon != NULL && text[0] == '[' && colon > text && colon[-1] == ']') {
        start = text + 1;
        end = colon - 1;
    }
    char *rest = NULL;
    long value = colon != NULL ? strtol(colon + 1, &rest, 10) : -1;
    if (colon == NULL || rest == colon + 1 || *rest != '\0' || value < 0 ||
        value > 65535 || (size_t)(end - start) >= cap) {
        return psc_error_set(err, PSC_CONFIG,
                             "%s: expected address:port, such as 0.0.0.0:7443 "
                             "or [::]:7443",
                             text);
    }
    memcpy(host, start, (size_t)(end - start));
    host[end - start] = '\0';
    *port = (int)value;
    return PSC_OK;
}

int listener_resolve(const char *text, struct sockaddr_storage *addr, int *port,
                     struct psc_error *err)
{
    char host[ADDRESS_MAX_BYTES];
    int rc = parse(text, host, sizeof(host), port, err);
    if (rc == PSC_OK &&
        uv_ip4_addr(host, *port, (struct sockaddr_in *)addr) != 0 &&
        uv_ip6_addr(host, *port, (struct sockaddr_in6 *)addr) != 0) {
        rc = psc_error_set(err, PSC_CONFIG, "%s: not an address", text);
    }
    return rc;
}

static void on_connection(uv_stream_t *stream, int status)
{
    struct listener *l = stream->data;
    if (status < 0) {
        psc_log_warn("accepting: %s", uv_strerror(status));
        return;
    }
    sessions_accept(l->sessions, stream);
}

static int share_port(uv_tcp_t *tcp)
{
    uv_os_fd_t fd;
    int on = 1;
    int rc = uv_fileno((uv_handle_t *)tcp, &fd);
    if (rc == 0 &&
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0) {
        rc = UV_EINVAL;
    }
    return rc;
}

static int bound_port(const uv_tcp_t *tcp)
{
    struct sockaddr_storage addr;
    int len = sizeof(addr);
    if (uv_tcp_getsockname(tcp, (struct sockaddr *)&addr, &len) != 0) {
        return 0;
    }
    return ntohs(addr.ss_family == AF_INET6
                     ? ((struct sockaddr_in6 *)&addr)->sin6_port
                     : ((struct sockaddr_in *)&addr)->sin_port);
}

int listener_start(struct listener *l, uv_loop_t *loop, const char *address,
                   bool shared, struct sessions *sessions,
                   struct psc_error *err)
{
    struct sockaddr_storage addr;
    int port = 0;
    *l = (struct listener){.sessions = sessions};
    int rc = listener_resolve(address, &addr, &port, err);
    if (rc != PSC_OK) {
        return rc;
    }
    rc = uv_tcp_init_ex(loop, &l->tcp, addr.ss_family);
    if (rc == 0) {
        l->tcp.data = l;
        rc = shared ? share_port(&l->tcp) : 0;
        rc = rc == 0 ? uv_tcp_bind(&l->tcp, (struct sockaddr *)&addr, 0) : rc;
        rc = rc == 0 ? uv_listen((uv_stream_t *)&l->tcp, BACKLOG, on_connection)
                     : rc;
        if (rc != 0) {
            uv_close((uv_handle_t *)&l->tcp, NULL);
        }
    }
    if (rc != 0) {
        return psc_error_set(err, PSC_CONNECTION, "cannot listen on %s: %s%s",
                             address, uv_strerror(rc),
                             rc != UV_EADDRINUSE ? ""
                             : shared            ? " by one without shared_port"
                                      : "; several collectors may share a port "
                                        "if all have shared_port = yes");
    }
    l->port = bound_port(&l->tcp);
    return PSC_OK;
}

void listener_stop(struct listener *l)
{
    if (!uv_is_closing((uv_handle_t *)&l->tcp)) {
        uv_close((uv_handle_t *)&l->tcp, NULL);
    }
}
