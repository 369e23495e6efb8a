/* Tables of the fresh tier, written and read. */
#include "proto/stored.h"

#include <string.h>

void stored_begin(struct psc_buf *out, uint32_t n_names)
{
    psc_buf_u8(out, STORED_VERSION);
    psc_buf_varint(out, n_names);
}

void stored_name(struct psc_buf *out, uint8_t flags, uint32_t id)
{
    psc_buf_u8(out, flags);
    psc_buf_varint(out, id);
}

void stored_numbers(struct psc_buf *out, const struct grid_part *part)
{
    psc_buf_string(out, part->gone.data, part->gone.len);
    psc_buf_string(out, part->gaps.data, part->gaps.len);
    psc_buf_append(out, part->values.data, part->values.len);
}

static int damaged(struct psc_error *err, const char *what)
{
    return psc_error_set(err, PSC_FORMAT, "stored table: %s", what);
}

static int add_names(struct grid *g, struct psc_reader *r,
                     struct psc_error *err)
{
    enum { NAME_MIN_BYTES = 2 };
    uint64_t n = psc_read_varint(r);
    if (r->failed || n > psc_reader_left(r) / NAME_MIN_BYTES) {
        return damaged(err, "more names than bytes");
    }
    int rc = g->n == 0 ? grid_reserve(g, (uint32_t)n) : PSC_OK;
    for (uint64_t i = 0; rc == PSC_OK && i < n; i++) {
        uint8_t flags = psc_read_u8(r);
        uint64_t id = psc_read_varint(r);
        if (r->failed || id > INT32_MAX) {
            return damaged(err, "bad name");
        }
        rc = grid_add(g, (uint32_t)id, flags);
    }
    if (rc == PSC_LIMIT) {
        return damaged(err, "too many names");
    }
    return rc == PSC_OK ? PSC_OK
                        : psc_error_set(err, rc, "stored table: no memory");
}

int stored_apply(struct grid *g, struct psc_bytes data, bool keyframe,
                 struct grid_changes *changes, struct psc_error *err)
{
    struct psc_reader r;
    psc_reader_init(&r, data);
    changes->n_changed = 0;
    changes->n_gone = 0;
    if (keyframe) {
        grid_clear(g);
    } else if (!g->complete) {
        return psc_error_set(err, PSC_NEED_KEYFRAME,
                             "stored table: a delta without a keyframe");
    }
    g->complete = false;
    uint8_t version = psc_read_u8(&r);
    if (r.failed) {
        return damaged(err, "it is empty");
    }
    if (version != STORED_VERSION) {
        return psc_error_set(err, PSC_UNSUPPORTED,
                             "stored table: version %u is not known",
                             (unsigned)version);
    }
    int rc = add_names(g, &r, err);
    if (rc != PSC_OK) {
        return rc;
    }
    struct grid_part part;
    part.gone = psc_read_string(&r);
    part.gaps = psc_read_string(&r);
    if (r.failed) {
        return damaged(err, "it is cut short");
    }
    part.values = (struct psc_bytes){r.at, psc_reader_left(&r)};
    return grid_apply(g, 0, &part, changes, err);
}
