/* Files of /proc: lines across reads, absurd lines, and files without end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/procfile_linux.h"
#include "tests/lib/temp.h"

struct seen {
    size_t lines, bytes, longest;
    int stop_at;
};

static int on_line(void *ctx, struct text line)
{
    struct seen *s = ctx;
    s->lines++;
    s->bytes += text_left(&line);
    if (text_left(&line) > s->longest) {
        s->longest = text_left(&line);
    }
    return s->stop_at > 0 && s->lines == (size_t)s->stop_at ? 77 : 0;
}

static const char *make_file(const char *root, const char *data, size_t len)
{
    temp_write(temp_path(root, "file"), data, len);
    return "/file";
}

static void proc_file_lines_join_reads(void **state)
{
    (void)state;
    const char *root = temp_dir();
    const size_t lines = 30000;
    char *data = malloc(lines * 8);
    assert_non_null(data);
    for (size_t i = 0; i < lines; i++) {
        memset(data + i * 8, '1', 7);
        data[i * 8 + 7] = '\n';
    }
    struct proc_file f;
    struct psc_error err;
    const char *path = make_file(root, data, lines * 8 - 1);
    free(data);
    assert_int_equal(proc_file_open(&f, root, path, "", &err), 0);
    for (int i = 0; i < 2; i++) {
        struct seen s = {0};
        assert_int_equal(proc_file_lines(&f, on_line, &s, &err), 0);
        assert_int_equal(s.lines, lines);
        assert_int_equal(s.bytes, lines * 7);
        assert_int_equal(s.longest, 7);
    }
    struct seen s = {.stop_at = 5};
    assert_int_equal(proc_file_lines(&f, on_line, &s, &err), 77);
    assert_int_equal(s.lines, 5);
    proc_file_close(&f);
}

static void proc_file_lines_cut_absurd_ones(void **state)
{
    (void)state;
    const char *root = temp_dir();
    size_t len = 300000;
    char *data = malloc(len);
    assert_non_null(data);
    memset(data, 'x', len);
    data[len - 4] = '\n';
    data[len - 1] = '\n';
    struct proc_file f;
    struct psc_error err;
    const char *path = make_file(root, data, len);
    free(data);
    struct seen s = {0};
    assert_int_equal(proc_file_open(&f, root, path, "", &err), 0);
    assert_int_equal(proc_file_lines(&f, on_line, &s, &err), 0);
    assert_int_equal(s.lines, 2);
    assert_true(s.longest < 40000);
    proc_file_close(&f);
}

static void proc_file_lines_end(void **state)
{
    (void)state;
    const char *root = temp_dir();
    const char *path = make_file(root, "x", 1);
    assert_int_equal(
        truncate(temp_path(root, "file"), (off_t)PROC_FILE_MAX_BYTES + 65536),
        0);
    struct proc_file f;
    struct psc_error err;
    struct seen s = {0};
    assert_int_equal(proc_file_open(&f, root, path, "", &err), 0);
    assert_int_equal(proc_file_lines(&f, on_line, &s, &err), PSC_LIMIT);
    assert_non_null(strstr(err.msg, "larger than 64 MiB"));
    proc_file_close(&f);
}

static void proc_file_open_says_what_would_help(void **state)
{
    (void)state;
    struct proc_file f;
    struct psc_error err;
    assert_int_equal(proc_file_open(&f, "", "/nonexistent", "luck", &err),
                     PSC_MISSING);
    assert_non_null(strstr(err.msg, "/nonexistent does not exist"));
    proc_file_close(&f);
    char longer[2 * PROC_PATH_MAX_BYTES];
    memset(longer, 'a', sizeof(longer));
    longer[sizeof(longer) - 1] = '\0';
    assert_int_equal(proc_file_open(&f, "", longer, "", &err), PSC_LIMIT);
    if (geteuid() != 0) {
        const char *root = temp_dir();
        const char *path = make_file(root, "x", 1);
        assert_int_equal(chmod(temp_path(root, "file"), 0), 0);
        assert_int_equal(proc_file_open(&f, root, path, "luck", &err),
                         PSC_PERMISSION);
        assert_non_null(strstr(err.msg, "needs luck"));
    }
}

static int count_name(void *ctx, const char *name, unsigned char d_type)
{
    (void)name;
    (void)d_type;
    ++*(int *)ctx;
    return 0;
}

static void dir_names_start_over(void **state)
{
    (void)state;
    const char *root = temp_dir();
    for (int c = 'a'; c <= 'z'; c++) {
        const char name[2] = {(char)c, '\0'};
        temp_write(temp_path(root, name), "", 0);
    }
    int fd = open(root, O_RDONLY | O_DIRECTORY);
    assert_true(fd >= 0);
    for (int i = 0; i < 2; i++) {
        int n = 0;
        assert_int_equal(dir_names(fd, count_name, &n), 0);
        assert_int_equal(n, 26);
    }
    (void)close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(proc_file_lines_join_reads),
        cmocka_unit_test(proc_file_lines_cut_absurd_ones),
        cmocka_unit_test(proc_file_lines_end),
        cmocka_unit_test(proc_file_open_says_what_would_help),
        cmocka_unit_test(dir_names_start_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
