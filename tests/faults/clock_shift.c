/* A shared object to preload into a program under test: its wall clock is the
 * real one shifted by as many seconds as the file named in
 * POOLSCOPE_CLOCK_SHIFT says; the other clocks stay. The file may change at
 * any time. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* The C library's own declarations say that pointers are not NULL. */
int clock_gettime(clockid_t clock, struct timespec *out);
int gettimeofday(struct timeval *out, void *zone);
time_t time(time_t *out);

static long shift_s(void)
{
    const char *path = getenv("POOLSCOPE_CLOCK_SHIFT");
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    char text[32] = "";
    if (fd >= 0) {
        ssize_t n = read(fd, text, sizeof(text) - 1);
        text[n > 0 ? n : 0] = '\0';
        (void)close(fd);
    }
    return strtol(text, NULL, 10);
}

int clock_gettime(clockid_t clock, struct timespec *out)
{
    static int (*real)(clockid_t, struct timespec *);
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    }
    int rc = real(clock, out);
    if (rc == 0 && clock == CLOCK_REALTIME) {
        out->tv_sec += shift_s();
    }
    return rc;
}

int gettimeofday(struct timeval *out, void *zone)
{
    struct timespec now;
    (void)zone;
    int rc = clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return rc;
}

time_t time(time_t *out)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (out != NULL) {
        *out = now.tv_sec;
    }
    return now.tv_sec;
}
