/* Where a cluster lies, whose it is, and how it is made.
 *
 * initdb works in <dir>.new, which becomes <dir> by a rename: a kill half-way
 * leaves nothing that looks like a cluster. */
#include "sql/cluster.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/crc32c.h"
#include "common/file.h"
#include "sql/embedded.h"
#include "sql/process.h"

enum {
    OLDEST_MAJOR = 15,
    INITDB_TIMEOUT_S = 120,
    OUTPUT_MAX_BYTES = 64 * 1024,
    VERSION_MAX_BYTES = 64,
};

#define PROGRAMS_DIR "/usr/lib/postgresql"

static int find_owner(struct cluster *c, struct psc_error *err)
{
    struct stat st;
    if (stat(c->dir, &st) != 0) {
        if (errno != ENOENT) {
            return psc_error_set(err, PSC_PERMISSION, "cannot look at %s: %s",
                                 c->dir, strerror(errno));
        }
        return account_for_server(&c->owner, err);
    }
    c->exists = true;
    if (st.st_uid == 0) {
        return psc_error_set(err, PSC_PERMISSION,
                             "%s belongs to root, as whom PostgreSQL does not "
                             "run: give it to another user (chown -R)",
                             c->dir);
    }
    if (geteuid() != 0 && geteuid() != st.st_uid) {
        struct account other = {.name = "another user"};
        (void)!account_by_uid(st.st_uid, &other, NULL);
        return psc_error_set(err, PSC_PERMISSION,
                             "%s belongs to %s: run this as that user or as "
                             "root, or choose another --data",
                             c->dir, other.name);
    }
    return account_by_uid(st.st_uid, &c->owner, err);
}

int cluster_find(struct cluster *c, const char *data_dir, struct psc_error *err)
{
    memset(c, 0, sizeof(*c));
    if (realpath(data_dir, c->data_dir) == NULL) {
        int code = errno == ENOENT ? PSC_MISSING : PSC_PERMISSION;
        return psc_error_set(err, code, "%s: %s", data_dir, strerror(errno));
    }
    if (psc_path_join(c->dir, sizeof(c->dir), c->data_dir, "postgres") != 0 ||
        psc_path_join(c->log_path, sizeof(c->log_path), c->dir, "server.log") !=
            0) {
        return psc_error_set(err, PSC_LIMIT, "%s: path too long", data_dir);
    }
    return find_owner(c, err);
}

/* Major version of the cluster, 0 if there is none or it cannot be read. */
static int cluster_major(const struct cluster *c)
{
    char path[PATH_MAX];
    struct psc_buf text;
    int major = 0;
    psc_buf_init(&text, VERSION_MAX_BYTES);
    if (c->exists &&
        psc_path_join(path, sizeof(path), c->dir, "PG_VERSION") == PSC_OK &&
        psc_file_read(path, &text, NULL) == PSC_OK) {
        psc_buf_u8(&text, '\0');
        if (psc_buf_error(&text) == PSC_OK) {
            major = (int)strtol((const char *)text.data, NULL, 10);
        }
    }
    psc_buf_fini(&text);
    return major;
}

static bool has_programs(const char *bin_dir)
{
    char path[PATH_MAX];
    return psc_path_join(path, sizeof(path), bin_dir, "initdb") == PSC_OK &&
           access(path, X_OK) == 0;
}

/* Newest major version below PROGRAMS_DIR, 0: none. */
static int newest_major(void)
{
    int newest = 0;
    DIR *dir = opendir(PROGRAMS_DIR);
    if (dir == NULL) {
        return 0;
    }
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        char bin_dir[PATH_MAX];
        int major = (int)strtol(entry->d_name, NULL, 10);
        int n = snprintf(bin_dir, sizeof(bin_dir), PROGRAMS_DIR "/%s/bin",
                         entry->d_name);
        if (major > newest && n > 0 && (size_t)n < sizeof(bin_dir) &&
            has_programs(bin_dir)) {
            newest = major;
        }
    }
    (void)closedir(dir);
    return newest;
}

/* Ask pg_config, for servers that are not Debian's. */
static bool ask_pg_config(struct cluster *c)
{
    const char *argv[] = {"/usr/bin/env", "pg_config", "--bindir", NULL};
    struct psc_buf output;
    int exit_code = 0;
    psc_buf_init(&output, sizeof(c->bin_dir));
    struct process p = {.argv = argv, .timeout_s = 10, .output = &output};
    bool found = false;
    if (process_run(&p, &exit_code, NULL) == PSC_OK && exit_code == 0 &&
        output.len > 1 && psc_buf_error(&output) == PSC_OK) {
        output.data[output.len - 1] = '\0'; /* the newline */
        (void)snprintf(c->bin_dir, sizeof(c->bin_dir), "%s",
                       (const char *)output.data);
        found = has_programs(c->bin_dir);
    }
    psc_buf_fini(&output);
    return found;
}

int cluster_find_programs(struct cluster *c, struct psc_error *err)
{
    int wanted = cluster_major(c);
    int major = wanted != 0 ? wanted : newest_major();
    (void)snprintf(c->bin_dir, sizeof(c->bin_dir), PROGRAMS_DIR "/%d/bin",
                   major);
    if (major >= OLDEST_MAJOR && has_programs(c->bin_dir)) {
        return PSC_OK;
    }
    if (ask_pg_config(c)) {
        return PSC_OK; /* of another version it says so when it starts */
    }
    if (wanted != 0) {
        return psc_error_set(err, PSC_MISSING,
                             "%s was made by PostgreSQL %d, which is not "
                             "installed (package postgresql-%d)",
                             c->dir, wanted, wanted);
    }
    return psc_error_set(err, PSC_MISSING,
                         "no PostgreSQL %d or newer in " PROGRAMS_DIR
                         " nor by pg_config: install postgresql-15",
                         OLDEST_MAJOR);
}

/* Remove what an interrupted initdb left. Its contents as the server's user,
 * who could have put links there; the empty directory itself as us. */
static int remove_leftover(const struct cluster *c, const char *dir,
                           struct psc_error *err)
{
    struct stat st;
    if (lstat(dir, &st) != 0) {
        return PSC_OK;
    }
    const char *argv[] = {"/bin/rm", "-rf", "--", dir, NULL};
    int exit_code = 0;
    struct process p = {
        .argv = argv, .as = &c->owner, .timeout_s = INITDB_TIMEOUT_S};
    int rc = process_run(&p, &exit_code, err);
    if (rc == PSC_OK && rmdir(dir) != 0 && errno != ENOENT) {
        rc = psc_error_set(err, PSC_IO, "remove %s: %s", dir, strerror(errno));
    }
    return rc;
}

static int run_initdb(const struct cluster *c, const char *dir,
                      struct psc_error *err)
{
    char program[PATH_MAX];
    if (psc_path_join(program, sizeof(program), c->bin_dir, "initdb") != 0) {
        return psc_error_set(err, PSC_LIMIT, "path too long");
    }
    const char *argv[] = {program,
                          "-D",
                          dir,
                          "-U",
                          EMBEDDED_SUPERUSER,
                          "--encoding",
                          "UTF8",
                          "--auth",
                          "peer",
                          "--locale=C.UTF-8",
                          "--data-checksums",
                          c->no_sync ? "--no-sync" : NULL,
                          NULL};
    struct psc_buf output;
    int exit_code = 0;
    psc_buf_init(&output, OUTPUT_MAX_BYTES);
    struct process p = {.argv = argv,
                        .as = &c->owner,
                        .dir = dir,
                        .timeout_s = INITDB_TIMEOUT_S,
                        .output = &output};
    int rc = process_run(&p, &exit_code, err);
    if (rc == PSC_PERMISSION) {
        rc = psc_error_set(err, PSC_PERMISSION,
                           "user %s, who runs PostgreSQL, cannot enter %s: "
                           "choose a --data that all may enter, such as "
                           "/var/lib/poolscope",
                           c->owner.name, c->data_dir);
    } else if (rc == PSC_OK && exit_code != 0) {
        psc_buf_u8(&output, '\0');
        size_t at = output.len > 160 ? output.len - 160 : 0;
        rc = psc_error_set(err, PSC_DATABASE, "initdb failed: …%s",
                           output.data != NULL ? (const char *)output.data + at
                                               : "");
    }
    psc_buf_fini(&output);
    return rc;
}

int cluster_create(struct cluster *c, struct psc_error *err)
{
    char fresh[PATH_MAX];
    if (psc_path_join(fresh, sizeof(fresh), c->data_dir, "postgres.new") !=
        PSC_OK) {
        return psc_error_set(err, PSC_LIMIT, "path too long");
    }
    int rc = remove_leftover(c, fresh, err);
    if (rc != PSC_OK) {
        return rc;
    }
    if (mkdir(fresh, 0700) != 0) {
        return psc_error_set(err, PSC_PERMISSION, "make %s: %s", fresh,
                             strerror(errno));
    }
    if (geteuid() == 0 && chown(fresh, c->owner.uid, c->owner.gid) != 0) {
        return psc_error_set(err, PSC_PERMISSION, "chown %s: %s", fresh,
                             strerror(errno));
    }
    rc = run_initdb(c, fresh, err);
    if (rc != PSC_OK) {
        return rc;
    }
    if (rename(fresh, c->dir) != 0) {
        return psc_error_set(err, PSC_IO, "rename %s: %s", fresh,
                             strerror(errno));
    }
    c->exists = true;
    return PSC_OK;
}
