/* Fuzzes the record readers; the first byte picks the kind of record. What is
 * read is written again and must read the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum kind { DRIVERS, EVENTS, SOURCES, ALIASES, N_KINDS };
enum { LIST_BYTES = 4 << 20 };

/* Read a list and write its records to @out. Returns how many there were. */
static unsigned copy(enum kind kind, struct psc_bytes list, struct psc_buf *out)
{
    struct record_reader r;
    struct driver_record driver;
    struct event_record event;
    struct source_record source;
    struct alias_record alias;
    unsigned n = 0;

    record_list_begin(out);
    record_reader_init(&r, list);
    switch (kind) {
    case DRIVERS:
        for (; record_next_driver(&r, &driver); n++) {
            record_put_driver(out, &driver);
        }
        break;
    case EVENTS:
        for (; record_next_event(&r, &event); n++) {
            record_put_event(out, &event);
        }
        break;
    case SOURCES:
        for (; record_next_source(&r, &source); n++) {
            record_put_source(out, &source);
        }
        break;
    default:
        for (; record_next_alias(&r, &alias); n++) {
            record_put_alias(out, &alias);
        }
        break;
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    enum kind kind = (enum kind)(data[0] % N_KINDS);
    struct psc_buf once, twice;
    psc_buf_init(&once, LIST_BYTES);
    psc_buf_init(&twice, LIST_BYTES);
    unsigned n = copy(kind, (struct psc_bytes){data + 1, size - 1}, &once);
    unsigned again = copy(kind, psc_buf_bytes(&once), &twice);
    if (psc_buf_error(&once) != PSC_OK || psc_buf_error(&twice) != PSC_OK ||
        n != again || once.len != twice.len ||
        memcmp(once.data, twice.data, once.len) != 0) {
        abort();
    }
    psc_buf_fini(&once);
    psc_buf_fini(&twice);
    return 0;
}
