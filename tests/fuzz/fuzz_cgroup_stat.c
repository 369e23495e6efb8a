/* Fuzzes the parser of a control group's memory.stat. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/cgroups_linux.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int on_line(void *ctx, struct text line)
{
    cgroup_stat_line(ctx, line);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cgroup_memory m;
    memset(&m, 0, sizeof(m));
    (void)text_lines(text_of((const char *)data, size), on_line, &m);
    cgroup_stat_end(&m);
    if (m.kernel < 0 || m.sock < 0 || m.slab_unreclaimable < 0) {
        abort();
    }
    return 0;
}
