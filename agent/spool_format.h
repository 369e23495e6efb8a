/* The bytes of the spool's segment files. Pure: no I/O.
 *
 * A segment is a header and records, all numbers little-endian:
 *
 *   header  magic "PSCSPOOL" | version u32 | 0 u32 | stream 16 bytes
 *           | first seq u64 | created (wall clock, us) i64 | dropped u64
 *           | CRC32C u32 | 0 u32
 *   record  payload length u32 | CRC32C u32 | seq u64 | flags u32 | payload
 *
 * The CRC of a header covers what stands before it; that of a record its
 * length, seq, flags and payload. */
#ifndef PSC_AGENT_SPOOL_FORMAT_H
#define PSC_AGENT_SPOOL_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/error.h"

#define SPOOL_STREAM_BYTES      16
#define SPOOL_HEADER_BYTES      64
#define SPOOL_RECORD_BYTES      20 /* in front of each payload */
#define SPOOL_PAYLOAD_MAX_BYTES (1u << 20)

enum spool_flag {
    SPOOL_KEYFRAME = 1 << 0, /* first part of keyframes of both tables */
    SPOOL_MORE = 1 << 1,     /* the next record continues this one */
};

struct spool_header {
    uint8_t stream[SPOOL_STREAM_BYTES];
    uint64_t first_seq;
    int64_t created_us; /* wall clock */
    uint64_t dropped;   /* batches dropped ever, when it was made */
};

struct spool_record {
    uint64_t seq;
    uint32_t flags;           /* enum spool_flag */
    struct psc_bytes payload; /* an encoded Envelope with a Batch */
};

void spool_header_encode(const struct spool_header *header,
                         uint8_t out[SPOOL_HEADER_BYTES]);

/* Returns 0, PSC_FORMAT, or PSC_UNSUPPORTED for a version of the future. */
PSC_MUST_CHECK int spool_header_decode(const uint8_t in[SPOOL_HEADER_BYTES],
                                       struct spool_header *header);

/* The bytes in front of @record's payload. */
void spool_record_encode(const struct spool_record *record,
                         uint8_t out[SPOOL_RECORD_BYTES]);

/* The fields of the record at the start of @in (SPOOL_RECORD_BYTES at least),
 * whose CRC nobody has looked at; no payload. *@need is its whole length. False
 * if they cannot be a record's. */
bool spool_record_peek(struct psc_bytes in, struct spool_record *record,
                       size_t *need);

/* Decode the record at the start of @in. *@need is its whole length, known
 * from SPOOL_RECORD_BYTES bytes on. Returns 0, PSC_MISSING if @in ends before
 * it does, or PSC_FORMAT. The payload points into @in. */
PSC_MUST_CHECK int spool_record_decode(struct psc_bytes in,
                                       struct spool_record *record,
                                       size_t *need);

#endif
