/* The spool: every batch goes through it on its way to the collector, and
 * waits in it until the collector has committed it.
 *
 * On disk it is a folder of append-only segment files (spool_format.h), each
 * of one stream and starting with keyframes of both tables; a new one begins
 * at segment_bytes, at each wall-clock hour, at each start and after a gap.
 * Beside them lies "state": the count of dropped batches and what is known to
 * be acknowledged.
 *
 * Every start begins a new stream; what older ones left behind is delivered
 * first, under their own. So a seq that was lost with a torn tail is never
 * given to another batch.
 *
 * Durability: an append is one write(); kill -9 loses nothing. fdatasync runs
 * when a segment is full and whenever spool_sync() is called, so a power
 * failure loses at most what came since.
 *
 * Bounds: over max_bytes the oldest whole segment goes first and what was not
 * acknowledged in it is counted in `dropped`, which survives restarts.
 *
 * Damage: what cannot be read is cut off and counted as dropped, as far as
 * anything tells of it. A torn tail is no batch that was taken; what a power
 * failure took without a trace, and what waited in memory (below) when the
 * process was killed, nobody can count.
 *
 * A disk that is full, read-only or broken: batches go on in memory, up to
 * memory_bytes with the same rule, spool_trouble() says so, and they return to
 * disk in order when that works again (tried every SPOOL_RETRY_US). */
#ifndef PSC_AGENT_SPOOL_H
#define PSC_AGENT_SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/spool_format.h"
#include "agent/spool_io.h"
#include "common/buf.h"
#include "common/error.h"
#include "common/log.h"

#define SPOOL_SEGMENT_BYTES (1u << 20)
#define SPOOL_MEMORY_BYTES  (2u << 20)
#define SPOOL_RETRY_US      (10 * 1000000LL)
#define SPOOL_PATH_BYTES    1024

struct spool_options {
    const char *dir;           /* of the segments; must exist; borrowed */
    uint64_t max_bytes;        /* of all segments */
    uint64_t segment_bytes;    /* when a segment is full */
    size_t memory_bytes;       /* while the disk does not work */
    const struct spool_fs *fs; /* borrowed */
    void *fs_user;             /* its first argument */
};

struct spool_segment {
    uint8_t stream[SPOOL_STREAM_BYTES];
    uint64_t first_seq, last_seq; /* last < first: none yet */
    uint64_t bytes;               /* of the file, header included */
    uint32_t number;              /* the file's name; ascending */
};

struct spool {
    struct spool_options o;
    char dir[SPOOL_PATH_BYTES - 32];

    struct spool_segment *segments; /* oldest first */
    uint32_t n_segments, cap_segments;
    uint32_t next_number; /* of the next one */
    uint64_t bytes;       /* sum over segments */

    uint8_t stream[SPOOL_STREAM_BYTES]; /* of what is appended */
    uint64_t last_seq;                  /* of that stream; 0: none */
    int fd;                             /* of the last segment; -1: none */
    int lock;                           /* -1: none */
    int64_t hour;                       /* wall-clock hour of the last roll */

    struct psc_buf memory;    /* records that follow the last segment */
    uint64_t memory_base;     /* bytes that ever left its front */
    uint32_t n_memory;        /* how many */
    int trouble;              /* why the disk does not work: UV_… or 0 */
    size_t memory_since_roll; /* bytes since its last keyframe */
    int64_t retry_us;         /* monotonic time to try it again */

    uint8_t acked_stream[SPOOL_STREAM_BYTES];
    uint64_t acked;         /* newest acknowledged seq of acked_stream */
    uint64_t dropped;       /* batches lost without acknowledgement, ever */
    char trouble_text[160]; /* for people, when trouble is set */
    struct psc_log_limit drop_log; /* drops may come in numbers */
    bool unsynced;                 /* fd has what no fdatasync saw */
    bool need_roll;    /* the next batch must begin with keyframes */
    bool trouble_told; /* in the log, until the disk works again */
    bool state_dirty;  /* the state file is behind */
};

/* Open the spool in @o->dir with a new stream. A disk that does not work is no
 * error; another agent's lock is PSC_REFUSED; PSC_NOMEM. */
PSC_MUST_CHECK int spool_open(struct spool *s, const struct spool_options *o,
                              struct psc_error *err);

/* Make all durable and release the lock. */
void spool_close(struct spool *s);

/* --- appending --- */

/* True if the next batch must begin with keyframes of both tables, because
 * a segment begins with it. @wall_us is its wall clock. */
bool spool_wants_keyframe(const struct spool *s, int64_t wall_us);

static inline uint64_t spool_next_seq(const struct spool *s)
{
    return s->last_seq + 1;
}

/* Append one record under spool_next_seq(); @flags are enum spool_flag.
 * @mono_us is the monotonic clock. Returns 0 (on disk or in memory),
 * PSC_LIMIT for an oversized payload, or PSC_NOMEM. */
PSC_MUST_CHECK int spool_append(struct spool *s, struct psc_bytes payload,
                                uint32_t flags, int64_t wall_us,
                                int64_t mono_us);

/* fdatasync what was appended, save the state, and try a broken disk again if
 * it is time. Call every spool_sync seconds. Returns whether all that was
 * appended is on the disk now. */
bool spool_sync(struct spool *s, int64_t mono_us);

/* Why batches wait in memory, or NULL while the disk works. */
const char *spool_trouble(const struct spool *s);

/* From now on append under a new random stream from seq 1. What memory still
 * holds of the old one is dropped. */
void spool_new_stream(struct spool *s);

/* --- sending --- */

/* The stream to send now: the oldest one there is. *@last_seq is its newest
 * seq (0: nothing). Returns whether it is the one being appended to. */
bool spool_front(const struct spool *s, uint8_t stream[SPOOL_STREAM_BYTES],
                 uint64_t *last_seq);

/* @seq and all before it of @stream are stored. Whole segments before the one
 * that holds @seq go. Other streams than the front's are ignored. */
void spool_ack(struct spool *s, const uint8_t stream[SPOOL_STREAM_BYTES],
               uint64_t seq);

/* Drop the front stream's segments, all of it being acknowledged, to turn to
 * the next one. No effect if the front is the stream being appended to. */
void spool_finish_front(struct spool *s);

/* Drop the segments of the front stream up to the one that holds @seq, counted
 * unless acknowledged: the collector cannot make anything of it. */
void spool_skip(struct spool *s, const uint8_t stream[SPOOL_STREAM_BYTES],
                uint64_t seq);

/* @seq and all before it of the front stream will not be sent any more: as if
 * acknowledged, but counted as dropped. Returns how many these are. */
uint64_t spool_give_up(struct spool *s,
                       const uint8_t stream[SPOOL_STREAM_BYTES], uint64_t seq);

/* Newest acknowledged seq of @stream that is known, or 0. */
uint64_t spool_acked(const struct spool *s,
                     const uint8_t stream[SPOOL_STREAM_BYTES]);

/* Bytes on disk and in memory. */
uint64_t spool_bytes(const struct spool *s);

/* --- reading, in order and in bounded chunks --- */

struct spool_reader {
    uint8_t stream[SPOOL_STREAM_BYTES];
    uint64_t seq;       /* the next one wanted */
    uint64_t part_seq;  /* first part of the sample that seq goes on; 0: none */
    uint32_t number;    /* segment that fd is of */
    int fd;             /* -1: none open */
    uint64_t at;        /* offset in the file of buf's first byte */
    uint64_t memory_at; /* likewise in memory, as memory_base counts */
    uint64_t limit;     /* bytes of the file that are known to be whole */
    size_t used;        /* bytes of buf already read */
    unsigned n_failed;  /* PSC_IO in a row */
    struct psc_buf buf;
};

void spool_reader_init(struct spool_reader *r);
void spool_reader_fini(struct spool_reader *r, struct spool *s);

/* Close its file and free its buffer until it is needed again. */
void spool_reader_close(struct spool_reader *r, struct spool *s);

/* Continue with @seq of @stream, or the first one after it that there is. */
void spool_reader_seek(struct spool_reader *r, struct spool *s,
                       const uint8_t stream[SPOOL_STREAM_BYTES], uint64_t seq);

/* Continue where a peer must begin that knows no table: with the newest
 * keyframe at or before @seq, or with the first batch after @seq if @seq is
 * not there. Returns as spool_read() does; PSC_MISSING if nothing from @seq
 * on is there. */
PSC_MUST_CHECK int spool_reader_start(struct spool_reader *r, struct spool *s,
                                      const uint8_t stream[SPOOL_STREAM_BYTES],
                                      uint64_t seq);

/* Continue with the first keyframe after @seq. Returns as spool_read() does. */
PSC_MUST_CHECK int spool_reader_skip(struct spool_reader *r, struct spool *s,
                                     const uint8_t stream[SPOOL_STREAM_BYTES],
                                     uint64_t seq);

/* The next record; its payload is valid until the next call on @r. Returns
 * PSC_MISSING if there is none now, PSC_NOMEM, or PSC_IO (try again later).
 * The rest of a segment that is damaged, gone, or unreadable time after time
 * is dropped and counted. */
PSC_MUST_CHECK int spool_read(struct spool *s, struct spool_reader *r,
                              struct spool_record *record);

#endif
