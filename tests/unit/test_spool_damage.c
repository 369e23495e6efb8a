/* Spools that are torn or damaged: what is good of them is kept, and what is
 * lost is counted, once. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/lib/spool_bench.h"
#include "tests/lib/temp.h"

static const char *segment_path(const char *dir, unsigned number)
{
    static char path[512];
    (void)snprintf(path, sizeof(path), "%s/%08x.seg", dir, number);
    return path;
}

static const char *newest_segment(const char *dir)
{
    unsigned i = 50;
    while (access(segment_path(dir, i), F_OK) != 0) {
        assert_true(i-- > 0);
    }
    return segment_path(dir, i);
}

/* A byte goes bad. */
static void spoil(const char *path, off_t at)
{
    int fd = open(path, O_RDWR);
    assert_int_equal(pwrite(fd, "\xff", 1, at), 1);
    (void)close(fd);
}

static void spool_cuts_torn_tails(void **state)
{
    (void)state;
    for (long cut = 1; cut <= 130; cut += 7) {
        const char *dir = temp_dir();
        struct spool s;
        spool_bench_open(&s, dir);
        spool_bench_put_many(&s, 10, 100);
        spool_bench_abandon(&s);
        const char *path = newest_segment(dir);
        struct stat st;
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(truncate(path, st.st_size - cut), 0);
        spool_bench_open(&s, dir);
        uint64_t first, last;
        uint64_t expected = cut <= 120 ? 9 : 8;
        assert_int_equal(spool_bench_read(&s, 1, &first, &last), expected);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_size,
                         SPOOL_HEADER_BYTES +
                             (int)expected * (100 + SPOOL_RECORD_BYTES));
        assert_int_equal(s.dropped, 0); /* a torn one was never taken */
        spool_close(&s);
    }
}

static void spool_cuts_unfinished_keyframes(void **state)
{
    (void)state;
    const char *dir = temp_dir();
    struct spool s;
    spool_bench_open(&s, dir);
    spool_bench_put_many(&s, 5, 100);
    uint8_t payload[8] = {6};
    struct psc_bytes bytes = {payload, sizeof(payload)};
    assert_int_equal(spool_append(&s, bytes, SPOOL_KEYFRAME | SPOOL_MORE, 1, 1),
                     PSC_OK);
    assert_int_equal(spool_append(&s, bytes, SPOOL_MORE, 1, 1), PSC_OK);
    spool_bench_abandon(&s);
    spool_bench_open(&s, dir);
    uint64_t first, last;
    assert_int_equal(spool_bench_read(&s, 1, &first, &last), 5);
    assert_int_equal(s.dropped, 2); /* they were taken */
    spool_close(&s);
}

static void spool_drops_what_is_damaged(void **state)
{
    (void)state;
    const char *dir = temp_dir();
    struct spool s;
    spool_bench_open(&s, dir);
    spool_bench_put_many(&s, 60, 500);
    /* A bit flips in the second segment while the agent runs. */
    uint64_t from = s.segments[1].first_seq;
    uint64_t to = s.segments[1].last_seq;
    spoil(segment_path(dir, s.segments[1].number), SPOOL_HEADER_BYTES + 600);
    uint64_t first, last;
    assert_int_equal(spool_bench_read(&s, 1, &first, &last), 60 - (to - from));
    assert_int_equal(last, 60);
    assert_int_equal(s.dropped, to - from);
    spool_close(&s);
    spool_bench_open(&s, dir); /* which does not count it again */
    assert_int_equal(spool_bench_read(&s, 1, &first, &last), 60 - (to - from));
    assert_int_equal(s.dropped, to - from);
    spool_close(&s);
}

static void spool_drops_samples_whole(void **state)
{
    (void)state;
    const char *dir = temp_dir();
    struct spool s;
    spool_bench_open(&s, dir);
    uint8_t payload[100] = {0};
    struct psc_bytes bytes = {payload, sizeof(payload)};
    const uint32_t flags[] = {SPOOL_KEYFRAME, 0, SPOOL_KEYFRAME | SPOOL_MORE,
                              SPOOL_MORE, 0};
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(spool_append(&s, bytes, flags[i], 1, 1), PSC_OK);
    }
    spool_close(&s);
    spool_bench_open(&s, dir);
    /* The last part is damaged: the others are of no use to anybody. */
    spoil(segment_path(dir, s.segments[0].number),
          SPOOL_HEADER_BYTES + 4 * 120 + 50);
    uint8_t stream[SPOOL_STREAM_BYTES];
    uint64_t last;
    assert_false(spool_front(&s, stream, &last));
    assert_int_equal(last, 5);
    struct spool_reader r;
    struct spool_record record;
    spool_reader_init(&r);
    spool_reader_seek(&r, &s, stream, 1);
    while (spool_read(&s, &r, &record) == PSC_OK) {
        if (record.seq == 4) {
            spool_reader_seek(&r, &s, stream, 4); /* as with a full queue */
            assert_int_equal(spool_read(&s, &r, &record), PSC_OK);
        }
    }
    assert_false(spool_front(&s, stream, &last));
    assert_int_equal(last, 2); /* so that the stream can be finished */
    assert_int_equal(s.dropped, 3);
    spool_reader_fini(&r, &s);
    spool_close(&s);
}

/* A spool of one stream in several segments, as files that can be put back. */
enum { BATCHES = 18, PAYLOAD_BYTES = 40, FILES = 4, FILE_BYTES = 1024 };

/* No power fails here. */
static int no_sync(void *user, int fd)
{
    (void)user;
    (void)fd;
    return 0;
}

static int plain_save(void *user, const char *path, struct psc_bytes data)
{
    (void)user;
    temp_write(path, (const char *)data.data, data.len);
    return 0;
}

struct files {
    const char *dir;
    uint8_t data[FILES][FILE_BYTES];
    size_t len[FILES];
};

static const char *file_path(const struct files *f, unsigned i)
{
    return segment_path(f->dir, i);
}

static void make_files(struct files *f)
{
    memset(f, 0, sizeof(*f));
    f->dir = temp_dir();
    struct spool_options o = spool_bench_options(f->dir);
    o.segment_bytes = SPOOL_HEADER_BYTES + 5 * (PAYLOAD_BYTES + 20);
    struct spool s;
    struct psc_error err;
    assert_int_equal(spool_open(&s, &o, &err), PSC_OK);
    spool_bench_put_many(&s, BATCHES, PAYLOAD_BYTES);
    assert_int_equal(s.n_segments, FILES);
    spool_bench_abandon(&s);
    for (unsigned i = 0; i < FILES; i++) {
        FILE *in = fopen(file_path(f, i), "rb");
        assert_non_null(in);
        f->len[i] = fread(f->data[i], 1, FILE_BYTES, in);
        assert_true(f->len[i] > 0 && f->len[i] < FILE_BYTES);
        (void)fclose(in);
    }
}

static void restore_files(const struct files *f)
{
    for (unsigned i = 0; i < FILES; i++) {
        temp_write(file_path(f, i), (const char *)f->data[i], f->len[i]);
    }
    (void)unlink(temp_path(f->dir, "state"));
}

/* Open the spool, read it, and open it again, which must find the same. Returns
 * how many batches are there or counted. */
static uint64_t count_all(const struct files *f)
{
    uint64_t n[2], dropped[2];
    struct spool_fs fs = spool_fs_uv;
    fs.sync = no_sync;
    fs.save = plain_save;
    struct spool_options o = spool_bench_options(f->dir);
    o.fs = &fs;
    for (int i = 0; i < 2; i++) {
        struct spool s;
        struct psc_error err;
        uint64_t first, last;
        assert_int_equal(spool_open(&s, &o, &err), PSC_OK);
        n[i] = s.n_segments == 0 ? 0 : spool_bench_read(&s, 1, &first, &last);
        dropped[i] = s.dropped;
        spool_close(&s);
    }
    assert_int_equal(n[0], n[1]);
    assert_int_equal(dropped[0], dropped[1]);
    return n[0] + dropped[0];
}

static void spool_counts_what_any_bad_byte_takes(void **state)
{
    (void)state;
    struct files f;
    make_files(&f);
    for (unsigned i = 0; i < FILES; i++) {
        for (size_t at = 0; at < f.len[i]; at += 3) {
            restore_files(&f);
            f.data[i][at] ^= 0xff;
            temp_write(file_path(&f, i), (const char *)f.data[i], f.len[i]);
            f.data[i][at] ^= 0xff;
            /* Nothing tells of the last batch but its own head. */
            size_t last_head = f.len[i] - PAYLOAD_BYTES - SPOOL_RECORD_BYTES;
            bool unknown = i == FILES - 1 && at >= last_head &&
                           at < last_head + SPOOL_RECORD_BYTES;
            assert_in_range(count_all(&f), BATCHES - unknown, BATCHES);
        }
    }
}

static void spool_counts_what_a_cut_takes(void **state)
{
    (void)state;
    struct files f;
    make_files(&f);
    for (unsigned i = 0; i < FILES - 1; i++) {
        for (size_t len = 0; len < f.len[i]; len += 3) {
            restore_files(&f);
            assert_int_equal(truncate(file_path(&f, i), (off_t)len), 0);
            uint64_t n = count_all(&f);
            size_t record = PAYLOAD_BYTES + SPOOL_RECORD_BYTES;
            if (len >= SPOOL_HEADER_BYTES &&
                (len - SPOOL_HEADER_BYTES) % record == 0 &&
                len > SPOOL_HEADER_BYTES) {
                continue; /* it looks whole */
            }
            /* Of the first file nobody knows where it began. */
            assert_in_range(
                n, i == 0 && len < SPOOL_HEADER_BYTES ? BATCHES - 5 : BATCHES,
                BATCHES);
        }
    }
}

static void spool_counts_no_acknowledged_batch_as_lost(void **state)
{
    (void)state;
    const char *dir = temp_dir();
    struct spool s;
    spool_bench_open(&s, dir);
    spool_bench_put_many(&s, 6, 100);
    spool_ack(&s, s.stream, 4);
    s.state_dirty = true;
    spool_close(&s);
    off_t third = SPOOL_HEADER_BYTES + 2 * (100 + SPOOL_RECORD_BYTES);
    spoil(newest_segment(dir), third + 50);
    spool_bench_open(&s, dir);
    assert_int_equal(s.dropped, 2); /* 3 and 4 are stored */
    spool_close(&s);
}

static void spool_counts_no_dropped_batch_again(void **state)
{
    (void)state;
    struct files f;
    make_files(&f);
    /* Between two segments batches were dropped, as from a full memory: the
     * later header tells. */
    struct spool_header header;
    assert_int_equal(spool_header_decode(f.data[2], &header), PSC_OK);
    header.dropped = 5;
    spool_header_encode(&header, f.data[2]);
    f.len[0] -= 7;                  /* one lost: the fifth */
    (void)unlink(file_path(&f, 1)); /* five dropped */
    f.len[1] = 0;
    for (unsigned i = 0; i < FILES; i++) {
        if (f.len[i] > 0) {
            temp_write(file_path(&f, i), (const char *)f.data[i], f.len[i]);
        }
    }
    assert_int_equal(count_all(&f), BATCHES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spool_cuts_torn_tails),
        cmocka_unit_test(spool_cuts_unfinished_keyframes),
        cmocka_unit_test(spool_drops_what_is_damaged),
        cmocka_unit_test(spool_drops_samples_whole),
        cmocka_unit_test(spool_counts_what_any_bad_byte_takes),
        cmocka_unit_test(spool_counts_what_a_cut_takes),
        cmocka_unit_test(spool_counts_no_acknowledged_batch_as_lost),
        cmocka_unit_test(spool_counts_no_dropped_batch_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
