/* Fuzzes the parser of /proc/modules; a name must never be a path. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/modules_linux.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int on_line(void *ctx, struct text line)
{
    struct psc_buf *list = ctx;
    struct module_row row;
    if (modules_parse(line, &row)) {
        if (memchr(row.name.at, '/', text_left(&row.name)) != NULL ||
            *row.name.at == '.') {
            abort();
        }
        module_tag_put(list, line);
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct psc_buf list;
    psc_buf_init(&list, 1024);
    (void)text_lines(text_of((const char *)data, size), on_line, &list);
    psc_buf_fini(&list);
    return 0;
}
