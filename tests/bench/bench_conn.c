/* What connections cost: handshakes (full and resumed), frames, bytes, and the
 * memory of an idle connection on each side. The server is a process of its
 * own, so that both sides' CPU and memory are told apart; it answers each
 * question over a connection.
 *
 * Usage: bench-conn [IDLE_CONNECTIONS] */
#include <malloc.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/conn.h"
#include "tests/lib/certs.h"

enum {
    HANDSHAKES = 3000,
    IN_FLIGHT = 32,
    SMALL_BYTES = 3000,
    N_SMALL = 200000,
    LARGE_BYTES = 256 * 1024,
    N_LARGE = 4000,
};

#define DAY_S 86400LL

static const struct psc_conn_limits limits = {.handshake_us = 60000000,
                                              .idle_us = 600000000,
                                              .max_frame_bytes = 1 << 20,
                                              .max_queue_bytes = 1 << 20};

/* What one process has used. */
struct usage {
    int64_t cpu_us;
    int64_t dirty_bytes;   /* private, so not shared with anyone */
    int64_t heap_bytes;    /* of these: in use by malloc */
    int64_t openssl_bytes; /* of these: by OpenSSL */
};

/* ---- what OpenSSL holds ---- */

static int64_t openssl_bytes;

static void *ssl_malloc(size_t size, const char *file, int line)
{
    (void)file, (void)line;
    void *p = malloc(size);
    openssl_bytes += (int64_t)malloc_usable_size(p);
    return p;
}

static void ssl_free(void *p, const char *file, int line)
{
    (void)file, (void)line;
    openssl_bytes -= (int64_t)malloc_usable_size(p);
    free(p);
}

static void *ssl_realloc(void *p, size_t size, const char *file, int line)
{
    if (size == 0) {
        ssl_free(p, file, line);
        return NULL;
    }
    int64_t before = (int64_t)malloc_usable_size(p);
    void *bigger = realloc(p, size);
    if (bigger != NULL) {
        openssl_bytes += (int64_t)malloc_usable_size(bigger) - before;
    }
    return bigger;
}

static struct usage usage_now(void)
{
    struct rusage r;
    (void)getrusage(RUSAGE_SELF, &r);
    struct usage u = {
        .cpu_us = (int64_t)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000 +
                  r.ru_utime.tv_usec + r.ru_stime.tv_usec,
        .openssl_bytes = openssl_bytes};
    struct mallinfo2 heap = mallinfo2();
    u.heap_bytes = (int64_t)(heap.uordblks + heap.hblkhd);
    FILE *f = fopen("/proc/self/smaps_rollup", "r");
    char line[128];
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        if (strncmp(line, "Private_Dirty:", 14) == 0) {
            u.dirty_bytes = strtoll(line + 14, NULL, 10) * 1024;
        }
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return u;
}

/* --- the server --- */

static SSL_CTX *server_ctx;

static void on_nothing(struct psc_conn *c)
{
    (void)c;
}

/* An empty frame asks what this process has used; a single byte comes back. */
static void on_question(struct psc_conn *c, struct psc_bytes frame)
{
    struct usage u;
    if (frame.len == 0) {
        u = usage_now();
        frame = (struct psc_bytes){(const uint8_t *)&u, sizeof(u)};
    } else if (frame.len > 1) {
        return;
    }
    if (psc_conn_send(c, frame) != PSC_OK) {
        abort();
    }
}

static void on_served(struct psc_conn *c, const struct psc_error *reason)
{
    (void)reason;
    free(c);
}

static const struct psc_conn_events server_events = {
    .on_open = on_nothing, .on_frame = on_question, .on_close = on_served};

static void on_connection(uv_stream_t *listener, int status)
{
    struct psc_conn *c = status == 0 ? malloc(sizeof(*c)) : NULL;
    if (c == NULL || psc_conn_accept(c, listener, server_ctx, &server_events,
                                     &limits, NULL, NULL) != PSC_OK) {
        abort();
    }
}

/* Serve on @fd until killed. */
static void serve(int fd)
{
    uv_loop_t loop;
    uv_tcp_t listener;
    if (uv_loop_init(&loop) != 0 || uv_tcp_init(&loop, &listener) != 0 ||
        uv_tcp_open(&listener, fd) != 0 ||
        uv_listen((uv_stream_t *)&listener, 1024, on_connection) != 0) {
        abort();
    }
    (void)uv_run(&loop, UV_RUN_DEFAULT);
}

/* --- the client --- */

struct client {
    struct psc_conn conn;
    bool opened, closed;
    bool again;           /* connect again in on_close */
    SSL_SESSION *session; /* resumed if there is one and `resume` */
    bool resume;
    int n_frames_left;
    size_t frame_bytes;
    struct usage answer;
    bool answered;
};

static uv_loop_t loop;
static char port_text[8];
static SSL_CTX *client_ctx;
static int n_handshakes, n_resumed;
static const uint8_t zeros[LARGE_BYTES];

static void start(struct client *p);

static void pump(struct client *p)
{
    struct psc_bytes frame = {zeros, p->frame_bytes};
    while (p->n_frames_left > 0 && psc_conn_send(&p->conn, frame) == PSC_OK) {
        p->n_frames_left--;
    }
}

static void on_drained(struct psc_conn *c)
{
    pump(c->user);
}

static void on_open(struct psc_conn *c)
{
    struct client *p = c->user;
    p->opened = true;
    n_handshakes++;
    n_resumed += SSL_session_reused(c->tls.ssl);
    if (p->again) {
        struct psc_bytes byte = {zeros, 1};
        (void)!psc_conn_send(c, byte); /* comes back behind the ticket */
    }
}

static void on_answer(struct psc_conn *c, struct psc_bytes frame)
{
    struct client *p = c->user;
    if (frame.len == sizeof(p->answer)) {
        memcpy(&p->answer, frame.data, frame.len);
        p->answered = true;
    }
    if (p->again) {
        psc_conn_close(c, NULL);
    }
}

static void on_close(struct psc_conn *c, const struct psc_error *reason)
{
    struct client *p = c->user;
    p->closed = true;
    if (reason->code != PSC_CLOSED) {
        (void)fprintf(stderr, "bench-conn: %s\n", reason->msg);
        exit(1);
    }
    if (p->again && n_handshakes < HANDSHAKES) {
        start(p);
    }
}

static const struct psc_conn_events client_events = {.on_open = on_open,
                                                     .on_frame = on_answer,
                                                     .on_drained = on_drained,
                                                     .on_close = on_close};

static void start(struct client *p)
{
    struct psc_error err;
    p->opened = false;
    p->closed = false;
    if (psc_conn_connect(&p->conn, &loop, "127.0.0.1", port_text, "localhost",
                         client_ctx, &client_events, &limits, p,
                         &err) != PSC_OK) {
        (void)fprintf(stderr, "bench-conn: %s\n", err.msg);
        exit(1);
    }
    if (p->resume) {
        psc_conn_keep_session(&p->conn, &p->session);
    }
}

static void run_until(const bool *flag)
{
    while (!*flag) {
        (void)uv_run(&loop, UV_RUN_ONCE);
    }
}

/* The server's usage, asked over @p. */
static struct usage ask(struct client *p)
{
    struct psc_bytes question = {NULL, 0};
    p->answered = false;
    if (psc_conn_send(&p->conn, question) != PSC_OK) {
        abort();
    }
    run_until(&p->answered);
    return p->answer;
}

static void bench_handshakes(struct client *control, bool resume)
{
    struct client *clients = calloc(IN_FLIGHT, sizeof(*clients));
    struct usage server = ask(control);
    struct usage client = usage_now();
    int64_t start_us = psc_clock_mono_us();
    n_handshakes = 0;
    n_resumed = 0;
    for (int i = 0; i < IN_FLIGHT; i++) {
        clients[i].again = true;
        clients[i].resume = resume;
        start(&clients[i]);
    }
    for (int i = 0; i < IN_FLIGHT; i++) {
        while (!clients[i].closed || n_handshakes < HANDSHAKES) {
            (void)uv_run(&loop, UV_RUN_ONCE);
        }
    }
    double seconds = (double)(psc_clock_mono_us() - start_us) / 1e6;
    struct usage server_end = ask(control);
    struct usage client_end = usage_now();
    (void)printf("%-8s handshakes: %6.0f /s; CPU each: server %4.0f us, "
                 "client %4.0f us (%d of %d resumed)\n",
                 resume ? "resumed" : "full", n_handshakes / seconds,
                 (double)(server_end.cpu_us - server.cpu_us) / n_handshakes,
                 (double)(client_end.cpu_us - client.cpu_us) / n_handshakes,
                 n_resumed, n_handshakes);
    for (int i = 0; i < IN_FLIGHT; i++) {
        SSL_SESSION_free(clients[i].session);
    }
    free(clients);
}

static void bench_frames(struct client *control, size_t bytes, int n)
{
    struct usage server = ask(control);
    struct usage client = usage_now();
    int64_t start_us = psc_clock_mono_us();
    control->frame_bytes = bytes;
    control->n_frames_left = n;
    pump(control);
    while (control->n_frames_left > 0 || psc_conn_queued(&control->conn) > 0) {
        (void)uv_run(&loop, UV_RUN_ONCE);
    }
    struct usage server_end = ask(control);
    struct usage client_end = usage_now();
    double seconds = (double)(psc_clock_mono_us() - start_us) / 1e6;
    (void)printf("frames of %6zu B: %7.0f /s, %5.0f MB/s; CPU each: server "
                 "%5.1f us, client %5.1f us\n",
                 bytes, n / seconds, (double)bytes * n / seconds / 1e6,
                 (double)(server_end.cpu_us - server.cpu_us) / n,
                 (double)(client_end.cpu_us - client.cpu_us) / n);
}

static void bench_idle(struct client *control, int n)
{
    struct client *clients = calloc((size_t)n, sizeof(*clients));
    struct usage server = ask(control);
    struct usage client = usage_now();
    for (int i = 0; i < n; i++) {
        start(&clients[i]);
        if (i % IN_FLIGHT == IN_FLIGHT - 1) {
            run_until(&clients[i].opened);
        }
    }
    for (int i = 0; i < n; i++) {
        run_until(&clients[i].opened);
    }
    for (int i = 0; i < n; i++) { /* each has carried something each way */
        (void)ask(&clients[i]);
    }
    struct usage server_end = ask(control);
    struct usage client_end = usage_now();
    (void)printf(
        "idle connection (of %d): server %.1f KiB, client %.1f KiB "
        "of private memory; struct psc_conn %zu B\n",
        n, (double)(server_end.dirty_bytes - server.dirty_bytes) / n / 1024,
        (double)(client_end.dirty_bytes - client.dirty_bytes) / n / 1024,
        sizeof(struct psc_conn));
    (void)printf(
        "  of the server's: OpenSSL %.1f KiB, malloc in all %.1f KiB\n",
        (double)(server_end.openssl_bytes - server.openssl_bytes) / n / 1024,
        (double)(server_end.heap_bytes - server.heap_bytes) / n / 1024);
}

/* A listening loopback socket; its port goes to port_text. */
static int make_listener(void)
{
    struct sockaddr_in addr;
    socklen_t len = sizeof(addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || uv_ip4_addr("127.0.0.1", 0, &addr) != 0 ||
        bind(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0 ||
        listen(fd, 1024) != 0 ||
        getsockname(fd, (struct sockaddr *)&addr, &len) != 0) {
        abort();
    }
    (void)snprintf(port_text, sizeof(port_text), "%u", ntohs(addr.sin_port));
    return fd;
}

int main(int argc, char **argv)
{
    struct certs certs;
    struct host_certs host;
    int n_idle = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 2000;
    struct rlimit files = {20000, 20000};
    (void)setrlimit(RLIMIT_NOFILE, &files);
    (void)CRYPTO_set_mem_functions(ssl_malloc, ssl_realloc, ssl_free);
    certs_init(&certs);
    certs_host(&certs, 1, 90 * DAY_S, &host);
    int fd = make_listener();
    pid_t pid = fork();
    if (pid == 0) {
        server_ctx = certs_server_ctx(&certs, PSC_TLS_VERIFY_IF_GIVEN);
        serve(fd);
        _exit(0);
    }
    (void)close(fd);
    client_ctx = certs_client_ctx(&certs, &host);
    if (uv_loop_init(&loop) != 0) {
        return 1;
    }
    struct client control = {.opened = false};
    start(&control);
    run_until(&control.opened);
    bench_handshakes(&control, false);
    bench_handshakes(&control, true);
    bench_frames(&control, SMALL_BYTES, N_SMALL);
    bench_frames(&control, LARGE_BYTES, N_LARGE);
    bench_idle(&control, n_idle);
    (void)fflush(stdout);
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    _exit(0); /* the kernel is quicker at tearing all that down */
}
