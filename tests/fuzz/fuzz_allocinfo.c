/* Fuzzes the parser of /proc/allocinfo. */
#include <stdint.h>
#include <stdlib.h>

#include "agent/allocinfo_linux.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int on_line(void *ctx, struct text line)
{
    (void)ctx;
    struct alloc_site site;
    if (allocinfo_parse(line, &site)) {
        char text[512];
        struct text_out out = {text, 0, sizeof(text)};
        allocinfo_tag(&site, &out);
        if (text_left(&site.file) == 0 || text_left(&site.function) == 0 ||
            out.len == 0) {
            abort();
        }
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return text_lines(text_of((const char *)data, size), on_line, NULL);
}
