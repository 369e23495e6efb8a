/* The files and the directory that make a cluster ours: poolscope.conf, who
 * may connect.
 *
 * They are written anew before each start. The cluster belongs to the
 * server's user, who must not trick root into writing elsewhere: files are
 * made under a new name that must not exist, and renamed. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/file.h"
#include "sql/cluster.h"
#include "sql/cluster_tune.h"
#include "sql/embedded.h"
#include "sql/process.h"

enum {
    CONFIG_MAX_BYTES = 256 * 1024,
    LOG_TAIL_BYTES = 8192,
    PROBE_TIMEOUT_S = 30
};

static int write_all(int fd, const struct psc_buf *text)
{
    size_t done = 0;
    while (done < text->len) {
        ssize_t n = write(fd, text->data + done, text->len - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return PSC_IO;
        }
        done += (size_t)n;
    }
    return PSC_OK;
}

static int write_owned(const struct cluster *c, const char *name,
                       const struct psc_buf *text, struct psc_error *err)
{
    char path[PATH_MAX];
    char fresh[PATH_MAX];
    int n = snprintf(fresh, sizeof(fresh), "%s/%s.new", c->dir, name);
    if (n < 0 || (size_t)n >= sizeof(fresh) ||
        psc_path_join(path, sizeof(path), c->dir, name) != PSC_OK) {
        return psc_error_set(err, PSC_LIMIT, "%s: path too long", c->dir);
    }
    if (psc_buf_error(text) != PSC_OK) {
        return psc_error_set(err, psc_buf_error(text), "%s", path);
    }
    (void)unlink(fresh);
    int fd =
        open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        return psc_error_set(err, PSC_IO, "make %s: %s", fresh,
                             strerror(errno));
    }
    bool fine =
        write_all(fd, text) == PSC_OK &&
        (geteuid() != 0 || fchown(fd, c->owner.uid, c->owner.gid) == 0) &&
        (c->no_sync || fsync(fd) == 0);
    fine = close(fd) == 0 && fine;
    if (!fine || rename(fresh, path) != 0) {
        int saved = errno;
        (void)unlink(fresh);
        return psc_error_set(err, PSC_IO, "write %s: %s", path,
                             strerror(saved));
    }
    return PSC_OK;
}

/* Whether the server can compress by LZ4, which its makers may leave out: then
 * it would not start with it. */
static bool has_lz4(const struct cluster *c)
{
    char program[PATH_MAX];
    int exit_code = -1;
    if (psc_path_join(program, sizeof(program), c->bin_dir, "postgres") !=
        PSC_OK) {
        return false;
    }
    const char *argv[] = {program,
                          "-C",
                          "wal_compression",
                          "-D",
                          c->dir,
                          "-c",
                          "wal_compression=lz4",
                          "-c",
                          "default_toast_compression=lz4",
                          NULL};
    struct process p = {.argv = argv,
                        .as = &c->owner,
                        .dir = c->dir,
                        .timeout_s = PROBE_TIMEOUT_S};
    return process_run(&p, &exit_code, NULL) == PSC_OK && exit_code == 0;
}

/* What depends on the machine and on the server's build. sql/cluster_tune.c
 * says why so much. */
static void write_sizes(const struct cluster *c, struct psc_buf *b)
{
    struct cluster_tuning t =
        cluster_tune(cluster_memory_bytes(), cluster_disk_bytes(c->dir));
    /* Rare checkpoints, as pages are logged whole after each; a server that
     * was killed reads the WAL of a quarter of an hour again. */
    psc_buf_printf(b,
                   "shared_buffers = %uMB\n"
                   "max_wal_size = %uMB\n"
                   "min_wal_size = %uMB\n"
                   "checkpoint_timeout = 15min\n",
                   t.shared_buffers_mb, t.max_wal_mb, t.min_wal_mb);
    /* LZ4 costs far less time than the other method for little more space. */
    const char *method = has_lz4(c) ? "lz4" : "pglz";
    psc_buf_printf(b,
                   "wal_compression = %s\n"
                   "default_toast_compression = %s\n",
                   method, method);
}

static void write_settings(const struct cluster *c, struct psc_buf *b)
{
    psc_buf_printf(b, "# Written by poolscope at every start. Settings of "
                      "your own: ALTER SYSTEM.\n"
                      "listen_addresses = ''\n"
                      "port = " CLUSTER_PORT "\n"
                      "unix_socket_permissions = 0700\n"
                      "unix_socket_directories = '");
    for (const char *p = c->socket_dir; *p != '\0'; p++) {
        psc_buf_printf(b, *p == '\'' ? "''" : "%c", *p);
    }
    psc_buf_printf(b, "'\n"
                      "max_connections = 60\n"
                      "maintenance_work_mem = 32MB\n"
                      "jit = off\n"
                      "max_parallel_workers_per_gather = 0\n"
                      "autovacuum_naptime = 30s\n"
                      "log_line_prefix = '%%m [%%p] %%q%%u '\n"
                      "log_checkpoints = off\n"
                      "log_autovacuum_min_duration = -1\n");
    write_sizes(c, b);
    if (c->no_sync) {
        psc_buf_printf(b, "fsync = off\nfull_page_writes = off\n"
                          "synchronous_commit = off\n");
    }
}

/* Who may become which role: root, the server's user and this one. */
static void write_map(const struct cluster *c, struct psc_buf *b)
{
    static const char *const roles[] = {EMBEDDED_SUPERUSER, "poolscope_owner",
                                        "poolscope_writer", "poolscope_reader"};
    struct account self = {.name = "root"};
    (void)!account_self(&self, NULL);
    const char *users[] = {"root", "postgres", c->owner.name, self.name};
    psc_buf_printf(b, "# Written by poolscope at every start.\n");
    for (size_t u = 0; u < sizeof(users) / sizeof(users[0]); u++) {
        for (size_t r = 0; r < sizeof(roles) / sizeof(roles[0]); r++) {
            psc_buf_printf(b, "poolscope \"%s\" %s\n", users[u], roles[r]);
        }
    }
}

/* postgresql.conf includes ours, once. */
static int include_settings(const struct cluster *c, struct psc_error *err)
{
    static const char line[] = "\ninclude 'poolscope.conf'\n";
    char path[PATH_MAX];
    struct psc_buf text;
    psc_buf_init(&text, CONFIG_MAX_BYTES);
    int rc = psc_path_join(path, sizeof(path), c->dir, "postgresql.conf");
    if (rc == PSC_OK) {
        rc = psc_file_read(path, &text, err);
    }
    if (rc == PSC_OK &&
        memmem(text.data, text.len, line, sizeof(line) - 1) == NULL) {
        psc_buf_printf(&text, "%s", line);
        rc = write_owned(c, "postgresql.conf", &text, err);
    }
    psc_buf_fini(&text);
    return rc;
}

int cluster_configure(const struct cluster *c, struct psc_error *err)
{
    struct psc_buf text;
    psc_buf_init(&text, CONFIG_MAX_BYTES);
    write_settings(c, &text);
    int rc = write_owned(c, "poolscope.conf", &text, err);
    if (rc == PSC_OK) {
        psc_buf_reset(&text);
        write_map(c, &text);
        rc = write_owned(c, "pg_ident.conf", &text, err);
    }
    if (rc == PSC_OK) {
        psc_buf_reset(&text);
        psc_buf_printf(&text, "# Written by poolscope at every start.\n"
                              "local all all peer map=poolscope\n");
        rc = write_owned(c, "pg_hba.conf", &text, err);
    }
    psc_buf_fini(&text);
    return rc == PSC_OK ? include_settings(c, err) : rc;
}

/* The last line of @text that names a failure, else the last one at all. */
static const char *telling_line(char *text)
{
    const char *last = "";
    const char *telling = NULL;
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        last = line;
        if (strstr(line, "FATAL:") != NULL || strstr(line, "PANIC:") != NULL ||
            strstr(line, "ERROR:") != NULL) {
            telling = line;
        }
    }
    return telling != NULL ? telling : last;
}

void cluster_log_tail(const struct cluster *c, char *out, size_t cap)
{
    char text[LOG_TAIL_BYTES + 1];
    out[0] = '\0';
    int fd = open(c->log_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return;
    }
    off_t size = lseek(fd, 0, SEEK_END);
    off_t from = size > LOG_TAIL_BYTES ? size - LOG_TAIL_BYTES : 0;
    ssize_t n = pread(fd, text, LOG_TAIL_BYTES, from);
    (void)close(fd);
    if (n > 0) {
        text[n] = '\0';
        (void)snprintf(out, cap, "%s", telling_line(text));
    }
}
