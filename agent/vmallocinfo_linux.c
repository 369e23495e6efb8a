/* Source vmallocinfo: vmalloc'd memory by caller and module. Outstanding are
 * areas; the kernel counts no allocs and frees. Mode 0400. */
#include "agent/vmallocinfo_linux.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/procfile_linux.h"
#include "agent/sources_linux.h"

/* "[module]", if one stands here. */
static void take_module(struct text *line, struct text *module)
{
    struct text rest = *line;
    text_skip_blanks(&rest);
    if (text_take(&rest, "[") && text_until(&rest, "]", module)) {
        *line = rest;
    } else {
        module->at = line->at;
        module->end = line->at;
    }
}

static bool take_caller(struct text *line, struct vmalloc_area *area)
{
    struct text rest = *line;
    struct text word;
    if (!text_word(&rest, &word)) {
        return false;
    }
    const char *plus = memchr(word.at, '+', text_left(&word));
    if (plus == NULL) {
        struct text number = word;
        bool address = text_take(&number, "0x");
        area->caller = address ? text_of("unknown", 7) : *line;
        area->module = text_of(word.end, 0);
        *line = rest;
        return true;
    }
    area->caller = word;
    area->caller.end = plus;
    take_module(&rest, &area->module);
    *line = rest;
    return plus > word.at;
}

/* The number after " pages=", if there is one. */
static bool find_pages(struct text line, uint64_t *pages)
{
    struct text before;
    return text_until(&line, " pages=", &before) && text_u64(&line, pages);
}

bool vmallocinfo_parse(struct text line, uint64_t page_bytes,
                       struct vmalloc_area *area)
{
    struct text range;
    uint64_t size;
    text_skip_blanks(&line);
    /* Quicker than text_word(): forty bytes in each of hundreds of lines. */
    if (!text_until(&line, " ", &range) ||
        memchr(range.at, '-', text_left(&range)) == NULL ||
        !text_u64(&line, &size)) {
        return false;
    }
    text_skip_blanks(&line);
    while (line.end > line.at && line.end[-1] == ' ') {
        line.end--;
    }
    if (!take_caller(&line, area)) {
        return false;
    }
    uint64_t pages;
    if (find_pages(line, &pages)) {
        area->bytes = (uint64_t)text_product(pages, page_bytes);
    } else {
        area->bytes = size > page_bytes ? size - page_bytes : size;
    }
    return true;
}

void vmallocinfo_tag(const struct vmalloc_area *area, struct text_out *out)
{
    struct text caller = area->caller;
    const char *dot = NULL;
    if (text_left(&caller) > 1) {
        dot = memchr(caller.at + 1, '.', text_left(&caller) - 1);
    }
    if (dot != NULL) {
        caller.end = dot;
    }
    text_put_escaped(out, caller);
    if (text_left(&area->module) > 0) {
        text_puts(out, " [");
        text_put_escaped(out, area->module);
        text_puts(out, "]");
    }
}

struct vmallocinfo {
    struct proc_file file;
    uint64_t page_bytes;
    struct sample *out; /* during a collection */
};

static int on_area(void *ctx, struct text line)
{
    struct vmallocinfo *s = ctx;
    struct vmalloc_area area;
    if (!vmallocinfo_parse(line, s->page_bytes, &area)) {
        return 0;
    }
    char text[SAMPLE_TAG_MAX_BYTES];
    struct text_out tag = {text, 0, sizeof(text)};
    vmallocinfo_tag(&area, &tag);
    /* Areas already freed, whose addresses the kernel gives back in bulk. */
    bool freed = text_equal(&area.caller, "unpurged vm_area");
    struct tag_values v = {
        .flags = TAG_OUTSTANDING | TAG_BYTES | (freed ? ENTRY_RECLAIMABLE : 0),
        .outstanding = 1,
        .bytes = text_clamp(area.bytes),
    };
    /* One tag that does not fit costs that tag only. */
    (void)!sample_tag(s->out, POOL_VMALLOC, text, tag.len, &v);
    return 0;
}

static int vmallocinfo_collect(void *state, struct sample *out,
                               struct psc_error *err)
{
    struct vmallocinfo *s = state;
    s->out = out;
    return proc_file_lines(&s->file, on_area, s, err);
}

static void vmallocinfo_close(void *state)
{
    struct vmallocinfo *s = state;
    proc_file_close(&s->file);
    free(s);
}

static int vmallocinfo_open(const struct source_env *env, void **state,
                            struct psc_error *err)
{
    struct vmallocinfo *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    s->page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    int rc = proc_file_open(&s->file, env->root, "/proc/vmallocinfo",
                            "root or CAP_DAC_READ_SEARCH", err);
    if (rc != 0) {
        vmallocinfo_close(s);
        return rc;
    }
    *state = s;
    return 0;
}

const struct source source_vmallocinfo = {
    .name = "vmallocinfo",
    .help = "vmalloc callers from /proc/vmallocinfo (root or "
            "CAP_DAC_READ_SEARCH)",
    .group = SOURCE_TAGS,
    .open = vmallocinfo_open,
    .collect = vmallocinfo_collect,
    .close = vmallocinfo_close,
};
