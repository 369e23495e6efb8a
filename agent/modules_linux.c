/* Source modules: the loaded kernel modules as drivers, with version and
 * srcversion from /sys/module, and the vmalloc and allocinfo tags that name
 * them. When one was loaded the kernel does not tell. What is built into the
 * kernel is no driver of its own. An inventory: reads files whole and
 * allocates. */
#include "agent/modules_linux.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/allocinfo_linux.h"
#include "agent/procfile_linux.h"
#include "agent/sources_linux.h"
#include "agent/vmallocinfo_linux.h"
#include "common/map.h"

enum {
    MODULES_MAX = 4096,
    TAGS_MAX = 8192,              /* distinct tags that name a module */
    TAGS_MAX_BYTES = 1024 * 1024, /* of their texts */
    DRIVER_TAGS_MAX_BYTES = 2048, /* of one driver's list */
    VALUE_MAX_BYTES = 128,
};

bool modules_parse(struct text line, struct module_row *row)
{
    return text_word(&line, &row->name) && text_u64(&line, &row->bytes) &&
           text_left(&row->name) < 64 && *row->name.at != '.' &&
           memchr(row->name.at, '/', text_left(&row->name)) == NULL;
}

void module_tag_put(struct psc_buf *list, struct text tag)
{
    if (list->len > 0) {
        psc_buf_u8(list, ' ');
    }
    for (; tag.at < tag.end; tag.at++) {
        if (*tag.at == ' ') {
            psc_buf_append(list, "\\x20", 4);
        } else {
            psc_buf_u8(list, (uint8_t)*tag.at);
        }
    }
}

struct modules {
    char root[PROC_PATH_MAX_BYTES];
    uint64_t page_bytes;
    struct psc_map tags; /* "MODULE\0tag", during a collection */
    uint32_t n_modules;  /* of this collection */
    struct sample *out;  /* during a collection */
};

static void add_tag(struct modules *s, struct text module,
                    const struct text_out *tag)
{
    char key[64 + 1 + SAMPLE_TAG_MAX_BYTES];
    struct text_out o = {key, 0, 64};
    text_put(&o, module);
    o.cap = sizeof(key);
    key[o.len++] = '\0';
    text_put(&o, text_of(tag->data, tag->len));
    uint32_t index;
    /* What does not fit is one candidate less. */
    (void)!psc_map_add(&s->tags, key, o.len, &index);
}

static int on_area(void *ctx, struct text line)
{
    struct modules *s = ctx;
    struct vmalloc_area area;
    char text[SAMPLE_TAG_MAX_BYTES];
    struct text_out tag = {text, 0, sizeof(text)};
    if (vmallocinfo_parse(line, s->page_bytes, &area) &&
        text_left(&area.module) > 0) {
        vmallocinfo_tag(&area, &tag);
        add_tag(s, area.module, &tag);
    }
    return 0;
}

static int on_site(void *ctx, struct text line)
{
    struct modules *s = ctx;
    struct alloc_site site;
    char text[SAMPLE_TAG_MAX_BYTES];
    struct text_out tag = {text, 0, sizeof(text)};
    if (allocinfo_parse(line, &site) && text_left(&site.module) > 0 &&
        site.calls > 0) {
        allocinfo_tag(&site, &tag);
        add_tag(s, site.module, &tag);
    }
    return 0;
}

/* Without permission for a file there are no candidates from it. */
static void gather_tags(struct modules *s, const char *path,
                        text_line_fn on_line)
{
    struct proc_file f;
    if (proc_file_open(&f, s->root, path, "", NULL) == 0) {
        (void)!proc_file_lines(&f, on_line, s, NULL);
        proc_file_close(&f);
    }
}

static void tags_of(const struct modules *s, struct text module,
                    struct psc_buf *list)
{
    size_t len = text_left(&module);
    for (uint32_t i = 0; i < s->tags.count; i++) {
        struct psc_bytes key = psc_map_key(&s->tags, i);
        if (key.len > len + 1 && key.data[len] == '\0' &&
            memcmp(key.data, module.at, len) == 0) {
            size_t before = list->len;
            const char *tag = (const char *)key.data + len + 1;
            module_tag_put(list, text_of(tag, key.len - len - 1));
            if (psc_buf_error(list) != 0) {
                list->len = before;
                list->error = 0;
                return;
            }
        }
    }
}

static struct psc_bytes bytes_of(const char *text, size_t len)
{
    struct psc_bytes b = {(const uint8_t *)text, len};
    return b;
}

static int on_module(void *ctx, struct text line)
{
    struct modules *s = ctx;
    struct module_row row;
    if (!modules_parse(line, &row)) {
        return 0;
    }
    if (++s->n_modules > MODULES_MAX) {
        return PSC_LIMIT;
    }
    char path[PROC_PATH_MAX_BYTES];
    char version[VALUE_MAX_BYTES];
    char srcversion[VALUE_MAX_BYTES];
    int name_len = (int)text_left(&row.name);
    (void)snprintf(path, sizeof(path), "/sys/module/%.*s/version", name_len,
                   row.name.at);
    (void)proc_read_value(s->root, path, version, sizeof(version));
    (void)snprintf(path, sizeof(path), "/sys/module/%.*s/srcversion", name_len,
                   row.name.at);
    (void)proc_read_value(s->root, path, srcversion, sizeof(srcversion));
    struct psc_buf tags;
    psc_buf_init(&tags, DRIVER_TAGS_MAX_BYTES);
    tags_of(s, row.name, &tags);
    struct driver_record r = {
        .name = bytes_of(row.name.at, text_left(&row.name)),
        .version = bytes_of(version, strlen(version)),
        .srcversion = bytes_of(srcversion, strlen(srcversion)),
        .tags = psc_buf_bytes(&tags),
        .size_bytes = row.bytes,
        .loaded_matches_file = -1,
    };
    sample_driver(s->out, &r);
    psc_buf_fini(&tags);
    return 0;
}

static int modules_collect(void *state, struct sample *out,
                           struct psc_error *err)
{
    struct modules *s = state;
    struct proc_file f;
    int rc = proc_file_open(&f, s->root, "/proc/modules",
                            "permission to read it", err);
    if (rc != 0) {
        return rc;
    }
    s->out = out;
    s->n_modules = 0;
    psc_map_init(&s->tags, TAGS_MAX, TAGS_MAX_BYTES);
    gather_tags(s, "/proc/vmallocinfo", on_area);
    gather_tags(s, "/proc/allocinfo", on_site);
    rc = proc_file_lines(&f, on_module, s, err);
    if (rc == PSC_LIMIT) {
        rc = 0; /* MODULES_MAX of them are told */
    }
    if (rc == 0 && psc_buf_error(&out->drivers) != 0) {
        rc = psc_error_set(err, psc_buf_error(&out->drivers),
                           "the list of modules does not fit");
    }
    psc_map_fini(&s->tags);
    proc_file_close(&f);
    return rc;
}

static void modules_close(void *state)
{
    free(state);
}

static int modules_open(const struct source_env *env, void **state,
                        struct psc_error *err)
{
    struct proc_file f;
    int rc = proc_file_open(&f, env->root, "/proc/modules",
                            "permission to read it", err);
    if (rc == PSC_MISSING) {
        rc = psc_error_set(err, rc,
                           "%s does not exist: this kernel is built without "
                           "loadable modules",
                           f.path);
    }
    if (rc != 0) {
        return rc;
    }
    proc_file_close(&f);
    struct modules *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    (void)snprintf(s->root, sizeof(s->root), "%s", env->root);
    s->page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    *state = s;
    return 0;
}

const struct source source_modules = {
    .name = "modules",
    .help = "kernel modules from /proc/modules and /sys/module",
    .group = SOURCE_DRIVERS,
    .open = modules_open,
    .collect = modules_collect,
    .close = modules_close,
};
