/* Fuzzes wire_decode() with one frame, and what a batch holds with the codec
 * and the record readers, as a collector would. A message that is accepted
 * encodes to bytes that decode to the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/record.h"
#include "proto/wire.h"
#include "tests/lib/decoded.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FRAME_BYTES = 4 << 20 };

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void apply(uint32_t n_columns, uint32_t max, const struct columns *in)
{
    struct decoded d;
    decoded_init(&d, n_columns, max, (size_t)max * 64);
    struct psc_error err;
    int rc = decoded_apply(&d, in, true, &err);
    require(d.grid.complete == (rc == PSC_OK));
    decoded_fini(&d);
}

static void read_batch(const struct wire_batch *b)
{
    if (b->has_tags) {
        apply(TABLE_COLUMNS_MAX, 1000, &b->tags);
    }
    if (b->has_counters) {
        apply(1, 1000, &b->counters);
    }
    struct record_reader r;
    struct driver_record driver;
    record_reader_init(&r, b->drivers);
    while (record_next_driver(&r, &driver)) {
    }
    struct alias_record alias;
    record_reader_init(&r, b->aliases);
    while (record_next_alias(&r, &alias)) {
    }
    struct event_record event;
    record_reader_init(&r, b->events);
    while (record_next_event(&r, &event)) {
    }
    struct source_record source;
    record_reader_init(&r, b->sources);
    while (record_next_source(&r, &source)) {
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wire_decoder d;
    struct wire_message m;
    struct psc_error err = {.code = 0};
    wire_decoder_init(&d);
    int rc = wire_decode(&d, (struct psc_bytes){data, size}, &m, &err);
    require(d.cap <= WIRE_UNPACK_BUDGET_BYTES);
    require(rc == err.code);
    if (rc == PSC_OK) {
        if (m.type == WIRE_BATCH) {
            read_batch(&m.batch);
        }
        struct psc_buf once, twice;
        psc_buf_init(&once, FRAME_BYTES);
        psc_buf_init(&twice, FRAME_BYTES);
        wire_encode(&m, &once);
        require(psc_buf_error(&once) == PSC_OK);
        require(wire_decode(&d, psc_buf_bytes(&once), &m, &err) == PSC_OK);
        wire_encode(&m, &twice);
        require(psc_buf_error(&twice) == PSC_OK && once.len == twice.len);
        require(memcmp(once.data, twice.data, once.len) == 0);
        psc_buf_fini(&once);
        psc_buf_fini(&twice);
    }
    wire_decoder_fini(&d);
    return 0;
}
