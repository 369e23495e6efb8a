/* The spool: order, bounds, restarts, failing disks, kill -9. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/lib/spool_bench.h"
#include "tests/lib/temp.h"

#define HOUR_US (3600 * 1000000LL)

/* A disk whose calls fail on demand. */
struct faults {
    int writes_until;   /* so many writes go well; -1: all */
    int status;         /* then this comes back, 0: one byte is written */
    bool writes_broken; /* set once writes_until has run out */
    bool heals;         /* only that one write fails */
    bool no_truncate;   /* the torn bytes stay in the file */
    int reads_fail;     /* so many reads give EIO */
};

static int fault_open(void *user, const char *path, int flags)
{
    struct faults *f = user;
    if (f->writes_broken && !f->heals && (flags & UV_FS_O_CREAT) != 0) {
        return f->status == 0 ? UV_ENOSPC : f->status;
    }
    return spool_fs_uv.open(NULL, path, flags);
}

static int64_t fault_write(void *user, int fd, const uv_buf_t *bufs,
                           unsigned n_bufs, int64_t offset)
{
    struct faults *f = user;
    if (f->writes_until == 0 && !(f->heals && f->writes_broken)) {
        if (!f->writes_broken && f->status == 0) {
            f->writes_broken = true;
            uv_buf_t one = uv_buf_init(bufs[0].base, 1);
            return spool_fs_uv.write(NULL, fd, &one, 1, offset);
        }
        f->writes_broken = true;
        return f->status == 0 ? UV_ENOSPC : f->status;
    }
    if (f->writes_until > 0) {
        f->writes_until--;
    }
    return spool_fs_uv.write(NULL, fd, bufs, n_bufs, offset);
}

static int64_t fault_read(void *user, int fd, void *out, size_t len,
                          int64_t offset)
{
    struct faults *f = user;
    if (f->reads_fail > 0) {
        f->reads_fail--;
        return UV_EIO;
    }
    return spool_fs_uv.read(NULL, fd, out, len, offset);
}

static int fault_truncate(void *user, int fd, int64_t len)
{
    struct faults *f = user;
    return f->no_truncate ? UV_EROFS : spool_fs_uv.truncate(NULL, fd, len);
}

static int fault_save(void *user, const char *path, struct psc_bytes data)
{
    struct faults *f = user;
    return f->writes_broken && !f->heals ? UV_ENOSPC
                                         : spool_fs_uv.save(NULL, path, data);
}

static struct spool_fs faulty_fs(void)
{
    struct spool_fs fs = spool_fs_uv;
    fs.open = fault_open;
    fs.write = fault_write;
    fs.read = fault_read;
    fs.truncate = fault_truncate;
    fs.save = fault_save;
    return fs;
}

static void open_faulty(struct spool *s, const char *dir,
                        const struct spool_fs *fs, struct faults *f)
{
    struct spool_options o = spool_bench_options(dir);
    struct psc_error err;
    o.fs = fs;
    o.fs_user = f;
    assert_int_equal(spool_open(s, &o, &err), PSC_OK);
}

static void spool_gives_back_what_it_took(void **state)
{
    (void)state;
    struct spool s;
    spool_bench_open(&s, temp_dir());
    spool_bench_put_many(&s, 100, 500);
    uint64_t first, last;
    assert_int_equal(spool_bench_read(&s, 1, &first, &last), 100);
    assert_int_equal(first, 1);
    assert_int_equal(last, 100);
    assert_int_equal(spool_bench_read(&s, 42, &first, &last), 59);
    assert_int_equal(first, 42);
    spool_close(&s);
}

static void spool_reader_follows_appends(void **state)
{
    (void)state;
    struct spool s;
    spool_bench_open(&s, temp_dir());
    struct spool_reader r;
    spool_reader_init(&r);
    spool_reader_seek(&r, &s, s.stream, 1);
    struct spool_record record;
    assert_int_equal(spool_read(&s, &r, &record), PSC_MISSING);
    for (uint64_t i = 1; i <= 200; i++) {
        (void)spool_bench_put(&s, 100, 1, 1);
        assert_int_equal(spool_read(&s, &r, &record), PSC_OK);
        assert_int_equal(record.seq, i);
        assert_int_equal(spool_read(&s, &r, &record), PSC_MISSING);
    }
    spool_reader_fini(&r, &s);
    spool_close(&s);
}

/* Where a peer that stands before @seq must begin; 0: nothing to send. */
static uint64_t starts_at(struct spool *s, uint64_t seq)
{
    struct spool_reader r;
    spool_reader_init(&r);
    int rc = spool_reader_start(&r, s, s->stream, seq);
    struct spool_record record = {.seq = 0};
    if (rc == PSC_OK) {
        assert_int_equal(spool_read(s, &r, &record), PSC_OK);
        assert_true((record.flags & SPOOL_KEYFRAME) != 0);
    } else {
        assert_int_equal(rc, PSC_MISSING);
    }
    spool_reader_fini(&r, s);
    return record.seq;
}

static void spool_segments_begin_with_keyframes(void **state)
{
    (void)state;
    struct spool s;
    spool_bench_open(&s, temp_dir());
    assert_true(spool_wants_keyframe(&s, 1));
    (void)spool_bench_put(&s, 100, 1, 1);
    assert_false(spool_wants_keyframe(&s, 1));
    assert_true(spool_wants_keyframe(&s, HOUR_US));
    (void)spool_bench_put(&s, 100, HOUR_US, 1);
    assert_int_equal(s.n_segments, 2);
    while (!spool_wants_keyframe(&s, HOUR_US)) {
        (void)spool_bench_put(&s, 100, HOUR_US, 1);
    }
    assert_true(s.segments[1].bytes >= SPOOL_BENCH_SEGMENT_BYTES);
    (void)spool_bench_put(&s, 100, HOUR_US, 1);
    assert_int_equal(s.n_segments, 3);
    uint64_t third = s.segments[2].first_seq;
    assert_int_equal(starts_at(&s, 1), 1);
    assert_int_equal(starts_at(&s, third - 1), 2);
    assert_int_equal(starts_at(&s, third), third);
    assert_int_equal(starts_at(&s, third + 1), 0);
    spool_close(&s);
}

static void spool_drops_oldest_when_full(void **state)
{
    (void)state;
    const char *dir = temp_dir();
    struct spool s;
    spool_bench_open(&s, dir);
    spool_bench_put_many(&s, 300, 500);
    assert_true(spool_bytes(&s) <= SPOOL_BENCH_MAX_BYTES);
    uint64_t first, last;
    uint64_t n = spool_bench_read(&s, 1, &first, &last);
    assert_int_equal(last, 300);
    assert_int_equal(n, 301 - first);
    assert_int_equal(s.dropped, first - 1);
    spool_close(&s);

    uint64_t dropped = s.dropped;
    spool_bench_open(&s, dir);
    assert_int_equal(s.dropped, dropped);
    /* What was acknowledged is not lost when it goes. */
    uint8_t old[SPOOL_STREAM_BYTES];
    assert_false(spool_front(&s, old, &last));
    spool_ack(&s, old, 300);
    spool_bench_put_many(&s, 300, 500);
    assert_true(s.dropped > dropped);
    (void)spool_bench_read(&s, 1, &first, &last);
    assert_int_equal(s.dropped, dropped + first - 1);
    spool_close(&s);
}

static void spool_ack_keeps_the_cursors_segment(void **state)
{
    (void)state;
    struct spool s;
    spool_bench_open(&s, temp_dir());
    spool_bench_put_many(&s, 60, 500);
    assert_true(s.n_segments > 4);
    uint64_t second = s.segments[1].first_seq;
    spool_ack(&s, s.stream, second - 1);
    assert_int_equal(s.segments[0].first_seq, 1);
    spool_ack(&s, s.stream, second);
    assert_int_equal(s.segments[0].first_seq, second);
    spool_ack(&s, s.stream, 1000);
    assert_int_equal(s.acked, 60);
    assert_int_equal(s.n_segments, 1);
    assert_int_equal(starts_at(&s, 60), s.segments[0].first_seq);
    assert_int_equal(s.dropped, 0);
    spool_close(&s);
}

static void spool_new_stream_at_each_start(void **state)
{
    (void)state;
    const char *dir = temp_dir();
    struct spool s;
    uint8_t streams[3][SPOOL_STREAM_BYTES];
    for (int i = 0; i < 3; i++) {
        spool_bench_open(&s, dir);
        spool_bench_put_many(&s, 5 + (unsigned)i, 100);
        memcpy(streams[i], s.stream, SPOOL_STREAM_BYTES);
        if (i == 0) {
            spool_bench_abandon(&s);
        } else if (i == 1) {
            spool_close(&s);
        }
    }
    for (int i = 0; i < 3; i++) {
        uint8_t front[SPOOL_STREAM_BYTES];
        uint64_t last;
        bool active = spool_front(&s, front, &last);
        assert_int_equal(active, i == 2);
        assert_memory_equal(front, streams[i], SPOOL_STREAM_BYTES);
        assert_int_equal(last, 5 + i);
        uint64_t a, b;
        assert_int_equal(spool_bench_read(&s, 1, &a, &b), 5 + i);
        spool_ack(&s, front, 3); /* another stream's cursor has no effect */
        spool_finish_front(&s);
    }
    assert_int_equal(s.n_segments, 1);
    assert_int_equal(s.dropped, 0);
    spool_close(&s);
}

static void spool_drops_what_is_gone(void **state)
{
    (void)state;
    const char *dir = temp_dir();
    struct spool s;
    spool_bench_open(&s, dir);
    spool_bench_put_many(&s, 60, 500);
    char path[512];
    /* Somebody tidies up while the agent runs: the newest segment too. */
    uint64_t lost = 0;
    for (uint32_t i = 1; i < s.n_segments; i += s.n_segments - 2) {
        (void)snprintf(path, sizeof(path), "%s/%08x.seg", dir,
                       s.segments[i].number);
        lost += s.segments[i].last_seq - s.segments[i].first_seq + 1;
        assert_int_equal(unlink(path), 0);
    }
    uint64_t first, last;
    assert_int_equal(spool_bench_read(&s, 1, &first, &last), 60 - lost);
    assert_int_equal(s.dropped, lost);
    assert_true(spool_wants_keyframe(&s, 1));
    (void)spool_bench_put(&s, 500, 1, 1);
    assert_int_equal(spool_bench_read(&s, 1, &first, &last), 61 - lost);
    assert_int_equal(last, 61);
    spool_close(&s);
}

static void spool_gives_up_what_cannot_be_read(void **state)
{
    (void)state;
    struct faults f = {.writes_until = -1};
    struct spool_fs fs = faulty_fs();
    struct spool s;
    open_faulty(&s, temp_dir(), &fs, &f);
    spool_bench_put_many(&s, 60, 500);
    spool_ack(&s, s.stream, 3);
    struct spool_reader r;
    struct spool_record record;
    spool_reader_init(&r);
    spool_reader_seek(&r, &s, s.stream, 1);
    f.reads_fail = 4; /* now and then is no reason */
    for (int i = 0; i < 4; i++) {
        assert_int_equal(spool_read(&s, &r, &record), PSC_IO);
    }
    assert_int_equal(spool_read(&s, &r, &record), PSC_OK);
    assert_int_equal(record.seq, 1);
    assert_int_equal(s.dropped, 0);
    spool_reader_close(&r, &s);
    f.reads_fail = 5;
    uint64_t to = s.segments[0].last_seq;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(spool_read(&s, &r, &record), PSC_IO);
    }
    assert_int_equal(spool_read(&s, &r, &record), PSC_OK);
    assert_int_equal(record.seq, to + 1);
    assert_int_equal(s.dropped, to - 3); /* three had been acknowledged */
    spool_reader_fini(&r, &s);
    spool_close(&s);
}

static void spool_counts_before_it_drops(void **state)
{
    (void)state;
    const char *dir = temp_dir();
    struct spool s;
    spool_bench_open(&s, dir);
    spool_bench_put_many(&s, 300, 500);
    assert_true(s.dropped > 0);
    /* What a kill -9 now would leave behind. */
    char text[256] = "";
    FILE *file = fopen(temp_path(dir, "state"), "r");
    assert_non_null(file);
    assert_true(fread(text, 1, sizeof(text) - 1, file) > 0);
    (void)fclose(file);
    char line[64];
    (void)snprintf(line, sizeof(line), "\ndropped %llu\n",
                   (unsigned long long)s.dropped);
    assert_non_null(strstr(text, line));
    spool_close(&s);
}

static void spool_is_locked(void **state)
{
    (void)state;
    const char *dir = temp_dir();
    struct spool a, b;
    spool_bench_open(&a, dir);
    struct spool_options o = spool_bench_options(dir);
    struct psc_error err;
    assert_int_equal(spool_open(&b, &o, &err), PSC_REFUSED);
    assert_non_null(strstr(err.msg, "another agent"));
    spool_close(&a);
    spool_bench_open(&b, dir);
    spool_close(&b);
}

/* The n-th write fails for each n, in several ways; all is there in order,
 * before and after the disk heals and after a restart. */
static void spool_survives_every_failing_write(void **state)
{
    (void)state;
    static const int statuses[] = {UV_ENOSPC, UV_EROFS, UV_EIO, 0};
    struct spool_fs fs = faulty_fs();
    for (int n = 0; n < 80; n++) {
        struct faults f = {.writes_until = n,
                           .status = statuses[n % 4],
                           .heals = n % 3 == 0,
                           .no_truncate = n % 5 == 0};
        const char *dir = temp_dir();
        struct spool s;
        open_faulty(&s, dir, &fs, &f);
        for (unsigned i = 0; i < 70; i++) {
            (void)spool_bench_put(&s, 100, 1, 1000);
        }
        bool expect_trouble = f.writes_broken && f.status != 0;
        if (expect_trouble) {
            assert_non_null(spool_trouble(&s));
        }
        uint64_t first, last;
        assert_int_equal(spool_bench_read(&s, 1, &first, &last), 70);
        f.writes_until = -1;
        f.writes_broken = false;
        (void)spool_bench_put(&s, 100, 1, 1000 + SPOOL_RETRY_US);
        assert_null(spool_trouble(&s));
        assert_int_equal(s.memory.len, 0);
        assert_int_equal(spool_bench_read(&s, 1, &first, &last), 71);
        spool_close(&s);
        spool_bench_open(&s, dir);
        assert_int_equal(spool_bench_read(&s, 1, &first, &last), 71);
        assert_int_equal(s.dropped, 0);
        assert_int_equal(spool_bench_put(&s, 100, 1, 1), 1);
        spool_close(&s);
    }
}

static void spool_memory_is_bounded(void **state)
{
    (void)state;
    struct spool_fs fs = faulty_fs();
    struct faults f = {.writes_until = 20, .status = UV_ENOSPC};
    const char *dir = temp_dir();
    struct spool s;
    open_faulty(&s, dir, &fs, &f);
    for (unsigned i = 0; i < 500; i++) {
        (void)spool_bench_put(&s, 200, 1, 1000);
        assert_true(s.memory.len <= SPOOL_BENCH_MEMORY_BYTES);
    }
    assert_true(s.dropped > 0);
    uint64_t first, last;
    assert_int_equal(spool_bench_read(&s, 1, &first, &last), 500 - s.dropped);
    assert_int_equal(first, 1);
    assert_int_equal(last, 500);
    /* Acknowledged groups leave memory too. */
    spool_ack(&s, s.stream, 490);
    assert_true(s.memory.len < SPOOL_BENCH_MEMORY_BYTES / 2);
    assert_in_range(starts_at(&s, 491), 300, 491);

    f.writes_until = -1;
    f.writes_broken = false;
    assert_true(spool_sync(&s, 1000 + SPOOL_RETRY_US));
    assert_null(spool_trouble(&s));
    assert_int_equal(spool_bench_read(&s, 491, &first, &last), 10);
    uint64_t dropped = s.dropped;
    spool_close(&s);
    spool_bench_open(&s, dir);
    assert_int_equal(s.dropped, dropped);
    spool_close(&s);
}

static void spool_counts_what_it_cannot_leave_behind(void **state)
{
    (void)state;
    struct spool_fs fs = faulty_fs();
    struct faults f = {.writes_until = 20, .status = UV_ENOSPC};
    const char *dir = temp_dir();
    struct spool s;
    open_faulty(&s, dir, &fs, &f);
    spool_bench_put_many(&s, 40, 100);
    uint64_t waiting = s.n_memory;
    assert_true(waiting > 0);
    fs.save = spool_fs_uv.save; /* there is room for that little file */
    spool_close(&s);
    spool_bench_open(&s, dir);
    uint64_t first, last;
    assert_int_equal(spool_bench_read(&s, 1, &first, &last), 40 - waiting);
    assert_int_equal(s.dropped, waiting);
    spool_close(&s);
}

static void spool_works_without_a_folder(void **state)
{
    (void)state;
    struct spool s;
    spool_bench_open(&s, "/nonexistent/spool");
    assert_non_null(spool_trouble(&s));
    spool_bench_put_many(&s, 10, 100);
    uint64_t first, last;
    assert_int_equal(spool_bench_read(&s, 1, &first, &last), 10);
    spool_close(&s);
}

/* A real full disk: a tmpfs of 64 KiB. */
static void spool_survives_a_full_tmpfs(void **state)
{
    (void)state;
    const char *dir = temp_dir();
    if (geteuid() != 0 ||
        mount("none", dir, "tmpfs", 0, "size=64k,mode=700") != 0) {
        skip();
    }
    struct spool s;
    struct spool_options o = spool_bench_options(dir);
    o.max_bytes = 1024 * 1024;
    o.memory_bytes = 256 * 1024;
    struct psc_error err;
    assert_int_equal(spool_open(&s, &o, &err), PSC_OK);
    spool_bench_put_many(&s, 200, 1000);
    bool troubled = spool_trouble(&s) != NULL;
    uint64_t first, last;
    uint64_t n_full = spool_bench_read(&s, 1, &first, &last);
    bool grown = mount("none", dir, "tmpfs", MS_REMOUNT, "size=1m") == 0;
    (void)spool_bench_put(&s, 1000, 1, 2 * SPOOL_RETRY_US);
    bool healed = spool_trouble(&s) == NULL;
    uint64_t n_healed = spool_bench_read(&s, 1, &first, &last);
    uint64_t dropped = s.dropped;
    spool_close(&s);
    (void)umount(dir);
    assert_true(troubled && grown && healed);
    assert_int_equal(n_full, 200);
    assert_int_equal(n_healed, 201);
    assert_int_equal(dropped, 0);
}

/* A child appends as fast as it can and tells each seq it has appended; it is
 * killed at some moment, several times over one folder. */
static void append_until_killed(const char *dir, int tell)
{
    struct spool s;
    spool_bench_open(&s, dir);
    for (;;) {
        uint64_t told[3];
        told[2] = spool_bench_put(&s, 200, 1, 1);
        memcpy(told, s.stream, SPOOL_STREAM_BYTES);
        if (write(tell, told, sizeof(told)) != (ssize_t)sizeof(told)) {
            _exit(1);
        }
    }
}

static void spool_loses_nothing_to_kill(void **state)
{
    (void)state;
    const char *dir = temp_dir();
    uint64_t told[10][3];
    memset(told, 0, sizeof(told));
    for (int i = 0; i < 10; i++) {
        int fds[2];
        assert_int_equal(pipe(fds), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            (void)close(fds[0]);
            append_until_killed(dir, fds[1]);
        }
        (void)close(fds[1]);
        int n = 1 + i * 3;
        while (n-- > 0) {
            assert_int_equal(read(fds[0], told[i], sizeof(told[i])),
                             sizeof(told[i]));
        }
        assert_int_equal(kill(child, SIGKILL), 0);
        while (read(fds[0], told[i], sizeof(told[i])) > 0) {
        }
        (void)close(fds[0]);
        assert_int_equal(waitpid(child, NULL, 0), child);
    }
    struct spool s;
    spool_bench_open(&s, dir);
    uint64_t dropped = s.dropped;
    for (int i = 0; i < 10; i++) {
        uint8_t front[SPOOL_STREAM_BYTES];
        uint64_t last;
        if (spool_front(&s, front, &last)) {
            break;
        }
        int k = 0;
        while (k < 10 && memcmp(told[k], front, sizeof(front)) != 0) {
            k++;
        }
        uint64_t a, b;
        uint64_t n = spool_bench_read(&s, 1, &a, &b);
        assert_int_equal(n, b + 1 - a);
        /* At most the one batch that was not yet told may be more. */
        assert_true(k == 10 || (b >= told[k][2] && b <= told[k][2] + 1));
        spool_finish_front(&s);
    }
    assert_int_equal(s.dropped, dropped);
    spool_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spool_gives_back_what_it_took),
        cmocka_unit_test(spool_reader_follows_appends),
        cmocka_unit_test(spool_segments_begin_with_keyframes),
        cmocka_unit_test(spool_drops_oldest_when_full),
        cmocka_unit_test(spool_ack_keeps_the_cursors_segment),
        cmocka_unit_test(spool_new_stream_at_each_start),
        cmocka_unit_test(spool_drops_what_is_gone),
        cmocka_unit_test(spool_gives_up_what_cannot_be_read),
        cmocka_unit_test(spool_counts_before_it_drops),
        cmocka_unit_test(spool_is_locked),
        cmocka_unit_test(spool_survives_every_failing_write),
        cmocka_unit_test(spool_memory_is_bounded),
        cmocka_unit_test(spool_counts_what_it_cannot_leave_behind),
        cmocka_unit_test(spool_works_without_a_folder),
        cmocka_unit_test(spool_survives_a_full_tmpfs),
        cmocka_unit_test(spool_loses_nothing_to_kill),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
