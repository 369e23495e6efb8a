/* `poolscope leaktest`: leaks real kernel memory of a chosen kind.
 *
 * Happy path: look at the machine, find what this kernel allows of the kind,
 * let one worker make two batches of objects and see which tags grow, free
 * them, start as many workers as the plan needs, then have them hold what is
 * due by the clock ten times a second, until time or limit; in the end free
 * all and look again.
 *
 * It ends early, freeing all, by SIGINT, SIGTERM or SIGHUP, when a worker
 * dies or cannot go on, and when memory runs short. */

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/leaktest_crew_linux.h"
#include "cli/leaktest_kinds_linux.h"
#include "cli/leaktest_plan.h"
#include "cli/leaktest_report.h"
#include "cli/live.h"
#include "cli/slots_linux.h"
#include "cli/units.h"
#include "common/clock.h"

#define STEP_US          (100 * PSC_US_PER_MS)
#define TTY_PROGRESS_US  (2 * PSC_US_PER_S)
#define LINE_PROGRESS_US (10 * PSC_US_PER_S)
#define MEMORY_LOOK_US   PSC_US_PER_S
#define SETTLE_US        (250 * PSC_US_PER_MS)
/* Short, so that little else happens meanwhile. */
#define BATCH_SETTLE_US  (30 * PSC_US_PER_MS)
#define RELEASE_US       (15 * PSC_US_PER_S)
#define DROP_US          (5 * PSC_US_PER_S)
#define BATCH_TIMEOUT_US (60 * PSC_US_PER_S)
#define BATCH_MIN        256
/* Never let what is available fall below this part of what was. */
#define FLOOR_DIVISOR 4

struct leaktest_conf {
    char *kind;
    char *rate;
    int64_t limit_bytes;
    int64_t for_us;
    int64_t ceiling_percent;
    bool list;
};

struct leaktest {
    struct leaktest_conf conf;
    const struct leak_kind *kind;
    struct leak_limits limits;
    int64_t rate;        /* bytes per second */
    int64_t max_objects; /* to be held in the end */
    struct live live;
    struct reading now;
    struct leak_plan plan;
    struct crew crew;
    struct leak_report report;
    FILE *say;    /* where people read: not where JSON goes */
    bool say_tty; /* it is a terminal */
};

static const struct psc_option leaktest_options[] = {
    {"leaktest", "kind", PSC_OPT_STRING, offsetof(struct leaktest_conf, kind),
     NULL, 0, 0, "KIND", "what to leak, see --list"},
    {"leaktest", "rate", PSC_OPT_STRING, offsetof(struct leaktest_conf, rate),
     "256K", 0, 0, "BYTES/s", "growth of all tags together"},
    {"leaktest", "limit", PSC_OPT_SIZE,
     offsetof(struct leaktest_conf, limit_bytes), NULL, 1 << 20, INT64_MAX,
     "BYTES", "hold at most so much, without growing on [the ceiling]"},
    {"leaktest", "for", PSC_OPT_DURATION,
     offsetof(struct leaktest_conf, for_us), NULL, PSC_US_PER_S,
     366LL * 86400 * PSC_US_PER_S, "TIME",
     "end after this time: 90s, 6m, 2h [run until stopped]"},
    {"leaktest", "ceiling", PSC_OPT_INT,
     offsetof(struct leaktest_conf, ceiling_percent), "25", 1, 60, "PERCENT",
     "of the available memory that may be leaked at most"},
    {"leaktest", "list", PSC_OPT_BOOL, offsetof(struct leaktest_conf, list),
     NULL, 0, 0, NULL, "list the kinds"},
    {.name = NULL},
};

static const char leaktest_text[] =
    "Leaks kernel memory that is real, but needs no kernel module: worker "
    "processes make kernel objects of a kind and keep them. What an object "
    "costs in which slab caches is measured first on this kernel (with "
    "/proc/slabinfo, so run it as root), so the rate is that of all tags "
    "together and each tag's share is known. All memory is given back at the "
    "end, on SIGINT, SIGTERM and SIGHUP, and when the program is killed.\n\n"
    "No more than --ceiling percent of the memory that is available at the "
    "start is leaked, and the test ends by itself when only a quarter of that "
    "memory is left.\n\n"
    "With --json the totals by tag are printed at the end, and everything "
    "else goes to standard error.";

static const char leaktest_examples[] =
    "  poolscope leaktest --kind eventfd --rate 256K --for 6m\n"
    "  poolscope leaktest --kind pages --rate 1M --limit 500M --for 1h\n"
    "  poolscope leaktest --list\n";

static volatile sig_atomic_t stop;

static void on_signal(int signal_number)
{
    (void)signal_number;
    stop = 1;
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};

    stop = 0;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static void list_kinds(FILE *out)
{
    for (const struct leak_kind *k = leak_kinds; k->name; k++) {
        fprintf(out, "%-9s %s\n%-9s   grows: %s\n", k->name, k->help, "",
                k->grows);
    }
}

/* --- looking at the machine --- */

/* Read all tags into t->now. Where /proc/slabinfo cannot be read, the sum of
 * all caches in /proc/meminfo stands for them. */
static int look(struct leaktest *t, struct psc_error *err)
{
    static const char all[] = "all caches";
    int64_t slab;
    int rc = live_read(&t->live, &t->now, err);

    if (rc == 0 && !t->report.measured &&
        live_counter(&t->live, "node_memory_Slab_bytes", &slab)) {
        struct reading_tag tag = {.flags = TAG_BYTES, .bytes = slab};
        rc = reading_put(&t->now, POOL_SLAB, all, sizeof all - 1, &tag);
    }
    return rc;
}

static void note_held(struct leaktest *t, int64_t *held)
{
    struct psc_error err;

    if (look(t, &err) != 0) {
        return;
    }
    for (size_t i = 0; i < t->plan.n_shares; i++) {
        held[i] = leak_share_held(&t->plan.shares[i], &t->now);
    }
}

static int available(struct leaktest *t, int64_t *bytes, struct psc_error *err)
{
    int rc = look(t, err);

    if (rc == 0 &&
        !live_counter(&t->live, "node_memory_MemAvailable_bytes", bytes)) {
        rc = psc_error_set(err, PSC_UNSUPPORTED,
                           "/proc/meminfo has no MemAvailable");
    }
    return rc;
}

/* Ask the plan's caches to give up the slabs that are empty. Left to itself
 * the kernel keeps some for later, and a leak would fill those unseen first.
 * Only root may, and only SLUB can; without it less is exact. */
static void shrink_caches(const struct leaktest *t)
{
    for (size_t i = 0; i < t->plan.n_shares; i++) {
        char path[256];
        snprintf(path, sizeof path, "/sys/kernel/slab/%s/shrink",
                 t->plan.shares[i].tag);
        FILE *f =
            t->plan.shares[i].pool == POOL_SLAB ? fopen(path, "we") : NULL;
        if (f) {
            fputs("1", f);
            fclose(f);
        }
    }
}

static void pause_us(int64_t us)
{
    int64_t until_us = psc_clock_mono_us() + us;

    while (!stop && psc_clock_mono_us() < until_us) {
        usleep(5000);
    }
}

/* --- measuring what an object costs --- */

/* Hold @objects, let the caches settle, and look. */
static int batch(struct leaktest *t, int64_t objects, struct reading *out,
                 struct psc_error *err)
{
    crew_set(&t->crew, objects);
    int rc = crew_wait(&t->crew, objects, BATCH_TIMEOUT_US, &stop, err);
    if (rc != 0) {
        return rc;
    }
    pause_us(BATCH_SETTLE_US);
    rc = look(t, err);
    struct reading swap = *out;
    *out = t->now;
    t->now = swap;
    return rc;
}

/* How many objects a batch may have: enough to measure, but little beside the
 * limit, and within one worker together with all rounds and the first
 * objects, which fill what the caches have free. */
static int64_t batch_size(const struct leaktest *t)
{
    int64_t rounds = LEAK_ROUNDS + 1;
    int64_t n = t->report.limit_bytes / rounds / t->kind->guess_bytes;
    int64_t most = t->limits.worker_objects < t->limits.total_objects
                       ? t->limits.worker_objects
                       : t->limits.total_objects;

    n = n > t->kind->batch ? t->kind->batch : n;
    n = n < BATCH_MIN ? BATCH_MIN : n;
    return n > most / rounds ? most / rounds : n;
}

/* Wait until what was made to be measured is gone from the caches again. */
static int drop_batches(struct leaktest *t, int64_t before, int64_t objects,
                        struct psc_error *err)
{
    int64_t until_us = psc_clock_mono_us() + DROP_US;
    int64_t slack = (int64_t)(t->plan.object_bytes * (double)objects) / 10;

    crew_set(&t->crew, 0);
    int rc = crew_wait(&t->crew, 0, BATCH_TIMEOUT_US, &stop, err);
    while (rc == 0 && !stop) {
        pause_us(SETTLE_US);
        shrink_caches(t);
        rc = look(t, err);
        if (leak_plan_held(&t->plan, &t->now) <= before + slack ||
            psc_clock_mono_us() > until_us) {
            break;
        }
    }
    return rc;
}

static int measure_batches(struct leaktest *t, struct reading r[LEAK_READINGS],
                           struct psc_error *err)
{
    int64_t n = batch_size(t);
    int64_t objects = n;

    if (n < BATCH_MIN) {
        return psc_error_set(err, PSC_LIMIT,
                             "%s allows %s objects only: too few to measure "
                             "what one costs",
                             t->limits.total_objects < t->limits.worker_objects
                                 ? t->limits.total_why
                                 : "the limit of a process",
                             unit_count(n * (LEAK_ROUNDS + 1)).text);
    }
    int rc = batch(t, objects, &r[0], err);

    for (int i = 1; rc == 0 && i < LEAK_READINGS; i++) {
        objects += i % 2 == 0 ? n : 0;
        rc = batch(t, objects, &r[i], err);
    }
    if (rc == 0 && slots_fill(&r[LEAK_READINGS - 1]) != 0) {
        rc = psc_error_set(err, PSC_NOMEM, "out of memory");
    }
    if (rc == 0) {
        rc = leak_plan_measure(&t->plan, r, n, t->kind->unaccounted, err);
    }
    if (rc == 0) {
        rc = drop_batches(t, leak_plan_held(&t->plan, &r[0]), objects, err);
    }
    return rc;
}

static int measure(struct leaktest *t, struct psc_error *err)
{
    struct reading r[LEAK_READINGS];

    for (int i = 0; i < LEAK_READINGS; i++) {
        reading_init(&r[i]);
    }
    int rc = crew_hire(&t->crew, 1, err);
    if (rc == 0) {
        rc = measure_batches(t, r, err);
    }
    for (int i = 0; i < LEAK_READINGS; i++) {
        reading_fini(&r[i]);
    }
    return rc;
}

/* --- planning --- */

/* Settle how many objects there will be in the end and hire workers. */
static int plan_crew(struct leaktest *t, struct psc_error *err)
{
    double cost = t->plan.object_bytes;
    int64_t by_limit = (int64_t)((double)t->report.limit_bytes / cost);
    int64_t most = by_limit;

    if (t->conf.for_us > 0) {
        int64_t by_time =
            leak_plan_due(&t->plan, t->rate, t->conf.for_us, by_limit);
        most = by_time + 1 < by_limit ? by_time + 1 : by_limit;
    }
    if (most > t->limits.total_objects) {
        most = t->limits.total_objects;
        t->report.limit_bytes = (int64_t)((double)most * cost);
        fprintf(t->say, "leaktest: held to %s objects (%s) by %s\n",
                unit_count(most).text,
                unit_bytes((double)t->report.limit_bytes).text,
                t->limits.total_why);
    }
    int64_t workers =
        (most + t->limits.worker_objects - 1) / t->limits.worker_objects;
    if (workers > CREW_MAX) {
        return psc_error_set(err, PSC_CONFIG,
                             "that needs %lld workers of %lld objects each; "
                             "%d is the most: lower --limit or --for",
                             (long long)workers,
                             (long long)t->limits.worker_objects, CREW_MAX);
    }
    t->max_objects = most;
    return crew_hire(&t->crew, (int)workers, err);
}

/* --- leaking --- */

/* Sleep until @at_us of the monotonic clock, or a signal. */
static void sleep_until(int64_t at_us)
{
    struct timespec at = {.tv_sec = at_us / PSC_US_PER_S,
                          .tv_nsec = at_us % PSC_US_PER_S * 1000};

    (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

static void progress(struct leaktest *t)
{
    note_held(t, t->report.held);
    leak_report_progress(&t->report, t->say_tty, t->say);
}

static int check_memory(struct leaktest *t, struct psc_error *err)
{
    int64_t left;
    int rc = available(t, &left, err);

    if (rc == 0 && left < t->report.available_bytes / FLOOR_DIVISOR) {
        t->report.ended_by = "memory";
        rc = psc_error_set(err, PSC_LIMIT,
                           "only %s of memory are still available: stopping",
                           unit_bytes((double)left).text);
    }
    return rc;
}

/* One step, @elapsed_us after the start: note what the last one came to, and
 * set what is due now. */
static int step(struct leaktest *t, int64_t elapsed_us, struct psc_error *err)
{
    struct leak_report *r = &t->report;

    r->objects = crew_made(&t->crew);
    if (r->objects < t->max_objects) {
        r->grown_us = r->elapsed_us;
    }
    r->elapsed_us = elapsed_us;
    crew_set(&t->crew,
             leak_plan_due(&t->plan, t->rate, elapsed_us, t->max_objects));
    return crew_check(&t->crew, err);
}

/* The last step, when the time is over: reach what is due and note it. */
static int finish(struct leaktest *t, struct psc_error *err)
{
    int64_t due =
        leak_plan_due(&t->plan, t->rate, t->conf.for_us, t->max_objects);
    int rc = step(t, t->conf.for_us, err);

    t->report.ended_by = "time";
    if (rc == 0) {
        rc = crew_wait(&t->crew, due, STEP_US * 20, &stop, err);
    }
    return rc == 0 ? step(t, t->conf.for_us, err) : rc;
}

static int leak(struct leaktest *t, struct psc_error *err)
{
    int64_t every_us = t->say_tty ? TTY_PROGRESS_US : LINE_PROGRESS_US;
    int64_t start_us = psc_clock_mono_us();
    int64_t progress_us = every_us;
    int64_t memory_us = MEMORY_LOOK_US;
    int rc = 0;

    t->report.started_wall_us = psc_clock_wall_us();
    t->report.ended_by = "failure";
    for (int64_t n = 1; rc == 0; n++) {
        sleep_until(start_us + n * STEP_US);
        int64_t elapsed_us = psc_clock_mono_us() - start_us;
        n = elapsed_us / STEP_US > n ? elapsed_us / STEP_US : n;
        if (stop) {
            t->report.ended_by = "signal";
            break;
        }
        if (t->conf.for_us > 0 && elapsed_us >= t->conf.for_us) {
            return finish(t, err);
        }
        rc = step(t, elapsed_us, err);
        if (rc == 0 && elapsed_us >= memory_us) {
            memory_us = elapsed_us + MEMORY_LOOK_US;
            rc = check_memory(t, err);
        }
        if (rc == 0 && elapsed_us >= progress_us) {
            progress_us += every_us;
            progress(t);
        }
    }
    return rc;
}

/* Free all, and give the kernel the time that it takes. */
static void release(struct leaktest *t)
{
    int64_t until_us = psc_clock_mono_us() + RELEASE_US;
    int64_t grown = leak_report_grown(&t->report);
    int64_t left;

    crew_fini(&t->crew);
    do {
        left = 0;
        usleep(200000);
        shrink_caches(t);
        note_held(t, t->report.held_after);
        for (size_t i = 0; i < t->plan.n_shares; i++) {
            left += t->plan.shares[i].counted
                        ? t->report.held_after[i] - t->report.held_before[i]
                        : 0;
        }
    } while (left > grown / 50 && psc_clock_mono_us() < until_us);
}

/* --- the whole --- */

/* What the plan's caches have free, for the report. */
static void note_free(struct leaktest *t)
{
    struct psc_error err;

    if (look(t, &err) != 0 || slots_fill(&t->now) != 0) {
        return;
    }
    for (size_t i = 0; i < t->plan.n_shares; i++) {
        leak_share_note_free(&t->plan.shares[i], &t->now);
    }
}

static int run_planned(struct leaktest *t, struct psc_error *err)
{
    int rc = plan_crew(t, err);

    if (rc != 0) {
        crew_fini(&t->crew);
        return rc;
    }
    t->report.workers = t->crew.n;
    pause_us(SETTLE_US);
    note_free(t);
    leak_report_plan(&t->report, t->say);
    note_held(t, t->report.held_before);
    rc = leak(t, err);
    note_held(t, t->report.held);
    if (t->say_tty) {
        fputc('\n', t->say);
    }
    release(t);
    leak_report_end(&t->report, t->say);
    return rc;
}

static int run_opened(struct leaktest *t, struct psc_error *err)
{
    t->report.measured = true;
    int rc = available(t, &t->report.available_bytes, err);
    if (rc != 0) {
        return rc;
    }
    const char *why = live_missing(&t->live, "slabinfo");
    t->report.measured = why == NULL;
    if (why) {
        fprintf(t->say,
                "leaktest: only the sum over all caches can be seen: "
                "%s\n",
                why);
    }
    rc = t->kind->prepare(&t->limits, err);
    if (rc != 0) {
        return rc;
    }
    t->report.limit_bytes = t->conf.limit_bytes;
    rc = leak_ceiling(t->report.available_bytes, (int)t->conf.ceiling_percent,
                      &t->report.limit_bytes, err);
    if (rc != 0) {
        return rc;
    }
    rc = crew_init(&t->crew, t->kind, &t->limits, err);
    if (rc != 0) {
        return rc;
    }
    rc = measure(t, err);
    if (rc != 0) {
        crew_fini(&t->crew);
        return rc;
    }
    return run_planned(t, err);
}

static int run(struct leaktest *t, bool json)
{
    struct psc_error err = {0};

    catch_signals();
    reading_init(&t->now);
    int rc = live_open(&t->live, "", &err);
    if (rc == 0) {
        rc = run_opened(t, &err);
        live_close(&t->live);
    }
    reading_fini(&t->now);
    if (t->report.ended_by && json &&
        leak_report_json(&t->report, stdout) != 0 && rc == 0) {
        rc = psc_error_set(&err, PSC_NOMEM, "out of memory");
    }
    if (rc == 0 || (rc == PSC_CLOSED && stop)) {
        return CLI_OK;
    }
    cli_failf("leaktest %s: %s", t->kind->name, err.msg);
    return rc == PSC_UNSUPPORTED || rc == PSC_CONFIG ? CLI_USAGE : CLI_FAILURE;
}

static int check_options(struct leaktest *t, const struct command *command)
{
    struct psc_error err;

    if (t->conf.list) {
        list_kinds(stdout);
        return CLI_OK;
    }
    if (!t->conf.kind) {
        return cli_usagef(command, "which --kind? --list names them");
    }
    t->kind = leak_kind_find(t->conf.kind);
    if (!t->kind) {
        return cli_usagef(command, "no kind '%s'; --list names them",
                          t->conf.kind);
    }
    if (unit_rate_parse(t->conf.rate, &t->rate, &err) != 0) {
        return cli_usagef(command, "--rate: %s", err.msg);
    }
    return -1;
}

static int leaktest_run(struct cli *cli, const struct command *command,
                        int argc, char **argv)
{
    struct leaktest t = {0};
    struct cli_words words;
    bool json;
    int code = cli_args(cli, command, &t.conf, argc, argv, 0, 0, &words);

    if (code >= 0) {
        return code;
    }
    code = cli->options.csv || t.conf.list
               ? cli_no_format(cli, command,
                               t.conf.list ? "leaktest --list" : "leaktest")
               : -1;
    code = code >= 0 ? code : check_options(&t, command);
    if (code < 0) {
        json = cli->format == CLI_JSON;
        t.say = json ? stderr : stdout;
        t.say_tty = isatty(fileno(t.say)) == 1;
        t.report.kind = t.kind->name;
        t.report.bytes_per_s = t.rate;
        t.report.for_us = t.conf.for_us;
        t.report.plan = &t.plan;
        code = run(&t, json);
    }
    psc_config_fini(leaktest_options, &t.conf);
    return code;
}

const struct command command_leaktest = {
    "leaktest",
    "--kind KIND [--rate BYTES/s] [--limit BYTES] [--for TIME]",
    "leak real kernel memory of this machine, to see that it is found",
    leaktest_text,
    leaktest_options,
    leaktest_examples,
    leaktest_run,
    CLI_SHOWN_JSON};
