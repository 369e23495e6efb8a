/* Starting and stopping the programs of an installation. Ports are taken from
 * below the range that the kernel gives to outgoing connections, so that none
 * of these can sit on a port while its program is being restarted. */
#include "tests/lib/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/lib/spawn.h"
#include "tests/lib/temp.h"

enum {
    PORT_FIRST = 20000,
    PORT_COUNT = 12000,
    START_S = 60,
    STOP_S = 5,
    POLL_MS = 20,
    TEXT_BYTES = 256,
};

/* --- helpers --- */

static const char *keep(char *text)
{
    assert_non_null(text);
    temp_at_exit(free, text);
    return text;
}

static const char *format(const char *fmt, ...)
    __attribute__((format(printf, 1, 2)));

static const char *format(const char *fmt, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, fmt);
    assert_true(vasprintf(&text, fmt, args) >= 0);
    va_end(args);
    return keep(text);
}

static bool port_is_free(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    bool is_free = bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
    (void)close(fd);
    return is_free;
}

int world_free_port(void)
{
    static unsigned next;
    if (next == 0) {
        next = (unsigned)(psc_clock_mono_us() / 7 + getpid() * 131);
    }
    for (int i = 0; i < PORT_COUNT; i++) {
        int port = PORT_FIRST + (int)(next++ % PORT_COUNT);
        if (port_is_free(port)) {
            return port;
        }
    }
    fail_msg("no free port");
    return 0;
}

int world_seconds(int normal)
{
    const char *text = getenv("POOLSCOPE_TEST_SECONDS");
    int seconds = text != NULL ? atoi(text) : 0;
    return seconds > 0 ? seconds : normal;
}

unsigned world_seed(void)
{
    const char *text = getenv("POOLSCOPE_TEST_SEED");
    unsigned seed = text != NULL ? (unsigned)strtoul(text, NULL, 10)
                                 : (unsigned)psc_clock_wall_us() % 1000000u;
    print_message("seed %u (POOLSCOPE_TEST_SEED)\n", seed);
    return seed;
}

bool world_sanitised(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    return true;
#else
    return false;
#endif
#else
    return false;
#endif
}

/* --- words of a command line --- */

struct words {
    const char *v[WORLD_WORDS_MAX];
    int n;
};

static void add(struct words *w, const char *word)
{
    assert_true(w->n + 1 < WORLD_WORDS_MAX);
    w->v[w->n++] = word;
    w->v[w->n] = NULL;
}

static void add_all(struct words *w, const char *const *words)
{
    for (; words != NULL && *words != NULL; words++) {
        add(w, *words);
    }
}

/* --- the collector --- */

void world_collector_spawn(struct world *w)
{
    assert_int_equal(w->collector, 0);
    const char *port_file = temp_path(w->dir, "port");
    (void)unlink(port_file);
    struct words words = {.n = 0};
    add_all(&words, w->before);
    add(&words, spawn_program("poolscope-collector"));
    add(&words, w->db.option);
    add(&words, w->db.place);
    add(&words, "--pki-dir");
    add(&words, w->pki_dir);
    add(&words, "--names");
    add(&words, "localhost,127.0.0.1");
    add(&words, "--listen");
    add(&words, format("127.0.0.1:%d", w->port));
    add(&words, "--metrics");
    add(&words, format("127.0.0.1:%d", w->metrics_port));
    add(&words, "--port-file");
    add(&words, port_file);
    add_all(&words, w->words);
    w->collector = spawn(w->collector_log, words.v);
}

void world_collector_await(struct world *w)
{
    const char *port_file = temp_path(w->dir, "port");
    int64_t end_us = psc_clock_mono_us() + START_S * PSC_US_PER_S;
    struct stat st = {.st_size = 0};
    while (stat(port_file, &st) != 0 || st.st_size == 0) {
        if (!spawn_running(w->collector) || psc_clock_mono_us() > end_us) {
            world_show_log(w->collector_log);
            fail_msg("the collector does not come up");
        }
        spawn_sleep_ms(POLL_MS);
    }
    char line[TEXT_BYTES];
    spawn_read_line(port_file, line, sizeof(line), 1);
    assert_int_equal(atoi(line), w->port);
}

void world_collector_start(struct world *w)
{
    world_collector_spawn(w);
    world_collector_await(w);
}

static void stop_program(pid_t *pid, int signal, const char *log, bool slow)
{
    int limit_s = slow ? START_S : STOP_S;
    assert_true(*pid > 0);
    if (!spawn_running(*pid)) {
        world_show_log(log);
        fail_msg("%s: the program has ended by itself: exit code %d", log,
                 spawn_wait(*pid, 1));
    }
    int64_t start_us = psc_clock_mono_us();
    int code = spawn_stop(*pid, signal, limit_s);
    *pid = 0;
    if (signal == SIGTERM && code != 0) {
        world_show_log(log);
        fail_msg("%s: exit code %d after SIGTERM", log, code);
    }
    if (signal == SIGKILL && code != 128 + SIGKILL) {
        fail_msg("%s: exit code %d after SIGKILL", log, code);
    }
    assert_true(psc_clock_mono_us() - start_us <= limit_s * PSC_US_PER_S);
}

void world_collector_stop(struct world *w, int signal)
{
    stop_program(&w->collector, signal, w->collector_log, w->before != NULL);
}

/* --- the whole --- */

static void finish(void *arg)
{
    PQfinish(*(PGconn **)arg);
}

void world_start(struct world *w, bool sync, const char *const *words,
                 const char *const *before)
{
    memset(w, 0, sizeof(*w));
    test_database_migrated(&w->db, sync);
    temp_at_exit(finish, &w->sql);
    w->dir = temp_dir();
    w->pki_dir = temp_path(w->dir, "pki");
    w->collector_log = temp_path(w->dir, "collector.log");
    w->words = words;
    w->before = before;
    w->port = world_free_port();
    w->metrics_port = world_free_port();
    world_collector_start(w);
    w->token = world_token(w, "1000");
}

static void check_log(const char *log)
{
    static const char *const reports[] = {"Sanitizer",
                                          "runtime error:", "Assertion"};
    for (size_t i = 0; i < sizeof(reports) / sizeof(reports[0]); i++) {
        if (world_log_count(log, reports[i]) > 0) {
            fail_msg("%s has \"%s\"", log, reports[i]);
        }
    }
}

void world_stop(struct world *w)
{
    for (unsigned i = 0; i < w->n_agents; i++) {
        struct world_agent *a = &w->agents[i];
        if (a->pid != 0) {
            world_agent_stop(a, SIGTERM);
        }
        if (a->proxy != NULL) {
            proxy_stop(a->proxy);
            a->proxy = NULL;
        }
        check_log(a->log);
    }
    if (w->collector != 0) {
        world_collector_stop(w, SIGTERM);
    }
    check_log(w->collector_log);
    PQfinish(w->sql);
    w->sql = NULL;
    if (w->db.data_dir != NULL) {
        test_database_stop(&w->db);
    }
}

/* --- agents --- */

struct world_agent *world_agent_add(struct world *w, const char *name,
                                    const char *const *words)
{
    assert_true(w->n_agents < WORLD_AGENTS_MAX);
    struct world_agent *a = &w->agents[w->n_agents++];
    a->world = w;
    a->name = name;
    a->words = words;
    a->state_dir = temp_path(w->dir, name);
    assert_int_equal(mkdir(a->state_dir, 0700), 0);
    a->log = temp_path(w->dir, format("%s.log", name));
    return a;
}

void world_agent_proxy(struct world_agent *a)
{
    a->proxy = proxy_start(a->world->port);
}

void world_agent_start(struct world_agent *a)
{
    assert_int_equal(a->pid, 0);
    int port = a->proxy != NULL ? proxy_port(a->proxy) : a->world->port;
    struct words words = {.n = 0};
    add_all(&words, a->before);
    add(&words, spawn_program("poolscope-agent"));
    add(&words, "--collector");
    add(&words,
        a->collectors != NULL ? a->collectors : format("127.0.0.1:%d", port));
    add(&words, "--state-dir");
    add(&words, a->state_dir);
    add(&words, "--host");
    add(&words, a->name);
    add(&words, "--token");
    add(&words, a->world->token);
    add(&words, "--log-level");
    add(&words, "debug");
    add_all(&words, a->words);
    a->pid = spawn(a->log, words.v);
}

void world_agent_stop(struct world_agent *a, int signal)
{
    stop_program(&a->pid, signal, a->log, a->before != NULL);
}

/* --- the command line --- */

int world_poolscope(struct world *w, const char *const *arguments, char *out,
                    size_t cap)
{
    struct words words = {.n = 0};
    add(&words, spawn_program("poolscope"));
    add_all(&words, arguments);
    add(&words, w->db.option);
    add(&words, w->db.place);
    return spawn_capture(words.v, out, cap, START_S);
}

const char *world_token(struct world *w, const char *uses)
{
    const char *arguments[] = {"token", "create", "--quiet", "--note",
                               "test",  "--uses", uses,      NULL};
    char out[TEXT_BYTES];
    assert_int_equal(world_poolscope(w, arguments, out, sizeof(out)), 0);
    out[strcspn(out, "\n")] = '\0';
    assert_memory_equal(out, "psc1.", 5);
    return format("%s", out);
}
