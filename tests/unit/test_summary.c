/* Summaries of days and months against sums made the simple way: sample by
 * sample, over all hours of a day that come in several chunks. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collector/summary.h"

enum { IDS = 40, SAMPLES = 24 * 12, CHUNKS = 6 };
#define DAY_US   (24 * CHUNK_HOUR_US)
#define MONTH_US INT64_C(1767225600000000) /* 2026-01-01 */

/* The statistics of one id in one step, the simple way. */
struct sum {
    uint32_t n;
    int64_t first, last, min, max, outstanding;
    double all;
};
static struct sum days[31][24][IDS];
static uint32_t samples[31][24];

static uint64_t seed;

static uint32_t below(uint32_t n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((seed >> 33) % n);
}

static void note(struct sum *s, int64_t bytes, int64_t outstanding)
{
    s->first = s->n == 0 ? bytes : s->first;
    s->min = s->n == 0 || bytes < s->min ? bytes : s->min;
    s->max = s->n == 0 || bytes > s->max ? bytes : s->max;
    s->last = bytes;
    s->outstanding = outstanding;
    s->all += (double)bytes;
    s->n++;
}

/* The state of the tags, which goes on from sample to sample. */
static struct {
    bool present;
    int64_t allocs, frees, bytes;
} tags[IDS];

static void step_tags(void)
{
    for (unsigned i = 0; i < IDS; i++) {
        if (below(40) == 0) {
            tags[i].present = !tags[i].present;
        }
        if (below(3) == 0) {
            tags[i].allocs += below(100);
            tags[i].frees += below(90);
            tags[i].bytes = (int64_t)below(1000000) * (1 + (int64_t)i * i);
        }
    }
}

static void put_tags(struct chunk_writer *w)
{
    chunk_writer_keyframe(w);
    for (uint32_t i = 0; i < IDS; i++) {
        const int64_t v[] = {tags[i].allocs, tags[i].frees,
                             tags[i].allocs - tags[i].frees, tags[i].bytes};
        if (tags[i].present) {
            assert_int_equal(chunk_writer_put(w, 5 + 3 * i, 15, v), 0);
        }
    }
}

/* One day of samples every five minutes, some missing, in chunks of four
 * hours; each is added to @s. */
static void simulate(struct summary *s, uint32_t day)
{
    static const uint8_t boot[CHUNK_BOOT_BYTES] = {3};
    struct chunk_writer w;
    struct chunk_sections c;
    struct psc_error err;
    chunk_writer_init(&w, 4, &chunk_openssl);
    for (uint32_t i = 0; i < SAMPLES; i++) {
        uint32_t hour = i / 12;
        int64_t at_us = MONTH_US + day * DAY_US + i * CHUNK_HOUR_US / 12 + 7;
        step_tags();
        bool kept = i % (SAMPLES / CHUNKS) == 0 || below(5) > 0;
        if (kept) {
            assert_int_equal(chunk_writer_snapshot(&w, i, at_us, at_us, boot),
                             0);
            put_tags(&w);
            samples[day][hour]++;
        }
        for (unsigned id = 0; kept && id < IDS; id++) {
            if (tags[id].present) {
                note(&days[day][hour][id], tags[id].bytes,
                     tags[id].allocs - tags[id].frees);
            }
        }
        if ((i + 1) % (SAMPLES / CHUNKS) == 0) {
            assert_int_equal(chunk_writer_finish(&w, &c), 0);
            assert_int_equal(summary_add(s, c.head, c.levels, c.data, &err), 0);
        }
    }
    chunk_writer_fini(&w);
}

/* What a summary says of @id at one step; false if it has it not. */
static bool read_back(const struct chunk_sections *c, uint32_t id,
                      int64_t at_us, struct sum *out, double *mean)
{
    static struct chunk_clock clock;
    struct chunk chunk;
    struct chunk_slice slice;
    struct chunk_block b;
    bool found = false;
    assert_int_equal(chunk_open(&chunk, c->head, &chunk_openssl, NULL), 0);
    assert_int_equal(chunk_clock_read(&clock, &chunk, NULL), 0);
    if (chunk_find(&chunk, 2 * id, &slice) != 0) {
        return false;
    }
    assert_int_equal(
        chunk_block_at(&b, &chunk, slice.block, c->data, c->levels, NULL), 0);
    assert_int_equal(b.ids[0] % 2, 0); /* pairs are not torn apart */
    for (uint32_t i = 0; i < b.n; i++) {
        struct chunk_runs r;
        chunk_runs_open(&r, &clock, &b, i);
        while (b.ids[i] / 2 == id && chunk_runs_next(&r)) {
            if (clock.at_us[r.from] != at_us) {
                continue;
            }
            found = true;
            if (b.ids[i] % 2 == 0) {
                out->min = r.values[COL_ALLOCS];
                out->outstanding = r.values[COL_OUTSTANDING];
                out->last = r.values[COL_BYTES];
            } else {
                out->first = r.values[COL_ALLOCS];
                *mean = (double)r.values[COL_OUTSTANDING];
                out->max = r.values[COL_BYTES];
            }
        }
    }
    return found;
}

static void check(const struct chunk_sections *c, uint32_t id, int64_t at_us,
                  const struct sum *want)
{
    struct sum got = {0};
    double mean = 0;
    bool found = read_back(c, id, at_us, &got, &mean);
    assert_int_equal(found, want->n > 0);
    if (found) {
        assert_int_equal(got.first, want->first);
        assert_int_equal(got.last, want->last);
        assert_int_equal(got.min, want->min);
        assert_int_equal(got.max, want->max);
        assert_int_equal(got.outstanding, want->outstanding);
        assert_true(fabs(mean - want->all / want->n) <= 1);
    }
}

/* A whole day from its hours. */
static struct sum sum_day(uint32_t day, unsigned id)
{
    struct sum all = {0};
    for (unsigned hour = 0; hour < 24; hour++) {
        const struct sum *h = &days[day][hour][id];
        if (h->n == 0) {
            continue;
        }
        all.first = all.n == 0 ? h->first : all.first;
        all.min = all.n == 0 || h->min < all.min ? h->min : all.min;
        all.max = all.n == 0 || h->max > all.max ? h->max : all.max;
        all.last = h->last;
        all.outstanding = h->outstanding;
        all.all += h->all / h->n * samples[day][hour];
        all.n += samples[day][hour];
    }
    return all;
}

static void summary_equals_simple_sums(void **state)
{
    struct summary s, month;
    struct chunk_sections c;
    struct psc_error err;
    (void)state;
    seed = 42;
    summary_init(&s, 4, &chunk_openssl);
    summary_init(&month, 4, &chunk_openssl);
    summary_begin_month(&month, MONTH_US, 31);
    for (uint32_t day = 0; day < 31; day += 1 + below(3)) {
        summary_begin_day(&s, MONTH_US + day * DAY_US);
        simulate(&s, day);
        assert_memory_equal(s.snapshots, samples[day], sizeof(samples[day]));
        assert_int_equal(summary_finish(&s, &c, &err), 0);
        for (unsigned hour = 0; hour < 24; hour++) {
            for (unsigned id = 0; id < IDS; id++) {
                check(&c, 5 + 3 * id,
                      MONTH_US + day * DAY_US + hour * CHUNK_HOUR_US,
                      &days[day][hour][id]);
            }
        }
        assert_int_equal(summary_add_day(&month, c.head, c.levels, c.data,
                                         s.snapshots, &err),
                         0);
    }
    assert_int_equal(summary_finish(&month, &c, &err), 0);
    for (uint32_t day = 0; day < 31; day++) {
        for (unsigned id = 0; id < IDS; id++) {
            struct sum want = sum_day(day, id);
            check(&c, 5 + 3 * id, MONTH_US + day * DAY_US, &want);
        }
    }
    summary_fini(&s);
    summary_fini(&month);
}

/* A counter's value in a summary. */
static double counter_value(const struct chunk_sections *c, uint32_t id,
                            unsigned which)
{
    struct chunk chunk;
    struct chunk_slice slice;
    struct chunk_block b;
    struct chunk_entry e;
    double v;
    id = SUMMARY_IDS * id + which;
    assert_int_equal(chunk_open(&chunk, c->head, &chunk_openssl, NULL), 0);
    assert_int_equal(chunk_find(&chunk, id, &slice), 0);
    assert_int_equal(
        chunk_block_at(&b, &chunk, slice.block, c->data, c->levels, NULL), 0);
    chunk_entry_open(&e, &b, chunk_block_find(&b, id));
    assert_true(chunk_next(&e) && e.present && e.flags == ENTRY_REAL);
    memcpy(&v, &e.values[0], sizeof(v));
    return v;
}

static void check_counter(const struct chunk_sections *c, uint32_t id,
                          const double want[SUMMARY_VALUES])
{
    for (unsigned i = 0; i < SUMMARY_VALUES; i++) {
        assert_true(counter_value(c, id, i) == want[i]);
    }
}

/* Counters: one in doubles that is no number in between, one in integers. */
static void summary_of_counters_leaves_out_what_is_no_number(void **state)
{
    static const uint8_t boot[CHUNK_BOOT_BYTES] = {3};
    static const double values[] = {1.5, NAN, 0.5, INFINITY, 4, -2e300};
    static const double reals[] = {0.5, 4, 1.5, 2, 4};
    static const double integers[] = {0, 5, 0, 2.5, 5};
    struct chunk_writer w;
    struct chunk_sections c;
    struct summary s, month;
    struct psc_error err;
    (void)state;
    chunk_writer_init(&w, 1, &chunk_openssl);
    summary_init(&s, 1, &chunk_openssl);
    summary_init(&month, 1, &chunk_openssl);
    for (int64_t i = 0; i < 6; i++) {
        int64_t bits, at_us = MONTH_US + i * 60000000;
        memcpy(&bits, &values[i], sizeof(bits));
        assert_int_equal(chunk_writer_snapshot(&w, i, at_us, at_us, boot), 0);
        assert_int_equal(chunk_writer_put(&w, 9, ENTRY_REAL, &bits), 0);
        bits = i;
        assert_int_equal(chunk_writer_put(&w, 10, 0, &bits), 0);
    }
    assert_int_equal(chunk_writer_finish(&w, &c), 0);
    summary_begin_day(&s, MONTH_US);
    assert_int_equal(summary_add(&s, c.head, c.levels, c.data, &err), 0);
    assert_int_equal(summary_finish(&s, &c, &err), 0);
    check_counter(&c, 9, reals);
    check_counter(&c, 10, integers);

    summary_begin_month(&month, MONTH_US, 31);
    assert_int_equal(
        summary_add_day(&month, c.head, c.levels, c.data, s.snapshots, &err),
        0);
    assert_int_equal(summary_finish(&month, &c, &err), 0);
    check_counter(&c, 9, reals);
    check_counter(&c, 10, integers);
    chunk_writer_fini(&w);
    summary_fini(&s);
    summary_fini(&month);
}

/* Tags in doubles: rounded, and absent where no integer is so large. */
static void summary_of_tags_in_doubles_is_whole(void **state)
{
    static const uint8_t boot[CHUNK_BOOT_BYTES] = {3};
    const double values[][TABLE_COLUMNS_MAX] = {
        {0, 0, 2.6, 4096.4}, {0, 0, 3, 1e30}, {0, 0, 1e30, 8192}};
    const uint8_t flags = ENTRY_REAL | TAG_OUTSTANDING | TAG_BYTES;
    struct chunk_writer w;
    struct chunk_sections c;
    struct summary s;
    struct psc_error err = {.msg = ""};
    struct sum got = {0};
    double mean = 0;
    (void)state;
    chunk_writer_init(&w, 4, &chunk_openssl);
    summary_init(&s, 4, &chunk_openssl);
    assert_int_equal(chunk_writer_snapshot(&w, 1, MONTH_US, MONTH_US, boot), 0);
    for (uint32_t i = 0; i < 3; i++) {
        int64_t bits[TABLE_COLUMNS_MAX];
        memcpy(bits, values[i], sizeof(bits));
        assert_int_equal(chunk_writer_put(&w, 5 + i, flags, bits), 0);
    }
    assert_int_equal(chunk_writer_finish(&w, &c), 0);
    summary_begin_day(&s, MONTH_US);
    assert_int_equal(summary_add(&s, c.head, c.levels, c.data, &err), 0);
    assert_int_equal(summary_finish(&s, &c, &err), 0);
    assert_true(read_back(&c, 5, MONTH_US, &got, &mean));
    assert_int_equal(got.last, 4096);
    assert_int_equal(got.outstanding, 3);
    assert_false(read_back(&c, 6, MONTH_US, &got, &mean));
    assert_true(read_back(&c, 7, MONTH_US, &got, &mean));
    assert_int_equal(got.last, 8192);
    chunk_writer_fini(&w);
    summary_fini(&s);
}

static void summary_tells_when_there_is_nothing(void **state)
{
    struct summary s;
    struct chunk_sections c;
    struct psc_error err;
    (void)state;
    summary_init(&s, 4, &chunk_openssl);
    summary_begin_day(&s, MONTH_US);
    assert_int_equal(summary_finish(&s, &c, &err), PSC_MISSING);
    assert_int_equal(summary_add(&s, (struct psc_bytes){NULL, 0},
                                 (struct psc_bytes){NULL, 0},
                                 (struct psc_bytes){NULL, 0}, &err),
                     PSC_FORMAT);
    summary_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(summary_equals_simple_sums),
        cmocka_unit_test(summary_of_counters_leaves_out_what_is_no_number),
        cmocka_unit_test(summary_of_tags_in_doubles_is_whole),
        cmocka_unit_test(summary_tells_when_there_is_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
