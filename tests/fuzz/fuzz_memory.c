/* Fuzzes the parsers of meminfo, vmstat, zoneinfo, file-nr, inode-nr and
 * sockstat: every line goes to each of them, and the residual is computed from
 * what came of it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/counters_linux.h"
#include "agent/meminfo_linux.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct all {
    struct meminfo info;
    struct page_counts pages;
    struct sample sample;
};

static int on_line(void *ctx, struct text line)
{
    struct all *all = ctx;
    meminfo_line(&all->info, line);
    vmstat_line(&all->pages, line);
    zoneinfo_line(&all->pages, line);
    counters_meminfo_line(&all->sample, line);
    counters_vmstat_line(&all->sample, line);
    counters_file_nr(&all->sample, line);
    counters_inode_nr(&all->sample, line);
    counters_sockstat_line(&all->sample, line, 65536);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct all all;
    memset(&all, 0, sizeof(all));
    sample_init(&all.sample);
    table_begin(&all.sample.counters);
    (void)text_lines(text_of((const char *)data, size), on_line, &all);
    int64_t total = all.info.value[MEM_TOTAL];
    if (unaccounted_bytes(&all.info, &all.pages, 4096, total) < 0) {
        abort();
    }
    sample_fini(&all.sample);
    return 0;
}
