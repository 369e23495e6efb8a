/* The link to PostgreSQL against a scripted server that goes away. libpq then
 * closes the socket within a call, and the next descriptor that anybody opens
 * has its number: that one must work. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "collector/pglink_io.h"
#include "common/clock.h"
#include "tests/lib/spawn.h"
#include "tests/lib/temp.h"

enum {
    PATIENCE_S = 10,
    MESSAGE_MAX_BYTES = 4096,
};

/* ---- the server: in a child, so any way to end it will do ---- */

static void must(bool good)
{
    if (!good) {
        _exit(1);
    }
}

static void get(int fd, void *data, size_t len)
{
    must(len == 0 || recv(fd, data, len, MSG_WAITALL) == (ssize_t)len);
}

static void put(int fd, const void *data, size_t len)
{
    must(write(fd, data, len) == (ssize_t)len);
}

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 |
           p[3];
}

/* Read a message's length and content; the start-up message has no type. */
static void skip_message(int fd)
{
    uint8_t length[4];
    char content[MESSAGE_MAX_BYTES];
    get(fd, length, sizeof(length));
    must(be32(length) >= 4 && be32(length) - 4 <= sizeof(content));
    get(fd, content, be32(length) - 4);
}

#define PUT(fd, bytes) put(fd, bytes, sizeof(bytes) - 1)

/* Answer what the client sends, up to and including a Sync. */
static void answer_preparation(int fd)
{
    char type = 0;
    while (type != 'S') {
        get(fd, &type, 1);
        skip_message(fd);
        switch (type) {
        case 'P': PUT(fd, "1\0\0\0\4"); break;
        case 'B': PUT(fd, "2\0\0\0\4"); break;
        case 'D': PUT(fd, "n\0\0\0\4"); break;
        case 'E': PUT(fd, "C\0\0\0\15SELECT 0\0"); break;
        case 'S': PUT(fd, "Z\0\0\0\5I"); break;
        default: must(false);
        }
    }
}

/* Take one connection, and end as soon as it is ready. */
static void be_server(int listener)
{
    int fd = accept(listener, NULL, NULL);
    must(fd >= 0);
    skip_message(fd);
    PUT(fd, "R\0\0\0\10\0\0\0\0Z\0\0\0\5I");
    answer_preparation(fd);
    _exit(0);
}

/* ---- our side ---- */

struct world {
    uv_loop_t loop;
    struct pglink link;
    struct pglink_job jobs[2];
    pid_t server;
    char conninfo[256];
    int fd;                    /* of the link, while it was up */
    unsigned n_done, n_closed; /* jobs; of these, ended by the stop */
    uv_tcp_t listener;
    unsigned n_accepted;
    uv_timer_t wake;
    bool stopped;
};

static void start_server(struct world *w)
{
    const char *dir = temp_dir();
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int n =
        snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/.s.PGSQL.5432", dir);
    assert_true(n > 0 && (size_t)n < sizeof(addr.sun_path));
    (void)snprintf(w->conninfo, sizeof(w->conninfo),
                   "host=%s port=5432 user=x dbname=x", dir);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(listener >= 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(listener, 1), 0);
    w->server = fork();
    assert_true(w->server >= 0);
    if (w->server == 0) {
        (void)alarm(PATIENCE_S);
        be_server(listener);
    }
    (void)close(listener);
}

static void on_connection(uv_stream_t *stream, int status)
{
    struct world *w = stream->data;
    assert_int_equal(status, 0);
    w->n_accepted++;
}

/* On the number that the link's socket had. */
static void start_listening(struct world *w)
{
    struct sockaddr_in addr;
    uv_os_fd_t fd;
    assert_int_equal(uv_ip4_addr("127.0.0.1", 0, &addr), 0);
    assert_int_equal(
        uv_tcp_bind(&w->listener, (const struct sockaddr *)&addr, 0), 0);
    assert_int_equal(uv_fileno((uv_handle_t *)&w->listener, &fd), 0);
    assert_int_equal(fd, w->fd);
    assert_int_equal(uv_listen((uv_stream_t *)&w->listener, 1, on_connection),
                     0);
}

static int send_job(struct pglink_job *job, struct pglink *link)
{
    (void)job;
    return pglink_send(link, "question", 0, NULL);
}

static void on_job_done(struct pglink_job *job,
                        const struct pglink_failure *failure)
{
    struct world *w = job->user;
    w->n_done++;
    w->n_closed += failure != NULL && failure->err.code == PSC_CLOSED ? 1 : 0;
}

static void on_stopped(struct pglink *link)
{
    struct world *w = link->settings.user;
    w->stopped = true;
}

/* Time passes also when nothing else does. */
static void on_wake(uv_timer_t *timer)
{
    (void)timer;
}

static bool is_up(const struct world *w)
{
    return w->link.state == PGLINK_READY;
}

static bool is_down(const struct world *w)
{
    return w->link.state == PGLINK_WAITING;
}

static bool is_accepted(const struct world *w)
{
    return w->n_accepted > 0;
}

static bool is_stopped(const struct world *w)
{
    return w->stopped;
}

static void run_until(struct world *w, bool (*done)(const struct world *))
{
    int64_t end_us = psc_clock_mono_us() + PATIENCE_S * PSC_US_PER_S;
    while (!done(w)) {
        assert_true(psc_clock_mono_us() < end_us);
        (void)uv_run(&w->loop, UV_RUN_ONCE);
    }
}

/* Connect to a server; it is up when this returns. */
static void start(struct world *w)
{
    static const struct pglink_statement statements[] = {
        {"question", "SELECT v FROM answers"},
        {NULL, NULL},
    };
    memset(w, 0, sizeof(*w));
    start_server(w);
    const struct pglink_settings settings = {
        .name = "test",
        .conninfo = w->conninfo,
        .statements = statements,
        .depth = 2,
        .statement_us = PATIENCE_S * PSC_US_PER_S,
        .reconnect_max_us = PSC_US_PER_S,
        .user = w,
    };
    assert_int_equal(uv_loop_init(&w->loop), 0);
    assert_int_equal(uv_timer_init(&w->loop, &w->wake), 0);
    assert_int_equal(uv_timer_start(&w->wake, on_wake, 100, 100), 0);
    assert_int_equal(uv_tcp_init(&w->loop, &w->listener), 0);
    w->listener.data = w;
    assert_int_equal(pglink_start(&w->link, &w->loop, &settings), 0);
    run_until(w, is_up);
    w->fd = PQsocket(w->link.conn);
}

static void submit(struct world *w, struct pglink_job *job)
{
    *job = (struct pglink_job){
        .user = w,
        .on_send = send_job,
        .on_done = on_job_done,
    };
    pglink_submit(&w->link, job);
}

/* Is anybody who connects to the listener accepted? */
static void check_listener(struct world *w)
{
    struct sockaddr_in addr;
    int len = sizeof(addr);
    assert_int_equal(
        uv_tcp_getsockname(&w->listener, (struct sockaddr *)&addr, &len), 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    run_until(w, is_accepted);
    (void)close(fd);
}

static void stop(struct world *w)
{
    pglink_stop(&w->link, on_stopped);
    uv_close((uv_handle_t *)&w->wake, NULL);
    uv_close((uv_handle_t *)&w->listener, NULL);
    run_until(w, is_stopped);
    (void)uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
}

/* ---- the tests ---- */

static void a_socket_that_libpq_closed_is_not_watched(void **state)
{
    (void)state;
    static struct world w;
    start(&w);
    assert_int_equal(spawn_wait(w.server, PATIENCE_S), 0);
    /* libpq takes the first one as sent, and looks closer at the second. */
    submit(&w, &w.jobs[0]);
    submit(&w, &w.jobs[1]);
    assert_int_equal(PQsocket(w.link.conn), -1);
    start_listening(&w);
    run_until(&w, is_down);
    check_listener(&w);
    assert_int_equal(w.n_done, 0); /* they wait for a server */
    stop(&w);
    assert_int_equal(w.n_done, 2);
    assert_int_equal(w.n_closed, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_socket_that_libpq_closed_is_not_watched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
