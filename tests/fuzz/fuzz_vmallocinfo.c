/* Fuzzes the parser of /proc/vmallocinfo. */
#include <stdint.h>
#include <stdlib.h>

#include "agent/vmallocinfo_linux.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int on_line(void *ctx, struct text line)
{
    (void)ctx;
    struct vmalloc_area area;
    if (vmallocinfo_parse(line, 4096, &area)) {
        char text[256];
        struct text_out out = {text, 0, sizeof(text)};
        vmallocinfo_tag(&area, &out);
        if (out.len == 0 || area.bytes > INT64_MAX + (uint64_t)INT64_MAX) {
            abort();
        }
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return text_lines(text_of((const char *)data, size), on_line, NULL);
}
