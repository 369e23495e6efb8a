/* How often the time when memory is used up lies within the interval that was
 * told: leaks of several kinds run on until they have used up a host's room,
 * and each forecast told on the way is held against that time.
 *
 * What widens the interval was tuned on the seeds from SEED_TUNING on
 * (POOLSCOPE_TUNING=1 runs them); what is asserted and printed by default is
 * of the validation seeds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "tests/unit/detect_sim.h"

#define SEED_TUNING     1
#define SEED_VALIDATION 4000037
#define RUNS            50
#define TAG             1
#define TURN            6.283185307179586

/* A leak on its way. The unit of time is a day on the slow scale, and twelve
 * minutes on the fast one: as long as it takes to find about a fifth. */
struct leak {
    uint64_t seed;
    double unit;    /* seconds */
    double level;   /* held besides, bytes */
    double noise;   /* of that, bytes */
    double rate;    /* mean, bytes a second */
    double start;   /* seconds */
    double horizon; /* from the start until the room is used up, about */
    double drift;   /* state of a rate or level that wanders */
    double gained;  /* so far */
    double burst;   /* waiting time until the next one */
    const struct kind *kind;
};

struct kind {
    const char *name;
    double (*pace)(struct leak *l, double t, double step); /* of the rate */
    double cycle; /* of the level, as a share */
    bool memory;  /* of the noise: it wanders */
    bool slow;    /* only on the slow scale */
};

/* An Ornstein-Uhlenbeck step with a memory of @memory. */
static double wander(struct leak *l, double step, double memory)
{
    double r = exp(-step / memory);

    l->drift = r * l->drift + sqrt(1 - r * r) * sim_normal(&l->seed);
    return l->drift;
}

static double steady(struct leak *l, double t, double step)
{
    (void)l;
    (void)t;
    (void)step;
    return 1;
}

static double by_load(struct leak *l, double t, double step)
{
    (void)step;
    return 1 + 0.8 * sin(TURN * t / l->unit);
}

static double in_bursts(struct leak *l, double t, double step)
{
    double pace = 0;
    double every = l->unit / 12;

    (void)t;
    l->burst -= step;
    while (l->burst < 0) {
        l->burst -= every * log(sim_uniform(&l->seed, 1e-9, 1));
        pace -= every / step * log(sim_uniform(&l->seed, 1e-9, 1));
    }
    return pace;
}

static double drifting(struct leak *l, double t, double step)
{
    (void)t;
    return exp(0.3 * wander(l, step, 2 * l->unit) - 0.045);
}

static double on_workdays(struct leak *l, double t, double step)
{
    (void)step;
    return fmod(floor(t / l->unit) + 2, 7) < 5 ? 1.2 : 0.5;
}

static const struct kind kinds[] = {
    {"steady", steady, 0, false, false},
    {"steady, noise with memory", steady, 0, true, false},
    {"in bursts", in_bursts, 0, false, false},
    {"of a rate that drifts", drifting, 0, false, false},
    {"steady under a daily cycle", steady, 0.1, false, true},
    {"by load of the day", by_load, 0, false, true},
    {"on workdays", on_workdays, 0, false, true},
};
#define KINDS (sizeof kinds / sizeof kinds[0])

static void draw(struct leak *l, const struct kind *kind, uint64_t seed,
                 double unit)
{
    *l = (struct leak){.seed = seed * 7919, .unit = unit, .kind = kind};
    for (int i = 0; i < 4; i++) {
        (void)sim_random(&l->seed);
    }
    l->rate = unit < SIM_DAY ? sim_uniform(&l->seed, 1e5, 1e6)
                             : sim_uniform(&l->seed, 10, 100) * MB / SIM_DAY;
    l->level = l->rate * unit * sim_uniform(&l->seed, 0.5, 5);
    l->noise = l->rate * unit * sim_uniform(&l->seed, 0.01, 0.1);
    l->start = unit * sim_uniform(&l->seed, 1, 4);
    l->horizon = unit * sim_uniform(&l->seed, 8, 30);
}

/* What the tag holds at @t, @step after the last time. */
static double leak_at(struct leak *l, double t, double step)
{
    double sun = 1 - cos(TURN * t / l->unit);
    double noise = fabs(sim_normal(&l->seed));

    if (l->kind->memory) {
        noise = 1.5 * wander(l, step, l->unit / 2);
    }
    if (t > l->start) {
        l->gained += l->rate * step * l->kind->pace(l, t, step);
    }
    return l->level * (1 + l->kind->cycle * sun) + l->noise * noise + l->gained;
}

/* In shares of the time for which a forecast stood in the database: what
 * somebody sees who looks at any moment. */
struct tally {
    uint32_t told;
    double stood;       /* seconds */
    double early, late; /* of them, while the truth was before, after */
    double unbounded;   /* without a latest time */
    double width;       /* latest - earliest over time left, each at most 10 */
};

static void judge(struct tally *tally, const struct detect_finding *f,
                  int64_t until_us, int64_t truth_us)
{
    if (f->change == DETECT_RESOLVED || f->exhaustion_us == 0) {
        return;
    }
    double stood = (double)(until_us - f->updated_us) / 1e6;
    double left = fmax((double)(f->exhaustion_us - f->updated_us), 1);
    tally->told++;
    tally->stood += stood;
    tally->early += truth_us < f->earliest_us ? stood : 0;
    tally->late += f->latest_us != 0 && truth_us > f->latest_us ? stood : 0;
    tally->unbounded += f->latest_us == 0 ? stood : 0;
    tally->width +=
        f->latest_us == 0
            ? 10 * stood
            : stood * fmin((double)(f->latest_us - f->earliest_us) / left, 10);
}

/* One leak from its beginning until the room is used up. */
static void run(struct tally *tally, const struct kind *kind, uint64_t seed,
                double unit)
{
    struct sim sim;
    struct leak l;
    double interval = unit < SIM_DAY ? 2 : 600;

    assert_true(sim_init(&sim, interval));
    draw(&l, kind, seed, unit);
    double room = l.rate * l.horizon;
    sim.total = room + l.level;
    while (l.gained < room && sim_time(&sim) < 100 * unit) {
        sim_begin(&sim);
        double bytes = leak_at(&l, sim_time(&sim), interval);
        assert_int_equal(
            detect_tag(sim.host, TAG, POOL_SLAB, 0, false, (int64_t)bytes), 0);
        /* Others use some more or less. */
        sim.room = (room - l.gained) * (1 + 0.005 * sim_normal(&l.seed));
        assert_int_equal(sim_end(&sim), 0);
    }
    for (uint32_t i = 0; i < sim.n_told; i++) {
        judge(tally, &sim.told[i],
              i + 1 < sim.n_told ? sim.told[i + 1].updated_us : sim.at_us,
              sim.at_us);
    }
    sim_fini(&sim);
}

static uint64_t first_seed(void)
{
    return getenv("POOLSCOPE_TUNING") != NULL ? SEED_TUNING : SEED_VALIDATION;
}

/* Returns the share of forecasts whose interval held the truth. */
static double cover(double unit)
{
    double all = 0;
    double in = 0;

    for (size_t k = 0; k < KINDS; k++) {
        struct tally t = {0};
        if (kinds[k].slow && unit < SIM_DAY) {
            continue;
        }
        for (uint64_t i = 0; i < RUNS; i++) {
            run(&t, &kinds[k], first_seed() + i, unit);
        }
        printf("  %-26s: truth before %4.1f %%, after %4.1f %% of the time; "
               "width %.1f of the time left, %2.0f %% without end, %u told\n",
               kinds[k].name, 100 * t.early / t.stood, 100 * t.late / t.stood,
               t.width / t.stood, 100 * t.unbounded / t.stood, t.told);
        in += 1 - (t.early + t.late) / t.stood;
        all++;
    }
    printf("  all kinds: within %.1f %% of the time\n", 100.0 * in / all);
    return in / all;
}

static void slow_intervals_hold_the_truth(void **state)
{
    (void)state;
    assert_true(cover(SIM_DAY) >= 0.88);
}

static void fast_intervals_hold_the_truth(void **state)
{
    (void)state;
    assert_true(cover(720) >= 0.88);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slow_intervals_hold_the_truth),
        cmocka_unit_test(fast_intervals_hold_the_truth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
