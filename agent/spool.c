/* Appending to the spool, dropping what is too much, acknowledging.
 *
 * Happy path: spool_append() -> write_record() to the last segment's file.
 * What can fail: making or writing a segment (to memory instead, tried again
 * later), a full memory (its oldest keyframe group goes, counted), the state
 * file (stays dirty and is tried at the next sync). */
#include "agent/spool_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"

#define DROP_LOG_US (60 * PSC_US_PER_S)

enum { HOUR_S = 3600, MEMORY_GROUPS = 8, SEGMENTS_MAX = 65536 };

static int64_t hour_of(int64_t wall_us)
{
    return wall_us / (HOUR_S * 1000000LL);
}

void spool_path(const struct spool *s, uint32_t number,
                char out[SPOOL_PATH_BYTES])
{
    (void)snprintf(out, SPOOL_PATH_BYTES, "%s/%08" PRIx32 ".seg", s->dir,
                   number);
}

void spool_set_trouble(struct spool *s, int status, const char *what)
{
    if (!s->trouble_told) {
        s->trouble_told = true;
        (void)snprintf(s->trouble_text, sizeof(s->trouble_text),
                       "%s: %s; batches wait in memory, up to %zu bytes", what,
                       uv_strerror(status), s->o.memory_bytes);
        psc_log_warn("spool %s: %s", s->dir, s->trouble_text);
    }
    s->trouble = status;
}

const char *spool_trouble(const struct spool *s)
{
    return s->trouble == 0 ? NULL : s->trouble_text;
}

uint64_t spool_bytes(const struct spool *s)
{
    return s->bytes + s->memory.len;
}

bool spool_memory_record(const struct spool *s, size_t at,
                         struct spool_record *record, size_t *size)
{
    if (at >= s->memory.len) {
        return false;
    }
    struct psc_bytes rest = {s->memory.data + at, s->memory.len - at};
    return spool_record_decode(rest, record, size) == PSC_OK;
}

void spool_consume_memory(struct spool *s, size_t n)
{
    psc_buf_consume(&s->memory, n);
    s->memory_base += n;
}

/* --- segments --- */

struct spool_segment *spool_add_segment(struct spool *s)
{
    if (s->n_segments == s->cap_segments) {
        uint32_t cap = s->cap_segments == 0 ? 16 : s->cap_segments * 2;
        void *grown = realloc(s->segments, cap * sizeof(*s->segments));
        if (grown == NULL) {
            return NULL;
        }
        s->segments = grown;
        s->cap_segments = cap;
    }
    struct spool_segment *g = &s->segments[s->n_segments++];
    memset(g, 0, sizeof(*g));
    return g;
}

uint64_t spool_count_unacked(const struct spool *s, const uint8_t *stream,
                             uint64_t first, uint64_t last)
{
    uint64_t acked = spool_acked(s, stream);
    if (last < first || last <= acked) {
        return 0;
    }
    return last - (acked >= first ? acked : first - 1);
}

static void count_dropped(struct spool *s, uint64_t n)
{
    if (n == 0) {
        return;
    }
    s->dropped += n;
    s->state_dirty = true;
    uint64_t suppressed;
    if (psc_log_limit_pass(&s->drop_log, psc_clock_mono_us(), DROP_LOG_US,
                           &suppressed)) {
        psc_log_warn(
            "spool %s is full: the oldest batches are dropped, %" PRIu64
            " so far",
            s->dir, s->dropped);
    }
}

void spool_drop_segment(struct spool *s, uint32_t i)
{
    struct spool_segment *g = &s->segments[i];
    uint64_t lost =
        spool_count_unacked(s, g->stream, g->first_seq, g->last_seq);
    count_dropped(s, lost);
    if (lost > 0) {
        spool_save_state(s); /* before they are gone: kill -9 may follow */
    }
    if (i + 1 == s->n_segments) {
        spool_seal(s);
    }
    char path[SPOOL_PATH_BYTES];
    spool_path(s, g->number, path);
    /* If it cannot be deleted, the next start finds and offers it again; the
     * collector's cursor tells that it is stored. */
    (void)s->o.fs->unlink(s->o.fs_user, path);
    s->bytes -= g->bytes;
    s->n_segments--;
    memmove(g, g + 1, (s->n_segments - i) * sizeof(*g));
}

void spool_cut_segment(struct spool *s, const struct spool_segment *g)
{
    char path[SPOOL_PATH_BYTES];
    spool_path(s, g->number, path);
    int fd = s->o.fs->open(s->o.fs_user, path, UV_FS_O_RDWR);
    if (fd >= 0) {
        (void)s->o.fs->truncate(s->o.fs_user, fd, (int64_t)g->bytes);
        (void)s->o.fs->close(s->o.fs_user, fd);
    }
}

void spool_seal(struct spool *s)
{
    if (s->fd >= 0) {
        int status = s->unsynced ? s->o.fs->sync(s->o.fs_user, s->fd) : 0;
        if (status != 0) {
            spool_set_trouble(s, status, "cannot sync");
        }
        s->unsynced = false;
        (void)s->o.fs->close(s->o.fs_user, s->fd);
        s->fd = -1;
    }
}

static int write_all(struct spool *s, int fd, struct psc_bytes head,
                     struct psc_bytes body, uint64_t offset)
{
    size_t done = 0;
    while (done < head.len + body.len) {
        uv_buf_t bufs[2];
        unsigned n_bufs = 0;
        if (done < head.len) {
            bufs[n_bufs++] = uv_buf_init((char *)(uintptr_t)(head.data + done),
                                         (unsigned)(head.len - done));
        }
        size_t skip = done > head.len ? done - head.len : 0;
        if (body.len > skip) {
            bufs[n_bufs++] = uv_buf_init((char *)(uintptr_t)(body.data + skip),
                                         (unsigned)(body.len - skip));
        }
        int64_t n = s->o.fs->write(s->o.fs_user, fd, bufs, n_bufs,
                                   (int64_t)(offset + done));
        if (n <= 0) {
            return n < 0 ? (int)n : UV_ENOSPC;
        }
        done += (size_t)n;
    }
    return 0;
}

/* Make a segment that begins with @first_seq the one appended to. */
static int roll(struct spool *s, uint64_t first_seq, int64_t wall_us)
{
    spool_seal(s);
    char path[SPOOL_PATH_BYTES];
    int fd = UV_EEXIST;
    for (int i = 0; i < 100 && fd == UV_EEXIST; i++) {
        /* A file in the way is one that could not be deleted. */
        spool_path(s, s->next_number++, path);
        fd = s->o.fs->open(s->o.fs_user, path,
                           UV_FS_O_RDWR | UV_FS_O_CREAT | UV_FS_O_EXCL);
    }
    if (fd < 0) {
        spool_set_trouble(s, fd, "cannot make a segment");
        return PSC_IO;
    }
    struct spool_header header = {
        .first_seq = first_seq, .created_us = wall_us, .dropped = s->dropped};
    memcpy(header.stream, s->stream, sizeof(header.stream));
    uint8_t bytes[SPOOL_HEADER_BYTES];
    spool_header_encode(&header, bytes);
    struct psc_bytes head = {bytes, sizeof(bytes)};
    struct psc_bytes none = {NULL, 0};
    int status = write_all(s, fd, head, none, 0);
    struct spool_segment *g = status == 0 ? spool_add_segment(s) : NULL;
    if (g == NULL) {
        (void)s->o.fs->close(s->o.fs_user, fd);
        (void)s->o.fs->unlink(s->o.fs_user, path);
        spool_set_trouble(s, status == 0 ? UV_ENOMEM : status,
                          "cannot make a segment");
        return PSC_IO;
    }
    memcpy(g->stream, s->stream, sizeof(g->stream));
    g->first_seq = first_seq;
    g->last_seq = first_seq - 1;
    g->bytes = SPOOL_HEADER_BYTES;
    g->number = s->next_number - 1;
    s->bytes += g->bytes;
    s->fd = fd;
    s->unsynced = true;
    (void)s->o.fs->sync_dir(s->o.fs_user, s->dir);
    return PSC_OK;
}

/* --- appending --- */

static bool segment_ends(const struct spool *s, uint64_t seq)
{
    if (s->fd < 0 || s->n_segments == 0) {
        return true;
    }
    const struct spool_segment *g = &s->segments[s->n_segments - 1];
    return g->bytes >= s->o.segment_bytes || g->last_seq + 1 != seq ||
           !same_stream(g->stream, s->stream);
}

bool spool_wants_keyframe(const struct spool *s, int64_t wall_us)
{
    if (s->need_roll || hour_of(wall_us) != s->hour) {
        return true;
    }
    if (s->n_memory > 0 || s->trouble != 0) {
        return s->memory_since_roll >= s->o.memory_bytes / MEMORY_GROUPS;
    }
    return segment_ends(s, spool_next_seq(s));
}

/* Drop the oldest segments until @more bytes fit. The one appended to stays,
 * however small the bound. */
static void make_room(struct spool *s, size_t more)
{
    while (s->n_segments > (s->fd >= 0 ? 1u : 0u) &&
           (s->bytes + more > s->o.max_bytes || s->n_segments > SEGMENTS_MAX)) {
        spool_drop_segment(s, 0);
    }
}

/* Append to the disk; a keyframe may begin a segment if @may_roll. */
static int write_record(struct spool *s, const struct spool_record *record,
                        bool roll_now, int64_t wall_us)
{
    if ((record->flags & SPOOL_KEYFRAME) != 0 &&
        (roll_now || segment_ends(s, record->seq))) {
        int rc = roll(s, record->seq, wall_us);
        if (rc != PSC_OK) {
            return rc;
        }
    }
    if (s->fd < 0) {
        return PSC_IO;
    }
    size_t size = SPOOL_RECORD_BYTES + record->payload.len;
    make_room(s, size);
    struct spool_segment *g = &s->segments[s->n_segments - 1];
    uint8_t head[SPOOL_RECORD_BYTES];
    spool_record_encode(record, head);
    struct psc_bytes front = {head, sizeof(head)};
    int status = write_all(s, s->fd, front, record->payload, g->bytes);
    if (status != 0) {
        /* A torn record; if it cannot be cut now, it is at the next start or
         * overwritten by the next append. */
        (void)s->o.fs->truncate(s->o.fs_user, s->fd, (int64_t)g->bytes);
        spool_set_trouble(s, status, "cannot write");
        return PSC_IO;
    }
    g->bytes += size;
    g->last_seq = record->seq;
    s->bytes += size;
    s->unsynced = true;
    return PSC_OK;
}

/* Drop the oldest group of records in memory, up to the next keyframe. */
static void drop_memory_group(struct spool *s)
{
    size_t at = 0;
    uint64_t first = 0;
    uint64_t last = 0;
    uint32_t n = 0;
    struct spool_record record;
    size_t size;
    while (spool_memory_record(s, at, &record, &size)) {
        if (n > 0 && (record.flags & SPOOL_KEYFRAME) != 0) {
            break;
        }
        first = n == 0 ? record.seq : first;
        last = record.seq;
        at += size;
        n++;
    }
    count_dropped(s, spool_count_unacked(s, s->stream, first, last));
    spool_consume_memory(s, at);
    s->n_memory -= n;
    if (s->n_memory == 0) {
        s->need_roll = true;
        s->memory_since_roll = 0;
    }
}

static int append_memory(struct spool *s, const struct spool_record *record)
{
    size_t size = SPOOL_RECORD_BYTES + record->payload.len;
    while (s->n_memory > 0 && s->memory.len + size > s->o.memory_bytes) {
        drop_memory_group(s);
    }
    if (s->need_roll && (record->flags & SPOOL_KEYFRAME) == 0) {
        /* Its base is gone: the reader could make nothing of it. */
        count_dropped(s, 1);
        return PSC_OK;
    }
    int rc = psc_buf_reserve(&s->memory, size);
    if (rc != PSC_OK) {
        s->memory.error = PSC_OK; /* what is in it is whole */
        return rc;
    }
    uint8_t head[SPOOL_RECORD_BYTES];
    spool_record_encode(record, head);
    psc_buf_append(&s->memory, head, sizeof(head));
    psc_buf_append(&s->memory, record->payload.data, record->payload.len);
    s->n_memory++;
    s->memory_since_roll = (record->flags & SPOOL_KEYFRAME) != 0
                               ? size
                               : s->memory_since_roll + size;
    return PSC_OK;
}

/* Write memory's records to the disk; the first *@at bytes are done. */
static void write_memory(struct spool *s, size_t *at)
{
    struct spool_record record;
    size_t size;
    *at = 0;
    while (spool_memory_record(s, *at, &record, &size)) {
        if (write_record(s, &record, false, s->hour * HOUR_S * 1000000LL) !=
            PSC_OK) {
            return;
        }
        *at += size;
        s->n_memory--;
    }
}

static void tell_recovered(struct spool *s)
{
    if (s->trouble_told) {
        s->trouble_told = false;
        psc_log_info("spool %s: the disk works again", s->dir);
    }
}

void spool_flush_memory(struct spool *s)
{
    s->trouble = 0;
    while (s->n_memory > 0 && s->trouble == 0) {
        size_t at;
        write_memory(s, &at);
        spool_consume_memory(s, at);
        if (s->n_memory > 0 && s->trouble == 0) {
            /* The segment it continues is gone. */
            drop_memory_group(s);
        }
    }
    if (s->trouble == 0) {
        tell_recovered(s);
        psc_buf_fini(&s->memory);
        psc_buf_init(&s->memory, s->o.memory_bytes + SPOOL_PAYLOAD_MAX_BYTES +
                                     SPOOL_RECORD_BYTES);
        s->memory_since_roll = 0;
    }
}

static void retry_disk(struct spool *s, int64_t mono_us)
{
    if (s->trouble == 0 || mono_us < s->retry_us) {
        return;
    }
    s->retry_us = mono_us + SPOOL_RETRY_US;
    if (s->fd < 0 && s->n_memory == 0) {
        s->trouble = 0; /* the next append makes a segment, or fails again */
        return;
    }
    spool_flush_memory(s);
}

int spool_append(struct spool *s, struct psc_bytes payload, uint32_t flags,
                 int64_t wall_us, int64_t mono_us)
{
    if (payload.len > SPOOL_PAYLOAD_MAX_BYTES) {
        return PSC_LIMIT;
    }
    retry_disk(s, mono_us);
    struct spool_record record = {
        .seq = spool_next_seq(s), .flags = flags, .payload = payload};
    bool key = (flags & SPOOL_KEYFRAME) != 0;
    bool roll_now = key && (s->need_roll || hour_of(wall_us) != s->hour);
    int rc = s->trouble == 0 && s->n_memory == 0
                 ? write_record(s, &record, roll_now, wall_us)
                 : PSC_IO;
    if (rc != PSC_OK) {
        if (s->retry_us <= mono_us) {
            s->retry_us = mono_us + SPOOL_RETRY_US;
        }
        rc = append_memory(s, &record);
    }
    if (rc == PSC_OK && s->trouble == 0 && s->n_memory == 0) {
        tell_recovered(s);
    }
    if (rc == PSC_OK) {
        s->last_seq = record.seq;
        s->need_roll = s->need_roll && !key;
        s->hour = key ? hour_of(wall_us) : s->hour;
    }
    return rc;
}

bool spool_sync(struct spool *s, int64_t mono_us)
{
    retry_disk(s, mono_us);
    if (s->unsynced && s->fd >= 0) {
        int status = s->o.fs->sync(s->o.fs_user, s->fd);
        s->unsynced = status != 0;
        if (status != 0) {
            spool_set_trouble(s, status, "cannot sync");
            s->retry_us = mono_us + SPOOL_RETRY_US;
        }
    }
    if (s->state_dirty) {
        spool_save_state(s);
    }
    return s->trouble == 0 && s->n_memory == 0 && !s->unsynced;
}

/* --- sending --- */

bool spool_front(const struct spool *s, uint8_t stream[SPOOL_STREAM_BYTES],
                 uint64_t *last_seq)
{
    const uint8_t *front =
        s->n_segments > 0 ? s->segments[0].stream : s->stream;
    memcpy(stream, front, SPOOL_STREAM_BYTES);
    if (same_stream(front, s->stream)) {
        *last_seq = s->last_seq;
        return true;
    }
    *last_seq = 0;
    for (uint32_t i = 0; i < s->n_segments; i++) {
        if (same_stream(s->segments[i].stream, front)) {
            *last_seq = s->segments[i].last_seq;
        }
    }
    return false;
}

uint64_t spool_acked(const struct spool *s,
                     const uint8_t stream[SPOOL_STREAM_BYTES])
{
    return same_stream(stream, s->acked_stream) ? s->acked : 0;
}

/* Records in memory go by whole groups, as segments do, so that the group
 * with the cursor can still be restated. */
static void ack_memory(struct spool *s)
{
    size_t at = 0;
    size_t group_at = 0;
    uint32_t n = 0;
    uint32_t n_group = 0;
    struct spool_record record;
    size_t size;
    while (spool_memory_record(s, at, &record, &size) &&
           record.seq <= s->acked) {
        if ((record.flags & SPOOL_KEYFRAME) != 0) {
            group_at = at;
            n_group = n;
        }
        at += size;
        n++;
    }
    if (group_at > 0) {
        spool_consume_memory(s, group_at);
        s->n_memory -= n_group;
    }
}

void spool_ack(struct spool *s, const uint8_t stream[SPOOL_STREAM_BYTES],
               uint64_t seq)
{
    uint8_t front[SPOOL_STREAM_BYTES];
    uint64_t last;
    bool active = spool_front(s, front, &last);
    if (!same_stream(front, stream)) {
        return;
    }
    if (!same_stream(stream, s->acked_stream)) {
        memcpy(s->acked_stream, stream, SPOOL_STREAM_BYTES);
        s->acked = 0;
    }
    seq = seq < last ? seq : last;
    if (seq <= s->acked) {
        return;
    }
    s->acked = seq;
    while (s->n_segments > 1 && same_stream(s->segments[1].stream, stream) &&
           s->segments[1].first_seq <= seq) {
        spool_drop_segment(s, 0);
        s->state_dirty = true;
    }
    if (active && s->n_memory > 0) {
        ack_memory(s);
    }
}

uint64_t spool_give_up(struct spool *s,
                       const uint8_t stream[SPOOL_STREAM_BYTES], uint64_t seq)
{
    uint64_t lost = spool_count_unacked(s, stream, 1, seq);
    s->dropped += lost;
    spool_save_state(s); /* before the collector can tell of the gap */
    spool_ack(s, stream, seq);
    return lost;
}

void spool_finish_front(struct spool *s)
{
    uint8_t front[SPOOL_STREAM_BYTES];
    uint64_t last;
    if (spool_front(s, front, &last)) {
        return;
    }
    spool_ack(s, front, last);
    while (s->n_segments > 0 && same_stream(s->segments[0].stream, front)) {
        spool_drop_segment(s, 0);
    }
    s->state_dirty = true;
}

void spool_skip(struct spool *s, const uint8_t stream[SPOOL_STREAM_BYTES],
                uint64_t seq)
{
    while (s->n_segments > 0 && same_stream(s->segments[0].stream, stream) &&
           s->segments[0].first_seq <= seq) {
        spool_drop_segment(s, 0);
    }
    if (s->fd < 0) {
        s->need_roll = true;
    }
    struct spool_record record;
    size_t size;
    while (same_stream(s->stream, stream) &&
           spool_memory_record(s, 0, &record, &size) && record.seq <= seq) {
        drop_memory_group(s);
    }
}
