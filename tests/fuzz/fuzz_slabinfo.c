/* Fuzzes the parser of /proc/slabinfo and the folding of cache names. */
#include <stdint.h>
#include <stdlib.h>

#include "agent/slabinfo_linux.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Folding a folded name must change nothing, and its text be canonical. */
static void check_name(struct text name)
{
    char once[256];
    char twice[256];
    struct text_out a = {once, 0, sizeof(once)};
    struct text_out b = {twice, 0, sizeof(twice)};
    slab_name_fold(name, &a);
    slab_name_fold(text_of(once, a.len), &b);
    (void)slab_name_reclaimable(text_of(once, a.len));
    for (size_t i = 0; i < a.len; i++) {
        if (once[i] < 0x20 || once[i] > 0x7E) {
            abort();
        }
    }
}

static int on_line(void *ctx, struct text line)
{
    (void)ctx;
    struct slab_row row;
    if (slabinfo_parse(line, &row)) {
        if (text_left(&row.name) == 0 || row.name.at < line.at ||
            row.name.end > line.end) {
            abort();
        }
        check_name(row.name);
    }
    check_name(line);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return text_lines(text_of((const char *)data, size), on_line, NULL);
}
