/* Source slab_aliases: which other caches hide behind a slab tag. SLUB merges
 * caches of like objects; slabinfo then shows one name, and the links in
 * /sys/kernel/slab all of them. An inventory: reads whole folders and
 * allocates. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/modules_linux.h"
#include "agent/procfile_linux.h"
#include "agent/slabinfo_linux.h"
#include "agent/sources_linux.h"
#include "common/map.h"

enum {
    LINKS_MAX = 4096,
    NAMES_MAX_BYTES = 256 * 1024,
    ALIASES_OF_ONE_MAX_BYTES = 4096,
};

struct slab_aliases {
    struct proc_file slabinfo; /* fd -1: not readable */
    int dir_fd;                /* of /sys/kernel/slab */
    /* During a collection: */
    struct psc_map links;  /* "TARGET\0name" of each link */
    struct psc_map in_use; /* names that slabinfo shows */
};

static int on_link(void *ctx, const char *name, unsigned char d_type)
{
    struct slab_aliases *s = ctx;
    (void)d_type;
    char key[512];
    ssize_t n = readlinkat(s->dir_fd, name, key, sizeof(key) / 2);
    if (n <= 0 || n >= (ssize_t)sizeof(key) / 2) {
        return 0;
    }
    key[n] = '\0';
    struct text_out o = {key, (size_t)n + 1, sizeof(key)};
    size_t start = o.len;
    text_puts(&o, name);
    for (size_t i = start; i < o.len; i++) {
        if (key[i] == '!') {
            key[i] = '/'; /* sysfs has no '/' in names */
        }
    }
    uint32_t index;
    (void)!psc_map_add(&s->links, key, o.len, &index);
    return 0;
}

static int on_row(void *ctx, struct text line)
{
    struct slab_aliases *s = ctx;
    struct slab_row row;
    uint32_t index;
    if (slabinfo_parse(line, &row)) {
        (void)!psc_map_add(&s->in_use, row.name.at, text_left(&row.name),
                           &index);
    }
    return 0;
}

/* Split "TARGET\0name". */
static struct text name_of(struct psc_bytes key, struct text *target)
{
    const char *text = (const char *)key.data;
    size_t len = strlen(text);
    *target = text_of(text, len);
    return text_of(text + len + 1, key.len - len - 1);
}

static bool same(const struct text *a, const struct text *b)
{
    return text_left(a) == text_left(b) &&
           memcmp(a->at, b->at, text_left(a)) == 0;
}

/* All names that link to @target, but @name. */
static void gather(const struct slab_aliases *s, const struct text *target,
                   const struct text *name, struct psc_buf *list)
{
    for (uint32_t i = 0; i < s->links.count; i++) {
        struct text other_target;
        struct text other = name_of(psc_map_key(&s->links, i), &other_target);
        if (!same(target, &other_target) || same(name, &other)) {
            continue;
        }
        char text[256];
        struct text_out o = {text, 0, sizeof(text)};
        text_put_escaped(&o, other);
        module_tag_put(list, text_of(text, o.len));
    }
}

/* One record for each link whose name slabinfo shows. */
static void put_aliases(struct slab_aliases *s, struct sample *out)
{
    for (uint32_t i = 0; i < s->links.count; i++) {
        struct text target;
        struct text name = name_of(psc_map_key(&s->links, i), &target);
        if (psc_map_find(&s->in_use, name.at, text_left(&name)) ==
            PSC_MAP_NONE) {
            continue;
        }
        struct psc_buf list;
        psc_buf_init(&list, ALIASES_OF_ONE_MAX_BYTES);
        gather(s, &target, &name, &list);
        char tag[SAMPLE_TAG_MAX_BYTES];
        struct text_out o = {tag, 0, sizeof(tag)};
        slab_name_fold(name, &o);
        struct alias_record r = {
            .pool = POOL_SLAB,
            .tag = {(const uint8_t *)tag, o.len},
            .names = psc_buf_bytes(&list),
        };
        if (list.len > 0) {
            sample_alias(out, &r);
        }
        psc_buf_fini(&list);
    }
}

static int aliases_collect(void *state, struct sample *out,
                           struct psc_error *err)
{
    struct slab_aliases *s = state;
    psc_map_init(&s->links, LINKS_MAX, NAMES_MAX_BYTES);
    psc_map_init(&s->in_use, LINKS_MAX, NAMES_MAX_BYTES);
    int rc = proc_file_lines(&s->slabinfo, on_row, s, err);
    if (rc == 0 && dir_names(s->dir_fd, on_link, s) < 0) {
        rc = proc_errno(err, "/sys/kernel/slab", "permission to list it");
    }
    if (rc == 0) {
        put_aliases(s, out);
    }
    if (rc == 0 && psc_buf_error(&out->aliases) != 0) {
        rc = psc_error_set(err, psc_buf_error(&out->aliases),
                           "the list of aliases does not fit");
    }
    psc_map_fini(&s->links);
    psc_map_fini(&s->in_use);
    return rc;
}

static void aliases_close(void *state)
{
    struct slab_aliases *s = state;
    proc_file_close(&s->slabinfo);
    if (s->dir_fd >= 0) {
        (void)close(s->dir_fd);
    }
    free(s);
}

static int aliases_open(const struct source_env *env, void **state,
                        struct psc_error *err)
{
    struct slab_aliases *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    s->dir_fd = -1;
    int rc = proc_file_open(&s->slabinfo, env->root, "/proc/slabinfo",
                            "root or CAP_DAC_READ_SEARCH", err);
    if (rc == 0) {
        char path[PROC_PATH_MAX_BYTES];
        (void)snprintf(path, sizeof(path), "%s/sys/kernel/slab", env->root);
        s->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (s->dir_fd < 0 && errno == ENOENT) {
            rc = psc_error_set(err, PSC_MISSING,
                               "%s does not exist: only the SLUB allocator "
                               "merges caches and tells of it",
                               path);
        } else if (s->dir_fd < 0) {
            rc = proc_errno(err, path, "root or CAP_DAC_READ_SEARCH");
        }
    }
    if (rc != 0) {
        aliases_close(s);
        return rc;
    }
    *state = s;
    return 0;
}

const struct source source_slab_aliases = {
    .name = "slab_aliases",
    .help = "merged slab caches from /sys/kernel/slab",
    .group = SOURCE_DRIVERS,
    .open = aliases_open,
    .collect = aliases_collect,
    .close = aliases_close,
};
