/* Counts over time. */
#include "tests/bench/fleetsim/course.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>

#include "common/clock.h"
#include "tests/bench/fleetsim/agent.h"

static int64_t cpu_us(void)
{
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * PSC_US_PER_S +
           usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
}

static void mark(const struct fleet *f, struct course_mark *m)
{
    m->at_us = psc_clock_mono_us();
    m->cpu_us = cpu_us();
    m->stats = f->stats;
}

int course_start(struct fleet *f, struct psc_error *err)
{
    const char *path = f->options->course;
    if (path != NULL) {
        f->course.file = fopen(path, "we");
        if (f->course.file == NULL) {
            return psc_error_set(err, PSC_IO, "%s: %s", path, strerror(errno));
        }
        (void)fputs("seconds,live,samples,acknowledged,backlog,cells,"
                    "cpu_seconds\n",
                    f->course.file);
    }
    mark(f, &f->course.begin);
    return PSC_OK;
}

void course_fini(struct course *c)
{
    if (c->file != NULL) {
        (void)fclose(c->file);
    }
    c->file = NULL;
}

void course_begin(struct fleet *f)
{
    mark(f, &f->course.begin);
    f->course.end.at_us = 0;
}

void course_end(struct fleet *f)
{
    mark(f, &f->course.end);
}

uint64_t course_backlog(const struct fleet *f)
{
    uint64_t all = 0;
    int64_t now_us = psc_clock_wall_us();
    for (uint32_t i = 0; i < f->n; i++) {
        struct sim_agent *a = &f->agents[i];
        uint64_t k = a->n_sent > 0 ? sim_sent_at(a, 0)->k : a->next_k;
        uint64_t end = fleet_due_end(f, &a->host, now_us);
        if (!a->host.silent) {
            all += end > k ? end - k : 0;
        }
        for (; a->host.silent && k < end; k++) {
            all += truth_taken(&a->host, k) ? 1 : 0;
        }
    }
    return all;
}

void course_note(const struct fleet *f)
{
    if (f->course.file == NULL) {
        return;
    }
    const struct stats *s = &f->stats;
    (void)fprintf(f->course.file,
                  "%.3f,%u,%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64
                  ",%.2f\n",
                  (double)(psc_clock_mono_us() - f->began_us) / PSC_US_PER_S,
                  f->n_live, s->samples, s->acked, course_backlog(f), s->cells,
                  (double)cpu_us() / PSC_US_PER_S);
    (void)fflush(f->course.file);
}

void course_figures(const struct fleet *f, struct course_mark *out)
{
    const struct course_mark *from = &f->course.begin;
    if (f->course.end.at_us != 0) {
        *out = f->course.end;
    } else {
        mark(f, out);
        out->at_us = f->ended_us != 0 ? f->ended_us : out->at_us;
    }
    out->at_us -= from->at_us;
    out->cpu_us -= from->cpu_us;
    stats_since(&out->stats, &from->stats);
}
