/* Source allocinfo: memory by file, function and module. Outstanding are the
 * calls that were not freed; how many there ever were the kernel does not say.
 *
 * Most sites never allocate: one appears with its first allocation and stays.
 * Mode 0400, and only on kernels that have it. */
#include "agent/allocinfo_linux.h"

#include <stdlib.h>
#include <string.h>

#include "agent/procfile_linux.h"
#include "agent/sources_linux.h"

/* Split "drivers/net/x.c:123" at its last colon. */
static bool cut_line(struct text *file)
{
    const char *colon = memrchr(file->at, ':', text_left(file));
    if (colon == NULL || colon == file->at) {
        return false;
    }
    struct text number = {colon + 1, file->end};
    uint64_t line;
    if (!text_u64(&number, &line) || text_left(&number) > 0) {
        return false;
    }
    file->end = colon;
    return true;
}

bool allocinfo_parse(struct text line, struct alloc_site *site)
{
    struct text word;
    if (!text_u64(&line, &site->bytes) || !text_u64(&line, &site->calls) ||
        !text_word(&line, &site->file) || !cut_line(&site->file)) {
        return false;
    }
    site->module = text_of(line.at, 0);
    site->function = text_of(line.at, 0);
    while (text_word(&line, &word)) {
        struct text inner = word;
        if (text_take(&inner, "func:")) {
            site->function = inner;
            return text_left(&inner) > 0; /* "accurate:no" may follow */
        }
        if (text_take(&inner, "[") && text_ends(&inner, "]")) {
            inner.end--;
            site->module = inner;
        }
    }
    return false;
}

void allocinfo_tag(const struct alloc_site *site, struct text_out *out)
{
    text_put_escaped(out, site->file);
    if (text_left(&site->module) > 0) {
        text_puts(out, " [");
        text_put_escaped(out, site->module);
        text_puts(out, "]");
    }
    text_puts(out, " func:");
    text_put_escaped(out, site->function);
}

struct allocinfo {
    struct proc_file file;
    struct sample *out; /* during a collection */
};

static bool known(const struct sample *out, const char *text, size_t len)
{
    char key[TABLE_KEY_MAX_BYTES];
    key[0] = POOL_ALLOC;
    memcpy(key + 1, text, len);
    return psc_map_find(&out->tags.names, key, len + 1) != PSC_MAP_NONE;
}

static int on_site(void *ctx, struct text line)
{
    struct allocinfo *s = ctx;
    struct alloc_site site;
    if (!allocinfo_parse(line, &site)) {
        return 0;
    }
    char text[SAMPLE_TAG_MAX_BYTES];
    struct text_out tag = {text, 0, sizeof(text)};
    allocinfo_tag(&site, &tag);
    if (site.bytes == 0 && site.calls == 0 && !known(s->out, text, tag.len)) {
        return 0;
    }
    struct tag_values v = {
        .flags = TAG_OUTSTANDING | TAG_BYTES,
        .outstanding = text_clamp(site.calls),
        .bytes = text_clamp(site.bytes),
    };
    /* One tag that does not fit costs that tag only. */
    (void)!sample_tag(s->out, POOL_ALLOC, text, tag.len, &v);
    return 0;
}

static int allocinfo_collect(void *state, struct sample *out,
                             struct psc_error *err)
{
    struct allocinfo *s = state;
    s->out = out;
    return proc_file_lines(&s->file, on_site, s, err);
}

static void allocinfo_close(void *state)
{
    struct allocinfo *s = state;
    proc_file_close(&s->file);
    free(s);
}

static int allocinfo_open(const struct source_env *env, void **state,
                          struct psc_error *err)
{
    struct allocinfo *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    int rc = proc_file_open(&s->file, env->root, "/proc/allocinfo",
                            "root or CAP_DAC_READ_SEARCH", err);
    if (rc == PSC_MISSING) {
        rc = psc_error_set(err, rc,
                           "%s does not exist: needs Linux 6.10 or newer, "
                           "built with CONFIG_MEM_ALLOC_PROFILING",
                           s->file.path);
    }
    if (rc != 0) {
        allocinfo_close(s);
        return rc;
    }
    *state = s;
    return 0;
}

const struct source source_allocinfo = {
    .name = "allocinfo",
    .help = "allocation sites from /proc/allocinfo (Linux 6.10, root or "
            "CAP_DAC_READ_SEARCH)",
    .group = SOURCE_TAGS,
    .open = allocinfo_open,
    .collect = allocinfo_collect,
    .close = allocinfo_close,
};
