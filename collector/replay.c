/* Turns a chunk by time.
 *
 * Happy path: replay_open() opens a cursor for every entry and queues all at
 * snapshot 0; replay_next() takes the queue of its snapshot, tells the point
 * of each cursor in it, and queues that where its next point is.
 *
 * Failures: damage that only shows on the way ends the replay there; what was
 * told before was right as far as checksums tell. */
#include "collector/replay.h"

#include <stdlib.h>
#include <string.h>

#include "sql/codec/chunk_writer.h"

enum { FIRST_ENTRIES = 256 };

struct replay_entry {
    struct chunk_entry at; /* at a point that is still to be told */
    uint32_t id;
    uint32_t next; /* in its queue: 1 + index, 0: none */
    bool present;  /* as last told */
    uint8_t flags;
    int64_t value;
};

void replay_init(struct replay *r)
{
    *r = (struct replay){.rc = PSC_OK};
}

void replay_fini(struct replay *r)
{
    free(r->changes);
    free(r->entries);
    free(r->queue);
    replay_init(r);
}

static int grow(void **array, uint32_t *cap, uint32_t need, size_t size)
{
    uint32_t want = *cap > 0 ? *cap : FIRST_ENTRIES;
    while (want < need) {
        want *= 2;
    }
    if (want == *cap) {
        return PSC_OK;
    }
    void *grown = realloc(*array, want * size);
    if (grown == NULL) {
        return PSC_NOMEM;
    }
    *array = grown;
    *cap = want;
    return PSC_OK;
}

/* One more cursor, and room for what it may tell at one snapshot. */
static int add_entry(struct replay *r, const struct chunk_block *b, uint32_t i)
{
    void *entries = r->entries;
    void *changes = r->changes;
    if (r->n_entries == CHUNK_ENTRIES_MAX) {
        return PSC_FORMAT;
    }
    int rc =
        grow(&entries, &r->cap_entries, r->n_entries + 1, sizeof(*r->entries));
    r->entries = entries;
    if (rc == PSC_OK) {
        rc = grow(&changes, &r->cap_changes, r->n_entries + 1,
                  sizeof(*r->changes));
        r->changes = changes;
    }
    if (rc != PSC_OK) {
        return rc;
    }
    struct replay_entry *e = &r->entries[r->n_entries];
    e->id = b->ids[i];
    e->present = false;
    chunk_entry_open(&e->at, b, i);
    if (!chunk_next(&e->at)) {
        return PSC_FORMAT;
    }
    r->n_entries++;
    return PSC_OK;
}

/* The entries of a block; of @id alone unless it is 0. */
static int add_block(struct replay *r, uint32_t block, struct psc_bytes levels,
                     struct psc_bytes data, uint32_t id, struct psc_error *err)
{
    struct chunk_block b;
    int rc = chunk_block_at(&b, &r->chunk, block, data, levels, err);
    if (rc != PSC_OK) {
        return rc;
    }
    for (uint32_t i = id == 0 ? 0 : chunk_block_find(&b, id);
         rc == PSC_OK && i < b.n && (id == 0 || b.ids[i] == id); i++) {
        rc = add_entry(r, &b, i);
    }
    return rc == PSC_OK ? PSC_OK
                        : psc_error_set(err, rc, "chunk: block %u: %s", block,
                                        psc_strerror(rc));
}

static int add_entries(struct replay *r, struct psc_bytes levels,
                       struct psc_bytes data, const uint32_t *only,
                       uint32_t n_only, struct psc_error *err)
{
    uint32_t n = only == NULL ? r->chunk.n_blocks : n_only;
    int rc = PSC_OK;
    for (uint32_t i = 0; rc == PSC_OK && i < n; i++) {
        struct chunk_slice slice = {.block = i};
        uint32_t id = only == NULL ? 0 : only[i];
        rc = only == NULL ? PSC_OK : chunk_find(&r->chunk, id, &slice);
        if (rc == PSC_OK) {
            rc = add_block(r, slice.block, levels, data, id, err);
        } else if (rc == PSC_MISSING) {
            rc = PSC_OK;
        } else {
            (void)psc_error_set(err, rc, "chunk: its index is damaged");
        }
    }
    return rc;
}

static void queue_entry(struct replay *r, uint32_t index, uint32_t snapshot)
{
    r->entries[index].next = r->queue[snapshot];
    r->queue[snapshot] = index + 1;
}

int replay_open(struct replay *r, struct psc_bytes head,
                struct psc_bytes levels, struct psc_bytes data,
                const uint32_t *only, uint32_t n_only, struct psc_error *err)
{
    r->n_entries = 0;
    r->n_changes = 0;
    r->rc = PSC_OK;
    int rc = chunk_open(&r->chunk, head, &chunk_openssl, err);
    if (rc == PSC_OK) {
        rc = add_entries(r, levels, data, only, n_only, err);
    }
    if (rc != PSC_OK) {
        return rc;
    }
    void *queue = r->queue;
    rc = grow(&queue, &r->cap_queue, r->chunk.snapshots, sizeof(*r->queue));
    r->queue = queue;
    if (rc != PSC_OK) {
        return psc_error_set(err, rc, "out of memory");
    }
    memset(r->queue, 0, r->chunk.snapshots * sizeof(*r->queue));
    for (uint32_t i = r->n_entries; i-- > 0;) {
        queue_entry(r, i, 0); /* they come in order of id */
    }
    chunk_times_init(&r->times, &r->chunk);
    return PSC_OK;
}

static void tell(struct replay *r, const struct replay_entry *e)
{
    r->changes[r->n_changes++] = (struct replay_change){
        .id = e->id,
        .flags = e->flags,
        .present = e->present,
        .value = e->value,
    };
}

/* The cursor's point is that of the present snapshot. Returns false if damage
 * shows. */
static bool take_point(struct replay *r, uint32_t index)
{
    struct replay_entry *e = &r->entries[index];
    bool was = e->present;
    uint32_t column = r->chunk.columns == 1 ? 0 : COL_BYTES;
    e->present = e->at.present;
    e->flags = e->at.flags;
    e->value = e->at.values[column];
    if (was || e->present) {
        tell(r, e);
    }
    if (!chunk_next(&e->at)) {
        return !e->at.failed;
    }
    if (e->at.snapshot <= r->times.snapshot ||
        e->at.snapshot >= r->chunk.snapshots) {
        return false;
    }
    queue_entry(r, index, e->at.snapshot);
    return true;
}

bool replay_next(struct replay *r)
{
    if (r->rc != PSC_OK || !chunk_times_next(&r->times)) {
        r->rc = r->times.failed ? PSC_FORMAT : r->rc;
        return false;
    }
    r->n = r->times.n;
    r->at_us = r->times.at_us;
    r->boot = r->chunk.boots + (size_t)r->times.boot * CHUNK_BOOT_BYTES;
    r->n_changes = 0;
    uint32_t next = r->queue[r->times.snapshot];
    while (next != 0) {
        uint32_t index = next - 1;
        next = r->entries[index].next;
        if (!take_point(r, index)) {
            r->rc = PSC_FORMAT;
            return false;
        }
    }
    return true;
}

void replay_all(struct replay *r)
{
    r->n_changes = 0;
    for (uint32_t i = 0; i < r->n_entries; i++) {
        if (r->entries[i].present) {
            tell(r, &r->entries[i]);
        }
    }
}
