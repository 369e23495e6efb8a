/* The spool's file calls through libuv, without a loop or the thread pool. */
#include "agent/spool_io.h"

#include "common/file.h"

static int on_open(void *user, const char *path, int flags)
{
    (void)user;
    uv_fs_t req;
    int fd = uv_fs_open(NULL, &req, path, flags, 0600, NULL);
    uv_fs_req_cleanup(&req);
    return fd;
}

static int64_t on_read(void *user, int fd, void *out, size_t len,
                       int64_t offset)
{
    (void)user;
    uv_fs_t req;
    uv_buf_t buf = uv_buf_init(out, (unsigned)len);
    (void)uv_fs_read(NULL, &req, fd, &buf, 1, offset, NULL);
    int64_t n = req.result;
    uv_fs_req_cleanup(&req);
    return n;
}

static int64_t on_write(void *user, int fd, const uv_buf_t *bufs,
                        unsigned n_bufs, int64_t offset)
{
    (void)user;
    uv_fs_t req;
    (void)uv_fs_write(NULL, &req, fd, bufs, n_bufs, offset, NULL);
    int64_t n = req.result;
    uv_fs_req_cleanup(&req);
    return n;
}

static int on_sync(void *user, int fd)
{
    (void)user;
    uv_fs_t req;
    int rc = uv_fs_fdatasync(NULL, &req, fd, NULL);
    uv_fs_req_cleanup(&req);
    return rc;
}

static int on_sync_dir(void *user, const char *path)
{
#ifdef _WIN32
    /* Directories cannot be opened so, and NTFS journals names by itself. */
    (void)user;
    (void)path;
    return 0;
#else
    int fd = on_open(user, path, UV_FS_O_RDONLY);
    if (fd < 0) {
        return fd;
    }
    uv_fs_t req;
    int rc = uv_fs_fsync(NULL, &req, fd, NULL);
    uv_fs_req_cleanup(&req);
    (void)uv_fs_close(NULL, &req, fd, NULL);
    uv_fs_req_cleanup(&req);
    return rc;
#endif
}

static int on_truncate(void *user, int fd, int64_t len)
{
    (void)user;
    uv_fs_t req;
    int rc = uv_fs_ftruncate(NULL, &req, fd, len, NULL);
    uv_fs_req_cleanup(&req);
    return rc;
}

static int on_close(void *user, int fd)
{
    (void)user;
    uv_fs_t req;
    int rc = uv_fs_close(NULL, &req, fd, NULL);
    uv_fs_req_cleanup(&req);
    return rc;
}

static int on_unlink(void *user, const char *path)
{
    (void)user;
    uv_fs_t req;
    int rc = uv_fs_unlink(NULL, &req, path, NULL);
    uv_fs_req_cleanup(&req);
    return rc;
}

static int on_save(void *user, const char *path, struct psc_bytes data)
{
    (void)user;
    struct psc_error err;
    return psc_file_write(path, data, 0600, &err) == PSC_OK ? 0 : UV_EIO;
}

const struct spool_fs spool_fs_uv = {
    .open = on_open,
    .read = on_read,
    .write = on_write,
    .sync = on_sync,
    .sync_dir = on_sync_dir,
    .truncate = on_truncate,
    .close = on_close,
    .unlink = on_unlink,
    .save = on_save,
};
