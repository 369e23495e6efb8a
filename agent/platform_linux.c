/* What libuv does not have: file locks, and glibc's memory knobs. */
#include "agent/platform.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

int platform_lock(const char *path, int *lock, struct psc_error *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EROFS) {
        fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    if (fd < 0) {
        return psc_error_set(err, PSC_IO, "open %s: %s", path, strerror(errno));
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int code = errno == EWOULDBLOCK ? PSC_REFUSED : PSC_IO;
        (void)psc_error_set(err, code, "%s: %s", path,
                            code == PSC_REFUSED
                                ? "another agent uses this state directory"
                                : strerror(errno));
        (void)close(fd);
        return code;
    }
    *lock = fd;
    return PSC_OK;
}

void platform_unlock(int lock)
{
    (void)close(lock);
}

void platform_memory_tune(void)
{
    /* One arena; large buffers go back to the kernel when freed; the heap's
     * end is given back early. Both limits lie above a connection's read
     * buffer: a mapping made, faulted in and removed for each read was a tenth
     * of what a heartbeat costs. */
    (void)mallopt(M_ARENA_MAX, 1);
    (void)mallopt(M_MMAP_THRESHOLD, 128 * 1024);
    (void)mallopt(M_TRIM_THRESHOLD, 128 * 1024);
    (void)mallopt(M_TOP_PAD, 16 * 1024);
}

void platform_memory_trim(void)
{
    (void)malloc_trim(0);
}
