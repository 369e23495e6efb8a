/* What the disk under the spool can do: be full, be read-only, lose the end of
 * a file, corrupt its middle. The agent goes on in memory, says so, comes back
 * by itself; nothing is stored twice or wrong, and what is lost is counted.
 *
 * Full and read-only disks are small mounts of their own, which needs root and
 * mounting; where that is not allowed these two are skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/scene.h"
#include "tests/lib/spawn.h"
#include "tests/lib/steps.h"
#include "tests/lib/temp.h"
#include "tests/lib/world.h"

enum { WAIT_S = SCENE_WAIT_S, HEAD_BYTES = 128 };

static struct world world;

static int start(void **state)
{
    (void)state;
    world_start(&world, false, NULL, NULL);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    world_stop(&world);
    return 0;
}

/* A scene and the folder of its spool. */
static const char *begin(struct scene *s, const char *name)
{
    static const char *const more[] = {"--spool-sync", "1s", NULL};
    scene_init(s, &world, name, 0, more);
    const char *spool = temp_path(s->agent->state_dir, "spool");
    assert_int_equal(mkdir(spool, 0700), 0);
    return spool;
}

static void end(struct scene *s, const char *title)
{
    scene_expect_all(s, title);
    scene_fini(s);
}

/* --- mounts --- */

static void unmount(void *arg)
{
    (void)umount2(arg, MNT_DETACH);
}

static void mount_or_skip(const char *spool)
{
    if (mount("tmpfs", spool, "tmpfs", 0, "size=512k") != 0) {
        print_message("SKIPPED: cannot mount a small disk: %s\n",
                      strerror(errno));
        skip();
    }
    temp_at_exit(unmount, (void *)(uintptr_t)spool);
}

/* Fill the disk to the last byte. */
static void fill(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    char block[4096];
    memset(block, 'x', sizeof(block));
    assert_true(fd >= 0);
    while (write(fd, block, sizeof(block)) > 0) {
    }
    (void)close(fd);
}

static void expect_source_error(const struct scene *s, bool there)
{
    char sql[256];
    (void)snprintf(sql, sizeof(sql),
                   "SELECT (source_errors::text LIKE '%%wait in memory%%') = %s"
                   " FROM poolscope.host WHERE host = '%s'",
                   there ? "true" : "false", s->agent->name);
    world_await(&world, WAIT_S, sql);
}

static void a_full_disk_costs_nothing_but_memory(void **state)
{
    (void)state;
    struct scene s;
    const char *spool = begin(&s, "full");
    const char *filler = temp_path(spool, "filler");
    mount_or_skip(spool);
    world_agent_start(s.agent);
    scene_await_connected(&s);
    scene_await_taken(&s, 3);

    fill(filler);
    world_log_await(s.agent->log, "wait in memory", 1, WAIT_S);
    scene_await_taken(&s, 5);
    expect_source_error(&s, true);

    world_collector_stop(&world, SIGTERM); /* it all waits in memory now */
    scene_await_taken(&s, 10);
    world_collector_start(&world);
    scene_await_taken(&s, 5);
    assert_int_equal(unlink(filler), 0);
    world_log_await(s.agent->log, "the disk works again", 1, WAIT_S);
    expect_source_error(&s, false);
    end(&s, "full disk");
}

static void a_read_only_disk_too(void **state)
{
    (void)state;
    struct scene s;
    const char *spool = begin(&s, "readonly");
    mount_or_skip(spool);
    assert_int_equal(
        mount(NULL, spool, NULL, MS_REMOUNT | MS_RDONLY, "size=512k"), 0);
    world_agent_start(s.agent);
    world_log_await(s.agent->log, "wait in memory", 1, WAIT_S);
    expect_source_error(&s, true);
    world_collector_stop(&world, SIGTERM);
    scene_await_taken(&s, 10);
    world_collector_start(&world);

    assert_int_equal(mount(NULL, spool, NULL, MS_REMOUNT, "size=512k"), 0);
    world_log_await(s.agent->log, "the disk works again", 1, WAIT_S);
    expect_source_error(&s, false);
    end(&s, "read-only disk");
}

/* --- damage between two runs --- */

/* Path of the newest segment. */
static const char *newest_segment(const char *spool)
{
    char name[64] = "";
    DIR *dir = opendir(spool);
    assert_non_null(dir);
    const struct dirent *e;
    while ((e = readdir(dir)) != NULL) {
        size_t len = strlen(e->d_name);
        if (len > 4 && len < sizeof(name) &&
            strcmp(e->d_name + len - 4, ".seg") == 0 &&
            strcmp(e->d_name, name) > 0) {
            memcpy(name, e->d_name, len + 1);
        }
    }
    (void)closedir(dir);
    assert_true(name[0] != '\0');
    return temp_path(spool, name);
}

static off_t size_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

/* Let the agent spool without a collector, and kill it. */
static void spool_and_kill(struct scene *s)
{
    scene_await_taken(s, 3);
    world_collector_stop(&world, SIGTERM);
    scene_await_taken(s, 25);
    world_agent_stop(s->agent, SIGKILL);
}

/* After damage: what is missing is known, the rest is right. */
static void expect_damage(struct scene *s, const char *title, long long worst)
{
    struct world_tally t;
    world_agent_start(s->agent);
    world_collector_start(&world);
    scene_await_taken(s, 3);
    steps_await(s->steps, &world, s->agent->name, true, WAIT_S);
    world_settle(&world, s->agent, WAIT_S, title, &t);
    print_message("%s: %lld lost by the damage, %lld counted\n", title,
                  t.missing, t.dropped);
    assert_in_range(t.missing, 1, worst);
    steps_check(s->steps, &world, s->agent->name, true);
}

static void a_torn_tail_is_cut(void **state)
{
    (void)state;
    struct scene s;
    const char *spool = begin(&s, "torn");
    world_agent_start(s.agent);
    scene_await_connected(&s);
    spool_and_kill(&s);
    const char *path = newest_segment(spool);
    assert_int_equal(truncate(path, size_of(path) - 7), 0);
    expect_damage(&s, "torn tail", 1);
    scene_fini(&s);
}

static void a_corrupt_middle_costs_its_segment(void **state)
{
    (void)state;
    struct scene s;
    const char *spool = begin(&s, "corrupt");
    world_agent_start(s.agent);
    scene_await_connected(&s);
    spool_and_kill(&s);
    const char *path = newest_segment(spool);
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    off_t at = size_of(path) - 600;
    at = at > HEAD_BYTES ? at : HEAD_BYTES;
    assert_int_equal(pwrite(fd, "garbage", 7, at), 7);
    (void)close(fd);
    expect_damage(&s, "corrupt middle", 28);
    scene_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_disk_costs_nothing_but_memory),
        cmocka_unit_test(a_read_only_disk_too),
        cmocka_unit_test(a_torn_tail_is_cut),
        cmocka_unit_test(a_corrupt_middle_costs_its_segment),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
