/* The bytes of the spool's segment files. */
#include "agent/spool_format.h"

#include <string.h>

#include "common/crc32c.h"

enum {
    SPOOL_VERSION = 1,
    HEADER_CRC_AT = 56,
    RECORD_CRC_AT = 4,
    RECORD_SEQ_AT = 8,
    RECORD_FLAGS_AT = 16,
};

static const uint8_t magic[8] = {'P', 'S', 'C', 'S', 'P', 'O', 'O', 'L'};

static void put32(uint8_t *at, uint32_t v)
{
    for (unsigned i = 0; i < 4; i++) {
        at[i] = (uint8_t)(v >> (8 * i));
    }
}

static void put64(uint8_t *at, uint64_t v)
{
    put32(at, (uint32_t)v);
    put32(at + 4, (uint32_t)(v >> 32));
}

static uint32_t get32(const uint8_t *at)
{
    uint32_t v = 0;
    for (unsigned i = 0; i < 4; i++) {
        v |= (uint32_t)at[i] << (8 * i);
    }
    return v;
}

static uint64_t get64(const uint8_t *at)
{
    return (uint64_t)get32(at) | (uint64_t)get32(at + 4) << 32;
}

void spool_header_encode(const struct spool_header *header,
                         uint8_t out[SPOOL_HEADER_BYTES])
{
    memset(out, 0, SPOOL_HEADER_BYTES);
    memcpy(out, magic, sizeof(magic));
    put32(out + 8, SPOOL_VERSION);
    memcpy(out + 16, header->stream, SPOOL_STREAM_BYTES);
    put64(out + 32, header->first_seq);
    put64(out + 40, (uint64_t)header->created_us);
    put64(out + 48, header->dropped);
    put32(out + HEADER_CRC_AT, psc_crc32c(0, out, HEADER_CRC_AT));
}

int spool_header_decode(const uint8_t in[SPOOL_HEADER_BYTES],
                        struct spool_header *header)
{
    if (memcmp(in, magic, sizeof(magic)) != 0 ||
        get32(in + HEADER_CRC_AT) != psc_crc32c(0, in, HEADER_CRC_AT)) {
        return PSC_FORMAT;
    }
    if (get32(in + 8) != SPOOL_VERSION) {
        return PSC_UNSUPPORTED;
    }
    memcpy(header->stream, in + 16, SPOOL_STREAM_BYTES);
    header->first_seq = get64(in + 32);
    header->created_us = (int64_t)get64(in + 40);
    header->dropped = get64(in + 48);
    return header->first_seq == 0 ? PSC_FORMAT : PSC_OK;
}

static uint32_t record_crc(const uint8_t *head, struct psc_bytes payload)
{
    uint32_t crc = psc_crc32c(0, head, RECORD_CRC_AT);
    crc = psc_crc32c(crc, head + RECORD_SEQ_AT,
                     SPOOL_RECORD_BYTES - RECORD_SEQ_AT);
    return psc_crc32c(crc, payload.data, payload.len);
}

void spool_record_encode(const struct spool_record *record,
                         uint8_t out[SPOOL_RECORD_BYTES])
{
    put32(out, (uint32_t)record->payload.len);
    put64(out + RECORD_SEQ_AT, record->seq);
    put32(out + RECORD_FLAGS_AT, record->flags);
    put32(out + RECORD_CRC_AT, record_crc(out, record->payload));
}

bool spool_record_peek(struct psc_bytes in, struct spool_record *record,
                       size_t *need)
{
    record->payload.data = NULL;
    record->payload.len = get32(in.data);
    record->seq = get64(in.data + RECORD_SEQ_AT);
    record->flags = get32(in.data + RECORD_FLAGS_AT);
    *need = SPOOL_RECORD_BYTES + record->payload.len;
    return record->payload.len <= SPOOL_PAYLOAD_MAX_BYTES && record->seq > 0 &&
           record->flags <= (SPOOL_KEYFRAME | SPOOL_MORE);
}

int spool_record_decode(struct psc_bytes in, struct spool_record *record,
                        size_t *need)
{
    *need = SPOOL_RECORD_BYTES;
    if (in.len < SPOOL_RECORD_BYTES) {
        return PSC_MISSING;
    }
    if (!spool_record_peek(in, record, need)) {
        return PSC_FORMAT;
    }
    if (in.len < *need) {
        return PSC_MISSING;
    }
    record->payload.data = in.data + SPOOL_RECORD_BYTES;
    return get32(in.data + RECORD_CRC_AT) ==
                   record_crc(in.data, record->payload)
               ? PSC_OK
               : PSC_FORMAT;
}
