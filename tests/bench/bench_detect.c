/* What detection costs: time per update with hosts laid out one by one and in
 * random order, memory per series, time of a window's close and of judging.
 *
 *   bench-detect [HOSTS] */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "collector/detect/detect.h"
#include "proto/table.h"

#define TAGS      3000
#define SAMPLES   60
#define SECOND_US INT64_C(1000000)
#define MINUTE_US (60 * SECOND_US)
#define START_US  (INT64_C(1700006400) * SECOND_US)

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void on_finding(void *user, const struct detect_finding *f)
{
    (void)f;
    ++*(uint64_t *)user;
}

static void fail(const char *what)
{
    fprintf(stderr, "bench-detect: %s failed\n", what);
    exit(1);
}

/* All tags of one snapshot of @h; the first @moving grow. */
static void feed(struct detect_host *h, int64_t i, uint32_t moving)
{
    detect_begin(h, START_US + i * MINUTE_US, MINUTE_US);
    for (uint32_t id = 0; id < TAGS; id++) {
        int64_t bytes = 1000000 + (id % 7 == 0 ? (i * 37 % 11) * 4096 : 0) +
                        (id < moving ? i * (1000000 + id) : 0);
        if (detect_tag(h, id, POOL_SLAB, 0, false, bytes) != 0) {
            fail("detect_tag()");
        }
    }
    detect_room(h, INT64_C(20) << 30, INT64_C(24) << 30);
}

static void end(struct detect_host *h, uint64_t *told)
{
    if (detect_end(h, on_finding, told) != 0) {
        fail("detect_end()");
    }
}

/* One host alone: its snapshots that close a window against the others. */
static void measure_close(uint32_t moving)
{
    struct detect_settings settings;
    struct detect_host *h;
    uint64_t told = 0;
    double close_ns = 0;
    double other_ns = 0;
    int closes = 0;
    int others = 0;

    detect_settings_default(&settings);
    if (detect_host_new(&settings, &h) != 0) {
        fail("detect_host_new()");
    }
    for (int64_t i = 0; i < 600; i++) {
        double start = now_ns();
        feed(h, i, moving);
        end(h, &told);
        if (i % 12 == 0 && i > 0) { /* twelve samples a fast window */
            close_ns += now_ns() - start;
            closes++;
        } else if (i > 0) {
            other_ns += now_ns() - start;
            others++;
        }
    }
    printf("window close, %d tags, %4u of them moving: %.3f ms over a plain "
           "snapshot's %.3f ms (%llu told)\n",
           TAGS, moving, (close_ns / closes - other_ns / others) / 1e6,
           other_ns / others / 1e6, (unsigned long long)told);
    detect_host_free(h);
}

static void measure_updates(uint32_t n_hosts)
{
    struct detect_settings settings;
    struct detect_host **hosts = calloc(n_hosts, sizeof(struct detect_host *));
    uint64_t told = 0;
    size_t bytes = 0;

    detect_settings_default(&settings);
    for (uint32_t i = 0; hosts != NULL && i < n_hosts; i++) {
        if (detect_host_new(&settings, &hosts[i]) != 0) {
            fail("detect_host_new()");
        }
        feed(hosts[i], 0, 0);
        end(hosts[i], &told);
    }
    double start = now_ns();
    for (int64_t s = 1; s <= SAMPLES && hosts != NULL; s++) {
        for (uint32_t i = 0; i < n_hosts; i++) {
            feed(hosts[i], s, 0);
            end(hosts[i], &told);
        }
    }
    double ns = (now_ns() - start) / SAMPLES / n_hosts / TAGS;
    for (uint32_t i = 0; hosts != NULL && i < n_hosts; i++) {
        bytes += detect_host_bytes(hosts[i]);
    }
    printf("%u hosts of %d tags, in order: %.1f ns an update, closes "
           "included; %.1f bytes a series\n",
           n_hosts, TAGS, ns, (double)bytes / n_hosts / TAGS);

    uint64_t r = 1;
    start = now_ns();
    for (int i = 0; i < 1000000 && hosts != NULL; i++) {
        r = r * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        uint32_t host = (uint32_t)(r >> 33) % n_hosts;
        uint32_t id = (uint32_t)(r >> 20) % TAGS;
        if (detect_tag(hosts[host], id, POOL_SLAB, 0, false, 1000000) != 0) {
            fail("detect_tag()");
        }
    }
    printf("%u hosts of %d tags, at random: %.1f ns an update\n", n_hosts, TAGS,
           (now_ns() - start) / 1e6);
    for (uint32_t i = 0; hosts != NULL && i < n_hosts; i++) {
        detect_host_free(hosts[i]);
    }
    free(hosts);
}

int main(int argc, char **argv)
{
    long n_hosts = argc > 1 ? strtol(argv[1], NULL, 10) : 200;

    measure_updates(n_hosts > 0 && n_hosts < 100000 ? (uint32_t)n_hosts : 1);
    measure_close(0);
    measure_close(30);
    measure_close(3000);
    return 0;
}
