/* Reading the spool in order, in bounded chunks: the uplink's side, and the
 * scan at the start.
 *
 * Happy path: spool_read() finds the segment of the seq wanted, opens it if it
 * is another one than before, and decodes records from a chunk of the file.
 * What fails: a damaged record or a file that is gone (the rest of its segment
 * is dropped and counted), reading (PSC_IO, tried again by the caller; after
 * FAILED_MAX times in a row as if damaged). */
#include "agent/spool_private.h"

#include <inttypes.h>

#include "common/log.h"

enum {
    CHUNK_BYTES = 16 * 1024,
    KEEP_BYTES = 64 * 1024,
    FAILED_MAX = 5, /* then a segment that cannot be read is given up */
};

static void reset_buffer(struct spool_reader *r)
{
    psc_buf_fini(&r->buf);
    psc_buf_init(&r->buf,
                 SPOOL_PAYLOAD_MAX_BYTES + SPOOL_RECORD_BYTES + CHUNK_BYTES);
    r->used = 0;
}

void spool_reader_init(struct spool_reader *r)
{
    memset(r, 0, sizeof(*r));
    r->fd = -1;
    r->seq = 1;
    reset_buffer(r);
}

void spool_reader_close(struct spool_reader *r, struct spool *s)
{
    if (r->fd >= 0) {
        (void)s->o.fs->close(s->o.fs_user, r->fd);
        r->fd = -1;
    }
    if (r->buf.cap > KEEP_BYTES) {
        reset_buffer(r);
    }
    psc_buf_reset(&r->buf);
    r->used = 0;
    r->at = 0;
    r->limit = UINT64_MAX;
}

void spool_reader_fini(struct spool_reader *r, struct spool *s)
{
    spool_reader_close(r, s);
    psc_buf_fini(&r->buf);
}

void spool_reader_seek(struct spool_reader *r, struct spool *s,
                       const uint8_t stream[SPOOL_STREAM_BYTES], uint64_t seq)
{
    if (!same_stream(r->stream, stream) || seq < r->seq) {
        spool_reader_close(r, s);
        r->memory_at = 0;
    }
    if (!same_stream(r->stream, stream) || seq > r->seq || seq <= r->part_seq) {
        r->part_seq = 0;
    }
    memcpy(r->stream, stream, SPOOL_STREAM_BYTES);
    r->seq = seq;
}

/* @record is what the reader gives. */
static void advance(struct spool_reader *r, const struct spool_record *record)
{
    if ((record->flags & SPOOL_MORE) == 0) {
        r->part_seq = 0;
    } else if (r->part_seq == 0 || (record->flags & SPOOL_KEYFRAME) != 0) {
        r->part_seq = record->seq;
    }
    r->seq = record->seq + 1;
}

/* Have at least @need unread bytes in the buffer, if the file has them. */
static int fill(struct spool_reader *r, struct spool *s, size_t need)
{
    if (r->buf.len - r->used >= need) {
        return PSC_OK;
    }
    psc_buf_consume(&r->buf, r->used);
    r->at += r->used;
    r->used = 0;
    size_t want = need > CHUNK_BYTES ? need : CHUNK_BYTES;
    while (r->buf.len < need) {
        size_t room = want - r->buf.len;
        uint64_t left = r->limit - (r->at + r->buf.len);
        room = room < left ? room : (size_t)left;
        if (room == 0) {
            break;
        }
        int rc = psc_buf_reserve(&r->buf, room);
        if (rc != PSC_OK) {
            psc_buf_reset(&r->buf);
            return rc;
        }
        int64_t n = s->o.fs->read(s->o.fs_user, r->fd, r->buf.data + r->buf.len,
                                  room, (int64_t)(r->at + r->buf.len));
        if (n < 0) {
            return PSC_IO;
        }
        if (n == 0) {
            break;
        }
        r->buf.len += (size_t)n;
    }
    return PSC_OK;
}

int spool_reader_reopen(struct spool_reader *r, struct spool *s,
                        uint32_t number)
{
    spool_reader_close(r, s);
    char path[SPOOL_PATH_BYTES];
    spool_path(s, number, path);
    r->fd = s->o.fs->open(s->o.fs_user, path, UV_FS_O_RDONLY);
    if (r->fd < 0) {
        bool gone = r->fd == UV_ENOENT;
        r->fd = -1;
        return gone ? PSC_FORMAT : PSC_IO;
    }
    r->number = number;
    int rc = fill(r, s, SPOOL_HEADER_BYTES);
    if (rc == PSC_OK && r->buf.len < SPOOL_HEADER_BYTES) {
        rc = PSC_FORMAT;
    }
    if (rc == PSC_OK) {
        r->used = SPOOL_HEADER_BYTES;
    } else {
        spool_reader_close(r, s);
    }
    return rc;
}

int spool_reader_open(struct spool_reader *r, struct spool *s, uint32_t number,
                      struct spool_header *header)
{
    int rc = spool_reader_reopen(r, s, number);
    if (rc == PSC_OK) {
        rc = spool_header_decode(r->buf.data, header);
    }
    if (rc != PSC_OK) {
        spool_reader_close(r, s);
    }
    return rc;
}

static struct psc_bytes unread(const struct spool_reader *r)
{
    struct psc_bytes rest = {r->buf.data + r->used, r->buf.len - r->used};
    return rest;
}

int spool_reader_record(struct spool_reader *r, struct spool *s,
                        struct spool_record *record)
{
    size_t need = SPOOL_RECORD_BYTES;
    for (;;) {
        int rc = fill(r, s, need);
        if (rc != PSC_OK) {
            return rc;
        }
        struct psc_bytes rest = unread(r);
        if (rest.len < need) {
            return rest.len == 0 ? PSC_MISSING : PSC_FORMAT;
        }
        rc = spool_record_decode(rest, record, &need);
        if (rc != PSC_MISSING) {
            r->used += rc == PSC_OK ? need : 0;
            return rc;
        }
    }
}

/* Whether @seq may stand @bytes behind a record of seq @before: each between
 * them takes room. */
static bool may_follow(uint64_t seq, uint64_t before, uint64_t bytes)
{
    return before == 0 ||
           (seq > before && seq - before - 1 <= bytes / SPOOL_RECORD_BYTES);
}

int spool_reader_survey(struct spool_reader *r, struct spool *s,
                        struct spool_survey *survey)
{
    /* Where the next record begins if the last one was as long as it said:
     * there its head will do. */
    uint64_t expected = r->at + r->used;
    for (;;) {
        int rc = fill(r, s, SPOOL_RECORD_BYTES);
        if (rc != PSC_OK) {
            return rc;
        }
        struct psc_bytes rest = unread(r);
        if (rest.len < SPOOL_RECORD_BYTES) {
            return PSC_OK;
        }
        uint64_t skipped = r->at + r->used - expected;
        struct spool_record record;
        size_t need;
        bool found = spool_record_peek(rest, &record, &need) &&
                     may_follow(record.seq, survey->newest, skipped);
        if (found) {
            rc = fill(r, s, need);
            if (rc != PSC_OK) {
                return rc;
            }
            rest = unread(r);
            bool head_will_do = skipped == 0 && survey->newest > 0;
            found = rest.len >= need &&
                    (spool_record_decode(rest, &record, &need) == PSC_OK ||
                     head_will_do);
        }
        r->used += found ? need : 1;
        if (found) {
            survey->oldest = survey->oldest > 0 ? survey->oldest : record.seq;
            survey->newest = record.seq;
            expected = r->at + r->used;
        }
    }
}

/* The first segment of the reader's stream that has its seq or a later one. */
static struct spool_segment *find_segment(const struct spool *s,
                                          const struct spool_reader *r)
{
    for (uint32_t i = 0; i < s->n_segments; i++) {
        struct spool_segment *g = &s->segments[i];
        if (same_stream(g->stream, r->stream) && g->last_seq >= r->seq &&
            g->last_seq >= g->first_seq) {
            return g;
        }
    }
    return NULL;
}

static int read_memory(const struct spool *s, struct spool_reader *r,
                       struct spool_record *record)
{
    if (!same_stream(s->stream, r->stream)) {
        return PSC_MISSING;
    }
    if (r->memory_at < s->memory_base) {
        r->memory_at = s->memory_base;
    }
    size_t at = (size_t)(r->memory_at - s->memory_base);
    size_t size;
    while (spool_memory_record(s, at, record, &size)) {
        at += size;
        r->memory_at = s->memory_base + at;
        if (record->seq >= r->seq) {
            advance(r, record);
            return PSC_OK;
        }
    }
    return PSC_MISSING;
}

/* Cut @g behind g->last_seq, so that the next start counts nothing again. */
static void cut_behind(struct spool *s, struct spool_reader *r,
                       struct spool_segment *g)
{
    struct spool_header header;
    struct spool_record record = {.seq = g->first_seq - 1};
    uint64_t end = SPOOL_HEADER_BYTES;
    if (spool_reader_open(r, s, g->number, &header) != PSC_OK) {
        return;
    }
    while (record.seq < g->last_seq &&
           spool_reader_record(r, s, &record) == PSC_OK) {
        end += SPOOL_RECORD_BYTES + record.payload.len;
    }
    if (record.seq == g->last_seq && end <= g->bytes) {
        s->bytes -= g->bytes - end;
        g->bytes = end;
        spool_cut_segment(s, g);
    }
}

/* What follows r->seq in @g cannot be read: drop it, and the sample whose parts
 * it ends amid, which no collector would acknowledge. Count what of it was not
 * acknowledged. */
static void drop_rest(struct spool *s, struct spool_reader *r,
                      struct spool_segment *g)
{
    uint64_t acked = spool_acked(s, g->stream);
    uint64_t end = r->part_seq >= g->first_seq ? r->part_seq : r->seq;
    uint64_t from = end > acked ? end : acked + 1;
    uint64_t lost = g->last_seq >= from ? g->last_seq - from + 1 : 0;
    psc_log_error("spool %s: segment %08" PRIx32 " is damaged, %" PRIu64
                  " batches are lost",
                  s->dir, g->number, lost);
    s->dropped += lost;
    spool_save_state(s); /* before it is cut: kill -9 may follow */
    g->last_seq = end - 1;
    r->part_seq = 0;
    if (g == &s->segments[s->n_segments - 1]) {
        spool_seal(s);
        s->need_roll = true;
    }
    cut_behind(s, r, g);
    spool_reader_close(r, s);
}

int spool_read(struct spool *s, struct spool_reader *r,
               struct spool_record *record)
{
    for (;;) {
        struct spool_segment *g = find_segment(s, r);
        if (g == NULL) {
            return read_memory(s, r, record);
        }
        if (r->seq < g->first_seq) {
            r->seq = g->first_seq;
        }
        int rc = PSC_OK;
        if (r->fd < 0 || r->number != g->number) {
            struct spool_header header;
            rc = spool_reader_open(r, s, g->number, &header);
        }
        r->limit = g->bytes; /* behind it there may be a torn record */
        while (rc == PSC_OK) {
            rc = spool_reader_record(r, s, record);
            if (rc == PSC_OK && record->seq >= r->seq) {
                advance(r, record);
                r->n_failed = 0;
                return PSC_OK;
            }
        }
        if (rc == PSC_NOMEM || (rc == PSC_IO && ++r->n_failed < FAILED_MAX)) {
            spool_reader_close(r, s);
            return rc;
        }
        r->n_failed = 0;
        drop_rest(s, r, g);
    }
}

int spool_reader_start(struct spool_reader *r, struct spool *s,
                       const uint8_t stream[SPOOL_STREAM_BYTES], uint64_t seq)
{
    /* From the first record of the segment that has @seq (memory without a
     * keyframe continues the last one), or of the next, look for the newest
     * keyframe. */
    uint64_t keyframe = seq;
    uint64_t from = seq;
    for (uint32_t i = 0; i < s->n_segments; i++) {
        const struct spool_segment *g = &s->segments[i];
        if (same_stream(g->stream, stream) && g->first_seq <= seq) {
            from = g->first_seq;
        }
    }
    if (same_stream(s->stream, stream) && s->n_memory > 0) {
        from = s->n_segments == 0 ? 1 : from;
    }
    spool_reader_seek(r, s, stream, from);
    struct spool_record record;
    int rc;
    do {
        rc = spool_read(s, r, &record);
        if (rc != PSC_OK) {
            return rc;
        }
        if ((record.flags & SPOOL_KEYFRAME) != 0 || record.seq > seq) {
            keyframe = record.seq;
        }
    } while (record.seq < seq);
    spool_reader_seek(r, s, stream, keyframe);
    return PSC_OK;
}

int spool_reader_skip(struct spool_reader *r, struct spool *s,
                      const uint8_t stream[SPOOL_STREAM_BYTES], uint64_t seq)
{
    spool_reader_seek(r, s, stream, seq + 1);
    struct spool_record record;
    int rc;
    do {
        rc = spool_read(s, r, &record);
        if (rc != PSC_OK) {
            return rc;
        }
    } while ((record.flags & SPOOL_KEYFRAME) == 0);
    spool_reader_seek(r, s, stream, record.seq);
    return PSC_OK;
}
