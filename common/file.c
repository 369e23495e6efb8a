/* Whole small files through libuv's synchronous calls. */
#include "common/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

enum { READ_CHUNK_BYTES = 4096, PATH_MAX_BYTES = 4096 };

static int explain(struct psc_error *err, const char *what, const char *path,
                   int status)
{
    int code = PSC_IO;
    if (status == UV_ENOENT) {
        code = PSC_MISSING;
    } else if (status == UV_EACCES || status == UV_EPERM) {
        code = PSC_PERMISSION;
    }
    return psc_error_set(err, code, "%s %s: %s", what, path,
                         uv_strerror(status));
}

static int open_file(const char *path, int flags, int mode)
{
    uv_fs_t req;
    int fd = uv_fs_open(NULL, &req, path, flags, mode, NULL);
    uv_fs_req_cleanup(&req);
    return fd;
}

static int close_file(int fd)
{
    uv_fs_t req;
    int status = uv_fs_close(NULL, &req, fd, NULL);
    uv_fs_req_cleanup(&req);
    return status;
}

int psc_file_read(const char *path, struct psc_buf *out, struct psc_error *err)
{
    int fd = open_file(path, O_RDONLY, 0);
    if (fd < 0) {
        return explain(err, "open", path, fd);
    }
    int rc = PSC_OK;
    char chunk[READ_CHUNK_BYTES];
    for (;;) {
        uv_fs_t req;
        uv_buf_t buf = uv_buf_init(chunk, sizeof(chunk));
        int n = uv_fs_read(NULL, &req, fd, &buf, 1, -1, NULL);
        uv_fs_req_cleanup(&req);
        if (n < 0) {
            rc = explain(err, "read", path, n);
        }
        if (n <= 0) {
            break;
        }
        psc_buf_append(out, chunk, (size_t)n);
        rc = psc_buf_error(out);
        if (rc != PSC_OK) {
            (void)psc_error_set(err, rc, "read %s: %s", path, psc_strerror(rc));
            break;
        }
    }
    (void)close_file(fd);
    return rc;
}

static int write_all(int fd, struct psc_bytes data)
{
    size_t done = 0;
    while (done < data.len) {
        uv_fs_t req;
        uv_buf_t buf = uv_buf_init((char *)(uintptr_t)(data.data + done),
                                   (unsigned)(data.len - done));
        int n = uv_fs_write(NULL, &req, fd, &buf, 1, -1, NULL);
        uv_fs_req_cleanup(&req);
        if (n <= 0) {
            return n < 0 ? n : UV_EIO;
        }
        done += (size_t)n;
    }
    return 0;
}

static int sync_file(int fd)
{
    uv_fs_t req;
    int status = uv_fs_fsync(NULL, &req, fd, NULL);
    uv_fs_req_cleanup(&req);
    return status;
}

/* Make a rename durable; Windows has no such call and needs none. */
static void sync_parent(const char *path)
{
#ifndef _WIN32
    char dir[PATH_MAX_BYTES];
    const char *slash = strrchr(path, '/');
    size_t len = slash == NULL ? 0 : (size_t)(slash - path);
    if (len >= sizeof(dir)) {
        return;
    }
    memcpy(dir, path, len);
    dir[len] = '\0';
    int fd =
        open_file(slash == NULL ? "." : (len == 0 ? "/" : dir), O_RDONLY, 0);
    if (fd >= 0) {
        (void)sync_file(fd);
        (void)close_file(fd);
    }
#else
    (void)path;
#endif
}

static int rename_file(const char *from, const char *to)
{
    uv_fs_t req;
    int status = uv_fs_rename(NULL, &req, from, to, NULL);
    uv_fs_req_cleanup(&req);
    return status;
}

int psc_file_write(const char *path, struct psc_bytes data, int mode,
                   struct psc_error *err)
{
    char temp[PATH_MAX_BYTES];
    int n = snprintf(temp, sizeof(temp), "%s.tmp", path);
    if (n < 0 || (size_t)n >= sizeof(temp)) {
        return psc_error_set(err, PSC_LIMIT, "path is too long: %s", path);
    }
    /* An old temporary file may have other permissions. */
    uv_fs_t req;
    (void)uv_fs_unlink(NULL, &req, temp, NULL);
    uv_fs_req_cleanup(&req);

    int fd = open_file(temp, O_WRONLY | O_CREAT | O_EXCL, mode);
    if (fd < 0) {
        return explain(err, "create", temp, fd);
    }
    int status = write_all(fd, data);
    if (status == 0) {
        status = sync_file(fd);
    }
    int closed = close_file(fd);
    if (status == 0) {
        status = closed;
    }
    if (status < 0) {
        return explain(err, "write", temp, status);
    }
    status = rename_file(temp, path);
    if (status < 0) {
        return explain(err, "replace", path, status);
    }
    sync_parent(path);
    return PSC_OK;
}

static int make_one(const char *path, int mode)
{
    uv_fs_t req;
    int status = uv_fs_mkdir(NULL, &req, path, mode, NULL);
    uv_fs_req_cleanup(&req);
    return status == UV_EEXIST ? 0 : status;
}

int psc_dir_make(const char *path, int mode, struct psc_error *err)
{
    char part[PATH_MAX_BYTES];
    size_t len = strlen(path);
    if (len >= sizeof(part)) {
        return psc_error_set(err, PSC_LIMIT, "path is too long: %s", path);
    }
    for (size_t i = 1; i <= len; i++) {
        if (path[i] != '/' && path[i] != '\0') {
            continue;
        }
        memcpy(part, path, i);
        part[i] = '\0';
        int status = make_one(part, mode);
        /* A parent that cannot be made may exist all the same (read-only
         * file systems answer so); the last one decides. */
        if (status < 0 && i == len) {
            return explain(err, "create directory", path, status);
        }
    }
    return PSC_OK;
}

int psc_path_join(char *out, size_t cap, const char *dir, const char *name)
{
    int n = snprintf(out, cap, "%s/%s", dir, name);
    return n >= 0 && (size_t)n < cap ? PSC_OK : PSC_LIMIT;
}
