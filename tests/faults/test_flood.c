/* Crowds of connections that never say who they are, from the honest hosts'
 * own address and from elsewhere, once and without end: they cost the
 * collector bounded memory, and an honest host gets through. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/lib/peer_world.h"
#include "tests/lib/spawn.h"

enum {
    CROWD_WANTED = 10000,
    FDS_SPARE = 200,
    HELD = 18000, /* by the attack without end, at once */
    ATTACK_S = 10,
    KIB_PER_MIB = 1024,
    GROWTH_MAX_MIB = 100,
};

static struct world world;
static struct peer_identity honest;

/* A connection to the collector from 127.0.0.@host that sends nothing, or the
 * beginning of a ClientHello. Returns the descriptor, or -1. */
static int dial(int host, bool begin)
{
    static const uint8_t head[] = {0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3};
    struct sockaddr_in from = {.sin_family = AF_INET};
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)world.port)};
    from.sin_addr.s_addr = htonl(0x7f000000u + (uint32_t)host);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    if (fd < 0) {
        return -1;
    }
    (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&from, sizeof(from)) != 0 ||
        connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0 ||
        (begin && send(fd, head, sizeof(head), MSG_NOSIGNAL) < 0)) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

/* Hello until Welcome, as an agent does it. Returns the milliseconds. */
static long long honest_ms(unsigned *tries)
{
    int64_t start_us = psc_clock_mono_us();
    for (*tries = 1; *tries < 60; ++*tries) {
        struct peer p;
        bool good =
            peer_connect(&p, world.port, &honest) && peer_hello(&p) == 0;
        peer_close(&p);
        if (good) {
            return (psc_clock_mono_us() - start_us) / 1000;
        }
        spawn_sleep_ms(500);
    }
    fail_msg("an honest host does not get through");
    return -1;
}

static long long crowded(void)
{
    return peer_world_refusals(&world, "crowded");
}

static void show_memory(const char *what, long from_kib)
{
    long kib = world_memory_kib(world.collector, "VmRSS");
    print_message("%s: collector %.1f MiB (%+.1f)\n", what,
                  (double)kib / KIB_PER_MIB,
                  (double)(kib - from_kib) / KIB_PER_MIB);
    if (!world_sanitised()) {
        assert_true(kib - from_kib < (long)GROWTH_MAX_MIB * KIB_PER_MIB);
    }
}

static void a_crowd_costs_little(void **state)
{
    (void)state;
    static int fds[CROWD_WANTED];
    struct rlimit files;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    files.rlim_cur = files.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
    int n = (int)files.rlim_cur - FDS_SPARE;
    n = n < CROWD_WANTED ? n : CROWD_WANTED;
    long before_kib = world_memory_kib(world.collector, "VmRSS");
    for (int i = 0; i < n; i++) {
        fds[i] = dial(1, i % 2 == 0);
        assert_true(fds[i] >= 0);
    }
    unsigned tries;
    long long ms = honest_ms(&tries);
    print_message("beside %d idle connections of the same address: through "
                  "after %lld ms, %u tries\n",
                  n, ms, tries);
    show_memory("with them", before_kib);
    for (int i = 0; i < n; i++) {
        (void)close(fds[i]);
    }
}

/* Dials without end, and keeps the newest. */
static void attack(int host)
{
    static int fds[HELD];
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (unsigned i = 0;; i = (i + 1) % HELD) {
        if (fds[i] > 0) {
            (void)close(fds[i]);
        }
        fds[i] = dial(host, i % 2 == 0);
    }
}

static void endure(int host, const char *from, long long limit_ms)
{
    long before_kib = world_memory_kib(world.collector, "VmRSS");
    long long before = crowded();
    long long worst = 0;
    unsigned n = 0, tries, all_tries = 0;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        attack(host);
        _exit(0);
    }
    spawn_sleep_ms(1000);
    int64_t end_us = psc_clock_mono_us() + ATTACK_S * PSC_US_PER_S;
    for (; psc_clock_mono_us() < end_us; n++) {
        long long ms = honest_ms(&tries);
        worst = ms > worst ? ms : worst;
        all_tries += tries;
        spawn_sleep_ms(100);
    }
    show_memory(from, before_kib);
    (void)kill(child, SIGKILL);
    (void)spawn_wait(child, 5);
    print_message("%s: %lld connections ended, %u honest ones through in %u "
                  "tries, the slowest after %lld ms\n",
                  from, crowded() - before, n, all_tries, worst);
    assert_true(n > 0);
    assert_true(worst <= limit_ms);
}

static void an_attack_from_elsewhere_keeps_nobody_out(void **state)
{
    (void)state;
    endure(2, "an attack from elsewhere", 5000);
}

static void an_attack_from_the_same_address_is_survived(void **state)
{
    (void)state;
    endure(1, "an attack from the same address", 30000);
}

static int start(void **state)
{
    (void)state;
    world_start(&world, false, NULL, NULL);
    peer_world_enrol(&world, &honest, "honest");
    return 0;
}

static int stop(void **state)
{
    (void)state;
    peer_identity_fini(&honest);
    world_stop(&world);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_attack_from_elsewhere_keeps_nobody_out),
        cmocka_unit_test(an_attack_from_the_same_address_is_survived),
        cmocka_unit_test(a_crowd_costs_little),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
