/* Names of slab caches: see slabinfo_linux.h. */
#include <string.h>

#include "agent/slabinfo_linux.h"

static bool hex_digit(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

static bool all_digits(const struct text *t)
{
    for (const char *c = t->at; c < t->end; c++) {
        if (*c < '0' || *c > '9') {
            return false;
        }
    }
    return t->at < t->end;
}

/* Cut "(881:sshd.service)", the memory cgroup of a per-cgroup cache. */
static void cut_cgroup(struct text *name)
{
    const char *open = memchr(name->at, '(', text_left(name));
    if (open == NULL || open == name->at || name->end[-1] != ')') {
        return;
    }
    struct text inner = {open + 1, name->end - 1};
    struct text id;
    if (text_until(&inner, ":", &id) && all_digits(&id)) {
        name->end = open;
    }
}

/* Cut "_ffffffff818b9000", the address of what the cache was made for. */
static void cut_address(struct text *name)
{
    const char *c = name->end;
    while (c > name->at && hex_digit(c[-1])) {
        c--;
    }
    size_t digits = (size_t)(name->end - c);
    if ((digits == 8 || digits == 16) && c - name->at >= 2 && c[-1] == '_') {
        name->end = c - 1;
    }
}

/* Cut ":0000:04:00.0", a PCI device. */
static void cut_device(struct text *name)
{
    static const char SHAPE[] = ":hhhh:hh:hh.h";
    size_t n = sizeof(SHAPE) - 1;
    if (text_left(name) <= n) {
        return;
    }
    const char *at = name->end - n;
    for (size_t i = 0; i < n; i++) {
        if (SHAPE[i] == 'h' ? !hex_digit(at[i]) : at[i] != SHAPE[i]) {
            return;
        }
    }
    name->end = at;
}

/* Cut the level of pid_2, pid_3: one cache for each nesting of containers. */
static void cut_pid_level(struct text *name)
{
    struct text rest = *name;
    if (text_take(&rest, "pid_") && all_digits(&rest)) {
        name->end = name->at + 3;
    }
}

/* The size of a kmalloc cache, 1024 as 1k. */
static void put_size(struct text_out *out, struct text size)
{
    struct text digits = size;
    uint64_t v;
    if (!text_u64(&digits, &v) || digits.at != digits.end || v < 1024 ||
        v % 1024 != 0) {
        text_put_escaped(out, size);
        return;
    }
    bool mega = v % (1024ULL * 1024) == 0;
    text_put_u64(out, mega ? v >> 20 : v >> 10);
    text_puts(out, mega ? "M" : "k");
}

/* SLAB of old called them size-64 and size-64(DMA). */
static bool fold_size(struct text name, struct text_out *out)
{
    if (!text_take(&name, "size-")) {
        return false;
    }
    bool dma = text_ends(&name, "(DMA)");
    if (dma) {
        name.end -= 5;
    }
    if (!all_digits(&name)) {
        return false;
    }
    text_puts(out, dma ? "dma-kmalloc-" : "kmalloc-");
    put_size(out, name);
    return true;
}

static bool fold_kmalloc(struct text name, struct text_out *out)
{
    static const char *const PREFIXES[] = {
        "kmalloc-rnd-", "kmalloc-cg-",  "kmalloc-rcl-",
        "kmalloc-dma-", "dma-kmalloc-", "kmalloc-",
    };
    for (size_t i = 0; i < sizeof(PREFIXES) / sizeof(PREFIXES[0]); i++) {
        if (!text_take(&name, PREFIXES[i])) {
            continue;
        }
        text_puts(out, PREFIXES[i]);
        struct text index;
        struct text size = name;
        if (i == 0 && text_until(&size, "-", &index) && all_digits(&index)) {
            name = size;
        }
        put_size(out, name);
        return true;
    }
    return false;
}

void slab_name_fold(struct text name, struct text_out *out)
{
    cut_cgroup(&name);
    if (fold_size(name, out) || fold_kmalloc(name, out)) {
        return;
    }
    cut_address(&name);
    cut_device(&name);
    cut_pid_level(&name);
    text_put_escaped(out, name);
}

bool slab_name_reclaimable(struct text folded)
{
    static const char *const NAMES[] = {
        "dentry",
        "dentry_cache",
        "inode_cache",
        "buffer_head",
        "radix_tree_node",
        "mb_cache_entry",
        "mbcache",
        "ext4_extent_status",
        "ext3_xattr",
        "ext4_xattr",
        "xfs_inode",
        "xfs_buf",
        "shared_policy_node",
        "numa_policy",
    };
    for (size_t i = 0; i < sizeof(NAMES) / sizeof(NAMES[0]); i++) {
        if (text_equal(&folded, NAMES[i])) {
            return true;
        }
    }
    return text_ends(&folded, "_inode_cache") ||
           text_take(&folded, "kmalloc-rcl-");
}
