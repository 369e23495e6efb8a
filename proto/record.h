/* Records that travel in the bytes fields of a batch: drivers, aliases of
 * tags, events and source states. Each list is a version byte (1), then
 * records one after the other, each a length-prefixed string of fields; a
 * reader skips fields that it does not know at a record's end. */
#ifndef PSC_PROTO_RECORD_H
#define PSC_PROTO_RECORD_H

#include <stdbool.h>

#include "common/buf.h"
#include "common/error.h"

struct driver_record {
    struct psc_bytes name, version, company, product, path;
    struct psc_bytes srcversion; /* Linux: checksum of the sources */
    struct psc_bytes sha256;     /* raw, 32 bytes or none */
    struct psc_bytes tags;       /* candidate tags, separated by blanks */
    int64_t link_time_us;        /* 0: unknown */
    int64_t loaded_at_us;        /* wall clock, 0: unknown */
    uint64_t size_bytes;         /* of the loaded image, 0: unknown */
    int8_t loaded_matches_file;  /* 1 yes, 0 no, -1 unknown */
};

struct event_record {
    uint64_t position;         /* in the source's own order within a boot (a
                                  kernel log sequence number + 1); 0: none.
                                  The collector stores each one once. */
    int64_t at_us;             /* wall clock of the agent */
    struct psc_bytes source;   /* "kernel", "Srv" … */
    struct psc_bytes event_id; /* "2019", "page_allocation_failure" … */
    struct psc_bytes message;
    struct psc_bytes details; /* a JSON object, or empty */
};

enum source_state {
    SOURCE_OK = 0,
    SOURCE_SLOW = 1,        /* works, but sampled less often: see message */
    SOURCE_UNAVAILABLE = 2, /* cannot run here: see message */
    SOURCE_FAILING = 3,     /* ran before, fails now */
};
const char *source_state_name(enum source_state state);

struct source_record {
    struct psc_bytes name;
    enum source_state state;
    struct psc_bytes message;
};

/* Other names of what a tag accounts: a slab cache that was merged with others
 * keeps the name of the first. */
struct alias_record {
    uint8_t pool;           /* enum pool */
    struct psc_bytes tag;   /* its canonical text */
    struct psc_bytes names; /* the others, separated by blanks (a blank or
                               backslash in one is \xHH) */
};

/* Start a list, then append records (sticky errors as in psc_buf). Texts are
 * raw bytes: who stores them checks them. */
void record_list_begin(struct psc_buf *out);
void record_put_driver(struct psc_buf *out, const struct driver_record *r);
void record_put_event(struct psc_buf *out, const struct event_record *r);
void record_put_source(struct psc_buf *out, const struct source_record *r);
void record_put_alias(struct psc_buf *out, const struct alias_record *r);

/* Iterate: start with record_reader_init(), then call the getter until it
 * returns false; then record_reader_ok() says whether all was well-formed. No
 * bytes at all are an empty list. Texts point into @list. */
struct record_reader {
    struct psc_reader in;
};
void record_reader_init(struct record_reader *r, struct psc_bytes list);
bool record_next_driver(struct record_reader *r, struct driver_record *out);
bool record_next_event(struct record_reader *r, struct event_record *out);
bool record_next_source(struct record_reader *r, struct source_record *out);
bool record_next_alias(struct record_reader *r, struct alias_record *out);
bool record_reader_ok(const struct record_reader *r);

#endif
