/* Finding out at the start what the spool's folder holds.
 *
 * Happy path: each segment's records are read to the end. A segment that ends
 * amid a record or a sample, or is damaged, is cut there. The batches that were
 * in what is cut off are counted as dropped, as far as they can be known:
 *
 *   - whole records behind the damage tell their seqs, and where a record's
 *     head is whole it tells its own, though the payload is not;
 *   - the next segment of the stream tells where this one ended, less what is
 *     known to have been dropped between the two;
 *   - a file without a good header counts by what records it has, be they
 *     acknowledged or not: nothing tells of which stream they are.
 *
 * A record that is not there in its full length is a torn write, and none that
 * was taken. Nobody can know of batches that left no trace: what a power
 * failure took behind the last sync, whole files that are gone.
 *
 * Counting comes before cutting, so a kill between the two counts once more
 * rather than not at all. */
#include "agent/spool_private.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/log.h"

enum { NAME_DIGITS = 8 };

/* The last segment in the list, while what followed it is not yet known. */
struct tail {
    bool unsure;         /* it is damaged, or followed by a file that is */
    bool to_cut;         /* there is more in the file than counts */
    uint64_t newest;     /* seq that is known to have been in it */
    uint64_t dropped;    /* as its header tells */
    uint64_t n_headless; /* batches counted in files behind it */
};

struct scan {
    struct spool *s;
    struct spool_reader reader;
    struct tail tail;
};

static int compare_numbers(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Whether @name is one that spool_path() makes. */
static bool segment_number(const char *name, uint32_t *number)
{
    if (strspn(name, "0123456789abcdef") != NAME_DIGITS ||
        strcmp(name + NAME_DIGITS, ".seg") != 0) {
        return false;
    }
    *number = (uint32_t)strtoul(name, NULL, 16);
    return true;
}

/* The numbers of all segment files, ascending; *@numbers is the caller's. */
static int list_segments(struct spool *s, uint32_t **numbers, uint32_t *count)
{
    *numbers = NULL;
    *count = 0;
    uv_fs_t req;
    int n = uv_fs_scandir(NULL, &req, s->dir, 0, NULL);
    if (n < 0) {
        uv_fs_req_cleanup(&req);
        spool_set_trouble(s, n, "cannot read the folder");
        return PSC_OK;
    }
    uint32_t *list = n == 0 ? NULL : calloc((size_t)n, sizeof(*list));
    int rc = n > 0 && list == NULL ? PSC_NOMEM : PSC_OK;
    uv_dirent_t entry;
    while (rc == PSC_OK && uv_fs_scandir_next(&req, &entry) == 0) {
        uint32_t number;
        if (*count < (uint32_t)n && segment_number(entry.name, &number)) {
            list[(*count)++] = number;
        }
    }
    uv_fs_req_cleanup(&req);
    if (*count > 0) {
        qsort(list, *count, sizeof(*list), compare_numbers);
    }
    *numbers = list;
    return rc;
}

static void count_lost(struct spool *s, uint32_t number, uint64_t lost)
{
    if (lost > 0) {
        psc_log_error("spool %s: segment %08" PRIx32 " is not whole, %" PRIu64
                      " batches are lost",
                      s->dir, number, lost);
        s->dropped += lost;
        spool_save_state(s);
    }
}

/* How many batches are missing behind the last segment, given the segment
 * @next of the same stream or NULL. */
static uint64_t missing(const struct tail *t, const struct spool_segment *g,
                        const struct spool_header *next)
{
    uint64_t n = t->newest - g->last_seq;
    if (next == NULL || !same_stream(next->stream, g->stream) ||
        next->first_seq <= g->last_seq) {
        return n;
    }
    uint64_t gap = next->first_seq - 1 - g->last_seq;
    uint64_t known = t->n_headless;
    known += next->dropped > t->dropped ? next->dropped - t->dropped : 0;
    return gap > known && gap - known > n ? gap - known : n;
}

/* All that can be known of the last segment is known: count what it lost, and
 * cut it. @next is the header of the one that follows, or NULL. */
static void settle_tail(struct scan *c, const struct spool_header *next)
{
    struct spool *s = c->s;
    struct tail t = c->tail;
    memset(&c->tail, 0, sizeof(c->tail));
    if (!t.unsure || s->n_segments == 0) {
        return;
    }
    struct spool_segment *g = &s->segments[s->n_segments - 1];
    uint64_t to = g->last_seq + missing(&t, g, next);
    count_lost(s, g->number,
               spool_count_unacked(s, g->stream, g->last_seq + 1, to));
    if (t.to_cut && g->last_seq >= g->first_seq) {
        psc_log_warn("spool %s: cut a torn tail off segment %08" PRIx32
                     " after seq %" PRIu64,
                     s->dir, g->number, g->last_seq);
        spool_cut_segment(s, g);
    }
    if (g->last_seq < g->first_seq) {
        char path[SPOOL_PATH_BYTES];
        spool_path(s, g->number, path);
        (void)s->o.fs->unlink(s->o.fs_user, path);
        s->bytes -= g->bytes;
        s->n_segments--;
    }
}

/* Find the end of the good records of the open segment; an unfinished sample
 * at the end does not count. */
static int scan_records(struct scan *c, struct spool_segment *g)
{
    uint64_t end = SPOOL_HEADER_BYTES;
    uint64_t last = g->first_seq - 1;
    struct spool_record record;
    int rc;
    while ((rc = spool_reader_record(&c->reader, c->s, &record)) == PSC_OK &&
           record.seq == last + 1) {
        last = record.seq;
        end += SPOOL_RECORD_BYTES + record.payload.len;
        if ((record.flags & SPOOL_MORE) == 0) {
            g->last_seq = last;
            g->bytes = end;
        }
    }
    struct spool_survey survey = {.newest = last};
    if (rc == PSC_FORMAT || rc == PSC_OK) {
        rc = spool_reader_survey(&c->reader, c->s, &survey);
        c->tail.to_cut = true;
    }
    if (rc == PSC_NOMEM) {
        return rc;
    }
    c->tail.newest = survey.newest;
    c->tail.to_cut = c->tail.to_cut || rc != PSC_MISSING || g->last_seq < last;
    c->tail.unsure = c->tail.to_cut || g->last_seq < g->first_seq;
    return PSC_OK;
}

/* A file of ours whose header is not. */
static int scan_headless(struct scan *c, uint32_t number)
{
    struct spool *s = c->s;
    struct spool_survey survey = {.newest = 0};
    int rc = spool_reader_reopen(&c->reader, s, number);
    if (rc == PSC_OK) {
        rc = spool_reader_survey(&c->reader, s, &survey);
    }
    if (rc == PSC_NOMEM) {
        return rc;
    }
    uint64_t n = survey.newest > 0 ? survey.newest - survey.oldest + 1 : 0;
    count_lost(s, number, n);
    c->tail.n_headless += n;
    c->tail.unsure = true;
    char path[SPOOL_PATH_BYTES];
    spool_path(s, number, path);
    (void)s->o.fs->unlink(s->o.fs_user, path);
    return PSC_OK;
}

/* Take up segment @number. Returns PSC_OK also if it is unusable. */
static int scan_segment(struct scan *c, uint32_t number)
{
    struct spool *s = c->s;
    struct spool_header header;
    int rc = spool_reader_open(&c->reader, s, number, &header);
    if (rc == PSC_NOMEM) {
        return rc;
    }
    if (rc != PSC_OK) {
        psc_log_warn("spool %s: %08" PRIx32 ".seg is no segment (%s)", s->dir,
                     number, psc_strerror(rc));
        return rc == PSC_FORMAT ? scan_headless(c, number) : PSC_OK;
    }
    s->dropped = header.dropped > s->dropped ? header.dropped : s->dropped;
    settle_tail(c, &header);
    struct spool_segment *g = spool_add_segment(s);
    if (g == NULL) {
        return PSC_NOMEM;
    }
    memcpy(g->stream, header.stream, sizeof(g->stream));
    g->number = number;
    g->first_seq = header.first_seq;
    g->last_seq = header.first_seq - 1;
    g->bytes = SPOOL_HEADER_BYTES;
    c->tail.dropped = header.dropped;
    rc = scan_records(c, g);
    s->bytes += g->bytes;
    return rc;
}

int spool_scan(struct spool *s)
{
    uint32_t *numbers;
    uint32_t count;
    int rc = list_segments(s, &numbers, &count);
    struct scan c = {.s = s};
    spool_reader_init(&c.reader);
    for (uint32_t i = 0; rc == PSC_OK && i < count; i++) {
        s->next_number = numbers[i] + 1;
        rc = scan_segment(&c, numbers[i]);
    }
    if (rc == PSC_OK) {
        settle_tail(&c, NULL);
    }
    spool_reader_fini(&c.reader, s);
    free(numbers);
    return rc;
}
