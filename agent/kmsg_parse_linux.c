/* Recognising lines of the kernel log: kernel_line_parse() of
 * kmsg_lines_linux.h. */
#include <string.h>

#include "agent/kmsg_lines_linux.h"

static bool has(struct text t, const char *literal)
{
    struct text before;
    return text_until(&t, literal, &before);
}

/* The number after the first @literal, or -1. */
static int64_t number_after(struct text t, const char *literal)
{
    struct text before;
    uint64_t v;
    if (!text_until(&t, literal, &before)) {
        return -1;
    }
    bool negative = text_take(&t, "-");
    if (!text_u64(&t, &v)) {
        return -1;
    }
    return negative ? -1 : text_clamp(v);
}

/* "123kB" after @literal in bytes, or -1. */
static int64_t kb_after(struct text t, const char *literal)
{
    int64_t kb = number_after(t, literal);
    return kb < 0 ? -1 : text_product((uint64_t)kb, 1024);
}

/* What stands between @literal and @end (or the line's end). */
static struct text text_after(struct text t, const char *literal,
                              const char *end)
{
    struct text before;
    if (!text_until(&t, literal, &before)) {
        return text_of(t.at, 0);
    }
    struct text value;
    return text_until(&t, end, &value) ? value : t;
}

/* gfp=0xcc0(GFP_KERNEL), gfp_mask=…, mode:…: up to the closing one. */
static struct text gfp_of(struct text t)
{
    static const char *const KEYS[] = {"gfp_mask=", "gfp=", "mode:"};
    for (size_t i = 0; i < sizeof(KEYS) / sizeof(KEYS[0]); i++) {
        if (has(t, KEYS[i])) {
            struct text value = text_after(t, KEYS[i], ")");
            if (value.end < t.end && *value.end == ')' &&
                memchr(value.at, '(', text_left(&value)) != NULL) {
                value.end++;
                return value;
            }
            return text_after(t, KEYS[i], ",");
        }
    }
    return text_of(t.at, 0);
}

static bool parse_slab_head(struct text t, struct kernel_line *out)
{
    if (!has(t, "SLUB: Unable to allocate memory on ") &&
        !has(t, "SLAB: Unable to allocate memory on ")) {
        return false;
    }
    out->head = KERNEL_SLAB_FAILURE;
    out->a = number_after(t, " node ");
    if (has(t, "(of node ")) {
        out->a = number_after(t, "(of node ");
    }
    out->b = number_after(t, " CPU ");
    out->gfp = gfp_of(t);
    return true;
}

static bool parse_page_head(struct text t, struct kernel_line *out)
{
    struct text comm;
    struct text rest = t;
    if (text_until(&rest, ": page allocation failure: order:", &comm)) {
        out->head = KERNEL_PAGE_FAILURE;
    } else if (rest = t, text_until(&rest, " invoked oom-killer: ", &comm)) {
        out->head = KERNEL_OOM;
    } else {
        return false;
    }
    out->name = comm;
    out->a = number_after(t, "order:");
    if (out->a < 0) {
        out->a = number_after(t, "order=");
    }
    out->gfp = gfp_of(t);
    return true;
}

static bool parse_vmap_head(struct text t, struct kernel_line *out)
{
    if (has(t, "vmap allocation for size ") && has(t, " failed")) {
        out->a = number_after(t, "vmap allocation for size ");
    } else if (has(t, "vmalloc error: size ")) {
        out->a = number_after(t, "vmalloc error: size ");
    } else {
        return false;
    }
    out->head = KERNEL_VMAP_FAILURE;
    return true;
}

/* "FILE:LINE module M func:F has N allocated at module unload" */
static bool parse_unload(struct text t, struct kernel_line *out)
{
    if (!has(t, " allocated at module unload")) {
        return false;
    }
    struct text site;
    struct text rest = t;
    if (!text_until(&rest, " module ", &site) ||
        !text_word(&rest, &out->module)) {
        return false;
    }
    out->head = KERNEL_UNLOAD_LEAK;
    out->name.at = site.at;
    out->name.end = site.end;
    out->gfp = text_after(rest, "func:", " ");
    out->a = number_after(rest, " has ");
    return true;
}

static bool parse_head(struct text t, struct kernel_line *out)
{
    out->kind = LINE_HEAD;
    return parse_slab_head(t, out) || parse_page_head(t, out) ||
           parse_vmap_head(t, out) || parse_unload(t, out);
}

static bool parse_cache(struct text t, struct kernel_line *out)
{
    if (!text_take(&t, "cache: ")) {
        return false;
    }
    out->kind = LINE_CACHE;
    out->a = number_after(t, "object size: ");
    out->b = number_after(t, "order: ");
    return text_until(&t, ", object size", &out->name) &&
           text_left(&out->name) > 0;
}

/* "Out of memory: Killed process 1 (x) total-vm:1kB, anon-rss:1kB, …"; older
 * kernels print "Killed process …" alone, after "… Kill process …". */
static bool parse_killed(struct text t, struct kernel_line *out)
{
    struct text rest = t;
    struct text before;
    uint64_t pid;
    if (!text_until(&rest, "Killed process ", &before) ||
        !text_u64(&rest, &pid)) {
        return false;
    }
    out->kind = LINE_KILLED;
    out->a = text_clamp(pid);
    out->in_cgroup = has(before, "emory cgroup out of memory");
    (void)text_take(&rest, ",");
    if (text_until(&rest, "(", &before)) {
        const char *close = NULL;
        struct text tail = rest;
        if (text_until(&tail, ") total-vm:", &out->name)) {
            close = out->name.end;
        } else {
            close = memrchr(rest.at, ')', text_left(&rest));
        }
        out->name.at = rest.at;
        out->name.end = close != NULL ? close : rest.end;
    }
    out->b = kb_after(rest, "total-vm:");
    out->c = kb_after(rest, "anon-rss:");
    return true;
}

static bool parse_memory(struct text t, struct kernel_line *out)
{
    if (has(t, "slab_reclaimable:") && has(t, "slab_unreclaimable:")) {
        struct text start = t;
        if (text_take(&start, "Node ")) {
            return false; /* the same for one node, in kB */
        }
        out->kind = LINE_MEM_SLAB;
        out->a = number_after(t, "slab_reclaimable:");
        out->b = number_after(t, "slab_unreclaimable:");
        return true;
    }
    struct text start = t;
    if (has(t, "free_pcp:") && text_take(&start, "free:")) {
        out->kind = LINE_MEM_FREE;
        out->a = number_after(t, "free:");
        return true;
    }
    return false;
}

static bool parse_cpu(struct text t, struct kernel_line *out)
{
    if (!text_take(&t, "CPU: ") || !has(t, " Comm: ")) {
        return false;
    }
    uint64_t cpu;
    out->kind = LINE_CPU;
    out->a = text_u64(&t, &cpu) ? text_clamp(cpu) : -1;
    struct text tail = text_after(t, " Comm: ", " Not tainted");
    struct text name;
    out->name = text_until(&tail, " Tainted", &name) ? name : tail;
    return true;
}

/* "ice_alloc_rx_bufs+0x12/0x34 [ice]", maybe with "? " in front. */
static bool parse_frame(struct text t, struct kernel_line *out)
{
    struct text symbol, rest;
    if (text_take(&t, "? ")) {
        text_skip_blanks(&t);
    }
    rest = t;
    if (!text_word(&rest, &symbol) || !has(symbol, "+0x")) {
        return false;
    }
    text_skip_blanks(&rest);
    if (!text_take(&rest, "[") || !text_until(&rest, "]", &out->name) ||
        text_left(&out->name) == 0) {
        return false;
    }
    const char *blank = memchr(out->name.at, ' ', text_left(&out->name));
    if (blank != NULL) {
        out->name.end = blank; /* "[ice 0123…]": a build id follows */
    }
    out->kind = LINE_FRAME;
    return true;
}

static bool parse_tables(struct text t, struct kernel_line *out)
{
    if (has(t, "Unreclaimable slab info:")) {
        out->kind = LINE_SLAB_TABLE;
        return true;
    }
    if (text_equal(&t, "Memory allocations:")) {
        out->kind = LINE_SITE_TABLE;
        return true;
    }
    return false;
}

/* "kmalloc-64   12KB   34KB": the name may hold blanks. */
static bool parse_slab_row(struct text t, struct kernel_line *out)
{
    if (!text_ends(&t, "KB")) {
        return false;
    }
    struct text words[3];
    struct text rest = t;
    for (int i = 2; i > 0; i--) {
        while (rest.end > rest.at && rest.end[-1] == ' ') {
            rest.end--;
        }
        words[i].end = rest.end;
        while (rest.end > rest.at && rest.end[-1] != ' ') {
            rest.end--;
        }
        words[i].at = rest.end;
    }
    while (rest.end > rest.at && rest.end[-1] == ' ') {
        rest.end--;
    }
    uint64_t used, total;
    if (text_left(&rest) == 0 || !text_u64(&words[1], &used) ||
        !text_equal(&words[1], "KB") || !text_u64(&words[2], &total) ||
        !text_equal(&words[2], "KB")) {
        return false;
    }
    out->kind = LINE_SLAB_ROW;
    out->name = rest;
    out->a = text_product(used, 1024);
    out->b = text_product(total, 1024);
    return true;
}

/* "4.00 GiB", "128 kB": as bytes. */
static bool take_size(struct text *t, int64_t *bytes)
{
    static const char UNITS[] = "BkMGTP";
    uint64_t whole, part = 0;
    uint64_t scale = 1;
    if (!text_u64(t, &whole)) {
        return false;
    }
    if (text_take(t, ".")) {
        const char *start = t->at;
        if (!text_u64(t, &part) || t->at - start > 3) {
            return false;
        }
        for (long i = t->at - start; i > 0; i--) {
            scale *= 10;
        }
    }
    struct text unit;
    if (!text_word(t, &unit)) {
        return false;
    }
    const char *found = strchr(UNITS, *unit.at);
    if (*unit.at == 'K') {
        found = strchr(UNITS, 'k');
    }
    if (found == NULL || unit.end[-1] != 'B') {
        return false;
    }
    uint64_t one = 1ULL << (10 * (found - UNITS));
    int64_t rounded = text_product(whole, one);
    int64_t rest = text_product(part, one) / (int64_t)scale;
    *bytes = rounded > INT64_MAX - rest ? INT64_MAX : rounded + rest;
    return true;
}

static bool parse_site_row(struct text t, struct kernel_line *out)
{
    uint64_t calls;
    if (!has(t, " func:") || !take_size(&t, &out->a) || !text_u64(&t, &calls)) {
        return false;
    }
    text_skip_blanks(&t);
    out->kind = LINE_SITE_ROW;
    out->b = text_clamp(calls);
    out->name = t;
    return true;
}

bool kernel_line_parse(struct text text, struct kernel_line *out)
{
    text_skip_blanks(&text);
    while (text.end > text.at &&
           (text.end[-1] == ' ' || text.end[-1] == '\n')) {
        text.end--;
    }
    memset(out, 0, sizeof(*out));
    out->text = text;
    out->name = text_of(text.at, 0);
    out->gfp = out->name;
    out->module = out->name;
    out->a = -1;
    out->b = -1;
    out->c = -1;
    return text_left(&text) > 0 &&
           (parse_head(text, out) || parse_cache(text, out) ||
            parse_killed(text, out) || parse_memory(text, out) ||
            parse_cpu(text, out) || parse_frame(text, out) ||
            parse_tables(text, out) || parse_slab_row(text, out) ||
            parse_site_row(text, out));
}
