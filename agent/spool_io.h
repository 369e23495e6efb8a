/* The file calls of the spool behind a table, so that tests can make the n-th
 * of them fail, and the ordinary table over libuv's synchronous calls. */
#ifndef PSC_AGENT_SPOOL_IO_H
#define PSC_AGENT_SPOOL_IO_H

#include <stdint.h>
#include <uv.h>

#include "common/buf.h"

/* Each returns a negative UV_… code on failure. */
struct spool_fs {
    /* A file number; @flags are UV_FS_O_…. */
    int (*open)(void *user, const char *path, int flags);
    /* Bytes read at @offset; 0 at the end. */
    int64_t (*read)(void *user, int fd, void *out, size_t len, int64_t offset);
    /* Bytes written at @offset, perhaps fewer than given. */
    int64_t (*write)(void *user, int fd, const uv_buf_t *bufs, unsigned n_bufs,
                     int64_t offset);
    int (*sync)(void *user, int fd);
    /* Make the names in a directory durable (where that exists). */
    int (*sync_dir)(void *user, const char *path);
    int (*truncate)(void *user, int fd, int64_t len);
    int (*close)(void *user, int fd);
    int (*unlink)(void *user, const char *path);
    /* Replace a small file as one step. */
    int (*save)(void *user, const char *path, struct psc_bytes data);
};

extern const struct spool_fs spool_fs_uv;

#endif
