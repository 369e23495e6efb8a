/* Temporary directories and other things to undo at exit.
 *
 * Everything hangs on one list that an atexit() handler walks backwards:
 * servers stop before their directories go. A child of fork() that exits does
 * not undo its parent's things. */
#include "tests/lib/temp.h"

#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct undo {
    struct undo *before; /* made earlier, undone later */
    void (*fn)(void *arg);
    void *arg;
};

static struct undo *undo_list;
static pid_t undo_owner;

static void fail(const char *what, const char *path)
{
    fprintf(stderr, "temp: %s ", what);
    perror(path);
    exit(1);
}

static void undo_all(void)
{
    if (getpid() != undo_owner) {
        return;
    }
    while (undo_list != NULL) {
        struct undo *u = undo_list;
        undo_list = u->before;
        u->fn(u->arg);
        free(u);
    }
}

void temp_at_exit(void (*fn)(void *arg), void *arg)
{
    if (undo_owner == 0) {
        undo_owner = getpid();
        if (atexit(undo_all) != 0) {
            fail("atexit", "");
        }
    }
    struct undo *u = malloc(sizeof(*u));
    if (u == NULL) {
        fail("malloc", "");
    }
    u->before = undo_list;
    u->fn = fn;
    u->arg = arg;
    undo_list = u;
}

static int remove_entry(const char *path, const struct stat *st, int type,
                        struct FTW *where)
{
    (void)st;
    (void)type;
    (void)where;
    (void)remove(path);
    return 0;
}

static void remove_tree(void *arg)
{
    char *path = arg;
    (void)nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(path);
}

const char *temp_dir(void)
{
    const char *base = getenv("TMPDIR");
    char template[PATH_MAX];
    int n = snprintf(template, sizeof(template), "%s/poolscope-test-XXXXXX",
                     base != NULL && base[0] == '/' ? base : "/tmp");
    if (n < 0 || (size_t)n >= sizeof(template) || mkdtemp(template) == NULL) {
        fail("cannot make", template);
    }
    if (chmod(template, 0755) != 0) {
        fail("chmod", template);
    }
    char *path = strdup(template);
    if (path == NULL) {
        fail("strdup", template);
    }
    temp_at_exit(remove_tree, path);
    return path;
}

const char *temp_path(const char *dir, const char *name)
{
    char *path = NULL;
    if (asprintf(&path, "%s/%s", dir, name) < 0) {
        fail("asprintf", name);
    }
    temp_at_exit(free, path);
    return path;
}

void temp_write(const char *path, const void *data, unsigned long len)
{
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(data, 1, len, f) != len || fclose(f) != 0) {
        fail("cannot write", path);
    }
}
