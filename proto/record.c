/* Record lists: a version byte, then each record as a length-prefixed string
 * of fields. Writing: the fields go into the buffer first, then the length
 * moves in front of them. Reading: a record is cut out by its length, its
 * fields read from the cut, and what a newer writer put behind them skipped. */
#include "proto/record.h"

#include <string.h>

enum { LIST_VERSION = 1, SHA256_BYTES = 32 };

const char *source_state_name(enum source_state state)
{
    switch (state) {
    case SOURCE_OK: return "ok";
    case SOURCE_SLOW: return "slow";
    case SOURCE_UNAVAILABLE: return "unavailable";
    case SOURCE_FAILING: return "failing";
    default: return "?";
    }
}

void record_list_begin(struct psc_buf *out)
{
    psc_buf_u8(out, LIST_VERSION);
}

static void put_text(struct psc_buf *out, struct psc_bytes text)
{
    psc_buf_string(out, text.data, text.len);
}

/* Put the length of the record that starts at @start in front of it. */
static void close_record(struct psc_buf *out, size_t start)
{
    if (psc_buf_error(out) != PSC_OK) {
        return;
    }
    uint8_t prefix[10];
    size_t len = out->len - start;
    size_t before = out->len;
    psc_buf_varint(out, len);
    if (psc_buf_error(out) != PSC_OK) {
        return;
    }
    size_t n = out->len - before;
    memcpy(prefix, out->data + before, n);
    memmove(out->data + start + n, out->data + start, len);
    memcpy(out->data + start, prefix, n);
}

void record_put_driver(struct psc_buf *out, const struct driver_record *r)
{
    size_t start = out->len;

    put_text(out, r->name);
    put_text(out, r->version);
    put_text(out, r->company);
    put_text(out, r->product);
    put_text(out, r->path);
    put_text(out, r->srcversion);
    put_text(out, r->sha256);
    put_text(out, r->tags);
    psc_buf_svarint(out, r->link_time_us);
    psc_buf_svarint(out, r->loaded_at_us);
    psc_buf_varint(out, r->size_bytes);
    psc_buf_svarint(out, r->loaded_matches_file);
    close_record(out, start);
}

void record_put_event(struct psc_buf *out, const struct event_record *r)
{
    size_t start = out->len;

    psc_buf_varint(out, r->position);
    psc_buf_svarint(out, r->at_us);
    put_text(out, r->source);
    put_text(out, r->event_id);
    put_text(out, r->message);
    put_text(out, r->details);
    close_record(out, start);
}

void record_put_source(struct psc_buf *out, const struct source_record *r)
{
    size_t start = out->len;

    put_text(out, r->name);
    psc_buf_u8(out, (uint8_t)r->state);
    put_text(out, r->message);
    close_record(out, start);
}

void record_put_alias(struct psc_buf *out, const struct alias_record *r)
{
    size_t start = out->len;

    psc_buf_u8(out, r->pool);
    put_text(out, r->tag);
    put_text(out, r->names);
    close_record(out, start);
}

void record_reader_init(struct record_reader *r, struct psc_bytes list)
{
    psc_reader_init(&r->in, list);
    if (list.len > 0 && psc_read_u8(&r->in) != LIST_VERSION) {
        r->in.failed = 1;
    }
}

bool record_reader_ok(const struct record_reader *r)
{
    return r->in.failed == 0;
}

/* Cut out the next record. Returns false at the end and after a failure. */
static bool next_record(struct record_reader *r, struct psc_reader *fields)
{
    if (r->in.failed != 0 || psc_reader_left(&r->in) == 0) {
        return false;
    }
    struct psc_bytes record = psc_read_string(&r->in);
    psc_reader_init(fields, record);
    return r->in.failed == 0;
}

/* A record that lacks a field ends the list. */
static bool finish(struct record_reader *r, const struct psc_reader *fields,
                   bool valid)
{
    if (fields->failed != 0 || !valid) {
        r->in.failed = 1;
    }
    return r->in.failed == 0;
}

bool record_next_driver(struct record_reader *r, struct driver_record *out)
{
    struct psc_reader in;
    if (!next_record(r, &in)) {
        return false;
    }
    out->name = psc_read_string(&in);
    out->version = psc_read_string(&in);
    out->company = psc_read_string(&in);
    out->product = psc_read_string(&in);
    out->path = psc_read_string(&in);
    out->srcversion = psc_read_string(&in);
    out->sha256 = psc_read_string(&in);
    out->tags = psc_read_string(&in);
    out->link_time_us = psc_read_svarint(&in);
    out->loaded_at_us = psc_read_svarint(&in);
    out->size_bytes = psc_read_varint(&in);
    int64_t matches = psc_read_svarint(&in);
    out->loaded_matches_file = (int8_t)matches;
    return finish(
        r, &in,
        matches >= -1 && matches <= 1 &&
            (out->sha256.len == 0 || out->sha256.len == SHA256_BYTES));
}

bool record_next_event(struct record_reader *r, struct event_record *out)
{
    struct psc_reader in;
    if (!next_record(r, &in)) {
        return false;
    }
    out->position = psc_read_varint(&in);
    out->at_us = psc_read_svarint(&in);
    out->source = psc_read_string(&in);
    out->event_id = psc_read_string(&in);
    out->message = psc_read_string(&in);
    out->details = psc_read_string(&in);
    return finish(r, &in, true);
}

bool record_next_source(struct record_reader *r, struct source_record *out)
{
    struct psc_reader in;
    if (!next_record(r, &in)) {
        return false;
    }
    out->name = psc_read_string(&in);
    uint8_t state = psc_read_u8(&in);
    out->state = (enum source_state)state;
    out->message = psc_read_string(&in);
    return finish(r, &in, state <= SOURCE_FAILING);
}

bool record_next_alias(struct record_reader *r, struct alias_record *out)
{
    struct psc_reader in;
    if (!next_record(r, &in)) {
        return false;
    }
    out->pool = psc_read_u8(&in);
    out->tag = psc_read_string(&in);
    out->names = psc_read_string(&in);
    return finish(r, &in, true);
}
