/* Fuzzes the kernel log: records, their lines, the dumps made of them, and
 * the JSON of these, which must be well-formed. */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>

#include "agent/kmsg_linux.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_event(void *ctx, const struct kernel_dump *dump)
{
    (void)ctx;
    struct psc_buf json;
    psc_buf_init(&json, 65536);
    kernel_dump_json(dump, &json);
    json_t *value = json_loadb((const char *)json.data, json.len, 0, NULL);
    if (value == NULL || !json_is_object(value)) {
        abort();
    }
    json_decref(value);
    psc_buf_fini(&json);
}

static int on_line(void *ctx, struct text line)
{
    struct kmsg_record r;
    if (kmsg_parse(line, &r)) {
        kernel_dumps_feed(ctx, &r);
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kernel_dumps dumps;
    kernel_dumps_init(&dumps, on_event, NULL);
    (void)text_lines(text_of((const char *)data, size), on_line, &dumps);
    kernel_dumps_flush(&dumps, INT64_MAX);
    if (kernel_dumps_position(&dumps, UINT64_MAX) != UINT64_MAX) {
        abort();
    }
    return 0;
}
