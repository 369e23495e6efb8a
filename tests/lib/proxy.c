/* The proxy's thread: poll() over the listener and at most LINKS_MAX pairs of
 * sockets. Commands reach it through atomics that it reads every TICK_MS. */
#include "tests/lib/proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { LINKS_MAX = 64, CHUNK_BYTES = 16384, TICK_MS = 10 };

struct link {
    int fds[2];    /* client, server; -1 when free */
    bool ended[2]; /* that side will send no more */
};

struct proxy {
    pthread_t thread;
    int listener;
    int port;
    atomic_int target_port;
    atomic_bool stop;
    atomic_bool cut;
    atomic_bool swallow;
    atomic_size_t bytes_per_s;
    atomic_uint accepted;
    atomic_ullong bytes;
    struct link links[LINKS_MAX];
};

/* A reset, not an orderly end. */
static void reset_link(struct link *l)
{
    struct linger now = {1, 0};
    for (int side = 0; side < 2; side++) {
        if (l->fds[side] >= 0) {
            (void)setsockopt(l->fds[side], SOL_SOCKET, SO_LINGER, &now,
                             sizeof(now));
            (void)close(l->fds[side]);
        }
        l->fds[side] = -1;
    }
}

/* One side has ended: so does the way to the other one, in order. */
static void end_side(struct link *l, int side)
{
    l->ended[side] = true;
    (void)shutdown(l->fds[1 - side], SHUT_WR);
    for (int i = 0; i < 2 && l->ended[1 - side]; i++) {
        (void)close(l->fds[i]);
        l->fds[i] = -1;
    }
}

static struct sockaddr_in loopback(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return a;
}

static void accept_link(struct proxy *p)
{
    int client = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC);
    if (client < 0) {
        return;
    }
    struct link *l = NULL;
    for (int i = 0; i < LINKS_MAX && l == NULL; i++) {
        l = p->links[i].fds[0] < 0 ? &p->links[i] : NULL;
    }
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = loopback(atomic_load(&p->target_port));
    if (l == NULL || server < 0 ||
        connect(server, (struct sockaddr *)&to, sizeof(to)) != 0) {
        (void)close(client);
        if (server >= 0) {
            (void)close(server);
        }
        return;
    }
    *l = (struct link){.fds = {client, server}};
    atomic_fetch_add(&p->accepted, 1);
}

static bool send_all(int fd, const char *data, ssize_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, (size_t)len, MSG_NOSIGNAL);
        if (n <= 0) {
            return false;
        }
        data += n;
        len -= n;
    }
    return true;
}

/* Move what one side has to the other, within this tick's budget. */
static void forward(struct proxy *p, struct link *l, int side, size_t budget)
{
    char chunk[CHUNK_BYTES];
    size_t want = budget < sizeof(chunk) ? budget : sizeof(chunk);
    ssize_t n = recv(l->fds[side], chunk, want, MSG_DONTWAIT);
    if (n == 0) {
        end_side(l, side);
        return;
    }
    if (n < 0 ? errno != EAGAIN && errno != EINTR
              : !send_all(l->fds[1 - side], chunk, n)) {
        reset_link(l);
        return;
    }
    if (n < 0) {
        return;
    }
    atomic_fetch_add(&p->bytes, (unsigned long long)n);
}

static void serve(struct proxy *p)
{
    struct pollfd fds[1 + 2 * LINKS_MAX];
    struct link *links[1 + 2 * LINKS_MAX];
    int sides[1 + 2 * LINKS_MAX];
    nfds_t n = 0;
    fds[n++] = (struct pollfd){.fd = p->listener, .events = POLLIN};
    bool swallow = atomic_load(&p->swallow);
    for (int i = 0; i < LINKS_MAX && !swallow; i++) {
        for (int side = 0; side < 2 && p->links[i].fds[0] >= 0; side++) {
            if (p->links[i].ended[side]) {
                continue;
            }
            links[n] = &p->links[i];
            sides[n] = side;
            fds[n++] =
                (struct pollfd){.fd = p->links[i].fds[side], .events = POLLIN};
        }
    }
    if (poll(fds, n, TICK_MS) <= 0) {
        return;
    }
    size_t rate = atomic_load(&p->bytes_per_s);
    size_t budget = rate == 0 ? CHUNK_BYTES : rate * TICK_MS / 1000 + 1;
    for (nfds_t i = 1; i < n; i++) {
        if (fds[i].revents != 0 && links[i]->fds[0] >= 0) {
            forward(p, links[i], sides[i], budget);
        }
    }
    if ((fds[0].revents & POLLIN) != 0) {
        accept_link(p);
    }
    if (rate != 0) {
        (void)poll(NULL, 0, TICK_MS);
    }
}

static void *run(void *arg)
{
    struct proxy *p = arg;
    while (!atomic_load(&p->stop)) {
        if (atomic_exchange(&p->cut, false)) {
            for (int i = 0; i < LINKS_MAX; i++) {
                reset_link(&p->links[i]);
            }
        }
        serve(p);
    }
    for (int i = 0; i < LINKS_MAX; i++) {
        reset_link(&p->links[i]);
    }
    return NULL;
}

struct proxy *proxy_start(int target_port)
{
    struct proxy *p = calloc(1, sizeof(*p));
    assert_non_null(p);
    for (int i = 0; i < LINKS_MAX; i++) {
        p->links[i] = (struct link){.fds = {-1, -1}};
    }
    atomic_store(&p->target_port, target_port);
    p->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(p->listener >= 0);
    struct sockaddr_in a = loopback(0);
    assert_int_equal(bind(p->listener, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(p->listener, LINKS_MAX), 0);
    socklen_t len = sizeof(a);
    assert_int_equal(getsockname(p->listener, (struct sockaddr *)&a, &len), 0);
    p->port = ntohs(a.sin_port);
    assert_int_equal(pthread_create(&p->thread, NULL, run, p), 0);
    return p;
}

void proxy_stop(struct proxy *p)
{
    atomic_store(&p->stop, true);
    (void)pthread_join(p->thread, NULL);
    (void)close(p->listener);
    free(p);
}

int proxy_port(const struct proxy *p)
{
    return p->port;
}

unsigned proxy_accepted(const struct proxy *p)
{
    return atomic_load(&p->accepted);
}

uint64_t proxy_bytes(const struct proxy *p)
{
    return atomic_load(&p->bytes);
}

void proxy_cut(struct proxy *p)
{
    atomic_store(&p->cut, true);
}

void proxy_throttle(struct proxy *p, size_t bytes_per_s)
{
    atomic_store(&p->bytes_per_s, bytes_per_s);
}

void proxy_swallow(struct proxy *p, int on)
{
    atomic_store(&p->swallow, on != 0);
}

void proxy_target(struct proxy *p, int target_port)
{
    atomic_store(&p->target_port, target_port);
}
