/* Fuzzes the parser of /proc/PID/stat and the list that takes its processes:
 * each line is one, in two collections. */
#include <stdint.h>
#include <stdlib.h>

#include "agent/processes_linux.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct scan {
    struct process_list list;
    uint32_t last;
};

static int on_line(void *ctx, struct text line)
{
    struct scan *s = ctx;
    struct process_stat stat;
    if (!process_stat_parse(line, &stat) || stat.pid <= s->last) {
        return 0;
    }
    s->last = stat.pid;
    struct process *p;
    const struct process *then = process_list_then(&s->list, stat.pid);
    if (process_list_add(&s->list, &stat, 4096, then, &p) != 0) {
        return 1;
    }
    if (p->rss_bytes < 0 || p->threads < 0 || p->virtual_bytes < 0) {
        abort();
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct scan s = {.last = 0};
    process_list_init(&s.list);
    for (int i = 0; i < 2; i++) {
        s.last = 0;
        process_list_begin(&s.list);
        (void)text_lines(text_of((const char *)data, size), on_line, &s);
        process_list_select(&s.list, 3);
    }
    process_list_fini(&s.list);
    return 0;
}
