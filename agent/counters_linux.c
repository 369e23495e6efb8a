/* Lines of /proc as counters: see counters_linux.h. */
#include "agent/counters_linux.h"

#include <string.h>

#include "agent/meminfo_linux.h"

enum { NAME_MAX_BYTES = 96 };

/* Put a counter whose name is three texts put together. */
static void put(struct sample *out, const char *prefix, struct text name,
                const char *suffix, int64_t value)
{
    char text[NAME_MAX_BYTES];
    struct text_out o = {text, 0, sizeof(text) - 1};
    text_puts(&o, prefix);
    for (const char *c = name.at; c < name.end && o.len < o.cap; c++) {
        bool word = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                    (*c >= '0' && *c <= '9') || *c == '_';
        if (*c != ')') {
            text_put(&o, word ? text_of(c, 1) : text_of("_", 1));
        }
    }
    text_puts(&o, suffix);
    text[o.len] = '\0';
    (void)!sample_counter(out, text, "", value);
}

void counters_meminfo_line(struct sample *out, struct text line)
{
    struct text name;
    int64_t value;
    bool in_bytes;
    if (meminfo_parse(line, &name, &value, &in_bytes)) {
        put(out, "node_memory_", name, in_bytes ? "_bytes" : "", value);
    }
}

/* What vmstat tells of slabs, reclaim and failure; meminfo has the rest. */
static bool wanted(const struct text *name)
{
    static const char *const NAMES[] = {
        "nr_slab_reclaimable",
        "nr_slab_unreclaimable",
        "nr_kernel_stack",
        "nr_page_table_pages",
        "nr_kernel_misc_reclaimable",
        "nr_zspages",
        "workingset_nodereclaim",
        "pswpin",
        "pswpout",
        "pgmajfault",
        "slabs_scanned",
        "kswapd_inodesteal",
        "pginodesteal",
        "drop_pagecache",
        "drop_slab",
        "oom_kill",
        "compact_stall",
        "compact_fail",
        "pageoutrun",
    };
    static const char *const PREFIXES[] = {"pgscan_", "pgsteal_", "allocstall"};
    for (size_t i = 0; i < sizeof(NAMES) / sizeof(NAMES[0]); i++) {
        if (text_equal(name, NAMES[i])) {
            return true;
        }
    }
    for (size_t i = 0; i < sizeof(PREFIXES) / sizeof(PREFIXES[0]); i++) {
        struct text t = *name;
        if (text_take(&t, PREFIXES[i])) {
            return true;
        }
    }
    return false;
}

void counters_vmstat_line(struct sample *out, struct text line)
{
    struct text name;
    uint64_t value;
    if (vmstat_parse(line, &name, &value) && wanted(&name)) {
        put(out, "node_vmstat_", name, "", text_clamp(value));
    }
}

void counters_file_nr(struct sample *out, struct text line)
{
    uint64_t allocated, unused, maximum;
    if (text_u64(&line, &allocated) && text_u64(&line, &unused) &&
        text_u64(&line, &maximum)) {
        (void)!sample_counter(out, "node_filefd_allocated", "",
                              text_clamp(allocated));
        (void)!sample_counter(out, "node_filefd_maximum", "",
                              text_clamp(maximum));
    }
}

void counters_inode_nr(struct sample *out, struct text line)
{
    uint64_t allocated, unused;
    if (text_u64(&line, &allocated) && text_u64(&line, &unused)) {
        (void)!sample_counter(out, "node_inodes_allocated", "",
                              text_clamp(allocated));
        (void)!sample_counter(out, "node_inodes_free", "", text_clamp(unused));
    }
}

void counters_overcommit(struct sample *out, struct text line)
{
    uint64_t mode;
    if (text_u64(&line, &mode)) {
        (void)!sample_counter(out, "poolscope_vm_overcommit_memory", "",
                              text_clamp(mode));
    }
}

void counters_sockstat_line(struct sample *out, struct text line,
                            uint64_t page_bytes)
{
    struct text protocol, key;
    if (!text_until(&line, ":", &protocol)) {
        return;
    }
    uint64_t value;
    while (text_word(&line, &key) && text_u64(&line, &value)) {
        char name[NAME_MAX_BYTES];
        struct text_out o = {name, 0, sizeof(name) / 2};
        text_put(&o, protocol);
        text_puts(&o, "_");
        text_put(&o, key);
        struct text whole = text_of(name, o.len);
        put(out, "node_sockstat_", whole, "", text_clamp(value));
        if (text_equal(&key, "mem")) {
            put(out, "node_sockstat_", whole, "_bytes",
                text_product(value, page_bytes));
        }
    }
}
