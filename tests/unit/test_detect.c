/* Detection on one host: groups, the life of a finding, and what must not
 * matter (order, start, scale, interruption). test_shapes.c measures how often
 * it is right. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "tests/unit/detect_sim.h"

enum { FILP = 11, DENTRY, KMALLOC, SMALL, OTHER, INODES, PAGES };

#define RATE  100000.0 /* bytes a second of FILP */
#define START 130.0    /* of the leak, seconds */

/* What eventfds cost that nobody closes, from START to @stop; then the memory
 * is given back, or stays. */
struct leak {
    double start, stop;
    bool freed;
    bool backwards; /* name the tags in the opposite order */
    double scale;   /* of all bytes */
    uint64_t seed;
};

static const struct leak endless = {START, 1e9, true, false, 1, 7};

static double leaked(const struct leak *l, double t)
{
    if (t <= l->start || (t > l->stop && l->freed)) {
        return 0;
    }
    return (t < l->stop ? t : l->stop) - l->start;
}

static void put(struct sim *sim, uint32_t id, double bytes)
{
    uint8_t flags = id == DENTRY || id == INODES ? ENTRY_RECLAIMABLE : 0;
    int pool = id == PAGES ? POOL_PAGES : POOL_SLAB;

    assert_int_equal(
        detect_tag(sim->host, id, pool, flags, id == KMALLOC, (int64_t)bytes),
        0);
}

/* One snapshot of a machine that leaks as @l. */
static void snapshot(struct sim *sim, struct leak *l)
{
    sim_begin(sim);
    double t = sim_time(sim);
    /* Noise by time alone, so that a run from the middle sees the same. */
    uint64_t seed = l->seed + (uint64_t)sim->at_us;
    double value[7];
    value[0] = 30 * MB + RATE * leaked(l, t);
    value[1] = 90 * MB + RATE * leaked(l, t);
    value[2] = 10 * MB + RATE / 3 * leaked(l, t);
    value[3] = 1 * MB + RATE / 50 * leaked(l, t);
    value[4] = 50 * MB;
    value[5] = 200 * MB;
    value[6] = 300 * MB;
    for (uint32_t i = 0; i < 7; i++) {
        value[i] += 20000 * sim_uniform(&seed, 0, 1);
    }
    for (uint32_t i = 0; i < 7; i++) {
        uint32_t at = l->backwards ? 6 - i : i;
        put(sim, FILP + at, l->scale * value[at]);
    }
    assert_int_equal(sim_end(sim), 0);
}

static void run(struct sim *sim, struct leak *l, double until)
{
    while (sim_time(sim) < until) {
        snapshot(sim, l);
    }
}

static bool has_tag(const struct detect_finding *f, uint32_t id)
{
    for (uint32_t i = 0; i < f->n_tags; i++) {
        if (f->tags[i] == id) {
            return true;
        }
    }
    return false;
}

static void near(double value, double expected, double share)
{
    if (fabs(value - expected) > share * fabs(expected)) {
        fail_msg("%g instead of %g", value, expected);
    }
}

static void new_sim(struct sim *sim, double interval_s)
{
    assert_true(sim_init(sim, interval_s));
}

/* --- what is found --- */

static void lockstep_is_one_finding(void **state)
{
    (void)state;
    struct sim sim;
    struct leak l = endless;
    new_sim(&sim, 2);
    run(&sim, &l, START + 300);
    assert_int_equal(sim_count(&sim, DETECT_OPENED), 1);
    const struct detect_finding *f = sim_first(&sim, DETECT_OPENED);
    assert_int_equal(f->key, FILP);
    assert_int_equal(f->tags[0], FILP);
    assert_int_equal(f->n_tags, 4);
    assert_true(has_tag(f, DENTRY) && has_tag(f, KMALLOC) && has_tag(f, SMALL));
    near(f->bytes_per_day, RATE * SIM_DAY, 0.01);
    /* Of the dentries, which grow as fast as the files, two thirds of the
     * rest count. */
    double group = RATE * (1 + 1 / 3.0 + 0.02) * (1 + 2 / 3.0);
    near(f->group_bytes_per_day, group * SIM_DAY, 0.01);
    near((double)(f->onset_us - SIM_START_US) / 1e6, START, 0.05);
    double left_s = (double)(f->exhaustion_us - f->detected_us) / 1e6;
    near(left_s, sim.room / group, 0.01);
    assert_true(f->earliest_us <= f->exhaustion_us);
    assert_true(f->latest_us >= f->exhaustion_us);
    assert_true(f->fast && f->growing && !f->information);
    assert_true(f->confidence > 0.5 && f->confidence <= 1);
    sim_fini(&sim);
}

/* Files that leak with their dentries, while a scan makes the same caches grow
 * along: the scan takes nothing that is not given back. */
static void caches_count_for_little(void **state)
{
    (void)state;
    struct sim sim;
    new_sim(&sim, 2);
    while (sim_time(&sim) < START + 300) {
        sim_begin(&sim);
        double t = sim_time(&sim);
        double grown = t > START ? RATE * (t - START) : 0;
        put(&sim, DENTRY, 9 * MB + 1.75 * grown); /* 0.75 of it pinned */
        put(&sim, FILP, 30 * MB + grown);
        put(&sim, INODES, 50 * MB + 2 * grown);
        put(&sim, KMALLOC, 10 * MB + 0.25 * grown);
        assert_int_equal(sim_end(&sim), 0);
    }
    assert_int_equal(sim_count(&sim, DETECT_OPENED), 1);
    for (uint32_t i = 0; i < sim.n_told; i++) {
        const struct detect_finding *f = &sim.told[i];
        assert_int_equal(f->n_tags, 4);
        assert_int_equal(f->n_reclaimable, 2);
        assert_int_equal(f->tags[0], FILP);
        assert_int_equal(f->tags[1], KMALLOC);
        assert_int_equal(f->tags[2], INODES);
        assert_int_equal(f->tags[3], DENTRY);
        assert_int_equal(f->group_pool, POOL_SLAB);
        near(f->group_bytes_per_day, 2 * RATE * SIM_DAY, 0.1);
        int64_t left_us = f->exhaustion_us - f->updated_us;
        near((double)left_us / 1e6, sim.room / (2 * RATE), 0.1);
        /* From all of the reclaimable growth to none of it, and a drift. */
        near((double)(f->earliest_us - f->updated_us) / 1e6,
             sim.room / (5 * RATE * 1.35), 0.05);
        near((double)(f->latest_us - f->updated_us) / 1e6,
             sim.room / (1.25 * RATE * 0.65), 0.05);
    }
    sim_fini(&sim);
}

/* No more than a floor that rises at every step can have in so many windows. */
static double highest_z(uint32_t n)
{
    double v = n;
    return (v * (v - 1) / 2 - 1) / sqrt(v * (v - 1) * (2 * v + 5) / 18);
}

static void windows_are_those_of_z(void **state)
{
    (void)state;
    struct sim sim;
    struct leak l = endless;
    l.stop = START + 400;
    l.freed = false;
    new_sim(&sim, 2);
    run(&sim, &l, l.stop + 200);
    assert_true(sim.n_told > 1);
    for (uint32_t i = 0; i < sim.n_told; i++) {
        assert_true(sim.told[i].z > 3);
        assert_true(sim.told[i].z <= highest_z(sim.told[i].windows) + 1e-9);
        assert_int_equal(sim.told[i].windows, sim.told[0].windows);
        assert_int_equal(sim.told[i].window_us, 24 * SIM_SECOND);
    }
    sim_fini(&sim);
}

static void noisy_pages_are_found(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct sim sim;
        uint64_t r = seed;
        new_sim(&sim, 2);
        while (sim_time(&sim) < START + 300) {
            sim_begin(&sim);
            double t = sim_time(&sim);
            double grown = t > START ? 262144 * (t - START) : 0;
            put(&sim, PAGES, 300 * MB + grown + 1.5 * MB * sim_normal(&r));
            assert_int_equal(sim_end(&sim), 0);
        }
        assert_int_equal(sim_count(&sim, DETECT_OPENED), 1);
        near(sim.told[0].bytes_per_day, 262144 * SIM_DAY, 0.2);
        sim_fini(&sim);
    }
}

/* A follower that is a trifle at first is taken in later: the group grows. */
static void groups_grow(void **state)
{
    (void)state;
    struct sim sim;
    new_sim(&sim, 2);
    while (sim_time(&sim) < START + 900) {
        sim_begin(&sim);
        double t = sim_time(&sim);
        double grown = t > START ? RATE * 5 * (t - START) : 0;
        put(&sim, FILP, 30 * MB + grown);
        double more = t > START + 230 ? RATE * 0.1 * (t - START - 230) : 0;
        put(&sim, SMALL, 1 * MB + 0.008 * grown + more);
        assert_int_equal(sim_end(&sim), 0);
    }
    assert_int_equal(sim_count(&sim, DETECT_OPENED), 1);
    assert_int_equal(sim.told[0].n_tags, 1);
    assert_int_equal(sim.told[sim.n_told - 1].change, DETECT_CHANGED);
    assert_int_equal(sim.told[sim.n_told - 1].n_tags, 2);
    assert_true(has_tag(&sim.told[sim.n_told - 1], SMALL));
    sim_fini(&sim);
}

/* --- what is not --- */

static void caches_that_fill_are_quiet(void **state)
{
    (void)state;
    struct sim sim;
    new_sim(&sim, 2);
    while (sim_time(&sim) < 1800) {
        sim_begin(&sim);
        double t = sim_time(&sim);
        put(&sim, INODES, 50 * MB + 2 * MB * t);
        put(&sim, DENTRY, 10 * MB + 0.4 * MB * t);
        put(&sim, SMALL, 1 * MB + 0.1 * MB * t); /* goes along, by itself */
        assert_int_equal(sim_end(&sim), 0);      /* fast enough to matter */
    }
    assert_int_equal(sim.n_told, 0);
    sim_fini(&sim);
}

static void slow_leak_of_a_full_host_needs_size(void **state)
{
    (void)state;
    struct sim sim;
    new_sim(&sim, 2);
    sim.room = 1 * MB; /* any growth would use it up */
    while (sim_time(&sim) < 1800) {
        sim_begin(&sim);
        put(&sim, FILP, 1 * MB + 2000 * sim_time(&sim));
        assert_int_equal(sim_end(&sim), 0);
    }
    assert_int_equal(sim.n_told, 0);
    sim_fini(&sim);
}

static void warm_up_after_a_boot_is_quiet(void **state)
{
    (void)state;
    struct sim sim;
    new_sim(&sim, 2);
    for (int boot = 0; boot < 2; boot++) {
        double from = sim_time(&sim);
        if (boot > 0) {
            detect_boot(sim.host);
        }
        while (sim_time(&sim) < from + 1200) {
            sim_begin(&sim);
            double t = sim_time(&sim) - from;
            /* In the first boot at once, in the second in a straight line. */
            double part = boot == 0 ? 1 : fmin(t / 600, 1);
            put(&sim, FILP, 100 * MB * part);
            assert_int_equal(sim_end(&sim), 0);
        }
    }
    assert_int_equal(sim.n_told, 0);
    sim_fini(&sim);
}

/* --- a finding's life --- */

static void freed_leak_resolves(void **state)
{
    (void)state;
    struct sim sim;
    struct leak l = endless;
    l.stop = START + 360;
    new_sim(&sim, 2);
    run(&sim, &l, l.stop + 120);
    assert_int_equal(sim_count(&sim, DETECT_OPENED), 1);
    const struct detect_finding *f = sim_first(&sim, DETECT_RESOLVED);
    assert_non_null(f);
    double after = (double)(f->updated_us - SIM_START_US) / 1e6 - l.stop;
    assert_true(after <= 75);
    assert_int_equal(f->exhaustion_us, 0);
    near(f->bytes_per_day, RATE * SIM_DAY, 0.1);
    /* The same again is found again: a leak is no normal level. */
    l.start = sim_time(&sim) + 200;
    l.stop = l.start + 360;
    run(&sim, &l, l.stop + 120);
    assert_int_equal(sim_count(&sim, DETECT_OPENED), 2);
    assert_int_equal(sim_count(&sim, DETECT_RESOLVED), 2);
    sim_fini(&sim);
}

static void stopped_leak_loses_its_forecast(void **state)
{
    (void)state;
    struct sim sim;
    struct leak l = endless;
    l.stop = START + 600;
    l.freed = false;
    new_sim(&sim, 2);
    run(&sim, &l, l.stop + 200);
    const struct detect_finding *f = &sim.told[sim.n_told - 1];
    assert_int_equal(f->change, DETECT_CHANGED);
    assert_false(f->growing);
    assert_int_equal(f->exhaustion_us, 0);
    near(f->bytes_per_day, RATE * SIM_DAY, 0.1);
    run(&sim, &l, l.stop + 5 * 3600.0);
    assert_int_equal(sim_count(&sim, DETECT_RESOLVED), 0);
    run(&sim, &l, l.stop + 6.1 * 3600);
    assert_int_equal(sim_count(&sim, DETECT_RESOLVED), 1);
    assert_int_equal(sim_count(&sim, DETECT_OPENED), 1);
    sim_fini(&sim);
}

static void boot_does_not_resolve(void **state)
{
    (void)state;
    struct sim sim;
    struct leak l = endless;
    new_sim(&sim, 2);
    run(&sim, &l, START + 400);
    assert_int_equal(sim_count(&sim, DETECT_OPENED), 1);
    detect_boot(sim.host);
    l.start = sim_time(&sim) + 200;
    run(&sim, &l, l.start + 20);
    assert_int_equal(sim_count(&sim, DETECT_RESOLVED), 0);
    assert_int_equal(sim.told[sim.n_told - 1].exhaustion_us, 0);
    run(&sim, &l, l.start + 400); /* it leaks again: the same finding */
    assert_int_equal(sim_count(&sim, DETECT_OPENED), 1);
    assert_int_equal(sim_count(&sim, DETECT_RESOLVED), 0);
    assert_true(sim.told[sim.n_told - 1].growing);
    assert_true(sim.told[sim.n_told - 1].exhaustion_us > 0);
    sim_fini(&sim);
}

static void steady_leak_is_told_seldom(void **state)
{
    (void)state;
    struct sim sim;
    struct leak l = endless;
    new_sim(&sim, 2);
    run(&sim, &l, START + 3600);
    assert_int_equal(sim_count(&sim, DETECT_OPENED), 1);
    assert_true(sim.n_told <= 4);
    sim_fini(&sim);
}

static void swings_are_learnt(void **state)
{
    (void)state;
    struct sim sim;
    new_sim(&sim, 2);
    while (sim_time(&sim) < 6 * 3600) {
        sim_begin(&sim);
        put(&sim, FILP, 30 * MB + 0.2 * MB * fmod(sim_time(&sim), 900));
        assert_int_equal(sim_end(&sim), 0);
    }
    assert_true(sim_count(&sim, DETECT_OPENED) <= 2); /* of 24 teeth */
    sim_fini(&sim);
}

/* --- what must not matter --- */

static void same_findings(const struct sim *a, const struct sim *b)
{
    assert_int_equal(a->n_told, b->n_told);
    for (uint32_t i = 0; i < a->n_told; i++) {
        assert_memory_equal(&a->told[i], &b->told[i], sizeof a->told[i]);
    }
}

static void order_does_not_matter(void **state)
{
    (void)state;
    struct sim a;
    struct sim b;
    struct leak l = endless;
    new_sim(&a, 2);
    new_sim(&b, 2);
    run(&a, &l, 900);
    l.backwards = true;
    run(&b, &l, 900);
    assert_true(a.n_told > 0);
    same_findings(&a, &b);
    sim_fini(&a);
    sim_fini(&b);
}

static void same_samples_same_findings(void **state)
{
    (void)state;
    struct sim a;
    struct sim b;
    struct leak l = endless;
    l.stop = START + 500;
    new_sim(&a, 2);
    new_sim(&b, 2);
    run(&a, &l, 1200);
    run(&b, &l, 1200);
    same_findings(&a, &b);
    sim_fini(&a);
    sim_fini(&b);
}

/* A history cut off at detected_us still gives the finding, one cut off a
 * sample earlier does not. */
static void cut_off_at_detection(void **state)
{
    (void)state;
    struct sim a;
    struct sim b;
    struct leak l = endless;
    new_sim(&a, 2);
    run(&a, &l, 900);
    int64_t detected_us = a.told[0].detected_us;
    new_sim(&b, 2);
    while (b.at_us + b.interval_us < detected_us) {
        snapshot(&b, &l);
    }
    assert_int_equal(b.n_told, 0);
    snapshot(&b, &l);
    assert_int_equal(b.at_us, detected_us);
    assert_int_equal(b.n_told, 1);
    assert_memory_equal(&a.told[0], &b.told[0], sizeof a.told[0]);
    sim_fini(&a);
    sim_fini(&b);
}

static void four_times_the_bytes(void **state)
{
    (void)state;
    struct sim a;
    struct sim b;
    struct leak l = endless;
    new_sim(&a, 2);
    new_sim(&b, 2);
    b.room *= 4;
    b.total *= 4;
    run(&a, &l, 900);
    l.scale = 4;
    run(&b, &l, 900);
    assert_int_equal(a.told[0].detected_us, b.told[0].detected_us);
    near(b.told[0].bytes_per_day, 4 * a.told[0].bytes_per_day, 0.01);
    near((double)(b.told[0].exhaustion_us - b.told[0].detected_us),
         (double)(a.told[0].exhaustion_us - a.told[0].detected_us), 0.01);
    sim_fini(&a);
    sim_fini(&b);
}

static void time_shift(void **state)
{
    (void)state;
    struct sim a;
    struct sim b;
    int64_t shift_us = INT64_C(777) * 24 * 3600 * SIM_SECOND;
    new_sim(&a, 2);
    new_sim(&b, 2);
    b.at_us += shift_us;
    for (int i = 0; i < 300; i++) {
        double grown = i > 60 ? 2 * RATE * (i - 60) : 0;
        sim_begin(&a);
        put(&a, FILP, 20 * MB + grown);
        assert_int_equal(sim_end(&a), 0);
        sim_begin(&b);
        put(&b, FILP, 20 * MB + grown);
        assert_int_equal(sim_end(&b), 0);
    }
    assert_int_equal(a.n_told, 1);
    assert_int_equal(b.n_told, 1);
    assert_int_equal(b.told[0].detected_us - a.told[0].detected_us, shift_us);
    near(b.told[0].bytes_per_day, a.told[0].bytes_per_day, 1e-6);
    sim_fini(&a);
    sim_fini(&b);
}

/* --- restart of the collector --- */

static void restart_changes_nothing(void **state)
{
    (void)state;
    for (int stop = 100; stop < 1000; stop += 37) {
        struct sim a;
        struct sim b;
        struct leak l = endless;
        l.stop = START + 500;
        new_sim(&a, 2);
        run(&a, &l, stop);
        uint32_t told = a.n_told;
        new_sim(&b, 2);
        if (told > 0 && a.told[told - 1].change != DETECT_RESOLVED) {
            struct detect_finding stored = a.told[told - 1];
            assert_int_equal(detect_restore(b.host, &stored), 0);
        }
        b.mute = true;
        run(&b, &l, stop);
        b.mute = false;
        run(&a, &l, 1200);
        run(&b, &l, 1200);
        assert_int_equal(b.n_told, a.n_told - told);
        assert_memory_equal(b.told, a.told + told, b.n_told * sizeof b.told[0]);
        sim_fini(&a);
        sim_fini(&b);
    }
}

/* Only the last minutes are stored: it is not opened twice, and resolves. */
static void restart_with_little_history(void **state)
{
    (void)state;
    for (int knows_base = 0; knows_base < 2; knows_base++) {
        struct sim a;
        struct sim b;
        struct leak l = endless;
        l.stop = START + 800;
        new_sim(&a, 2);
        run(&a, &l, START + 500);
        assert_int_equal(sim_count(&a, DETECT_OPENED), 1);
        new_sim(&b, 2);
        struct detect_finding stored = a.told[a.n_told - 1];
        stored.onset_bytes = knows_base ? stored.onset_bytes : -1;
        assert_int_equal(detect_restore(b.host, &stored), 0);
        b.at_us = a.at_us - 60 * SIM_SECOND;
        b.mute = true;
        run(&b, &l, START + 500);
        b.mute = false;
        run(&b, &l, l.stop + 120);
        assert_int_equal(sim_count(&b, DETECT_OPENED), 0);
        assert_int_equal(sim_count(&b, DETECT_RESOLVED), 1);
        assert_int_equal(b.told[b.n_told - 1].key, FILP);
        sim_fini(&a);
        sim_fini(&b);
    }
}

/* --- trouble --- */

static void gaps_and_jumps_are_quiet(void **state)
{
    (void)state;
    struct sim sim;
    struct leak l = endless;
    uint64_t r = 5;
    l.start = 1e9;
    new_sim(&sim, 2);
    for (int i = 0; i < 20000; i++) {
        uint64_t what = sim_random(&r) % 200;
        if (what == 0) {
            sim.at_us += (int64_t)(sim_random(&r) % 90000) * SIM_SECOND;
        } else if (what == 1) {
            sim.interval_us = (int64_t)(sim_random(&r) % 700) * SIM_SECOND;
        } else if (what == 2) {
            detect_boot(sim.host);
        } else if (what == 3) {
            detect_gone(sim.host, FILP + (uint32_t)(sim_random(&r) % 9));
        }
        snapshot(&sim, &l);
    }
    assert_int_equal(sim_count(&sim, DETECT_OPENED), 0);
    sim_fini(&sim);
}

static void time_does_not_go_back(void **state)
{
    (void)state;
    struct sim sim;
    new_sim(&sim, 2);
    for (int i = 0; i < 1000; i++) {
        detect_begin(sim.host, SIM_START_US - i * SIM_SECOND, 0);
        put(&sim, FILP, i * MB);
        assert_int_equal(sim_end(&sim), 0);
    }
    assert_int_equal(sim.n_told, 0);
    sim_fini(&sim);
}

/* @seconds of samples; the tag grows by @rate a second from @bytes on. Returns
 * what it then has. */
static double climb(struct sim *sim, int seconds, double bytes, double rate)
{
    for (int i = 0; i < seconds; i += 2) {
        sim_begin(sim);
        put(sim, FILP, bytes += 2 * rate);
        assert_int_equal(sim_end(sim), 0);
    }
    return bytes;
}

/* The collector's clock is six hours ahead for a while. */
static void clocks_put_right_hide_nothing(void **state)
{
    (void)state;
    struct sim sim;
    new_sim(&sim, 2);
    climb(&sim, 600, 30 * MB, 0);
    sim.at_us += 6 * 3600 * SIM_SECOND;
    double top = climb(&sim, 600, 30 * MB, 2e5);
    assert_int_equal(sim_count(&sim, DETECT_OPENED), 1);
    sim.at_us -= 6 * 3600 * SIM_SECOND;
    top = climb(&sim, 300, top, 2e5); /* it goes on */
    assert_int_equal(sim_count(&sim, DETECT_OPENED), 1);
    climb(&sim, 900, 30 * MB, 0);
    assert_int_equal(sim_count(&sim, DETECT_RESOLVED), 1);
    climb(&sim, 600, 30 * MB, 2e5);
    assert_int_equal(sim_count(&sim, DETECT_OPENED), 2);
    assert_true(sim_time(&sim) < 3100);
    sim_fini(&sim);
}

static void gone_tags_are_forgotten(void **state)
{
    (void)state;
    struct sim sim;
    new_sim(&sim, 600);
    for (uint32_t id = 0; id < 500; id++) {
        sim_begin(&sim);
        put(&sim, 1000 + id, 5 * MB);
        if (id > 0) {
            detect_gone(sim.host, 1000 + id - 1);
        }
        assert_int_equal(sim_end(&sim), 0);
    }
    assert_int_equal(detect_host_series(sim.host), 500);
    while (sim_time(&sim) < 10 * SIM_DAY) {
        sim_begin(&sim);
        assert_int_equal(sim_end(&sim), 0);
    }
    assert_int_equal(detect_host_series(sim.host), 1);
    sim_fini(&sim);
}

static void unrelated_leaks_are_apart(void **state)
{
    (void)state;
    struct sim sim;
    new_sim(&sim, 2);
    while (sim_time(&sim) < 1000) {
        sim_begin(&sim);
        double t = sim_time(&sim);
        put(&sim, FILP, 30 * MB + (t > 100 ? 300000 * (t - 100) : 0));
        put(&sim, OTHER, 30 * MB + (t > 300 ? 400000 * (t - 300) : 0));
        assert_int_equal(sim_end(&sim), 0);
    }
    assert_int_equal(sim_count(&sim, DETECT_OPENED), 2);
    assert_int_equal(sim.told[0].key, FILP);
    assert_int_equal(sim.told[0].n_tags, 1);
    sim_fini(&sim);
}

/* --- the n-th allocation fails --- */

static int allocations_left;

static void *failing_realloc(void *p, size_t bytes)
{
    if (allocations_left == 0) {
        return NULL;
    }
    allocations_left--;
    return realloc(p, bytes);
}

/* Feeds a leak to a host whose allocations fail once @n have succeeded, until
 * 200 calls have failed; then memory is back. Returns whether any failed. */
static bool run_starved(int n)
{
    struct detect_settings settings;
    struct sim sim = {.interval_us = 2 * SIM_SECOND, .at_us = SIM_START_US};
    bool failed = false;
    int failures = 0;

    detect_settings_default(&settings);
    settings.reallocate = failing_realloc;
    allocations_left = n;
    if (detect_host_new(&settings, &sim.host) != 0) {
        return true;
    }
    sim.room = 20e9;
    sim.total = 24e9;
    for (int i = 0; i < 600; i++) {
        sim_begin(&sim);
        for (uint32_t id = 1; id <= 100; id++) {
            double grown = id < 4 && i > 60 ? 2 * RATE * (i - 60) : 0;
            failures += detect_tag(sim.host, id, POOL_SLAB, 0, false,
                                   (int64_t)(10 * MB + grown)) != 0;
        }
        failures += sim_end(&sim) != 0;
        failed = failed || failures > 0;
        if (failures >= 200 || (failures > 0 && i > 150)) {
            allocations_left = 1000;
        }
    }
    assert_int_equal(sim_count(&sim, DETECT_OPENED), 1);
    sim_fini(&sim);
    return failed;
}

static void survives_failed_allocations(void **state)
{
    (void)state;
    int n = 0;

    while (run_starved(n)) {
        n++;
        assert_true(n < 200);
    }
    assert_true(n > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lockstep_is_one_finding),
        cmocka_unit_test(caches_count_for_little),
        cmocka_unit_test(windows_are_those_of_z),
        cmocka_unit_test(noisy_pages_are_found),
        cmocka_unit_test(groups_grow),
        cmocka_unit_test(caches_that_fill_are_quiet),
        cmocka_unit_test(slow_leak_of_a_full_host_needs_size),
        cmocka_unit_test(warm_up_after_a_boot_is_quiet),
        cmocka_unit_test(freed_leak_resolves),
        cmocka_unit_test(stopped_leak_loses_its_forecast),
        cmocka_unit_test(boot_does_not_resolve),
        cmocka_unit_test(steady_leak_is_told_seldom),
        cmocka_unit_test(swings_are_learnt),
        cmocka_unit_test(order_does_not_matter),
        cmocka_unit_test(same_samples_same_findings),
        cmocka_unit_test(cut_off_at_detection),
        cmocka_unit_test(four_times_the_bytes),
        cmocka_unit_test(time_shift),
        cmocka_unit_test(restart_changes_nothing),
        cmocka_unit_test(restart_with_little_history),
        cmocka_unit_test(gaps_and_jumps_are_quiet),
        cmocka_unit_test(time_does_not_go_back),
        cmocka_unit_test(clocks_put_right_hide_nothing),
        cmocka_unit_test(gone_tags_are_forgotten),
        cmocka_unit_test(unrelated_leaks_are_apart),
        cmocka_unit_test(survives_failed_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
