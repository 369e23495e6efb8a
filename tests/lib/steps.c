/* The moving tree and the check of what became of it.
 *
 * Agents keep files of /proc open, so a step overwrites them in place, in one
 * write of a fixed length within one page. A reader may still see half of a
 * step (two steps, one apart); such samples are counted and must be rare. */
#include "tests/lib/steps.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/lib/spawn.h"
#include "tests/lib/temp.h"

enum {
    TAGS = 24, /* step_a … step_x */
    FIELDS = 6,
    FILE_BYTES = 4096,
    STEPS_PER_EVENT = 8,
    PAGE_BYTES = 4096,
    TORN_PERCENT = 2,
};

struct steps {
    pthread_t thread;
    const char *root;
    int slabinfo, meminfo, kmsg;
    atomic_bool stop;
    pthread_mutex_t lock; /* over what follows */
    bool standing;
    unsigned every_ms;
    long step;
    long n_events;      /* ever */
    long n_boot_events; /* in this boot */
    unsigned n_boots;
    bool joined;
};

/* --- the functions of the step --- */

/* Objects of tag @i at step @k, or -1: there is none. */
static long tag_at(int i, long k)
{
    if (i == 0 || i == TAGS - 1) {
        return k;
    }
    switch (i % 4) {
    case 0: return k * (2 * i + 1) % 100000;
    case 1: return k / 16 + i;
    case 2: return i * 1000;
    default: return (k >> (i % 6) & 1) != 0 ? k * i % 5000 : -1;
    }
}

static long pages_at(long objects)
{
    return objects / 8 + 1;
}

static const char *const field_names[FIELDS] = {
    "MemFree", "Buffers", "Cached", "SwapCached", "Mapped", "Percpu"};

/* KiB of a field of meminfo. */
static long field_at(int i, long k)
{
    switch (i) {
    case 1: return k * 7 % 50000;
    case 2: return k / 16;
    case 3: return 4242;
    case 4: return k * 3;
    default: return k;
    }
}

/* --- the tree --- */

static void put(int fd, const char *text, size_t len)
{
    char page[FILE_BYTES];
    assert_true(len <= sizeof(page));
    memset(page, '\n', sizeof(page));
    memcpy(page, text, len);
    assert_int_equal(pwrite(fd, page, sizeof(page), 0), sizeof(page));
}

static void write_slabinfo(const struct steps *s)
{
    char text[FILE_BYTES];
    size_t n = (size_t)snprintf(text, sizeof(text),
                                "slabinfo - version: 2.1\n# name\n");
    for (int i = 0; i < TAGS; i++) {
        long objects = tag_at(i, s->step);
        if (objects >= 0) {
            n += (size_t)snprintf(text + n, sizeof(text) - n,
                                  "step_%c %ld %ld 512 8 1 : tunables 0 0 0 : "
                                  "slabdata %ld %ld 0\n",
                                  'a' + i, objects, objects + 5,
                                  pages_at(objects), pages_at(objects));
            assert_true(n < sizeof(text));
        }
    }
    put(s->slabinfo, text, n);
}

static void write_meminfo(const struct steps *s)
{
    char text[FILE_BYTES];
    size_t n = (size_t)snprintf(text, sizeof(text), "MemTotal: 16384000 kB\n");
    for (int i = 0; i < FIELDS; i++) {
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s: %ld kB\n",
                              field_names[i], field_at(i, s->step));
    }
    put(s->meminfo, text, n);
}

static void write_event(struct steps *s)
{
    char line[160];
    s->n_events++;
    int n = snprintf(line, sizeof(line),
                     "4,%ld,%lld,-;vmap allocation for size %ld failed: use "
                     "vmalloc=<size> to increase size\n",
                     ++s->n_boot_events, (long long)psc_clock_mono_us(),
                     s->n_events * PAGE_BYTES);
    assert_int_equal(write(s->kmsg, line, (size_t)n), n);
}

static void write_step(struct steps *s)
{
    s->step++;
    write_slabinfo(s);
    write_meminfo(s);
    if (s->step % STEPS_PER_EVENT == 0) {
        write_event(s);
    }
}

static void *run(void *arg)
{
    struct steps *s = arg;
    while (!atomic_load(&s->stop)) {
        (void)pthread_mutex_lock(&s->lock);
        if (!s->standing) {
            write_step(s);
        }
        (void)pthread_mutex_unlock(&s->lock);
        spawn_sleep_ms((long)s->every_ms);
    }
    return NULL;
}

static void write_small(const struct steps *s, const char *name,
                        const char *text)
{
    const char *path = temp_path(s->root, name);
    (void)unlink(path);
    temp_write(path, text, strlen(text));
}

static void write_boot(struct steps *s)
{
    char text[64];
    (void)snprintf(text, sizeof(text), "5f0c8c1e-3a2b-4c5d-8e9f-%06x%06x\n",
                   (unsigned)getpid() & 0xffffffu, ++s->n_boots);
    write_small(s, "proc/sys/kernel/random/boot_id", text);
    (void)snprintf(
        text, sizeof(text), "btime %lld\n",
        (long long)((psc_clock_wall_us() - psc_clock_boot_us()) / 1000000));
    write_small(s, "proc/stat", text);
    write_small(s, "dev/kmsg", "6,0,1,-;Linux version 6.12\n");
    if (s->kmsg >= 0) {
        (void)close(s->kmsg);
    }
    s->kmsg =
        open(temp_path(s->root, "dev/kmsg"), O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_true(s->kmsg >= 0);
    s->n_boot_events = 0;
}

static int make_file(const struct steps *s, const char *name)
{
    int fd = open(temp_path(s->root, name), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    return fd;
}

static void end_at_exit(void *arg)
{
    struct steps *s = arg;
    steps_stop(s);
    free(s);
}

struct steps *steps_start(const char *host, unsigned every_ms)
{
    static const char *const dirs[] = {
        "proc", "proc/sys",   "proc/sys/kernel", "proc/sys/kernel/random",
        "dev",  "proc/sys/fs"};
    struct steps *s = calloc(1, sizeof(*s));
    assert_non_null(s);
    s->root = temp_dir();
    s->every_ms = every_ms;
    s->kmsg = -1;
    for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
        assert_int_equal(mkdir(temp_path(s->root, dirs[i]), 0755), 0);
    }
    write_small(s, "proc/sys/kernel/hostname", host);
    write_boot(s);
    s->slabinfo = make_file(s, "proc/slabinfo");
    s->meminfo = make_file(s, "proc/meminfo");
    write_step(s);
    assert_int_equal(pthread_mutex_init(&s->lock, NULL), 0);
    assert_int_equal(pthread_create(&s->thread, NULL, run, s), 0);
    temp_at_exit(end_at_exit, s);
    return s;
}

const char *steps_root(const struct steps *s)
{
    return s->root;
}

long steps_pause(struct steps *s)
{
    (void)pthread_mutex_lock(&s->lock);
    s->standing = true;
    long step = s->step;
    (void)pthread_mutex_unlock(&s->lock);
    return step;
}

void steps_resume(struct steps *s)
{
    (void)pthread_mutex_lock(&s->lock);
    s->standing = false;
    (void)pthread_mutex_unlock(&s->lock);
}

void steps_new_boot(struct steps *s)
{
    (void)pthread_mutex_lock(&s->lock);
    write_boot(s);
    (void)pthread_mutex_unlock(&s->lock);
}

void steps_stop(struct steps *s)
{
    if (!s->joined) {
        atomic_store(&s->stop, true);
        (void)pthread_join(s->thread, NULL);
        (void)close(s->slabinfo);
        (void)close(s->meminfo);
        (void)close(s->kmsg);
        s->joined = true;
    }
}

/* --- checking --- */

struct fold {
    const char *what;
    int n;                        /* entries */
    long (*at)(int i, long step); /* -1: absent */
    long value[TAGS];             /* -1: absent */
    long last_step;
    long samples, torn;
};

static bool matches(const struct fold *f, long k)
{
    for (int i = 0; i < f->n; i++) {
        if (f->value[i] != f->at(i, k)) {
            return false;
        }
    }
    return true;
}

/* Every entry is as at one of two neighbouring steps. */
static bool is_torn(const struct fold *f, long k)
{
    for (int i = 0; i < f->n; i++) {
        if (f->value[i] != f->at(i, k) && f->value[i] != f->at(i, k - 1)) {
            return false;
        }
    }
    return true;
}

/* The sample @n is folded: its values must be those of one step. */
static void check_sample(struct fold *f, const char *n)
{
    long k = f->value[0];
    f->samples++;
    if (k < f->last_step) {
        fail_msg("%s of sample %s: step %ld after step %ld", f->what, n, k,
                 f->last_step);
    }
    f->last_step = k;
    if (matches(f, k)) {
        return;
    }
    long later = f->value[f->n - 1] > k ? f->value[f->n - 1] : k;
    if (is_torn(f, later)) {
        f->torn++;
        return;
    }
    for (int i = 0; i < f->n; i++) {
        if (f->value[i] != f->at(i, k)) {
            fail_msg("%s of sample %s, step %ld: entry %c is %ld, not %ld",
                     f->what, n, k, 'a' + i, f->value[i], f->at(i, k));
        }
    }
}

/* Rows: n, whether those of it tell all, entry's letter, value or NULL (gone);
 * in order of n. */
static void check_rows(PGresult *r, struct fold *f)
{
    const char *n = "";
    for (int row = 0; row < PQntuples(r); row++) {
        const char *now = PQgetvalue(r, row, 0);
        if (strcmp(n, now) != 0) {
            if (row > 0) {
                check_sample(f, n);
            }
            n = now;
            for (int i = 0; i < f->n && PQgetvalue(r, row, 1)[0] == 't'; i++) {
                f->value[i] = -1;
            }
        }
        int i = PQgetvalue(r, row, 2)[0] - 'a';
        assert_in_range(i, 0, f->n - 1);
        f->value[i] = PQgetisnull(r, row, 3)
                          ? -1
                          : strtol(PQgetvalue(r, row, 3), NULL, 10);
    }
    if (PQntuples(r) > 0) {
        check_sample(f, n);
    }
    print_message("%s: %ld samples hold exactly their step, %ld of them were "
                  "read during a step\n",
                  f->what, f->samples, f->torn);
    assert_true(f->samples > 0);
    assert_true(f->torn * 100 <= f->samples * TORN_PERCENT + 100);
}

static PGresult *rows(struct world *w, const char *fmt, const char *host)
{
    char sql[2048];
    assert_true((size_t)snprintf(sql, sizeof(sql), fmt, host) < sizeof(sql));
    (void)world_text(w, "SELECT 1"); /* connects anew if need be */
    PGresult *r = PQexec(w->sql, sql);
    if (PQresultStatus(r) != PGRES_TUPLES_OK) {
        fail_msg("%s", PQerrorMessage(w->sql));
    }
    return r;
}

static void check_fold(struct world *w, const char *sql, const char *host,
                       struct fold *f)
{
    PGresult *r = rows(w, sql, host);
    for (int i = 0; i < f->n; i++) {
        f->value[i] = -1;
    }
    check_rows(r, f);
    PQclear(r);
}

static void check_tags(struct world *w, const char *host)
{
    static const char sql[] =
        "SELECT p.n, true, right(t.tag, 1),"
        " CASE WHEN p.bytes = (p.outstanding / 8 + 1) * 4096"
        "  THEN p.outstanding ELSE -2 END"
        " FROM poolscope_data.host h"
        " CROSS JOIN poolscope_data.tag t"
        " CROSS JOIN LATERAL ("
        "  SELECT p.n, p.outstanding, p.bytes FROM poolscope_data.tag_chunk c,"
        "   poolscope_data.chunk_find(c.head, t.tag_id) b,"
        "   poolscope_data.chunk_points(c.head,"
        "    substr(c.levels, b.levels_from, b.levels_length),"
        "    substr(c.data, b.data_from, b.data_length), t.tag_id) p"
        "  WHERE c.host_id = h.host_id"
        "  UNION ALL SELECT f.ns[p.i], p.outstanding, p.bytes"
        "  FROM poolscope_data.fresh_tags(h.host_id, '-infinity',"
        "    'infinity') f,"
        "   poolscope_data.stored_tag_points(f.rows, f.kinds, t.tag_id) p) p"
        " WHERE h.host = '%s' AND t.pool = 'slab' AND t.tag LIKE 'step\\__'"
        " ORDER BY p.n";
    struct fold f = {.what = "tags", .n = TAGS, .at = tag_at};
    check_fold(w, sql, host, &f);
}

static void check_counters(struct world *w, const char *host)
{
    static const char sql[] =
        "SELECT p.n, true, chr(96 + array_position(ARRAY['MemFree',"
        " 'Buffers', 'Cached', 'SwapCached', 'Mapped', 'Percpu'],"
        " split_part(t.counter, '_', 3))), (p.value / 1024)::bigint"
        " FROM poolscope_data.host h"
        " CROSS JOIN poolscope_data.counter_name t"
        " CROSS JOIN LATERAL ("
        "  SELECT p.n, p.value FROM poolscope_data.counter_chunk c,"
        "   poolscope_data.chunk_find(c.head, t.counter_id) b,"
        "   poolscope_data.chunk_counter_points(c.head,"
        "    substr(c.levels, b.levels_from, b.levels_length),"
        "    substr(c.data, b.data_from, b.data_length), t.counter_id) p"
        "  WHERE c.host_id = h.host_id"
        "  UNION ALL SELECT f.ns[p.i], p.value"
        "  FROM poolscope_data.fresh_counters(h.host_id, '-infinity',"
        "    'infinity') f,"
        "   poolscope_data.stored_counter_points(f.rows, f.kinds,"
        "    t.counter_id) p) p"
        " WHERE h.host = '%s' AND t.counter ~ '^node_memory_(MemFree|Buffers"
        "|Cached|SwapCached|Mapped|Percpu)_bytes$'"
        " ORDER BY p.n";
    struct fold f = {.what = "counters", .n = FIELDS, .at = field_at};
    check_fold(w, sql, host, &f);
}

/* Tags and counters are taken together here: none may come without the other,
 * or a part of a batch would be lost unseen. */
static void check_pairs(struct world *w, const char *host)
{
    static const char sql[] =
        "SELECT count(*) FROM poolscope_data.fresh f"
        " JOIN poolscope_data.host h USING (host_id)"
        " WHERE h.host = '%s' AND (tags_kind > 0) <> (counters_kind > 0)";
    PGresult *r = rows(w, sql, host);
    if (strcmp(PQgetvalue(r, 0, 0), "0") != 0) {
        fail_msg("%s samples of %s lack their tags or their counters",
                 PQgetvalue(r, 0, 0), host);
    }
    PQclear(r);
}

/* What dashboards ask: as many points as samples, each step in its turn. */
static void check_history(struct world *w, const char *host)
{
    static const char sql[] =
        "SELECT (SELECT count(*) FROM poolscope_data.fresh f"
        "  JOIN poolscope_data.host h USING (host_id) WHERE h.host = '%1$s'"
        "  AND f.tags_kind > 0 AND isfinite(f.at)) = count(*)"
        " AND bool_and(bytes = (outstanding / 8 + 1) * 4096)"
        " AND bool_and(outstanding >= before), count(*)"
        " FROM (SELECT bytes, outstanding, lag(outstanding, 1, 0::bigint)"
        "   OVER (ORDER BY at) AS before"
        "  FROM poolscope.pool_history('%1$s', 'slab', 'step_a', '-infinity',"
        "   'infinity')) x";
    PGresult *r = rows(w, sql, host);
    if (PQgetvalue(r, 0, 0)[0] != 't') {
        fail_msg("pool_history of %s is not what is stored", host);
    }
    PQclear(r);
}

static void check_events(const struct steps *s, struct world *w,
                         const char *host, bool lost_ok)
{
    static const char sql[] =
        "SELECT count(*), count(DISTINCT message) FROM poolscope.event"
        " WHERE host = '%s' AND event_id = 'vmap_allocation_failure'";
    PGresult *r = rows(w, sql, host);
    long n = strtol(PQgetvalue(r, 0, 0), NULL, 10);
    long different = strtol(PQgetvalue(r, 0, 1), NULL, 10);
    PQclear(r);
    print_message("events: %ld written, %ld stored, %ld different\n",
                  s->n_events, n, different);
    assert_int_equal(n, different);
    assert_true(n <= s->n_events);
    if (!lost_ok) {
        assert_int_equal(n, s->n_events);
    }
}

void steps_await(struct steps *s, struct world *w, const char *host,
                 bool lost_ok, int timeout_s)
{
    char sql[512];
    long step = steps_pause(s);
    (void)snprintf(sql, sizeof(sql),
                   "SELECT (SELECT outstanding FROM poolscope.pool_now"
                   "  WHERE host = '%s' AND tag = 'step_x') = %ld"
                   " AND (%s OR (SELECT count(DISTINCT message)"
                   "  FROM poolscope.event WHERE host = '%s'"
                   "  AND event_id = 'vmap_allocation_failure') = %ld)",
                   host, step, lost_ok ? "true" : "false", host, s->n_events);
    world_await(w, timeout_s, sql);
}

void steps_check(struct steps *s, struct world *w, const char *host,
                 bool lost_ok)
{
    (void)steps_pause(s);
    check_tags(w, host);
    check_counters(w, host);
    check_pairs(w, host);
    check_history(w, host);
    check_events(s, w, host, lost_ok);
}
