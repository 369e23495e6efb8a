/* What each source costs: CPU per collection beside the floor, which is only
 * reading the same files (kept open, into one buffer, looked at by nobody).
 * Cold: the program sleeps between rounds, as an agent does; a hot loop
 * flatters both. Run as root, or sources are missing.
 *
 *   bench-sources [ROUNDS] [SLEEP_MS] */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/procfile_linux.h"
#include "agent/source.h"

enum { SOURCES_MAX = 16, FILES_MAX = 5, BUFFER_BYTES = 1 << 20 };

/* The files of each source that has fixed ones; those that several share are
 * with the first of them. */
static const struct {
    const char *source;
    const char *files[FILES_MAX];
} FILES[] = {
    {"slabinfo",
     {"/proc/slabinfo", "/proc/meminfo", "/proc/zoneinfo", "/proc/vmstat"}},
    {"vmallocinfo", {"/proc/vmallocinfo"}},
    {"allocinfo", {"/proc/allocinfo"}},
    {"memory",
     {"/proc/sys/fs/file-nr", "/proc/sys/fs/inode-nr", "/proc/net/sockstat",
      "/proc/sys/vm/overcommit_memory"}},
};

struct bench {
    const struct source *source;
    void *state;
    int fds[FILES_MAX];
    size_t n_fds;
    int proc_fd; /* of the source processes, else -1 */
    double own_us, floor_us;
};

static char buffer[BUFFER_BYTES];

static double cpu_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void read_file(int fd)
{
    off_t offset = 0;
    ssize_t n;
    while ((n = pread(fd, buffer, sizeof(buffer), offset)) > 0) {
        offset += n;
    }
}

static int read_process(void *ctx, const char *name, unsigned char d_type)
{
    const struct bench *b = ctx;
    (void)d_type;
    if (*name < '1' || *name > '9') {
        return 0;
    }
    char path[64];
    struct stat st;
    (void)snprintf(path, sizeof(path), "%s/stat", name);
    (void)proc_read_small(b->proc_fd, path, buffer, sizeof(buffer));
    (void)snprintf(path, sizeof(path), "%s/fd", name);
    (void)fstatat(b->proc_fd, path, &st, 0);
    return 0;
}

static void run_floor(struct bench *b)
{
    double start = cpu_us();
    for (size_t i = 0; i < b->n_fds; i++) {
        read_file(b->fds[i]);
    }
    if (b->proc_fd >= 0) {
        (void)dir_names(b->proc_fd, read_process, b);
    }
    b->floor_us += cpu_us() - start;
}

static void run_own(struct bench *b, struct sample *sample)
{
    struct psc_error err;
    double start = cpu_us();
    if (b->source->collect(b->state, sample, &err) != 0) {
        fprintf(stderr, "%s: %s\n", b->source->name, err.msg);
    }
    b->own_us += cpu_us() - start;
}

static void prepare(struct bench *b)
{
    b->proc_fd = -1;
    if (strcmp(b->source->name, "processes") == 0) {
        b->proc_fd = open("/proc", O_RDONLY | O_DIRECTORY);
    }
    for (size_t i = 0; i < sizeof(FILES) / sizeof(FILES[0]); i++) {
        if (strcmp(FILES[i].source, b->source->name) != 0) {
            continue;
        }
        for (size_t k = 0; k < FILES_MAX && FILES[i].files[k] != NULL; k++) {
            int fd = open(FILES[i].files[k], O_RDONLY);
            if (fd >= 0) {
                b->fds[b->n_fds++] = fd;
            }
        }
    }
}

static void round_of(struct bench *benches, size_t n, struct sample *sample)
{
    table_begin(&sample->tags);
    table_begin(&sample->counters);
    psc_buf_reset(&sample->drivers);
    psc_buf_reset(&sample->aliases);
    sample->n_events = 0;
    for (size_t i = 0; i < n; i++) {
        sample->source = (uint8_t)i;
        run_own(&benches[i], sample);
    }
}

static void print(const struct bench *benches, size_t n, int rounds)
{
    double own = 0;
    double floor = 0;
    printf("%-14s %10s %10s %7s\n", "source", "own us", "floor us", "ratio");
    for (size_t i = 0; i < n; i++) {
        const struct bench *b = &benches[i];
        bool has_floor = b->n_fds > 0 || b->proc_fd >= 0;
        printf("%-14s %10.0f ", b->source->name, b->own_us / rounds);
        if (has_floor) {
            printf("%10.0f %7.2f\n", b->floor_us / rounds,
                   b->own_us / b->floor_us);
            own += b->own_us;
            floor += b->floor_us;
        } else {
            printf("%10s %7s\n", "-", "-");
        }
    }
    if (floor > 0) {
        printf("%-14s %10.0f %10.0f %7.2f\n", "with a floor", own / rounds,
               floor / rounds, own / floor);
    }
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 15;
    long sleep_ms = argc > 2 ? strtol(argv[2], NULL, 10) : 1000;
    struct timespec pause = {sleep_ms / 1000, sleep_ms % 1000 * 1000000};
    struct source_env env = {.root = "", .top_processes = 10};
    struct bench benches[SOURCES_MAX];
    struct sample sample;
    size_t n = 0;
    memset(benches, 0, sizeof(benches));
    sample_init(&sample);
    if (source_shared_new(&env.shared) != PSC_OK) {
        return 1;
    }
    for (size_t i = 0; agent_sources[i] != NULL && n < SOURCES_MAX; i++) {
        struct psc_error err;
        struct bench *b = &benches[n];
        b->source = agent_sources[i];
        if (b->source->open(&env, &b->state, &err) != 0) {
            printf("%-14s %s\n", b->source->name, err.msg);
            continue;
        }
        prepare(b);
        n++;
    }
    round_of(benches, n, &sample); /* dictionaries are made once */
    for (size_t i = 0; i < n; i++) {
        run_floor(&benches[i]);
        benches[i].own_us = benches[i].floor_us = 0;
    }
    for (int r = 0; r < rounds; r++) {
        (void)nanosleep(&pause, NULL);
        round_of(benches, n, &sample);
        (void)nanosleep(&pause, NULL);
        for (size_t i = 0; i < n; i++) {
            run_floor(&benches[i]);
        }
    }
    printf("%d rounds, %ld ms apart; %u tags, %u counters\n", rounds, sleep_ms,
           sample.tags.n_live, sample.counters.n_live);
    print(benches, n, rounds);
    for (size_t i = 0; i < n; i++) {
        benches[i].source->close(benches[i].state);
    }
    source_shared_free(env.shared);
    sample_fini(&sample);
    return 0;
}
