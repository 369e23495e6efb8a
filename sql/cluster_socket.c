/* Where a cluster's socket lies.
 *
 * Whoever starts the server chooses; whoever connects reads postmaster.pid.
 * So the place must be one that all of them see: the service's runtime
 * directory comes first, for root and the service's user alike, because a
 * service may have a private /tmp. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/crc32c.h"
#include "common/file.h"
#include "sql/cluster.h"
#include "sql/embedded.h"

#define SOCKET_NAME ".s.PGSQL." CLUSTER_PORT
/* What systemd makes for the collector's unit (RuntimeDirectory=). */
#define SERVICE_DIR "/run/poolscope"

static bool fits(const char *dir)
{
    return strlen(dir) + strlen("/" SOCKET_NAME) <= EMBEDDED_SOCKET_PATH_MAX;
}

/* Take the directory below @base (of @base_len bytes) if it may be made there
 * and is not too long. */
static bool take_base(struct cluster *c, const char *base, size_t base_len)
{
    uint32_t hash = psc_crc32c(0, c->dir, strlen(c->dir));
    if (base_len == 0 || base_len >= PATH_MAX || base[0] != '/') {
        return false;
    }
    int n =
        snprintf(c->socket_dir, sizeof(c->socket_dir), "%.*s/poolscope-%08x",
                 (int)base_len, base, (unsigned)hash);
    if (n < 0 || (size_t)n >= sizeof(c->socket_dir) || !fits(c->socket_dir)) {
        return false;
    }
    char *end = strrchr(c->socket_dir, '/');
    *end = '\0';
    bool writable = access(c->socket_dir, W_OK) == 0;
    *end = '/';
    return writable;
}

/* The service's runtime directory, if it is there and the server's user's. */
static bool take_service_dir(struct cluster *c)
{
    struct stat st;
    return lstat(SERVICE_DIR, &st) == 0 && S_ISDIR(st.st_mode) &&
           st.st_uid == c->owner.uid &&
           take_base(c, SERVICE_DIR, strlen(SERVICE_DIR));
}

static void choose(struct cluster *c)
{
    const char *service = getenv("RUNTIME_DIRECTORY"); /* several: by colons */
    const char *session = getenv("XDG_RUNTIME_DIR");
    if (service != NULL && take_base(c, service, strcspn(service, ":"))) {
        return;
    }
    if (take_service_dir(c)) {
        return;
    }
    const char *base = geteuid() == 0 ? "/run" : session;
    if (base != NULL && take_base(c, base, strlen(base))) {
        return;
    }
    uint32_t hash = psc_crc32c(0, c->dir, strlen(c->dir));
    (void)snprintf(c->socket_dir, sizeof(c->socket_dir),
                   "/tmp/poolscope-%ld-%08x", (long)c->owner.uid,
                   (unsigned)hash);
}

/* A killed server leaves its socket and that one's lock file, which name a pid
 * that may be another process by now. Nothing serves them any more. */
static void remove_stale(const struct cluster *c)
{
    static const char *const names[] = {SOCKET_NAME, SOCKET_NAME ".lock"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[PATH_MAX];
        if (psc_path_join(path, sizeof(path), c->socket_dir, names[i]) ==
            PSC_OK) {
            (void)unlink(path);
        }
    }
}

/* Make the directory and give it to the server's user, in whose own directory
 * it may lie: no link is followed. */
static int make_dir(const struct cluster *c, struct psc_error *err)
{
    if (mkdir(c->socket_dir, 0700) != 0) {
        return errno == EEXIST ? PSC_OK
                               : psc_error_set(err, PSC_IO, "make %s: %s",
                                               c->socket_dir, strerror(errno));
    }
    if (geteuid() != 0) {
        return PSC_OK;
    }
    int fd =
        open(c->socket_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    bool given = fd >= 0 && fchown(fd, c->owner.uid, c->owner.gid) == 0;
    int saved = errno;
    if (fd >= 0) {
        (void)close(fd);
    }
    return given ? PSC_OK
                 : psc_error_set(err, PSC_PERMISSION, "chown %s: %s",
                                 c->socket_dir, strerror(saved));
}

int cluster_socket_open(struct cluster *c, struct psc_error *err)
{
    choose(c);
    int rc = make_dir(c, err);
    if (rc != PSC_OK) {
        return rc;
    }
    struct stat st;
    if (lstat(c->socket_dir, &st) != 0 || !S_ISDIR(st.st_mode) ||
        st.st_uid != c->owner.uid || (st.st_mode & 077) != 0) {
        return psc_error_set(err, PSC_PERMISSION,
                             "%s is not a directory of mode 0700 of user %s: "
                             "remove it",
                             c->socket_dir, c->owner.name);
    }
    remove_stale(c);
    return PSC_OK;
}

void cluster_socket_close(struct cluster *c)
{
    if (c->socket_dir[0] == '\0') {
        choose(c);
    }
    remove_stale(c);
    (void)rmdir(c->socket_dir);
}

bool cluster_socket_is_there(const char *socket_dir)
{
    char path[PATH_MAX];
    struct stat st;
    return psc_path_join(path, sizeof(path), socket_dir, SOCKET_NAME) !=
               PSC_OK ||
           stat(path, &st) == 0 || errno != ENOENT;
}
