/* Reading /proc and /sys: see procfile_linux.h. */
#include "agent/procfile_linux.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    READ_BUFFER_BYTES = 32 * 1024,
    DIR_BUFFER_BYTES = 16 * 1024,
    TEXT_CHUNK_BYTES = 4096,
};

int proc_errno(struct psc_error *err, const char *path, const char *needs)
{
    int saved = errno;
    if (saved == ENOENT || saved == ENOTDIR) {
        return psc_error_set(err, PSC_MISSING, "%s does not exist here", path);
    }
    if (saved == EACCES || saved == EPERM) {
        return psc_error_set(err, PSC_PERMISSION, "cannot read %s: needs %s",
                             path, needs);
    }
    return psc_error_set(err, PSC_IO, "cannot read %s: %s", path,
                         strerror(saved));
}

int proc_file_open(struct proc_file *f, const char *root, const char *path,
                   const char *needs, struct psc_error *err)
{
    f->fd = -1;
    int n = snprintf(f->path, sizeof(f->path), "%s%s", root, path);
    if (n < 0 || (size_t)n >= sizeof(f->path)) {
        return psc_error_set(err, PSC_LIMIT, "path too long: %s%s", root, path);
    }
    f->fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (f->fd < 0) {
        return proc_errno(err, f->path, needs);
    }
    return 0;
}

void proc_file_close(struct proc_file *f)
{
    if (f->fd >= 0) {
        (void)close(f->fd);
        f->fd = -1;
    }
}

static ssize_t read_at(int fd, char *out, size_t cap, off_t offset)
{
    for (;;) {
        ssize_t n = pread(fd, out, cap, offset);
        if (n >= 0 || errno != EINTR) {
            return n;
        }
    }
}

/* Give the whole lines in @t to @on_line; what is left is a part of one. */
static int whole_lines(struct text *t, text_line_fn on_line, void *ctx)
{
    const char *nl;
    while ((nl = memchr(t->at, '\n', text_left(t))) != NULL) {
        struct text line = {t->at, nl};
        int rc = on_line(ctx, line);
        if (rc != 0) {
            return rc;
        }
        t->at = nl + 1;
    }
    return 0;
}

int proc_file_lines(const struct proc_file *f, text_line_fn on_line, void *ctx,
                    struct psc_error *err)
{
    char buffer[READ_BUFFER_BYTES];
    size_t kept = 0; /* bytes of a line whose end is not read yet */
    off_t offset = 0;
    for (;;) {
        ssize_t n =
            read_at(f->fd, buffer + kept, sizeof(buffer) - kept, offset);
        if (n < 0) {
            return proc_errno(err, f->path, "more privileges");
        }
        if (n == 0) {
            break;
        }
        offset += n;
        if (offset > (off_t)PROC_FILE_MAX_BYTES) {
            return psc_error_set(err, PSC_LIMIT, "%s is larger than %u MiB",
                                 f->path, PROC_FILE_MAX_BYTES >> 20);
        }
        struct text t = text_of(buffer, kept + (size_t)n);
        int rc = whole_lines(&t, on_line, ctx);
        if (rc != 0) {
            return rc;
        }
        kept = text_left(&t);
        if (kept == sizeof(buffer)) {
            kept = sizeof(buffer) / 2; /* an absurd line: lose its middle */
        } else {
            memmove(buffer, t.at, kept);
        }
    }
    return kept > 0 ? on_line(ctx, text_of(buffer, kept)) : 0;
}

int proc_file_text(const struct proc_file *f, struct psc_buf *out,
                   struct psc_error *err)
{
    psc_buf_reset(out);
    for (;;) {
        int rc = psc_buf_reserve(out, TEXT_CHUNK_BYTES);
        if (rc != PSC_OK) {
            psc_buf_reset(out);
            return psc_error_set(err, rc, "%s: %s", f->path, psc_strerror(rc));
        }
        ssize_t n = read_at(f->fd, (char *)out->data + out->len,
                            out->cap - out->len, (off_t)out->len);
        if (n < 0) {
            psc_buf_reset(out);
            return proc_errno(err, f->path, "more privileges");
        }
        if (n == 0) {
            return PSC_OK;
        }
        out->len += (size_t)n;
    }
}

long proc_read_small(int dir_fd, const char *path, char *out, size_t cap)
{
    int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        return -1;
    }
    ssize_t n = read_at(fd, out, cap, 0);
    int saved = errno;
    (void)close(fd);
    errno = saved;
    return n;
}

long proc_read_again(int fd, char *out, size_t cap)
{
    return read_at(fd, out, cap, 0);
}

bool proc_read_value(const char *root, const char *path, char *out, size_t cap)
{
    char full[PROC_PATH_MAX_BYTES];
    int len = snprintf(full, sizeof(full), "%s%s", root, path);
    long n = -1;
    if (len > 0 && (size_t)len < sizeof(full)) {
        n = proc_read_small(AT_FDCWD, full, out, cap - 1);
    }
    if (n < 0) {
        n = 0;
    }
    while (n > 0 && (out[n - 1] == '\n' || out[n - 1] == ' ')) {
        n--;
    }
    out[n] = '\0';
    return n > 0;
}

struct kernel_dirent {
    uint64_t d_ino;
    int64_t d_off;
    unsigned short d_reclen;
    unsigned char d_type;
    char d_name[];
};

static int names_in(const char *buffer, size_t len, dir_name_fn on_name,
                    void *ctx)
{
    for (size_t at = 0; at < len;) {
        const struct kernel_dirent *e = (const void *)(buffer + at);
        at += e->d_reclen;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) {
            continue;
        }
        int rc = on_name(ctx, e->d_name, e->d_type);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

int dir_names(int fd, dir_name_fn on_name, void *ctx)
{
    _Alignas(struct kernel_dirent) char buffer[DIR_BUFFER_BYTES];
    if (lseek(fd, 0, SEEK_SET) < 0) {
        return -1;
    }
    for (;;) {
        long n = syscall(SYS_getdents64, fd, buffer, sizeof(buffer));
        if (n <= 0) {
            return n < 0 ? -1 : 0;
        }
        int rc = names_in(buffer, (size_t)n, on_name, ctx);
        if (rc != 0) {
            return rc;
        }
    }
}
